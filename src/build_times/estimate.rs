//! How long a build will take: the median of earlier ones. Nothing is invented for what was never built.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Build, Kind, Machine, RUN};
use crate::portage::cpv::Cpv;
use crate::portage::version;
use crate::progress::{Expected, Left};

/// Packages that both machines have built, before their times say how much faster one of them is.
const ENOUGH_PAIRS: usize = 3;
/// The part of a build that more jobs make faster, where nothing was built on both machines.
const PARALLEL: f64 = 0.5;

/// Earlier builds, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    here: Machine,
    builds: BTreeMap<(Kind, String), Vec<Build>>,
    /// How long a build takes here, where it takes a second there.
    factors: BTreeMap<Machine, f64>,
}

impl Estimates {
    /// `builds`: the newest last.
    pub(super) fn new(here: Machine, builds: Vec<Build>) -> Self {
        let mut by_name: BTreeMap<(Kind, String), Vec<Build>> = BTreeMap::new();
        for build in builds {
            by_name.entry((build.kind, build.name.clone())).or_default().push(build);
        }
        let mut factors = BTreeMap::new();
        for build in by_name.values().flatten() {
            let machine = build.machine();
            if machine != here && !factors.contains_key(&machine) {
                let factor = factor(&here, &machine, by_name.values());
                factors.insert(machine, factor);
            }
        }
        Self { here, builds: by_name, factors }
    }

    /// Of builds of this machine.
    #[cfg(test)]
    pub(crate) fn of_builds(builds: Vec<Build>) -> Self {
        Self::new(Machine { cpu: String::new(), jobs: 1 }, builds)
    }

    /// How long it takes here to build this version, or the one nearest to it.
    pub(crate) fn expected(&self, kind: Kind, name: &str, version: &str) -> Option<Expected> {
        let all = self.builds.get(&(kind, name.to_owned()))?;
        let own: Vec<&Build> = all.iter().filter(|build| build.machine() == self.here).collect();
        if let Some(secs) = typical(&own, version) {
            return Some(Expected { secs: whole(secs), guess: false });
        }
        let newest = all.last()?.machine();
        let of_other: Vec<&Build> = all.iter().filter(|build| build.machine() == newest).collect();
        let factor = self.factors.get(&newest).copied().unwrap_or(1.0);
        Some(Expected { secs: whole(typical(&of_other, version)? * factor), guess: true })
    }

    /// Of `category/name-version`.
    pub(crate) fn of_package(&self, cpv: &str, binary: bool) -> Option<Expected> {
        let cpv = Cpv::parse(cpv)?;
        self.expected(if binary { Kind::Binary } else { Kind::Compiled }, cpv.name(), cpv.version)
    }

    /// How many packages emerge works on at a time, by the time of whole runs.
    pub(crate) fn overlap(&self) -> f64 {
        let runs = self.builds.get(&(Kind::Run, RUN.to_owned()));
        let own = runs.into_iter().flatten().filter(|run| run.machine() == self.here && run.secs > 0.0);
        let ratios = own.map(|run| run.work / run.secs).collect();
        median(ratios).unwrap_or(1.0).clamp(0.5, f64::from(self.here.jobs.max(1)))
    }

    /// How much the last builds of a thing had to do, in its own measure.
    pub(crate) fn work(&self, kind: Kind, name: &str) -> Option<u64> {
        let last = self.builds.get(&(kind, name.to_owned()))?.last()?;
        Some(whole(last.work)).filter(|work| *work > 0)
    }
}

/// The median of the builds of the version, or else of the newest one before it, or else of the oldest one after it.
fn typical(builds: &[&Build], version: &str) -> Option<f64> {
    let versions = || builds.iter().map(|build| build.version.as_str());
    let order = |a: &&str, b: &&str| version::compare(a, b);
    let before = versions().filter(|other| version::compare(other, version) != Ordering::Greater).max_by(order);
    let nearest = before.or_else(|| versions().min_by(order))?;
    let same = builds.iter().filter(|build| version::compare(&build.version, nearest) == Ordering::Equal);
    median(same.map(|build| build.secs).collect())
}

/// By the packages that both have built; by the number of jobs where there are too few.
fn factor<'b>(here: &Machine, there: &Machine, all: impl Iterator<Item = &'b Vec<Build>>) -> f64 {
    let mut ratios = Vec::new();
    for builds in all.filter(|builds| builds.first().is_some_and(|build| build.kind == Kind::Compiled)) {
        let on = |machine: &Machine| builds.iter().filter(|build| build.machine() == *machine).collect::<Vec<_>>();
        let (here, there) = (on(here), on(there));
        let Some(version) = there.last().map(|build| build.version.clone()) else { continue };
        if let (Some(here), Some(there)) = (typical(&here, &version), typical(&there, &version))
            && here > 0.0
            && there > 0.0
        {
            ratios.push(here / there);
        }
    }
    if ratios.len() >= ENOUGH_PAIRS {
        return median(ratios).unwrap_or(1.0).clamp(0.01, 100.0);
    }
    let jobs = f64::from(there.jobs.max(1)) / f64::from(here.jobs.max(1));
    (1.0 - PARALLEL) + PARALLEL * jobs
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(numbers[middle - 1], numbers[middle])),
        _ => Some(numbers[middle]),
    }
}

