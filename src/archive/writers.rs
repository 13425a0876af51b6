//! The threads that create files, links and pipes while another one reads the stream.
//!
//! ```text
//! reader: checks each entry, makes directories --batches, a few of them--> writer: creates, writes, owner, mode, attributes, time
//!         writes large files itself           \------------------------> writer
//! ```
//!
//! All that is small in a directory goes to one writer, so that no two writers wait for the same directory's lock. What is large is
//! written at once: to pass it on would be to copy it once more, which takes as long.
//!
//! What is reported is what fails first in the archive's order, as if one thread had done it all: entries have numbers. After a failure
//! those behind it are not made any more; those before it are, and may fail, too.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::decode::CHUNK;
use super::directories::Directories;
use super::error::{Error, Result};
use super::name;
use super::pax::Time;
use super::sparse::Extent;
use super::unpack::{Meta, UnpackOptions, entry_error, entry_error_io, owner_error, timestamps};

/// More than these only wait for each other in the file system's journal.
const WRITERS_MAX: usize = 4;
/// How many batches may wait for a writer.
const QUEUE: usize = 4;
/// A batch has at most this many steps, so that small files do not wait for each other long.
const STEPS: usize = 256;
/// A file of this size is large.
const LARGE_BYTES: u64 = 64 << 10;

/// Something that is not a directory, checked.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its place in the archive.
    pub(super) number: u64,
    /// As the archive spells it, for messages.
    pub(super) shown: Vec<u8>,
    /// Normalised.
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// A new file does not have this owner by itself.
    pub(super) chown: bool,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum What {
    /// With its size, and the parts that are stored if holes are left out.
    File(u64, Option<Vec<Extent>>),
    Symlink(Vec<u8>),
    Fifo,
    /// What a layer hides of those below.
    Whiteout,
}

#[derive(Debug)]
enum Step {
    /// Creates the entry. If it is a file, its data follow.
    Begin(Box<Entry>),
    /// A part of the batch's bytes.
    Data(Range<usize>),
    /// The file is complete.
    End,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// What failed first in the archive's order.
#[derive(Debug)]
struct Failure {
    /// `u64::MAX` if nothing did.
    number: AtomicU64,
    error: Mutex<Option<Error>>,
}

impl Failure {
    fn record(&self, number: u64, error: Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if number < self.number.load(Ordering::Relaxed) {
            self.number.store(number, Ordering::Relaxed);
            *first = Some(error);
        }
    }

    fn before(&self, number: u64) -> bool {
        self.number.load(Ordering::Relaxed) < number
    }
}

#[derive(Debug)]
struct Lane<'scope> {
    batches: SyncSender<Batch>,
    used: Receiver<Batch>,
    filling: Batch,
    /// Steps that were given to it, and how many of them it has done.
    given: u64,
    done: Arc<AtomicU64>,
    thread: ScopedJoinHandle<'scope, u64>,
}

/// The reader's side.
#[derive(Debug)]
pub(super) struct Writers<'scope> {
    lanes: Vec<Lane<'scope>>,
    failure: Arc<Failure>,
    /// For what is large.
    own: Writer<'scope>,
    /// The writer of the entry that was begun last, if it is not our own.
    current: Option<usize>,
}

