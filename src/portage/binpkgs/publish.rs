//! Moving packages into a pool: under its lock, by rename, the index last.
//!
//! ```text
//! session's place                       pool
//!   a/b/b-1-1.gpkg.tar   --rename-->      a/b/b-1-1.gpkg.tar       (copied through .incoming/ from another file system)
//!   Packages             --merged-->      .incoming/Packages --rename--> Packages
//! ```
//!
//! The session's files are hostile: only regular files with a name that Portage would have given are taken, and of its index only stanzas
//! that agree with a file in size and time. What a package *contains* is as trustworthy as the session that built it, which is why
//! throw-away sessions have pools of their own.
//!
//! Sessions trust the index, because Portage 3.0.83 otherwise opens every package at each start (it misses `USER_PATCHES` in the stanzas that
//! it wrote itself). A package without a stanza is therefore not used, which is safe; a stanza without its package would be an error, which
//! is why [`session_index`] leaves those out that somebody deleted by hand.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, Timestamps};
use rustix::io::Errno;

use super::contents::{self, Contents};
use super::{Error, INDEX, Index, LOCK, PackageFile, Result};
use crate::portage::untrusted;
use crate::progress::{Event, Observer};

/// Nothing of Gentoo's comes near; a sparse file may claim more.
pub const MAX_PACKAGE_BYTES: u64 = 16 << 30;
const MAX_INDEX_BYTES: u64 = 64 << 20;
const MAX_ENTRIES: usize = 50_000;
const INCOMING: &str = ".incoming";

/// What became of the packages of a session. Paths are relative to the pool, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// New in the pool.
    pub added: Vec<String>,
    /// Put in place of an older build of the same name.
    pub replaced: Vec<String>,
    /// Left where they were.
    pub skipped: Vec<Skipped>,
}

/// A package that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Relative path.
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// Why a package was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The pool has this very file.
    AlreadyThere,
    /// The pool has a newer build of the same name.
    Older,
    /// Empty: a name that Portage had reserved for a build that failed.
    Empty,
    /// Larger than [`MAX_PACKAGE_BYTES`].
    TooBig,
    /// A link, device or whiteout.
    NotAFile,
    /// The name is not one that Portage gives.
    BadName,
    /// Owned by another id, and not readable.
    Unreadable,
    /// It holds a device or a FIFO, which Portage packs but refuses to unpack.
    HoldsDevices,
    /// It is cut off, or no package at all.
    Broken,
}

/// Moves what a session built into its pool. The session's processes must be gone. `now_secs` (since the epoch) becomes the index's time.
///
/// Waits for the pool's lock, telling `observer` if it has to.
pub fn publish(session_pkgdir: &Path, pool: &Path, now_secs: i64, observer: &dyn Observer) -> Result<Published> {
    let source = untrusted::open_root(session_pkgdir).map_err(|e| Error::read(session_pkgdir, e))?;
    let (found, mut skipped) = packages_in(source.as_fd(), session_pkgdir)?;
    let pool = LockedPool::lock(pool, observer)?;
    if !found.is_empty() {
        // The data first, all at once; a rename that survives a power cut must not name an empty file.
        rustix::fs::syncfs(&source).map_err(|e| Error::io("sync", session_pkgdir, e))?;
    }
    let mut published = pool.take(source.as_fd(), session_pkgdir, &found, Transfer::Move, now_secs)?;
    published.skipped.append(&mut skipped);
    published.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(published)
}

/// Puts packages of one pool (throw-away) into another (release) as well, those that `select` chooses.
pub fn promote(
    from: &Path,
    to: &Path,
    select: &mut dyn FnMut(&PackageFile) -> bool,
    now_secs: i64,
    observer: &dyn Observer,
) -> Result<Published> {
    let source = LockedPool::lock(from, observer)?;
    let (mut found, _) = packages_in(source.dir.as_fd(), from)?;
    found.retain(select);
    LockedPool::lock(to, observer)?.take(source.dir.as_fd(), from, &found, Transfer::Link, now_secs)
}

