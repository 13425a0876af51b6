//! Claims on compiling: if several sessions need the same package, one compiles it and the others wait until it is in the pool.
//!
//! ```text
//! binpkgs/.claims/
//!   .lock                       held while claims change
//!   1234-0                      one session's, locked as long as it holds: the pool, who it is, then a key and a package a line
//! ```
//!
//! There is a file for each session and not for each package, since a thousand open files are more than a process may have. The kernel
//! releases the lock of a process that dies; the next process that looks removes its file. A session that cannot claim all its packages
//! claims none, so sessions cannot wait for each other in a circle.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::package_key::PackageKey;
use super::{Error, LOCK, Result};
use crate::path_error::PathError;
use crate::terminal_text::sanitize_line;

const CLAIMS: &str = ".claims";

/// Packages to compile, with their names.
pub(crate) type Wanted = BTreeMap<PackageKey, String>;

/// A package that another session compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its name with version.
    pub package: String,
    /// The session that compiles it, by what it makes: `stage4/web`.
    pub by: String,
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) enum Taken {
    /// All packages are claimed.
    All(Claims),
    /// Others compile these; nothing was claimed.
    Held(Vec<Held>),
}

/// The claims of one session; dropping it releases them.
#[derive(Debug)]
pub(crate) struct Claims {
    path: PathBuf,
    pool: PathBuf,
    by: String,
    keys: RefCell<Wanted>,
    _lock: OwnedFd,
}

impl Claims {
    /// Claims all of `wanted` for `by`, or nothing. `pool`, below `binpkgs`, is where the packages will be.
    pub(crate) fn take(binpkgs: &Path, pool: &Path, by: &str, wanted: Wanted) -> Result<Taken> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let dir = binpkgs.join(CLAIMS);
        let _all = lock_all(&dir)?;
        let held = held_in(&dir, pool, &wanted)?;
        if !held.is_empty() {
            return Ok(Taken::Held(held));
        }
        let path = dir.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let lock = open(&path, OFlags::CREATE)?;
        // This cannot fail because of others: they only lock a claim to test it, and only while they hold the common lock.
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| Error::io("lock", &path, e))?;
        let by = sanitize_line(by.as_bytes(), 400);
        let claims = Self { path, pool: pool.to_owned(), by, keys: RefCell::new(wanted), _lock: lock };
        claims.write()?;
        Ok(Taken::All(claims))
    }

    /// Which of `wanted` other sessions compile now.
    pub(crate) fn held(binpkgs: &Path, pool: &Path, wanted: &Wanted) -> Result<Vec<Held>> {
        let dir = binpkgs.join(CLAIMS);
        let _all = lock_all(&dir)?;
        held_in(&dir, pool, wanted)
    }

    /// Releases some of them, which are in the pool now.
    pub(crate) fn release(&self, keys: &[PackageKey]) -> Result<()> {
        let count = self.keys.borrow().len();
        self.keys.borrow_mut().retain(|key, _| !keys.contains(key));
        if self.keys.borrow().len() == count {
            return Ok(());
        }
        let _all = lock_all(self.path.parent().unwrap_or(&self.path))?;
        self.write()
    }

    /// Others read the files under the common lock, so they never see half of one.
    fn write(&self) -> Result<()> {
        let head = format!("{}\n{}\n", self.pool.display(), self.by);
        let lines = self.keys.borrow().iter().fold(head, |text, (key, package)| text + &format!("{key} {package}\n"));
        fs::write(&self.path, lines).map_err(|e| Error::io("write", &self.path, e))
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "whoever looks next removes {}", self.path.display());
        }
    }
}

/// Held only while files are read and written.
fn lock_all(dir: &Path) -> Result<OwnedFd> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("create", dir, e))?;
    let path = dir.join(LOCK);
    let all = open(&path, OFlags::CREATE)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&all, FlockOperation::LockExclusive))
        .map_err(|e| Error::io("lock", &path, e))?;
    Ok(all)
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("open", path, e))
}

