//! Sessions in which a user works by hand on what a failed build has left.
//!
//! ```text
//! sessions/A    the failed build's: suspended, locked, only read
//! sessions/B    an overlay with A's upper directory on top of A's layers; so is its `/var/tmp/portage`, with A's scratch directory below
//! ```
//!
//! So the hand never touches A, which goes on later as if nothing had been done. B says in its record from its first instant on that it is
//! one of these (`by_hand`), and such a session becomes no state ([`super::Session::commit`] refuses it). Nothing of it is published,
//! since it has neither pools nor package keys.
//!
//! Before A goes on, everything that stands on it is removed ([`Store::session_discard_by_hand`]). Who works in B holds A's lock as well,
//! so A cannot go on meanwhile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::session::read_record;
use super::{InMap, Purpose, Result, Session, SessionId, SessionRecord, State, Store, lock};

/// A suspended session that is locked and stays suspended.
#[derive(Debug)]
pub struct Held {
    record: SessionRecord,
    dir: PathBuf,
    base: Option<State>,
    lock: Lock,
}

impl Held {
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// The state that it stands on.
    pub fn base(&self) -> Option<&State> {
        self.base.as_ref()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its upper directory.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("layer/fs")
    }

    /// Its `/var/tmp/portage`.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    pub(super) fn lock_fd(&self) -> Result<OwnedFd> {
        self.lock.duplicate()
    }
}

fn key_of(id: &SessionId) -> String {
    format!("by-hand:{id}")
}

fn subject_of(subject: &str) -> String {
    format!("by-hand:{subject}")
}

impl Store {
    /// What `sub` of a session's directory has, if there is such a file of ours.
    pub fn session_file(&self, id: &SessionId, sub: &str) -> Option<Vec<u8>> {
        std::fs::read(self.session_dir(id).join(sub)).ok()
    }

    /// Locks a suspended session that can go on. `None` if somebody works in it, or it is gone.
    pub fn session_hold(&self, id: &SessionId) -> Result<Option<Held>> {
        let dir = self.session_dir(id);
        let Some(lock) = lock::try_existing(&dir.join("lock"), &self.inner.command)? else { return Ok(None) };
        let Some(record) = read_record(&dir).filter(|record| self.is_resumable(record)) else { return Ok(None) };
        let base = record.base.as_ref().map(|id| self.state(id)).transpose()?;
        Ok(Some(Held { record, dir, base, lock }))
    }

    /// The session for work by hand on a suspended one: as it was left, or a new one.
    pub fn session_by_hand(&self, below: Held) -> Result<Session> {
        let key = key_of(&below.record.id);
        if let Some(mut session) = self.session_find_suspended(&key)? {
            session.below = Some(below);
            return Ok(session);
        }
        let subject = below.record.subject.as_deref().map(subject_of);
        let base = below.base.clone();
        self.session_create_on(base.as_ref(), Purpose::Throwaway, &key, subject.as_deref(), Some(below))
    }

    /// Whether something was done by hand on a suspended session.
    pub fn session_has_by_hand(&self, id: &SessionId) -> Result<bool> {
        Ok(!self.sessions_suspended(&[&key_of(id)])?.is_empty())
    }

    /// Removes what was done by hand on suspended sessions that make `subject`. Returns how many sessions that were.
    pub fn session_discard_by_hand(&self, subject: &str, in_map: &dyn InMap) -> Result<usize> {
        self.session_discard_superseded(&subject_of(subject), "", in_map)
    }
}
