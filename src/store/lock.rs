//! Locks: `flock` on small files that also say who holds them.
//!
//! A lock file holds a line of JSON for each holder. An exclusive holder replaces the contents, a shared holder appends. The lines are
//! only for people: the kernel's lock decides. A stale line (its process is gone) is ignored and sometimes removed.
//!
//! Shared holders that follow each other closely would leave no moment for an exclusive one. So a lock that can be shared has a gate, a
//! second file beside it: who waits for the lock alone locks the gate, and shared holders pass it, held for no longer than a try takes.
//! Whoever has the lock already passes without waiting: the one who waits outside waits for us.
//!
//! On a file system that is mounted read-only the files are locked as they are, and nothing is written into them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use rustix::fs::{FlockOperation, MemfdFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::process::ProcessStamp;
use super::{Error, Result, process};

/// How often a waiting process tries again. If it waited in the kernel's queue, it could not notice that the user wants to stop.
const RETRY: Duration = Duration::from_millis(25);

/// How often a gate is tried before anybody is told that we wait.
const MOMENTS: usize = 20;

/// How long a gate stays locked. Commands that look at something are over by then. A build is not, and until its end others go on.
const GATE_CLOSED: Duration = Duration::from_secs(10);

/// How long a gate stays open between two such times.
const GATE_OPEN: Duration = Duration::from_secs(20);

/// What the file of a gate says then, since its last change.
const LEFT_OPEN: &[u8] = b"open\n";

/// How often each lock is held, shared, by this process.
static SHARED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// If a lock file is longer than this, the lines of processes that are gone are removed.
const SWEEP_BYTES: u64 = 16 * 1024;

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// What to do when a lock is held by others.
pub enum Wait<'a> {
    /// Fail at once with [`Error::Busy`].
    NoWait,
    /// Wait. The callback learns once who holds the lock.
    Block(&'a mut dyn FnMut(&Busy)),
    /// Wait as [`Wait::Block`] does, until `cancelled` is true: then fail with [`Error::Cancelled`].
    BlockUnless {
        /// Called once.
        notify: &'a mut dyn FnMut(&Busy),
        /// Asked at every try.
        cancelled: &'a dyn Fn() -> bool,
    },
    /// Wait and tell nobody: for locks that others hold for milliseconds.
    Quietly,
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWait => "NoWait",
            Self::Block(_) => "Block",
            Self::BlockUnless { .. } => "BlockUnless",
            Self::Quietly => "Quietly",
        })
    }
}

/// Who holds a lock, as written when they took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    #[serde(flatten)]
    pub process: ProcessStamp,
    /// Its own description of its command line; may be empty.
    pub command: String,
    /// RFC 3339.
    pub since: String,
}

/// A lock that others hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Busy {
    pub lock: String,
    /// The holders that still run. Empty if the process that took the lock is gone but a child of it still keeps it, such as the first
    /// process of a session.
    pub holders: Vec<Holder>,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is in use by ", self.lock)?;
        for (i, holder) in self.holders.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}process {}", holder.process.pid)?;
            if !holder.command.is_empty() {
                write!(f, " (`{}`)", holder.command)?;
            }
        }
        if self.holders.is_empty() {
            f.write_str("processes that an ended one left running")?;
        }
        Ok(())
    }
}

/// A lock, held until this and all its duplicates are closed.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    file: File,
    /// Present if it is held together with others.
    _share: Option<Share>,
}

/// An entry of [`SHARED`], until this is dropped.
#[derive(Debug)]
struct Share(PathBuf);

impl Share {
    fn new(path: &Path) -> Self {
        *SHARED.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_insert(0) += 1;
        Self(path.to_owned())
    }

    fn exists(path: &Path) -> bool {
        SHARED.lock().unwrap_or_else(PoisonError::into_inner).contains_key(path)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.0);
            }
        }
    }
}

impl Lock {
    /// Another descriptor of the same open file description: the process that gets it keeps the lock when we are gone.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned().map_err(|e| Error::io("duplicate a descriptor of", Path::new("lock"), e))
    }
}

/// The gate before a lock, see the top of this file.
struct Gate {
    path: PathBuf,
    /// Ours, while we wait.
    closed: Option<Held>,
    since: Option<Instant>,
}

