//! `sync`: an ebuild tree becomes a pinned tree snapshot in the store.
//!
//! A published snapshot (`gentoo-20260811.tar.xz`) must carry a trusted signature beside it (`.gpgsig`, `.asc` or `.sig`); a
//! directory of the user's is taken as it is. Either way the snapshot is named by the digest of its contents, so the same tree is
//! the same input whichever way it came.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::engine::Engine;
use super::error::{Error, Result};
use crate::archive;
use crate::progress::Event;
use crate::stage3::keys::TrustedKeys;
use crate::stage3::{self, VerifyOptions};
use crate::store::{InMap as _, TempArea, TreeId};

/// What to import.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// A published snapshot, or a directory.
    pub from: PathBuf,
    /// Name of the repository, if not the one in its `profiles/repo_name`.
    pub name: Option<String>,
    /// How strict to be with the signature of a published snapshot.
    pub verify: VerifyOptions,
}

/// What was imported.
#[derive(Debug, Clone, Serialize)]
pub struct Synced {
    /// Name of the repository.
    pub name: String,
    /// The snapshot.
    pub id: TreeId,
    /// SHA-256 of its contents.
    pub digest: String,
    /// Files in it.
    pub files: u64,
    /// Who signed it: fingerprint of the primary key.
    pub signer: Option<String>,
    /// Whether the store had it already.
    pub unchanged: bool,
}

/// A tree snapshot as sessions see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PinnedTree {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) digest: String,
    pub(super) newest: i64,
}

