//! Removes what killed processes have left.
//!
//! Deciding and removing are apart. Under the exclusive structure lock, orphans are renamed into an area of `tmp/` that this process has
//! locked. Without that lock, a task inside the id map removes them there, since mapped owners own them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lock::{Lock, LockMode};
use super::{Error, LayerId, Result, SessionId, StateId, Store, clean, lock, session, tasks};
use crate::beneath::{self, TreeDir, is_held_open, remove_tree};
use crate::path_error::PathError;
use crate::sandbox::{Launcher, TaskOptions};
use crate::store::durable::{list, rename};
use crate::store::in_map::{InMap, PID1_LIMIT};

impl InMap for Launcher {
    fn run_task(&self, name: &'static str, input: Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.task(name, &input, TaskOptions::default(), &mut |_| {})?)
    }
}

/// How much a recovery has removed; all zero when there was nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Sessions that were killed, or that are of an earlier boot.
    pub sessions: usize,
    /// Layers of a commit or a removal that was interrupted.
    pub layers: usize,
    /// Areas and files in `tmp/`.
    pub temporary: usize,
}

impl Recovered {
    /// Whether there was nothing to do.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What recovery found and has locked, so that nobody else takes it.
#[derive(Debug, Default)]
struct Orphans {
    sessions: Vec<(SessionId, Option<Lock>)>,
    temporary: Vec<(PathBuf, Option<Lock>)>,
}

impl Store {
    /// Removes what killed processes have left. Each command calls it first, while it holds the store's shared lock. If there is nothing
    /// to do, it only lists the directories of sessions and temporary files, and starts no process.
    ///
    /// Suspended sessions that can be resumed stay, see [`Store::session_find_suspended`].
    pub fn recover(&self, in_map: &dyn InMap) -> Result<Recovered> {
        match self.with_ballast(|| self.recover_now(in_map)) {
            // Who only looks can do so all the same, and nobody can do anything else here.
            Err(error) if error.is_read_only() => Ok(Recovered::default()),
            done => done,
        }
    }

    fn recover_now(&self, in_map: &dyn InMap) -> Result<Recovered> {
        let first = self.find_orphans()?;
        if first.sessions.is_empty() && first.temporary.is_empty() {
            return Ok(Recovered::default());
        }
        self.require_idmap()?;
        // Waited for before the structure lock, which is held for milliseconds only.
        for (id, _) in &first.sessions {
            self.wait_for_pid1(id)?;
        }
        drop(first);
        let grave = self.temp_area()?;
        let mut done = Recovered::default();
        {
            let _structure = self.structure(LockMode::Exclusive)?;
            // Nothing is being made while we hold this lock, so what is not locked now has no owner.
            let orphans = self.find_orphans()?;
            // A cleaning that was interrupted has removed states before their layers.
            let cleaning = orphans.temporary.iter().any(|(path, _)| path.join(clean::MARK).exists());
            if cleaning || !orphans.sessions.is_empty() {
                done.layers = self.bury_unnamed_layers(grave.path())?;
            }
            for (id, _lock) in &orphans.sessions {
                // If the session became an orphan just now, a process may still be there. The next recovery removes it.
                if session::read_record(&self.session_dir(id)).and_then(|r| r.pid1).is_some_and(|p| p.is_running()) {
                    continue;
                }
                rename(&self.session_dir(id), &grave.path().join(format!("session-{id}")))?;
                done.sessions += 1;
            }
            for (i, (path, _lock)) in orphans.temporary.iter().enumerate() {
                rename(path, &grave.path().join(format!("temporary-{i}")))?;
                done.temporary += 1;
            }
        }
        tracing::debug!(
            sessions = done.sessions,
            layers = done.layers,
            temporary = done.temporary,
            "removing what was left behind"
        );
        grave.discard(in_map)?;
        Ok(done)
    }

    /// Unlocked sessions that cannot be resumed, and unlocked entries of `tmp/`. Without the structure lock this is only a suspicion:
    /// somebody may be making them.
    fn find_orphans(&self) -> Result<Orphans> {
        let mut found = Orphans::default();
        for entry in list(&self.path("sessions"))? {
            let Some(id) = entry.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<SessionId>().ok()) else { continue };
            if !self.is_over(&entry) {
                continue;
            }
            let lock_path = entry.join("lock");
            let lock = lock::try_existing(&lock_path, &self.inner.command)?;
            // The session may have been suspended after we read its record and before we took its lock.
            if self.is_over(&entry) && (lock.is_some() || !lock_path.exists()) && entry.exists() {
                found.sessions.push((id, lock));
            }
        }
        for entry in list(&self.path("tmp"))? {
            let lock_path = entry.join("lock");
            let lock = match lock::try_existing(&lock_path, &self.inner.command) {
                Ok(lock) => lock,
                // A plain file.
                Err(Error::Io(PathError { source, .. })) if source.kind() == ErrorKind::NotADirectory => None,
                Err(e) => return Err(e),
            };
            if (lock.is_some() || !lock_path.exists()) && !has_only_held_open(&entry) {
                found.temporary.push((entry, lock));
            }
        }
        Ok(found)
    }