/// A gate that we hold. To close the file is not enough: a process that another thread is just starting has it, too, until it becomes its
/// program.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Gate {
    fn before(lock: &Path) -> Self {
        let mut name = OsString::from("gate%");
        name.push(lock.file_name().unwrap_or_default());
        Self { path: lock.with_file_name(name), closed: None, since: None }
    }

    /// Locks the gate, or opens it again for a while: for all that wait alone, or their turns would follow each other without an end. If that
    /// fails, as on a full disk, we wait without it.
    fn tend(&mut self, command: &str) {
        let past = self.since.map(|since| since.elapsed());
        if self.closed.is_some() && past.is_some_and(|past| past > GATE_CLOSED) {
            if let Some(mut held) = self.closed.take() {
                let _ = held.0.set_len(0).and_then(|()| held.0.write_all(LEFT_OPEN));
            }
            self.since = Some(Instant::now());
        } else if self.closed.is_none() && past.is_none_or(|past| past > GATE_OPEN) {
            let Ok(mut file) = open(&self.path) else { return };
            if !self.is_left_open() && try_lock(&file, FlockOperation::NonBlockingLockExclusive, &self.path).unwrap_or(false) {
                record(&mut file, &self.path, LockMode::Exclusive, command);
                self.closed = Some(Held(file));
                self.since = Some(Instant::now());
            }
        }
    }

    /// Whether somebody has opened it for a while, and that is not over.
    fn is_left_open(&self) -> bool {
        let since = fs::metadata(&self.path).and_then(|gate| gate.modified()).ok().and_then(|at| at.elapsed().ok());
        since.is_some_and(|since| since < GATE_OPEN) && fs::read(&self.path).is_ok_and(|text| text == LEFT_OPEN)
    }

    /// Passes the gate, which is held open by the answer; nothing holds it if nobody ever waited.
    fn pass(&self) -> std::result::Result<Option<Held>, Closed> {
        let Ok(file) = File::open(&self.path) else { return Ok(None) };
        let free = try_lock(&file, FlockOperation::NonBlockingLockShared, &self.path).unwrap_or(true);
        if free { Ok(Some(Held(file))) } else { Err(Closed) }
    }
}

/// Somebody has locked the gate.
struct Closed;

/// One attempt to take a lock.
struct Attempt<'a> {
    file: &'a File,
    path: &'a Path,
    mode: LockMode,
    gate: Gate,
    command: &'a str,
}

impl Attempt<'_> {
    fn succeeds(&self) -> Result<bool> {
        match self.mode {
            LockMode::Exclusive => try_lock(self.file, FlockOperation::NonBlockingLockExclusive, self.path),
            LockMode::Shared => {
                let passed = if Share::exists(self.path) { Ok(None) } else { self.gate.pass() };
                match passed {
                    Err(Closed) => Ok(false),
                    Ok(_gate) => try_lock(self.file, FlockOperation::NonBlockingLockShared, self.path),
                }
            }
        }
    }

    /// Tries again after a pause. Who wants the lock alone closes the gate first.
    fn succeeds_later(&mut self, pause: Duration) -> Result<bool> {
        if self.mode == LockMode::Exclusive {
            self.gate.tend(self.command);
        }
        std::thread::sleep(pause);
        self.succeeds()
    }

    /// The holders of the lock, or whoever waits for all of them at the gate.
    fn holders(&self) -> Vec<Holder> {
        let mut found = holders(self.path);
        if self.mode == LockMode::Shared && self.gate.pass().is_err() {
            let waiting = holders(&self.gate.path);
            let new: Vec<Holder> =
                waiting.into_iter().filter(|one| found.iter().all(|other| other.process != one.process)).collect();
            found.extend(new);
        }
        without_ourselves(found)
    }
}

/// We may have had the lock in another mode a moment ago. Who waits wants to know the others; where there are none, an embedding program
/// is in its own way.
fn without_ourselves(mut found: Vec<Holder>) -> Vec<Holder> {
    let is_other = |holder: &Holder| u32::try_from(holder.process.pid).is_ok_and(|pid| pid != std::process::id());
    if found.iter().any(is_other) {
        found.retain(is_other);
    }
    found
}

