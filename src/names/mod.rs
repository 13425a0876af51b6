//! What builds are called: profiles, tags, kept states, ids, and the refs and locks behind these names.

mod error;
pub mod named;
pub mod profiles;
pub mod refs;

pub use error::{Error, Result};
