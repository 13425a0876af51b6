//! The `gentoomuch` program. All of it is `gentoomuch::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gentoomuch::program()
}
