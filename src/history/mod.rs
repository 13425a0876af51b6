//! What was built, by its names: looked at, compared, taken back, copied out of and cleaned away.
//!
//! ```text
//! log       the states that a name had, and tags
//! rollback  a name leads to an earlier state again
//! diff      packages and files that two states have differently
//! cp        files out of a state
//! clean     what nothing needs any more is found, shown and removed
//! ```

pub(crate) mod clean;
pub(crate) mod cp;
pub(crate) mod diff;
mod error;
pub(crate) mod log;
pub(crate) mod rollback;

pub(crate) use error::{Error, Result};
