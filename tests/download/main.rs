//! Downloads from real servers on loopback, which do all that servers should not; releases, keys, proxies and TLS.
//!
//! ```text
//! server.rs     a server that answers as a test says
//! broker.rs     what fetches for sessions, asked over its socket; binhosts.rs: packages of hosts; packages.rs: signed ones;
//!               script.rs: what Portage runs to ask it
//! files.rs      the library: ranges, cuts, stalls, lies, redirects, mirrors, proxies
//! release.rs    a signed release of a few megabytes; gpg makes key and signatures
//! pushing.rs    a repository of a registry: Debian's docker-registry (tests/registry); pushing_badly.rs: one that does all wrong
//! stage3s.rs    `stage3 ls` and `stage3 fetch`
//! keys.rs       `keys fetch`, by WKD through TLS (tls.py) and by HKP
//! ```
//!
//! Nothing here needs namespaces, subordinate ids or a network.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "failing tests may panic, and skipped ones say so")]

mod binhosts;
mod broker;
mod files;
mod keys;
mod packages;
mod pushing;
mod pushing_badly;
#[path = "../registry/mod.rs"]
mod registry;
mod release;
#[path = "../schema/mod.rs"]
mod schema;
mod script;
mod server;
mod stage3s;