/// The index for a session that sees one pool, or several stacked, topmost first: of stacked `Packages` files only the topmost would be
/// seen. Belongs into the session's own place before it starts. Only packages that are there are listed. [`None`] when no pool has any.
pub fn session_index(pools: &[&Path], now_secs: i64) -> Result<Option<String>> {
    let mut merged: Option<Index> = None;
    for pool in pools {
        let dir = match untrusted::open_root(pool) {
            Err(e) if e.is_absent() => continue,
            dir => dir.map_err(|e| Error::read(pool, e))?,
        };
        let mut index = read_index(dir.as_fd(), pool)?;
        index.packages.retain(|path, stanza| {
            rustix::fs::statat(&dir, path.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| describes(stanza, &stat))
        });
        match &mut merged {
            None if index == Index::default() => {}
            None => merged = Some(index),
            Some(merged) => {
                for (path, stanza) in index.packages {
                    merged.packages.entry(path).or_insert(stanza);
                }
            }
        }
    }
    Ok(merged.map(|index| index.render(now_secs)))
}

/// The packages in `dir`, two levels deep at most, and what was passed over and may surprise somebody.
pub(super) fn packages_in(dir: BorrowedFd<'_>, path: &Path) -> Result<(Vec<PackageFile>, Vec<Skipped>)> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(at) = todo.pop() {
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { &at };
        let opened = match untrusted::open_dir_in(dir, here) {
            Ok(opened) => opened,
            Err(error) if at.as_os_str().is_empty() => return Err(Error::read(path, error)),
            Err(error) => {
                tracing::debug!(%error, "not searched for binary packages");
                continue;
            }
        };
        for (name, kind) in untrusted::entries(&opened, here, MAX_ENTRIES).map_err(|e| Error::read(path, e))? {
            let relative = at.join(&name);
            let text = relative.to_string_lossy().into_owned();
            let package = PackageFile::parse(&text);
            match (kind, package) {
                (FileType::Directory, None) if at.components().count() < 2 && !name.starts_with('.') => todo.push(relative),
                (FileType::RegularFile, Some(package)) => found.push(package),
                (FileType::Directory, _) => {}
                (_, Some(_)) => skipped.push(Skipped { path: text, reason: Reason::NotAFile }),
                (_, None) if [".gpkg.tar", ".tbz2", ".xpak"].iter().any(|ext| name.ends_with(ext)) => {
                    skipped.push(Skipped { path: text, reason: Reason::BadName });
                }
                _ => {}
            }
        }
    }
    found.sort();
    Ok((found, skipped))
}

