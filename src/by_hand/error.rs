//! Why a failed build is not entered by hand.

use crate::causes::{by_way_of, lifted};
use crate::{beneath, config, context, names, patch, recipe, sandbox, session, store};

/// A failed build that is not entered, or of which nothing is saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Names of states and profiles.
    #[error(transparent)]
    Names(names::Error),
    #[error(transparent)]
    Session(session::Error),
    #[error(transparent)]
    Recipe(recipe::Error),
    #[error(transparent)]
    Patch(patch::Error),
    /// No failed build of this name has a session that could be entered.
    #[error("no failed build of `{what}` is kept")]
    NothingFailed {
        what: String,
        /// How those are called that could be entered.
        known: Vec<String>,
    },
    /// Somebody is in it.
    #[error("somebody else works in the failed build of `{what}`")]
    Busy { what: String },
    /// A phase that `ebuild` does not run by itself.
    #[error("the {phase} phase cannot be tried again by hand")]
    NotRepeatable { phase: String },
    /// There are no edits.
    #[error("no file of the source was changed by hand in the failed build of `{what}`")]
    Untouched { what: String },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
lifted!(Error::Session: session { Context, Config });
lifted!(Error::Recipe: recipe { Context, Config, Names, Session });
lifted!(Error::Patch: patch { Context, Config, Names, Session, Recipe });
