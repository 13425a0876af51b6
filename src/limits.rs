//! Limits of a session: memory, processes, processors, time. Only the values; `sandbox::limits` enforces them.
//!
//! Options come first, then `env/limits`, then the defaults of [`Limits::of_host`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `PID_MAX_LIMIT` of a 64-bit kernel: the highest value of `kernel.pid_max`.
const MAX_PIDS: u64 = 1 << 22;

/// What one run in a session may use; `None` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes, including files on a tmpfs; caches that the kernel can drop are not counted.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How many processors it may run on.
    pub cpus: Option<u32>,
    /// Running time in milliseconds.
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Exceeded {
    #[error("the session used more than {} of memory, its limit", Bytes(*.limit_bytes))]
    Memory { limit_bytes: u64 },
    /// Processes and threads.
    #[error("the session had more than {limit} processes and threads, its limit")]
    Pids { limit: u64 },
    /// What it takes to see how much memory it uses.
    #[error("the session has too many processes and open files to measure its memory in time")]
    Sight,
    #[error("the session ran for more than {}, its limit", Span(*.limit_ms))]
    Time {
        /// In milliseconds.
        limit_ms: u64,
    },
}

impl Exceeded {
    /// The name of the limit, as an option and in `env/limits`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory { .. } | Self::Sight => "memory",
            Self::Pids { .. } => "pids",
            Self::Time { .. } => "timeout",
        }
    }
}

/// Prints bytes in the largest unit that divides them.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= shift {
                return write!(out, "{} {unit}", self.0 >> shift);
            }
        }
        // A share of the machine's memory is no round number.
        if self.0 >> 30 > 0 { write!(out, "{:.1} GiB", self.0 as f64 / f64::from(1 << 30)) } else { write!(out, "{} B", self.0) }
    }
}

/// Prints milliseconds in the largest unit that divides them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")] {
            if self.0 >= ms && self.0.is_multiple_of(ms) {
                return write!(out, "{} {unit}", self.0 / ms);
            }
        }
        write!(out, "{} ms", self.0)
    }
}

/// A limit that somebody set: a number, or unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// No limit, not even the default one.
    None,
    /// This number.
    At(u64),
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALimit {
    #[error("`{0}` is no amount of memory: a number with K, M, G or T, such as `8G`, or `none`")]
    Memory(String),
    /// Of processes.
    #[error("`{0}` is no number of processes, such as `4000`, or `none`")]
    Pids(String),
    /// Of more processes than there can be.
    #[error("`{0}` is more than the {max} processes and threads that Linux can have: use `none` for no limit", max = MAX_PIDS)]
    TooManyPids(String),
    /// Of processors.
    #[error("`{0}` is no number of processors, such as `2`, or `none`")]
    Cpus(String),
    /// Of time.
    #[error("`{0}` is no time: a number with s, m, h or d, such as `90m`, or `none`")]
    Timeout(String),
    /// Not the name of a limit.
    #[error("there is no limit `{0}`: there are memory, pids, cpus and timeout")]
    Name(String),
}

/// The limits that options or `env/limits` set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Memory in bytes.
    pub memory: Option<Bound>,
    /// Processes and threads.
    pub pids: Option<Bound>,
    /// Processors.
    pub cpus: Option<Bound>,
    /// Milliseconds.
    pub timeout: Option<Bound>,
}

/// A size such as `8G`; units are powers of 1024.
pub(crate) fn size(text: &str) -> Option<u64> {
    let plain = text.trim().trim_end_matches(['b', 'B']).trim_end_matches('i');
    let digits = plain.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match plain[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn time_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ms = match &text[digits.len()..] {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(ms)
}

impl Bound {
    fn read(text: &str, number: impl FnOnce(&str) -> Option<u64>) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        number(text).filter(|number| *number > 0).map(Self::At)
    }

    /// Reads a limit of memory.
    pub fn memory(text: &str) -> Result<Self, NotALimit> {
        Self::read(text, size).ok_or_else(|| NotALimit::Memory(text.to_owned()))
    }

    /// Reads a limit of processes and threads.
    pub fn pids(text: &str) -> Result<Self, NotALimit> {
        match Self::read(text, |text| text.parse().ok()) {
            Some(Self::At(pids)) if pids > MAX_PIDS => Err(NotALimit::TooManyPids(text.to_owned())),
            Some(limit) => Ok(limit),
            None => Err(NotALimit::Pids(text.to_owned())),
        }
    }

    /// Reads a number of processors.
    pub fn cpus(text: &str) -> Result<Self, NotALimit> {
        let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
        Self::read(text, number).ok_or_else(|| NotALimit::Cpus(text.to_owned()))
    }

    /// Reads a time.
    pub fn timeout(text: &str) -> Result<Self, NotALimit> {
        Self::read(text, time_ms).ok_or_else(|| NotALimit::Timeout(text.to_owned()))
    }

    fn over(asked: Option<Self>, usual: Option<u64>) -> Option<u64> {
        match asked {
            None => usual,
            Some(Self::None) => None,
            Some(Self::At(limit)) => Some(limit),
        }
    }
}

/// One line of `env/limits`: `memory 8G`.
impl FromStr for Asked {
    type Err = NotALimit;

    fn from_str(line: &str) -> Result<Self, NotALimit> {
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let none = Self::default();
        match name {
            "memory" => Ok(Self { memory: Some(Bound::memory(value)?), ..none }),
            "pids" => Ok(Self { pids: Some(Bound::pids(value)?), ..none }),
            "cpus" => Ok(Self { cpus: Some(Bound::cpus(value)?), ..none }),
            "timeout" => Ok(Self { timeout: Some(Bound::timeout(value)?), ..none }),
            other => Err(NotALimit::Name(other.to_owned())),
        }
    }
}

impl Asked {
    /// These limits, with those of `others` where these are not set.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            memory: self.memory.or(others.memory),
            pids: self.pids.or(others.pids),
            cpus: self.cpus.or(others.cpus),
            timeout: self.timeout.or(others.timeout),
        }
    }

    /// These limits, with the default ones where these are not set.
    pub fn over(self, usual: Limits) -> Limits {
        let cpus = Bound::over(self.cpus, usual.cpus.map(u64::from));
        Limits {
            memory_bytes: Bound::over(self.memory, usual.memory_bytes),
            pids: Bound::over(self.pids, usual.pids),
            cpus: cpus.map(|cpus| u32::try_from(cpus).unwrap_or(u32::MAX)),
            timeout_ms: Bound::over(self.timeout, usual.timeout_ms),
        }
    }
}

