//! End-to-end tests: the real binary in real namespaces, on the testbed's release and on small stage3s of their own.
//!
//! ```text
//! host.rs      what this host can do; what it cannot is skipped aloud, or fails with GENTOOMUCH_TEST_STRICT=1
//! child.rs     every process of these tests, so that one left by the program is told from one of ours
//! place.rs     a user's directories in a scrubbed environment, removed in the end, with nothing left running
//! shared.rs    one bootstrapped place for all tests that need Portage
//! serve.rs     servers on loopback: git, files, rsync
//! strace.rs    what a command has brought to the disk before it tells of success
//! registry/    Debian's docker-registry on loopback
//! gpg.rs       keys; tiny.rs: signed stage3s of a few kilobytes
//! ```
//!
//! `GENTOOMUCH_TESTBED` names the release that `tests/testbed/make` made. `GENTOOMUCH_TEST_PLACE` keeps the shared place there for the
//! next run, which then begins with everything built: for working on the tests themselves.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "skipped tests say so, and failing ones may panic")]

mod child;
mod ci;
mod folder;
mod gpg;
mod hooks;
mod host;
mod place;
#[path = "../registry/mod.rs"]
mod registry;
mod resources;
#[path = "../schema/mod.rs"]
mod schema;
mod serve;
mod shared;
mod strace;
mod times;
mod tiny;
mod traced;
mod transcript;

mod artifacts;
mod audit;
mod binhost;
mod by_hand;
mod ccache;
mod clean;
mod concurrency;
mod config_check;
mod downloads;
mod durability;
mod embedding;
mod engines;
mod examples;
mod experiments;
mod explain;
mod failures;
mod faults;
mod fetching;
mod forecast;
mod freshroot;
mod history;
mod hostile;
mod in_memory;
mod interruption;
mod isolation;
mod json;
mod kernels;
mod limits;
mod logs;
mod main_job;
mod messages;
mod modes;
mod older;
mod original;
mod package_keys;
mod package_pairs;
mod patches;
mod patches_hostile;
mod patches_saved;
mod pipeline;
mod portage;
mod pretend;
mod profiles;
mod pushed;
mod refusals;
mod remote_packages;
mod remotes;
mod removal;
mod report;
mod requests;
mod resolve;
mod room;
mod signing;
mod skipped;
mod slurm;
mod terminal;
mod trees;
mod unpacked;
mod why;
mod words;
