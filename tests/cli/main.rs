//! The program's words, as transcripts that are also documentation: help, errors, JSON, streams, completions, man pages.
//!
//! Nothing here needs namespaces, subordinate ids or the network: a command either ends before it would enter the sandbox, or needs none.
//! The environment is scrubbed, and the user's directories are a temporary one, printed as `HOME`. After an intended change of words run
//! `INSTA_UPDATE=always cargo test --test cli` and look at the difference.
#![expect(clippy::unwrap_used, reason = "failing tests may panic")]

mod clone;
mod completion;
mod config_check;
mod config_queries;
mod documents;
mod errors;
mod examples;
mod generated;
mod help;
mod hostile;
mod init;
mod kernel;
mod packages;
mod program;
#[path = "../schema/mod.rs"]
mod schema;
mod streams;
