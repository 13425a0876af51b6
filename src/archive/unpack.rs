//! Unpacks a tar stream beneath one directory.
//!
//! Every path is normalised (see [`super::name`]). Every directory on the way is one that this archive made, opened beneath the target's
//! descriptor without following links. A file is created exclusively and written; then it gets owner, mode, extended attributes and time,
//! in this order, since each step can undo a later one (`chown` clears set-id bits and capabilities). Hard links are made when all files
//! are there. Directories get their metadata at the end, the deepest first.
//!
//! This thread reads, checks everything and makes directories; others create what is in them (see [`super::writers`]). What is reported
//! and what is refused does not depend on that.
//!
//! If a path comes twice:
//!
//! | first | then | |
//! |---|---|---|
//! | directory, or made as somebody's parent | directory | the later owner, mode, time and attributes count |
//! | directory | anything else | refused |
//! | anything but a directory | anything | refused, also when it comes again unchanged |
//! | anything but a directory | something below it | refused; a symbolic link is never followed |
//! | skipped device | hard link to it | skipped too |
//! | name differing in case | | another file; on a case-folding file system the second is refused (`EEXIST`) |
//!
//! Nothing is synced here. The store does that once, when it commits.

use std::collections::HashMap;
use std::io::BufRead;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directories::Directories;
use super::error::{Error, Refusal, Result};
use super::member::{Kind, Member, Members};
use super::pax::Time;
use super::shown::EntryName;
use super::writers::{Entry, What, Writers};
use super::{name, xattr};
use crate::beneath::Way;

pub use super::member::Limits;

/// Whether owners are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// As the archive says. This needs root, or the mapped root of a user namespace.
    #[default]
    Restore,
    /// Everything belongs to the caller. Attributes of the `security` namespace are dropped.
    Ignore,
}

#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    pub limits: Limits,
    pub owners: Owners,
    /// It is an exact layer of ours: what it says to overlayfs is taken, as far as overlayfs itself would have written it.
    pub layer: bool,
    /// How directories are opened; tests force the older way.
    pub way: Way,
    /// How many threads create files: one at least, and a few at most.
    pub writers: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Regular files.
    pub files: u64,
    /// Directories, also those that no entry describes. Not the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub hardlinks: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Whiteouts of a layer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub whiteouts: u64,
    /// Device nodes below `./dev` that were skipped, and links to them.
    pub devices_skipped: u64,
    /// Extended attributes that were dropped.
    pub xattrs_dropped: u64,
    /// Bytes written to files, holes not counted.
    pub file_bytes: u64,
    /// Bytes of the tar stream.
    pub stream_bytes: u64,
    /// The newest modification time of all entries, in seconds since 1970.
    pub newest_mtime: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Unpacks the tar stream `input` into the empty directory `into`. `on_progress` gets how many bytes of the stream were read since its
/// last call, about once a MiB.
///
/// On error the directory holds a part of the archive. The caller throws it away.
pub fn unpack(
    input: impl BufRead,
    into: BorrowedFd<'_>,
    options: &UnpackOptions,
    on_progress: &mut dyn FnMut(u64),
) -> Result<Unpacked> {
    std::thread::scope(|scope| {
        let writers = Writers::start(scope, into, options)?;
        let mut tree = Tree::new(into, options, writers)?;
        let read = read(input, &mut tree, on_progress);
        tree.finish(read)
    })
}

/// Gives all entries to `tree`. Returns the length of the stream.
fn read(input: impl BufRead, tree: &mut Tree<'_>, on_progress: &mut dyn FnMut(u64)) -> Result<u64> {
    let mut members = Members::new(input, tree.options.limits.clone());
    let mut told = 0;
    let mut tell = |offset: u64, least: u64| {
        if offset - told >= least.max(1) {
            on_progress(offset - told);
            told = offset;
        }
    };
    while !tree.writers.has_failed()
        && let Some(member) = members.next_member()?
    {
        tree.add(member, &mut members)?;
        tell(members.offset(), 1 << 20);
    }
    if !tree.writers.has_failed() {
        members.drain()?;
    }
    tell(members.offset(), 0);
    Ok(members.offset())
}

