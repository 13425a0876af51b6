//! Opens directories beneath one descriptor and nowhere else.
//!
//! `openat2` does it in one call: the kernel refuses `..`, symbolic links, magic links and mounts on the way. Where it is
//! missing (kernels before 5.6) or filtered (some containers answer ENOSYS or EPERM), [`super::beneath_stepwise`] walks
//! component by component. Archives list a directory's entries together, so the last few directories stay open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::beneath_stepwise;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Descriptors kept open; enough for any real tree, few beside a limit of 1024.
const OPEN_MAX: usize = 24;

/// Directories beneath `root`, the chain above the last one used kept open.
#[derive(Debug)]
pub(super) struct Directories<'a> {
    root: BorrowedFd<'a>,
    /// Each a descendant of the one before.
    chain: Vec<(Vec<u8>, OwnedFd)>,
    stepwise: bool,
}

impl<'a> Directories<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, stepwise: bool) -> Self {
        Self { root, chain: Vec::new(), stepwise }
    }

    /// The directory at the normalised `path`; empty means the root itself.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        while let Some((known, _)) = self.chain.last()
            && !is_within(path, known)
        {
            self.chain.pop();
        }
        let (from, rest) = match self.chain.last() {
            Some((known, fd)) => (fd.as_fd(), &path[(known.len() + 1).min(path.len())..]),
            None => (self.root, path),
        };
        if !rest.is_empty() {
            let fd = self.open_beneath(from, rest)?;
            if self.chain.len() == OPEN_MAX {
                self.chain.remove(0);
            }
            self.chain.push((path.to_vec(), fd));
        }
        Ok(self.chain.last().map_or(self.root, |(_, fd)| fd.as_fd()))
    }

    fn open_beneath(&self, from: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
        if self.stepwise {
            return beneath_stepwise::open_directory(from, path);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        Ok(rustix::fs::openat2(from, path, DIRECTORY, Mode::empty(), resolve)?)
    }
}

/// Whether this kernel, or the filter in front of it, lets `openat2` through.
pub(super) fn openat2_works(root: BorrowedFd<'_>) -> bool {
    let probe = rustix::fs::openat2(root, c".", DIRECTORY, Mode::empty(), ResolveFlags::BENEATH);
    !matches!(probe, Err(Errno::NOSYS | Errno::PERM))
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
        assert!(openat2_works(fd.as_fd()), "this test needs Linux 5.6");
        for stepwise in [false, true] {
            let mut dirs = Directories::new(fd.as_fd(), stepwise);
            for path in ["", "a/b/c", "a/b", "a/bc", "a", "a/b/c", ""] {
                let inode = rustix::fs::fstat(dirs.open(path.as_bytes()).unwrap()).unwrap().st_ino;
                assert_eq!(inode, fs::metadata(root.join(path)).unwrap().ino(), "{path} {stepwise}");
            }
            for path in ["out", "out/x", "a/in", "a/in/c", "..", "a/../..", "file", "missing", "/etc"] {
                assert!(dirs.open(path.as_bytes()).is_err(), "{path} {stepwise}");
            }
        }
    }

    #[test]
    fn a_deep_chain_holds_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let mut path = Vec::new();
        let fd = fs::File::open(root.path()).unwrap();
        let mut dirs = Directories::new(fd.as_fd(), false);
        for _ in 0..200 {
            rustix::fs::mkdirat(dirs.open(&path).unwrap(), "d", Mode::RWXU).unwrap();
            path.extend_from_slice(if path.is_empty() { b"d" } else { b"/d" });
            dirs.open(&path).unwrap();
            assert!(dirs.chain.len() <= OPEN_MAX);
        }
        dirs.open(b"d/d").unwrap();
    }
}
