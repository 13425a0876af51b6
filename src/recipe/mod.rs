//! TODO

pub mod configured;
pub mod consult;
pub mod definition;
pub mod import;
pub mod kernel;
pub mod merge;
pub mod patches;
pub mod settle;
pub mod stage4;
pub mod standing;
pub mod update;