/// What is known about a path that this archive created.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// A directory, with the index of its pending metadata.
    Directory(usize),
    Other,
    /// A device that was not made.
    Skipped,
}

/// A directory's metadata. It is applied when nothing more is created in it: creating changes the time, and the mode may forbid it.
#[derive(Debug)]
struct Pending {
    path: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Which thread makes what is in it, once there is something.
    writer: Option<usize>,
}

/// A hard link that is made at the end.
#[derive(Debug)]
struct Link {
    number: u64,
    shown: Vec<u8>,
    target: Vec<u8>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Tree<'a> {
    options: &'a UnpackOptions,
    writers: Writers<'a>,
    directories: Directories,
    /// A second chain, so that looking up a hard link's target does not close the directory that we write in.
    link_directories: Directories,
    /// Entries so far.
    number: u64,
    links: Vec<Link>,
    known: HashMap<Vec<u8>, Known>,
    pending: Vec<Pending>,
    /// Owner and group that a new file has by itself, if we know them. A file of this owner needs no `chown`.
    own_ids: Option<(u32, u32)>,
    hole_bytes: u64,
    done: Unpacked,
}

impl<'a> Tree<'a> {
    fn new(into: BorrowedFd<'_>, options: &'a UnpackOptions, writers: Writers<'a>) -> Result<Self> {
        tracing::debug!(way = ?options.way, owners = ?options.owners, "unpacking");
        let stat = rustix::fs::fstat(into).map_err(|errno| entry_error("inspect", b".", errno))?;
        // In a set-group-id directory a new file gets the directory's group, and a new directory passes that on.
        let plain = stat.st_mode & Mode::SGID.as_raw_mode() == 0;
        let directories = || Directories::new(into, options.way).map_err(|error| entry_error_io("open", b".", error));
        let own_ids = plain.then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        Ok(Self {
            options,
            writers,
            directories: directories()?,
            link_directories: directories()?,
            number: 0,
            links: Vec::new(),
            known: HashMap::new(),
            pending: Vec::new(),
            own_ids,
            hole_bytes: 0,
            done: Unpacked { newest_mtime: i64::MIN, ..Unpacked::default() },
        })
    }

    fn add<R: BufRead>(&mut self, member: Member, members: &mut Members<R>) -> Result<()> {
        let refused = |cause| Error::Refused { entry: EntryName::new(&member.path), cause };
        let limits = &self.options.limits;
        self.number += 1;
        let path = name::normalise(&member.path, limits.path_bytes, limits.depth).map_err(refused)?;
        self.hear_no_lies(&member).map_err(refused)?;
        self.done.newest_mtime = self.done.newest_mtime.max(member.mtime.secs);
        if self.pending.is_empty() {
            // If the archive has an entry for the root, it replaces this one.
            self.pending.push(implied(Vec::new(), member.mtime));
            self.known.insert(Vec::new(), Known::Directory(0));
        }
        if member.kind == Kind::Directory {
            return self.directory(path, &member).map_err(|e| e.or_refuse(&member));
        }
        let Some((parent, _)) = name::split(&path) else { return Err(refused(Refusal::RootNotDirectory)) };
        if self.known.contains_key(&path) {
            return Err(refused(Refusal::Duplicate));
        }
        let skip = match &member.kind {
            Kind::CharDevice(0, 0) if self.options.layer => false,
            Kind::CharDevice(0, 0) => return Err(refused(Refusal::Whiteout)),
            Kind::CharDevice(..) | Kind::BlockDevice(..) if path.starts_with(b"dev/") && !self.options.layer => true,
            Kind::CharDevice(..) | Kind::BlockDevice(..) => return Err(refused(Refusal::Device)),
            _ => false,
        };
        let parent = self.parents(parent, member.mtime).map_err(|e| e.or_refuse(&member))?;
        let known = if skip {
            self.done.devices_skipped += 1;
            Known::Skipped
        } else {
            self.create(member, path.clone(), parent, members)?
        };
        self.known.insert(path, known);
        Ok(())
    }

