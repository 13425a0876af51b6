//! Kernel configurations: made, listed, brought to newer sources. What builds them is [`crate::recipe::kernel`].

mod error;
pub(crate) mod prep;
pub(crate) mod rows;
pub(crate) mod update;

pub(crate) use error::{Error, Result};
