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
//! # For programs that embed it
//!
//! Only the public items are meant for embedding; the rest may change at any time. `main` calls [`enter_if_asked`] before anything else.
//! Then:
//!
//! - [`verify`] checks a tarball against [`TrustedKeys`]. It needs nothing else.
//! - [`Tools::open`] opens a store, and [`Tools::context`] gives the [`Context`] that the following functions take. An [`Observer`]
//!   receives events; [`Tools::cancel`] stops the work.
//! - [`bootstrap`] imports a stage3 and makes a profile of it.
//! - [`freshroot()`] runs a command in a session, and keeps a snapshot of what it left if [`FreshrootOptions::keep`] names one.
//! - [`export_state`] makes a signed artifact of a state.
//! - [`pipeline()`] says what a configuration needs, and [`Pipeline::run`] builds it.
//!
//! `examples/` has a program for each. The library never prints, never exits and never reads the ambient environment: places, identity and
//! helper program are arguments. `ARCHITECTURE.md` at the root of the repository has the code map and the invariants.

#![cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "tests reach more with the feature `internals`"))]
#![cfg_attr(not(feature = "cli"), expect(dead_code, unused_imports, reason = "much of it is called by the command line alone"))]

mod archive;
mod artifact;
mod beneath;
mod binhost;
mod build_key;
mod build_times;
mod by_hand;
mod causes;
mod ccache;
#[cfg(feature = "cli")]
mod cli;
mod clock;
mod config;
mod context;
mod copy_tree;
mod cpu_flags;
mod did_you_mean;
mod download;
mod durable;
mod fetch;
mod freshroot;
mod git;
mod history;
mod host;
mod installed;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod inventory;
mod jobserver;
mod kernel;
mod limits;
mod merged_view;
mod names;
mod origin;
mod patch;
mod path_error;
mod patterns;
mod pipeline;
mod places;
mod portage;
mod priority;
mod profile;
mod program;
mod progress;
mod query;
mod recipe;
mod record;
mod registry;
mod release;
mod remote;
mod report;
mod resolve;
mod rsync;
mod sandbox;
mod session;
mod slurm;
mod stage3;
mod store;
mod sys;
mod tasks;
mod terminal_text;
mod threads;
mod trees;
mod try_it;
mod uses;

pub use artifact::of_state::{Destination, ExportRequest, ExportedState, export_state};
pub use artifact::{Artifact, Error as ExportError};
pub use config::{ArtifactFormat, ConfigDir, Error as ConfigError, LayerCompression};
pub use context::{Context, OpenError, Settings, Tools, User};
pub use freshroot::{Ended, Error as FreshrootError, FreshrootOptions, freshroot};
pub use pipeline::bootstrap::{Bootstrapped, bootstrap};
pub use pipeline::run::{NodeReport, Outcome, Report, Watcher};
pub use pipeline::why::Reason;
pub use pipeline::{Error as PipelineError, Node, NodeKind, Pipeline, PipelineOptions, pipeline};
pub use places::Places;
pub use progress::{EmergeStatus, EmergeTask, Event, Expected, Fetching, Left, Observer, PackageStep, Silent, Unit};
pub use recipe::import::BootstrapOptions;
pub use registry::{ImageAddress, NotAnAddress};
pub use sandbox::{Exit, HelperSource, Limits, Network, Rung};
pub use session::root::UserBind;
pub use stage3::keys::{BuiltinKey, GENTOO, KeysError, KeysFor, Purpose, TrustedKeys};
pub use stage3::sign::Gpg;
pub use stage3::{Check, Signer, Verified, VerifyError, VerifyOptions, verify};
pub use store::{State, StateId};

/// Becomes the sandbox's helper if this process was started as one, and never returns then.
///
/// Call it first in `main` of an embedding program: a session starts as the running program executed once more, and user namespaces cannot be
/// entered once there are threads. A program that cannot do so names an installed `gentoomuch` with [`HelperSource::Path`].
pub fn enter_if_asked() {
    sandbox::helper::enter_if_asked(tasks::lookup);
}

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main as program;
