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

/// A tree that was not brought, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
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
    /// An address, a method or a revision.
    #[error(transparent)]
    Source(#[from] source::SourceError),
    /// Downloads are switched off.
    #[error("`{uri}` would have to be asked, and downloads are switched off")]
    Offline { uri: String },
    /// Nobody vouches for what has come.
    #[error("cannot trust {what}: {why}")]
    Unsigned {
        /// `commit …`, an address.
        what: String,
        why: &'static str,
        /// What its contents are, for a pin; unknown before they are looked at.
        digest: Option<String>,
    },
    /// A Manifest that makes no sense.
    #[error("cannot use `{manifest}` of the tree")]
    Manifest {
        /// Its path in the tree.
        manifest: PathBuf,
        #[source]
        source: ManifestError,
    },
    /// A file that is not as its Manifest says.
    #[error("the tree is not what its Manifests say: `{file}` {problem}")]
    NotAsSigned {
        /// Its path in the tree.
        file: PathBuf,
        problem: &'static str,
    },
    /// Another tree than was pinned.
    #[error("`{uri}` has another tree than `{wanted}`")]
    OtherContents {
        /// Where it came from.
        uri: String,
        /// What was asked for.
        wanted: String,
        found: String,
    },
    /// Where a repository comes from is said twice, differently.
    #[error("{place}: `{name}` comes from `{uri}`, but from `{other}` in {other_place}")]
    TwoSources {
        name: String,
        /// Where it is said.
        place: Place,
        /// What is said there.
        uri: String,
        other_place: Place,
        /// What is said there.
        other: String,
    },
    /// Where a repository comes from makes no sense.
    #[error("{place}: {source}")]
    BadSource { place: Place, source: source::SourceError },
    /// A repository that the configuration does not name.
    #[error("the configuration names no repository `{name}`")]
    NotConfigured { name: String, known: Vec<String> },
    /// A repository without source.
    #[error("nothing says where the repository `{name}` comes from")]
    NoSource { name: String },
    /// A repository of the configuration that was never brought.
    #[error("{place}: the repository `{name}` is not in the store")]
    NotHere {
        /// The line that names it.
        place: Place,
        name: String,
    },
    /// A pinned state that was never brought.
    #[error("{place}: `{name}` at {rev} is not in the store")]
    PinNotHere {
        /// The line of the pin.
        place: Place,
        name: String,
        rev: String,
    },
    /// A snapshot with another repository in it than asked for.
    #[error("`{uri}` holds the repository `{found}`, not `{name}`")]
    OtherName {
        /// Where it came from.
        uri: String,
        /// What was asked for.
        name: String,
        /// What its `profiles/repo_name` says.
        found: String,
    },
    /// Something needs a snapshot.
    #[error("the tree `{id}` is in use")]
    InUse {
        id: TreeId,
        /// By what, in words.
        by: Vec<String>,
        /// A name that leads to it, which can be removed with it.
        name: Option<String>,
    },
    /// Nothing is called so.
    #[error("there is no tree `{text}`")]
    Unknown { text: String, known: Vec<String> },
    /// The bare repository is being used, or cannot be locked.
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
    /// No tree snapshot.
    #[error("no ebuild tree in the store")]
    NoTree,
    /// A directory or archive that is not an ebuild repository.
    #[error("`{}` is not an ebuild repository: {problem}", path.display())]
    NotATree { path: PathBuf, problem: &'static str },
    /// An ebuild repository of the store, or a Portage profile in it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A tarball that cannot be unpacked.
    #[error("cannot unpack `{}`", path.display())]
    Unpack {
        path: PathBuf,
        #[source]
        source: archive::Error,
    },
}

/// What functions of this room return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
