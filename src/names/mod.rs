//! TODO

pub mod named;
pub mod profiles;
pub mod refs;
