//! A control group (version 2) for one session, if an administrator or a service manager has given us a place for one.
//!
//! ```text
//! /sys/fs/cgroup/…/app.slice         memory and pids are in its cgroup.subtree_control, and we may write to it
//!   app-shell.scope                  where we are ourselves
//!   gentoomuch-PID                   named after PID 1's number: made for it, and removed when it is reaped
//! ```
//!
//! A group with processes of its own cannot pass controllers on (cgroups(7), "no internal processes"). So our group is made beside us or
//! further up, not below. A killed run leaves an empty group, and the next run removes it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Error, Result};

/// Beginning of the names of our groups.
const PREFIX: &str = "gentoomuch-";

/// What a group may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance {
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Between groups that of processes counts nothing.
    pub nice: Option<u8>,
}

/// What the kernel refused to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Memory: the kernel has killed a process.
    Memory,
    /// A process or thread.
    Pids,
}

/// A group. Dropping it removes it, if its processes are gone.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes a group for the process `pid` and all children that it starts from now on. `None` if there is no place for one.
    pub(crate) fn around(pid: i32, allowance: Allowance) -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = places(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        own.iter().find_map(|place| match Self::at(place, pid, allowance) {
            Ok(group) => group,
            Err(error) => {
                tracing::debug!(%error, place = %place.display(), "no control group there");
                None
            }
        })
    }

    /// The same at one place. `None` if the place does not have the controllers.
    fn at(place: &Path, pid: i32, allowance: Allowance) -> Result<Option<Self>> {
        let controllers = fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
        if !has("memory") || !has("pids") {
            return Ok(None);
        }
        remove_left(place);
        let dir = place.join(format!("{PREFIX}{pid}"));
        fs::create_dir(&dir).map_err(Error::of("mkdir", dir.display()))?;
        let group = Self { dir };
        if let Some(bytes) = allowance.memory_bytes {
            group.write("memory.max", bytes)?;
            // The kernel would swap out what exceeds `memory.max` instead of refusing it. Without swap there is no such file.
            match group.write("memory.swap.max", 0) {
                Err(error) if error.errno() != Some(libc::ENOENT) => return Err(error),
                _ => {}
            }
        }
        if let Some(pids) = allowance.pids {
            group.write("pids.max", pids)?;
        }
        if let Some(cpus) = allowance.cpus.filter(|_| has("cpu")) {
            // Quota and period in microseconds: of each 100 ms, so many times 100 ms of a processor.
            group.write("cpu.max", format_args!("{} 100000", u64::from(cpus) * 100_000))?;
        }
        if let Some(nice) = allowance.nice.filter(|_| has("cpu")) {
            group.write("cpu.weight.nice", nice)?;
        }
        group.write("cgroup.procs", pid)?;
        Ok(Some(group))
    }

    fn write(&self, name: &str, value: impl std::fmt::Display) -> Result<()> {
        let (path, value) = (self.dir.join(name), value.to_string());
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(Error::of("write", format_args!("{}, {value}", path.display())))
    }

    /// What was refused to the group so far, if anything.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let count = |file: &str, key: &str| events(&fs::read_to_string(self.dir.join(file)).unwrap_or_default(), key);
        if count("memory.events", "oom_kill") > 0 {
            Some(Refused::Memory)
        } else if count("pids.events", "max") > 0 {
            Some(Refused::Pids)
        } else {
            None
        }
    }

    /// Kills all processes in the group (Linux 5.14). Before that, the caller's kill of PID 1 must do.
    pub(crate) fn kill(&self) {
        if let Err(error) = self.write("cgroup.kill", 1) {
            tracing::debug!(%error, "the control group is not killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group in use cannot be removed. The next run removes it.
        if let Err(error) = fs::remove_dir(&self.dir) {
            tracing::debug!(%error, dir = %self.dir.display(), "a control group is left");
        }
    }
}

/// Where a group may be made, the nearest first: beside this process, then further up.
fn places(own: &str, mountinfo: &str) -> Vec<PathBuf> {
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    for line in mountinfo.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(dash) = words.iter().position(|word| *word == "-") else { continue };
        if words.get(dash + 1) != Some(&"cgroup2") || words.len() < 5 {
            continue;
        }
        // In a container the mount may show only a part of the hierarchy.
        let Ok(below) = Path::new(own).strip_prefix(words[3]) else { continue };
        let mount = PathBuf::from(words[4].replace("\\040", " "));
        return below.ancestors().map(|part| mount.join(part).components().collect()).collect();
    }
    Vec::new()
}

/// Removes the groups of killed runs. The kernel refuses to remove a group with processes.
fn remove_left(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) && fs::remove_dir(entry.path()).is_ok() {
            tracing::debug!(dir = %entry.path().display(), "removed the control group of a killed run");
        }
    }
}

fn events(text: &str, key: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_beside_us_or_above() {
        let mountinfo = "25 1 0:23 / /sys rw - sysfs sysfs rw\n26 25 0:24 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let own = "12:pids:/x\n0::/user.slice/user@1000.service/app.slice/shell.scope\n";
        let found = places(own, mountinfo);
        let names: Vec<&str> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/sys/fs/cgroup/user.slice/user@1000.service/app.slice/shell.scope",
                "/sys/fs/cgroup/user.slice/user@1000.service/app.slice",
                "/sys/fs/cgroup/user.slice/user@1000.service",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup",
            ]
        );
        // Of a part that is mounted elsewhere; of another part; of version 1.
        let part = "26 25 0:24 /user.slice /a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(places(own, part).last().unwrap(), Path::new("/a b"));
        assert!(places("0::/system.slice\n", part).is_empty());
        assert!(places("4:memory:/x\n", mountinfo).is_empty());
        assert!(places(own, "26 25 0:24 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n").is_empty());
    }

    /// A directory in the place of the kernel's: what is written, and in which order it goes wrong.
    #[test]
    fn limits_are_written_and_the_process_is_put_in_last() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let allowance = Allowance { memory_bytes: Some(1 << 30), pids: Some(100), cpus: Some(2), nice: Some(5) };
        fs::write(place.join("cgroup.subtree_control"), "cpu pids\n").unwrap();
        assert!(Group::at(place, 7, allowance).unwrap().is_none());
        assert!(!place.join("gentoomuch-7").exists());
        fs::write(place.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        // The kernel puts files into a new group, this does not: the first write fails, and nothing is left.
        fs::create_dir(place.join("gentoomuch-5")).unwrap();
        let error = Group::at(place, 7, allowance).unwrap_err();
        assert!(error.to_string().contains("memory.max, 1073741824"), "{error}");
        assert!(!place.join("gentoomuch-5").exists() && !place.join("gentoomuch-7").exists());
        // Another run's directory with something in it.
        let busy = place.join("gentoomuch-6");
        fs::create_dir(&busy).unwrap();
        fs::write(busy.join("cgroup.procs"), "6").unwrap();
        let group = Group { dir: place.join("gentoomuch-6") };
        fs::write(busy.join("memory.events"), "low 0\noom 2\noom_kill 0\noom_group_kill 3\n").unwrap();
        fs::write(busy.join("pids.events"), "max 0\n").unwrap();
        assert_eq!(group.refused(), None);
        fs::write(busy.join("pids.events"), "max 4\n").unwrap();
        assert_eq!(group.refused(), Some(Refused::Pids));
        fs::write(busy.join("memory.events"), "oom_kill 1\n").unwrap();
        assert_eq!(group.refused(), Some(Refused::Memory));
        remove_left(place);
        assert!(busy.exists());
        drop(group);
        assert!(busy.exists());
    }
}
