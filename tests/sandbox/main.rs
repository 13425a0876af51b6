//! The sandbox in real namespaces, as an ordinary user with subordinate ids.
//!
//! The root of these sessions is the host's own `/usr`, read-only, in an otherwise empty overlay: any host will do. What a host cannot
//! do is skipped with its reason on standard error; `GENTOOMUCH_TEST_STRICT=1` makes that a failure.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "skipped tests say so, and failing ones may panic")]

mod deaths;
mod descriptors;
mod exposure;
mod fixture;
mod hostile;
mod hosts;
mod isolation;
mod limits;
mod mounts;
mod sessions;
mod shaped;
mod terminal;
