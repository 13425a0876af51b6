//! Opens a directory component by component, for kernels and seccomp filters without `openat2`.
//!
//! Each step is an `openat` of one name with `O_NOFOLLOW | O_DIRECTORY`, so neither a symbolic link nor `..` can be taken. Mounts
//! are noticed by their device number, which is what `RESOLVE_NO_XDEV` would have refused (bind mounts of the same file system
//! excepted: nobody but us can have made one in the private mount namespaces where this runs).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::beneath::DIRECTORY;

pub(super) fn open_directory(from: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let device = rustix::fs::fstat(from)?.st_dev;
    let mut current: Option<OwnedFd> = None;
    for component in path.split(|b| *b == b'/') {
        if matches!(component, b"" | b"." | b"..") {
            return Err(Errno::XDEV.into());
        }
        let parent = current.as_ref().map_or(from, OwnedFd::as_fd);
        let next = rustix::fs::openat(parent, component, DIRECTORY, Mode::empty())?;
        if rustix::fs::fstat(&next)?.st_dev != device {
            return Err(Errno::XDEV.into());
        }
        current = Some(next);
    }
    current.ok_or_else(|| Errno::INVAL.into())
}
