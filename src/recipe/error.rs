//! What keeps a state from being built.

use crate::causes::{by_way_of, lifted};
use crate::config::Place;
use crate::config::cpu::Reason;
use crate::config::hooks::HooksError;
use crate::portage::emerge::request;
use crate::portage::repository::RepositoryError;
use crate::recipe::kernel::error::KernelError;
use crate::recipe::patches::rehearse::PatchMisfit;
use crate::stage3::VerifyError;
use crate::threads::NoThread;
use crate::{beneath, config, context, names, sandbox, session, store, trees};

/// A state that was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Trees(trees::Error),
    /// Names of states and profiles.
    #[error(transparent)]
    Names(names::Error),
    #[error(transparent)]
    Session(session::Error),
    /// A stage3 that cannot be trusted.
    #[error(transparent)]
    Untrusted(#[from] VerifyError),
    /// A Portage profile that the tree does not have.
    #[error("{place}: `{profile}` is not a Portage profile of the tree `{tree}`")]
    NoPortageProfile {
        /// Where it is asked for.
        place: Place,
        profile: String,
        /// Name of the repository.
        tree: String,
    },
    /// Settings that this processor cannot execute.
    #[error("this processor cannot run what `{definition}` would build")]
    Cpu {
        definition: String,
        /// Each reason, with its place.
        reasons: Vec<Reason>,
    },
    /// A saved patch that cannot be applied, found before anything was built.
    #[error(transparent)]
    DoesNotApply(Box<PatchMisfit>),
    /// A kernel that cannot be made.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Portage does not know, or does not allow, something that is about to be built.
    #[error("{findings}")]
    Refused {
        /// What is said of the configuration; errors are among it.
        findings: config::Diagnostics,
    },
    /// A build that has ended early, whose session was kept: repeating the command goes on from here.
    #[error(transparent)]
    Suspended(Box<Self>),
}

/// What functions of this room return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
by_way_of!(Error::Session: HooksError, request::Error);
by_way_of!(Error::Trees: RepositoryError);
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
