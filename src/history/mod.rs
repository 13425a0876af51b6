//! Commands about what was built: view, compare, restore, copy and clean.
//!
//! ```text
//! log       the states that a name had, and tags
//! logs      what builds have logged
//! rollback  moves a name back to an earlier state
//! diff      the differences between two states, in packages and files
//! remove    takes names from states
//! stages    stage4s with their artifacts
//! cp        copies files out of a state
//! clean     finds, shows and removes what is not needed any more
//! ```

pub(crate) mod clean;
pub(crate) mod cp;
pub(crate) mod diff;
mod error;
pub(crate) mod follow;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod messages;
pub(crate) mod remove;
pub(crate) mod rollback;
pub(crate) mod stages;

pub(crate) use error::{Error, Result};
