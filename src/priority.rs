//! How a session stands back for the rest of the machine: `nice` and the class of its input and output. Only the values; the session's
//! process sets them (`sandbox::session`).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The highest value: the least of the processors.
const NICEST: u8 = 19;
/// The class `best-effort` has as many levels; 0 is the first to be served.
const LEVELS: u8 = 8;
/// The level that `ionice -c best-effort` takes.
const USUAL_LEVEL: u8 = 4;

/// What one run in a session gets of processors and disks beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Priority {
    /// As of `nice(1)`, 0 to 19. It never takes back what gentoomuch itself was started with.
    pub nice: Option<u8>,
    pub io: Option<IoClass>,
}

/// A class of `ionice(1)`. `realtime` needs root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoClass {
    /// Served when nobody else has asked for some time.
    Idle,
    /// 0 to 7.
    BestEffort(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPriority {
    #[error("`{0}` is no niceness: a number from 0 to 19, such as `10`")]
    Nice(String),
    #[error("`{0}` is no class of input and output: `idle`, or `best-effort` with a level from 0 to 7")]
    Io(String),
}

/// The value of `env/nice`.
pub(crate) fn nice(text: &str) -> Result<u8, NotAPriority> {
    text.parse().ok().filter(|nice| *nice <= NICEST).ok_or_else(|| NotAPriority::Nice(text.to_owned()))
}

/// The value of `env/ionice`.
impl FromStr for IoClass {
    type Err = NotAPriority;

    fn from_str(text: &str) -> Result<Self, NotAPriority> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let level = |text: &str| text.parse().ok().filter(|level| *level < LEVELS);
        let class = match words[..] {
            ["idle"] => Some(Self::Idle),
            ["best-effort"] => Some(Self::BestEffort(USUAL_LEVEL)),
            ["best-effort", text] => level(text).map(Self::BestEffort),
            _ => None,
        };
        class.ok_or_else(|| NotAPriority::Io(text.to_owned()))
    }
}

impl IoClass {
    /// The number that `ioprio_set(2)` takes: the class, then thirteen bits with the level.
    pub(crate) fn number(self) -> i32 {
        let (class, level) = match self {
            Self::BestEffort(level) => (2, level),
            Self::Idle => (3, 0),
        };
        class << 13 | i32::from(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_read_and_what_is_none_is_said() {
        for (text, number) in [("idle", 3 << 13), ("best-effort", 2 << 13 | 4), ("best-effort  7", 2 << 13 | 7)] {
            assert_eq!(text.parse::<IoClass>().unwrap().number(), number, "{text}");
        }
        for text in ["", "idle 3", "best-effort 8", "best-effort -1", "realtime", "3", "best-effort 1 2"] {
            let words = format!("`{text}` is no class of input and output: `idle`, or `best-effort` with a level from 0 to 7");
            assert_eq!(text.parse::<IoClass>().unwrap_err().to_string(), words);
        }
        assert_eq!((nice("0"), nice("19")), (Ok(0), Ok(19)));
        for text in ["20", "-5", "high", "1.5"] {
            let words = format!("`{text}` is no niceness: a number from 0 to 19, such as `10`");
            assert_eq!(nice(text).unwrap_err().to_string(), words);
        }
    }
}
