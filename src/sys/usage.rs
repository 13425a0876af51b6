//! What the processes of a PID namespace use, according to its own `/proc`, or to one that shows more.
//!
//! A first look is cheap: the resident pages of each process, with shared pages counted for each process that has them. Only if the sum
//! is too much, each page is divided among those who have it (`smaps_rollup`, which walks page tables), and files that the kernel can
//! drop are left out. Files in memory (tmpfs, memfd, segments of System V) belong to no process before one maps them, so they are counted
//! where they lie.
//!
//! The session may be hostile: it can have so many processes, descriptors and shared pages that a look takes minutes. So a look has a
//! [`Budget`].

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::fs::{AtFlags, Dir, FsWord, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::mount::{Attributes, NewFileSystem};
use super::{Error, Result};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: FsWord = 0x0102_1994;
/// What the kernel needs for a file besides what is in it: `struct shmem_inode_info` and a name.
const INODE_BYTES: u64 = 1024;

/// A view of a PID namespace, and of the file systems in memory that it can write to.
#[derive(Debug)]
pub(crate) struct Usage {
    proc: OwnedFd,
    /// What `proc` calls the calling process.
    own: String,
    /// The calling process's PID namespace, if `proc` shows other processes as well.
    namespace: Option<(u64, u64)>,
    in_memory: Vec<OwnedFd>,
    /// The IPC namespace of the calling process. `None`: segments are not counted.
    own_ipc: Option<OwnedFd>,
}

/// What makes two descriptors the same file.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// What has to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Worth {
    /// More memory than this is counted exactly; `None`: none is counted.
    pub memory_bytes: Option<u64>,
    /// More processes than this need not be counted.
    pub most_pids: Option<u64>,
}

/// What a look may cost.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In processor time of this thread.
    ran: Duration,
    until: Option<Instant>,
    /// Calls that cost nothing. In a virtual machine, the time in which the host runs others counts as ours.
    free: Cell<u32>,
}

/// As many as a few processes need. A hostile session can make each of them take some milliseconds.
const FREE_CALLS: u32 = 64;

/// Why a look gave no result.
#[derive(Debug)]
pub(crate) enum Unseen {
    /// It would have cost more than it may.
    TooMuch,
    /// A call failed for another reason than the end of a process.
    Failed(Error),
}

impl From<Error> for Unseen {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Budget {
    /// At most this much processor time of this thread, however busy the machine is, and nothing after `until`.
    pub(crate) fn new(most: Duration, until: Option<Instant>) -> Self {
        Self { ran: ran().saturating_add(most), until, free: Cell::new(FREE_CALLS) }
    }

    #[cfg(test)]
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        self.until.is_some_and(|until| until <= Instant::now() + time)
    }

    fn spend(&self) -> std::result::Result<(), Unseen> {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        let left = self.free.get();
        self.free.set(left.saturating_sub(1));
        if late || left == 0 && ran() >= self.ran { Err(Unseen::TooMuch) } else { Ok(()) }
    }
}

/// The processor time of this thread so far. If the kernel does not tell, for ever: then every look costs too much.
fn ran() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Duration::MAX };
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0)))
        .iter()
        .sum()
}

/// How many threads the machine has: the lower sixteen bits of the sum, as sysinfo(2) gives them.
pub(crate) fn threads_of_machine() -> u16 {
    rustix::system::sysinfo().procs
}

/// Memory in bytes; processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub memory_bytes: u64,
    /// Processes, each with its threads.
    pub pids: u64,
}

impl Usage {
    /// Of the calling process's PID namespace, by a `/proc` that is mounted nowhere. So nobody can put another in its place.
    pub(crate) fn of_this_namespace() -> Result<Self> {
        let mounted = NewFileSystem::open("proc")?.mount(Attributes::KERNEL)?;
        // The descriptor of `fsmount` is like one with `O_PATH`: it cannot be listed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(&mounted, ".", flags, Mode::empty()).map_err(Error::of("openat", "/proc"))?;
        Self::by(proc, false)
    }

