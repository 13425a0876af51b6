//! Adds packages to a pool: under its lock, by rename, the index last.
//!
//! ```text
//! session's place                       pool
//!   a/b/b-1-1.gpkg.tar   --copied through .incoming/, or renamed-->  a/b/b-1-3.gpkg.tar     the next free number
//!   Packages             --its stanza, with our key-->               .incoming/Packages --rename--> Packages
//! ```
//!
//! The session's files are hostile: only regular files with a name that Portage gives are taken, and of its index only stanzas that match
//! a file in size and time. The *contents* of a package can be trusted as much as the session that built it: it is published under the
//! keys of what that session was to build, and throw-away sessions have their own pools.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, Timestamps};
use rustix::io::Errno;

use super::contents::{Contents, Examiner};
use super::index::{Stanza, describing, describing_all};
use super::package_key::PackageKey;
use super::{Error, INDEX, Index, LOCK, PackageFile, Result};
use crate::durable;
use crate::durable::Replace;
use crate::path_error::PathError;
use crate::portage::untrusted;
use crate::progress::{Event, Observer};

/// No package of Gentoo comes near this; a sparse file can claim any size.
pub(crate) const MAX_PACKAGE_BYTES: u64 = 16 << 30;
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Size limit of a stanza or header, since the session wrote it.
const MAX_STANZA_BYTES: u64 = 256 << 10;
const MAX_ENTRIES: usize = 50_000;
const INCOMING: &str = ".incoming";
/// The key of our own in a pool's index that has the package key.
const KEY: &str = "GENTOOMUCH_KEY";
/// The same of the libc.
pub(crate) const LIBC: &str = "GENTOOMUCH_LIBC";
/// The same of who has signed what came from a remote.
pub(crate) const SIGNER: &str = "GENTOOMUCH_SIGNER";
/// No version has so many builds.
const MAX_BUILDS: u64 = 10_000;

/// What became of a session's packages. Paths are relative to the pool, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// New in the pool.
    pub added: Vec<String>,
    /// Replaced an older build with the same key.
    pub replaced: Vec<String>,
    /// Not published.
    pub skipped: Vec<Skipped>,
}

/// A package that was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub path: String,
    pub reason: Reason,
}

/// Why a package was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The pool has the same file.
    AlreadyThere,
    /// The pool has a newer build with the same key.
    Older,
    /// Empty: Portage had reserved the name for a build that failed.
    Empty,
    /// Larger than [`MAX_PACKAGE_BYTES`].
    TooBig,
    /// A link, device or whiteout.
    NotAFile,
    /// Portage gives no such name.
    BadName,
    /// Owned by another id and not readable.
    Unreadable,
    /// It contains a device or a FIFO, which Portage packs but refuses to unpack.
    HoldsDevices,
    /// It is truncated, or no package at all.
    Broken,
    /// The session's index does not list it in this form: Portage has not finished it.
    Unlisted,
    /// The session was not to build it.
    NoKey,
}

/// How files get into a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// Renamed: the session has ended, and its own copies are not needed.
    Move,
    /// Copied: the session goes on and could still write to its file.
    Copy,
}

/// The package key of a stanza; `None`: unknown, or the package was not to be built.
pub(crate) type KeyOf<'a> = dyn Fn(&Stanza) -> Option<PackageKey> + 'a;

/// What the pool's index says of a package beside what Portage says. Nothing of it comes from a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) key: PackageKey,
    /// Name and version of the newest libc that it may have been built against; `None`: nobody knows.
    pub(crate) libc: Option<String>,
    /// The primary key of who has signed it, if it came from a remote.
    pub(crate) signer: Option<String>,
}

impl From<PackageKey> for Note {
    fn from(key: PackageKey) -> Self {
        Self { key, libc: None, signer: None }
    }
}

/// The note for a stanza; `None`: the package is not published.
pub(crate) type NoteOf<'a> = dyn Fn(&Stanza) -> Option<Note> + 'a;

/// Publishes a session's packages in its pool, each under its key. `now_secs` (since the epoch) becomes the index's time.
///
/// Only packages in the session's index are complete, since Portage writes the package first. Waits for the pool's lock, and tells
/// `observer` if it has to.
pub(crate) fn publish(
    session_pkgdir: &Path,
    pool: &Path,
    note_of: &NoteOf<'_>,
    transfer: Transfer,
    now_secs: i64,
    observer: &dyn Observer,
    examiner: &Examiner,
) -> Result<Published> {
    let source = untrusted::open_root(session_pkgdir).map_err(|e| Error::read(session_pkgdir, e))?;
    let (found, mut skipped) = packages_in(source.as_fd(), session_pkgdir)?;
    if found.is_empty() {
        return Ok(Published { skipped, ..Published::default() });
    }
    let pool = LockedPool::lock(pool, observer)?;
    if transfer == Transfer::Move {
        // Sync the data of all packages at once. Otherwise a rename could survive a power cut without its file's contents.
        rustix::fs::syncfs(&source).map_err(|e| Error::io("sync", session_pkgdir, e))?;
    }
    let mut published = pool.take(source.as_fd(), session_pkgdir, &found, note_of, transfer, now_secs, examiner)?;
    published.skipped.append(&mut skipped);
    published.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(published)
}

