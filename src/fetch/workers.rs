//! Who does the work on the board: threads, and whoever waits for a file. What goes on the board is decided here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::board::{Board, Claim, Job, Key, Origin, State, Task};
use super::inside::{Inside, lock};
use super::trees::Package;
use super::{Files, Metadata, Reason, Wanted};
use crate::portage::manifest::Expected;
use crate::portage::src_uri::{Conditions, source_uris};

/// How many files are fetched at a time.
const MAX_WORKERS: usize = 8;

impl Inside {
    /// Starts a worker if there is room for one. False if there is no worker and none can be started.
    pub(super) fn engage(self: &Arc<Self>) -> bool {
        self.changed.notify_all();
        {
            let mut threads = lock(&self.threads);
            if threads.workers >= MAX_WORKERS {
                return true;
            }
            threads.workers += 1;
        }
        let inside = Arc::clone(self);
        let Err(error) = self.spawn(move || inside.work()) else { return true };
        let mut threads = lock(&self.threads);
        threads.workers -= 1;
        // The workers that exist do all of the work.
        let none = threads.workers == 0;
        drop(threads);
        if none {
            self.note(format!("cannot start a thread for downloads, so files are downloaded one by one: {error}"));
        }
        !none
    }

    /// A waiting thread calls this. If no worker can be started, it does one piece of the work itself; else everybody would wait for
    /// ever.
    pub(super) fn lend_a_hand(self: &Arc<Self>) {
        let idle = lock(&self.threads).workers == 0;
        if idle && self.board().has_work() && !self.engage() {
            lock(&self.threads).workers += 1;
            let mut board = self.board();
            if let Some(task) = board.next() {
                self.carry_out(board, task);
            }
            lock(&self.threads).workers -= 1;
        }
    }

    fn work(self: &Arc<Self>) {
        while !self.is_over() {
            let mut board = self.board();
            let Some(task) = board.next() else {
                // The board is still locked. So whoever adds work after this sees that there is room for a worker.
                lock(&self.threads).workers -= 1;
                return;
            };
            self.carry_out(board, task);
        }
        lock(&self.threads).workers -= 1;
    }

    /// Does a piece of work that was next on the board.
    fn carry_out(self: &Arc<Self>, board: MutexGuard<'_, Board<Vec<Wanted>>>, task: Task<Vec<Wanted>>) {
        let more = board.has_work();
        let job = match &task {
            Task::Bring(key) => board.job(key).cloned(),
            Task::Plan(_) => None,
        };
        drop(board);
        if more {
            self.engage();
        }
        match (task, job) {
            (Task::Plan(wanted), _) => {
                self.plan(&wanted);
                self.board().planned();
            }
            (Task::Bring(key), Some(job)) => {
                let state = self.bring(&key, &job);
                self.board().set(&key, state);
            }
            (Task::Bring(_), None) => {}
        }
        self.changed.notify_all();
    }

    /// Finds out which files packages need and adds them to the board.
    fn plan(self: &Arc<Self>, wanted: &[Wanted]) {
        let mut unknown = Vec::new();
        for wanted in wanted {
            let Some((package, pf)) = self.trees.package(&wanted.cpv, &wanted.repository) else {
                self.note(format!("`{1}` belongs to the tree `{0}`, which is not here", wanted.repository, wanted.cpv));
                continue;
            };
            let metadata = self.trees.metadata(&package, pf);
            if metadata.is_none() && !matches!(wanted.files, Files::Named(_)) {
                unknown.push((wanted, package, pf));
                continue;
            }
            self.enlist(wanted, &package, pf, &metadata.unwrap_or_default());
            self.engage();
        }
        let questions: Vec<(Package, String)> =
            unknown.iter().map(|(_, package, pf)| (package.clone(), (*pf).to_owned())).collect();
        let answers = self.ask_metadata(&questions);
        for ((wanted, package, pf), metadata) in unknown.into_iter().zip(answers) {
            match metadata {
                Some(metadata) => self.enlist(wanted, &package, pf, &metadata),
                None => self.note(format!("the sources of `{}` are not known before emerge asks for them", wanted.cpv)),
            }
        }
        self.engage();
    }

