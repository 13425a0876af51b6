//! Why a state was not built.

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

/// A state was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Errors of the store, the sandbox and our files, and the user's interruption.
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
    /// The stage3 cannot be trusted.
    #[error(transparent)]
    Untrusted(#[from] VerifyError),
    /// The tree does not have this Portage profile.
    #[error("{place}: `{profile}` is not a Portage profile of the tree `{tree}`")]
    NoPortageProfile {
        /// Where the configuration names it.
        place: Place,
        profile: String,
        /// Of the repository.
        tree: String,
    },
    /// Settings that this processor cannot execute.
    #[error("this processor cannot run the programs that `{definition}` would build")]
    Cpu {
        definition: String,
        /// Each reason, with its place.
        reasons: Vec<Reason>,
    },
    /// A saved patch that cannot be applied, found before anything was built.
    #[error(transparent)]
    DoesNotApply(Box<PatchMisfit>),
    /// The kernel cannot be made.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Portage does not know or not allow something that was to be built.
    #[error("{findings}")]
    Refused {
        /// Messages about the configuration, with at least one error.
        findings: config::Diagnostics,
    },
    /// The build ended early and its session was kept. Repeating the command goes on from here.
    #[error(transparent)]
    Suspended(Box<Self>),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
by_way_of!(Error::Session: HooksError, request::Error);
by_way_of!(Error::Trees: RepositoryError);
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
