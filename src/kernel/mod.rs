//! TODO

pub mod prep;
pub mod rows;
pub mod update;