impl<'scope> Writers<'scope> {
    /// Starts the threads, which create what they are given below `into`.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        into: BorrowedFd<'scope>,
        options: &'scope UnpackOptions,
    ) -> Result<Self> {
        let failure = Arc::new(Failure { number: AtomicU64::new(u64::MAX), error: Mutex::new(None) });
        let count = usize::try_from(options.writers).unwrap_or(usize::MAX).clamp(1, WRITERS_MAX);
        let writer = || {
            let directories = Directories::new(into, options.way).map_err(|error| entry_error_io("open", b".", error))?;
            let failure = Arc::clone(&failure);
            Ok::<_, Error>(Writer { directories, options, failure, open: None, dropped: 0, done: Arc::default() })
        };
        let own = writer()?;
        let start = |_| {
            let (batches, received) = sync_channel::<Batch>(QUEUE);
            let (recycle, used) = channel();
            let mut writer = writer()?;
            let done = Arc::clone(&writer.done);
            let thread = crate::threads::builder()
                .name("create".into())
                .spawn_scoped(scope, move || {
                    writer.run(&received, &recycle);
                    writer.dropped
                })
                .map_err(Error::Thread)?;
            Ok(Lane { batches, used, filling: Batch::default(), given: 0, done, thread })
        };
        let lanes = (0..count).map(start).collect::<Result<_>>()?;
        Ok(Self { lanes, failure, own, current: None })
    }

    /// The writer that has least to do.
    pub(super) fn idlest(&self) -> usize {
        let waiting = |lane: &Lane<'_>| lane.given - lane.done.load(Ordering::Relaxed);
        (0..self.lanes.len()).min_by_key(|lane| waiting(&self.lanes[*lane])).unwrap_or(0)
    }

    /// Whether something has failed already, so that nothing more need be read.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.before(u64::MAX)
    }

    /// Has a writer create `entry`. If it is a file, [`Self::data`] and [`Self::end`] follow.
    pub(super) fn begin(&mut self, lane: usize, entry: Entry) {
        if matches!(entry.what, What::File(LARGE_BYTES.., _)) {
            self.current = None;
            self.own.begin(Box::new(entry));
        } else {
            self.current = Some(lane);
            self.lanes[lane].step(Step::Begin(Box::new(entry)));
        }
    }

    /// Adds to the file that was begun last.
    pub(super) fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.has_failed() {
            // Whoever reads stops here. What is reported is the failure.
            return Err(Error::Write(std::io::ErrorKind::BrokenPipe.into()));
        }
        let Some(lane) = self.current.map(|current| &mut self.lanes[current]) else {
            self.own.data(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            bytes = lane.data(bytes);
        }
        Ok(())
    }

    /// The file that was begun last is complete.
    pub(super) fn end(&mut self) {
        match self.current {
            Some(current) => self.lanes[current].step(Step::End),
            None => self.own.end(),
        }
    }

    /// Waits until everything is made. Returns how many attributes were dropped, and what failed first, with its number.
    pub(super) fn finish(&mut self) -> (u64, Option<(u64, Error)>) {
        let failure = &self.failure;
        let mut dropped = self.own.dropped;
        // First all of them get their last batch, so that none waits for another one.
        let threads: Vec<_> = std::mem::take(&mut self.lanes).into_iter().map(Lane::close).collect();
        for thread in threads {
            match thread.join() {
                Ok(count) => dropped += count,
                Err(_) => failure.record(0, Error::Thread(std::io::Error::other("a thread that creates files died"))),
            }
        }
        let error = failure.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        (dropped, error.map(|error| (failure.number.load(Ordering::Relaxed), error)))
    }
}

impl<'scope> Lane<'scope> {
    fn step(&mut self, step: Step) {
        self.filling.steps.push(step);
        self.given += 1;
        if self.filling.bytes.len() >= CHUNK || self.filling.steps.len() >= STEPS {
            self.send();
        }
    }

    /// Takes as much as the batch has room for and returns the rest.
    fn data<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let held = &mut self.filling.bytes;
        if held.capacity() < CHUNK {
            held.reserve_exact(CHUNK);
        }
        let at = held.len();
        let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - at));
        held.extend_from_slice(now);
        self.step(Step::Data(at..at + now.len()));
        rest
    }

    fn send(&mut self) {
        let next = self.used.try_recv().unwrap_or_default();
        // It ends only when this sender is dropped, or by a panic, which `finish` sees.
        let _ = self.batches.send(std::mem::replace(&mut self.filling, next));
    }

    fn close(mut self) -> ScopedJoinHandle<'scope, u64> {
        self.send();
        self.thread
    }
}

/// A file that is being written.
#[derive(Debug)]
struct Open {
    entry: Box<Entry>,
    file: OwnedFd,
    /// Which run of the sparse map comes next, where in the file the present one goes on, and how much is left of it.
    next_run: usize,
    at: u64,
    left: u64,
}

#[derive(Debug)]
struct Writer<'a> {
    directories: Directories,
    options: &'a UnpackOptions,
    failure: Arc<Failure>,
    open: Option<Open>,
    dropped: u64,
    done: Arc<AtomicU64>,
}

