//! The `gentoomuch` program.

fn main() {}
