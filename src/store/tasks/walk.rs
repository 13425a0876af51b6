//! Walking a tree without ever leaving it.
//!
//! Each directory is opened relative to its parent, symbolic links and mount points are never entered, and a tree may be deeper than paths may be
//! long or a process may have descriptors: only the innermost [`OPEN_LIMIT`] directories are kept open, and the way back up is by
//! `..`, checked against what was seen on the way down.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How many directories of one walk are open at once.
const OPEN_LIMIT: usize = 64;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why a tree could not be walked to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A call failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Something is mounted in the tree, and what is mounted there is not ours to touch.
    #[error("something is mounted on `{}`", path.display())]
    Mounted {
        /// The mount point.
        path: PathBuf,
    },
    /// Somebody moved a directory while we were in it.
    #[error("`{}` was moved while it was read", path.display())]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// A manifest is not one of ours.
    #[error("`{}` is damaged: line {line}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Its first bad line, from 1.
        line: usize,
    },
}

impl TreeError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }
}

/// Opens a directory by its name in `parent`; `EXDEV` if something is mounted on it, `ELOOP` or `ENOTDIR` if it is no directory.
pub(in super::super) fn open_child(parent: impl AsFd, name: impl AsRef<OsStr>) -> Result<OwnedFd, Errno> {
    let (parent, name) = (parent.as_fd(), name.as_ref());
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), resolve) {
        // Older seccomp filters, as of container engines, do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            let fd = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
            // Binds of the same file system are not noticed here.
            if rustix::fs::fstat(&fd)?.st_dev == rustix::fs::fstat(parent)?.st_dev { Ok(fd) } else { Err(Errno::XDEV) }
        }
        other => other,
    }
}

/// One name in a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: CString,
    pub(super) kind: FileType,
}

#[derive(Debug)]
struct Frame {
    name: CString,
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    names: std::vec::IntoIter<Name>,
}

/// A position in a tree: the directory we are in, and those above it up to where the walk began.
#[derive(Debug)]
pub(super) struct Walk {
    top: PathBuf,
    frames: Vec<Frame>,
}

impl Walk {
    /// Begins in `fd`; `top` is what it is called in errors.
    pub(super) fn new(fd: OwnedFd, top: &Path) -> Result<Self, TreeError> {
        let mut walk = Self { top: top.to_owned(), frames: Vec::new() };
        walk.push(CString::default(), fd)?;
        Ok(walk)
    }

    /// Begins at `top`, which may not be a symbolic link.
    pub(super) fn open(top: &Path) -> Result<Self, TreeError> {
        let fd = rustix::fs::open(top, DIRECTORY, Mode::empty()).map_err(|e| TreeError::io("open", top, e))?;
        Self::new(fd, top)
    }

    /// The directory we are in.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        // The innermost frame is opened by `push` and by `leave`, and there is always one until `leave` has returned `None`.
        self.frames.last().and_then(|f| f.fd.as_ref()).expect("the walk is in a directory").as_fd()
    }

    /// The next name in the directory we are in.
    pub(super) fn next_name(&mut self) -> Option<Name> {
        self.frames.last_mut()?.names.next()
    }

    /// Goes down into a directory.
    pub(super) fn enter(&mut self, name: &CStr) -> Result<(), Errno> {
        let fd = open_child(self.dir(), OsStr::from_bytes(name.to_bytes()))?;
        self.enter_opened(name, fd)
    }

    /// Goes down into a directory opened already.
    pub(super) fn enter_opened(&mut self, name: &CStr, fd: OwnedFd) -> Result<(), Errno> {
        self.try_push(name.to_owned(), fd)
    }

    /// Goes up. The name of the directory that was left, or nothing if the walk has ended.
    pub(super) fn leave(&mut self) -> Result<Option<CString>, TreeError> {
        let Some(child) = self.frames.pop() else { return Ok(None) };
        let path = self.path_of(&child.name);
        let Some(parent) = self.frames.last_mut() else { return Ok(None) };
        if parent.fd.is_none() {
            let from = child.fd.as_ref().expect("the innermost directory is open");
            let fd = rustix::fs::openat(from, c"..", DIRECTORY, Mode::empty()).map_err(|e| TreeError::io("leave", &path, e))?;
            let stat = rustix::fs::fstat(&fd).map_err(|e| TreeError::io("leave", &path, e))?;
            if (stat.st_dev, stat.st_ino) != parent.identity {
                return Err(TreeError::Moved { path });
            }
            parent.fd = Some(fd);
        }
        Ok(Some(child.name))
    }

    /// Path of a name in the directory we are in, relative to the beginning.
    pub(super) fn relative(&self, name: &CStr) -> Vec<u8> {
        let mut path = Vec::new();
        for part in self.frames.iter().skip(1).map(|f| f.name.as_c_str()).chain([name]) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part.to_bytes());
        }
        path
    }

    /// The same from the root of the file system, for messages.
    pub(super) fn path_of(&self, name: &CStr) -> PathBuf {
        let relative = self.relative(name);
        if relative.is_empty() { self.top.clone() } else { self.top.join(std::ffi::OsString::from_vec(relative)) }
    }

    fn push(&mut self, name: CString, fd: OwnedFd) -> Result<(), TreeError> {
        let path = self.path_of(&name);
        self.try_push(name, fd).map_err(|e| TreeError::io("list", path, e))
    }

    fn try_push(&mut self, name: CString, fd: OwnedFd) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let names = list(&fd)?;
        self.frames.push(Frame { name, fd: Some(fd), identity: (stat.st_dev, stat.st_ino), names: names.into_iter() });
        if let Some(distant) = self.frames.len().checked_sub(OPEN_LIMIT + 1) {
            self.frames[distant].fd = None;
        }
        Ok(())
    }
}

/// All names in a directory, sorted, so that each walk has the same order.
fn list(fd: &OwnedFd) -> Result<Vec<Name>, Errno> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut reader = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(Name { name: name.to_owned(), kind: entry.file_type() });
        }
    }
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}
