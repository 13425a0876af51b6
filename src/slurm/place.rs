//! Directories of ours, in the shared directory and on nodes.
//!
//! ```text
//! DIRECTORY/gentoomuch-UID/            0700, the user's. Locked while a job's directory is made. If another user has this name: -1, -2…
//!     job-12/                          locked by the job as long as it runs, so what nobody has locked was left by one that was killed
//!         mark.json                    a [`Mark`]
//!         data/ cache/                 as of any other run of gentoomuch
//! ```
//!
//! Several machines may share DIRECTORY, and locks may be known to one machine alone. So each removes only what it has made itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::run_dir::read;
use super::{Error, Result};
use crate::beneath::{NAMES_LIMIT, TreeDir, remove_tree};
use crate::durable::{self, Mode};
use crate::path_error::PathError;
use crate::store::{InMap, UNKNOWN_BOOT, boot_id};
use crate::trees::contents::copy_tree;

/// How records of runs begin among logs.
const RECORDS: &str = "pipeline-";

/// How many other names a directory of jobs may have.
const MOST_NAMES: u32 = 100;
/// What has no mark is still being made, by whichever machine, unless it is older.
const MADE: Duration = Duration::from_hours(24);

/// Makes a directory that is ours alone, or sees that it is.
pub(super) fn own(dir: &Path) -> Result<()> {
    // A link is not followed, wherever it leads.
    if fs::symlink_metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        durable::make_dirs(dir, Mode::AtMost(0o700))?;
    }
    is_own(dir)
}

/// Fails unless a directory is there and ours alone.
pub(super) fn is_own(dir: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(dir).map_err(PathError::of("examine", dir))?;
    let is_ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if is_ours { Ok(()) } else { Err(Error::Foreign { path: dir.to_owned() }) }
}

/// Appends to a file that is there, and closes it: then others see it, also over NFS.
pub(super) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

/// The names that the directory of this user's jobs may have in `parent`.
fn bases(parent: &Path, uid: u32) -> impl Iterator<Item = PathBuf> {
    let name = move |number: u32| if number == 0 { format!("gentoomuch-{uid}") } else { format!("gentoomuch-{uid}-{number}") };
    (0..MOST_NAMES).map(move |number| parent.join(name(number)))
}

/// Makes the directory of this user's jobs in `parent`, by the first name that no other user has taken.
pub(super) fn base(parent: &Path, uid: u32) -> Result<PathBuf> {
    let mut foreign = None;
    for dir in bases(parent, uid) {
        match own(&dir) {
            Ok(()) => return Ok(dir),
            Err(error @ Error::Foreign { .. }) => foreign.get_or_insert(error),
            Err(error) => return Err(error),
        };
    }
    Err(foreign.unwrap_or_else(|| Error::Foreign { path: parent.to_owned() }))
}

/// A machine since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    host: String,
    boot: String,
}

impl Machine {
    pub(super) fn this() -> Result<Self> {
        Ok(Self { host: rustix::system::uname().nodename().to_string_lossy().into_owned(), boot: boot_id()? })
    }
}

/// Whether what is there with this mark, and this old, was left.
fn is_left(mark: Option<&Mark>, here: &Machine, is_locked: bool, age: Duration) -> bool {
    match mark.map(|mark| &mark.machine).filter(|machine| !machine.host.is_empty()) {
        None => !is_locked && age > MADE,
        Some(machine) if machine.host != here.host => false,
        Some(machine) => {
            let is_other_boot = machine.boot != here.boot && [machine, here].iter().all(|machine| machine.boot != UNKNOWN_BOOT);
            is_other_boot || !is_locked
        }
    }
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) job: String,
    pub(super) run: PathBuf,
    pub(super) node: String,
    #[serde(default)]
    pub(super) machine: Machine,
}

/// The directory of a job on its node.
#[derive(Debug)]
pub(super) struct JobDir {
    pub(super) dir: PathBuf,
    _lock: File,
}