    fn wait_for_pid1(&self, id: &SessionId) -> Result<()> {
        match session::read_record(&self.session_dir(id)) {
            Some(record) if record.boot_id == self.inner.boot_id => match record.pid1 {
                Some(pid1) if !pid1.wait_gone(PID1_LIMIT) => Err(Error::StillRunning { session: id.clone(), pid: pid1.pid }),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Moves layers that no state names away. Only an interrupted commit or cleaning leaves one, and it leaves its session or area, too.
    fn bury_unnamed_layers(&self, grave: &Path) -> Result<usize> {
        let Some(named) = self.named_layers()? else { return Ok(0) };
        let mut count = 0;
        for id in self.ids::<LayerId>("layers", "")? {
            if !named.contains(&id) {
                rename(&self.layer_dir(&id), &grave.join(format!("layer-{id}")))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The layers that states name. `None` if there may be others (`verify` tells why): a missing state that something leads to, or a
    /// damaged one, may name any layer, and a damaged name may lead to any state.
    pub(super) fn named_layers(&self) -> Result<Option<BTreeSet<LayerId>>> {
        match self.reached() {
            Ok(reached) if reached.missing.is_empty() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut named = BTreeSet::new();
        for id in self.ids::<StateId>("states", ".json")? {
            match self.state(&id) {
                Ok(state) if state.has_id(&id)? => named.extend(state.layers),
                Ok(_) => return Ok(None),
                Err(error) if error.is_damage() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(named))
    }

    /// Removes the rest of a session or area whose contents have moved on, as far as the user can without the id map. The next recovery
    /// removes what remains.
    pub(super) fn sweep(&self, dir: &Path, lock: Lock) {
        let grave = self.path("tmp").join(dir.file_name().unwrap_or_default());
        if dir != grave && fs::rename(dir, &grave).is_err() {
            return;
        }
        if let Err(error) = self.dismantle(&grave, |inner| inner.iter().try_for_each(|path| remove_ours(path))) {
            tracing::debug!(path = %grave.display(), %error, "left for the next recovery");
        }
        drop(lock);
    }

    /// Removes a session of ours: renames it away, then removes it. The caller holds its lock.
    pub(super) fn bury(&self, dir: &Path, id: &SessionId, in_map: &dyn InMap) -> Result<()> {
        let grave = self.path("tmp").join(id.as_str());
        rename(dir, &grave)?;
        self.dismantle(&grave, |inner| {
            // If nothing ran in the session as another user, we can remove it without the helper.
            if inner.iter().all(|path| remove_tree(path).is_ok()) { Ok(()) } else { in_map.remove_trees(inner) }
        })
    }

    /// Removes a session or area that we have locked. First its contents by `remove`, then the lock together with the directory while we
    /// hold the structure lock: others would take a directory without a lock for litter. What some process has open stays, without its
    /// lock, for a recovery after that process.
    pub(super) fn dismantle(&self, dir: &Path, remove: impl FnOnce(&[PathBuf]) -> Result<()>) -> Result<()> {
        let mut inner = match list(dir) {
            Err(Error::Io(PathError { source, .. })) if source.kind() == ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        inner.retain(|path| path.file_name().is_none_or(|name| name != "lock"));
        let mut removed = if inner.is_empty() { Ok(()) } else { remove(&inner) };
        if removed.is_ok() {
            let _structure = self.structure(LockMode::Shared)?;
            removed = remove_ours(dir);
        }
        match removed {
            Err(error) if error.is_held_open() => {
                tracing::debug!(path = %dir.display(), %error, "left for a later recovery");
                Ok(())
            }
            removed => removed,
        }
    }
}

/// Whether a directory has nothing but files that were removed and are still open, and at least one of them, as far as the user can look.
pub(super) fn has_only_held_open(dir: &Path) -> bool {
    let look = || -> beneath::Result<bool> {
        let mut walk = TreeDir::open(dir)?.walk()?;
        let mut found = false;
        loop {
            while let Some(entry) = walk.next_name() {
                if is_held_open(entry.os()) {
                    found = true;
                } else if entry.kind == FileType::Directory {
                    walk.enter(&entry.name)?;
                } else if entry.os() != "lock" {
                    return Ok(false);
                }
            }
            if walk.leave()?.is_none() {
                return Ok(found);
            }
        }
    };
    look().unwrap_or(false)
}

fn remove_ours(path: &Path) -> Result<()> {
    Ok(remove_tree(path).map_err(tasks::TreeError::from)?)
}
