//! TODO

pub mod stale;
