//! Removes what nothing leads to any more.
//!
//! The caller holds the store's exclusive lock, so that no session runs and nothing is being committed. A removal goes in the opposite
//! order of a commit: names forget, then states go, then layers. Everything is renamed into an area of `tmp/` that is marked [`MARK`],
//! and a task inside the id map removes it from there. A removal may be killed at any instant. Then
//!
//! - a name may have forgotten a state that is still there: the next cleaning finds it;
//! - states may be gone whose layers are still there: [`Store::recover`] sees the mark and removes layers that no state names;
//! - the area may still be there: it is unlocked, so [`Store::recover`] removes it like any other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::durable::{list, rename};
use super::in_map::InMap;
use super::{Error, LayerId, Lock, LockMode, RefEntry, Result, SessionId, State, StateId, Store, TreeId, durable, lock, refs};

/// A file in an area of `tmp/`. It says that layers without a state are left by a cleaning.
pub(super) const MARK: &str = "cleaning";

/// What is to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    /// Build states. Those that something still leads to stay.
    pub states: BTreeSet<StateId>,
    /// Layers. Those that a remaining state has stay.
    pub layers: BTreeSet<LayerId>,
    /// Tree snapshots. Those that a name still leads to stay.
    pub trees: BTreeSet<TreeId>,
    /// Sessions. Those that somebody works in stay.
    pub sessions: BTreeSet<SessionId>,
}

/// The values of names, by their files.
fn values<T: std::str::FromStr>(files: impl Iterator<Item = (String, PathBuf)>) -> Result<Vec<(String, Vec<RefEntry<T>>)>> {
    let read = |(name, path): (String, PathBuf)| Ok((name, refs::read(&path)?));
    // One may be removed between listing and reading.
    files.map(read).filter(|read| !read.as_ref().is_ok_and(|(_, entries): &(_, Vec<_>)| entries.is_empty())).collect()
}

/// The states that something leads to, and the ones that each of them was made from.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// The states that exist.
    pub there: BTreeSet<StateId>,
    /// The states whose file in `states/` was lost (cleaning never removes them). Nobody knows which layers they have. So as long as one
    /// is missing we remove no state, and no layer that no state names.
    pub missing: BTreeSet<StateId>,
}

impl Reached {
    /// Follows `ids` down; `parent` is what a state was made from, `None` if the state is not there.
    pub(crate) fn from<E>(
        ids: impl IntoIterator<Item = StateId>,
        parent: impl Fn(&StateId) -> std::result::Result<Option<Option<StateId>>, E>,
    ) -> std::result::Result<Self, E> {
        let mut waiting: Vec<StateId> = ids.into_iter().collect();
        let mut reached = Self::default();
        while let Some(id) = waiting.pop() {
            if reached.there.contains(&id) || reached.missing.contains(&id) {
                continue;
            }
            match parent(&id)? {
                Some(parent) => {
                    waiting.extend(parent);
                    reached.there.insert(id);
                }
                None => drop(reached.missing.insert(id)),
            }
        }
        Ok(reached)
    }
}

impl Store {
    /// Notes that a state is being used: the time of modification of its file is the time of the last use. If it cannot be noted, work
    /// goes on.
    pub fn note_use(&self, id: &StateId) {
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let path = self.state_path(id);
        // A state's file never changes, so its time of modification is free for this. The time of access is not, since file systems are
        // mounted with `noatime`.
        if let Err(error) = rustix::fs::utimensat(CWD, &path, &now, AtFlags::SYMLINK_NOFOLLOW) {
            tracing::debug!(path = %path.display(), %error, "use not noted");
        }
    }

