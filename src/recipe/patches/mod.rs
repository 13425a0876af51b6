//! Patches of the configuration. They are tried before a build and checked after it.

pub(crate) mod applied;
pub(crate) mod rehearse;