/// The packages in `dir`, at most two levels deep, and the skipped files that the user should know of.
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

/// The approximate size of a stanza in the file.
fn bytes_of(stanza: &Stanza) -> u64 {
    stanza.iter().map(|(key, value)| (key.len() + value.len() + 3) as u64).sum()
}

/// A pool's index; empty if there is none.
pub(crate) fn index_of(pool: &Path) -> Result<Index> {
    index_of_those(pool, |_| true)
}

/// As [`index_of`], but keeps only packages whose stanza `wanted` accepts.
pub(crate) fn index_of_those(pool: &Path, wanted: impl FnMut(&Stanza) -> bool) -> Result<Index> {
    match untrusted::open_root(pool) {
        Ok(dir) => read_those(dir.as_fd(), pool, wanted),
        Err(e) if e.is_absent() => Ok(Index::default()),
        Err(e) => Err(Error::read(pool, e)),
    }
}

pub(super) fn read_index(dir: BorrowedFd<'_>, path: &Path) -> Result<Index> {
    read_those(dir, path, |_| true)
}

/// As [`read_index`], but keeps only packages whose stanza `wanted` accepts.
pub(super) fn read_those(dir: BorrowedFd<'_>, path: &Path, wanted: impl FnMut(&Stanza) -> bool) -> Result<Index> {
    match untrusted::read_in(dir, Path::new(INDEX), MAX_INDEX_BYTES) {
        Ok(bytes) => Ok(Index::parse_those(&String::from_utf8_lossy(&bytes), wanted)),
        Err(e) if e.is_absent() => Ok(Index::default()),
        Err(e) => Err(Error::read(path, e)),
    }
}

