//! What builds are called: profiles, tags, kept states, ids, and the refs and locks behind these names.

mod error;
pub(crate) mod named;
pub(crate) mod profiles;
pub(crate) mod refs;

pub(crate) use error::{Error, Result};
