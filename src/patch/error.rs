//! Errors of patches and work sets.

use std::io;
use std::path::{Path, PathBuf};

use crate::causes::{by_way_of, lifted};
use crate::query::versions::NotVisible;
use crate::threads::NoThread;
use crate::{beneath, config, context, names, recipe, sandbox, session, store};

/// What is wrong with a patch or its work set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    /// The name of a patch becomes that of a directory, in two places, so it is restricted.
    #[error("`{0}` cannot be the name of a patch")]
    Name(String),
    /// A text that cannot go into the patch's header.
    #[error("`{0}` cannot be a line of a patch's header")]
    HeaderLine(String),
    /// The name is taken.
    #[error("there is a work set `{name}` already")]
    Exists { name: String, dir: PathBuf },
    /// There is no work set of this name.
    #[error("there is no work set `{name}`")]
    NoWorkSet {
        name: String,
        known: Vec<String>,
        /// Whether there is a saved patch of that name.
        saved: bool,
    },
    /// Neither work set nor saved patch.
    #[error("there is no patch `{name}`")]
    Unknown { name: String, nearest: Option<String>, known: Vec<String> },
    /// A saved patch for several packages says not which one is meant.
    #[error("the saved patch `{name}` is for several packages: {}", packages.join(", "))]
    SeveralPackages { name: String, packages: Vec<String> },
    /// A package of which no version can be taken.
    #[error(transparent)]
    NotVisible(#[from] NotVisible),
    /// Another package than the work set's.
    #[error("`{atom}` is not `{package}`, whose source is in the work set")]
    OtherPackage { atom: String, package: String },
    /// There is nothing for `patch compile`.
    #[error("no patches are saved")]
    NothingSaved,
    /// There are no changes to save.
    #[error("the work set `{0}` has no changes")]
    Unchanged(String),
    /// `patch` knows nothing of binary files.
    #[error("a patch cannot change binary files: {}", .0.join(", "))]
    Binary(Vec<String>),
    /// A repository within the source: git would only record its commit.
    #[error("git repositories within the work set cannot be part of a patch: {}", .0.join(", "))]
    Repositories(Vec<String>),
    /// Conflict markers.
    #[error("there are conflicts of a merge in {}", .0.join(", "))]
    Conflicts(Vec<String>),
    /// No failed build was kept.
    #[error("there is no failed build of the patch `{0}`")]
    NothingKept(String),
    /// The changes in a work set would be lost.
    #[error("the work set `{0}` has changes that are not saved")]
    Unsaved(String),
    /// Both the work set and the saved patch would be lost.
    #[error("all changes of `{0}` would be lost: both the work set and the saved patch would be removed")]
    NothingLeft(String),
    #[error("the work set `{name}` is for {cpv} already, the newest version that emerge would take")]
    NothingNewer { name: String, cpv: String },
    /// A file of ours that was edited.
    #[error("`{path}` does not say which package the work set is for")]
    Damaged {
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A script's output.
    #[error("cannot read the session's answer about the source")]
    Answer(#[source] Option<serde_json::Error>),
    /// There is another repository in a work set.
    #[error("`{}` looks like a git repository to git", .0.display())]
    Nested(PathBuf),
    /// A file that git does not make.
    #[error(transparent)]
    Beneath(#[from] crate::beneath::Error),
    /// Files of the work set that are not as they should be.
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PatchError {
    /// For an error of the system about `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A failed command about patches.
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
    /// A file of the configuration that cannot be written.
    #[error(transparent)]
    Proposal(#[from] config::proposal::Error),
    /// The patch, or its work set.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config });
lifted!(Error::Recipe: recipe { Context, Config, Names, Session });
