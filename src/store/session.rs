//! Sessions: a build state with a writable upper directory on top, locked by one process.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::by_hand::Held;
use super::in_map::{InMap, PID1_LIMIT};
use super::lock::{Lock, LockMode};
use super::process::ProcessStamp;
use super::{Error, LayerId, LayerMeta, Result, SessionId, State, StateId, Store, durable, lock, make_dir, process, state};
use crate::origin::Recorded;

/// Size of `session.json`. On a full disk there is no room for another file, so the status is then written into this one.
const RECORD_BYTES: usize = 4096;

/// What a session is for. The store only records and shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Purpose {
    /// Unpacking a stage3.
    Import,
    /// Building `gentoomuch/builder`.
    Bootstrap,
    /// Building a stage3 or stage4 definition.
    Stage,
    /// `freshroot`.
    Throwaway,
    /// Building a kernel payload.
    Kernel,
    /// Preparing or trying patches.
    Patch,
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Import => "import",
            Self::Bootstrap => "bootstrap",
            Self::Stage => "stage",
            Self::Throwaway => "throwaway",
            Self::Kernel => "kernel",
            Self::Patch => "patch",
        })
    }
}

/// Whether somebody works in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum SessionStatus {
    /// The holder of its lock does. If nobody holds it, it is an orphan.
    Active,
    /// Kept for being resumed in the same boot.
    Suspended {
        /// Why, for people: `interrupted`, `emerge failed at dev-libs/foo-1`.
        note: String,
        /// When, RFC 3339.
        at: String,
    },
}

/// The contents of `session.json`.
///
/// Not synced. After a power cut it is another boot, and then no session is kept, whatever this file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    pub id: SessionId,
    pub purpose: Purpose,
    /// The state that it stands on.
    pub base: Option<StateId>,
    /// Build key of the state that is being made.
    pub key: String,
    /// What is being made, without its inputs: `stage4/web`. A suspended session with another key is superseded by the next one for the
    /// same subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// RFC 3339.
    pub created: String,
    /// The boot in which it was last active.
    pub boot_id: String,
    /// Active or suspended.
    pub status: SessionStatus,
    /// First process of its PID namespace, by its number outside, once started.
    pub pid1: Option<ProcessStamp>,
    /// The suspended session in which a build failed, if a user works here by hand on what it has left. Such a session never becomes a
    /// state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<SessionId>,
}

/// The properties of the state that a session's upper directory becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewState {
    pub key: String,
    /// See [`State::origin`].
    pub origin: Recorded,
    /// See [`State::newest_input`]; never below the parent's.
    pub newest_input: i64,
    /// The state that it counts as made from. Usually the session's base.
    pub parent: Option<StateId>,
}

/// A session that this process has locked. If it is dropped without [`Session::commit`], [`Session::suspend`] or [`Session::discard`] it
/// is an orphan. The next recovery removes it, as if the process had been killed.
#[derive(Debug)]
#[must_use = "a session that is merely dropped is removed by the next recovery"]
pub struct Session {
    store: Store,
    record: SessionRecord,
    base: Option<State>,
    dir: PathBuf,
    lock: Lock,
    /// Opened on the underlying file system before the first write. `syncfs` reports only write-back errors that happen after that, and
    /// on the overlay itself it does nothing (`volatile`).
    fs: OwnedFd,
    /// Another session was given the upper directory itself, without an overlay.
    bound: bool,
    /// There is so much work in it that it is kept if it ends early.
    worth_keeping: bool,
    /// The session that this one stands on, if it is one for work by hand.
    pub(super) below: Option<Held>,
}

/// The steps of a commit after which a test can simulate a crash.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    LayerMeta,
    Sync,
    Rename,
    RenameSync,
    State,
    Sweep,
}

