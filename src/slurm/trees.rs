//! Ebuild trees on their way to nodes. A tree has hundreds of thousands of files, so it travels as one archive.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run_dir::read;
use super::{Error, Result};
use crate::archive::digest::Algorithm;
use crate::archive::tasks::{self, ExportInput, ImportInput};
use crate::context::{self, Context};
use crate::durable::{self, Mode, Unfinished};
use crate::path_error::PathError;
use crate::trees::choose::{PinnedTree, tree_with_digest};

/// Above it, packing takes longer than it saves.
const LEVEL: u32 = 3;

/// A tree that jobs are given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShippedTree {
    name: String,
    archive: Archive,
    /// What our store says of it.
    origin: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Archive {
    path: PathBuf,
    size: u64,
    sha256: String,
}

/// Packs a tree into `trees`, unless that was done before.
pub(super) fn ship(cx: &Context<'_>, trees: &Path, tree: &PinnedTree) -> Result<ShippedTree> {
    let PinnedTree { name, digest, .. } = tree;
    let Some(found) = tree_with_digest(cx, name, digest)? else { return Err(Error::Missing { name: name.clone() }) };
    let shipped = |archive| ShippedTree { name: name.clone(), archive, origin: found.meta.origin.clone() };
    let (path, record) = (trees.join(format!("{digest}.tar.zst")), trees.join(format!("{digest}.json")));
    if let Some(archive) = read::<Archive>(&record)?.filter(|archive| archive.path == path && touch(&path) && touch(&record)) {
        return Ok(shipped(archive));
    }
    cx.observer.step(&format!("packing {name} for the nodes"));
    let unfinished = Unfinished::beside(&path, 0o600)?;
    let input = ExportInput::exact(found.path.clone(), LEVEL, cx.settings.processors);
    let out = OwnedFd::from(unfinished.file.try_clone().map_err(PathError::of("open", &path))?);
    let exported = tasks::export(cx.launcher, &input, out, None, Vec::new(), Some(context::cancel(cx)?), cx.observer);
    context::not_interrupted(cx)?;
    let exported = exported.map_err(|source| Error::Tree { name: name.clone(), source })?;
    unfinished.finish(&path)?;
    let archive = Archive { path, size: exported.archive.size, sha256: exported.archive.get(Algorithm::Sha256).to_owned() };
    durable::replace(&record, &serde_json::to_vec(&archive).unwrap_or_default(), Mode::Exactly(0o600))?;
    Ok(shipped(archive))
}

/// Whether a file is there, which is used now: what is old and of no run goes.
fn touch(path: &Path) -> bool {
    let touched = File::options().append(true).open(path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    touched.inspect_err(|error| tracing::debug!(%error, "cannot be used again")).is_ok()
}

impl ShippedTree {
    /// Makes it a snapshot of this store, the latest one of its name.
    pub(super) fn unpack(&self, cx: &Context<'_>) -> Result<()> {
        cx.observer.step(&format!("unpacking {}", self.name));
        let Archive { path, size, sha256 } = &self.archive;
        let file = File::open(path).map_err(PathError::of("open", path))?;
        let area = cx.store.tree_begin()?;
        let input = ImportInput {
            source: path.clone(),
            into: area.tree(),
            size: *size,
            sha512: String::new(),
            blake2b: String::new(),
            threads: cx.settings.processors,
            layer_sha256: Some(sha256.clone()),
        };
        let hold = vec![area.lock_fd()?];
        let unpacked = tasks::import(cx.launcher, &input, OwnedFd::from(file), hold, Some(context::cancel(cx)?), cx.observer);
        context::not_interrupted(cx)?;
        unpacked.map_err(|source| Error::Tree { name: self.name.clone(), source })?;
        let id = area.commit_tree(self.origin.clone())?;
        Ok(cx.store.tree_ref_set(&self.name, &id)?)
    }

    pub(super) fn archive(&self) -> &Path {
        &self.archive.path
    }
}
