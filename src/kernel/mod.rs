//! Kernel configurations: made, listed, brought to newer sources. What builds them is [`crate::recipe::kernel`].

mod error;
pub mod prep;
pub mod rows;
pub mod update;

pub use error::{Error, Result};
