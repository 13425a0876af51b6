//! Why nothing can be said of what is installed somewhere.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::{beneath, config, context, names, sandbox, session, store, trees};

/// A question about installed packages that has no answer.
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
    Trees(trees::Error),
    #[error(transparent)]
    Session(session::Error),
    /// There is no state yet.
    #[error("nothing has been built yet")]
    NothingBuilt,
    /// A definition without a state.
    #[error("the stage4 `{stage}` has not been built yet")]
    NotBuilt { stage: String },
    /// A file without what we write beside our artifacts.
    #[error("`{}` is no artifact of ours: there is no `{}`", path.display(), json.display())]
    NoArtifact { path: PathBuf, json: PathBuf },
    /// An artifact whose files are not as its `.json` says.
    #[error("the artifact `{}` is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    /// The artifact's state is gone, and so is its profile.
    #[error("no profile is here in which Portage could be asked about `{}`", path.display())]
    NoProfileFor { path: PathBuf },
    /// What no system has.
    #[error("`{name}` has more than {limit} packages")]
    TooMany { name: String, limit: usize },
    /// A word that cannot be a package.
    #[error("`{word}` cannot be a package")]
    Word {
        word: String,
        #[source]
        source: crate::portage::atom::AtomError,
    },
    /// A name without a category that several packages have.
    #[error("several packages are called `{word}`")]
    Several { word: String, packages: Vec<String> },
    /// The package is not there.
    #[error("`{package}` is not installed in `{name}`")]
    NotInstalled {
        package: String,
        name: String,
        /// Versions of it that are.
        versions: Vec<String>,
        /// A similar name.
        nearest: Option<String>,
    },
    /// Of an artifact only names and versions are known.
    #[error("the state of `{}` is not in the store, and its `.json` does not say what its packages need", path.display())]
    NoDependencies { path: PathBuf },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
by_way_of!(Error::Session: crate::query::Error);
lifted!(Error::Names: names { Context });
lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Session: session { Context, Config, Trees });