impl Writer<'_> {
    fn run(&mut self, batches: &Receiver<Batch>, recycle: &Sender<Batch>) {
        for mut batch in batches {
            let Batch { bytes, steps } = &mut batch;
            let count = steps.len() as u64;
            for step in steps.drain(..) {
                match step {
                    Step::Begin(entry) => self.begin(entry),
                    Step::Data(range) => self.data(&bytes[range]),
                    Step::End => self.end(),
                }
            }
            bytes.clear();
            self.done.fetch_add(count, Ordering::Relaxed);
            // At the end nobody needs it.
            let _ = recycle.send(batch);
        }
    }

    fn begin(&mut self, entry: Box<Entry>) {
        self.open = None;
        if self.failure.before(entry.number) {
            return;
        }
        let number = entry.number;
        match self.create(entry) {
            Ok(open) => self.open = open,
            Err(error) => self.failure.record(number, error),
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        if let Err(errno) = open.write(bytes) {
            self.failure.record(open.entry.number, entry_error("write", &open.entry.shown, errno));
            self.open = None;
        }
    }

    fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        match open.finish(self.options) {
            Ok(dropped) => self.dropped += dropped,
            Err(error) => self.failure.record(open.entry.number, error),
        }
    }

    fn create(&mut self, entry: Box<Entry>) -> Result<Option<Open>> {
        let fail = |action, errno: Errno| entry_error(action, &entry.shown, errno);
        let Some((parent, base)) = name::split(&entry.path) else { return Ok(None) };
        let directory =
            self.directories.open(parent).map_err(|error| entry_error_io("open the directory of", &entry.shown, error))?;
        match &entry.what {
            What::File(..) => {
                // `O_EXCL` also fails on an existing link, so no member is written through a link that an earlier member made.
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(directory, base, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| fail("create", errno))?;
                return Ok(Some(Open { entry, file, next_run: 0, at: 0, left: 0 }));
            }
            What::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), directory, base).map_err(|errno| fail("create", errno))?;
            }
            What::Fifo => {
                rustix::fs::mknodat(directory, base, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .map_err(|errno| fail("create", errno))?;
            }
            What::Whiteout => {
                // Since Linux 5.8 this one device needs no capability (`mknod(2)`).
                rustix::fs::mknodat(directory, base, rustix::fs::FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|errno| fail("create", errno))?;
            }
        }
        // Linux has no `user.` attributes or ACLs on these.
        self.dropped += entry.xattrs.len() as u64;
        finish_by_name(&entry, directory, base)?;
        Ok(None)
    }
}

/// Sets owner, mode and time of something that cannot be opened. This process has just created it exclusively.
fn finish_by_name(entry: &Entry, directory: BorrowedFd<'_>, base: &[u8]) -> Result<()> {
    let shown = &entry.shown;
    if entry.chown {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(directory, base, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| owner_error(shown, entry.uid, entry.gid, errno))?;
    }
    if matches!(entry.what, What::Fifo | What::Whiteout) {
        rustix::fs::chmodat(directory, base, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|errno| entry_error("set the mode of", shown, errno))?;
    }
    rustix::fs::utimensat(directory, base, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| entry_error("set the time of", shown, errno))
}

impl Open {
    fn write(&mut self, mut bytes: &[u8]) -> rustix::io::Result<()> {
        let What::File(_, Some(extents)) = &self.entry.what else {
            return write_all(bytes, |rest| rustix::io::write(&self.file, rest));
        };
        while !bytes.is_empty() {
            while self.left == 0 {
                // The map was checked: it adds up to the data.
                let run = extents.get(self.next_run).ok_or(Errno::INVAL)?;
                (self.at, self.left) = (run.offset, run.len);
                self.next_run += 1;
            }
            let n = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            write_all(&bytes[..n], |rest| {
                let n = rustix::io::pwrite(&self.file, rest, self.at)?;
                self.at += n as u64;
                Ok(n)
            })?;
            self.left -= n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Returns how many attributes were dropped.
    fn finish(&self, options: &UnpackOptions) -> Result<u64> {
        let Entry { shown, what, mode, uid, gid, chown, mtime, xattrs, .. } = self.entry.as_ref();
        if let What::File(size, Some(_)) = what {
            rustix::fs::ftruncate(&self.file, *size).map_err(|errno| entry_error("set the size of", shown, errno))?;
        }
        let meta = Meta { path: shown, mode: *mode, uid: *uid, gid: *gid, mtime: *mtime };
        meta.apply(&self.file, *chown, xattrs, options)
    }
}

fn write_all(mut bytes: &[u8], mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes) {
            // Repeating a write that makes no progress would never end.
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
