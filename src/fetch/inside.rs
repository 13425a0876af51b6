//! What the threads of a broker share: the board, where files may come from, and notes for the user.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::board::{Board, Key, State};
use super::hosts::Hosts;
use super::layout::Layouts;
use super::places::Mirrors;
use super::servers::Servers;
use super::shelf::Shelf;
use super::trees::{Package, Trees};
use super::{AskMetadata, Metadata, Wanted};
use crate::download::Downloader;
use crate::stage3::keys::TrustedKeys;

/// At most this many notes are shown: a session can cause as many as it likes.
const MAX_NOTES: usize = 1000;
/// How often a waiting thread checks whether it should go on.
pub(super) const TICK: Duration = Duration::from_millis(200);

pub(super) struct Inside {
    pub(super) distfiles: Shelf,
    pub(super) packages: Shelf,
    pub(super) trees: Trees,
    pub(super) mirrors: Mirrors,
    pub(super) hosts: Hosts,
    /// By which packages of hosts are verified.
    pub(super) keys: TrustedKeys,
    pub(super) downloader: Downloader,
    pub(super) layouts: Layouts,
    pub(super) servers: Servers,
    pub(super) ask: AskMetadata,
    /// Metadata that Portage was asked for, by tree, category and version. Whoever asks holds the lock, so nobody asks twice.
    pub(super) asked: Mutex<BTreeMap<(Package, String), Option<Metadata>>>,
    pub(super) board: Mutex<Board<Vec<Wanted>>>,
    pub(super) changed: Condvar,
    pub(super) over: Arc<AtomicBool>,
    pub(super) notes: Mutex<Notes>,
    pub(super) threads: Mutex<Threads>,
}

/// Each note is shown once.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) new: VecDeque<String>,
    pub(super) told: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) handles: Vec<JoinHandle<()>>,
    pub(super) workers: usize,
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

    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = crate::threads::builder().name("fetch".to_owned()).spawn(work)?;
        let mut threads = lock(&self.threads);
        threads.handles.retain(|handle| !handle.is_finished());
        threads.handles.push(thread);
        Ok(())
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
}
