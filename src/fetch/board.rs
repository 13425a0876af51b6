//! Which files are to be fetched, and how far each is. Only bookkeeping, under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::hosts::Whereabouts;
use super::shelf::hash_of;
use super::trees::Package;
use super::{FetchStatus, Missing, Reason};
use crate::fetch::hosts::MEMORY;
use crate::portage::manifest::Expected;

/// Which file: two trees may list one name with different bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    hash: Arc<str>,
}

impl Key {
    pub(super) fn new(name: &str, expected: &Expected) -> Self {
        Self { name: name.into(), hash: hash_of(expected).into() }
    }
}

/// Where a file comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A source archive of these packages.
    Source(Vec<Claim>),
    /// A package of a binhost.
    Package(Whereabouts),
}

/// A package that lists a source archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) package: Package,
    /// `name-version` that wants it, if we know it.
    pub(super) pf: Option<String>,
    /// All USE flags that are on, if we know them.
    pub(super) flags: Option<Arc<BTreeSet<String>>>,
}

/// How far a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    /// How many bytes have come.
    Running(u64),
    /// Its path below its shelf.
    Here(String),
    Gone(Reason),
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) expected: Expected,
    pub(super) origin: Origin,
    pub(super) state: State,
    /// `category/name-version` of the packages that want it.
    packages: BTreeSet<String>,
    /// The session has asked for it.
    asked: bool,
    /// How many programs in the session wait for it.
    awaited: usize,
    /// When fetching it failed.
    gone: Option<Instant>,
}

/// What a worker does next.
#[derive(Debug)]
pub(super) enum Task<P> {
    Plan(P),
    Bring(Key),
}

/// All files. `P` is what a worker makes a plan from.
#[derive(Debug)]
pub(super) struct Board<P> {
    jobs: BTreeMap<Key, Job>,
    queue: VecDeque<Key>,
    plans: VecDeque<P>,
    /// How many plans are not done.
    planning: usize,
}

impl<P> Default for Board<P> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), queue: VecDeque::new(), plans: VecDeque::new(), planning: 0 }
    }
}

impl<P> Board<P> {
    pub(super) fn plan(&mut self, plan: P) {
        self.planning += 1;
        self.plans.push_back(plan);
    }

    pub(super) fn planned(&mut self) {
        self.planning -= 1;
    }

    /// Adds a file unless it is known. `package` wants it.
    pub(super) fn add(&mut self, key: &Key, expected: &Expected, origin: Origin, package: Option<String>) {
        let job = self.jobs.entry(key.clone()).or_insert_with(|| {
            self.queue.push_back(key.clone());
            let origin = match &origin {
                Origin::Source(_) => Origin::Source(Vec::new()),
                Origin::Package(at) => Origin::Package(at.clone()),
            };
            Job {
                expected: expected.clone(),
                origin,
                state: State::Waiting,
                packages: BTreeSet::new(),
                asked: false,
                awaited: 0,
                gone: None,
            }
        });
        job.packages.extend(package);
        if let (Origin::Source(known), Origin::Source(new)) = (&mut job.origin, origin) {
            // A session may ask for the same file any number of times.
            for claim in new {
                if !known.contains(&claim) {
                    known.push(claim);
                }
            }
        }
    }

    /// Notes a file that cannot be fetched at all.
    pub(super) fn refuse(&mut self, name: &str, package: String, reason: Reason) {
        let expected = Expected { size: 0, hashes: BTreeMap::new() };
        let key = Key::new(name, &expected);
        let job = Job {
            expected,
            origin: Origin::Source(Vec::new()),
            state: State::Gone(reason),
            packages: BTreeSet::new(),
            asked: false,
            awaited: 0,
            gone: Some(Instant::now()),
        };
        self.jobs.entry(key).or_insert(job).packages.insert(package);
    }

    /// What to do next, if anything. From now on that file counts as running.
    pub(super) fn next(&mut self) -> Option<Task<P>> {
        if let Some(plan) = self.plans.pop_front() {
            return Some(Task::Plan(plan));
        }
        let key = self.queue.pop_front()?;
        if let Some(job) = self.jobs.get_mut(&key) {
            job.state = State::Running(0);
        }
        Some(Task::Bring(key))
    }

    pub(super) fn has_work(&self) -> bool {
        !self.plans.is_empty() || !self.queue.is_empty()
    }

    pub(super) fn job(&self, key: &Key) -> Option<&Job> {
        self.jobs.get(key)
    }

