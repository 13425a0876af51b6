//! The files of a tree: lists them, copies them, sets their modes, and computes the digest that names a snapshot.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{FileType, Stat};
use sha2::{Digest as _, Sha256};

use crate::beneath;
use crate::beneath::{Budget, FILE_LIMIT_BYTES, RootDir, TreeDir, copy_plain, may_have_holes};
use crate::config::is_repository_name;
use crate::path_error::OfFile as _;
use crate::store::Tree;
use crate::trees::{Error, Result};

/// Digest and numbers of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) digest: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) ebuilds: u64,
    pub(crate) newest: i64,
    /// It has a metadata cache.
    pub(crate) cached: bool,
}

impl Contents {
    /// From a snapshot's record.
    pub(crate) fn recorded(tree: &Tree) -> Option<Self> {
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

/// The first word of `profiles/repo_name`, if it can be a name. No link in the tree is followed.
pub(crate) fn repo_name(tree: &Path) -> Option<String> {
    let text = RootDir::open(tree).ok()?.read("profiles/repo_name", 4096).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let name = text.split_whitespace().next()?;
    is_repository_name(name).then(|| name.to_owned())
}

/// The only entry of a directory, if that is a directory.
pub(crate) fn single_directory(dir: &Path) -> Result<Option<OsString>> {
    match TreeDir::open(dir)?.entries(1) {
        Ok(entries) => Ok(entries.first().filter(|only| only.is_dir()).map(|only| only.os().to_owned())),
        Err(beneath::Error::TooMany { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
pub(crate) struct Item {
    /// Below the tree.
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
}

impl Item {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    fn is_executable(&self) -> bool {
        self.stat.st_mode & 0o100 != 0
    }
}

/// All paths below a tree, sorted. The directories of git and Subversion are left out.
pub(crate) fn list(tree: &TreeDir) -> Result<Vec<Item>> {
    list_of(tree, &|_, _| true)
}

/// Those whose names, and whose directories' names, `counts` takes; it is told what is a directory.
fn list_of(tree: &TreeDir, counts: &dyn Fn(&str, bool) -> bool) -> Result<Vec<Item>> {
    let mut walk = tree.walk()?;
    let mut found = Vec::new();
    loop {
        while let Some(entry) = walk.next_name() {
            if walk.depth() == 0 && (entry.name.as_c_str() == c".git" || entry.name.as_c_str() == c".svn") {
                continue;
            }
            let item = Item { path: PathBuf::from(OsString::from_vec(walk.relative(&entry.name))), stat: walk.stat(&entry.name)? };
            if entry.name.to_str().is_ok_and(|name| !counts(name, item.is_dir())) {
                continue;
            }
            if item.is_dir() {
                walk.enter(&entry.name)?;
            }
            found.push(item);
        }
        if walk.leave()?.is_none() {
            break;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (TreeDir::open(from)?, TreeDir::open(to)?);
    let items = list(&from)?;
    // Sorted, each directory comes after the one that it is in.
    for item in items.iter().filter(|item| item.is_dir()) {
        to.make_dir(&item.path, 0o755)?;
    }
    items.par_iter().filter(|item| !item.is_dir()).try_for_each(|item| {
        let path = &item.path;
        if item.is_symlink() {
            to.symlink(path, from.read_link(path)?)?;
        } else if item.is_file() {
            let source = from.open_file(path)?;
            source.check_size(FILE_LIMIT_BYTES)?;
            // The user's umask must not matter: the `portage` user inside must be able to read it.
            let copy = to.create(path, 0o600)?;
            copy_plain(&source, &copy)?;
            to.set_mode(path, if item.is_executable() { 0o755 } else { 0o644 })?;
            // Portage compares the times of ebuilds with its metadata cache.
            let modified = source.file.metadata().and_then(|meta| meta.modified());
            modified.and_then(|time| copy.set_modified(time)).map_err(Error::io("change the time of", to.shown(path)))?;
        }
        Ok(())
    })
}

/// A program of the host has written this tree. Sets the modes that a snapshot has, whatever the umask was. Sets all files to `time`,
/// since git has no times. (Portage compares checksums with its cache, not times.)
pub(crate) fn make_plain(root: &Path, time: Option<i64>) -> Result<()> {
    let tree = TreeDir::open(root)?;
    list(&tree)?.par_iter().try_for_each(|item| {
        if item.is_symlink() {
            return Ok(());
        }
        let mode = if item.is_dir() || item.is_executable() { 0o755 } else { 0o644 };
        if item.stat.st_mode & 0o7777 != mode {
            tree.set_mode(&item.path, mode)?;
        }
        match time.filter(|_| item.is_file()) {
            Some(time) => Ok(tree.set_time(&item.path, time.max(0))?),
            None => Ok(()),
        }
    })
}

/// A digest of names, kinds, executable bits and contents. Times and owners are left out: they depend on how the tree was synced.
pub(crate) fn digest_tree(root: &Path) -> Result<Contents> {
    digest_of(root, &|_, _| true)
}

/// The same of what `counts` takes, by name and by whether it is a directory.
pub(crate) fn digest_of(root: &Path, counts: &dyn Fn(&str, bool) -> bool) -> Result<Contents> {
    let tree = TreeDir::open(root)?;
    let entries = list_of(&tree, counts)?;
    let mut budget = Budget::default();
    for item in entries.iter().filter(|item| item.is_file() && may_have_holes(&item.stat)) {
        budget.admit(&tree.open_file(&item.path)?)?;
    }
    let parts: Vec<[u8; 32]> = entries.par_iter().map(|item| digest(&tree, item)).collect::<Result<_>>()?;
    let mut hash = Sha256::new();
    for part in &parts {
        hash.update(part);
    }
    let files = entries.iter().filter(|item| !item.is_dir()).count() as u64;
    // A directory has the time of its copy. Only files tell how old a tree is.
    let newest = entries.iter().filter(|item| item.is_file()).map(|item| item.stat.st_mtime).max().unwrap_or(0);
    let size = |item: &Item| u64::try_from(item.stat.st_size).unwrap_or(0);
    let bytes = entries.iter().filter(|item| item.is_file()).map(size).sum();
    let ebuilds = entries.iter().filter(|item| item.path.extension().is_some_and(|ending| ending == "ebuild")).count() as u64;
    let cached = entries.iter().any(|item| item.path.parent() == Some(Path::new("metadata/md5-cache")));
    Ok(Contents { digest: hex::encode(hash.finalize()), files, bytes, ebuilds, newest, cached })
}

fn digest(tree: &TreeDir, item: &Item) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(item.path.as_os_str().as_bytes());
    hash.update([0]);
    if item.is_symlink() {
        hash.update(b"l");
        hash.update(tree.read_link(&item.path)?.to_bytes());
    } else if item.is_file() {
        hash.update(if item.is_executable() { b"x" } else { b"f" });
        let mut file = tree.open_file(&item.path)?.file;
        io::copy(&mut file, &mut hash).map_err(Error::io("read", tree.shown(&item.path)))?;
    } else {
        hash.update(b"d");
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt as _;

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
    fn holes_of_a_tree_are_holes_of_its_copy_and_bounded() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(one.path());
        File::create(one.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        copy_tree(one.path(), two.path()).unwrap();
        let copy = fs::metadata(two.path().join("hole")).unwrap();
        assert_eq!(copy.len(), 1 << 30);
        assert!(copy.blocks() < 64, "{}", copy.blocks());
        File::create(one.path().join("hole")).unwrap().set_len(4 << 40).unwrap();
        let expected = format!("`{}/hole` has more than 68719476736 bytes", one.path().display());
        assert_eq!(digest_tree(one.path()).unwrap_err().to_string(), expected);
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
