//! Walks a tree without ever leaving it.
//!
//! Each directory is opened relative to its parent. Symbolic links and mount points are never entered. A tree may be deeper than a path
//! may be long, or than a process may have descriptors. So only the innermost [`OPEN_LIMIT`] directories stay open, and the way back up
//! is by `..`, which must lead to the directory that was seen on the way down. The names that are still to come are limited, too: a
//! hostile tree ends in an error and does not fill our memory.

use std::cmp::Ordering;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::dir::{self, DIRECTORY, Entry, FILE, TreeDir};
use super::error::{Error, Result};
use super::file::Plain;
use super::resolve::{self, Links, Way};

/// How many directories of one walk are open at once.
const OPEN_LIMIT: usize = 64;
/// How many names of one directory are read at most.
pub(crate) const NAMES_LIMIT: usize = 2_000_000;
/// How much memory all names that are still to come may take.
const HELD_LIMIT_BYTES: usize = 256 << 20;

/// Which of two names in one directory comes first.
pub(crate) type Order = fn(&Entry, &Entry) -> Ordering;

#[derive(Debug)]
struct Frame {
    name: CString,
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    names: std::vec::IntoIter<Entry>,
    held_bytes: usize,
}

/// A position in a tree: the directory we are in, and those above it up to where the walk began.
#[derive(Debug)]
pub struct Walk {
    top: PathBuf,
    frames: Vec<Frame>,
    order: Order,
    way: Way,
    held_bytes: usize,
    held_limit_bytes: usize,
}

impl TreeDir {
    /// Everything below, names of a directory in bytewise order.
    pub fn walk(&self) -> Result<Walk> {
        Walk::new(self)
    }
}

impl Walk {
    /// Begins in `top`. The names of a directory come in bytewise order.
    pub fn new(top: &TreeDir) -> Result<Self> {
        Self::in_order(top, |a, b| a.name.cmp(&b.name))
    }

    /// Begins in `top`. The names of a directory come in this order.
    pub fn in_order(top: &TreeDir, order: Order) -> Result<Self> {
        Self::bounded(top, order, HELD_LIMIT_BYTES)
    }

    pub(super) fn bounded(top: &TreeDir, order: Order, held_limit_bytes: usize) -> Result<Self> {
        // Opened anew: the listing needs its own position, and a descriptor of `O_PATH` cannot be listed.
        let top = top.open_dir("")?;
        let (fd, top, way) = top.into_parts();
        let mut walk = Self { top, frames: Vec::new(), order, way, held_bytes: 0, held_limit_bytes };
        walk.push(CString::default(), fd)?;
        Ok(walk)
    }

