//! The directories that one invocation works with.
//!
//! ```text
//! config/                          the user's, under version control; only commands made for that write to it
//! data/                            closed to others (`walls`), as is cache
//! data/store/                      layers, build states, refs, sessions
//! data/stages/                     finished artifacts
//! data/logs/                       logs of emerge runs
//! data/binhost/PROFILE/            exported binary packages
//! data/patches/NAME/               work sets of patches: the user's own work
//! data/build-times                 how long builds took
//! data/audits                      the last audit of each state
//! cache/distfiles/                 source archives
//! cache/binpkgs/POOL/              binary packages, by pool
//! cache/ccache/PROFILE/            what compilers have made, by profile and package
//! cache/repos/NAME.git             git objects of ebuild trees
//! cache/repos/downloads/           data of trees that are downloaded as tarballs
//! cache/stage3/                    fetched stage3s with the files beside them
//! cache/oci-layers/                packed layers of OCI images
//! cache/remote/                    blobs on their way from and to a remote
//! ```

mod walls;

use std::path::{Path, PathBuf};

use crate::durable;

pub(crate) use walls::{Closed, Owner, Unsafe, unknown_id};

/// Configuration, data and cache directories, as absolute paths. The program takes them from flags, `GENTOOMUCH_*` and XDG variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub config: PathBuf,
    /// Cannot be made again.
    pub data: PathBuf,
    /// Can be made again.
    pub cache: PathBuf,
}

impl Places {
    /// Layers, build states, refs and sessions.
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Finished stage4 artifacts.
    pub fn stages(&self) -> PathBuf {
        self.data.join("stages")
    }

    /// Logs of emerge runs.
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// Exported binary packages, by profile.
    pub fn binhosts(&self) -> PathBuf {
        self.data.join("binhost")
    }

    /// Work sets of patches, by name.
    pub fn patches(&self) -> PathBuf {
        self.data.join("patches")
    }

    /// How long earlier builds took.
    pub fn build_times(&self) -> PathBuf {
        self.data.join("build-times")
    }

    /// What the last audit of each state found: a file.
    pub fn audits(&self) -> PathBuf {
        self.data.join("audits")
    }

    /// Source archives, shared by all profiles.
    pub fn distfiles(&self) -> PathBuf {
        self.cache.join("distfiles")
    }

    /// Binary package pools.
    pub fn binpkgs(&self) -> PathBuf {
        self.cache.join("binpkgs")
    }

    /// Compiler caches, by profile.
    pub fn ccache(&self) -> PathBuf {
        self.cache.join("ccache")
    }

    /// Bare git repositories that ebuild trees are fetched into.
    pub fn repos(&self) -> PathBuf {
        self.cache.join("repos")
    }

    /// Fetched stage3s.
    pub fn stage3(&self) -> PathBuf {
        self.cache.join("stage3")
    }

    /// Packed layers of OCI images.
    pub fn oci_layers(&self) -> PathBuf {
        self.cache.join("oci-layers")
    }

    /// Blobs on their way from and to a remote, and which blob each layer is.
    pub fn remote(&self) -> PathBuf {
        self.cache.join("remote")
    }

    /// Records of artifacts that were compared with their digests.
    pub fn seen_artifacts(&self) -> PathBuf {
        self.cache.join("artifacts")
    }

    /// Records of states that other build keys would rebuild unchanged.
    pub fn standing(&self) -> PathBuf {
        self.cache.join("standing")
    }

    /// Removes what killed processes have left in the directories where small files are written.
    pub(crate) fn sweep(&self) {
        let caches = [self.stage3(), self.oci_layers(), self.remote(), self.seen_artifacts(), self.standing(), self.repos()];
        [&self.data, &self.cache].into_iter().chain(&caches).for_each(|dir| durable::sweep(dir));
    }

    /// Trusted keys, below the configuration directory.
    pub fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }
}

/// `path` itself if absolute, else below `base`.
pub(crate) fn absolute(path: &Path, base: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { base.join(path) }
}