/// What the default limits depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Host {
    /// Memory of the machine, or of the container that this runs in, in bytes.
    pub memory_bytes: Option<u64>,
    /// How many processes and threads the machine can have.
    pub pids: Option<u64>,
}

impl Limits {
    /// The defaults: more than a build needs, and less than makes the machine unusable. Nine tenths of the memory, half of the processes
    /// but at most 16384, every processor, no limit of time.
    pub fn of_host(host: Host) -> Self {
        Self {
            memory_bytes: host.memory_bytes.map(|bytes| bytes / 10 * 9),
            pids: Some(host.pids.map_or(16_384, |pids| (pids / 2).clamp(64, 16_384))),
            cpus: None,
            timeout_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_what_is_none_is_said() {
        let table = [
            ("memory 8G", Asked { memory: Some(Bound::At(8 << 30)), ..Asked::default() }),
            ("memory   512MiB", Asked { memory: Some(Bound::At(512 << 20)), ..Asked::default() }),
            ("memory none", Asked { memory: Some(Bound::None), ..Asked::default() }),
            ("pids 4000", Asked { pids: Some(Bound::At(4000)), ..Asked::default() }),
            ("pids 4194304", Asked { pids: Some(Bound::At(1 << 22)), ..Asked::default() }),
            ("cpus 2", Asked { cpus: Some(Bound::At(2)), ..Asked::default() }),
            ("timeout 90m", Asked { timeout: Some(Bound::At(5_400_000)), ..Asked::default() }),
            ("timeout 2d", Asked { timeout: Some(Bound::At(172_800_000)), ..Asked::default() }),
        ];
        for (line, asked) in table {
            assert_eq!(line.parse::<Asked>(), Ok(asked), "{line}");
        }
        let wrong = [
            ("memory", "`` is no amount of memory: a number with K, M, G or T, such as `8G`, or `none`"),
            ("memory 0", "`0` is no amount of memory: a number with K, M, G or T, such as `8G`, or `none`"),
            ("memory 99999999999T", "`99999999999T` is no amount of memory: a number with K, M, G or T, such as `8G`, or `none`"),
            (
                "pids 4194305",
                "`4194305` is more than the 4194304 processes and threads that Linux can have: use `none` for no limit",
            ),
            (
                "pids 18446744073709551615",
                "`18446744073709551615` is more than the 4194304 processes and threads that Linux can have: use `none` for no limit",
            ),
            ("pids -1", "`-1` is no number of processes, such as `4000`, or `none`"),
            ("cpus 1.5", "`1.5` is no number of processors, such as `2`, or `none`"),
            ("timeout 90", "`90` is no time: a number with s, m, h or d, such as `90m`, or `none`"),
            ("disk 8G", "there is no limit `disk`: there are memory, pids, cpus and timeout"),
        ];
        for (line, words) in wrong {
            assert_eq!(line.parse::<Asked>().unwrap_err().to_string(), words, "{line}");
        }
    }

    #[test]
    fn options_come_before_the_directory_and_that_before_the_usual() {
        let usual = Limits::of_host(Host { memory_bytes: Some(10 << 30), pids: Some(32_768) });
        assert_eq!(usual, Limits { memory_bytes: Some(9 << 30), pids: Some(16_384), cpus: None, timeout_ms: None });
        assert_eq!(Limits::of_host(Host { memory_bytes: None, pids: Some(100) }).pids, Some(64));
        let option: Asked = "memory none".parse().unwrap();
        let file = "pids 10".parse::<Asked>().unwrap().or("memory 1G".parse().unwrap()).or("cpus 3".parse().unwrap());
        let limits = option.or(file).over(usual);
        assert_eq!(limits, Limits { memory_bytes: None, pids: Some(10), cpus: Some(3), timeout_ms: None });
    }

    #[test]
    fn what_was_exceeded_is_said_in_round_numbers() {
        let table = [
            (Exceeded::Memory { limit_bytes: 2 << 30 }, "the session used more than 2 GiB of memory, its limit"),
            (Exceeded::Memory { limit_bytes: 100 << 20 }, "the session used more than 100 MiB of memory, its limit"),
            (Exceeded::Memory { limit_bytes: (9 << 30) / 10 * 11 + 1 }, "the session used more than 9.9 GiB of memory, its limit"),
            (Exceeded::Pids { limit: 100 }, "the session had more than 100 processes and threads, its limit"),
            (Exceeded::Time { limit_ms: 5_400_000 }, "the session ran for more than 90 min, its limit"),
            (Exceeded::Time { limit_ms: 10_000 }, "the session ran for more than 10 s, its limit"),
        ];
        for (exceeded, words) in table {
            assert_eq!(exceeded.to_string(), words);
        }
    }
}