    /// The directory we are in.
    ///
    /// # Panics
    ///
    /// After [`Self::leave`] has returned `None`.
    pub fn here(&self) -> BorrowedFd<'_> {
        // `push` and `leave` open the innermost frame, and there is one until `leave` has returned `None`.
        self.frames.last().and_then(|frame| frame.fd.as_ref()).expect("the walk is in a directory").as_fd()
    }

    /// The next name in the directory we are in.
    pub fn next_name(&mut self) -> Option<Entry> {
        let frame = self.frames.last_mut()?;
        let next = frame.names.next();
        if let Some(entry) = &next {
            let cost = cost(entry);
            frame.held_bytes -= cost;
            self.held_bytes -= cost;
        }
        next
    }

    /// The status of a name in the directory we are in, of a link itself.
    pub fn stat(&self, name: &CStr) -> Result<Stat> {
        dir::stat_at(self.here(), name).map_err(|errno| Error::io("examine", self.shown(name), errno))
    }

    /// The status of the directory we are in.
    pub fn stat_here(&self) -> Result<Stat> {
        rustix::fs::fstat(self.here()).map_err(|errno| Error::io("examine", self.shown(c""), errno))
    }

    /// Opens a regular file of the directory we are in.
    pub fn open_file(&self, name: &CStr) -> Result<Plain> {
        match rustix::fs::openat(self.here(), name, FILE, Mode::empty()) {
            Ok(fd) => Plain::new(fd, self.shown(name)),
            Err(Errno::LOOP | Errno::NXIO) => Err(Error::NotRegular { path: self.shown(name) }),
            Err(errno) => Err(Error::io("open", self.shown(name), errno)),
        }
    }

    /// The text of a link in the directory we are in.
    pub fn read_link(&self, name: &CStr) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(self.here(), name, Vec::new())
            .map(CString::into_bytes)
            .map_err(|errno| Error::io("read the link", self.shown(name), errno))
    }

    /// Goes down into a directory.
    pub fn enter(&mut self, name: &CStr) -> Result<()> {
        let fd = open_child(self.way, self.here(), name).map_err(|errno| Error::open(&self.shown(name), errno))?;
        self.push(name.to_owned(), fd)
    }

    /// Goes up. Returns the name of the directory that it left, or `None` at the end of the walk.
    pub fn leave(&mut self) -> Result<Option<CString>> {
        let Some(child) = self.frames.pop() else { return Ok(None) };
        self.held_bytes -= child.held_bytes;
        let Some(parent) = self.frames.last_mut() else { return Ok(None) };
        if parent.fd.is_none() {
            let opened = child.fd.as_ref().ok_or(Errno::BADF).and_then(|from| reopen_parent(from.as_fd(), parent.identity));
            match opened {
                Ok(Some(fd)) => parent.fd = Some(fd),
                Ok(None) => return Err(Error::Moved { path: self.shown(&child.name) }),
                Err(errno) => return Err(Error::io("leave", self.shown(&child.name), errno)),
            }
        }
        Ok(Some(child.name))
    }

    /// How many directories deep we are, from where the walk began.
    pub fn depth(&self) -> usize {
        self.frames.len().saturating_sub(1)
    }

    /// Path of a name in the directory we are in, relative to where the walk began; of an empty name, the directory's. For archives,
    /// manifests and messages: nothing opens it.
    pub fn relative(&self, name: &CStr) -> Vec<u8> {
        let mut path = Vec::new();
        for part in self.frames.iter().skip(1).map(|frame| frame.name.as_c_str()).chain([name]) {
            if !path.is_empty() && !part.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part.to_bytes());
        }
        path
    }

    pub fn shown(&self, name: &CStr) -> PathBuf {
        let relative = self.relative(name);
        if relative.is_empty() { self.top.clone() } else { self.top.join(OsString::from_vec(relative)) }
    }

    fn push(&mut self, name: CString, fd: OwnedFd) -> Result<()> {
        let failed = |errno| Error::io("list", self.shown(&name), errno);
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        let Some(mut names) = dir::list(fd.as_fd(), NAMES_LIMIT).map_err(failed)? else {
            return Err(Error::TooMany { path: self.shown(&name), limit: NAMES_LIMIT });
        };
        let held_bytes = names.iter().map(cost).sum();
        if self.held_bytes + held_bytes > self.held_limit_bytes {
            return Err(Error::TooWide { path: self.shown(&name), limit_bytes: self.held_limit_bytes });
        }
        self.held_bytes += held_bytes;
        names.sort_unstable_by(self.order);
        self.frames.push(Frame { name, fd: Some(fd), identity: (stat.st_dev, stat.st_ino), names: names.into_iter(), held_bytes });
        if let Some(distant) = self.frames.len().checked_sub(OPEN_LIMIT + 1) {
            self.frames[distant].fd = None;
        }
        Ok(())
    }
}

/// How much memory one name takes.
fn cost(entry: &Entry) -> usize {
    entry.name.as_bytes_with_nul().len() + std::mem::size_of::<Entry>()
}

/// Opens a directory by its name in `parent`. `EXDEV` if something is mounted on it; `ELOOP` or `ENOTDIR` if it is not a directory.
pub(super) fn open_child(way: Way, parent: BorrowedFd<'_>, name: &CStr) -> std::result::Result<OwnedFd, Errno> {
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    // Without O_NOFOLLOW: with it the kernel answers ENOTDIR for a link.
    resolve::open(way, parent, name, DIRECTORY - OFlags::NOFOLLOW, Mode::empty(), Links::Refused)
}

/// Opens the parent of a directory. `None` if it is not the one that we came from.
pub(super) fn reopen_parent(child: BorrowedFd<'_>, identity: (u64, u64)) -> std::result::Result<Option<OwnedFd>, Errno> {
    let fd = rustix::fs::openat(child, c"..", DIRECTORY, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok(((stat.st_dev, stat.st_ino) == identity && FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then_some(fd))
}
