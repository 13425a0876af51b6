//! A session's view of the pools: one build of each version, and only packages that the session would build in the same way.
//!
//! ```text
//! binpkgs/.views/
//!   .lock                       held while views are made and removed
//!   1234-0/                     one session's, locked as long as it runs
//!     Packages
//!     app-misc/hello/hello-2.10-3.gpkg.tar      a link to the pool's file
//! ```
//!
//! The view is the lower directory of an overlay: the session writes above it, so the pool's files never change. Leaving packages out of
//! an index is not enough, since Portage reads the directory whenever `pkgdir-index-trusted` is off.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::index::Stanza;
use super::package_key::PackageKey;
use super::publish::{describes, key_in, read_those};
use super::{Error, INDEX, Index, KeyOf, LOCK, Result};
use crate::portage::untrusted;

const VIEWS: &str = ".views";

/// The view of one session, removed when dropped; after a kill the next session removes it.
#[derive(Debug)]
pub(crate) struct View {
    dir: PathBuf,
    /// The keys of the packages in it.
    pub offered: BTreeSet<PackageKey>,
    _lock: OwnedFd,
}

impl View {
    /// Makes a view of `pools`, which are below `binpkgs`; the first one that has a package wins. `key_of` is the key that the session's
    /// own build of a stanza's package would have.
    pub(crate) fn make(binpkgs: &Path, pools: &[PathBuf], key_of: &KeyOf<'_>, now_secs: i64) -> Result<Self> {
        let views = binpkgs.join(VIEWS);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&views).map_err(|e| Error::io("create", &views, e))?;
        let (dir, lock) = new_dir(&views)?;
        let mut view = Self { dir, offered: BTreeSet::new(), _lock: lock };
        view.fill(pools, key_of, now_secs)?;
        Ok(view)
    }

    /// Makes the view anew with what was added to the pools since. Nothing may run in the session.
    pub(crate) fn refresh(&mut self, pools: &[PathBuf], key_of: &KeyOf<'_>, now_secs: i64) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(|e| Error::io("list", &self.dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", &self.dir, e))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(|e| Error::io("remove", &entry.path(), e))?;
        }
        self.fill(pools, key_of, now_secs)
    }

    fn fill(&mut self, pools: &[PathBuf], key_of: &KeyOf<'_>, now_secs: i64) -> Result<()> {
        let (mut index, mut versions) = (Index::default(), BTreeSet::new());
        for pool in pools {
            let Some((header, chosen)) = chosen(pool, key_of, &versions)? else { continue };
            for (cpv, (path, stanza)) in chosen {
                if self.link(pool, &path)? {
                    index.packages.insert(path, stanza);
                    versions.insert(cpv);
                }
            }
            if index.header.is_empty() {
                index.header = header;
            }
        }
        self.offered = index.packages.values().filter_map(key_in).collect();
        self.write_index(&index, now_secs)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `false` if the package is gone, or has too many hard links already.
    fn link(&self, pool: &Path, path: &str) -> Result<bool> {
        let target = self.dir.join(path);
        let mut parents: Vec<&Path> = target.ancestors().skip(1).take_while(|dir| *dir != self.dir).collect();
        while let Some(parent) = parents.pop() {
            match fs::create_dir(parent) {
                Ok(()) => {
                    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).map_err(|e| Error::io("create", parent, e))?;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", parent, e)),
            }
        }
        match rustix::fs::linkat(open(pool)?, path, rustix::fs::CWD, &target, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // The package is left out, and the session compiles it.
            Err(Errno::NOENT | Errno::MLINK | Errno::EXIST) => Ok(false),
            Err(e) => Err(Error::io("link", &target, e)),
        }
    }

    fn write_index(&self, index: &Index, now_secs: i64) -> Result<()> {
        let path = self.dir.join(INDEX);
        let write = || -> io::Result<()> {
            fs::write(&path, index.render(now_secs))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            let time = Timespec { tv_sec: now_secs, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            Ok(rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty())?)
        };
        write().map_err(|e| Error::io("write", &path, e))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::debug!(%error, "the next view removes {}", self.dir.display());
        }
    }
}

/// Paths and stanzas of packages by category, name and version.
type ByCpv = BTreeMap<String, (String, Stanza)>;

