//! What the processes of a PID namespace use, as its own `/proc` tells.
//!
//! A first look is cheap: the resident pages of each process, shared ones as often as they are shared. Only if that is too much, each page is
//! divided among those who have it (`smaps_rollup`, which walks page tables), and files that the kernel can drop are left out. Files in memory
//! (tmpfs, memfd) are nobody's resident pages before somebody maps them, so they are counted where they lie.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FsWord, Mode, OFlags};

use super::mount::{Attributes, NewFileSystem};
use super::{Error, Result};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: FsWord = 0x0102_1994;

/// A view of a PID namespace, and of the file systems in memory that it can write to.
#[derive(Debug)]
pub struct Usage {
    proc: OwnedFd,
    in_memory: Vec<OwnedFd>,
}

/// Memory in bytes; processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// Bytes.
    pub memory_bytes: u64,
    /// Processes, each with its threads.
    pub pids: u64,
}

impl Usage {
    /// Of the calling process's PID namespace, by a `/proc` that is mounted nowhere, so that nobody can put another in its place.
    pub fn of_this_namespace() -> Result<Self> {
        let mounted = NewFileSystem::open("proc")?.mount(Attributes::KERNEL)?;
        // What `fsmount` gives cannot be listed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(&mounted, ".", flags, Mode::empty()).map_err(Error::of("openat", "/proc"))?;
        Ok(Self { proc, in_memory: Vec::new() })
    }

    /// Counts the files below `directory`, too, if they lie in memory. Each file system counts once.
    pub fn count_files_of(&mut self, directory: OwnedFd) -> Result<()> {
        let of = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev).map_err(Error::of("fstat", "a tmpfs"));
        let magic = rustix::fs::fstatfs(&directory).map_err(Error::of("fstatfs", "a tmpfs"))?.f_type;
        let device = of(directory.as_fd())?;
        let mut known = self.in_memory.iter().map(|known| of(known.as_fd()));
        if magic == TMPFS && !known.any(|known| known.is_ok_and(|known| known == device)) {
            self.in_memory.push(directory);
        }
        Ok(())
    }

    /// What is used now, without the process 1. Memory is counted exactly if it seems to be more than `worth_a_look`; without that it is not counted.
    /// Processes that end meanwhile are not counted: nothing here fails.
    pub fn look(&self, worth_a_look: Option<u64>) -> Found {
        let processes = self.processes();
        let page = page_bytes();
        let mut found = Found::default();
        let mut resident = 0;
        for pid in &processes {
            found.pids += self.read(pid, "stat").as_deref().and_then(threads).unwrap_or(1);
            if worth_a_look.is_some() {
                resident += self.read(pid, "statm").as_deref().and_then(|text| field(text, 1)).unwrap_or(0) * page;
            }
        }
        let Some(limit) = worth_a_look else { return found };
        let files = self.files_bytes() + self.memory_files_bytes(&processes);
        found.memory_bytes = resident + files;
        if found.memory_bytes > limit {
            found.memory_bytes = self.exact_bytes(&processes, files);
        }
        found
    }

    /// All process ids but our own.
    fn processes(&self) -> Vec<String> {
        let Ok(entries) = Dir::read_from(&self.proc) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| name != "1" && name.bytes().all(|byte| byte.is_ascii_digit())).collect()
    }

    fn read(&self, pid: &str, name: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.proc, format!("{pid}/{name}"), flags, Mode::empty()).ok()?;
        let mut text = vec![0; 4096];
        let length = rustix::io::read(&file, text.as_mut_slice()).ok()?;
        text.truncate(length);
        // Of `stat` the program's name may be anything.
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Files of the file systems that were named.
    fn files_bytes(&self) -> u64 {
        let used = |fd: &OwnedFd| {
            let stat = rustix::fs::fstatfs(fd).ok()?;
            let blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
            Some(blocks.saturating_mul(u64::try_from(stat.f_bsize).ok()?))
        };
        self.in_memory.iter().filter_map(used).sum()
    }

    /// Files without a name that somebody has open (`memfd_create`), each once.
    fn memory_files_bytes(&self, processes: &[String]) -> u64 {
        let mut seen = BTreeSet::new();
        let mut bytes = 0;
        for pid in processes {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(dir) = rustix::fs::openat(&self.proc, format!("{pid}/fd"), flags, Mode::empty()) else { continue };
            let Ok(entries) = Dir::read_from(&dir) else { continue };
            for entry in entries.flatten() {
                let is_memory = rustix::fs::readlinkat(&dir, entry.file_name(), Vec::new())
                    .is_ok_and(|target| target.as_bytes().starts_with(b"/memfd:"));
                if let (true, Ok(stat)) = (is_memory, rustix::fs::statat(&dir, entry.file_name(), AtFlags::empty()))
                    && seen.insert((stat.st_dev, stat.st_ino))
                {
                    bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                }
            }
        }
        bytes
    }

    /// Each page once. Files in memory that are mapped are in both numbers, so the larger one counts.
    fn exact_bytes(&self, processes: &[String], files: u64) -> u64 {
        let (mut own, mut shared) = (0, 0);
        for text in processes.iter().filter_map(|pid| self.read(pid, "smaps_rollup")) {
            own += kib(&text, "Pss_Anon:") * 1024;
            shared += kib(&text, "Pss_Shmem:") * 1024;
        }
        own + shared.max(files)
    }
}

/// The number of threads in `/proc/PID/stat` (`proc_pid_stat(5)`, field 20). The name in field 2 may hold blanks and parentheses.
fn threads(stat: &str) -> Option<u64> {
    field(stat.rsplit_once(')')?.1, 17)
}

fn page_bytes() -> u64 {
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

    /// The `/proc` of the tests themselves: their numbers are not ours to know, but they are there.
    #[test]
    fn a_look_counts_this_process_and_its_files_in_memory() {
        let proc = rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let usage = Usage { proc, in_memory: Vec::new() };
        let own = [std::process::id().to_string()];
        let file = rustix::fs::memfd_create("hog", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, &vec![1; 1 << 20]).unwrap();
        assert!(usage.memory_files_bytes(&own) >= 1 << 20);
        let before = usage.exact_bytes(&own, 0);
        let hog = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(usage.exact_bytes(&own, 0) >= before.max(32 << 20) + (32 << 20), "{before}");
        drop(hog);
        let found = usage.look(Some(u64::MAX));
        assert!(found.pids >= 1 && found.memory_bytes > 1 << 20, "{found:?}");
        assert_eq!(usage.look(None).memory_bytes, 0);
    }
}