    /// The same by the `/proc` at `place`, which may belong to a PID namespace above.
    pub(crate) fn by_shared(place: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::by(rustix::fs::openat(place, ".", flags, Mode::empty()).map_err(Error::of("openat", "/proc"))?, true)
    }

    fn by(proc: OwnedFd, shared: bool) -> Result<Self> {
        let own = rustix::fs::readlinkat(&proc, "self", Vec::new()).map_err(Error::of("readlinkat", "/proc/self"))?;
        let own = own.to_string_lossy().into_owned();
        let path = format!("{own}/ns/ipc");
        let own_ipc = rustix::fs::openat(&proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let own_ipc = Some(own_ipc.map_err(Error::of("openat", format_args!("/proc/{path}")))?);
        let path = format!("{own}/ns/pid");
        let namespace = if shared {
            let stat = rustix::fs::statat(&proc, &path, AtFlags::empty());
            Some(identity(&stat.map_err(Error::of("fstatat", format_args!("/proc/{path}")))?))
        } else {
            None
        };
        Ok(Self { proc, own, namespace, in_memory: Vec::new(), own_ipc })
    }

    /// Also counts the files of the file system at `directory` if it lies in memory. Each file system counts once.
    pub(crate) fn count_files_of(&mut self, directory: OwnedFd) -> Result<()> {
        let of = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev).map_err(Error::of("fstat", "a tmpfs"));
        let magic = rustix::fs::fstatfs(&directory).map_err(Error::of("fstatfs", "a tmpfs"))?.f_type;
        let device = of(directory.as_fd())?;
        let mut known = self.in_memory.iter().map(|known| of(known.as_fd()));
        if magic == TMPFS && !known.any(|known| known.is_ok_and(|known| known == device)) {
            self.in_memory.push(directory);
        }
        Ok(())
    }

    /// What is used now, without process 1. Memory is first estimated and counted exactly only if the estimate exceeds
    /// `worth.memory_bytes`; without a limit it is not counted, nor with more processes than `most_pids`. Processes that end meanwhile
    /// are not counted.
    ///
    /// # Errors
    ///
    /// [`Unseen`]. What cannot be read is never taken for nothing.
    pub(crate) fn look(&self, worth: &Worth, budget: &Budget) -> std::result::Result<Found, Unseen> {
        let processes = self.processes(worth.most_pids, budget)?;
        let mut found = Found { pids: u64::try_from(processes.len()).unwrap_or(u64::MAX), memory_bytes: 0 };
        if worth.most_pids.is_some_and(|most| found.pids > most) {
            return Ok(found);
        }
        found.pids = self.threads_of(&processes, budget)?;
        if let Some(limit) = worth.memory_bytes {
            found.memory_bytes = self.memory_bytes_of(&processes, limit, budget)?;
        }
        Ok(found)
    }

    fn threads_of(&self, processes: &[String], budget: &Budget) -> std::result::Result<u64, Unseen> {
        let mut pids = 0;
        for pid in processes {
            budget.spend()?;
            pids += self.read(pid, "stat")?.as_deref().and_then(threads).unwrap_or(1);
        }
        Ok(pids)
    }

    fn memory_bytes_of(&self, processes: &[String], limit: u64, budget: &Budget) -> std::result::Result<u64, Unseen> {
        let page = page_bytes();
        let mut resident = 0;
        for pid in processes {
            budget.spend()?;
            resident += self.read(pid, "statm")?.as_deref().and_then(|text| field(text, 1)).unwrap_or(0) * page;
        }
        let mut files = self.files_bytes()? + self.memory_files_bytes(processes, budget)?;
        if let Some(own) = &self.own_ipc {
            files += self.segments_bytes(processes, own, budget)?;
        }
        if resident + files <= limit { Ok(resident + files) } else { self.exact_bytes(processes, files, budget) }
    }

