//! How long a run of emerge will take, by what was foreseen and how long that took before; and what is remembered of it for the next one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::build_times::{self, Build, Estimates, Kind, run_left};
use crate::context::Context;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::progress::Finished;
use crate::progress::{EmergeStatus, EmergeTask, Expected, Left};
use crate::session::Work;
use crate::session::foreseen::Foreseen;

/// A package that a run is going to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) cpv: String,
    pub(crate) binary: bool,
}

/// Says what the next run of emerge will merge.
pub(crate) fn expect(work: &Work<'_>, foreseen: &Foreseen) {
    let coming = foreseen.list.iter().map(|merge| Coming { cpv: merge.cpv.clone(), binary: merge.binary });
    *work.foreseen.borrow_mut() = coming.collect();
}

/// What is expected of one run.
#[derive(Debug)]
pub(crate) struct Forecast {
    estimates: Estimates,
    coming: Vec<Coming>,
    /// The packages that it has begun.
    begun: Mutex<BTreeSet<String>>,
}

impl Forecast {
    pub(crate) fn of(cx: &Context<'_>, work: &Work<'_>) -> Self {
        Self::new(build_times::estimates(cx), work.foreseen.borrow().clone())
    }

    pub(crate) fn new(estimates: Estimates, coming: Vec<Coming>) -> Self {
        Self { estimates, coming, begun: Mutex::default() }
    }

    /// Takes note of what has begun.
    pub(crate) fn saw(&self, now: &EmergeStatus) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        for task in &now.running {
            // The output of a hostile build has no end.
            if begun.len() <= self.coming.len() && !begun.contains(&task.cpv) {
                begun.insert(task.cpv.clone());
            }
        }
    }

    /// The status with what is expected.
    pub(crate) fn added_to(&self, now: &EmergeStatus) -> EmergeStatus {
        self.saw(now);
        let with_expected = |task: &EmergeTask| EmergeTask { expected: self.of_package(&task.cpv), ..task.clone() };
        let running: Vec<EmergeTask> = now.running.iter().map(with_expected).collect();
        EmergeStatus { left: self.left(now, &running), running, ..now.clone() }
    }

    fn of_package(&self, cpv: &str) -> Option<Expected> {
        let binary = self.coming.iter().any(|coming| coming.binary && coming.cpv == cpv);
        self.estimates.of_package(cpv, binary)
    }

    fn left(&self, now: &EmergeStatus, running: &[EmergeTask]) -> Option<Left> {
        if now.total == 0 || now.done >= now.total {
            return None;
        }
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.coming.iter().filter(|coming| !begun.contains(&coming.cpv));
        let mut waiting: Vec<_> = waiting.map(|coming| self.estimates.of_package(&coming.cpv, coming.binary)).collect();
        drop(begun);
        // A run that was resumed has a shorter list, and one that nobody has foreseen has none.
        waiting.resize(now.total.saturating_sub(now.done + running.len()).min(MOST), None);
        let running: Vec<_> = running.iter().map(|task| (task.expected, task.elapsed_secs)).collect();
        run_left(&waiting, &running, self.estimates.overlap())
    }
}

/// emerge's count comes from the session.
const MOST: usize = 20_000;

/// Remembers how long the packages of a run have taken.
pub(crate) fn remember(cx: &Context<'_>, finished: &[Finished]) {
    build_times::add(cx, builds(finished));
}

fn builds(finished: &[Finished]) -> Vec<Build> {
    let took = |one: &Finished| one.ended.saturating_duration_since(one.began);
    let mut builds: Vec<Build> = finished
        .iter()
        .filter_map(|one| {
            let cpv = Cpv::parse(&one.cpv)?;
            let kind = if one.binary { Kind::Binary } else { Kind::Compiled };
            Some(Build::new(kind, cpv.name(), cpv.version, rounded(took(one))))
        })
        .collect();
    let (began, ended) = (finished.iter().map(|one| one.began).min(), finished.iter().map(|one| one.ended).max());
    if let (Some(began), Some(ended)) = (began, ended)
        && finished.len() > 1
    {
        let wall = rounded(ended.saturating_duration_since(began));
        let work = rounded(finished.iter().map(took).sum());
        builds.push(Build::new(Kind::Run, build_times::RUN, "", wall).with_work(work));
    }
    builds
}