/// The header of a pool's index, and the packages of the pool that a session may use: the youngest of each version, without those versions
/// that are there `already`. `None` if there is no such pool.
fn chosen(pool: &Path, key_of: &KeyOf<'_>, already: &BTreeSet<String>) -> Result<Option<(Stanza, ByCpv)>> {
    let dir = match untrusted::open_root(pool) {
        Err(e) if e.is_absent() => return Ok(None),
        dir => dir.map_err(|e| Error::read(pool, e))?,
    };
    let fits = |stanza: &Stanza| {
        let is_new = stanza.get("CPV").is_some_and(|cpv| !already.contains(cpv));
        is_new && key_in(stanza).is_some_and(|key| key_of(stanza) == Some(key))
    };
    let index = read_those(dir.as_fd(), pool, fits)?;
    let mut chosen: BTreeMap<String, (i64, String, Stanza)> = BTreeMap::new();
    for (path, stanza) in index.packages {
        let Some(cpv) = stanza.get("CPV").cloned() else { continue };
        let Ok(stat) = rustix::fs::statat(&dir, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if describes(&stanza, &stat) && chosen.get(&cpv).is_none_or(|(time, ..)| *time < stat.st_mtime) {
            chosen.insert(cpv, (stat.st_mtime, path, stanza));
        }
    }
    Ok(Some((index.header, chosen.into_iter().map(|(cpv, (_, path, stanza))| (cpv, (path, stanza))).collect())))
}

fn open(path: &Path) -> Result<OwnedFd> {
    untrusted::open_root(path).map_err(|e| Error::read(path, e))
}

/// Creates and locks a directory with an unused name; removes those of dead processes.
fn new_dir(views: &Path) -> Result<(PathBuf, OwnedFd)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = views.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let all = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("lock", &path, e))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&all, FlockOperation::LockExclusive))
        .map_err(|e| Error::io("lock", &path, e))?;
    for entry in fs::read_dir(views).map_err(|e| Error::io("list", views, e))?.flatten() {
        let old = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && open(&old).is_ok_and(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            fs::remove_dir_all(&old).map_err(|e| Error::io("remove", &old, e))?;
        }
    }
    // Whatever has the name of a killed process with our PID was removed above.
    let dir = views.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir).map_err(|e| Error::io("create", &dir, e))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(|e| Error::io("create", &dir, e))?;
    let lock = open(&dir)?;
    // A shared lock is enough: whoever cleans up tries for an exclusive one, and this also ends with a killed process.
    rustix::fs::flock(&lock, FlockOperation::LockShared).map_err(|e| Error::io("lock", &dir, e))?;
    Ok((dir, lock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::binpkgs::PackageKey;

    const NOW: i64 = 1_800_000_000;

    fn key(digit: &str) -> PackageKey {
        PackageKey::parse(&digit.repeat(32)).expect("a key")
    }

    /// Puts builds into a pool: the number of the build, its key, its age.
    fn pool(dir: &Path, builds: &[(&str, u64, &str, i64)]) -> PathBuf {
        fs::create_dir_all(dir.join("a/b")).expect("mkdir");
        let mut index = "VERSION: 0\nARCH: amd64\n\n".to_owned();
        for (version, number, digit, time) in builds {
            let path = format!("a/b/b-{version}-{number}.gpkg.tar");
            fs::write(dir.join(&path), format!("{version} {number}")).expect("write");
            let times = Timespec { tv_sec: *time, tv_nsec: 0 };
            let times = Timestamps { last_access: times, last_modification: times };
            rustix::fs::utimensat(rustix::fs::CWD, dir.join(&path), &times, AtFlags::empty()).expect("utimens");
            let size = format!("{version} {number}").len();
            let key = digit.repeat(32);
            index += &format!("CPV: a/b-{version}\nPATH: {path}\nMTIME: {time}\nSIZE: {size}\nGENTOOMUCH_KEY: {key}\n\n");
        }
        fs::write(dir.join(INDEX), index).expect("write");
        dir.to_owned()
    }

    fn seen(view: &View) -> Vec<String> {
        let (found, _) = super::super::publish::packages_in(open(view.dir()).expect("open").as_fd(), view.dir()).expect("list");
        let index = Index::parse(&fs::read_to_string(view.dir().join(INDEX)).expect("index"));
        let paths: Vec<String> = found.into_iter().map(|package| package.path).collect();
        assert_eq!(index.packages.keys().cloned().collect::<Vec<_>>(), paths, "the index names what is there");
        paths
    }

    #[test]
    fn a_session_sees_one_build_a_version_and_only_that_of_its_key() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let first = pool(&tmp.path().join("one"), &[("1", 1, "1", 10), ("1", 2, "2", 20), ("1", 3, "1", 30), ("2", 1, "3", 40)]);
        let second = pool(&tmp.path().join("two"), &[("1", 7, "1", 90), ("3", 1, "1", 50)]);
        let of = |stanza: &Stanza| (stanza["CPV"] != "a/b-2").then(|| key("1"));
        let view = View::make(tmp.path(), &[first.clone(), tmp.path().join("none"), second], &of, NOW).expect("view");
        assert_eq!(seen(&view), ["a/b/b-1-3.gpkg.tar", "a/b/b-3-1.gpkg.tar"]);
        assert_eq!(view.offered, [key("1")].into());
        // A package that somebody deleted by hand, and one that is not what the index says.
        fs::remove_file(first.join("a/b/b-1-3.gpkg.tar")).expect("remove");
        fs::write(first.join("a/b/b-1-1.gpkg.tar"), "longer than before").expect("write");
        assert_eq!(seen(&View::make(tmp.path(), &[first], &of, NOW).expect("view")), Vec::<String>::new());
    }

    #[test]
    fn what_came_into_the_pool_since_is_in_a_view_that_is_made_anew() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let one = pool(&tmp.path().join("one"), &[("1", 1, "1", 10)]);
        let of = |stanza: &Stanza| Some(key(if stanza["CPV"] == "a/b-1" { "1" } else { "2" }));
        let pools = [one.clone()];
        let mut view = View::make(tmp.path(), &pools, &of, NOW).expect("view");
        assert_eq!(view.offered, [key("1")].into());
        pool(&one, &[("1", 1, "1", 10), ("2", 1, "2", 20)]);
        view.refresh(&pools, &of, NOW).expect("refresh");
        assert_eq!(seen(&view), ["a/b/b-1-1.gpkg.tar", "a/b/b-2-1.gpkg.tar"]);
        assert_eq!(view.offered, [key("1"), key("2")].into());
    }

    #[test]
    fn a_view_goes_with_its_session_and_after_a_kill_with_the_next() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let none = |_: &Stanza| None;
        let make = || View::make(tmp.path(), &[], &none, NOW).expect("view");
        let first = make();
        let (running, killed) = (first.dir().to_owned(), tmp.path().join(VIEWS).join("1-1/a"));
        fs::create_dir_all(&killed).expect("mkdir");
        let second = make();
        assert!(running.exists() && second.dir().exists() && !killed.exists());
        drop(first);
        assert!(!running.exists() && second.dir().exists());
    }
}