#[cfg(test)]
thread_local! {
    pub(super) static CRASH_AFTER: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// In tests, stops after the named step as a crash would. Nothing otherwise.
macro_rules! crash_point {
    ($step:ident) => {
        #[cfg(test)]
        if CRASH_AFTER.get() == Some(Fault::$step) {
            return Err(Error::Injected);
        }
    };
}

impl Store {
    /// Makes a session on `base`, or on nothing, and locks it.
    pub fn session_create(&self, base: Option<&State>, purpose: Purpose, key: &str) -> Result<Session> {
        self.session_create_for(base, purpose, key, None)
    }

    /// The same for a session in which `subject` is made.
    pub fn session_create_for(&self, base: Option<&State>, purpose: Purpose, key: &str, subject: Option<&str>) -> Result<Session> {
        self.session_create_on(base, purpose, key, subject, None)
    }

    /// The same for a session on a suspended one.
    pub(super) fn session_create_on(
        &self,
        base: Option<&State>,
        purpose: Purpose,
        key: &str,
        subject: Option<&str>,
        below: Option<Held>,
    ) -> Result<Session> {
        self.require_idmap()?;
        let fs = durable::open_dir(self.root())?;
        if let Some(base) = base {
            self.note_use(&base.id);
        }
        let id = SessionId::fresh()?;
        let dir = self.session_dir(&id);
        let record = SessionRecord {
            id,
            purpose,
            base: base.map(|b| b.id.clone()),
            key: key.to_owned(),
            subject: subject.map(str::to_owned),
            created: process::now(),
            boot_id: self.inner.boot_id.clone(),
            status: SessionStatus::Active,
            pid1: None,
            by_hand: below.as_ref().map(|below| below.record().id.clone()),
        };
        let _structure = self.structure(LockMode::Shared)?;
        make_dir(&dir, 0o700)?;
        // A recovery that lists sessions at this moment may take the new lock for an instant. It decides nothing before we release the
        // structure lock.
        let lock = lock::acquire_own(&dir.join("lock"), &self.inner.command)?;
        for (name, mode) in
            [("layer", 0o700), ("layer/fs", 0o755), ("work", 0o755), ("root", 0o755), ("scratch", 0o755), ("binpkgs", 0o755)]
        {
            make_dir(&dir.join(name), mode)?;
        }
        durable::write_unsynced_json_of(&dir.join("session.json"), &record, RECORD_BYTES)?;
        tracing::debug!(session = %record.id, %purpose, key, "session made");
        Ok(Session { store: self.clone(), record, base: base.cloned(), dir, lock, fs, bound: false, worth_keeping: false, below })
    }

    /// The youngest suspended session for this build key that can be resumed. It is locked and active again.
    ///
    /// Its `work` directory still has the marks of overlayfs from the earlier mount. It must be emptied before the next mount.
    pub fn session_find_suspended(&self, key: &str) -> Result<Option<Session>> {
        self.require_idmap()?;
        for record in self.sessions()?.into_iter().rev() {
            if record.key != key || !self.is_resumable(&record) {
                continue;
            }
            let dir = self.session_dir(&record.id);
            let fs = durable::open_dir(self.root())?;
            let Some(lock) = lock::try_existing(&dir.join("lock"), &self.inner.command)? else { continue };
            // Only what we read under the lock counts: meanwhile the session may have been resumed and committed.
            let Some(record) = read_record(&dir).filter(|r| self.is_resumable(r)) else { continue };
            let base = record.base.as_ref().map(|id| self.state(id)).transpose()?;
            let store = self.clone();
            let mut session = Session { store, record, base, dir, lock, fs, bound: false, worth_keeping: true, below: None };
            session.record.status = SessionStatus::Active;
            session.record.pid1 = None;
            session.write_record()?;
            return Ok(Some(session));
        }
        Ok(None)
    }

    /// Which of these build keys have a suspended session that could be resumed.
    pub fn sessions_suspended(&self, keys: &[&str]) -> Result<Vec<String>> {
        let fits = |record: &SessionRecord| keys.contains(&record.key.as_str()) && self.is_resumable(record);
        Ok(self.sessions()?.into_iter().filter(fits).map(|record| record.key).collect())
    }

    /// Removes suspended sessions that made `subject` from other inputs than those of `key`. Returns how many.
    pub fn session_discard_superseded(&self, subject: &str, key: &str, in_map: &dyn InMap) -> Result<usize> {
        self.require_idmap()?;
        let is_superseded = |record: &SessionRecord| {
            record.subject.as_deref() == Some(subject)
                && record.key != key
                && matches!(record.status, SessionStatus::Suspended { .. })
        };
        let mut count = 0;
        for record in self.sessions()?.into_iter().filter(is_superseded) {
            let dir = self.session_dir(&record.id);
            // The holder of the lock works in the session again.
            let Some(_lock) = lock::try_existing(&dir.join("lock"), &self.inner.command)? else { continue };
            if read_record(&dir).is_some_and(|record| is_superseded(&record)) {
                self.bury(&dir, &record.id, in_map)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The records of all sessions, oldest first.
    pub fn sessions(&self) -> Result<Vec<SessionRecord>> {
        let ids = self.ids::<SessionId>("sessions", "")?;
        Ok(ids.iter().filter_map(|id| read_record(&self.session_dir(id))).collect())
    }

    pub(super) fn session_dir(&self, id: &SessionId) -> PathBuf {
        self.path("sessions").join(id.as_str())
    }

    /// Whether a suspended session can be resumed: same boot, and its base still exists.
    pub(super) fn is_resumable(&self, record: &SessionRecord) -> bool {
        self.is_kept(record) && record.base.as_ref().is_none_or(|id| self.state_path(id).exists())
    }

    /// Whether a session that nobody works in stays: if it was suspended in this boot. If its base is missing, the file was lost
    /// (cleaning leaves it) and may come back from a backup.
    pub(super) fn is_kept(&self, record: &SessionRecord) -> bool {
        matches!(record.status, SessionStatus::Suspended { .. })
            && self.inner.boot_id != process::UNKNOWN_BOOT
            && record.boot_id == self.inner.boot_id
    }

    /// Whether the session in `dir`, if nobody works in it, is to be removed. A record that is missing or garbled tells that it was never
    /// finished, or that the machine lost power. One that cannot be read now (no descriptor free, a disk's error) tells nothing.
    pub(super) fn is_over(&self, dir: &Path) -> bool {
        match durable::read_json::<SessionRecord>(&dir.join("session.json")) {
            Ok(record) => record.is_none_or(|record| !self.is_kept(&record)),
            Err(error) => matches!(error, Error::Damaged { .. }),
        }
    }

    /// Brings everything that was written since `fs` was opened to the disk, and reports write-back errors.
    pub(super) fn sync(&self, fs: &OwnedFd) -> Result<()> {
        rustix::fs::syncfs(fs.as_fd()).map_err(|e| Error::WriteBack { path: self.root().to_owned(), source: e.into() })
    }
}

/// The record of the session in `dir`. `None` if it cannot be read, as after a power cut.
pub(super) fn read_record(dir: &Path) -> Option<SessionRecord> {
    durable::read_json(&dir.join("session.json")).ok().flatten()
}

/// Undoes a commit whose state cannot be written, as on a full disk: the layer becomes the session's again.
fn take_back(state: &Path, taken: &Path, unfinished: &Path) {
    let gone = fs::remove_file(state).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) });
    if let Err(error) = gone.and_then(|()| fs::rename(taken, unfinished)) {
        tracing::warn!(%error, "a layer without a state is left to be removed");
    }
}

impl Session {
    pub fn id(&self) -> &SessionId {
        &self.record.id
    }

    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    pub fn base(&self) -> Option<&State> {
        self.base.as_ref()
    }

    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.dir.join(sub)
    }

    /// The writable upper directory.
    pub fn upper(&self) -> PathBuf {
        self.path("layer/fs")
    }

    /// Says that its contents are worth keeping: if its commit fails, it is suspended.
    pub fn mark_worth_keeping(&mut self) {
        self.worth_keeping = true;
    }

    /// Whether it was suspended before, or was marked.
    pub fn is_worth_keeping(&self) -> bool {
        self.worth_keeping
    }

    /// The work directory for overlayfs.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The upper directory, to be bound into another session without an overlay. [`Self::commit_bound`] checks what that session leaves
    /// in it.
    pub fn bind_upper(&mut self) -> PathBuf {
        self.bound = true;
        self.upper()
    }

    /// Where to mount the root of the session.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// For `/var/tmp/portage`.
    pub fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    /// For packages that the session builds.
    pub fn binpkgs(&self) -> PathBuf {
        self.path("binpkgs")
    }

    /// The layers below the upper directory, topmost first.
    pub fn lower_dirs(&self) -> Vec<PathBuf> {
        self.base.as_ref().map(|b| self.store.lower_dirs(b)).unwrap_or_default()
    }

    /// A descriptor that keeps the session locked. The helper and PID 1 get it, so that others see the session as locked if they outlive
    /// us.
    pub fn lock_fd(&self) -> Result<OwnedFd> {
        self.lock.duplicate()
    }

    /// The same of the session below, which must not go on while a process sees it.
    pub fn lock_fd_below(&self) -> Result<Option<OwnedFd>> {
        self.below.as_ref().map(Held::lock_fd).transpose()
    }

    /// The suspended session that this one stands on.
    pub fn below(&self) -> Option<&Held> {
        self.below.as_ref()
    }

    /// From now on recovery takes the session for suspended, whatever happens to this process. It stays locked.
    pub fn keep_whatever_happens(&mut self, note: &str) -> Result<()> {
        self.record.status = SessionStatus::Suspended { note: note.to_owned(), at: process::now() };
        self.write_record()
    }

    /// Records the first process of the session, by its number out here, so that recovery can wait for its end.
    pub fn record_pid1(&mut self, pid: i32) -> Result<()> {
        self.record.pid1 = ProcessStamp::of(pid);
        self.write_record()
    }

    /// Keeps the session as it is, to be resumed in this boot. PID 1 must have been reaped.
    pub fn suspend(mut self, note: &str) -> Result<()> {
        self.require_quiet()?;
        // This descriptor is closed next. A later one would not report write-back errors of now.
        self.store.sync(&self.fs)?;
        self.record.status = SessionStatus::Suspended { note: note.to_owned(), at: process::now() };
        self.record.boot_id = self.store.inner.boot_id.clone();
        self.write_record().or_else(|error| {
            // On a full disk no new file can be made, but an existing one can be changed.
            let _structure = self.store.structure(LockMode::Shared)?;
            durable::overwrite_json(&self.dir.join("session.json"), &self.record).map_err(|_| error)
        })?;
        tracing::debug!(session = %self.record.id, note, "session suspended");
        Ok(())
    }

    /// Removes the session and its contents. PID 1 must have been reaped.
    pub fn discard(self, in_map: &dyn InMap) -> Result<()> {
        self.require_quiet()?;
        self.store.bury(&self.dir, &self.record.id, in_map)
    }

    /// Makes the upper directory a layer, and a state of the base's layers and this one.
    ///
    /// PID 1 must have been reaped: with it the overlay mount is gone, and a later write through it would change a committed layer. The
    /// time depends on how much is not on the disk yet, not on the number of files.
    pub fn commit(self, new: NewState) -> Result<State> {
        if self.bound {
            return Err(Error::NotLookedThrough { session: self.record.id.clone() });
        }
        self.commit_any(new)
    }

    /// The same for an upper directory that was bound into another session. Refused if that session has written there what only overlayfs
    /// may write.
    pub fn commit_bound(self, new: NewState, in_map: &dyn InMap) -> Result<State> {
        self.require_quiet()?;
        let input = super::tasks::LookInput { tree: self.upper() };
        super::in_map::call::<serde_json::Value>(in_map, super::tasks::LOOK_THROUGH, &input)?;
        self.commit_any(new)
    }

    /// If the session is worth keeping and cannot become a layer yet, as on a full disk, it is suspended.
    fn commit_any(self, new: NewState) -> Result<State> {
        if self.record.by_hand.is_some() {
            return Err(Error::ByHand { session: self.record.id.clone() });
        }
        match self.become_layer(new) {
            Ok(state) => {
                let Self { store, dir, lock, .. } = self;
                store.sweep(&dir, lock);
                crash_point!(Sweep);
                Ok(state)
            }
            Err(error) => {
                let unfinished = self.path("layer");
                if self.worth_keeping && matches!(error, Error::Io { .. }) && unfinished.exists() {
                    let note = error.to_string();
                    if let Err(error) = self.suspend(&note) {
                        tracing::warn!(%error, "a session that could not be committed cannot be suspended either");
                    }
                }
                Err(error)
            }
        }
    }

    fn become_layer(&self, new: NewState) -> Result<State> {
        let begun = std::time::Instant::now();
        self.require_quiet()?;
        tracing::debug!(session = %self.record.id, "committing");
        let layer = LayerId::fresh()?;
        let unfinished = self.path("layer");
        let meta = LayerMeta {
            id: layer.clone(),
            created: process::now(),
            purpose: self.record.purpose,
            base: self.record.base.clone(),
            sealed: None,
        };
        self.base.as_ref().map_or(Ok(()), state::State::check_room)?;
        durable::write_unsynced_json(&unfinished.join("layer.json"), &meta)?;
        crash_point!(LayerMeta);
        super::in_map::check_upper(&self.upper(), self.store.fd())?;
        let sync_begun = std::time::Instant::now();
        self.store.sync(&self.fs)?;
        let sync_millis = sync_begun.elapsed().as_millis();
        tracing::debug!(session = %self.record.id, "synced");
        crash_point!(Sync);
        let state = self.new_state(new, layer, meta.created)?;
        state.check_readable(&self.store.state_path(&state.id))?;
        self.publish(&unfinished, &state)?;
        let millis = begun.elapsed().as_millis();
        tracing::debug!(session = %self.record.id, state = %state.id, %millis, %sync_millis, "committed");
        Ok(state)
    }

    /// Two steps under one structure lock. A recovery between them would take the layer for garbage.
    fn publish(&self, unfinished: &Path, state: &State) -> Result<()> {
        let layer = state.layers.last().map_or_else(PathBuf::new, |id| self.store.layer_dir(id));
        let _structure = self.store.structure(LockMode::Shared)?;
        fs::rename(unfinished, &layer).map_err(|e| Error::io("create", &layer, e))?;
        crash_point!(Rename);
        let path = self.store.state_path(&state.id);
        let written = durable::sync_dir(&self.store.path("layers")).and_then(|()| {
            crash_point!(RenameSync);
            durable::replace_json(&self.store.path("tmp"), &path, state)
        });
        if let Err(error) = written {
            if matches!(error, Error::Io { .. }) {
                take_back(&path, &layer, unfinished);
            }
            return Err(error);
        }
        crash_point!(State);
        Ok(())
    }

    fn new_state(&self, new: NewState, layer: LayerId, created: String) -> Result<State> {
        let mut layers = self.base.as_ref().map(|b| b.layers.clone()).unwrap_or_default();
        layers.push(layer);
        let NewState { key, origin, newest_input, parent } = new;
        let newest_input = self.base.as_ref().map_or(newest_input, |b| b.newest_input.max(newest_input));
        let id = state::State::derive_id(&layers, parent.as_ref(), &key, &origin)?;
        Ok(State { id, layers, parent, key, origin, created, newest_input, adopted: false })
    }

    /// Fails if the session's first process is still there, since it may write.
    fn require_quiet(&self) -> Result<()> {
        match self.record.pid1 {
            Some(pid1) if !pid1.wait_gone(PID1_LIMIT) => {
                Err(Error::StillRunning { session: self.record.id.clone(), pid: pid1.pid })
            }
            _ => Ok(()),
        }
    }

    fn write_record(&self) -> Result<()> {
        let _structure = self.store.structure(LockMode::Shared)?;
        durable::replace_unsynced_json(&self.store.path("tmp"), &self.dir.join("session.json"), &self.record, RECORD_BYTES)
    }
}
