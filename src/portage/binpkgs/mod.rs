//! Pools of binary packages.
//!
//! Portage does not compare compiler flags when it picks a binary package: it would install one that was built for another CPU or C
//! library. Therefore a pool only holds packages with the same [inputs](PoolInputs). A session never writes to a pool: it has its own
//! place (an overlay over the pool, or a directory), from where its packages are published if it succeeds.
//!
//! ```text
//! binpkgs/                            mode 0700
//!   x86_64-pc-linux-gnu-amd64-23.0-1a2b3c4d5e6f/      one pool: CHOST, Portage profile, hash of all inputs
//!     .lock                           held exclusively while packages are added
//!     pool.json                       the inputs, readable
//!     Packages                        Portage's index, rewritten by rename
//!     app-misc/hello/hello-2.10-1.gpkg.tar
//!   throwaway/<same name>/            packages of freshroot and try: releases never read them unless they are promoted
//!   .views/, .claims/                 what running sessions see, and what each of them compiles
//! ```

pub(crate) mod claims;
mod contents;
pub(crate) mod gpkg;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod name;
pub(crate) mod package_key;
pub(crate) mod publish;
pub(crate) mod unused;
pub(crate) mod view;

use std::io;
use std::path::{Path, PathBuf};

use super::untrusted;
use crate::path_error::PathError;
use crate::progress::Observer;

pub(crate) use contents::Examiner;
pub use index::Index;
pub(crate) use key::{PoolInputs, PoolKey, pool_digest, pool_key};
pub(crate) use name::PackageFile;
pub use package_key::{Described, PackageKey};
pub(crate) use publish::{KeyOf, LIBC, Note, SIGNER, Transfer, key_in, publish};
pub(crate) use view::View;

/// Directory below the pools' root that holds the throw-away ones.
pub(crate) const THROWAWAY: &str = "throwaway";
/// The index that Portage reads.
pub(crate) const INDEX: &str = "Packages";
const LOCK: &str = ".lock";
const DESCRIPTION: &str = "pool.json";

/// Who may use a pool's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// Builds of released artifacts.
    Release,
    /// Throw-away sessions.
    Throwaway,
}

/// A pool could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call on a file of the pool, or of the session, failed.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The session's place or the pool cannot be read.
    #[error("cannot list the binary packages in `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: untrusted::Error,
    },
    /// The description of a pool cannot be written as JSON.
    #[error("cannot describe the pool `{path}`")]
    Describe {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io(PathError::new(action, path, source))
    }

    fn read(path: &Path, source: untrusted::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The directory of a pool below `binpkgs`.
pub(crate) fn pool_dir(binpkgs: &Path, kind: PoolKind, key: &PoolKey) -> PathBuf {
    match kind {
        PoolKind::Release => binpkgs.join(key.as_str()),
        PoolKind::Throwaway => binpkgs.join(THROWAWAY).join(key.as_str()),
    }
}

/// What the packages of a pool have in common, as its description says. `None` if that cannot be read.
pub(crate) fn inputs_of(pool: &Path) -> Option<PoolInputs> {
    serde_json::from_slice(&std::fs::read(pool.join(DESCRIPTION)).ok()?).ok()
}

/// Creates the pool for `inputs` below `binpkgs` if needed; returns its directory.
pub(crate) fn open_pool(binpkgs: &Path, kind: PoolKind, inputs: &PoolInputs, observer: &dyn Observer) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = pool_dir(binpkgs, kind, &pool_key(inputs));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| Error::io("create", &dir, e))?;
    let description = dir.join(DESCRIPTION);
    if !description.exists() {
        let mut text =
            serde_json::to_string_pretty(inputs).map_err(|source| Error::Describe { path: description.clone(), source })?;
        text.push('\n');
        publish::LockedPool::lock(&dir, observer)?.write_atomically(DESCRIPTION, text.as_bytes(), None)?;
    }
    Ok(dir)
}
