//! Temporary areas, and tree snapshots, which are made in them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::in_map::InMap;
use super::{Error, Lock, LockMode, Result, Store, TreeId, durable, id, lock, make_dir};

/// A place in `tmp/` for something that is being made. If it is dropped without a commit, the next recovery removes it.
#[derive(Debug)]
#[must_use = "what is not committed is removed by the next recovery"]
pub struct TempArea {
    store: Store,
    path: PathBuf,
    lock: Lock,
    /// Opened on the underlying file system before the first write. `syncfs` reports only write-back errors that happen after that.
    fs: OwnedFd,
}

/// The contents of `tree.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeMeta {
    pub id: TreeId,
    /// When it was imported, RFC 3339, UTC.
    pub created: String,
    /// Where it came from: file, commit, signer, repository name.
    pub origin: serde_json::Value,
}

/// A tree snapshot in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub id: TreeId,
    /// The ebuild repository.
    pub path: PathBuf,
    pub meta: TreeMeta,
}

impl Tree {
    /// Whether a state with this `origin`, as text, was made with it. Every layout of an origin contains the digest of each tree, so the
    /// text is searched.
    pub fn went_into(&self, origin: &str) -> bool {
        origin.contains(self.meta.origin["digest"].as_str().filter(|digest| !digest.is_empty()).unwrap_or(self.id.as_str()))
    }
}

impl Store {
    /// A new, empty, locked area in `tmp/`.
    pub fn temp_area(&self) -> Result<TempArea> {
        let fs = durable::open_dir(self.root())?;
        let path = self.path("tmp").join(id::fresh()?);
        let _structure = self.structure(LockMode::Shared)?;
        make_dir(&path, 0o700)?;
        let lock = lock::acquire_own(&path.join("lock"), &self.inner.command)?;
        Ok(TempArea { store: self.clone(), path, lock, fs })
    }

    /// An area with an empty tree to be filled: [`TempArea::tree`].
    pub fn tree_begin(&self) -> Result<TempArea> {
        self.require_idmap()?;
        let area = self.temp_area()?;
        make_dir(&area.path.join("tree"), 0o700)?;
        make_dir(&area.tree(), 0o755)?;
        Ok(area)
    }

    pub fn tree(&self, id: &TreeId) -> Result<Tree> {
        let dir = self.path("trees").join(id.as_str());
        let meta = durable::read_json(&dir.join("tree.json"))?.ok_or_else(|| Error::NoSuchTree(id.clone()))?;
        Ok(Tree { id: id.clone(), path: dir.join("fs"), meta })
    }

    /// All tree snapshots, oldest first, without damaged ones, see [`Store::damaged`].
    pub fn trees(&self) -> Result<Vec<Tree>> {
        let path = |id: &TreeId| self.path("trees").join(id.as_str());
        let read = |id: TreeId| match self.tree(&id) {
            // Deleted between listing and reading.
            Err(Error::NoSuchTree(_)) if !path(&id).exists() => Ok(None),
            tree => self.unless_damaged(&path(&id).join("tree.json"), tree),
        };
        self.ids::<TreeId>("trees", "")?.into_iter().filter_map(|id| read(id).transpose()).collect()
    }
}

impl TempArea {
    /// The area itself. Our lock is the file `lock` in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files of a tree snapshot go, in an area from [`Store::tree_begin`].
    pub fn tree(&self) -> PathBuf {
        self.path.join("tree").join("fs")
    }

    /// Makes the tree a snapshot: syncs everything, then renames it. Nobody may write to it any more.
    pub fn commit_tree(self, origin: serde_json::Value) -> Result<TreeId> {
        let id = TreeId::fresh()?;
        let meta = TreeMeta { id: id.clone(), created: super::process::now(), origin };
        let unfinished = self.path.join("tree");
        durable::write_unsynced_json(&unfinished.join("tree.json"), &meta)?;
        super::in_map::check_upper(&unfinished.join("fs"), self.store.fd())?;
        self.store.sync(&self.fs)?;
        let target = self.store.path("trees");
        let path = target.join(id.as_str());
        std::fs::rename(&unfinished, &path).map_err(|e| Error::io("create", &path, e))?;
        durable::sync_dir(&target)?;
        self.finish();
        Ok(id)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps the area locked in another process.
    pub(crate) fn lock_fd(&self) -> Result<OwnedFd> {
        self.lock.duplicate()
    }

    /// Brings everything that was written since the area was made to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.store.sync(&self.fs)
    }

    /// Removes what is left of an area whose contents have moved on.
    pub(super) fn finish(self) {
        let Self { store, path, lock, fs: _ } = self;
        store.sweep(&path, lock);
    }

    /// Removes the area and its contents.
    pub fn discard(self, in_map: &dyn InMap) -> Result<()> {
        self.store.dismantle(&self.path, |inner| in_map.remove_trees(inner))
    }
}
