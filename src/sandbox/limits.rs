//! Who enforces the limits of a session.
//!
//! ```text
//! outer helper      a control group, if the user has a place for one (sys/cgroup.rs): the kernel counts
//!  └ PID 1          else looks itself (sys/usage.rs), some times a second; and at the clock in any case
//!     └ session     RLIMIT_NPROC, processors, and the first to go when the kernel runs out of memory (sys/process.rs)
//! ```
//!
//! A session that exceeds a limit is ended: [`Exceeded`]. So is one that can no longer be measured. A build in which each `fork` fails
//! would go on half-working and fail somewhere else.

use std::time::{Duration, Instant};

pub(crate) use crate::limits::Exceeded;
pub use crate::limits::Limits;
use crate::sys;
use crate::sys::cgroup::{Allowance, Refused};
use crate::sys::usage::{Budget, Found, Unseen, Worth, threads_of_machine};

/// How often PID 1 looks while the session uses less than half of each limit.
const LOOK: Duration = Duration::from_millis(250);
/// How often it looks once half of a limit is used.
const LOOK_CLOSELY: Duration = Duration::from_millis(50);
/// How often it asks how many threads the whole machine has. That costs one call, and a fork bomb may be over before the next look.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a look may take after a glance, before PID 1 holds the session. Beside a thousand processes that want to run, it gets its
/// share of the machine like each of them, and would not be done before the bomb is.
const LOOK_UNHELD: Duration = Duration::from_millis(20);
/// How long one look may take. A build with sixteen thousand processes needs half of this.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

impl Limits {
    /// The limit that belongs to what a control group refused.
    pub(crate) fn exceeded(&self, refused: Refused) -> Option<Exceeded> {
        match refused {
            Refused::Memory => self.memory_bytes.map(|limit_bytes| Exceeded::Memory { limit_bytes }),
            Refused::Pids => self.pids.map(|limit| Exceeded::Pids { limit }),
        }
    }

    /// The limit of processes that the kernel gets, higher than [`Limits::pids`]. If the kernel refused a process first, the command
    /// would fail with a message of its own before PID 1 has seen the limit exceeded. So the kernel lets some more through: as many as a
    /// fork bomb makes between two glances.
    pub(crate) fn pids_at_most(&self) -> Option<u64> {
        self.pids.map(|pids| pids.saturating_add((pids / 8).max(4096)))
    }
}

impl From<&Limits> for Allowance {
    fn from(limits: &Limits) -> Self {
        Self { memory_bytes: limits.memory_bytes, pids: limits.pids, cpus: limits.cpus, nice: None }
    }
}

/// What PID 1 can do with the session.
pub(crate) trait Watched {
    /// Measures what it uses.
    fn look(&self, worth: &Worth, budget: &Budget) -> Result<Found, Unseen>;

    /// Stops all its processes, or lets them go on.
    fn hold(&self, held: bool) -> sys::Result<()>;
}

/// PID 1's measurements, and when the next one is due.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: Limits,
    /// The time that earlier runs of the session have used.
    used: Duration,
    began: Instant,
    looked: Instant,
    every: Duration,
    /// What the last look found, and the threads of the machine at that time.
    pids: u64,
    machine: u16,
}

impl Watch {
    /// Begins now, after `used_ms` of the time. With `counted`, a control group counts memory and processes.
    pub(crate) fn new(limits: Limits, used_ms: u64, counted: bool) -> Self {
        let limits = if counted { Limits { memory_bytes: None, pids: None, ..limits } } else { limits };
        let now = Instant::now();
        Self {
            limits,
            used: Duration::from_millis(used_ms),
            began: now,
            looked: now,
            every: LOOK,
            pids: 0,
            machine: threads_of_machine(),
        }
    }

    /// Whether there is a limit that needs a look at the session.
    pub(crate) fn counts(&self) -> bool {
        self.limits.memory_bytes.is_some() || self.limits.pids.is_some()
    }