    /// All process ids but our own, or one more than `most`.
    fn processes(&self, most: Option<u64>, budget: &Budget) -> std::result::Result<Vec<String>, Unseen> {
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.proc).map_err(Error::of("opendir", "/proc"))? {
            budget.spend()?;
            if found.len() > most {
                break;
            }
            let entry = entry.map_err(Error::of("readdir", "/proc"))?;
            let name = entry.file_name().to_str().unwrap_or_default();
            let is_process = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if is_process && name != self.own && self.is_here(name)? {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    /// Whether a process is in the calling process's PID namespace, or in one below it, as a session may make them. The kernel does not let
    /// us look at processes of other user namespaces than those below our own (EACCES), so they are none of ours.
    fn is_here(&self, pid: &str) -> Result<bool> {
        let Some(namespace) = self.namespace else { return Ok(true) };
        let path = format!("{pid}/ns/pid");
        let mut found = match rustix::fs::openat(&self.proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS) => return Ok(false),
            Err(errno) => return Err(Error::new("openat", format_args!("/proc/{path}"), errno)),
        };
        loop {
            let stat = rustix::fs::fstat(&found).map_err(Error::of("fstat", format_args!("/proc/{path}")))?;
            if identity(&stat) == namespace {
                return Ok(true);
            }
            // The kernel nests 32 of them. It names none that lies above our own.
            match super::namespace::above(&found) {
                Some(above) => found = above,
                None => return Ok(false),
            }
        }
    }

    /// The beginning of a file of a process; `None` if the process is gone.
    fn read(&self, pid: &str, name: &str) -> Result<Option<String>> {
        let path = format!("{pid}/{name}");
        let Some(file) = self
            .unless_gone(pid, rustix::fs::openat(&self.proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
            .map_err(Error::of("openat", format_args!("/proc/{path}")))?
        else {
            return Ok(None);
        };
        let mut text = vec![0; 4096];
        let length = self
            .unless_gone(pid, rustix::io::read(&file, text.as_mut_slice()))
            .map_err(Error::of("read", format_args!("/proc/{path}")))?;
        text.truncate(length.unwrap_or(0));
        // A program chooses its name in `stat`, which need not be UTF-8.
        Ok(length.map(|_| String::from_utf8_lossy(&text).into_owned()))
    }

    /// `None` if the process has ended. A process that ended but is not reaped has no memory any more, and the kernel gives its files in
    /// `/proc` to the host's root: EACCES.
    fn unless_gone<T>(&self, pid: &str, answer: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(Errno::ACCESS) if self.has_no_memory(pid) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn has_no_memory(&self, pid: &str) -> bool {
        let mut text = [0; 64];
        let file = rustix::fs::openat(&self.proc, format!("{pid}/statm"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match file.and_then(|file| rustix::io::read(&file, &mut text)) {
            Ok(length) => text[..length].starts_with(b"0 "),
            Err(errno) => matches!(errno, Errno::NOENT | Errno::SRCH),
        }
    }

    /// The files of the file systems in memory. An empty file counts with what the kernel needs for it.
    fn files_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for fd in &self.in_memory {
            let stat = rustix::fs::fstatfs(fd).map_err(Error::of("fstatfs", "a tmpfs"))?;
            let blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
            bytes += blocks.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(4096));
            bytes += stat.f_files.saturating_sub(stat.f_ffree).saturating_mul(INODE_BYTES);
        }
        Ok(bytes)
    }

    /// Files without a name that a process has open (`memfd_create`), each counted once.
    fn memory_files_bytes(&self, processes: &[String], budget: &Budget) -> std::result::Result<u64, Unseen> {
        let mut seen = BTreeSet::new();
        let mut bytes = 0;
        for pid in processes {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = self.unless_gone(pid, rustix::fs::openat(&self.proc, format!("{pid}/fd"), flags, Mode::empty()));
            let Some(dir) = dir.map_err(Error::of("openat", format_args!("/proc/{pid}/fd")))? else { continue };
            let failed = |call: &'static str| move |errno: Errno| Error::new(call, format_args!("/proc/{pid}/fd"), errno);
            for entry in Dir::read_from(&dir).map_err(failed("opendir"))? {
                budget.spend()?;
                let Some(entry) = self.unless_gone(pid, entry).map_err(failed("readdir"))? else { break };
                if entry.file_name().to_bytes().starts_with(b".") {
                    continue;
                }
                let target = self
                    .unless_gone(pid, rustix::fs::readlinkat(&dir, entry.file_name(), Vec::new()))
                    .map_err(failed("readlinkat"))?;
                if !target.is_some_and(|target| target.as_bytes().starts_with(b"/memfd:")) {
                    continue;
                }
                let stat = self
                    .unless_gone(pid, rustix::fs::statat(&dir, entry.file_name(), AtFlags::empty()))
                    .map_err(failed("fstatat"))?;
                if let Some(stat) = stat.filter(|stat| seen.insert((stat.st_dev, stat.st_ino))) {
                    bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                }
            }
        }
        Ok(bytes)
    }

    /// System V segments, attached or not, of every IPC namespace that a process is in. The kernel lists only those of the caller's own
    /// namespace, so we enter each.
    fn segments_bytes(&self, processes: &[String], own: &OwnedFd, budget: &Budget) -> std::result::Result<u64, Unseen> {
        let link = |pid: &str| {
            let path = format!("{pid}/ns/ipc");
            self.unless_gone(pid, rustix::fs::readlinkat(&self.proc, &path, Vec::new()))
                .map_err(Error::of("readlinkat", format_args!("/proc/{path}")))
        };
        let mut bytes = self.segments_here_bytes()?;
        let mut seen: BTreeSet<_> = link(&self.own)?.into_iter().collect();
        for pid in processes {
            budget.spend()?;
            if !link(pid)?.is_some_and(|link| seen.insert(link)) {
                continue;
            }
            let path = format!("{pid}/ns/ipc");
            let namespace =
                self.unless_gone(pid, rustix::fs::openat(&self.proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()));
            let Some(namespace) = namespace.map_err(Error::of("openat", format_args!("/proc/{path}")))? else { continue };
            let enter = |namespace: &OwnedFd| {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWIPC).map_err(Error::of("setns", "CLONE_NEWIPC"))
            };
            enter(&namespace)?;
            let there = self.segments_here_bytes();
            // Back before any error is returned: the next look counts from here.
            enter(own)?;
            bytes += there?;
        }
        Ok(bytes)
    }

    /// System V segments of the namespace that this process is in.
    fn segments_here_bytes(&self) -> Result<u64> {
        let path = "sysvipc/shm";
        let file = match rustix::fs::openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            // A kernel without System V IPC.
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(Error::new("openat", "/proc/sysvipc/shm", errno)),
        };
        let mut text = String::new();
        // One namespace has at most `kernel.shmmni` lines, 32768 at most.
        let read = std::fs::File::from(file).take(16 << 20).read_to_string(&mut text);
        read.map_err(Error::of("read", "/proc/sysvipc/shm"))?;
        Ok(segments(&text))
    }

    /// Counts each page once. Mapped files in memory are in both numbers, so the larger one counts.
    fn exact_bytes(&self, processes: &[String], files: u64, budget: &Budget) -> std::result::Result<u64, Unseen> {
        let (mut own, mut shared) = (0, 0);
        for pid in processes {
            budget.spend()?;
            let Some(text) = self.read(pid, "smaps_rollup")? else { continue };
            own += kib(&text, "Pss_Anon:") * 1024;
            shared += kib(&text, "Pss_Shmem:") * 1024;
        }
        Ok(own + shared.max(files))
    }
}

/// Resident and swapped bytes of all segments in `/proc/sysvipc/shm`, which names its columns (Linux 2.6.36).
fn segments(text: &str) -> u64 {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let columns: Vec<usize> = ["rss", "swap"].iter().filter_map(|wanted| names.iter().position(|name| name == wanted)).collect();
    lines.flat_map(|line| columns.iter().filter_map(move |column| field(line, *column))).sum()
}

/// The number of threads in `/proc/PID/stat` (`proc_pid_stat(5)`, field 20). The name in field 2 may hold blanks and parentheses.
fn threads(stat: &str) -> Option<u64> {
    field(stat.rsplit_once(')')?.1, 17)
}

pub(super) fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

fn field(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| field(line, 0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_whatever_a_program_is_called() {
        let stat = "7 (a) R 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 3 0 1000 1 2 3";
        assert_eq!(threads(stat), Some(3));
        assert_eq!(threads("7 (cut"), None);
        assert_eq!(field("100 25 3", 1), Some(25));
        let rollup = "5581-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 100 kB\nPss: 50 kB\nPss_Anon:    40 kB\nPss_Shmem:  7 kB\n";
        assert_eq!((kib(rollup, "Pss_Anon:"), kib(rollup, "Pss_Shmem:"), kib(rollup, "Swap:")), (40, 7, 0));
    }

    fn usage(proc: &std::path::Path) -> Usage {
        let proc = rustix::fs::open(proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Usage { proc, own: "1".to_owned(), namespace: None, in_memory: Vec::new(), own_ipc: None }
    }

    fn plenty() -> Budget {
        Budget::new(Duration::from_hours(1), None)
    }

    /// The `/proc` of the tests themselves: their numbers are not ours to know, but they are there.
    #[test]
    fn a_look_counts_this_process_and_its_files_in_memory() {
        let usage = usage("/proc".as_ref());
        let own = [std::process::id().to_string()];
        let file = rustix::fs::memfd_create("hog", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, &vec![1; 1 << 20]).unwrap();
        assert!(usage.memory_files_bytes(&own, &plenty()).unwrap() >= 1 << 20);
        let before = usage.exact_bytes(&own, 0, &plenty()).unwrap();
        let hog = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(usage.exact_bytes(&own, 0, &plenty()).unwrap() >= before.max(32 << 20) + (32 << 20), "{before}");
        drop(hog);
        assert!(usage.threads_of(&own, &plenty()).unwrap() >= 1);
        assert!(usage.memory_bytes_of(&own, u64::MAX, &plenty()).unwrap() > 1 << 20);
        let found = usage.look(&Worth { memory_bytes: None, most_pids: Some(0) }, &plenty()).unwrap();
        assert!(found.pids >= 1 && found.memory_bytes == 0, "{found:?}");
    }

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let usage = usage(dir.path());
        let worth = Worth { memory_bytes: Some(1 << 30), most_pids: None };
        // It has ended before it was looked at.
        std::fs::create_dir(dir.path().join("7")).unwrap();
        assert_eq!(usage.look(&worth, &plenty()).unwrap(), Found { pids: 1, memory_bytes: 0 });
        for name in ["stat", "statm", "fd"] {
            let path = dir.path().join("7").join(name);
            if name == "fd" {
                std::fs::write(&path, "").unwrap();
            } else {
                std::fs::create_dir(&path).unwrap();
            }
            match usage.look(&worth, &plenty()) {
                Err(Unseen::Failed(error)) => assert!(error.to_string().contains(&format!("/proc/7/{name}")), "{error}"),
                other => panic!("{name}: {other:?}"),
            }
            if name == "fd" { std::fs::remove_file(&path).unwrap() } else { std::fs::remove_dir(&path).unwrap() }
        }
    }

    #[test]
    fn a_look_ends_with_its_budget() {
        let usage = usage("/proc".as_ref());
        let worth = Worth { memory_bytes: Some(1), most_pids: None };
        let none = Budget { free: Cell::new(0), ..Budget::new(Duration::ZERO, None) };
        for budget in [none, Budget::new(Duration::from_hours(1), Some(Instant::now()))] {
            assert!(matches!(usage.look(&worth, &budget), Err(Unseen::TooMuch)));
        }
        let budget = Budget::new(Duration::ZERO, None);
        assert!((0..FREE_CALLS).all(|_| budget.spend().is_ok()) && budget.spend().is_err());
    }

    #[test]
    fn segments_are_known_by_the_names_of_columns() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n\
                    0          0  1600              16777216  7     7      0     0     0     0     0          1          2          3              16777216                  4096\n\
                    0          1  1600              16777216  7     7      0     0     0     0     0          1          2          3                  8192                     0\n";
        assert_eq!((segments(text), segments("")), (16_777_216 + 4096 + 8192, 0));
    }
}
