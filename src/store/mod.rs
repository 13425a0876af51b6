//! Layers, build states, refs, locks and sessions on disk.
//!
//! ```text
//! store/                          0700 whatever the umask: layers hold set-id files of mapped owners
//!   store.json                    version of this layout, and the id map that everything here was made with
//!   layers/LAYER/fs/              one immutable tree in overlayfs upper format, owners as mapped
//!   layers/LAYER/layer.json       when and for what it was made; once sealed, its digest, counts and bytes
//!   layers/LAYER/manifest         once sealed: one line for each file, so that `verify --deep` can name what differs
//!   states/STATE.json             a chain of layers, bottom first, and where it came from
//!   refs/a/b.ref                  the name `a/b`: newest value first, then previous ones (`a/b@{1}`), a line each
//!   refs/tree/NAME.ref            the same for tree snapshots
//!   trees/TREE/{fs/,tree.json}    a tree snapshot: one imported ebuild repository
//!   sessions/SESSION/lock         locked as long as the session lives, by a description that PID 1 shares
//!                    session.json purpose, base, key, boot, status, PID 1
//!                    layer/fs/    the writable upper directory; `layer` becomes `layers/LAYER` by one rename
//!                    work/        overlayfs' own
//!                    root/        where the session's root is mounted, in a namespace of its own
//!                    scratch/     `/var/tmp/portage`
//!                    binpkgs/     what the session built, before it is published
//!   tmp/AREA/{lock,…}             work in progress that becomes visible by rename; garbage unless locked
//!   locks/{store,refs,structure}  the store's own locks
//!   locks/name%NAME               callers' locks, with a line for each holder; `/` in a name is `%`
//!   locks/gate%LOCK               held by who waits for one of these alone (`lock.rs`)
//!   ballast/N                     room for a removal on a full disk (`ballast.rs`)
//! ```
//!
//! # Why nothing is ever half there
//!
//! A small file is written in `tmp/`, synced, and renamed over its place. A layer is filled below its session, synced with the whole file
//! system in one call, and renamed. After it the state that names it is written, and after that the ref that names the state. So a killed
//! process leaves an unlocked session, an unlocked area of `tmp/`, or a layer without a state, and [`Store::recover`] removes all three.
//! A power cut leaves the same, since each step is synced before the next. A removal goes in the opposite order: names forget, states go,
//! then layers, each by a rename into an area of `tmp/` (`clean.rs`).
//!
//! # Order of locks
//!
//! All locks are `flock`s, which belong to the open file description. The helper and PID 1 get a duplicate, so the lock is held until
//! they are gone, too, and the kernel drops it when the last of them dies, however it dies. A process that takes several takes them in
//! this order, and releases them in any order:
//!
//! 1. the store (shared by each command that uses it, exclusive for what deletes states and layers: [`Store::lock_shared`],
//!    [`Store::lock_exclusive`]);
//! 2. named locks ([`Store::lock_named`], [`Store::lock_named_shared`]), in the order of their names;
//! 3. one session's lock or one temporary area's, never waited for;
//! 4. `refs` while one ref is rewritten;
//! 5. `structure`: shared while something becomes visible in several steps (a session or area is made, a layer is renamed
//!    and its state written), exclusive while recovery decides what is garbage. Held for milliseconds.
//!
//! **Architecture invariant:** a committed layer's `fs` is never written again, and no lock of 4 or 5 is held while waiting for a lock of 1 to 3.

mod adopt;
mod ballast;
mod by_hand;
mod clean;
mod durable;
mod error;
mod id;
mod in_map;
mod lock;
mod process;
mod recover;
pub(crate) mod refs;
mod report;
mod session;
mod state;
pub(crate) mod tasks;
mod tree_snapshot;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub(crate) use self::adopt::Incoming;
pub(crate) use self::clean::{Reached, Unused};
pub(crate) use self::error::{Error, NameProblem, Result, UpperProblem};
pub use self::id::StateId;
pub(crate) use self::id::{LayerId, SessionId, TreeId};
pub use self::in_map::InMap;
pub use self::lock::Wait;
pub(crate) use self::lock::{Busy, Lock, LockMode};
pub(crate) use self::refs::{RefEntry, split_index};
#[cfg(test)]
pub(crate) use self::report::{DiskUsage, SealReport};
pub(crate) use self::report::{LayerRow, ListReport, RefRow, SessionRow, ShowReport, StateRow, TreeRow};
pub use self::session::{NewState, Purpose, Session};
pub(crate) use self::session::{SessionRecord, SessionStatus};
pub use self::state::State;
pub(crate) use self::state::{Layer, LayerMeta, Sealed};
pub(crate) use self::tree_snapshot::{TempArea, Tree};
pub(crate) use self::verify::{DeepReport, Severity, VerifyReport};
pub(crate) use process::{UNKNOWN_BOOT, boot_id};