/// A pool, locked against other writers.
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
        // At first without waiting, so that the user is told what we wait for.
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                observer.event(&Event::Note("waiting for another command that uses the binary package pool"));
                rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive)).map_err(failed)?;
            }
            done => done.map_err(failed)?,
        }
        let pool = Self { path: path.to_owned(), dir, _lock: lock };
        pool.clear_incoming()?;
        Ok(pool)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Removes partial copies of a killed run.
    fn clear_incoming(&self) -> Result<()> {
        let incoming = self.path.join(INCOMING);
        match std::fs::remove_dir_all(&incoming) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &incoming, e)),
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a session built on its way: from where, as what, to where")]
    fn take(
        &self,
        source: BorrowedFd<'_>,
        source_path: &Path,
        found: &[PackageFile],
        note_of: &NoteOf<'_>,
        transfer: Transfer,
        now_secs: i64,
        examiner: &Examiner,
    ) -> Result<Published> {
        let session = read_index(source, source_path).unwrap_or_else(|error| {
            tracing::debug!(%error, "nothing is taken of what has no index");
            Index::default()
        });
        let before = read_index(self.dir.as_fd(), &self.path)?;
        let mut index = before.clone();
        // Somebody removed a package by hand.
        index.packages.retain(|path, stanza| matches!(self.stat(Path::new(path)), Ok(Some(stat)) if describes(stanza, &stat)));
        let mut published = Published::default();
        for package in found {
            let stanza = session.packages.get(&package.path);
            match self.place(source, source_path, package, stanza, note_of, &mut index, transfer, examiner)? {
                Placed::Added(path) => published.added.push(path),
                Placed::Replaced(path) => published.replaced.push(path),
                Placed::Skipped(reason) => published.skipped.push(Skipped { path: package.path.clone(), reason }),
            }
        }
        let has_header = !session.header.is_empty() && bytes_of(&session.header) <= MAX_STANZA_BYTES;
        if has_header && !(published.added.is_empty() && published.replaced.is_empty()) {
            index.header = describing_all(&session.header);
        }
        if !(published.added.is_empty() && published.replaced.is_empty()) {
            // Sync the new names in all directories before the index lists them.
            rustix::fs::syncfs(&self.dir).map_err(|e| Error::io("sync", &self.path, e))?;
        }
        if index != before {
            self.write_index(&index, now_secs)?;
        }
        self.clear_incoming()?;
        self.remove_unlisted(&before, &index)?;
        Ok(published)
    }

    /// Adds one package and its stanza in `index`.
    #[expect(clippy::too_many_arguments, reason = "one package on its way: from where, as what, to where")]
    fn place(
        &self,
        source: BorrowedFd<'_>,
        source_path: &Path,
        package: &PackageFile,
        stanza: Option<&Stanza>,
        note_of: &NoteOf<'_>,
        index: &mut Index,
        transfer: Transfer,
        examiner: &Examiner,
    ) -> Result<Placed> {
        let path = Path::new(&package.path);
        let from = source_path.join(path);
        let (file, size) = match untrusted::open_file_in(source, path) {
            Ok(opened) => opened,
            Err(untrusted::Error::NotRegular { .. }) => return Ok(Placed::Skipped(Reason::NotAFile)),
            Err(untrusted::Error::Io(PathError { source, .. })) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Placed::Skipped(Reason::Unreadable));
            }
            // emerge renames and removes files meanwhile.
            Err(e) if e.is_absent() && transfer == Transfer::Copy => return Ok(Placed::Skipped(Reason::Unlisted)),
            Err(e) => return Err(Error::read(source_path, e)),
        };
        if size == 0 {
            return Ok(Placed::Skipped(Reason::Empty));
        }
        if size > MAX_PACKAGE_BYTES {
            return Ok(Placed::Skipped(Reason::TooBig));
        }
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io("examine", &from, e))?;
        // Portage writes the package first and the index afterwards, so an unlisted package may be incomplete.
        let is_listed = |stanza: &&Stanza| stanza.get("CPV") == Some(&package.cpv) && describes(stanza, &stat);
        let Some(stanza) = stanza.filter(is_listed) else { return Ok(Placed::Skipped(Reason::Unlisted)) };
        let Some(note) = note_of(stanza) else { return Ok(Placed::Skipped(Reason::NoKey)) };
        if bytes_of(stanza) > MAX_STANZA_BYTES || index.packages.values().map(bytes_of).sum::<u64>() > MAX_INDEX_BYTES / 2 {
            return Ok(Placed::Skipped(Reason::TooBig));
        }
        let same_key: Vec<String> = same_package(index, stanza, &note.key);
        for there in &same_key {
            if let Some(reason) = self.is_there(&file, &stat, Path::new(there)).map_err(|e| Error::io("compare", &from, e))? {
                return Ok(Placed::Skipped(reason));
            }
        }
        match examiner.examine(&file, &stat, &package.path).map_err(|e| Error::io("examine", &from, e))? {
            Contents::Fine => {}
            Contents::Devices => return Ok(Placed::Skipped(Reason::HoldsDevices)),
            Contents::Broken => return Ok(Placed::Skipped(Reason::Broken)),
        }
        let Some(target) = self.free_name(package)? else { return Ok(Placed::Skipped(Reason::BadName)) };
        let to = Path::new(&target.path);
        let parent = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(self.path.join(parent)).map_err(|e| Error::io("create", &self.path.join(parent), e))?;
        let moved = transfer == Transfer::Move
            && placed_without_copy(self.dir.as_fd(), source, path, to, &file, &stat).map_err(|e| Error::io("publish", &from, e))?;
        if !moved && !self.copy(file, &stat, to)? {
            return Ok(Placed::Skipped(Reason::Broken));
        }
        for old in &same_key {
            index.packages.remove(old);
        }
        index.packages.insert(target.path.clone(), stanza_of(stanza, &target, &note));
        Ok(if same_key.is_empty() { Placed::Added(target.path) } else { Placed::Replaced(target.path) })
    }

    /// Why a package is not needed if the pool has one with the same key.
    fn is_there(&self, file: &File, stat: &Stat, path: &Path) -> io::Result<Option<Reason>> {
        let Some(there) = self.stat(path).map_err(io::Error::other)? else { return Ok(None) };
        if same_file_data(file, stat, self.dir.as_fd(), path, &there)? {
            return Ok(Some(Reason::AlreadyThere));
        }
        Ok(((there.st_mtime, there.st_mtime_nsec) > (stat.st_mtime, stat.st_mtime_nsec)).then_some(Reason::Older))
    }

    /// The package's name with the first free build number. Independent sessions count alike, so numbers collide.
    fn free_name(&self, package: &PackageFile) -> Result<Option<PackageFile>> {
        let Some(first) = package.build_id else { return Ok(None) };
        for number in first..first.saturating_add(MAX_BUILDS) {
            let Some(candidate) = package.with_build_id(number) else { return Ok(None) };
            if self.stat(Path::new(&candidate.path))?.is_none() {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Removes the files of replaced stanzas; sessions that use one have it open or have their own link to it.
    fn remove_unlisted(&self, before: &Index, now: &Index) -> Result<()> {
        for path in before.packages.keys().filter(|path| !now.packages.contains_key(*path)) {
            let full = self.path.join(path);
            match std::fs::remove_file(&full) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &full, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// `false` if the file has changed since it was examined.
    fn copy(&self, file: File, stat: &Stat, path: &Path) -> Result<bool> {
        let temporary = self.path.join(INCOMING).join(path.file_name().unwrap_or(path.as_os_str()));
        let failed = |e: io::Error| Error::io("write", &temporary, e);
        let copy = || -> io::Result<bool> {
            std::fs::create_dir_all(self.path.join(INCOMING))?;
            let mut out = File::create(&temporary)?;
            // Not more than was examined, even if the file grows.
            let copied = io::copy(&mut file.take(MAX_PACKAGE_BYTES), &mut out)?;
            set_mtime(&out, stat.st_mtime, stat.st_mtime_nsec)?;
            rustix::fs::fchmod(&out, Mode::from_raw_mode(0o644))?;
            out.sync_all()?;
            Ok(i64::try_from(copied) == Ok(stat.st_size))
        };
        if !copy().map_err(failed)? {
            return Ok(false);
        }
        let target = self.path.join(path);
        std::fs::rename(&temporary, &target).map_err(|e| Error::io("write", &target, e))?;
        Ok(true)
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(Error::io("examine", &self.path.join(path), e)),
        }
    }

    fn write_index(&self, index: &Index, now_secs: i64) -> Result<()> {
        self.write_atomically(INDEX, index.render(now_secs).as_bytes(), Some(now_secs))?;
        // Another tool may have written one (`compress-index`). It is out of date now, and remote clients prefer it.
        let compressed = self.path.join("Packages.gz");
        match std::fs::remove_file(&compressed) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &compressed, e)),
            _ => Ok(()),
        }
    }

    /// Replaces a file at the top of the pool, durably; its time becomes `mtime_secs`, as Portage does with its index.
    pub(super) fn write_atomically(&self, name: &str, contents: &[u8], mtime_secs: Option<i64>) -> Result<()> {
        let staging = self.path.join(INCOMING);
        std::fs::create_dir_all(&staging).map_err(|e| Error::io("create", &staging, e))?;
        let modified = mtime_secs.and_then(|secs| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(secs).ok()?)));
        Replace { staging: Some(&staging), modified, mode: durable::Mode::AtMost(0o666) }
            .replace(&self.path.join(name), contents)?;
        std::fs::remove_dir_all(&staging).map_err(|e| Error::io("remove", &staging, e))
    }
}

