//! Why a graph of stages is not built.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// It failed on another machine.
    #[error(transparent)]
    Elsewhere(Box<Reported>),
    /// It is built on other machines, and cannot be fetched.
    #[error("`{id}` is built elsewhere, and the remote does not have it, or not signed by who counts")]
    NotArrived { id: String },
}

/// A failure in words, as another machine has reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// What it would have exited with.
    pub exit_code: u8,
    pub words: String,
    /// Why.
    pub cause: Option<Box<Reported>>,
    /// Lines such as the end of a log.
    pub detail: Vec<String>,
    pub hints: Vec<String>,
}

impl Reported {
    /// Of its words and those of its causes.
    pub(crate) fn new(exit_code: u8, words: &[String], detail: Vec<String>, hints: Vec<String>) -> Self {
        let below = words.get(1..).unwrap_or_default();
        let cause = (!below.is_empty()).then(|| Box::new(Self::new(exit_code, below, Vec::new(), Vec::new())));
        Self { exit_code, words: words.first().cloned().unwrap_or_default(), cause, detail, hints }
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Reported {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
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
