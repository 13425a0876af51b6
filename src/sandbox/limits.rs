//! Who sees to it that a session keeps to its limits.
//!
//! ```text
//! outer helper      a control group, if the user has a place for one (sys/cgroup.rs): the kernel counts
//!  └ PID 1          else looks itself (sys/usage.rs), some times a second; and at the clock in any case
//!     └ session     RLIMIT_NPROC, processors, and the first to go when the kernel runs out of memory (sys/process.rs)
//! ```
//!
//! What exceeds a limit ends the session: [`Exceeded`]. So does what cannot be seen. Half-working builds, in which each `fork` fails, help nobody.

use std::time::{Duration, Instant};

pub(crate) use crate::limits::Exceeded;
pub use crate::limits::Limits;
use crate::sys;
use crate::sys::cgroup::{Allowance, Refused};
use crate::sys::usage::{Budget, Found, Unseen, Worth};

/// How often PID 1 looks, if there is nothing to worry about.
const LOOK: Duration = Duration::from_millis(250);
/// How often, if half of a limit is used.
const LOOK_CLOSELY: Duration = Duration::from_millis(50);
/// How long a look may keep PID 1 busy. Sixteen thousand processes of a build take half of it.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

impl Limits {
    /// The limit that a control group was refused more than.
    pub(crate) fn exceeded(&self, refused: Refused) -> Option<Exceeded> {
        match refused {
            Refused::Memory => self.memory_bytes.map(|limit_bytes| Exceeded::Memory { limit_bytes }),
            Refused::Pids => self.pids.map(|limit| Exceeded::Pids { limit }),
        }
    }

    /// The limit of processes that the kernel gets. The session's end comes at [`Limits::pids`], when PID 1 has looked. A kernel that refuses a process
    /// before that has the command fail with words of its own, so it lets some more through: as many as a bomb makes between two looks.
    pub(crate) fn pids_at_most(&self) -> Option<u64> {
        self.pids.map(|pids| pids.saturating_add((pids / 8).max(4096)))
    }
}

impl From<&Limits> for Allowance {
    fn from(limits: &Limits) -> Self {
        Self { memory_bytes: limits.memory_bytes, pids: limits.pids, cpus: limits.cpus }
    }
}

/// How a look is taken.
pub(crate) trait Look: FnOnce(&Worth, &Budget) -> Result<Found, Unseen> {}

impl<F: FnOnce(&Worth, &Budget) -> Result<Found, Unseen>> Look for F {}

/// PID 1's watch over the limits.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: Limits,
    /// What was used of the time before.
    used: Duration,
    began: Instant,
    looked: Instant,
    every: Duration,
}

impl Watch {
    /// Begins now, after `used_ms` of the time. With `counted`, memory and processes are somebody else's to count.
    pub(crate) fn new(limits: Limits, used_ms: u64, counted: bool) -> Self {
        let limits = if counted { Limits { memory_bytes: None, pids: None, ..limits } } else { limits };
        let now = Instant::now();
        Self { limits, used: Duration::from_millis(used_ms), began: now, looked: now, every: LOOK }
    }

    /// Whether it has to look at the session at all.
    pub(crate) fn counts(&self) -> bool {
        self.limits.memory_bytes.is_some() || self.limits.pids.is_some()
    }