pub(super) fn read_index(dir: BorrowedFd<'_>, path: &Path) -> Result<Index> {
    match untrusted::read_in(dir, Path::new(INDEX), MAX_INDEX_BYTES) {
        Ok(bytes) => Ok(Index::parse(&String::from_utf8_lossy(&bytes))),
        Err(e) if e.is_absent() => Ok(Index::default()),
        Err(e) => Err(Error::read(path, e)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Move,
    Link,
}

/// A pool that nobody else adds to now.
pub(super) struct LockedPool {
    path: PathBuf,
    dir: OwnedFd,
    _lock: OwnedFd,
}

impl LockedPool {
    pub(super) fn lock(path: &Path, observer: &dyn Observer) -> Result<Self> {
        let dir = untrusted::open_root(path).map_err(|e| Error::read(path, e))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |e: Errno| Error::io("lock", &path.join(LOCK), e);
        let lock = rustix::fs::openat(&dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                observer.event(&Event::Note("waiting for another run to finish with the binary package pool"));
                rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive)).map_err(failed)?;
            }
            done => done.map_err(failed)?,
        }
        let pool = Self { path: path.to_owned(), dir, _lock: lock };
        pool.clear_incoming()?;
        Ok(pool)
    }

    /// Its directory.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What a killed run left half copied.
    fn clear_incoming(&self) -> Result<()> {
        let incoming = self.path.join(INCOMING);
        match std::fs::remove_dir_all(&incoming) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &incoming, e)),
            _ => Ok(()),
        }
    }

    fn take(
        &self,
        source: BorrowedFd<'_>,
        source_path: &Path,
        found: &[PackageFile],
        transfer: Transfer,
        now_secs: i64,
    ) -> Result<Published> {
        let mut published = Published::default();
        for package in found {
            match self.place(source, source_path, package, transfer)? {
                Placed::Added => published.added.push(package.path.clone()),
                Placed::Replaced => published.replaced.push(package.path.clone()),
                Placed::Skipped(reason) => published.skipped.push(Skipped { path: package.path.clone(), reason }),
            }
        }
        let index = read_index(source, source_path).unwrap_or_else(|error| {
            tracing::debug!(%error, "packages go into the pool without what the session's index says of them");
            Index::default()
        });
        self.merge_index(index, &published, now_secs)?;
        Ok(published)
    }

    fn place(&self, source: BorrowedFd<'_>, source_path: &Path, package: &PackageFile, transfer: Transfer) -> Result<Placed> {
        let path = Path::new(&package.path);
        let from = source_path.join(path);
        let (file, size) = match untrusted::open_file_in(source, path) {
            Ok(opened) => opened,
            Err(untrusted::Error::NotRegular { .. }) => return Ok(Placed::Skipped(Reason::NotAFile)),
            Err(untrusted::Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Placed::Skipped(Reason::Unreadable));
            }
            Err(e) => return Err(Error::read(source_path, e)),
        };
        if size == 0 {
            return Ok(Placed::Skipped(Reason::Empty));
        }
        if size > MAX_PACKAGE_BYTES {
            return Ok(Placed::Skipped(Reason::TooBig));
        }
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io("examine", &from, e))?;
        let there = self.stat(path)?;
        if let Some(there) = &there {
            if same_file_data(&file, &stat, self.dir.as_fd(), path, there).map_err(|e| Error::io("compare", &from, e))? {
                return Ok(Placed::Skipped(Reason::AlreadyThere));
            }
            if (there.st_mtime, there.st_mtime_nsec) > (stat.st_mtime, stat.st_mtime_nsec) {
                return Ok(Placed::Skipped(Reason::Older));
            }
        }
        match contents::examine(&file, &package.path).map_err(|e| Error::io("examine", &from, e))? {
            Contents::Fine => {}
            Contents::Devices => return Ok(Placed::Skipped(Reason::HoldsDevices)),
            Contents::Broken => return Ok(Placed::Skipped(Reason::Broken)),
        }
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(self.path.join(parent)).map_err(|e| Error::io("create", &self.path.join(parent), e))?;
        if !self.placed_without_copy(source, path, &file, &stat, transfer).map_err(|e| Error::io("publish", &from, e))? {
            self.copy(file, &stat, path)?;
        }
        Ok(if there.is_some() { Placed::Replaced } else { Placed::Added })
    }

    /// `false` if only a copy can do it: another file system, a file of another owner, or one that the session has by another name as well.
    fn placed_without_copy(
        &self,
        source: BorrowedFd<'_>,
        path: &Path,
        file: &File,
        stat: &Stat,
        transfer: Transfer,
    ) -> io::Result<bool> {
        let other_name = transfer == Transfer::Move && stat.st_nlink > 1;
        if stat.st_uid != rustix::process::geteuid().as_raw() || other_name {
            return Ok(false);
        }
        // The same file goes into the pool, whatever bits its session has set: a set-id program of the user's is no package.
        if stat.st_mode & 0o7777 != 0o644 {
            rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let from = untrusted::open_dir_in(source, parent).map_err(io::Error::other)?;
        let done = match transfer {
            Transfer::Move => {
                rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)?;
                rustix::fs::renameat(&from, name, &self.dir, path)
            }
            Transfer::Link => {
                std::fs::create_dir_all(self.path.join(INCOMING))?;
                let temporary = Path::new(INCOMING).join(name);
                match rustix::fs::linkat(&from, name, &self.dir, &temporary, AtFlags::empty()) {
                    Ok(()) => rustix::fs::renameat(&self.dir, &temporary, &self.dir, path),
                    failed => failed,
                }
            }
        };
        match done {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn copy(&self, file: File, stat: &Stat, path: &Path) -> Result<()> {
        let temporary = self.path.join(INCOMING).join(path.file_name().unwrap_or(path.as_os_str()));
        let failed = |e: io::Error| Error::io("write", &temporary, e);
        let copy = || -> io::Result<()> {
            std::fs::create_dir_all(self.path.join(INCOMING))?;
            let mut out = File::create(&temporary)?;
            // Never more than was examined, should the file still grow.
            io::copy(&mut file.take(MAX_PACKAGE_BYTES), &mut out)?;
            set_mtime(&out, stat.st_mtime, stat.st_mtime_nsec)?;
            out.sync_all()
        };
        copy().map_err(failed)?;
        let target = self.path.join(path);
        std::fs::rename(&temporary, &target).map_err(|e| Error::io("write", &target, e))
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(Error::io("examine", &self.path.join(path), e)),
        }
    }

    /// Adds the stanzas of `other` that describe files of the pool, and drops those whose file is gone.
    fn merge_index(&self, other: Index, published: &Published, now_secs: i64) -> Result<()> {
        let before = read_index(self.dir.as_fd(), &self.path)?;
        let mut index = before.clone();
        let fresh = |path: &String| published.added.binary_search(path).is_ok() || published.replaced.binary_search(path).is_ok();
        index.packages.retain(|path, _| !fresh(path));
        for (path, stanza) in other.packages {
            let agrees = PackageFile::parse(&path).is_some_and(|package| stanza.get("CPV") == Some(&package.cpv));
            if agrees && !index.packages.contains_key(&path) {
                index.packages.insert(path, stanza);
            }
        }
        let mut described = std::collections::BTreeMap::new();
        for (path, stanza) in index.packages {
            if let Some(stat) = self.stat(Path::new(&path))?
                && describes(&stanza, &stat)
            {
                described.insert(path, stanza);
            }
        }
        index.packages = described;
        if !other.header.is_empty() && (index.header.is_empty() || !published.added.is_empty() || !published.replaced.is_empty()) {
            index.header = other.header;
        }
        if index == before {
            return Ok(());
        }
        self.write_atomically(INDEX, index.render(now_secs).as_bytes(), Some(now_secs))?;
        // What `compress-index` of another tool wrote is now out of date, and preferred by remote clients.
        let compressed = self.path.join("Packages.gz");
        match std::fs::remove_file(&compressed) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &compressed, e)),
            _ => Ok(()),
        }
    }

    /// Replaces a file at the top of the pool, as a whole and durably; its time becomes `mtime_secs`, as Portage does with its index.
    pub(super) fn write_atomically(&self, name: &str, contents: &[u8], mtime_secs: Option<i64>) -> Result<()> {
        use std::io::Write as _;
        let temporary = self.path.join(INCOMING).join(name);
        let target = self.path.join(name);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(self.path.join(INCOMING))?;
            let mut out = File::create(&temporary)?;
            out.write_all(contents)?;
            if let Some(secs) = mtime_secs {
                set_mtime(&out, secs, 0)?;
            }
            out.sync_all()?;
            std::fs::rename(&temporary, &target)?;
            std::fs::remove_dir_all(self.path.join(INCOMING))?;
            rustix::fs::fsync(&self.dir)?;
            Ok(())
        };
        write().map_err(|e| Error::io("write", &target, e))
    }
}

