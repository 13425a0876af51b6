//! Which process, in which boot. A process number alone does not do: the kernel uses numbers again.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// A process as found in `/proc`: its number and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessStamp {
    /// The number that the recording process sees.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`, see `proc_pid_stat(5)`).
    pub start_ticks: u64,
}

impl ProcessStamp {
    /// The process that has this number now; `None` if there is none or only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = parse_stat(&stat)?;
        // The kernel has already released the files and mounts of a zombie.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_ticks })
    }

    pub fn current() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Whether this same process still runs.
    pub fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Waits until the process is gone. False if it still runs after `limit`.
    pub(super) fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// State and start time in a line of `/proc/PID/stat`. The command's name, in parentheses, may hold anything, also blanks and `)`.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3, the start time field 22.
    let ticks = fields.nth(18)?.parse().ok()?;
    Some((state, ticks))
}

/// The boot id if the kernel does not tell it. It never equals another one.
pub(crate) const UNKNOWN_BOOT: &str = "unknown";

/// The id of this boot.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        // Some containers mask it. There boots cannot be told apart, so no suspended session is resumed.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(UNKNOWN_BOOT.to_owned()),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Now, RFC 3339, UTC, in milliseconds.
pub(super) fn now() -> String {
    let now = crate::clock::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_same() {
        let me = ProcessStamp::current().unwrap();
        assert!(me.is_running());
        let other = ProcessStamp { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.is_running());
        assert!(other.wait_gone(Duration::ZERO));
        assert!(!me.wait_gone(Duration::from_millis(10)));
    }

    #[test]
    fn this_boot_has_a_name() {
        let told = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        assert_eq!(boot_id().unwrap(), told.as_deref().map_or(UNKNOWN_BOOT, str::trim));
    }

    #[test]
    fn time_is_rfc3339() {
        assert!(now().parse::<jiff::Timestamp>().is_ok());
        assert!(now().ends_with('Z'));
    }
}
