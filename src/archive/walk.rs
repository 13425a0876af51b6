//! Walks a directory tree in the order of an archive: bytewise by the path that will be written, with a slash after directories.
//!
//! All entries of a directory begin with its path and a slash. So it is enough to sort each directory by name, with directories as
//! `name/`, and the whole tree is never in memory.
//!
//! A bare layer can be walked as well. Then what it hides of the layers below is found, too, and comes first in each directory, as the
//! OCI image format wants: some readers extract while they read.

use std::cmp::Ordering;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::error::{Error, Oddity, Result};
use super::exclude::{Excludes, Verdict};
use super::shown::EntryName;
use super::xattr;
use crate::beneath;
use crate::beneath::{Entry, Order, Plain, TreeDir, Walk};

/// Something found on the way.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Path below the root, without leading `./` or trailing slash; the root is empty.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
    pub(super) what: What,
    /// The attributes that we write, sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum What {
    Directory,
    File(Plain),
    Symlink(Vec<u8>),
    Fifo,
    /// In a bare layer: the path does not exist in the layers below any more.
    Whiteout,
    /// In a bare layer: the path is a directory, and its contents in the layers below are hidden.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A merged tree. A whiteout in it is an error.
    Merged,
    /// A layer in overlayfs upper format, for an OCI image.
    Layer,
    /// The same as it is, to become the same layer again.
    Exact,
}

/// Calls `visit` for the root and everything below, parents first.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    view: View,
    excludes: &Excludes,
    visit: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let order: Order = match view {
        View::Merged | View::Exact => as_written,
        View::Layer => hidden_first,
    };
    let mut at = Walk::in_order(&TreeDir::borrowed(root, "")?, order)?;
    directory(&at, b"", view, visit)?;
    loop {
        while let Some(entry) = at.next_name() {
            let path = at.relative(&entry.name);
            match excludes.verdict(&path) {
                Verdict::Leave => continue,
                Verdict::Lead if !entry.is_dir() => continue,
                Verdict::Take | Verdict::Lead => {}
            }
            if entry.is_dir() {
                at.enter(&entry.name)?;
                directory(&at, &path, view, visit)?;
            } else {
                leaf(&at, &entry, &path, view, visit)?;
            }
        }
        if at.leave()?.is_none() {
            return Ok(());
        }
    }
}

/// Calls `visit` for everything below the root that would be written, without opening it, until `over` is true.
pub(super) fn glance(root: BorrowedFd<'_>, excludes: &Excludes, over: &AtomicBool, visit: &mut dyn FnMut(&Stat)) -> Result<()> {
    let mut at = Walk::in_order(&TreeDir::borrowed(root, "")?, as_written)?;
    loop {
        while let Some(entry) = at.next_name() {
            if over.load(atomic::Ordering::Relaxed) {
                return Ok(());
            }
            match excludes.verdict(&at.relative(&entry.name)) {
                Verdict::Leave => continue,
                Verdict::Lead if !entry.is_dir() => continue,
                Verdict::Take | Verdict::Lead => {}
            }
            visit(&at.stat(&entry.name)?);
            if entry.is_dir() {
                at.enter(&entry.name)?;
            }
        }
        if at.leave()?.is_none() {
            return Ok(());
        }
    }
}

/// Bytewise by what is written, with a slash after a directory.
fn as_written(a: &Entry, b: &Entry) -> Ordering {
    let (short, long) = (a.name.to_bytes(), b.name.to_bytes());
    // The slash can change the order only if one name is the beginning of the other.
    if !short.starts_with(long) && !long.starts_with(short) {
        return short.cmp(long);
    }
    let written = |entry: &Entry| [entry.name.to_bytes(), if entry.is_dir() { b"/" } else { b"" }].concat();
    written(a).cmp(&written(b))
}

/// The same, but first what hides something of the layers below.
fn hidden_first(a: &Entry, b: &Entry) -> Ordering {
    b.whiteout.cmp(&a.whiteout).then_with(|| as_written(a, b))
}