/// Reads the claims of all sessions and removes those of dead processes.
fn held_in(dir: &Path, pool: &Path, wanted: &Wanted) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
        if path.file_name().is_some_and(|name| name == LOCK) {
            continue;
        }
        // Its session ended meanwhile.
        let Some(file) = unless_gone(open(&path, OFlags::empty()))? else { continue };
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            // Nobody holds the lock, so its process has died.
            Ok(()) => drop(unless_gone(fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e)))?),
            Err(Errno::WOULDBLOCK) => {
                let Some(text) = unless_gone(fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e)))? else { continue };
                held.extend(held_of(&text, pool, wanted));
            }
            Err(e) => return Err(Error::io("lock", &path, e)),
        }
    }
    held.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(held)
}

fn unless_gone<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Io(PathError { source, .. })) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Which of `wanted` a file names.
fn held_of(text: &str, pool: &Path, wanted: &Wanted) -> Vec<Held> {
    let mut lines = text.lines();
    let (Some(of_pool), Some(by)) = (lines.next(), lines.next()) else { return Vec::new() };
    if Path::new(of_pool) != pool {
        return Vec::new();
    }
    let claimed = lines.filter_map(|line| wanted.get(&PackageKey::parse(line.split(' ').next()?)?));
    claimed.map(|package| Held { package: package.clone(), by: by.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(digits: &str) -> Wanted {
        let key = |digit: char| PackageKey::parse(&digit.to_string().repeat(32)).expect("a key");
        digits.chars().map(|digit| (key(digit), format!("a/{digit}-1"))).collect()
    }

    fn take(binpkgs: &Path, pool: &str, by: &str, digits: &str) -> std::result::Result<Claims, Vec<(String, String)>> {
        match Claims::take(binpkgs, Path::new(pool), by, wanted(digits)).expect("take") {
            Taken::All(claims) => Ok(claims),
            Taken::Held(held) => Err(held.into_iter().map(|it| (it.package, it.by)).collect()),
        }
    }

    fn by_one(packages: &[&str]) -> Vec<(String, String)> {
        packages.iter().map(|package| ((*package).to_owned(), "one".to_owned())).collect()
    }

    #[test]
    fn a_package_is_compiled_by_one_until_it_is_published() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let one = take(tmp.path(), "/pool", "one", "123").expect("free");
        assert_eq!(take(tmp.path(), "/pool", "two", "0234").expect_err("held"), by_one(&["a/2-1", "a/3-1"]));
        // Who did not get all has none, and other pools have other packages.
        let other = take(tmp.path(), "/pool", "three", "04").expect("free");
        let elsewhere = take(tmp.path(), "/elsewhere", "four", "123").expect("another pool");
        one.release(&wanted("2").into_keys().collect::<Vec<_>>()).expect("release");
        assert_eq!(take(tmp.path(), "/pool", "two", "23").expect_err("held"), by_one(&["a/3-1"]));
        let two = take(tmp.path(), "/pool", "two", "2").expect("published");
        drop(one);
        let held = |digits: &str| Claims::held(tmp.path(), Path::new("/pool"), &wanted(digits)).expect("look").len();
        assert_eq!((held("13"), held("2"), held("4")), (0, 1, 1));
        drop((two, other, elsewhere));
        let left: Vec<_> = fs::read_dir(tmp.path().join(CLAIMS)).expect("list").map(|it| it.expect("entry").file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn nothing_to_compile_waits_for_nobody() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let _one = take(tmp.path(), "/pool", "one", "1").expect("free");
        take(tmp.path(), "/pool", "two", "").expect("nothing");
    }

    #[test]
    fn a_claim_of_a_process_that_is_gone_counts_no_more() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let dir = tmp.path().join(CLAIMS);
        let one = take(tmp.path(), "/pool", "one\n\u{1b}[2J", "1").expect("free");
        assert_eq!(take(tmp.path(), "/pool", "two", "1").expect_err("held")[0].1, "one");
        // As a kill leaves it: the file, and no lock.
        let copy = dir.join("1-1");
        fs::copy(&one.path, &copy).expect("copy");
        drop(one);
        take(tmp.path(), "/pool", "two", "1").expect("free");
        assert!(!copy.exists());
    }

    #[test]
    fn all_who_come_at_once_get_it_one_after_the_other() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let Ok(claims) = take(tmp.path(), "/pool", "one", "12") else { continue };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(claims);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