use crate::sandbox::idmap::{IdMap, IdRange};

/// Version of the layout above. A store of another version is refused.
const VERSION: u32 = 1;

/// The directories directly below the root of a store.
const DIRECTORIES: [&str; 7] = ["layers", "states", "refs", "trees", "sessions", "tmp", "locks"];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoreRecord {
    version: u32,
    created: String,
    idmap: IdMap,
}

/// One store on disk. Cheap to clone; clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// The root directory on the underlying file system.
    fd: OwnedFd,
    /// As written when the store was made.
    idmap: IdMap,
    /// As the host has it now.
    current: IdMap,
    boot_id: String,
    command: String,
    /// The mode that the root had when others could enter it. We have corrected it.
    loose: Option<u32>,
    damaged: Mutex<BTreeSet<PathBuf>>,
}

/// How the host's id map compares with the one in `store.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapChange {
    /// Each recorded id still means the same. There may be more ids now.
    None,
    /// Some recorded ids are no longer the user's, or mean other ids outside.
    Changed,
}

impl Store {
    /// Opens the store at `root`, an absolute path, and makes it if there is none. `current` is what the host grants now. The id map that
    /// the store was made with is recorded and never changes ([`Store::idmap`]).
    pub fn open(root: &Path, current: &IdMap) -> Result<Self> {
        Self::open_as(root, current, "")
    }