enum Placed {
    Added(String),
    Replaced(String),
    Skipped(Reason),
}

/// `false` if it has to be copied: another file system, another owner, or a file with a second name in the session.
fn placed_without_copy(
    pool: BorrowedFd<'_>,
    source: BorrowedFd<'_>,
    path: &Path,
    to: &Path,
    file: &File,
    stat: &Stat,
) -> io::Result<bool> {
    // With a second name the session's upper directory would still contain the pool's file.
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_nlink > 1 {
        return Ok(false);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    // The session may have set any mode; a set-id file of the user must not get into the pool.
    rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?;
    let from = untrusted::open_dir_in(source, parent).map_err(io::Error::other)?;
    match rustix::fs::renameat(&from, name, pool, to) {
        Ok(()) => Ok(true),
        // `EXDEV` also comes from two mounts of the same file system.
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The paths of packages with the same key.
fn same_package(index: &Index, stanza: &Stanza, key: &PackageKey) -> Vec<String> {
    let same = |other: &Stanza| {
        let equal = |name: &str| other.get(name) == stanza.get(name);
        equal("CPV") && equal("REPO") && key_in(other).as_ref() == Some(key)
    };
    index.packages.iter().filter(|(_, other)| same(other)).map(|(path, _)| path.clone()).collect()
}

/// The stanza of a package at its new place.
fn stanza_of(stanza: &Stanza, target: &PackageFile, note: &Note) -> Stanza {
    let mut stanza = describing(stanza);
    stanza.insert("PATH".to_owned(), target.path.clone());
    stanza.insert("BUILD_ID".to_owned(), target.build_id.unwrap_or(1).to_string());
    stanza.insert(KEY.to_owned(), note.key.to_string());
    for (name, value) in [(LIBC, &note.libc), (SIGNER, &note.signer)] {
        stanza.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    stanza
}

/// The key that a pool's index has of a package.
pub(crate) fn key_in(stanza: &Stanza) -> Option<PackageKey> {
    PackageKey::parse(stanza.get(KEY)?)
}

/// Portage's condition for using a stanza without opening the file.
pub(super) fn describes(stanza: &Stanza, stat: &Stat) -> bool {
    let says = |key: &str, value: i64| stanza.get(key).and_then(|v| v.parse::<i64>().ok()) == Some(value);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && says("SIZE", stat.st_size) && says("MTIME", stat.st_mtime)
}

/// Whether the pool's file has the same bytes. Equal size and time count as equal: an overlay copies a file up unchanged when Portage
/// only changes its owner.
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
    // A duplicated descriptor shares the offset, and the caller may still copy from `file`.
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
