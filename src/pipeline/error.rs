//! Why a graph of stages is not built.

use crate::causes::{by_way_of, lifted};
use crate::config::hooks::HooksError;
use crate::threads::NoThread;
use crate::{artifact, beneath, config, context, names, recipe, resolve, sandbox, session, store, trees};

/// A graph of stages, or a node of it, that is not built.
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
    Artifact(artifact::Error),
    #[error(transparent)]
    Recipe(recipe::Error),
    #[error(transparent)]
    Resolve(resolve::Error),
    /// No node has this id.
    #[error("there is no node `{id}`")]
    UnknownNode { id: String, known: Vec<String> },
    /// Only what a stage4 names itself can be left out.
    #[error("`{package}` is not among the packages of the stage4 `{stage4}`")]
    NotSkippable { package: String, stage4: String, known: Vec<String> },
    /// A single node was asked for, and a node that it needs is not built.
    #[error("`{id}` needs nodes that are not built yet")]
    Unbuilt {
        id: String,
        /// The nodes to build first.
        needs: Vec<String>,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
by_way_of!(Error::Session: HooksError);
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
lifted!(Error::Artifact: artifact { Context, Config, Names });
lifted!(Error::Recipe: recipe { Context, Config, Trees, Names, Session });
lifted!(Error::Resolve: resolve { Context, Config, Trees, Names, Session, Recipe });

impl Error {
    /// Whether the user interrupted it.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}