impl JobDir {
    /// A new one in `base`.
    pub(super) fn new(base: &Path, mark: &Mark) -> Result<Self> {
        own(base)?;
        let _making = locked(base, FlockOperation::LockExclusive)?;
        // Put back into the queue, a job has the same number.
        let name = |number: u32| if number == 0 { format!("job-{}", mark.job) } else { format!("job-{}-{number}", mark.job) };
        for number in 0.. {
            let dir = base.join(name(number));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    let lock = locked(&dir, FlockOperation::NonBlockingLockExclusive)?;
                    let text = serde_json::to_vec(mark).unwrap_or_default();
                    durable::replace(&dir.join("mark.json"), &text, Mode::Exactly(0o600))?;
                    return Ok(Self { dir, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(PathError::new("create", dir, source).into()),
            }
        }
        unreachable!("one of all numbers is free")
    }

    /// Removes what killed jobs have left on this machine, in all directories of jobs, inside the id map, and says whose it was.
    pub(super) fn sweep(parent: &Path, uid: u32, here: &Machine, in_map: &impl InMap) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for base in bases(parent, uid).filter(|base| is_own(base).is_ok()) {
            let _making = locked(&base, FlockOperation::LockExclusive)?;
            for entry in TreeDir::open(&base)?.entries(NAMES_LIMIT)? {
                let Some(name) = entry.text().filter(|name| name.starts_with("job-") && entry.is_dir()) else { continue };
                let dir = base.join(name);
                // Our own is locked: this process has locked it through another descriptor.
                let lock = locked(&dir, FlockOperation::NonBlockingLockExclusive).ok();
                let mark = read::<Mark>(&dir.join("mark.json")).ok().flatten();
                let modified = fs::metadata(&dir).and_then(|meta| meta.modified()).ok();
                let age = modified.and_then(|time| time.elapsed().ok()).unwrap_or_default();
                if is_left(mark.as_ref(), here, lock.is_none(), age) {
                    left.push((dir, lock));
                }
            }
        }
        let paths: Vec<PathBuf> = left.iter().map(|(dir, _)| dir.clone()).collect();
        if !paths.is_empty() {
            in_map.remove_trees(&paths)?;
        }
        Ok(paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Removes it with all that is in it, as far as that is ours.
    pub(super) fn remove_own(self) {
        if let Err(error) = remove_tree(&self.dir) {
            tracing::debug!(%error, "the directory of a job stays");
        }
    }

    /// Removes it with all that is in it, whoever of the id map owns it.
    pub(super) fn remove(self, in_map: &impl InMap) -> Result<()> {
        Ok(in_map.remove_trees(std::slice::from_ref(&self.dir))?)
    }
}

/// Copies the logs of builds that are not there yet. The record of a run of one node is no part of another machine's.
pub(super) fn copy_logs(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    for entry in TreeDir::open(from)?.entries(NAMES_LIMIT)? {
        let Some(name) = entry.text().filter(|name| entry.is_dir() && !name.starts_with(RECORDS)) else { continue };
        let target = to.join(name);
        if !target.exists() {
            durable::make_dirs(&target, Mode::Exactly(0o700))?;
            copy_tree(&from.join(name), &target)?;
        }
    }
    Ok(())
}

fn locked(dir: &Path, how: FlockOperation) -> Result<File> {
    let file = File::open(dir).map_err(PathError::of("open", dir))?;
    flock(&file, how).map_err(PathError::of("lock", dir))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::Value;

    use super::*;

    /// This very process.
    struct Here;

    impl InMap for Here {
        fn run_task(&self, _: &'static str, input: Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>> {
            for path in input["paths"].as_array().unwrap() {
                fs::remove_dir_all(path.as_str().unwrap())?;
            }
            Ok(Value::Null)
        }
    }

    fn machine(host: &str, boot: &str) -> Machine {
        Machine { host: host.to_owned(), boot: boot.to_owned() }
    }

    fn mark(job: &str) -> Mark {
        Mark { job: job.to_owned(), run: "/shared/run".into(), node: "stage4/web".to_owned(), machine: machine("n1", "2") }
    }

    #[test]
    fn what_a_killed_job_has_left_goes_and_what_a_running_one_has_stays() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("gentoomuch-1000");
        let running = JobDir::new(&base, &mark("12")).unwrap();
        drop(JobDir::new(&base, &mark("13")).unwrap());
        drop(JobDir::new(&base, &mark("12")).unwrap());
        for other in ["notes", "job-14"] {
            fs::create_dir(base.join(other)).unwrap();
        }
        let other = dir.path().join("gentoomuch-1000-3");
        drop(JobDir::new(&other, &mark("15")).unwrap());
        let sweep = |host| JobDir::sweep(dir.path(), 1000, &machine(host, "2"), &Here).unwrap();
        assert!(sweep("n2").is_empty(), "locks of another machine are not seen here");
        let mut swept = sweep("n1");
        swept.sort();
        assert_eq!(swept, ["job-12-1", "job-13", "job-15"]);
        assert!(running.dir.join("mark.json").exists() && base.join("notes").exists() && base.join("job-14").exists());
        running.remove(&Here).unwrap();
        assert!(!base.join("job-12").exists());
    }

    #[test]
    fn each_machine_removes_its_own() {
        let here = machine("n1", "2");
        let (mine, young, old) = (mark("12"), Duration::from_mins(1), MADE * 2);
        let of = |host, boot| Mark { machine: machine(host, boot), ..mine.clone() };
        for (mark, is_locked, age, expected) in [
            (Some(of("n1", "2")), false, young, true),
            (Some(of("n1", "2")), true, old, false),
            (Some(of("n1", "1")), true, young, true),
            (Some(of("n1", UNKNOWN_BOOT)), true, young, false),
            (Some(of("n2", "2")), false, old, false),
            (Some(of("n2", "1")), false, old, false),
            (Some(of("", "")), false, young, false),
            (None, false, young, false),
            (None, false, old, true),
            (None, true, old, false),
        ] {
            assert_eq!(is_left(mark.as_ref(), &here, is_locked, age), expected, "{mark:?} {is_locked} {age:?}");
        }
    }

    #[test]
    fn a_name_that_another_user_has_taken_is_left_to_them() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/nonexistent", dir.path().join("gentoomuch-1000")).unwrap();
        symlink(dir.path(), dir.path().join("gentoomuch-1000-1")).unwrap();
        fs::write(dir.path().join("gentoomuch-1000-2"), "").unwrap();
        let free = dir.path().join("gentoomuch-1000-3");
        assert_eq!(base(dir.path(), 1000).unwrap(), free);
        assert_eq!(base(dir.path(), 1000).unwrap(), free);
        assert!(is_own(&dir.path().join("other")).is_err() && !dir.path().join("other").exists());
    }

    #[test]
    fn logs_come_once_and_records_of_single_nodes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for name in ["stage4-web-1", "pipeline-1"] {
            fs::create_dir_all(from.join(name)).unwrap();
            fs::write(from.join(name).join("emerge.log"), "a").unwrap();
        }
        copy_logs(&from, &to).unwrap();
        copy_logs(&from, &to).unwrap();
        assert!(to.join("stage4-web-1/emerge.log").exists() && !to.join("pipeline-1").exists());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_not_ours() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        own(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(own(&base), Err(Error::Foreign { .. })));
    }
}
