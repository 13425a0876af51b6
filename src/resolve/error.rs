//! What a configuration lacks, or why that is unknown.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::portage::emerge::request;
use crate::portage::emerge::resolution::Problem;
use crate::portage::repository::RepositoryError;
use crate::resolve::Resolved;
use crate::{beneath, config, context, names, recipe, sandbox, session, store, trees};

/// A configuration that has to change, or that no change helps.
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
    #[error(transparent)]
    Recipe(recipe::Error),
    /// The configuration lacks something, and we know what.
    #[error("the configuration of `{stage}` has to change first")]
    Unconfigured {
        stage: String,
        /// The arguments of `resolve` for this stage.
        arguments: String,
        /// What has to change.
        resolved: Box<Resolved>,
        /// emerge's whole output, a file of the host.
        log: PathBuf,
    },
    /// The change that would be needed is one that Portage does not know or does not allow.
    #[error("{findings}")]
    Refused {
        /// The configuration's findings; errors are among them.
        findings: config::Diagnostics,
        /// The arguments of `resolve` for this stage.
        arguments: String,
        /// What has to change.
        resolved: Box<Resolved>,
    },
    /// No change of the configuration would help.
    #[error("Portage cannot resolve `{target}`")]
    Unresolvable {
        /// A stage, or atoms.
        target: String,
        /// What prevents it.
        problems: Vec<Problem>,
        /// Two needs that exclude each other.
        contradiction: Option<String>,
        /// The end of emerge's output, safe to print.
        last_lines: Vec<String>,
        /// emerge's whole output, a file of the host.
        log: PathBuf,
    },
    /// A needed change that fits into no fragment.
    #[error(transparent)]
    Proposal(#[from] config::proposal::Error),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
by_way_of!(Error::Session: request::Error);
by_way_of!(Error::Trees: RepositoryError);
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
lifted!(Error::Recipe: recipe { Context, Config, Trees, Names, Session });

impl Error {
    /// Whether the user interrupted it.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}
