//! Makes, lists and updates kernel configurations. [`crate::recipe::kernel`] builds them.

mod error;
pub(crate) mod prep;
pub(crate) mod rows;
pub(crate) mod update;

pub(crate) use error::{Error, Result};
