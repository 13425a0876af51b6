//! TODO

pub mod applied;
pub mod rehearse;