impl Engine<'_> {
    /// Imports a tree and points `tree/NAME` at it.
    pub fn sync(&self, options: &SyncOptions, keys: &TrustedKeys) -> Result<Synced> {
        let _shared = self.share_store()?;
        let area = self.store.tree_begin()?;
        let result = self.sync_into(&area, options, keys);
        match result {
            Ok(found) if found.known.is_some() => {
                self.launcher.remove_trees(&[area.path().to_owned()])?;
                self.finish_sync(found, None)
            }
            Ok(found) => self.finish_sync(found, Some(area)),
            Err(error) => {
                self.launcher.remove_trees(&[area.path().to_owned()])?;
                Err(error)
            }
        }
    }

    fn sync_into(&self, area: &TempArea, options: &SyncOptions, keys: &TrustedKeys) -> Result<Found> {
        let from = &options.from;
        let meta = fs::metadata(from).map_err(Error::io("read", from))?;
        let signer = if meta.is_dir() {
            self.step(&format!("copying {}", from.display()));
            copy_tree(from, &area.tree())?;
            None
        } else {
            self.unpack_snapshot(area, options, keys)?
        };
        let name = match &options.name {
            Some(name) => name.clone(),
            None => {
                repo_name(&area.tree()).ok_or(Error::NotATree { path: from.clone(), problem: "it has no `profiles/repo_name`" })?
            }
        };
        let contents = digest_tree(&area.tree())?;
        let known =
            self.store.trees()?.into_iter().find(|tree| tree.meta.origin["digest"] == contents.digest.as_str()).map(|tree| tree.id);
        Ok(Found { name, from: from.clone(), contents, signer, known, allow_unsigned: options.verify.allow_unsigned.clone() })
    }

    fn finish_sync(&self, found: Found, area: Option<TempArea>) -> Result<Synced> {
        let unchanged = found.known.is_some();
        let id = match (found.known, area) {
            (Some(id), _) => id,
            (None, Some(area)) => area.commit_tree(serde_json::json!({
                "name": found.name,
                "from": found.from.display().to_string(),
                "digest": found.contents.digest,
                "files": found.contents.files,
                "newest": found.contents.newest,
                "signer": found.signer,
                "allow_unsigned": found.allow_unsigned,
            }))?,
            (None, None) => unreachable!("an area is only given up for a tree that is known"),
        };
        self.store.tree_ref_set(&found.name, &id)?;
        Ok(Synced {
            name: found.name,
            id,
            digest: found.contents.digest,
            files: found.contents.files,
            signer: found.signer,
            unchanged,
        })
    }

    /// Verifies a published snapshot and unpacks the very file that was verified.
    fn unpack_snapshot(&self, area: &TempArea, options: &SyncOptions, keys: &TrustedKeys) -> Result<Option<String>> {
        let from = &options.from;
        self.step(&format!("verifying {}", from.display()));
        let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", from.display()));
        let signature = ["gpgsig", "asc", "sig"].map(beside).into_iter().find(|path| path.exists());
        let verified = match signature {
            Some(signature) => stage3::verify_detached(from, &signature, keys, &options.verify, self.observer)?,
            None => stage3::verify(from, keys, &options.verify, self.observer)?,
        };
        if let Some(signer) = &verified.signer {
            self.note(&format!("signed by {}", signer.primary));
        }
        self.step(&format!("unpacking {}", from.display()));
        let unpacked = |source| Error::Unpack { path: from.clone(), source };
        let staging = area.path().join("unpacked");
        fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
        let into = File::open(&staging).map_err(Error::io("open", &staging))?;
        self.observer.event(&Event::Begin { what: "unpacking", total: None });
        let reader = archive::decode::open_file(verified.file, self.settings.processors, &[]).map_err(unpacked)?;
        let mut progress = |bytes| self.observer.event(&Event::Advance(bytes));
        let unpack = archive::UnpackOptions { owners: archive::Owners::Ignore, ..Default::default() };
        // As root of the session sees it: everything is the user's own, whatever the umask.
        let result = archive::unpack(reader, into.as_fd(), &unpack, &mut progress);
        self.observer.event(&Event::End);
        result.map_err(unpacked)?;
        // Published snapshots hold one directory, `gentoo-20260811/`; a plain tarball of a tree may have none.
        let top = single_directory(&staging)?.unwrap_or(staging);
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &top))?;
        fs::rename(&top, area.tree()).map_err(Error::io("rename", &top))?;
        Ok(verified.signer.map(|signer| signer.primary.to_string()))
    }

    /// The trees that sessions mount, by name; `gentoo` or whichever is alone comes first.
    pub(super) fn trees(&self) -> Result<Vec<PinnedTree>> {
        let mut trees = Vec::new();
        for (name, id) in self.store.tree_refs()? {
            let tree = self.store.tree(&id)?;
            let origin = &tree.meta.origin;
            trees.push(PinnedTree {
                name,
                path: tree.path,
                digest: origin["digest"].as_str().unwrap_or_default().to_owned(),
                newest: origin["newest"].as_i64().unwrap_or_default(),
            });
        }
        if trees.is_empty() {
            return Err(Error::NoTree);
        }
        trees.sort_by(|a, b| (a.name != "gentoo", &a.name).cmp(&(b.name != "gentoo", &b.name)));
        Ok(trees)
    }
}

/// A tree in a temporary area, looked at.
struct Found {
    name: String,
    from: PathBuf,
    contents: Contents,
    signer: Option<String>,
    known: Option<TreeId>,
    allow_unsigned: Option<String>,
}

/// What a tree holds.
struct Contents {
    digest: String,
    files: u64,
    newest: i64,
}

/// First word of `profiles/repo_name`, if it is a name.
fn repo_name(tree: &Path) -> Option<String> {
    let text = fs::read_to_string(tree.join("profiles/repo_name")).ok()?;
    let name = text.split_whitespace().next()?;
    let usable = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) && !name.starts_with('-');
    usable.then(|| name.to_owned())
}

fn single_directory(dir: &Path) -> Result<Option<PathBuf>> {
    let failed = || Error::io("list", dir);
    let entries: Vec<_> = fs::read_dir(dir).map_err(failed())?.collect::<io::Result<_>>().map_err(failed())?;
    match entries.as_slice() {
        [only] if only.file_type().map_err(failed())?.is_dir() => Ok(Some(only.path())),
        _ => Ok(None),
    }
}