    fn create<R: BufRead>(&mut self, member: Member, path: Vec<u8>, parent: usize, members: &mut Members<R>) -> Result<Known> {
        let what = match &member.kind {
            Kind::File => return self.file(member, path, parent, members),
            Kind::Hardlink(target) => return self.hardlink(&member, target, path),
            Kind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) || target.len() > self.options.limits.path_bytes {
                    return Err(Error::Refused { entry: EntryName::new(&member.path), cause: Refusal::SymlinkTarget });
                }
                self.done.symlinks += 1;
                What::Symlink(target.clone())
            }
            Kind::Fifo => {
                self.done.fifos += 1;
                What::Fifo
            }
            Kind::CharDevice(..) => {
                self.done.whiteouts += 1;
                What::Whiteout
            }
            Kind::Directory | Kind::BlockDevice(..) => return Ok(Known::Other),
        };
        self.begin(member, path, parent, what);
        Ok(Known::Other)
    }

    /// Has the directory's writer create something.
    fn begin(&mut self, member: Member, path: Vec<u8>, parent: usize, what: What) {
        let Member { path: shown, mode, uid, gid, mtime, xattrs, .. } = member;
        let (number, chown) = (self.number, self.must_chown(uid, gid));
        let writer = *self.pending[parent].writer.get_or_insert_with(|| self.writers.idlest());
        self.writers.begin(writer, Entry { number, shown, path, what, mode, uid, gid, chown, mtime, xattrs });
    }

    /// Refuses what a layer says to overlayfs and overlayfs has not written.
    fn hear_no_lies(&self, member: &Member) -> std::result::Result<(), Refusal> {
        let is_mark =
            |name: &[u8], value: &[u8]| member.kind == Kind::Directory && name == xattr::OPAQUE && value == xattr::IS_OPAQUE;
        let lie = |(name, value): &&(Vec<u8>, Vec<u8>)| xattr::speaks_to_overlayfs(name) && !is_mark(name, value);
        match member.xattrs.iter().find(lie) {
            Some((name, _)) if self.options.layer => Err(Refusal::Overlay(EntryName::new(name))),
            _ => Ok(()),
        }
    }

    /// Makes sure that `path` and all above it are directories of this archive. Returns the index of its metadata.
    fn parents(&mut self, path: &[u8], mtime: Time) -> std::result::Result<usize, Step> {
        match self.known.get(path) {
            Some(Known::Directory(index)) => return Ok(*index),
            Some(_) => return Err(Step::NotDirectory(path.to_vec())),
            None => {}
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            match self.known.get(part) {
                Some(Known::Directory(_)) => {}
                Some(_) => return Err(Step::NotDirectory(part.to_vec())),
                None => self.make_directory(implied(part.to_vec(), mtime))?,
            }
        }
        // The last one was just made.
        Ok(self.pending.len() - 1)
    }

    fn directory(&mut self, path: Vec<u8>, member: &Member) -> std::result::Result<(), Step> {
        let mut pending = Pending {
            path,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: member.xattrs.clone(),
            writer: None,
        };
        match self.known.get(&pending.path) {
            Some(Known::Directory(index)) => {
                pending.writer = self.pending[*index].writer;
                std::mem::swap(&mut self.pending[*index], &mut pending);
                Ok(())
            }
            Some(_) => Err(Step::Duplicate),
            None => {
                if let Some((parent, _)) = name::split(&pending.path) {
                    let parent = parent.to_vec();
                    self.parents(&parent, member.mtime)?;
                }
                self.make_directory(pending)
            }
        }
    }

    fn make_directory(&mut self, pending: Pending) -> std::result::Result<(), Step> {
        let Some((parent, base)) = name::split(&pending.path) else { return Ok(()) };
        let fail = |source: std::io::Error| Step::Failed(entry_error_io("create the directory", &pending.path, source));
        let parent = self.directories.open(parent).map_err(fail)?;
        rustix::fs::mkdirat(parent, base, Mode::RWXU).map_err(|errno| fail(errno.into()))?;
        self.done.directories += 1;
        self.known.insert(pending.path.clone(), Known::Directory(self.pending.len()));
        self.pending.push(pending);
        Ok(())
    }

    fn file<R: BufRead>(&mut self, mut member: Member, path: Vec<u8>, parent: usize, members: &mut Members<R>) -> Result<Known> {
        self.count_holes(&member)?;
        self.done.files += 1;
        let what = What::File(member.size, member.extents.take());
        self.begin(member, path, parent, what);
        let mut written = 0_u64;
        members.copy_data(|bytes| {
            written += bytes.len() as u64;
            self.writers.data(bytes)
        })?;
        self.writers.end();
        self.done.file_bytes += written;
        Ok(Known::Other)
    }

    fn count_holes(&mut self, member: &Member) -> Result<()> {
        let Some(extents) = &member.extents else { return Ok(()) };
        let data: u64 = extents.iter().map(|extent| extent.len).sum();
        self.hole_bytes = self.hole_bytes.saturating_add(member.size.saturating_sub(data));
        let limit = self.options.limits.hole_bytes;
        if self.hole_bytes > limit {
            return Err(Error::Refused { entry: EntryName::new(&member.path), cause: Refusal::Holes { limit } });
        }
        Ok(())
    }

    /// Checks a hard link against what is known so far. It is made at the end.
    fn hardlink(&mut self, member: &Member, raw_target: &[u8], path: Vec<u8>) -> Result<Known> {
        let shown = || EntryName::new(raw_target);
        let refused = |cause| Error::Refused { entry: EntryName::new(&member.path), cause };
        let limits = &self.options.limits;
        let target = name::normalise(raw_target, limits.path_bytes, limits.depth)
            .map_err(|cause| refused(Refusal::LinkTarget { target: shown(), cause: Box::new(cause) }))?;
        match self.known.get(&target) {
            Some(Known::Other) => {}
            Some(Known::Directory(_)) => return Err(refused(Refusal::LinkToDirectory { target: shown() })),
            Some(Known::Skipped) => {
                self.done.devices_skipped += 1;
                return Ok(Known::Skipped);
            }
            None => return Err(refused(Refusal::LinkToUnknown { target: shown() })),
        }
        self.done.hardlinks += 1;
        self.links.push(Link { number: self.number, shown: member.path.clone(), target, path });
        Ok(Known::Other)
    }

    fn link(&mut self, link: &Link) -> Result<()> {
        let (Some((from, from_base)), Some((parent, base))) = (name::split(&link.target), name::split(&link.path)) else {
            return Ok(());
        };
        let open = |error| entry_error_io("open the directory of", &link.shown, error);
        let from = self.link_directories.open(from).map_err(open)?;
        let directory = self.directories.open(parent).map_err(open)?;
        rustix::fs::linkat(from, from_base, directory, base, AtFlags::empty())
            .map_err(|errno| entry_error("link", &link.shown, errno))
    }

    fn must_chown(&self, uid: u32, gid: u32) -> bool {
        self.options.owners == Owners::Restore && self.own_ids != Some((uid, gid))
    }

    /// Waits for the writers, makes the hard links, and gives all directories their metadata. `read` is how the stream ended.
    fn finish(mut self, read: Result<u64>) -> Result<Unpacked> {
        let (dropped, failure) = self.writers.finish();
        self.done.xattrs_dropped += dropped;
        // A writer's failure has the number of an entry that was given to it, so it is the earlier one.
        let failure = match read {
            Ok(length) => {
                self.done.stream_bytes = length;
                failure
            }
            Err(error) => failure.or(Some((self.number, error))),
        };
        let end = failure.as_ref().map_or(u64::MAX, |(number, _)| *number);
        for link in std::mem::take(&mut self.links).iter().take_while(|link| link.number < end) {
            self.link(link)?;
        }
        match failure {
            Some((_, error)) => Err(error),
            None => self.finish_directories(),
        }
    }

    /// Children come before parents.
    fn finish_directories(mut self) -> Result<Unpacked> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        for directory in &pending {
            let shown: &[u8] = if directory.path.is_empty() { b"." } else { &directory.path };
            let chown = self.must_chown(directory.uid, directory.gid) || directory.path.is_empty();
            let fd = self.directories.open(&directory.path).map_err(|e| entry_error_io("open", shown, e))?;
            let meta = Meta { path: shown, mode: directory.mode, uid: directory.uid, gid: directory.gid, mtime: directory.mtime };
            let chown = chown && self.options.owners == Owners::Restore;
            self.done.xattrs_dropped += meta.apply(fd, chown, &directory.xattrs, self.options)?;
        }
        if self.done.newest_mtime == i64::MIN {
            self.done.newest_mtime = 0;
        }
        Ok(self.done)
    }
}