    /// [`Store::open`], with a command line that other processes see while they wait for a lock of ours.
    pub fn open_as(root: &Path, current: &IdMap, command: &str) -> Result<Self> {
        let loose = make_private(root)?;
        for name in DIRECTORIES {
            make_private(&root.join(name))?;
        }
        let fd = durable::open_dir(root)?;
        let path = root.join("store.json");
        let record = match durable::read_json::<StoreRecord>(&path)? {
            Some(record) => record,
            None => Self::create_record(root, &path, current)?,
        };
        if record.version != VERSION {
            return Err(Error::Version { path, found: record.version, known: VERSION });
        }
        let boot_id = process::boot_id()?;
        let inner = Inner {
            root: root.to_owned(),
            fd,
            idmap: record.idmap,
            current: current.clone(),
            boot_id,
            command: command.to_owned(),
            loose,
            damaged: Mutex::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.take_ballast();
        Ok(store)
    }

    /// The damaged files that lists have left out so far. Each was named by a warning.
    pub fn damaged(&self) -> BTreeSet<PathBuf> {
        self.inner.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was read of the file `path`; nothing if it is damaged, which [`Store::damaged`] remembers.
    fn unless_damaged<T>(&self, path: &Path, read: Result<T>) -> Result<Option<T>> {
        match read {
            // Callers have looked whether the whole thing was deleted meanwhile: then only its description is lost.
            Err(error) if error.is_damage() || matches!(error, Error::NoSuchLayer(_) | Error::NoSuchTree(_)) => {
                let mut damaged = self.inner.damaged.lock().unwrap_or_else(PoisonError::into_inner);
                if damaged.insert(path.to_owned()) {
                    tracing::warn!("left out: {error}");
                }
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// How the ids compare that a store was made with, without opening it. `None` if there is no store.
    pub(crate) fn compare(root: &Path, current: &IdMap) -> Result<Option<IdMapChange>> {
        let record = durable::read_json::<StoreRecord>(&root.join("store.json"))?;
        Ok(record.map(|record| change(current, &record.idmap)))
    }

    /// Writes `store.json`. If two processes do so at once, the second takes what the first has written.
    fn create_record(root: &Path, path: &Path, current: &IdMap) -> Result<StoreRecord> {
        let lock_path = root.join("locks").join("structure");
        let _lock = lock::acquire(&lock_path, "structure", LockMode::Exclusive, Wait::Quietly, "")?;
        if let Some(record) = durable::read_json(path)? {
            return Ok(record);
        }
        let record = StoreRecord { version: VERSION, created: process::now(), idmap: current.clone() };
        durable::replace_json(&root.join("tmp"), path, &record)?;
        Ok(record)
    }

    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The id map that everything in this store was made with. Who works with the store enters this one.
    pub fn idmap(&self) -> &IdMap {
        &self.inner.idmap
    }

    /// Whether the host still grants the ids that the store was made with.
    pub fn idmap_change(&self) -> IdMapChange {
        change(&self.inner.current, &self.inner.idmap)
    }

    /// Fails if the id map has changed: with other ids, what is written now and what is there could not be read or removed together.
    pub(crate) fn require_idmap(&self) -> Result<()> {
        match self.idmap_change() {
            IdMapChange::None => Ok(()),
            IdMapChange::Changed => Err(Error::IdMapChanged {
                root: self.inner.root.clone(),
                recorded: describe(&self.inner.idmap),
                current: describe(&self.inner.current),
            }),
        }
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.inner.root.join(sub)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    /// Each command that uses the store holds this lock, so that nothing it relies on is deleted meanwhile.
    pub fn lock_shared(&self, wait: Wait<'_>) -> Result<Lock> {
        self.lock("store", LockMode::Shared, wait)
    }

    /// Whoever deletes states and layers holds this lock.
    pub fn lock_exclusive(&self, wait: Wait<'_>) -> Result<Lock> {
        self.lock("store", LockMode::Exclusive, wait)
    }

    /// An exclusive lock on something that the store does not know, such as `profile/NAME`.
    pub fn lock_named(&self, name: &str, wait: Wait<'_>) -> Result<Lock> {
        self.named(name, LockMode::Exclusive, wait)
    }

    /// The same lock, shared: several may hold it, but not while somebody has it exclusively.
    pub fn lock_named_shared(&self, name: &str, wait: Wait<'_>) -> Result<Lock> {
        self.named(name, LockMode::Shared, wait)
    }

    fn named(&self, name: &str, mode: LockMode, wait: Wait<'_>) -> Result<Lock> {
        refs::check_name(name)?;
        // The prefix keeps the names of callers apart from `store`, `refs` and `structure`.
        let path = self.path("locks").join(format!("name%{}", name.replace('/', "%")));
        lock::acquire(&path, name, mode, wait, &self.inner.command)
    }

    /// One of the store's own locks.
    fn lock(&self, name: &str, mode: LockMode, wait: Wait<'_>) -> Result<Lock> {
        let path = self.path("locks").join(name);
        lock::acquire(&path, name, mode, wait, &self.inner.command)
    }

    /// Held (shared) while something becomes visible in more than one step.
    fn structure(&self, mode: LockMode) -> Result<Lock> {
        self.lock("structure", mode, Wait::Quietly)
    }

    /// The names in one of the store's directories, sorted. Names that are not ids are left out; [`Store::verify`] reports them.
    fn ids<T: std::str::FromStr + Ord>(&self, directory: &str, suffix: &str) -> Result<Vec<T>> {
        let path = self.path(directory);
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| Error::io("list", &path, e))? {
            let entry = entry.map_err(|e| Error::io("list", &path, e))?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(suffix)).and_then(|n| n.parse().ok()) {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Makes a directory that only its owner may enter, and its parents. An existing one gets the right mode; its former mode is returned.
fn make_private(path: &Path) -> Result<Option<u32>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(Error::NotADirectory { path: path.to_owned() }),
        Ok(meta) => {
            let me = rustix::process::geteuid().as_raw();
            if meta.uid() != me {
                return Err(Error::NotOwner { path: path.to_owned(), owner: meta.uid(), me });
            }
            let mode = meta.mode() & 0o7777;
            if mode == 0o700 {
                return Ok(None);
            }
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "made private again");
            // A layer holds set-id files of mapped owners. While the directory was open, other users of the machine could run them.
            set_mode(path, 0o700)?;
            return Ok(Some(mode));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("examine", path, e)),
    }
    // The parents that it makes are private, too.
    crate::durable::make_dirs(path, crate::durable::Mode::Exactly(0o700))?;
    Ok(None)
}

/// Makes one directory with exactly `mode`. It may exist: another process may just have made it.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::io("create", path, e)),
    }
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| Error::io("change the mode of", path, e))
}

fn open_at(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Error::io("open", path, e.into()))
}

fn change(current: &IdMap, recorded: &IdMap) -> IdMapChange {
    let same = covers(&current.uids, &recorded.uids) && covers(&current.gids, &recorded.gids);
    if same { IdMapChange::None } else { IdMapChange::Changed }
}

/// Whether `new` maps each id of `old` to the same outside id.
fn covers(new: &[IdRange], old: &[IdRange]) -> bool {
    old.iter().all(|range| {
        let (mut at, end) = (u64::from(range.inside), u64::from(range.inside) + u64::from(range.count));
        while at < end {
            let Some(by) = new.iter().find(|n| u64::from(n.inside) <= at && at < u64::from(n.inside) + u64::from(n.count)) else {
                return false;
            };
            let wanted = u64::from(range.outside) + (at - u64::from(range.inside));
            if u64::from(by.outside) + (at - u64::from(by.inside)) != wanted {
                return false;
            }
            at = u64::from(by.inside) + u64::from(by.count);
        }
        true
    })
}

/// An id map by its outside ids, first and last, as an administrator sees them in `/etc/subuid`.
fn describe(map: &IdMap) -> String {
    let part = |what: &str, ranges: &[IdRange]| {
        let ranges: Vec<String> = ranges
            .iter()
            .map(|r| match r.count {
                1 => r.outside.to_string(),
                n => format!("{}-{}", r.outside, u64::from(r.outside) + u64::from(n) - 1),
            })
            .collect();
        format!("{what} {}", ranges.join(", "))
    };
    format!("{}; {}", part("uids", &map.uids), part("gids", &map.gids))
}