/// All paths below `root`, relative, sorted; version control's own directories are no part of a tree.
fn list(root: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let full = root.join(&dir);
        for entry in fs::read_dir(&full).map_err(Error::io("list", &full))? {
            let entry = entry.map_err(Error::io("list", &full))?;
            let path = dir.join(entry.file_name());
            if dir.as_os_str().is_empty() && (entry.file_name() == ".git" || entry.file_name() == ".svn") {
                continue;
            }
            let meta = entry.metadata().map_err(Error::io("read", root.join(&path)))?;
            if meta.is_dir() {
                pending.push(path.clone());
            }
            found.push((path, meta));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for (path, meta) in list(from)? {
        let (source, target) = (from.join(&path), to.join(&path));
        if meta.is_dir() {
            fs::create_dir(&target).map_err(Error::io("create", &target))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &target))?;
        } else if meta.is_symlink() {
            let link = fs::read_link(&source).map_err(Error::io("read", &source))?;
            std::os::unix::fs::symlink(link, &target).map_err(Error::io("create", &target))?;
        } else if meta.is_file() {
            fs::copy(&source, &target).map_err(Error::io("copy", &source))?;
            // Whatever the user's umask: the `portage` user inside must be able to read it.
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).map_err(Error::io("change the mode of", &target))?;
            let modified = meta.modified().map_err(Error::io("read", &source))?;
            // Portage compares the times of ebuilds with its metadata cache.
            File::options()
                .write(true)
                .open(&target)
                .and_then(|file| file.set_modified(modified))
                .map_err(Error::io("change the time of", &target))?;
        }
    }
    Ok(())
}

/// Digest over names, kinds, executable bits and contents: not over times and owners, which differ between the ways to sync.
fn digest_tree(root: &Path) -> Result<Contents> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let entries = list(root)?;
    let parts: Vec<[u8; 32]> = entries
        .par_iter()
        .map(|(path, meta)| {
            let full = root.join(path);
            let mut hash = Sha256::new();
            hash.update(path.as_os_str().as_bytes());
            hash.update([0]);
            if meta.is_symlink() {
                hash.update(b"l");
                hash.update(fs::read_link(&full).map_err(Error::io("read", &full))?.as_os_str().as_bytes());
            } else if meta.is_file() {
                hash.update(if meta.mode() & 0o100 == 0 { b"f" } else { b"x" });
                let mut file = File::open(&full).map_err(Error::io("open", &full))?;
                io::copy(&mut file, &mut hash).map_err(Error::io("read", &full))?;
            } else {
                hash.update(b"d");
            }
            Ok(hash.finalize().into())
        })
        .collect::<Result<_>>()?;
    let mut hash = Sha256::new();
    for part in &parts {
        hash.update(part);
    }
    let files = entries.iter().filter(|(_, meta)| !meta.is_dir()).count() as u64;
    // A directory's time is when it was copied; only files tell how old a tree is.
    let newest = entries.iter().filter(|(_, meta)| meta.is_file()).map(|(_, meta)| meta.mtime()).max().unwrap_or(0);
    Ok(Contents { digest: hex::encode(hash.finalize()), files, newest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path) {
        fs::create_dir_all(dir.join("profiles")).unwrap();
        fs::create_dir_all(dir.join(".git")).unwrap();
        fs::write(dir.join(".git/HEAD"), "x").unwrap();
        fs::write(dir.join("profiles/repo_name"), "gentoo\n").unwrap();
        fs::write(dir.join("a b"), "text").unwrap();
        std::os::unix::fs::symlink("a b", dir.join("link")).unwrap();
    }

    #[test]
    fn a_copy_has_the_same_digest_and_no_version_control() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(one.path());
        copy_tree(one.path(), two.path()).unwrap();
        assert!(!two.path().join(".git").exists());
        assert_eq!(digest_tree(one.path()).unwrap().digest, digest_tree(two.path()).unwrap().digest);
        fs::write(two.path().join("a b"), "other").unwrap();
        assert_ne!(digest_tree(one.path()).unwrap().digest, digest_tree(two.path()).unwrap().digest);
    }

    #[test]
    fn the_repository_names_itself() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        assert_eq!(repo_name(dir.path()).as_deref(), Some("gentoo"));
        fs::write(dir.path().join("profiles/repo_name"), "../up\n").unwrap();
        assert_eq!(repo_name(dir.path()), None);
    }
}
