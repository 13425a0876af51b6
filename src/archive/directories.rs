//! The directories of an archive that is being unpacked.
//!
//! Archives list the entries of a directory together, so the directories that were used last stay open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::beneath::{TreeDir, Way};

/// How many directories stay open: enough for any real tree, and few beside a limit of 1024 descriptors.
const OPEN_MAX: usize = 24;

/// Directories below a root. The chain above the last one used stays open.
#[derive(Debug)]
pub(super) struct Directories {
    root: TreeDir,
    /// Each is below the one before.
    chain: Vec<(Vec<u8>, TreeDir)>,
}

impl Directories {
    pub(super) fn new(root: BorrowedFd<'_>, way: Way) -> io::Result<Self> {
        Ok(Self { root: TreeDir::borrowed(root, "").map_err(io::Error::other)?.by(way), chain: Vec::new() })
    }

    /// The directory at the normalised `path`. An empty path is the root.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        while let Some((known, _)) = self.chain.last()
            && !is_within(path, known)
        {
            self.chain.pop();
        }
        let (from, rest) = match self.chain.last() {
            Some((known, dir)) => (dir, &path[(known.len() + 1).min(path.len())..]),
            None => (&self.root, path),
        };
        if !rest.is_empty() {
            let dir = from.open_dir(Path::new(std::ffi::OsStr::from_bytes(rest))).map_err(io::Error::from)?;
            if self.chain.len() == OPEN_MAX {
                self.chain.remove(0);
            }
            self.chain.push((path.to_vec(), dir));
        }
        Ok(self.chain.last().map_or(&self.root, |(_, dir)| dir).as_fd())
    }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// A tree with a way out, and what each opener makes of it.
    #[test]
    fn both_ways_resolve_the_same_and_never_leave() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(root.join("a/bc")).unwrap();
        fs::create_dir(outer.path().join("secret")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("b", root.join("a/in")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let fd = fs::File::open(&root).unwrap();
        for way in [Way::Kernel, Way::Stepwise] {
            let mut dirs = Directories::new(fd.as_fd(), way).unwrap();
            for path in ["", "a/b/c", "a/b", "a/bc", "a", "a/b/c", ""] {
                let inode = rustix::fs::fstat(dirs.open(path.as_bytes()).unwrap()).unwrap().st_ino;
                assert_eq!(inode, fs::metadata(root.join(path)).unwrap().ino(), "{path} {way:?}");
            }
            for path in ["out", "out/x", "a/in", "a/in/c", "..", "a/../..", "file", "missing", "/missing"] {
                assert!(dirs.open(path.as_bytes()).is_err(), "{path} {way:?}");
            }
        }
    }

    #[test]
    fn a_deep_chain_holds_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let mut path = Vec::new();
        let fd = fs::File::open(root.path()).unwrap();
        let mut dirs = Directories::new(fd.as_fd(), Way::Kernel).unwrap();
        for _ in 0..200 {
            rustix::fs::mkdirat(dirs.open(&path).unwrap(), "d", rustix::fs::Mode::RWXU).unwrap();
            path.extend_from_slice(if path.is_empty() { b"d" } else { b"/d" });
            dirs.open(&path).unwrap();
            assert!(dirs.chain.len() <= OPEN_MAX);
        }
        dirs.open(b"d/d").unwrap();
    }
}
