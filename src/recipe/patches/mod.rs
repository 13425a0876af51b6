//! Patches of the configuration: tried before a build, and looked for after it.

pub mod applied;
pub mod rehearse;
