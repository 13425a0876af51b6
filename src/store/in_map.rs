//! Tasks of the store, which run as root of the id map: what is in a layer has owners that are not the user.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;

use super::{Error, Result, UpperProblem, tasks};
use crate::beneath;
use crate::beneath::TreeDir;
/// How long the first process of a session that is over may take to end. It has seen the end of file on its socket, so this is the time that the
/// kernel needs to kill and reap what a large build was running.
pub(super) const PID1_LIMIT: Duration = Duration::from_secs(10);

/// What runs a task of ours inside the id map: the sandbox's launcher, or in tests this very process.
pub trait InMap {
    /// Runs the task of this name, see [`tasks`].
    fn run_task(&self, name: &'static str, input: Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>>;

    /// Removes whole trees, whoever of the map owns what is in them. Those that do not exist are no failure.
    fn remove_trees(&self, paths: &[PathBuf]) -> Result<()> {
        let input = tasks::RemoveInput { paths: paths.to_vec() };
        call::<Value>(self, tasks::REMOVE_TREE, &input).map(drop)
    }
}

/// Runs a task with typed input and output.
pub(super) fn call<T: serde::de::DeserializeOwned>(
    in_map: &(impl InMap + ?Sized),
    task: &'static str,
    input: &impl Serialize,
) -> Result<T> {
    let input = serde_json::to_value(input).map_err(|source| Error::Answer { task, source })?;
    let answer = in_map.run_task(task, input).map_err(|source| Error::InMap { task, source })?;
    serde_json::from_value(answer).map_err(|source| Error::Answer { task, source })
}

/// Refuses an upper directory that is not plainly a directory of ours, with nothing mounted on it.
pub(super) fn check_upper(path: &Path, store: BorrowedFd<'_>) -> Result<()> {
    let refuse = |problem| Err(Error::Upper { path: path.to_owned(), problem });
    let parent = TreeDir::from_fd(super::durable::open_dir(path.parent().unwrap_or(path))?, path.parent().unwrap_or(path));
    match parent.open_dir(path.file_name().unwrap_or_default()) {
        Ok(_) => {}
        Err(beneath::Error::Mounted { .. }) => return refuse(UpperProblem::Mounted),
        Err(error) => match error.errno() {
            // What may not be opened has a mode that is refused below.
            Some(Errno::ACCESS) => {}
            Some(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return refuse(UpperProblem::NotADirectory),
            _ => return Err(super::tasks::TreeError::from(error).into()),
        },
    }
    let meta = fs::symlink_metadata(path).map_err(|e| Error::io("examine", path, e))?;
    if !meta.is_dir() {
        return refuse(UpperProblem::NotADirectory);
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse(UpperProblem::Owner(meta.uid()));
    }
    if meta.mode() & 0o500 != 0o500 {
        return refuse(UpperProblem::Mode(meta.mode() & 0o7777));
    }
    let here = rustix::fs::fstat(store).map_err(|e| Error::io("examine", path, e.into()))?;
    if here.st_dev != meta.dev() {
        return refuse(UpperProblem::Mounted);
    }
    Ok(())
}