enum Placed {
    Added,
    Replaced,
    Skipped(Reason),
}

/// Whether Portage will believe the stanza without opening the file: its own condition.
fn describes(stanza: &super::index::Stanza, stat: &Stat) -> bool {
    let says = |key: &str, value: i64| stanza.get(key).and_then(|v| v.parse::<i64>().ok()) == Some(value);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && says("SIZE", stat.st_size) && says("MTIME", stat.st_mtime)
}

/// Whether the pool's file holds the same bytes. Equal size and time is taken for equal: an overlay copies a file up unchanged when Portage
/// only touches its owner.
fn same_file_data(file: &File, stat: &Stat, pool: BorrowedFd<'_>, path: &Path, there: &Stat) -> io::Result<bool> {
    if stat.st_size != there.st_size {
        return Ok(false);
    }
    if (stat.st_mtime, stat.st_mtime_nsec) == (there.st_mtime, there.st_mtime_nsec) {
        return Ok(true);
    }
    let (mut theirs, _) = untrusted::open_file_in(pool, path).map_err(io::Error::other)?;
    let mut ours = file.try_clone()?;
    let same = same_bytes(&mut ours, &mut theirs)?;
    // A duplicated descriptor shares its offset, and the caller may still copy from `file`.
    io::Seek::rewind(&mut ours)?;
    Ok(same)
}

fn same_bytes(a: &mut impl Read, b: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0u8; 128 * 1024], vec![0u8; 128 * 1024]);
    loop {
        let n = read_full(a, &mut left)?;
        if n != read_full(b, &mut right)? || left[..n] != right[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn set_mtime(file: &File, secs: i64, nanos: impl TryInto<i64>) -> io::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos.try_into().unwrap_or(0) };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
