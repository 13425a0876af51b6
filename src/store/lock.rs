//! Locks: `flock` on small files that also say who holds them.
//!
//! A lock file holds a line of JSON for each holder. An exclusive holder replaces the contents, a shared holder appends. The lines are
//! only for people: the kernel's lock decides. A stale line (its process is gone) is ignored and sometimes removed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::process::ProcessStamp;
use super::{Error, Result, process};

/// How often a waiting process tries again. If it waited in the kernel's queue, it could not notice that the user wants to stop.
const RETRY: Duration = Duration::from_millis(25);

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
}

impl Lock {
    /// Another descriptor of the same open file description: the process that gets it keeps the lock when we are gone.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned().map_err(|e| Error::io("duplicate a descriptor of", Path::new("lock"), e))
    }
}

/// Takes the lock at `path`. Others that wait for it see it as `name`.
pub(super) fn acquire(path: &Path, name: &str, mode: LockMode, wait: Wait<'_>, command: &str) -> Result<Lock> {
    // Append and not write: shared holders add their lines at the same time.
    let mut file = open(path)?;
    let operation = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    if !try_lock(&file, operation, path)? {
        let lock = || name.to_owned();
        let busy = || Busy { lock: lock(), holders: holders(path) };
        if let Wait::NoWait = wait {
            return Err(Error::Busy(busy()));
        }
        // A lock that is held for milliseconds is free again before a message about it could be read.
        std::thread::sleep(Duration::from_millis(1));
        if !try_lock(&file, operation, path)? {
            let cancelled = match wait {
                Wait::Block(notify) => {
                    notify(&busy());
                    None
                }
                Wait::BlockUnless { notify, cancelled } => {
                    notify(&busy());
                    Some(cancelled)
                }
                Wait::NoWait | Wait::Quietly => None,
            };
            while !try_lock(&file, operation, path)? {
                if cancelled.is_some_and(|cancelled| cancelled()) {
                    return Err(Error::Cancelled { lock: lock() });
                }
                std::thread::sleep(RETRY);
            }
        }
    }
    record(&mut file, path, mode, command);
    Ok(Lock { file })
}

/// Takes the lock at `path` exclusively if the file exists and nobody holds the lock; `None` otherwise.
pub(super) fn try_existing(path: &Path, command: &str) -> Result<Option<Lock>> {
    let mut file = match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    if !try_lock(&file, FlockOperation::NonBlockingLockExclusive, path)? {
        return Ok(None);
    }
    record(&mut file, path, LockMode::Exclusive, command);
    Ok(Some(Lock { file }))
}

/// Whether somebody holds the lock at `path`; false if there is no such file. It is taken for a moment to find out: shared, so that two
/// processes that look at the same time do not see each other.
pub(super) fn is_held(path: &Path) -> Result<bool> {
    match File::open(path) {
        Ok(file) => try_lock(&file, FlockOperation::NonBlockingLockShared, path).map(|free| !free),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(|e| Error::io("open", path, e))
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
}
