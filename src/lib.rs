//! Daemonless, rootless builder of Gentoo systems.
//!
//! A verified stage3 tarball becomes layer 0 of a *build state*; stage3 definitions turn that into builders and into the bases of
//! stage4s; a stage4 is exported as a signed tarball. Every build runs the real `emerge` in user, mount and PID namespaces of our
//! own, on overlayfs, as an ordinary user.
//!
//! ```text
//! stage3.tar.xz --stage3 verifies--> archive unpacks --store commits--> profile/NAME/upstream
//! config/ --config reads, merges--> PortageDir
//! recipe: session = store's layers + upper, entered by sandbox, filled by emerge, committed by store, exported by artifact
//! ```
//!
//! `ARCHITECTURE.md` has the picture of the rooms and who may know whom.
//!
//! The library never prints, never exits and never reads the ambient environment: places, identity and helper program are
//! arguments. `ARCHITECTURE.md` at the root of the repository has the code map and the invariants.

pub mod archive;
pub mod artifact;
pub mod beneath;
pub mod binhost;
pub mod build_key;
mod causes;
pub mod config;
pub mod context;
pub mod copy_tree;
pub mod cpu_flags;
pub mod did_you_mean;
pub mod download;
pub mod durable;
pub mod fetch;
pub mod freshroot;
pub mod git;
pub mod history;
pub mod host;
pub mod inventory;
pub mod jobserver;
pub mod kernel;
pub mod limits;
pub mod names;
pub mod origin;
pub mod patch;
pub mod path_error;
pub mod patterns;
pub mod pipeline;
pub mod places;
pub mod portage;
pub mod profile;
pub mod program;
pub mod progress;
pub mod recipe;
pub mod release;
pub mod resolve;
pub mod rsync;
pub mod sandbox;
pub mod session;
pub mod stage3;
pub mod store;
pub mod sys;
pub mod tasks;
pub mod terminal_text;
pub mod threads;
pub mod trees;
pub mod try_it;
