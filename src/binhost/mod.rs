//! Binary package hosts: ours, exported and served, and others', used by sessions.
//!
//! ```text
//! export    a pool as a directory that any web server can hand out: packages signed, index, public key, instructions
//! ```

mod error;
pub mod export;
pub use error::{Error, Result};
