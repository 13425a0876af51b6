//! What can go wrong with ebuild trees.

use std::path::PathBuf;

use crate::causes::by_way_of;
use crate::config::{Place, source};
use crate::git::GitError;
use crate::portage::manifest::ManifestError;
use crate::portage::repository::RepositoryError;
use crate::stage3::VerifyError;
use crate::store::TreeId;
use crate::threads::NoThread;
use crate::{archive, beneath, config, context, download, program, sandbox, store};

/// A tree could not be brought, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Errors of the store, the sandbox and our files, and the user's interruption.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Download(#[from] download::Error),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Program(#[from] program::Error),
    /// The address, method or revision is wrong.
    #[error(transparent)]
    Source(#[from] source::SourceError),
    /// Downloads are switched off.
    #[error("`{uri}` is needed, but downloads are switched off")]
    Offline { uri: String },
    /// Nothing vouches for the tree that came.
    #[error("cannot trust {what}: {why}")]
    Unsigned {
        /// `commit …`, or an address.
        what: String,
        why: &'static str,
        /// For a pin. Unknown before the contents were looked at.
        digest: Option<String>,
    },
    /// A Manifest cannot be parsed.
    #[error("cannot use `{manifest}` of the tree")]
    Manifest {
        manifest: PathBuf,
        #[source]
        source: ManifestError,
    },
    /// A file differs from its Manifest.
    #[error("the tree is not what its Manifests say: `{file}` {problem}")]
    NotAsSigned {
        /// Its path in the tree.
        file: PathBuf,
        problem: &'static str,
    },
    /// Another tree than was pinned.
    #[error("the tree of `{uri}` is not `{wanted}`")]
    OtherContents {
        /// Where it came from.
        uri: String,
        /// What was asked for.
        wanted: String,
        found: String,
    },
    /// Where a repository comes from is said twice, differently.
    #[error("{place}: `{name}` comes from `{uri}`, but from `{other}` in {other_place}")]
    TwoSources { name: String, place: Place, uri: String, other_place: Place, other: String },
    /// The configuration's source of a repository is wrong.
    #[error("{place}: {source}")]
    BadSource { place: Place, source: source::SourceError },
    /// The configuration does not name this repository.
    #[error("the configuration names no repository `{name}`")]
    NotConfigured { name: String, known: Vec<String> },
    /// The repository has no source.
    #[error("the repository `{name}` has no source")]
    NoSource { name: String },
    /// The configuration names a repository that was never synced.
    #[error("{place}: the repository `{name}` is not in the store")]
    NotHere { place: Place, name: String },
    /// The pinned state was never synced.
    #[error("{place}: `{name}` at {rev} is not in the store")]
    PinNotHere {
        /// The line of the pin.
        place: Place,
        name: String,
        rev: String,
    },
    /// A snapshot with another repository in it than asked for.
    #[error("`{uri}` has the repository `{found}`, not `{name}`")]
    OtherName {
        uri: String,
        name: String,
        /// From its `profiles/repo_name`.
        found: String,
    },
    /// Something uses the snapshot.
    #[error("the tree `{id}` is in use")]
    InUse {
        id: TreeId,
        by: Vec<String>,
        /// A name that leads to it. It can be removed together with the snapshot.
        name: Option<String>,
    },
    /// There is no tree of this name.
    #[error("there is no tree `{text}`")]
    Unknown { text: String, known: Vec<String> },
    /// Somebody else uses the bare repository, or it cannot be locked.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Untrusted(#[from] VerifyError),
    /// The pin cannot be written.
    #[error(transparent)]
    Pin(#[from] config::proposal::Error),
    /// The store has no tree snapshot.
    #[error("no ebuild tree in the store")]
    NoTree,
    /// The directory or archive is not an ebuild repository.
    #[error("`{}` is not an ebuild repository: {problem}", path.display())]
    NotATree { path: PathBuf, problem: &'static str },
    /// An ebuild repository of the store, or a Portage profile in it, cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The tarball cannot be unpacked.
    #[error("cannot unpack `{}`", path.display())]
    Unpack {
        path: PathBuf,
        #[source]
        source: archive::Error,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
