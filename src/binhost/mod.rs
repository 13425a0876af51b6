//! Binary package hosts: ours, exported and served, and others', used by sessions.
//!
//! ```text
//! export    a pool as a directory that any web server can hand out: packages signed, index, public key, instructions
//! server    that directory over HTTP
//! client    a session that installs from the hosts that its configuration names
//! ```

pub mod export;
pub mod server;
