//! Why a kernel configuration is not made.

use crate::causes::{by_way_of, lifted};
use crate::config::proposal;
use crate::recipe::kernel::error::KernelError;
use crate::sandbox::Exit;
use crate::{beneath, config, context, names, recipe, resolve, sandbox, session, store, trees};

/// A kernel configuration that was not made or not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    #[error(transparent)]
    Resolve(resolve::Error),
    /// The target asks questions, and there is no terminal.
    #[error("`make {target}` needs a terminal")]
    NoTerminal { target: String },
    /// The target that the user asked for failed.
    #[error("`make {target}` failed: {exit}")]
    Target { target: String, exit: Exit },
    #[error("no configuration was saved")]
    NothingSaved,
    /// A configuration of an old layout, which we only read.
    #[error("`{path}` has an older layout")]
    OldLayout {
        /// The configuration, relative to the configuration directory.
        path: String,
        name: String,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
by_way_of!(Error::Recipe: KernelError);
by_way_of!(Error::Resolve: proposal::Error);
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
lifted!(Error::Recipe: recipe { Context, Config, Trees, Names, Session });
lifted!(Error::Resolve: resolve { Context, Config, Trees, Names, Session, Recipe });