    /// How long PID 1 can wait before it has something to do; `None`: for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let next = if self.limits.pids.is_some() { self.every.min(GLANCE) } else { self.every };
        let look = self.counts().then(|| self.every.saturating_sub(self.looked.elapsed()).min(next));
        let left =
            self.limits.timeout_ms.map(|limit| Duration::from_millis(limit).saturating_sub(self.used + self.began.elapsed()));
        look.into_iter().chain(left).min()
    }

    /// Whether a limit is exceeded. Looks only when it is time to, or when the machine has so many more threads than before that the
    /// session may have too many.
    pub(crate) fn check(&mut self, session: &impl Watched) -> sys::Result<Option<Exceeded>> {
        let late = self.late();
        if late.is_some() {
            return Ok(late);
        }
        if !self.grew(threads_of_machine()) {
            return if self.looked.elapsed() < self.every { Ok(None) } else { self.check_now(session) };
        }
        let soon = Instant::now() + LOOK_UNHELD;
        let unheld = session.look(&self.worth(), &Budget::new(LOOK_AT_MOST, Some(soon)));
        if let Ok(found) = unheld {
            return Ok(self.judge(found));
        }
        session.hold(true)?;
        let exceeded = self.check_now(session)?;
        if exceeded.is_none() {
            session.hold(false)?;
        }
        Ok(exceeded)
    }

    fn late(&self) -> Option<Exceeded> {
        let limit = self.limits.timeout_ms.filter(|limit| self.used + self.began.elapsed() >= Duration::from_millis(*limit));
        limit.map(|limit_ms| Exceeded::Time { limit_ms })
    }

    fn worth(&self) -> Worth {
        Worth { memory_bytes: self.limits.memory_bytes, most_pids: self.limits.pids }
    }

    fn grew(&self, machine: u16) -> bool {
        // The kernel gives the lower sixteen bits. Half of them are more than a machine makes between two looks.
        let more = machine.wrapping_sub(self.machine);
        let more = if more > u16::MAX / 2 { 0 } else { u64::from(more) };
        self.limits.pids.is_some_and(|limit| self.pids + more > limit)
    }

    /// The same without waiting for the next look: the command has ended, perhaps because it ran out of something.
    pub(crate) fn check_now(&mut self, session: &impl Watched) -> sys::Result<Option<Exceeded>> {
        if !self.counts() {
            return Ok(None);
        }
        let left = self.limits.timeout_ms.map(|limit| Duration::from_millis(limit).saturating_sub(self.used));
        let until = left.and_then(|left| self.began.checked_add(left));
        match session.look(&self.worth(), &Budget::new(LOOK_AT_MOST, until)) {
            Ok(found) => Ok(self.judge(found)),
            // A look that takes too long may hide that the time is over; then that is what we report.
            Err(Unseen::TooMuch) => Ok(self.late().or(Some(Exceeded::Sight))),
            Err(Unseen::Failed(error)) => Err(error),
        }
    }

    fn judge(&mut self, used: Found) -> Option<Exceeded> {
        (self.looked, self.pids, self.machine) = (Instant::now(), used.pids, threads_of_machine());
        let half = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used > limit / 2);
        let close = half(used.memory_bytes, self.limits.memory_bytes) || half(used.pids, self.limits.pids);
        self.every = if close { LOOK_CLOSELY } else { LOOK };
        match self.limits {
            Limits { pids: Some(limit), .. } if used.pids > limit => Some(Exceeded::Pids { limit }),
            Limits { memory_bytes: Some(limit_bytes), .. } if used.memory_bytes > limit_bytes => {
                Some(Exceeded::Memory { limit_bytes })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that answers by a function, and what was done to it.
    struct Session<F>(F, std::cell::RefCell<Vec<bool>>);

    impl<F: Fn() -> Result<Found, Unseen>> Watched for Session<F> {
        fn look(&self, _: &Worth, budget: &Budget) -> Result<Found, Unseen> {
            // As on a machine where everybody wants to run: without the others' rest there is no result in time.
            if self.1.borrow().last() != Some(&true) && budget.ends_within(LOOK_UNHELD) { Err(Unseen::TooMuch) } else { (self.0)() }
        }

        fn hold(&self, held: bool) -> sys::Result<()> {
            self.1.borrow_mut().push(held);
            Ok(())
        }
    }

    fn session<F: Fn() -> Result<Found, Unseen>>(answer: F) -> Session<F> {
        Session(answer, std::cell::RefCell::default())
    }

    #[test]
    fn the_watch_looks_when_it_is_time_and_closer_when_it_gets_tight() {
        let limits = Limits { memory_bytes: Some(100), pids: Some(10), cpus: None, timeout_ms: Some(60_000) };
        let mut watch = Watch::new(limits, 0, false);
        let unasked = session(|| panic!("looked too early"));
        let used = |memory_bytes, pids| session(move || Ok(Found { memory_bytes, pids }));
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(&used(100, 5)).unwrap(), None);
        assert_eq!(watch.every, LOOK_CLOSELY);
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(&used(50, 5)).unwrap(), None);
        assert_eq!(watch.every, LOOK);
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(&used(101, 5)).unwrap(), Some(Exceeded::Memory { limit_bytes: 100 }));
        watch.every = Duration::ZERO;
        assert_eq!(watch.check(&used(0, 11)).unwrap(), Some(Exceeded::Pids { limit: 10 }));
        // What cannot be seen in time is too much, and what cannot be seen at all is an error.
        assert_eq!(watch.check_now(&session(|| Err(Unseen::TooMuch))).unwrap(), Some(Exceeded::Sight));
        let broken = session(|| Err(Unseen::Failed(sys::Error::new("openat", "/proc/7/stat", rustix::io::Errno::MFILE))));
        assert_eq!(watch.check_now(&broken).unwrap_err().to_string(), "`openat(/proc/7/stat)` failed");
        assert_eq!(limits.pids_at_most(), Some(4106));
        assert_eq!(Limits { pids: Some(u64::MAX), ..limits }.pids_at_most(), Some(u64::MAX));
        // Time is over: nothing else matters, and the words have the whole of it.
        let mut late = Watch::new(limits, 60_000, false);
        assert_eq!(late.check(&unasked).unwrap(), Some(Exceeded::Time { limit_ms: 60_000 }));
        // Others have threads, too; only what has been added since the last look counts, and the sum may begin anew.
        watch.limits.pids = Some(500);
        for (then, now, grew) in [(100, 600, true), (100, 595, false), (65_500, 60, false), (65_500, 500, true), (600, 100, false)]
        {
            (watch.pids, watch.machine) = (5, then);
            assert_eq!(watch.grew(now), grew, "{then} {now}");
        }
        // A look after a glance gets no turn: the session is held for another, and goes on if that finds nothing.
        (watch.every, watch.looked) = (Duration::from_hours(1), Instant::now());
        for (pids, exceeded, done) in [(501, Some(Exceeded::Pids { limit: 500 }), &[true][..]), (7, None, &[true, false])] {
            (watch.pids, watch.machine) = (500, threads_of_machine().wrapping_sub(100));
            let crowded = used(0, pids);
            assert_eq!(watch.check(&crowded).unwrap(), exceeded);
            assert_eq!(*crowded.1.borrow(), done);
            watch.every = Duration::from_hours(1);
        }
        // Counted by a cgroup: nothing to look at, and nothing to wake up for.
        let counted = Watch::new(Limits { timeout_ms: None, ..limits }, 0, true);
        assert_eq!(counted.patience(), None);
        assert_eq!(Watch::new(Limits::default(), 0, false).patience(), None);
    }
}