/// Gives the directory that the walk has just entered to `visit`.
fn directory(at: &Walk, path: &[u8], view: View, visit: &mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<()> {
    let stat = at.stat_here()?;
    let mut xattrs = attributes(at.here(), path)?;
    let opaque = view != View::Merged && is_opaque(at.here(), path)?;
    if opaque && view == View::Exact {
        xattrs.push((xattr::OPAQUE.to_vec(), xattr::IS_OPAQUE.to_vec()));
        xattrs.sort_unstable();
    }
    visit(Found { path, stat, what: What::Directory, xattrs })?;
    if opaque && view == View::Layer {
        visit(Found { path, stat, what: What::Opaque, xattrs: Vec::new() })?;
    }
    Ok(())
}

fn leaf(at: &Walk, entry: &Entry, path: &[u8], view: View, visit: &mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<()> {
    let odd = |what| Err(Error::Unpackable { entry: EntryName::new(path), what });
    let stat = at.stat(&entry.name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = match at.open_file(&entry.name) {
                Err(beneath::Error::NotRegular { .. }) => return odd(Oddity::Changed),
                file => file?,
            };
            let xattrs = attributes(file.as_fd(), path)?;
            visit(Found { path, stat: file.stat, what: What::File(file), xattrs })
        }
        FileType::Symlink => {
            let target = at.read_link(&entry.name)?;
            visit(Found { path, stat, what: What::Symlink(target), xattrs: Vec::new() })
        }
        FileType::Fifo => visit(Found { path, stat, what: What::Fifo, xattrs: Vec::new() }),
        // No archive holds one, and without it the layer is another one.
        FileType::Socket if view == View::Exact => odd(Oddity::Socket),
        // A socket exists only while its program runs. There is nothing to restore.
        FileType::Socket => Ok(()),
        FileType::CharacterDevice if stat.st_rdev == 0 && view != View::Merged => {
            visit(Found { path, stat, what: What::Whiteout, xattrs: Vec::new() })
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => odd(Oddity::Whiteout),
        // Only real root can have made one, and each boot makes those in `/dev` again.
        FileType::CharacterDevice | FileType::BlockDevice if path.starts_with(b"dev/") && view != View::Exact => Ok(()),
        FileType::CharacterDevice | FileType::BlockDevice => odd(Oddity::Device),
        // It changed after the listing.
        FileType::Directory | FileType::Unknown => odd(Oddity::Changed),
    }
}

/// Whether a directory of a layer hides what the layers below have in it. Our overlays are mounted with `userxattr`, so the mark is a
/// `user.` attribute.
fn is_opaque(fd: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(fd, xattr::OPAQUE, value.as_mut_slice()) {
        Ok(len) => Ok(len == 1 && value == *xattr::IS_OPAQUE),
        // `ERANGE`: the value is longer than one byte, so it is not `y`.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(entry_error("inspect", path, errno)),
    }
}

/// The attributes of an open file that we write, in the form that we write.
fn attributes(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let fail = |attribute: &[u8], errno: Errno| Error::Xattr {
        action: "read",
        attribute: EntryName::new(attribute),
        entry: EntryName::new(path),
        source: errno.into(),
    };
    // Nearly every file has no attributes. This answers it in one call.
    let mut names = match rustix::fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => vec![0; xattr::VALUE_BYTES_MAX],
        Err(errno) => return Err(fail(b"*", errno)),
    };
    let len = rustix::fs::flistxattr(fd, names.as_mut_slice()).map_err(|errno| fail(b"*", errno))?;
    let mut found = Vec::new();
    for name in names[..len].split(|b| *b == 0).filter(|name| xattr::travels(name)) {
        let mut value = vec![0; xattr::VALUE_BYTES_MAX];
        let len = rustix::fs::fgetxattr(fd, name, value.as_mut_slice()).map_err(|errno| fail(name, errno))?;
        value.truncate(len);
        if name == xattr::CAPABILITY {
            value = xattr::portable_capability(&value);
        }
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}

fn entry_error(action: &'static str, path: &[u8], errno: Errno) -> Error {
    let entry = EntryName::new(if path.is_empty() { b"." } else { path });
    Error::Entry { action, entry, source: errno.into() }
}