    /// For how long nothing has to be looked at; `None`: for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let look = self.counts().then(|| self.every.saturating_sub(self.looked.elapsed()));
        let left =
            self.limits.timeout_ms.map(|limit| Duration::from_millis(limit).saturating_sub(self.used + self.began.elapsed()));
        look.into_iter().chain(left).min()
    }

    /// Whether a limit is exceeded; `look` is asked when it is time to.
    pub(crate) fn check(&mut self, look: impl Look) -> sys::Result<Option<Exceeded>> {
        let late = self.late();
        if late.is_some() {
            return Ok(late);
        }
        if self.looked.elapsed() < self.every { Ok(None) } else { self.check_now(look) }
    }

    fn late(&self) -> Option<Exceeded> {
        let limit = self.limits.timeout_ms.filter(|limit| self.used + self.began.elapsed() >= Duration::from_millis(*limit));
        limit.map(|limit_ms| Exceeded::Time { limit_ms })
    }

    /// The same at once: the command has ended, perhaps because there was too much of something.
    pub(crate) fn check_now(&mut self, look: impl Look) -> sys::Result<Option<Exceeded>> {
        if !self.counts() {
            return Ok(None);
        }
        let left = self.limits.timeout_ms.map(|limit| Duration::from_millis(limit).saturating_sub(self.used));
        let until = left.and_then(|left| self.began.checked_add(left));
        let worth = Worth { memory_bytes: self.limits.memory_bytes, most_pids: self.limits.pids };
        let used = match look(&worth, &Budget::new(LOOK_AT_MOST, until)) {
            Ok(used) => used,
            Err(Unseen::TooMuch) => return Ok(self.late().or(Some(Exceeded::Sight))),
            Err(Unseen::Failed(error)) => return Err(error),
        };
        self.looked = Instant::now();
        let half = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used > limit / 2);
        let close = half(used.memory_bytes, self.limits.memory_bytes) || half(used.pids, self.limits.pids);
        self.every = if close { LOOK_CLOSELY } else { LOOK };
        Ok(match self.limits {
            Limits { pids: Some(limit), .. } if used.pids > limit => Some(Exceeded::Pids { limit }),
            Limits { memory_bytes: Some(limit_bytes), .. } if used.memory_bytes > limit_bytes => {
                Some(Exceeded::Memory { limit_bytes })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_looks_when_it_is_time_and_closer_when_it_gets_tight() {
        let limits = Limits { memory_bytes: Some(100), pids: Some(10), cpus: None, timeout_ms: Some(60_000) };
        let mut watch = Watch::new(limits, 0, false);
        let unasked = |_: &Worth, _: &Budget| -> Result<Found, Unseen> { panic!("looked too early") };
        watch.every = Duration::from_hours(1);
        assert_eq!(watch.check(unasked).unwrap(), None);
        let used = |memory_bytes, pids| move |_: &Worth, _: &Budget| Ok(Found { memory_bytes, pids });
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(used(100, 5)).unwrap(), None);
        assert_eq!(watch.every, LOOK_CLOSELY);
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(used(50, 5)).unwrap(), None);
        assert_eq!(watch.every, LOOK);
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(used(101, 5)).unwrap(), Some(Exceeded::Memory { limit_bytes: 100 }));
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(used(0, 11)).unwrap(), Some(Exceeded::Pids { limit: 10 }));
        // What cannot be seen in time is too much, and what cannot be seen at all is an error.
        assert_eq!(watch.check_now(|_: &Worth, _: &Budget| Err(Unseen::TooMuch)).unwrap(), Some(Exceeded::Sight));
        let broken =
            |_: &Worth, _: &Budget| Err(Unseen::Failed(sys::Error::new("openat", "/proc/7/stat", rustix::io::Errno::MFILE)));
        assert_eq!(watch.check_now(broken).unwrap_err().to_string(), "`openat(/proc/7/stat)` failed");
        assert_eq!(limits.pids_at_most(), Some(4106));
        assert_eq!(Limits { pids: Some(u64::MAX), ..limits }.pids_at_most(), Some(u64::MAX));
        // Time is over: nothing else matters, and the words have the whole of it.
        let mut late = Watch::new(limits, 60_000, false);
        assert_eq!(late.check(unasked).unwrap(), Some(Exceeded::Time { limit_ms: 60_000 }));
        // Counted by a cgroup: nothing to look at, and nothing to wake up for.
        let counted = Watch::new(Limits { timeout_ms: None, ..limits }, 0, true);
        assert_eq!(counted.patience(), None);
        assert_eq!(Watch::new(Limits::default(), 0, false).patience(), None);
    }
}