/// Takes the lock at `path`. Others that wait for it see it as `name`.
pub(super) fn acquire(path: &Path, name: &str, mode: LockMode, wait: Wait<'_>, command: &str) -> Result<Lock> {
    let mut file = open(path)?;
    let mut attempt = Attempt { file: &file, path, mode, gate: Gate::before(path), command };
    if !attempt.succeeds()? {
        let busy = |attempt: &Attempt<'_>| Busy { lock: name.to_owned(), holders: attempt.holders() };
        if let Wait::NoWait = wait {
            return Err(Error::Busy(busy(&attempt)));
        }
        // A lock that is held for milliseconds is free again before a message about it could be read. A gate is free soon, too, unless
        // another process waits there.
        let mut free = attempt.succeeds_later(Duration::from_millis(1))?;
        for _ in 0..MOMENTS {
            if free || mode == LockMode::Shared || attempt.gate.closed.is_some() {
                break;
            }
            free = attempt.succeeds_later(Duration::from_millis(1))?;
        }
        if !free {
            let cancelled = match wait {
                Wait::Block(notify) => {
                    notify(&busy(&attempt));
                    None
                }
                Wait::BlockUnless { notify, cancelled } => {
                    notify(&busy(&attempt));
                    Some(cancelled)
                }
                Wait::NoWait | Wait::Quietly => None,
            };
            while !attempt.succeeds_later(RETRY)? {
                if cancelled.is_some_and(|cancelled| cancelled()) {
                    return Err(Error::Cancelled { lock: name.to_owned() });
                }
            }
        }
    }
    drop(attempt);
    record(&mut file, path, mode, command);
    Ok(Lock { file, _share: (mode == LockMode::Shared).then(|| Share::new(path)) })
}

/// Takes the lock of something that this process has just made. Only a recovery may have it, for an instant.
pub(super) fn acquire_own(path: &Path, command: &str) -> Result<Lock> {
    let mut file = open(path)?;
    while !try_lock(&file, FlockOperation::NonBlockingLockExclusive, path)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    record(&mut file, path, LockMode::Exclusive, command);
    Ok(Lock { file, _share: None })
}

/// Takes the lock at `path` exclusively if the file exists and nobody holds the lock; `None` otherwise.
pub(super) fn try_existing(path: &Path, command: &str) -> Result<Option<Lock>> {
    let mut file = match open_existing(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    if !try_lock(&file, FlockOperation::NonBlockingLockExclusive, path)? {
        return Ok(None);
    }
    record(&mut file, path, LockMode::Exclusive, command);
    Ok(Some(Lock { file, _share: None }))
}

/// Whether somebody holds the lock at `path`; false if there is no such file. It is taken for a moment to find out: shared, so that two
/// processes that look at the same time do not see each other.
pub(super) fn is_held(path: &Path) -> Result<bool> {
    match File::open(path) {
        Ok(file) => try_lock(&file, FlockOperation::NonBlockingLockShared, path).map(|free| !free),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

fn open(path: &Path) -> Result<File> {
    let opened = match OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path) {
        // Nobody ever held it, and nobody can make the file now: one in memory stands for it. The directory would stand for all such locks,
        // and who takes two of them would wait for itself.
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => {
            File::open(path).or_else(|_| Ok(File::from(rustix::fs::memfd_create("lock", MemfdFlags::CLOEXEC)?)))
        }
        opened => opened,
    };
    opened.map_err(|e| Error::io("open", path, e))
}

/// Append and not write: shared holders add their lines at the same time.
fn open_existing(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    }
}

fn try_lock(file: &File, operation: FlockOperation, path: &Path) -> Result<bool> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("lock", path, e.into())),
        }
    }
}

/// Writes down who holds the lock. If the disk is too full for that, the lock is held all the same.
fn record(file: &mut File, path: &Path, mode: LockMode, command: &str) {
    let Some(process) = ProcessStamp::current() else { return };
    let holder = Holder { process, command: command.to_owned(), since: process::now() };
    let Ok(mut line) = serde_json::to_string(&holder) else { return };
    line.push('\n');
    let result = match mode {
        LockMode::Exclusive => file.set_len(0).and_then(|()| file.write_all(line.as_bytes())),
        LockMode::Shared => {
            let long = file.metadata().is_ok_and(|m| m.len() > SWEEP_BYTES);
            if long {
                // A line that another holder appends at this moment may get lost. Only people read it.
                for living in holders(path) {
                    line.extend(serde_json::to_string(&living).ok());
                    line.push('\n');
                }
                let _ = file.set_len(0);
            }
            file.write_all(line.as_bytes())
        }
    };
    if let Err(error) = result {
        tracing::debug!(path = %path.display(), %error, "could not write down who holds the lock");
    }
}

