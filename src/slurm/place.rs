//! Directories of ours, in the shared directory and on nodes.
//!
//! ```text
//! DIRECTORY/gentoomuch-UID/            0700, the user's. Locked while a job's directory is made
//!     job-12/                          locked by the job as long as it runs, so what nobody has locked was left by one that was killed
//!         mark.json                    a [`Mark`]
//!         data/ cache/                 as of any other run of gentoomuch
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::beneath::{NAMES_LIMIT, TreeDir};
use crate::durable::{self, Mode};
use crate::path_error::PathError;
use crate::store::InMap;
use crate::trees::contents::copy_tree;

/// How records of runs begin among logs.
const RECORDS: &str = "pipeline-";

/// Makes a directory that is ours alone, or sees that it is.
pub(super) fn own(dir: &Path) -> Result<()> {
    durable::make_dirs(dir, Mode::AtMost(0o700))?;
    let meta = fs::symlink_metadata(dir).map_err(PathError::of("examine", dir))?;
    let is_ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if is_ours { Ok(()) } else { Err(Error::Foreign { path: dir.to_owned() }) }
}

/// Appends to a file that is there, and closes it: then others see it, also over NFS.
pub(super) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) job: String,
    pub(super) run: PathBuf,
    pub(super) node: String,
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

    /// Removes what killed jobs have left in `base`, inside the id map, and says whose it was.
    pub(super) fn sweep(base: &Path, in_map: &impl InMap) -> Result<Vec<String>> {
        let mut left = Vec::new();
        {
            let _making = locked(base, FlockOperation::LockExclusive)?;
            for entry in TreeDir::open(base)?.entries(NAMES_LIMIT)? {
                let Some(name) = entry.text().filter(|name| name.starts_with("job-") && entry.is_dir()) else { continue };
                let dir = base.join(name);
                // Our own among them: this process has locked it through another descriptor.
                if let Ok(lock) = locked(&dir, FlockOperation::NonBlockingLockExclusive) {
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

    fn mark(job: &str) -> Mark {
        Mark { job: job.to_owned(), run: "/shared/run".into(), node: "stage4/web".to_owned() }
    }

    #[test]
    fn what_a_killed_job_has_left_goes_and_what_a_running_one_has_stays() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("gentoomuch-1000");
        let running = JobDir::new(&base, &mark("12")).unwrap();
        drop(JobDir::new(&base, &mark("13")).unwrap());
        drop(JobDir::new(&base, &mark("12")).unwrap());
        fs::create_dir(base.join("notes")).unwrap();
        let mut swept = JobDir::sweep(&base, &Here).unwrap();
        swept.sort();
        assert_eq!(swept, ["job-12-1", "job-13"]);
        assert!(running.dir.join("mark.json").exists() && base.join("notes").exists());
        running.remove(&Here).unwrap();
        assert!(!base.join("job-12").exists());
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