/// What is left of a run of emerge: packages that it has not begun, and those that it works on, each with the seconds since its start.
pub(crate) fn run_left(waiting: &[Option<Expected>], running: &[(Option<Expected>, u64)], overlap: f64) -> Option<Left> {
    let of_running = running
        .iter()
        .map(|(expected, elapsed)| expected.map(|expected| Expected { secs: expected.secs.saturating_sub(*elapsed), ..expected }));
    let all: Vec<Option<Expected>> = waiting.iter().copied().chain(of_running).collect();
    let known: Vec<Expected> = all.iter().copied().flatten().collect();
    let longest = known.iter().map(|expected| expected.secs).max()?;
    let sum: u64 = known.iter().map(|expected| expected.secs).sum();
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let side_by_side = whole(sum as f64 / overlap.max(0.1));
    Some(Left {
        secs: side_by_side.max(longest),
        unknown: all.len() - known.len(),
        guess: known.iter().any(|expected| expected.guess),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits before the cast")]
pub(super) fn whole(number: f64) -> u64 {
    if number.is_finite() { number.clamp(0.0, 1e15).round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpu: &str, jobs: u32) -> Machine {
        Machine { cpu: cpu.to_owned(), jobs }
    }

    fn on(machine: &Machine, name: &str, version: &str, secs: f64) -> Build {
        Build { cpu: machine.cpu.clone(), jobs: machine.jobs, ..Build::new(Kind::Compiled, name, version, secs) }
    }

    fn sure(secs: u64) -> Expected {
        Expected { secs, guess: false }
    }

    fn guess(secs: u64) -> Expected {
        Expected { secs, guess: true }
    }

    #[test]
    fn the_median_of_the_nearest_version_counts() {
        let here = machine("x", 4);
        let times = [("1.0", 9.0), ("1.10", 100.0), ("1.10", 10.0), ("1.10", 12.0), ("3", 50.0)];
        let estimates = Estimates::new(here.clone(), times.map(|(version, secs)| on(&here, "a/b", version, secs)).into());
        for (cpv, want) in [
            ("a/b-1.10", Some(sure(12))),
            ("a/b-2", Some(sure(12))),
            ("a/b-1.9", Some(sure(9))),
            ("a/b-0.1", Some(sure(9))),
            ("a/b-4", Some(sure(50))),
            ("a/c-1.10", None),
            ("a/b", None),
        ] {
            assert_eq!(estimates.of_package(cpv, false), want, "{cpv}");
        }
        // From a binary package nothing is known, and nothing invented.
        assert_eq!(estimates.of_package("a/b-1.10", true), None);
        assert_eq!(Estimates::default().of_package("a/b-1", false), None);
    }

    #[test]
    fn times_of_another_machine_are_scaled_and_a_guess() {
        let (here, there) = (machine("slow", 2), machine("fast", 8));
        let far = on(&there, "a/big", "1", 100.0);
        // Nothing was built on both: half of it by the jobs.
        let estimates = Estimates::new(here.clone(), vec![far.clone()]);
        assert_eq!(estimates.of_package("a/big-1", false), Some(guess(250)));
        let mut both = vec![far];
        for (name, there_secs, here_secs) in [("a/b", 1.0, 3.0), ("a/c", 2.0, 8.0), ("a/d", 10.0, 50.0)] {
            both.push(on(&there, name, "1", there_secs));
            both.push(on(&here, name, "1", here_secs));
        }
        let estimates = Estimates::new(here, both.clone());
        assert_eq!(estimates.of_package("a/big-1", false), Some(guess(400)));
        assert_eq!(estimates.of_package("a/d-1", false), Some(sure(50)), "what was built here counts alone");
        // And the other way round: what the slow machine took is less on the fast one.
        let estimates = Estimates::new(machine("fast", 8), both);
        assert_eq!(estimates.of_package("a/big-1", false), Some(sure(100)));
    }

    #[test]
    fn runs_say_how_many_packages_are_built_at_a_time() {
        let here = machine("x", 4);
        let run = |secs, work| Build { kind: Kind::Run, work, ..on(&here, RUN, "", secs) };
        assert!((Estimates::new(here.clone(), vec![run(10.0, 30.0)]).overlap() - 3.0).abs() < 1e-9);
        assert!((Estimates::new(here.clone(), vec![run(1.0, 300.0)]).overlap() - 4.0).abs() < 1e-9, "no more than there are jobs");
        assert!((Estimates::new(here.clone(), vec![run(0.0, 1.0)]).overlap() - 1.0).abs() < 1e-9);
        assert_eq!(Estimates::new(here.clone(), vec![run(1.0, 812.0)]).work(Kind::Run, RUN), Some(812));
        assert_eq!(Estimates::new(here, Vec::new()).work(Kind::Kernel, "x"), None);
    }

    #[test]
    fn what_is_left_of_a_run() {
        let left = |secs, unknown, guess| Some(Left { secs, unknown, guess });
        // Two at a time; the one that runs has 20 s to go.
        assert_eq!(run_left(&[Some(sure(30)), Some(sure(10))], &[(Some(sure(50)), 30)], 2.0), left(30, 0, false));
        assert_eq!(run_left(&[Some(sure(30)), Some(sure(30))], &[(Some(sure(50)), 30)], 2.0), left(40, 0, false));
        assert_eq!(run_left(&[Some(guess(100)), Some(sure(1))], &[], 4.0), left(100, 0, true));
        // It takes longer than before: then nothing of it is left that we know.
        assert_eq!(run_left(&[], &[(Some(sure(50)), 300)], 1.0), left(0, 0, false));
        assert_eq!(run_left(&[None, Some(sure(5))], &[(None, 7)], 1.0), left(5, 2, false));
        assert_eq!(run_left(&[None], &[], 1.0), None);
    }
}