/// The recorded holders that still run.
pub(super) fn holders(path: &Path) -> Vec<Holder> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let mut found: Vec<Holder> =
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).filter(|h: &Holder| h.process.is_running()).collect();
    found.dedup_by(|a, b| a.process == b.process);
    found
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lock(path: &Path, mode: LockMode, wait: Wait<'_>) -> Result<Lock> {
        acquire(path, "profile/x", mode, wait, "gentoomuch bootstrap x")
    }

    #[test]
    fn a_file_that_is_not_there_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        assert!(try_existing(&path, "").unwrap().is_none() && !is_held(&path).unwrap());
        std::fs::write(&path, "").unwrap();
        let below = path.join("below");
        let words = format!("cannot open `{}`", below.display());
        assert_eq!(try_existing(&below, "").unwrap_err().to_string(), words);
        assert_eq!(is_held(&below).unwrap_err().to_string(), words);
        let held = try_existing(&path, "").unwrap();
        assert!(held.is_some() && try_existing(&path, "").unwrap().is_none() && is_held(&path).unwrap());
    }

    #[test]
    fn who_waits_is_told_of_others() {
        let holder = |pid: u32| Holder {
            process: ProcessStamp { pid: pid.try_into().unwrap(), start_ticks: 0 },
            command: pid.to_string(),
            since: String::new(),
        };
        let (own, other) = (std::process::id(), std::process::id() + 1);
        let told = |pids: &[u32]| {
            let told: Vec<String> =
                without_ourselves(pids.iter().copied().map(holder).collect()).into_iter().map(|one| one.command).collect();
            told.join(" ")
        };
        assert_eq!(told(&[own, other]), other.to_string());
        assert_eq!(told(&[own]), own.to_string());
    }

    #[test]
    fn shared_with_shared_but_not_with_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let first = lock(&path, LockMode::Shared, Wait::NoWait).unwrap();
        let second = lock(&path, LockMode::Shared, Wait::NoWait).unwrap();
        let error = lock(&path, LockMode::Exclusive, Wait::NoWait).unwrap_err();
        let pid = std::process::id();
        assert_eq!(error.to_string(), format!("`profile/x` is in use by process {pid} (`gentoomuch bootstrap x`)"));
        drop(first);
        assert!(lock(&path, LockMode::Exclusive, Wait::NoWait).is_err());
        drop(second);
        let alone = lock(&path, LockMode::Exclusive, Wait::Quietly).unwrap();
        assert!(matches!(lock(&path, LockMode::Shared, Wait::NoWait), Err(Error::Busy(_))));
        drop(alone);
    }

    #[test]
    fn a_duplicate_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let held = lock(&path, LockMode::Exclusive, Wait::NoWait).unwrap();
        let duplicate = held.duplicate().unwrap();
        drop(held);
        assert!(lock(&path, LockMode::Exclusive, Wait::NoWait).is_err());
        drop(duplicate);
        // A program that another test starts has all descriptors for a moment, until it is executed.
        assert!(lock(&path, LockMode::Exclusive, Wait::Quietly).is_ok());
    }

    #[test]
    fn a_waiting_writer_is_told_once_and_then_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let held = lock(&path, LockMode::Exclusive, Wait::NoWait).unwrap();
        let told = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (path, told) = (&path, &told);
            let waiter = scope.spawn(move || {
                let mut notify = |busy: &Busy| {
                    assert_eq!(busy.holders.len(), 1);
                    told.fetch_add(1, Ordering::SeqCst);
                };
                lock(path, LockMode::Exclusive, Wait::Block(&mut notify)).map(drop)
            });
            while told.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            std::thread::sleep(RETRY * 3);
            assert!(!waiter.is_finished());
            drop(held);
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn waiting_can_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let _held = lock(&path, LockMode::Exclusive, Wait::NoWait).unwrap();
        let wait = Wait::BlockUnless { notify: &mut |_| {}, cancelled: &|| true };
        let error = lock(&path, LockMode::Exclusive, wait).unwrap_err();
        assert_eq!(error.to_string(), "gave up waiting for `profile/x`");
    }

    /// Another process takes the lock and is then killed: told about while it lives, free once it is dead.
    #[test]
    fn a_killed_process_holds_nothing() {
        const CHILD: &str = "GENTOOMUCH_TEST_LOCK";
        if let Some(path) = std::env::var_os(CHILD) {
            let _held = lock(Path::new(&path), LockMode::Exclusive, Wait::NoWait).unwrap();
            fs::write(Path::new(&path).with_extension("ready"), "").unwrap();
            std::thread::sleep(Duration::from_mins(1));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::lock::tests::a_killed_process_holds_nothing"])
            .env(CHILD, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !path.with_extension("ready").exists() {
            assert!(std::time::Instant::now() < deadline, "the child never took the lock");
            std::thread::sleep(Duration::from_millis(5));
        }
        let Err(Error::Busy(busy)) = lock(&path, LockMode::Shared, Wait::NoWait) else { panic!("not busy") };
        assert_eq!(busy.holders[0].process.pid, i32::try_from(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lock(&path, LockMode::Shared, Wait::NoWait).is_ok());
    }

    /// Takes the lock together with others, again and again, until a file `over` appears. Notes in `late` that it began to wait after the
    /// file `waiting` was there.
    fn read_again_and_again(dir: &Path) {
        let path = dir.join("l");
        let note = |name: &str| OpenOptions::new().append(true).create(true).open(dir.join(name)).unwrap().write_all(b"x").unwrap();
        let first = lock(&path, LockMode::Shared, Wait::Quietly).unwrap();
        note("begun");
        while !dir.join("waiting").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The readers end one after the other, so that one always has the lock until the last first one is gone.
        std::thread::sleep(Duration::from_millis(u64::from(std::process::id() % 16) * 4));
        drop(first);
        while !dir.join("over").exists() && fs::metadata(dir.join("late")).map_or(0, |meta| meta.len()) < 500 {
            let held = lock(&path, LockMode::Shared, Wait::Quietly).unwrap();
            if !dir.join("over").exists() {
                note("late");
            }
            std::thread::sleep(Duration::from_millis(20));
            drop(held);
        }
    }

    /// A command that holds the lock may take it again: the one who waits outside waits for just that command.
    #[test]
    fn who_is_inside_passes_the_gate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let first = lock(&path, LockMode::Shared, Wait::NoWait).unwrap();
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let path = &path;
            let writer = scope.spawn(move || {
                let mut notify = |_: &Busy| told.send(()).unwrap();
                lock(path, LockMode::Exclusive, Wait::Block(&mut notify)).map(drop)
            });
            waits.recv().unwrap();
            assert!(Gate::before(path).pass().is_err());
            let second = lock(path, LockMode::Shared, Wait::NoWait).unwrap();
            drop(first);
            let third = lock(path, LockMode::Shared, Wait::NoWait).unwrap();
            assert!(!writer.is_finished());
            drop((second, third));
            writer.join().unwrap().unwrap();
        });
        assert!(!Share::exists(&path) && Gate::before(&path).pass().is_ok());
    }

    #[test]
    fn readers_that_come_later_do_not_overtake_a_waiting_writer() {
        const READER: &str = "GENTOOMUCH_TEST_READER";
        if let Some(dir) = std::env::var_os(READER) {
            return read_again_and_again(Path::new(&dir));
        }
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let reader = || {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::lock::tests::readers_that_come_later_do_not_overtake_a_waiting_writer"])
                .env(READER, dir.path())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        };
        let readers: Vec<_> = (0..24).map(|_| reader()).collect();
        while fs::metadata(file("begun")).map_or(0, |meta| meta.len()) < 24 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut notify = |_: &Busy| fs::write(file("waiting"), "").unwrap();
        let held = lock(&file("l"), LockMode::Exclusive, Wait::Block(&mut notify)).unwrap();
        let late = fs::metadata(file("late")).map_or(0, |meta| meta.len());
        fs::write(file("over"), "").unwrap();
        drop(held);
        for mut reader in readers {
            assert!(reader.wait().unwrap().success());
        }
        assert!(file("waiting").exists());
        assert_eq!(late, 0, "readers that began to wait after the writer");
    }

    #[test]
    fn lines_of_gone_processes_are_ignored_and_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let gone = r#"{"pid":1,"start_ticks":1,"command":"gone","since":"2026-01-01T00:00:00Z"}"#;
        fs::write(&path, format!("{gone}\n").repeat(300)).unwrap();
        let first = lock(&path, LockMode::Shared, Wait::NoWait).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 1000);
        assert_eq!(holders(&path).len(), 1);
        drop(first);
        let none = Busy { lock: "x".into(), holders: Vec::new() };
        assert_eq!(none.to_string(), "`x` is in use by processes that an ended one left running");
    }

    #[test]
    fn a_gate_that_is_opened_is_open_for_all_who_wait() {
        let dir = tempfile::tempdir().unwrap();
        let [mut first, mut second] = [(); 2].map(|()| Gate::before(&dir.path().join("lock")));
        first.tend("first");
        assert!(first.closed.is_some());
        first.since = Instant::now().checked_sub(GATE_CLOSED + Duration::from_secs(1));
        // As a process has it that another thread starts just now.
        let started = first.closed.as_ref().map(|held| held.0.try_clone().unwrap());
        first.tend("first");
        second.tend("second");
        assert!(first.closed.is_none() && second.closed.is_none());
        let passed = Gate::before(&dir.path().join("lock")).pass().ok().flatten().unwrap();
        let passing = passed.0.try_clone().unwrap();
        drop(passed);
        // When the time is over, anybody may.
        let long_ago = std::time::SystemTime::now() - GATE_OPEN - Duration::from_secs(1);
        File::options().write(true).open(&second.path).unwrap().set_modified(long_ago).unwrap();
        second.tend("second");
        assert!(second.closed.is_some());
        drop((started, passing));
    }
}
