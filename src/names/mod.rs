//! Names of builds: profiles, tags, kept states, ids, and the refs and locks behind these.

mod error;
pub(crate) mod named;
pub(crate) mod profiles;
pub(crate) mod refs;

pub(crate) use error::{Error, Result};
