//! Patches of the configuration: tried before a build, and looked for after it.

pub(crate) mod applied;
pub(crate) mod rehearse;
