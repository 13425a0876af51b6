//! TODO

pub mod clean;
pub mod cp;
pub mod diff;
pub mod log;
pub mod rollback;
