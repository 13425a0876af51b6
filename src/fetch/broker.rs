//! The broker: what is wanted, who works on it, and who waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::board::{Board, Claim, Job, Key, Origin, State, Task};
use super::bring::Layouts;
use super::hosts::Hosts;
use super::places::Mirrors;
use super::servers::Servers;
use super::shelf::Shelf;
use super::trees::{Package, Trees};
use super::{AskMetadata, Error, FetchStatus, Files, Metadata, Missing, Reason, Result, Shelves, Sources, Wanted, serve};
use crate::download::{Addresses, Downloader, Settings, Url};
use crate::portage::manifest::Expected;
use crate::portage::src_uri::{Conditions, source_uris};

/// How many files are fetched at a time.
const MAX_WORKERS: usize = 8;
/// At most this many notes are shown: a session can cause as many as it likes.
const MAX_NOTES: usize = 1000;
/// How often a waiting thread checks whether it should go on.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// Fetches files for one session. Dropping it ends what it does.
pub struct Broker {
    inside: Arc<Inside>,
    /// The sockets at which its threads wait.
    bells: Mutex<Vec<UnixListener>>,
}

pub(super) struct Inside {
    pub(super) distfiles: Shelf,
    pub(super) packages: Shelf,
    pub(super) trees: Trees,
    pub(super) mirrors: Mirrors,
    pub(super) hosts: Hosts,
    pub(super) downloader: Downloader,
    pub(super) layouts: Layouts,
    pub(super) servers: Servers,
    ask: AskMetadata,
    /// Metadata that Portage was asked for, by tree, category and version. Whoever asks holds the lock, so nobody asks twice.
    asked: Mutex<BTreeMap<(Package, String), Option<Metadata>>>,
    board: Mutex<Board<Vec<Wanted>>>,
    changed: Condvar,
    over: Arc<AtomicBool>,
    notes: Mutex<Notes>,
    threads: Mutex<Threads>,
}

/// Each note is shown once.
#[derive(Debug, Default)]
struct Notes {
    new: VecDeque<String>,
    told: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    workers: usize,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("trees", &self.inside.trees).finish_non_exhaustive()
    }
}

