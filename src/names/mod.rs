//! TODO

pub mod named;
