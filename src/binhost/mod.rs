//! Binary package hosts: export of a pool.
//!
//! ```text
//! export    a pool as a directory that any web server can hand out: packages signed, index, public key, instructions
//! ```

mod error;
pub(crate) mod export;
pub(crate) use error::{Error, Result};
