//! The files of a tree: listed, copied, made plain, and named by what they hold.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::build::error::{Error, Result};
use crate::config::is_repository_name;
use crate::portage::untrusted;
use crate::store::Tree;

/// What a tree holds.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) digest: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) ebuilds: u64,
    pub(super) newest: i64,
    /// Whether there is a cache of what its ebuilds say.
    pub(super) cached: bool,
}

impl Contents {
    /// What is recorded of a snapshot.
    pub(super) fn recorded(tree: &Tree) -> Option<Self> {
        let origin = &tree.meta.origin;
        let number = |field: &str| origin[field].as_u64();
        Some(Self {
            digest: origin["digest"].as_str()?.to_owned(),
            files: number("files")?,
            bytes: number("bytes")?,
            ebuilds: number("ebuilds")?,
            newest: origin["newest"].as_i64()?,
            cached: origin["cached"].as_bool()?,
        })
    }
}

/// First word of `profiles/repo_name`, if it is a name. No link of the tree's is followed.
pub(super) fn repo_name(tree: &Path) -> Option<String> {
    let root = untrusted::open_root(tree).ok()?;
    let text = untrusted::read_in(root.as_fd(), Path::new("profiles/repo_name"), 4096).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let name = text.split_whitespace().next()?;
    is_repository_name(name).then(|| name.to_owned())
}

pub(super) fn single_directory(dir: &Path) -> Result<Option<PathBuf>> {
    let failed = || Error::io("list", dir);
    let entries: Vec<_> = fs::read_dir(dir).map_err(failed())?.collect::<io::Result<_>>().map_err(failed())?;
    match entries.as_slice() {
        [only] if only.file_type().map_err(failed())?.is_dir() => Ok(Some(only.path())),
        _ => Ok(None),
    }
}

/// All paths below `root`, relative, sorted; version control's own directories are no part of a tree.
pub(super) fn list(root: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>> {
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

pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
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

/// Makes what a program of the host has written what a snapshot holds: modes whatever the umask, and, as git has no times, `time` for all
/// files. (Portage compares checksums with its cache, not times.)
pub(super) fn make_plain(root: &Path, time: Option<i64>) -> Result<()> {
    let time = time.map(|secs| match u64::try_from(secs) {
        Ok(secs) => UNIX_EPOCH + Duration::from_secs(secs),
        Err(_) => SystemTime::UNIX_EPOCH,
    });
    list(root)?.par_iter().try_for_each(|(path, meta)| {
        let full = root.join(path);
        if meta.is_symlink() {
            return Ok(());
        }
        let mode = if meta.is_dir() || meta.mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        if meta.mode() & 0o7777 != mode {
            fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(Error::io("change the mode of", &full))?;
        }
        match time.filter(|_| meta.is_file()) {
            Some(time) => {
                let file = File::options().write(true).open(&full);
                file.and_then(|file| file.set_modified(time)).map_err(Error::io("change the time of", &full))
            }
            None => Ok(()),
        }
    })
}

/// Digest over names, kinds, executable bits and contents: not over times and owners, which differ between the ways to sync.
pub(super) fn digest_tree(root: &Path) -> Result<Contents> {
    use std::os::unix::ffi::OsStrExt as _;
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
    let bytes = entries.iter().filter(|(_, meta)| meta.is_file()).map(|(_, meta)| meta.len()).sum();
    let ebuilds = entries.iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "ebuild")).count() as u64;
    let cached = entries.iter().any(|(path, _)| path.parent() == Some(Path::new("metadata/md5-cache")));
    Ok(Contents { digest: hex::encode(hash.finalize()), files, bytes, ebuilds, newest, cached })
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