impl Broker {
    /// Makes no request before somebody wants something.
    pub fn new(shelves: &Shelves, sources: Sources, downloader: &Downloader, ask: AskMetadata) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let trees = Trees::open(&sources.trees)?;
        let mirrors =
            Mirrors { general: sources.mirrors, custom: sources.custom_mirrors, third_party: trees.third_party_mirrors() };
        let configured = mirrors.general.iter().chain(mirrors.custom.values().flatten());
        let hosts = sources.hosts.iter().filter(|host| host.configured);
        let configured: Vec<Url> =
            configured.chain(hosts.map(|host| &host.sync_uri)).filter_map(|text| text.parse().ok()).collect();
        // Ebuilds may come from anybody, so an address of theirs may not lead into this machine or its network. Servers of the
        // configuration may be there.
        let settings = Settings { addresses: Addresses::public_and(&configured), ..downloader.settings().clone() };
        let (stop, user) = (Arc::clone(&over), Arc::clone(downloader.cancelled()));
        let downloader = Downloader::new(settings, Arc::new(move || stop.load(Ordering::Relaxed) || user()));
        let inside = Inside {
            distfiles: Shelf::open(&shelves.distfiles)?,
            packages: Shelf::open(&shelves.packages)?,
            trees,
            mirrors,
            hosts: Hosts::new(&sources.hosts),
            downloader,
            layouts: Layouts::default(),
            servers: Servers::default(),
            ask,
            asked: Mutex::default(),
            board: Mutex::default(),
            changed: Condvar::new(),
            over,
            notes: Mutex::default(),
            threads: Mutex::default(),
        };
        Ok(Self { inside: Arc::new(inside), bells: Mutex::default() })
    }

    /// Starts to fetch what these packages need, in this order. Returns at once.
    pub fn want(&self, packages: Vec<Wanted>) {
        self.inside.board().plan(packages);
        self.inside.engage();
    }

    /// Answers a session's questions until the broker is dropped.
    pub fn serve(&self, listener: UnixListener) -> Result<()> {
        let waiting = serve::Door::new(listener)?;
        lock(&self.bells).push(waiting.bell()?);
        let inside = Arc::clone(&self.inside);
        self.inside.spawn(move || waiting.open(&inside)).map_err(|source| Error::Thread { source })
    }

    /// How far it is.
    pub fn status(&self) -> FetchStatus {
        self.inside.board().status()
    }

    /// Notes for the user since the last call: failed mirrors, obstacles.
    pub fn take_notes(&self) -> Vec<String> {
        lock(&self.inside.notes).new.drain(..).collect()
    }

    /// Waits until every wanted file is here or has failed. Returns the failed ones.
    pub fn settle(&self) -> Result<Vec<Missing>> {
        let mut board = self.inside.board();
        while !board.is_settled() {
            if self.inside.is_over() {
                return Err(Error::Interrupted);
            }
            drop(board);
            self.inside.lend_a_hand();
            board = self.inside.board();
            if !board.is_settled() {
                board = self.inside.wait(board);
            }
        }
        Ok(board.missing())
    }

    /// Whether a host of binary packages failed to answer what it has.
    pub fn a_host_failed(&self) -> bool {
        self.inside.hosts.has_failed()
    }

    /// The files that have failed so far, also those that only the session asked for.
    pub fn missing(&self) -> Vec<Missing> {
        self.inside.board().missing()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.inside.over.store(true, Ordering::Relaxed);
        self.inside.changed.notify_all();
        for bell in lock(&self.bells).drain(..) {
            if let Err(error) = rustix::net::shutdown(&bell, rustix::net::Shutdown::Both) {
                tracing::warn!(%error, "a socket of the broker cannot be closed");
            }
        }
        // A thread may start another one while we wait, so we look again until there are none.
        loop {
            let handles = std::mem::take(&mut lock(&self.inside.threads).handles);
            if handles.is_empty() {
                return;
            }
            for handle in handles {
                // A thread that panicked has already printed that.
                drop(handle.join());
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inside {
    pub(super) fn board(&self) -> MutexGuard<'_, Board<Vec<Wanted>>> {
        lock(&self.board)
    }

    /// Waits until something changes, or for a while.
    pub(super) fn wait<'a>(&self, board: MutexGuard<'a, Board<Vec<Wanted>>>) -> MutexGuard<'a, Board<Vec<Wanted>>> {
        self.changed.wait_timeout(board, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether the broker was dropped, or the user wants to stop.
    pub(super) fn is_over(&self) -> bool {
        (self.downloader.cancelled())()
    }

    pub(super) fn note(&self, text: String) {
        tracing::info!(note = %text, "fetch");
        let mut notes = lock(&self.notes);
        if notes.told.len() < MAX_NOTES && notes.told.insert(text.clone()) {
            notes.new.push_back(text);
        }
    }

    pub(super) fn count(&self, key: &Key, change: impl FnOnce(u64) -> u64) {
        let mut board = self.board();
        if let Some(State::Running(before)) = board.job(key).map(|job| job.state.clone()) {
            board.set(key, State::Running(change(before)));
        }
    }

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
    fn lend_a_hand(self: &Arc<Self>) {
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

    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = crate::threads::builder().name("fetch".to_owned()).spawn(work)?;
        let mut threads = lock(&self.threads);
        threads.handles.retain(|handle| !handle.is_finished());
        threads.handles.push(thread);
        Ok(())
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

    /// The metadata of ebuilds that have no metadata cache. Each is asked for once.
    pub(super) fn ask_metadata(&self, questions: &[(Package, String)]) -> Vec<Option<Metadata>> {
        let mut known = lock(&self.asked);
        let new: Vec<&(Package, String)> = questions.iter().filter(|question| !known.contains_key(*question)).collect();
        if !new.is_empty() {
            let name = |(package, pf): &(Package, String)| (Trees::cpv(package, pf), self.trees.repository(package).to_owned());
            let names: Vec<(String, String)> = new.iter().map(|question| name(question)).collect();
            let answers = (self.ask)(&names);
            for (question, (cpv, repository)) in new.into_iter().zip(names) {
                let answer = answers.iter().find(|answer| answer.cpv == cpv && answer.repository == repository);
                known.insert(question.clone(), answer.cloned());
            }
        }
        questions.iter().map(|question| known.get(question).cloned().flatten()).collect()
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

#[cfg(test)]
mod tests {
    use super::super::fixture::TreeDir;
    use super::*;
    use crate::threads::tests::without_any;

    #[test]
    fn whoever_waits_works_where_no_thread_can_be_started() {
        let tree = TreeDir::new("gentoo");
        let hash = "0".repeat(128);
        tree.write("a/one/Manifest", &format!("DIST one.tar 1 BLAKE2B {hash} SHA512 {hash}\n"));
        tree.write("a/one/one-1.ebuild", "");
        tree.write("metadata/md5-cache/a/one-1", "EAPI=8\nSRC_URI=one.tar\n");
        let dir = tempfile::tempdir().unwrap();
        let shelves = Shelves { distfiles: dir.path().join("distfiles"), packages: dir.path().join("packages") };
        std::fs::create_dir(&shelves.distfiles).unwrap();
        std::fs::create_dir(&shelves.packages).unwrap();
        let sources = Sources { trees: vec![tree.tree()], mirrors: Vec::new(), custom_mirrors: BTreeMap::new(), hosts: Vec::new() };
        let downloader = Downloader::new(Settings { offline: true, ..Settings::default() }, Arc::new(|| false));
        let broker = Broker::new(&shelves, sources, &downloader, Box::new(|_| Vec::new())).unwrap();
        let wanted = Wanted { cpv: "a/one-1".to_owned(), repository: "gentoo".to_owned(), files: Files::Flags(BTreeSet::new()) };
        let missing = without_any(|| {
            broker.want(vec![wanted]);
            broker.settle().unwrap()
        });
        assert_eq!(
            missing.iter().map(|missing| (missing.name.as_str(), &missing.reason)).collect::<Vec<_>>(),
            [("one.tar", &Reason::Offline)]
        );
        let notes = broker.take_notes();
        assert!(notes[0].starts_with("cannot start a thread for downloads, so files are downloaded one by one: "), "{notes:?}");
    }
}
