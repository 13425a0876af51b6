//! Our processes and mounts, seen from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How long the kernel may take to clear away what was killed.
const LIMIT: Duration = Duration::from_mins(4);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    /// The command line program.
    Program,
    /// Its outer helper: the supervisor of a session, or the task itself.
    Helper,
    /// PID 1 of the session.
    Init,
    /// All of them at once.
    All,
}

impl Victim {
    pub(crate) const ALL: [Self; 4] = [Self::Program, Self::Helper, Self::Init, Self::All];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Program => "the program",
            Self::Helper => "its helper",
            Self::Init => "PID 1 of the session",
            Self::All => "all at once",
        }
    }
}

/// A process, as its files in `/proc` describe it.
#[derive(Debug, Clone)]
struct Process {
    pid: i32,
    parent: i32,
    zombie: bool,
    /// What it calls itself.
    name: String,
}

fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    Some(Process { pid, parent, zombie, name })
}

/// All descendants of `ancestor`, whatever their owners.
fn descendants(ancestor: i32) -> Vec<Process> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in pids.filter_map(read) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// From now on a process whose parents died becomes a child of ours, so that none gets out of sight.
pub(crate) fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}

/// Kills `victim` of the program `pid`; where there is no such process just now, the program itself. Answers who died.
pub(crate) fn strike(pid: i32, victim: Victim) -> Option<Victim> {
    let below = descendants(pid);
    let named = |name: &str| below.iter().find(|process| process.name == name && !process.zombie).map(|process| process.pid);
    let (who, target) = match victim {
        Victim::Helper => named("gentoomuch-helper").map(|helper| (victim, helper)),
        Victim::Init => named("gentoomuch-init").map(|init| (victim, init)),
        Victim::Program | Victim::All => Some((victim, pid)),
    }
    .unwrap_or((Victim::Program, pid));
    if victim == Victim::All {
        // Those of other owners may not be killed by us; they go with PID 1.
        for process in &below {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
    kill(Pid::from_raw(target), Signal::SIGKILL).ok().map(|()| who)
}

/// Waits until no descendant of this process is left.
pub(crate) fn none_is_left() {
    let begin = Instant::now();
    loop {
        let left = descendants(std::process::id().cast_signed());
        for process in left.iter().filter(|process| process.zombie && process.parent == std::process::id().cast_signed()) {
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
        }
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "processes live on after {LIMIT:?}: {left:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// No process of this user has anything mounted from or to below `base`.
pub(crate) fn nothing_is_mounted(base: &Path) {
    let name = base.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let table = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        assert!(!table.contains(name), "{} still has mounts:\n{table}", entry.path().display());
    }
}

/// No lock below `dir` is held.
pub(crate) fn nothing_is_locked(dir: &Path) {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_lock = path.file_name().is_some_and(|name| name == "lock" || name == ".lock")
                || dir.file_name().is_some_and(|name| name == "locks");
            // Trees of layers hold whatever they like, and are not ours to look into.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && path.file_name().is_some_and(|name| name != "fs") {
                dirs.push(path);
            } else if is_lock && let Ok(file) = std::fs::File::open(&path) {
                let free = rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
                assert!(free, "`{}` is still locked", path.display());
            }
        }
    }
}