    /// Adds the files of one package to the board.
    fn enlist(&self, wanted: &Wanted, package: &Package, pf: &str, metadata: &Metadata) {
        let (files, flags) = match &wanted.files {
            Files::Named(files) => (files.clone(), None),
            Files::Flags(flags) => {
                let found = source_uris(&metadata.src_uri, Conditions::On(&|flag| flags.contains(flag))).unwrap_or_default();
                let mut seen = BTreeSet::new();
                let files = found.into_iter().filter(|found| seen.insert(found.file)).map(|found| found.file.to_owned());
                (files.collect(), Some(Arc::new(flags.clone())))
            }
        };
        if files.is_empty() {
            return;
        }
        let archives = self.trees.archives(package);
        let mut board = self.board();
        for file in files {
            let claim = Claim { package: package.clone(), pf: Some(pf.to_owned()), flags: flags.clone() };
            match archives.get(&file) {
                Some(expected) => {
                    board.add(&Key::new(&file, expected), expected, Origin::Source(vec![claim]), Some(wanted.cpv.clone()));
                }
                None => {
                    let reason = Reason::Other(format!(
                        "the Manifest of `{}` does not list it with a hash that is strong \
                            enough",
                        wanted.cpv
                    ));
                    board.refuse(&file, wanted.cpv.clone(), reason);
                }
            }
        }
    }

    /// Waits for a file on the board. Gives up when `gone` says that the program that asked is gone.
    pub(super) fn await_file(self: &Arc<Self>, key: &Key, gone: &dyn Fn() -> bool) -> Option<Job> {
        self.look_after(key);
        self.board().await_file(key, Instant::now());
        self.engage();
        let mut board = self.board();
        let outcome = loop {
            match board.job(key) {
                Some(job) if matches!(job.state, State::Here(_) | State::Gone(_)) => break Some(job.clone()),
                Some(_) if !self.is_over() => {}
                _ => break None,
            }
            drop(board);
            if gone() {
                board = self.board();
                break None;
            }
            self.lend_a_hand();
            board = self.board();
            board = self.wait(board);
        };
        board.give_up(key);
        outcome
    }

    /// Adds a source archive that a session asks for to the board. The error says in words why that is refused.
    pub(super) fn find_source(&self, name: &str, digests: &BTreeMap<String, String>) -> std::result::Result<Key, String> {
        let fits = |expected: &Expected| {
            let same = |(hash, value): (&&str, &String)| digests.get(*hash).is_none_or(|asked| asked == value);
            let any = expected.hashes.keys().any(|hash| digests.contains_key(*hash));
            any && expected.hashes.iter().all(same)
        };
        if !digests.is_empty() {
            let board = self.board();
            let known = board.named(name).find(|(_, job)| matches!(job.origin, Origin::Source(_)) && fits(&job.expected));
            if let Some((key, _)) = known {
                return Ok(key.clone());
            }
        }
        let mut listed = self.trees.listed(name);
        if digests.is_empty() {
            if listed.iter().any(|(_, expected)| *expected != listed[0].1) {
                return Err("several trees list different files of this name, and there is no digest to choose one".to_owned());
            }
        } else {
            listed.retain(|(_, expected)| fits(expected));
        }
        let Some((_, expected)) = listed.first().cloned() else {
            let with = if digests.is_empty() { "" } else { " with these digests" };
            return Err(format!("no Manifest of this session's ebuild trees lists it{with}"));
        };
        let claims = listed.into_iter().filter(|(_, other)| *other == expected);
        let claims: Vec<Claim> = claims.map(|(package, _)| Claim { package, pf: None, flags: None }).collect();
        let key = Key::new(name, &expected);
        let along = claims.first().map(|claim| self.along(name, claim)).unwrap_or_default();
        let mut board = self.board();
        board.add(&key, &expected, Origin::Source(claims), None);
        for (key, expected, claim) in along {
            board.add(&key, &expected, Origin::Source(vec![claim]), None);
        }
        Ok(key)
    }

    /// The files that every ebuild needs that needs this file. Portage asks for them next, one after the other, so we start now.
    fn along(&self, name: &str, claim: &Claim) -> Vec<(Key, Expected, Claim)> {
        let mut all: Option<BTreeSet<String>> = None;
        for pf in self.trees.ebuilds(&claim.package) {
            let Some(metadata) = self.trees.metadata(&claim.package, &pf) else { return Vec::new() };
            let files = |conditions| -> BTreeSet<String> {
                source_uris(&metadata.src_uri, conditions).unwrap_or_default().iter().map(|found| found.file.to_owned()).collect()
            };
            if files(Conditions::All).contains(name) {
                let needed = files(Conditions::None);
                all = Some(all.map_or(needed.clone(), |all| all.intersection(&needed).cloned().collect()));
            }
        }
        let archives = self.trees.archives(&claim.package);
        let entry = |file: String| {
            let expected = archives.get(&file).filter(|_| file != name)?.clone();
            Some((Key::new(&file, &expected), expected, claim.clone()))
        };
        all.unwrap_or_default().into_iter().filter_map(entry).collect()
    }
}
