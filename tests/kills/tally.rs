//! How often who was killed when, and the moments themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::processes::Victim;

/// Parts that a phase is divided into, to show that the kills are spread over it.
const PARTS: usize = 5;

/// Kills wanted in a phase: one of each victim, unless `GENTOOMUCH_KILLS` says more.
pub(crate) fn wanted(victims: usize) -> usize {
    std::env::var("GENTOOMUCH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(victims)
}

/// Whether this is the long run.
pub(crate) fn is_long() -> bool {
    wanted(0) > 0
}

/// A small generator of which nothing is asked but that its numbers differ (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Moments {
    state: u64,
}

impl Moments {
    /// Prints the seed, with which the same moments come again.
    pub(crate) fn new(phase: &str) -> Self {
        let given = std::env::var("GENTOOMUCH_KILLS_SEED").ok().and_then(|text| text.parse().ok());
        let clock = || u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos());
        // The same moments in each usual run, so that a failure is the change's own. The long ones search.
        let searches = is_long() || std::env::var_os("GENTOOMUCH_FAULTS").is_some();
        let seed = given.unwrap_or_else(|| if searches { clock() } else { 1 });
        println!("{phase}: GENTOOMUCH_KILLS_SEED={seed}");
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// A moment within `phase`.
    pub(crate) fn within(&mut self, phase: Duration) -> Duration {
        let nanos = u64::try_from(phase.as_nanos()).unwrap().max(1);
        Duration::from_nanos(self.next() % nanos)
    }
}

/// The kills of one phase.
#[derive(Debug)]
pub(crate) struct Tally {
    phase: &'static str,
    length: Duration,
    wanted: usize,
    victims: BTreeMap<Victim, usize>,
    parts: [usize; PARTS],
    marks: BTreeMap<&'static str, usize>,
    outside: usize,
    recovered: usize,
    slowest: Duration,
}

impl Tally {
    pub(crate) fn new(phase: &'static str, length: Duration, wanted: usize) -> Self {
        Self {
            phase,
            length,
            wanted,
            victims: BTreeMap::new(),
            parts: [0; PARTS],
            marks: BTreeMap::new(),
            outside: 0,
            recovered: 0,
            slowest: Duration::ZERO,
        }
    }

    /// Kills that fell into the phase.
    pub(crate) fn hits(&self) -> usize {
        self.victims.values().sum()
    }

    pub(crate) fn hit(&mut self, victim: Victim, at: Duration, span: Duration, mark: Option<&'static str>) {
        *self.victims.entry(victim).or_default() += 1;
        let part = at.as_nanos() * PARTS as u128 / span.as_nanos().max(1);
        self.parts[usize::try_from(part).unwrap_or(PARTS).min(PARTS - 1)] += 1;
        if let Some(mark) = mark {
            *self.marks.entry(mark).or_default() += 1;
        }
    }

    /// The kill came when the phase was over.
    pub(crate) fn missed(&mut self) {
        self.outside += 1;
    }

    pub(crate) fn recovered(&mut self, took: Duration) {
        self.recovered += 1;
        self.slowest = self.slowest.max(took);
    }

    /// Whether another kill is wanted. Too many attempts mean that the phase cannot be hit.
    pub(crate) fn goes_on(&self) -> bool {
        self.hits() < self.wanted && self.attempts() < self.wanted * 4 + 12
    }

    pub(crate) fn attempts(&self) -> usize {
        self.hits() + self.outside
    }

    /// Prints the table and asserts that it says what it has to.
    pub(crate) fn finish(&self) {
        let mut text = format!("\n{} ({:.2} s when left alone)\n", self.phase, self.length.as_secs_f64());
        let _ = writeln!(text, "  kills in the phase        {:>4}", self.hits());
        for victim in Victim::ALL {
            let count = self.victims.get(&victim).copied().unwrap_or_default();
            let _ = writeln!(text, "    {:<24}{count:>4}", victim.name());
        }
        let _ = writeln!(text, "  by fifths of the phase    {}", self.parts.map(|count| format!("{count:>4}")).join(" "));
        for (mark, count) in &self.marks {
            let _ = writeln!(text, "    {mark:<24}{count:>4}");
        }
        let _ = writeln!(text, "  kills after its end       {:>4}", self.outside);
        let _ = writeln!(text, "  recovered by a normal run {:>4} (slowest {:.1} s)", self.recovered, self.slowest.as_secs_f64());
        println!("{text}");
        assert_eq!(self.hits(), self.wanted, "{}: kills that fell into the phase", self.phase);
        assert_eq!(self.recovered, self.attempts(), "{}: each kill is followed by a normal run", self.phase);
    }
}