/// Why a directory could not be made.
#[derive(Debug)]
enum Step {
    NotDirectory(Vec<u8>),
    Duplicate,
    Failed(Error),
}

impl Step {
    fn or_refuse(self, member: &Member) -> Error {
        let cause = match self {
            Self::NotDirectory(parent) => Refusal::ParentNotDirectory { parent: EntryName::new(&parent) },
            Self::Duplicate => Refusal::Duplicate,
            Self::Failed(error) => return error,
        };
        Error::Refused { entry: EntryName::new(&member.path), cause }
    }
}

/// A directory that the archive has no entry for.
fn implied(path: Vec<u8>, mtime: Time) -> Pending {
    Pending { path, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Vec::new(), writer: None }
}

/// Metadata of something that is open.
pub(super) struct Meta<'a> {
    pub(super) path: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
}

impl Meta<'_> {
    /// Sets owner, mode, attributes and time, in this order. Returns how many attributes were dropped.
    pub(super) fn apply(
        &self,
        fd: impl std::os::fd::AsFd,
        chown: bool,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        options: &UnpackOptions,
    ) -> Result<u64> {
        let fd = fd.as_fd();
        if chown {
            rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
                .map_err(|errno| owner_error(self.path, self.uid, self.gid, errno))?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).map_err(|errno| entry_error("set the mode of", self.path, errno))?;
        let mut dropped = 0;
        for (name, value) in xattrs {
            let is_mark = options.layer && name == xattr::OPAQUE;
            let is_dropped = options.owners == Owners::Ignore && !name.starts_with(b"user.");
            if (!xattr::travels(name) && !is_mark) || is_dropped {
                tracing::debug!(entry = %EntryName::new(self.path), attribute = %EntryName::new(name), "dropped");
                dropped += 1;
                continue;
            }
            let converted;
            let value = if name == xattr::CAPABILITY {
                converted = xattr::portable_capability(value);
                &converted
            } else {
                value
            };
            rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()).map_err(|errno| Error::Xattr {
                action: "set",
                attribute: EntryName::new(name),
                entry: EntryName::new(self.path),
                source: errno.into(),
            })?;
        }
        rustix::fs::futimens(fd, &timestamps(self.mtime)).map_err(|errno| entry_error("set the time of", self.path, errno))?;
        Ok(dropped)
    }
}

/// Modification time as given, and access time the same, so that the result does not depend on when this ran.
pub(super) fn timestamps(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn entry_error(action: &'static str, path: &[u8], errno: Errno) -> Error {
    entry_error_io(action, path, errno.into())
}

pub(super) fn entry_error_io(action: &'static str, path: &[u8], source: std::io::Error) -> Error {
    Error::Entry { action, entry: EntryName::new(path), source }
}

/// The kernel answers EINVAL, not EPERM, to an id that the user namespace does not map.
pub(super) fn owner_error(path: &[u8], uid: u32, gid: u32, errno: Errno) -> Error {
    if errno == Errno::INVAL {
        Error::UnmappedOwner { entry: EntryName::new(path), uid, gid }
    } else {
        entry_error("set the owner of", path, errno)
    }
}