/// In seconds, with what people can see.
fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn forecast(known: &[(&str, f64)], coming: &[&str]) -> Forecast {
        let builds = known.iter().map(|(name, secs)| Build::new(Kind::Compiled, name, "1", *secs)).collect();
        let coming = coming.iter().map(|cpv| Coming { cpv: (*cpv).to_owned(), binary: false }).collect();
        Forecast::new(Estimates::of_builds(builds), coming)
    }

    fn status(done: usize, total: usize, running: &[(&str, u64)]) -> EmergeStatus {
        let running = running.iter().map(|(cpv, elapsed_secs)| EmergeTask {
            cpv: (*cpv).to_owned(),
            phase: "compile".to_owned(),
            elapsed_secs: *elapsed_secs,
            expected: None,
        });
        EmergeStatus { done, total, running: running.collect(), ..EmergeStatus::default() }
    }

    #[test]
    fn what_is_left_shrinks_with_the_run() {
        let forecast = forecast(&[("a/b", 30.0), ("a/c", 10.0), ("a/d", 5.0)], &["a/b-1", "a/c-2", "a/d-1"]);
        let left = |status: &EmergeStatus| forecast.added_to(status).left.map(|left| (left.secs, left.unknown));
        assert_eq!(left(&status(0, 3, &[("a/b-1", 10)])), Some((35, 0)));
        let shown = forecast.added_to(&status(1, 3, &[("a/c-2", 4)]));
        assert_eq!((shown.left.unwrap().secs, shown.running[0].expected.unwrap().secs), (11, 10));
        // Between two packages.
        assert_eq!(left(&status(2, 3, &[])), Some((5, 0)));
        assert_eq!(left(&status(3, 3, &[])), None);
        assert_eq!(left(&status(0, 0, &[])), None);
    }

    #[test]
    fn what_nobody_has_foreseen_is_not_known() {
        let known = forecast(&[("a/b", 30.0)], &[]);
        let shown = known.added_to(&status(1, 4, &[("a/b-1", 10)]));
        assert_eq!(shown.left, Some(Left { secs: 20, unknown: 2, guess: false }));
        assert_eq!(forecast(&[], &["a/b-1"]).added_to(&status(0, 1, &[("a/b-1", 1)])).left, None);
        // A count that a hostile session made up.
        assert!(known.added_to(&status(0, usize::MAX, &[("a/b-1", 1)])).left.unwrap().unknown <= MOST);
    }

    #[test]
    fn a_run_is_remembered_with_how_much_was_done_at_a_time() {
        let now = Instant::now();
        let at = |secs: u64| now + Duration::from_secs(secs);
        let one = |cpv: &str, from, to| Finished { cpv: cpv.to_owned(), binary: cpv == "a/c-2", began: at(from), ended: at(to) };
        let of_two = builds(&[one("a/b-1", 0, 30), one("a/c-2", 10, 20)]);
        let told: Vec<_> = of_two.iter().map(|build| (build.kind, build.name.as_str(), build.secs, build.work)).collect();
        let want =
            [(Kind::Compiled, "a/b", 30.0, 0.0), (Kind::Binary, "a/c", 10.0, 0.0), (Kind::Run, build_times::RUN, 30.0, 40.0)];
        assert_eq!(told, want);
        assert_eq!(builds(&[one("a/b-1", 0, 30)]).len(), 1, "of one package there is nothing to learn about side by side");
        assert_eq!(builds(&[]), []);
    }
}
