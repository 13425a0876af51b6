//! Walks a directory tree in the order of an archive: bytewise by the path that will be written, directories with their slash.
//!
//! Since a directory's entries all start with its path and slash, sorting each directory by name, directories taken as
//! `name/`, gives that order over the whole tree without ever holding it in memory.
//!
//! A bare layer can be walked as well: what it hides of the layers below is then found too. In each directory that comes first,
//! as the OCI image format wishes, since some readers extract as they read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::DIRECTORY;
use super::error::{Error, Oddity, Result};
use super::exclude::{Excludes, Verdict};
use super::name::EntryName;
use super::xattr;

/// Something found on the way.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Path below the root, without leading `./` or trailing slash; the root is empty.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
    pub(super) what: What,
    /// Attributes that travel, sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum What {
    Directory,
    File(OwnedFd),
    Symlink(Vec<u8>),
    Fifo,
    /// Of a bare layer: the path is not in the layers below any more.
    Whiteout,
    /// Of a bare layer: nothing below the path, a directory, is in the layers below any more.
    Opaque,
}

/// What is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A merged tree; a whiteout is an error.
    Merged,
    /// A layer in overlayfs upper format.
    Layer,
}

#[derive(Debug)]
struct Frame {
    fd: OwnedFd,
    /// Sorted descending: the next one is the last.
    names: Vec<(Vec<u8>, Entry)>,
    path_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    Whiteout,
    Other,
}

/// Calls `visit` for the root and everything below, parents first.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    view: View,
    excludes: &Excludes,
    visit: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let mut stack = vec![enter(root, b".", &path, view, visit)?];
    while let Some(frame) = stack.last_mut() {
        path.truncate(frame.path_len);
        let Some((name, entry)) = frame.names.pop() else {
            stack.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        match excludes.verdict(&path) {
            Verdict::Leave => continue,
            Verdict::Lead if entry != Entry::Directory => continue,
            Verdict::Take | Verdict::Lead => {}
        }
        if entry == Entry::Directory {
            let next = enter(frame.fd.as_fd(), &name, &path, view, visit)?;
            stack.push(next);
        } else {
            leaf(frame.fd.as_fd(), &name, &path, view, visit)?;
        }
    }
    Ok(())
}

/// Opens a directory, shows it, and reads its names.
fn enter(
    parent: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    view: View,
    visit: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<Frame> {
    let fail = |action| move |errno: Errno| entry_error(action, path, errno);
    let fd = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).map_err(fail("open"))?;
    let stat = rustix::fs::fstat(&fd).map_err(fail("inspect"))?;
    visit(Found { path, stat, what: What::Directory, xattrs: attributes(fd.as_fd(), path)? })?;
    if view == View::Layer && is_opaque(fd.as_fd(), path)? {
        visit(Found { path, stat, what: What::Opaque, xattrs: Vec::new() })?;
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(&fd).map_err(fail("read the directory"))? {
        let entry = entry.map_err(fail("read the directory"))?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let found = match entry.file_type() {
            FileType::Directory => Entry::Directory,
            FileType::Unknown | FileType::CharacterDevice => {
                let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("inspect an entry of"))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => Entry::Directory,
                    FileType::CharacterDevice if stat.st_rdev == 0 && view == View::Layer => Entry::Whiteout,
                    _ => Entry::Other,
                }
            }
            _ => Entry::Other,
        };
        names.push((name.to_vec(), found));
    }
    names.sort_unstable_by(|(a, a_kind), (b, b_kind)| {
        let (a_hides, b_hides) = (*a_kind == Entry::Whiteout, *b_kind == Entry::Whiteout);
        if a_hides != b_hides {
            return a_hides.cmp(&b_hides);
        }
        let written = |name: &[u8], kind| -> Vec<u8> { [name, if kind == Entry::Directory { &b"/"[..] } else { b"" }].concat() };
        // Only names that are a prefix of the other need the slash to be compared.
        match (b.starts_with(a), a.starts_with(b)) {
            (false, false) => b.cmp(a),
            _ => written(b, *b_kind).cmp(&written(a, *a_kind)),
        }
    });
    Ok(Frame { fd, names, path_len: path.len() })
}

fn leaf(
    parent: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    view: View,
    visit: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let fail = |action| move |errno: Errno| entry_error(action, path, errno);
    let odd = |what| Err(Error::Unpackable { entry: EntryName::new(path), what });
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("inspect"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(fail("open"))?;
            let opened = rustix::fs::fstat(&fd).map_err(fail("inspect"))?;
            if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
                return odd(Oddity::Changed);
            }
            let xattrs = attributes(fd.as_fd(), path)?;
            visit(Found { path, stat: opened, what: What::File(fd), xattrs })
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(fail("read the link"))?.into_bytes();
            visit(Found { path, stat, what: What::Symlink(target), xattrs: Vec::new() })
        }
        FileType::Fifo => visit(Found { path, stat, what: What::Fifo, xattrs: Vec::new() }),
        // A socket is an open program's; nothing can be restored of it.
        FileType::Socket => Ok(()),
        FileType::CharacterDevice if stat.st_rdev == 0 && view == View::Layer => {
            visit(Found { path, stat, what: What::Whiteout, xattrs: Vec::new() })
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => odd(Oddity::Whiteout),
        // Only real root can have made one, and every boot makes them anew.
        FileType::CharacterDevice | FileType::BlockDevice if path.starts_with(b"dev/") => Ok(()),
        FileType::CharacterDevice | FileType::BlockDevice => odd(Oddity::Device),
        // Changed between the listing and now.
        FileType::Directory | FileType::Unknown => odd(Oddity::Changed),
    }
}

/// Whether a directory of a layer hides all that layers below have in it. Ours are mounted with `userxattr`.
fn is_opaque(fd: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(fd, xattr::OPAQUE, value.as_mut_slice()) {
        Ok(len) => Ok(len == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(entry_error("inspect", path, errno)),
    }
}

/// The attributes of an open file that travel, in the form that travels.
fn attributes(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let fail = |attribute: &[u8], errno: Errno| Error::Xattr {
        action: "read",
        attribute: EntryName::new(attribute),
        entry: EntryName::new(path),
        source: errno.into(),
    };
    // One call for nearly every file: nothing there.
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