    pub(super) fn set(&mut self, key: &Key, state: State) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.gone = matches!(state, State::Gone(_)).then(Instant::now);
            job.state = state;
        }
    }

    /// A file that was here has vanished or changed: it is fetched again.
    pub(super) fn again(&mut self, key: &Key) {
        if let Some(job) = self.jobs.get_mut(key).filter(|job| matches!(job.state, State::Here(_))) {
            job.state = State::Waiting;
            self.queue.push_front(key.clone());
        }
    }

    /// Somebody in the session waits for a file, so it comes next.
    pub(super) fn await_file(&mut self, key: &Key, now: Instant) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        if job.gone.take_if(|gone| now.saturating_duration_since(*gone) >= MEMORY).is_some() {
            job.state = State::Waiting;
            self.queue.push_front(key.clone());
        }
        job.asked = true;
        job.awaited += 1;
        if let Some(at) = self.queue.iter().position(|waiting| waiting == key)
            && let Some(key) = self.queue.remove(at)
        {
            self.queue.push_front(key);
        }
    }

    /// One fewer waits for it.
    pub(super) fn give_up(&mut self, key: &Key) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.awaited -= 1;
        }
    }

    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Key, &'a Job)> {
        let first = Key { name: name.into(), hash: "".into() };
        self.jobs.range(first..).take_while(move |(key, _)| *key.name == *name)
    }

    /// Whether every file is here or has failed.
    pub(super) fn is_settled(&self) -> bool {
        self.planning == 0 && self.jobs.values().all(|job| matches!(job.state, State::Here(_) | State::Gone(_)))
    }

    /// Files that a package wants or the session asked for, and that failed.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let missing = |(key, job): (&Key, &Job)| match &job.state {
            State::Gone(reason) if job.asked || !job.packages.is_empty() => Some(Missing {
                name: key.name.to_string(),
                packages: job.packages.iter().cloned().collect(),
                bytes: job.expected.size,
                reason: reason.clone(),
            }),
            _ => None,
        };
        self.jobs.iter().filter_map(missing).collect()
    }

    pub(super) fn status(&self) -> FetchStatus {
        let mut status = FetchStatus { files_total: self.jobs.len(), ..FetchStatus::default() };
        for (key, job) in &self.jobs {
            let name = || key.name.to_string();
            match &job.state {
                State::Here(_) => {
                    status.files_done += 1;
                    status.bytes_done += job.expected.size;
                }
                State::Gone(_) => {
                    status.files_failed += 1;
                    continue;
                }
                State::Running(bytes) => {
                    status.bytes_done += bytes;
                    status.running.push(name());
                }
                State::Waiting => {}
            }
            status.bytes_total += job.expected.size;
            if job.awaited > 0 && !matches!(job.state, State::Here(_)) {
                status.awaited.push(name());
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(size: u64, hash: &str) -> Expected {
        Expected { size, hashes: [("SHA512", hash.to_owned())].into() }
    }

    fn board(names: &[&str]) -> (Board<u8>, Vec<Key>) {
        let mut board = Board::default();
        let keys: Vec<Key> = names.iter().map(|name| Key::new(name, &expected(10, "aa"))).collect();
        for key in &keys {
            board.add(key, &expected(10, "aa"), Origin::Source(Vec::new()), Some(format!("x/{}", key.name)));
        }
        (board, keys)
    }

    #[test]
    fn what_is_waited_for_comes_first_and_plans_before_all() {
        let (mut board, keys) = board(&["a", "b", "c"]);
        board.await_file(&keys[2], Instant::now());
        board.plan(7);
        let mut order = Vec::new();
        while let Some(task) = board.next() {
            order.push(match task {
                Task::Plan(plan) => plan.to_string(),
                Task::Bring(key) => key.name.to_string(),
            });
        }
        assert_eq!(order, ["7", "c", "a", "b"]);
        assert!(!board.has_work());
    }

    #[test]
    fn asking_again_and_again_costs_nothing() {
        let (mut board, keys) = board(&["a"]);
        let package = Package::default();
        for pf in [None, Some("x-1"), None, Some("x-1")] {
            let claim = Claim { package: package.clone(), pf: pf.map(str::to_owned), flags: None };
            board.add(&keys[0], &expected(10, "aa"), Origin::Source(vec![claim]), None);
        }
        let (_, job) = board.named("a").next().unwrap();
        assert!(matches!(&job.origin, Origin::Source(claims) if claims.len() == 2), "{job:?}");
    }

    #[test]
    fn a_file_that_is_wanted_twice_is_one() {
        let (mut board, keys) = board(&["a"]);
        board.add(&keys[0], &expected(10, "aa"), Origin::Source(Vec::new()), Some("x/z".to_owned()));
        board.add(&Key::new("a", &expected(5, "bb")), &expected(5, "bb"), Origin::Source(Vec::new()), None);
        assert_eq!((board.status().files_total, board.named("a").count(), board.named("b").count()), (2, 2, 0));
        board.set(&keys[0], State::Gone(Reason::Offline));
        assert_eq!(board.missing()[0].packages, ["x/a", "x/z"]);
    }

    #[test]
    fn a_no_is_remembered_for_a_while() {
        let (mut board, keys) = board(&["a"]);
        while board.next().is_some() {}
        board.set(&keys[0], State::Gone(Reason::Nobody(Vec::new())));
        let now = Instant::now();
        board.await_file(&keys[0], now);
        assert!(!board.has_work() && board.missing().len() == 1);
        board.await_file(&keys[0], now + MEMORY);
        assert!(board.has_work() && board.missing().is_empty());
        // Once.
        board.await_file(&keys[0], now + MEMORY);
        board.next();
        assert!(!board.has_work());
    }

    #[test]
    fn how_far_it_is() {
        let (mut board, keys) = board(&["a", "b", "c", "d"]);
        board.set(&keys[0], State::Here("a".to_owned()));
        board.set(&keys[1], State::Running(4));
        board.set(&keys[2], State::Gone(Reason::Restricted));
        board.await_file(&keys[0], Instant::now());
        board.await_file(&keys[1], Instant::now());
        let status = board.status();
        assert_eq!((status.files_done, status.files_failed, status.files_total), (1, 1, 4));
        assert_eq!((status.bytes_done, status.bytes_total), (14, 30));
        assert_eq!((status.running, status.awaited), (vec!["b".to_owned()], vec!["b".to_owned()]));
        board.give_up(&keys[1]);
        assert!(board.status().awaited.is_empty() && !board.is_settled());
    }
}