    /// When a state was last used, in seconds since 1970; 0 if we cannot tell.
    pub fn last_used(&self, id: &StateId) -> i64 {
        let modified = fs::metadata(self.state_path(id)).and_then(|meta| meta.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
    }

    /// The present and previous values of each name of a build state. Fails on a damaged one.
    pub fn histories(&self) -> Result<Vec<(String, Vec<RefEntry>)>> {
        let names = self.ref_files()?.into_iter().filter(|(name, _)| !name.starts_with("tree/"));
        values(names)
    }

    /// The present and previous values of each name of a tree snapshot, without `tree/`. Fails on a damaged one.
    pub fn tree_histories(&self) -> Result<Vec<(String, Vec<RefEntry<TreeId>>)>> {
        let bare = |(name, path): (String, PathBuf)| Some((name.strip_prefix("tree/")?.to_owned(), path));
        values(self.ref_files()?.into_iter().filter_map(bare))
    }

    /// The files without which nobody knows what is needed: damaged states, names and descriptions of trees.
    pub fn doubts(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut look = |path: PathBuf, read: Result<()>| match read {
            Err(error) if error.is_damage() => {
                found.push(path);
                Ok(())
            }
            Err(Error::NoSuchState(_) | Error::NoSuchTree(_)) => Ok(()),
            other => other,
        };
        for id in self.state_ids()? {
            look(self.state_path(&id), self.state(&id).map(drop))?;
        }
        for (name, path) in self.ref_files()? {
            let read = if name.starts_with("tree/") {
                refs::read::<TreeId>(&path).map(drop)
            } else {
                refs::read::<StateId>(&path).map(drop)
            };
            look(path, read)?;
        }
        for id in self.ids::<TreeId>("trees", "")? {
            look(self.path("trees").join(id.as_str()).join("tree.json"), self.tree(&id).map(drop))?;
        }
        // One that lost its description, and was not deleted meanwhile.
        let trees = self.ids::<TreeId>("trees", "")?.into_iter().map(|id| self.path("trees").join(id.as_str()));
        found.extend(trees.map(|tree| tree.join("tree.json")).filter(|description| !description.exists()));
        Ok(found)
    }

    /// What names, their earlier values and sessions lead to.
    pub(super) fn reached(&self) -> Result<Reached> {
        let named = self.histories()?.into_iter().flat_map(|(_, values)| values).map(|entry| entry.value);
        let below = self.sessions()?.into_iter().filter_map(|record| record.base);
        Reached::from(named.chain(below), |id| match self.state(id) {
            Ok(State { parent, .. }) => Ok(Some(parent)),
            Err(Error::NoSuchState(_)) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Whether somebody works in a session just now.
    pub fn session_is_busy(&self, id: &SessionId) -> Result<bool> {
        lock::is_held(&self.session_dir(id).join("lock"))
    }

    /// Removes previous values of a name by their positions, also of names of tree snapshots. The present value, 0, stays.
    pub fn ref_forget(&self, _exclusive: &Lock, name: &str, positions: &BTreeSet<usize>) -> Result<()> {
        let path = self.ref_path(name);
        let _refs = self.lock("refs", LockMode::Exclusive, super::Wait::Quietly)?;
        let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let kept = text.lines().enumerate().filter(|(at, _)| *at == 0 || !positions.contains(at));
        let kept: String = kept.flat_map(|(_, line)| [line, "\n"]).collect();
        // The structure lock, or a recovery could take the temporary file of `replace` for litter.
        let _structure = self.structure(LockMode::Shared)?;
        self.with_ballast(|| durable::replace(&self.path("tmp"), &path, kept.as_bytes()))
    }

    /// Removes what is unused. What something leads to stays, even if the caller asks for it.
    pub fn remove_unused(&self, exclusive: &Lock, unused: &Unused, in_map: &dyn InMap) -> Result<()> {
        self.require_idmap()?;
        self.with_ballast(|| self.remove_unused_now(exclusive, unused, in_map))
    }

    fn remove_unused_now(&self, exclusive: &Lock, unused: &Unused, in_map: &dyn InMap) -> Result<()> {
        // The mark is on the disk before the first state goes: if we are killed between states and layers, recovery looks for layers
        // without a state only if it sees the mark.
        let area = self.temp_area()?;
        durable::write_unsynced_json(&area.path().join(MARK), &())?;
        durable::sync_dir(area.path())?;
        for id in &unused.sessions {
            self.bury_session(id, area.path())?;
        }
        // Sessions first: a session leads to its base, so one that is removed no longer keeps a state.
        if self.named_layers()?.is_some() {
            let reached = self.reached()?;
            let states = self.bury_states(exclusive, unused.states.difference(&reached.there), area.path())?;
            tracing::debug!(states, "states are gone");
            self.bury_layers(&unused.layers, area.path())?;
        } else {
            tracing::warn!("states and layers stay, since a state is missing or damaged");
        }
        if !unused.trees.is_empty() {
            let histories = self.tree_histories()?;
            let named: BTreeSet<TreeId> = histories.into_iter().flat_map(|(_, values)| values).map(|e| e.value).collect();
            // Looked up once more: a name may have got the tree since the plan was made.
            for id in unused.trees.difference(&named) {
                rename(&self.path("trees").join(id.as_str()), &area.path().join(format!("tree-{id}")))?;
            }
            durable::sync_dir(&self.path("trees"))?;
        }
        tracing::debug!("removing from the disk");
        area.discard(in_map)
    }

    fn bury_session(&self, id: &SessionId, grave: &Path) -> Result<()> {
        let dir = self.session_dir(id);
        let path = dir.join("lock");
        // A locked session is in use, although nothing in the store refers to it.
        let lock = lock::try_existing(&path, &self.inner.command)?;
        if lock.is_none() && path.exists() {
            return Ok(());
        }
        rename(&dir, &grave.join(format!("session-{id}")))
    }

    /// Moves states away and returns how many.
    fn bury_states<'a>(&self, _exclusive: &Lock, ids: impl Iterator<Item = &'a StateId>, grave: &Path) -> Result<usize> {
        let mut count = 0;
        for id in ids {
            rename(&self.state_path(id), &grave.join(format!("state-{id}")))?;
            count += 1;
        }
        // On the disk before the first layer goes. Else a power cut could leave a state without its layers.
        durable::sync_dir(&self.path("states"))?;
        Ok(count)
    }

    fn bury_layers(&self, ids: &BTreeSet<LayerId>, grave: &Path) -> Result<()> {
        let Some(named) = self.named_layers()? else { return Ok(()) };
        for id in ids.difference(&named) {
            rename(&self.layer_dir(id), &grave.join(format!("layer-{id}")))?;
        }
        durable::sync_dir(&self.path("layers"))
    }

    /// Removes the whole store. Nothing can be opened in it afterwards. If it is killed on the way, a smaller but whole store is left.
    pub fn remove_everything(self, _exclusive: Lock, in_map: &dyn InMap) -> Result<()> {
        self.require_idmap()?;
        for record in self.sessions()? {
            if self.session_is_busy(&record.id)? {
                return Err(Error::SessionBusy(record.id));
            }
        }
        self.with_ballast(|| {
            let area = self.temp_area()?;
            durable::write_unsynced_json(&area.path().join(MARK), &())?;
            // In the order of a removal: names, then what they lead to. Last what others have left in `tmp/`, and we ourselves if the disk was
            // full half-way: its files have mapped owners, too, so only a task can remove them.
            for name in ["refs", "sessions", "states", "layers", "trees", "tmp"] {
                let dir = self.path(name);
                for path in list(&dir)?.into_iter().filter(|path| path != area.path()) {
                    let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
                    rename(&path, &area.path().join(format!("{name}-{file}")))?;
                }
                durable::sync_dir(&dir)?;
            }
            area.discard(in_map)
        })?;
        // Only what the user owns is left: empty directories, locks, `store.json`.
        let root = self.root().to_owned();
        fs::remove_dir_all(&root).map_err(|e| Error::io("remove", &root, e))
    }
}
