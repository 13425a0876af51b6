//! TODO

pub mod build;
pub mod prep;
pub mod rows;
pub mod update;
