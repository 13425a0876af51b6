//! Carries what was changed by hand in the source of a package over to a work set.
//!
//! The upper directory of the session has each file that differs from what the failed build had left: what was edited, and what was
//! compiled again. Only what the pristine source has, too, is taken. The rest are products of the build, or new files, which are named.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::beneath::{Budget, Entry, TreeDir, same_contents};
use crate::by_hand::{Error, Result};
use crate::context;
use crate::context::Context;
use crate::copy_tree::{Keep, TreeError, copy, names_repository};
use crate::patch::source::MAX_NAMED;
use crate::path_error::OfFile as _;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::store;
use crate::terminal_text::sanitize_line;

/// Input: [`EditsInput`] and the directory of the work set; output: [`Edits`].
const TAKE: &str = "by-hand.take-edits";
/// Longer paths are cut in messages.
const MAX_PATH: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct EditsInput {
    /// The upper directory of the session's `/var/tmp/portage`: a directory of ours that a session wrote to.
    upper: PathBuf,
    /// The source below it; links on the way are not followed.
    source: String,
}

/// What was carried over.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Edits {
    /// How many files were replaced or removed.
    pub(crate) taken: u64,
    /// The first files that the pristine source does not have; safe to print.
    pub(crate) left_out: Vec<String>,
}

/// Carries the edits below `upper` over to the work set in `to`.
pub(crate) fn take(cx: &Context<'_>, upper: &Path, source: &str, to: &Path) -> Result<Edits> {
    let target: OwnedFd = File::open(to).map_err(Error::io("open", to))?.into();
    let input = EditsInput { upper: upper.to_owned(), source: source.to_owned() };
    let options = TaskOptions { fds: vec![target], mounts: false, hold: Vec::new(), cancel: Some(context::cancel(cx)?) };
    let answer = context::task(cx, TAKE, &input, options, &mut |_| {})?;
    serde_json::from_value(answer).map_err(|source| Error::from(store::Error::Answer { task: TAKE, source }))
}

/// Finds this module's task by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == TAKE).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: EditsInput = context.input_as()?;
    let Some(target) = context.fds.pop() else {
        return Err(TaskFailure { kind: "edits".to_owned(), causes: vec!["no place to copy to".to_owned()] });
    };
    let edits = taken(&input, &TreeDir::from_fd(target, "the work set"));
    serde_json::to_value(edits.map_err(|error| TaskFailure::of("edits", &error))?).map_err(|error| TaskFailure::of("edits", &error))
}

fn taken(input: &EditsInput, to: &TreeDir) -> std::result::Result<Edits, TreeError> {
    let mut edits = Edits::default();
    let from = match TreeDir::open(&input.upper)?.open_dir(&input.source) {
        Ok(from) => from,
        // Nothing was written there.
        Err(error) if error.is_absent() => return Ok(edits),
        Err(error) => return Err(error.into()),
    };
    let (mut walk, mut budget) = (from.walk()?, Budget::default());
    loop {
        while let Some(entry) = walk.next_name() {
            if names_repository(entry.name.to_bytes()) {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&walk.relative(&entry.name)));
            if entry.is_dir() {
                walk.enter(&entry.name)?;
            } else if kind_of(to, &path)?.is_none() {
                if !entry.whiteout && edits.left_out.len() < MAX_NAMED {
                    edits.left_out.push(sanitize_line(path.as_os_str().as_bytes(), MAX_PATH));
                }
            } else if carried_over(&from, &entry, &path, to, &mut budget)? {
                edits.taken += 1;
            }
        }
        if walk.leave()?.is_none() {
            return Ok(edits);
        }
    }
}

/// What the work set has there. Of a path through something that is no directory it has nothing.
fn kind_of(to: &TreeDir, path: &Path) -> beneath::Result<Option<FileType>> {
    match to.kind(path) {
        Err(error) if error.is_absent() || error.is_no_such_file() => Ok(None),
        kind => kind,
    }
}

/// Puts a changed file in the place of the pristine one, or removes that. Whether anything differs.
fn carried_over(
    from: &TreeDir,
    entry: &Entry,
    path: &Path,
    to: &TreeDir,
    budget: &mut Budget,
) -> std::result::Result<bool, TreeError> {
    if entry.whiteout {
        to.remove(path)?;
        return Ok(true);
    }
    match (entry.kind, to.kind(path)?) {
        (FileType::RegularFile, Some(FileType::RegularFile)) => {
            let changed = from.open_file(path)?;
            budget.admit(&changed)?;
            if same_contents(&changed, &to.open_file(path)?)? {
                return Ok(false);
            }
            let parent = to.open_dir(path.parent().unwrap_or(Path::new("")))?;
            to.unlink(path)?;
            copy(changed.file.into(), parent.as_fd(), entry.name.to_bytes(), Keep::Source, &mut |_| {})?;
            Ok(true)
        }
        (FileType::Symlink, Some(FileType::Symlink)) => {
            let target = from.read_link(path)?;
            if target == to.read_link(path)? {
                return Ok(false);
            }
            to.unlink(path)?;
            to.symlink(path, target)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_edited_is_carried_over_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, set) = (dir.path().join("upper"), dir.path().join("set"));
        let source = upper.join("a/b-1/work/b-1");
        for (root, file, text) in [
            (&set, "main.c", "old"),
            (&set, "same.c", "same"),
            (&set, "sub/deep.c", "old"),
            (&set, "untouched.c", "old"),
            (&set, ".git/config", "ours"),
            (&set, "kind", "a file"),
            (&source, "main.c", "new"),
            (&source, "same.c", "same"),
            (&source, "sub/deep.c", "newer"),
            (&source, "main.o", "compiled"),
            (&source, ".git/config", "theirs"),
            (&source, "kind/x", "in a directory"),
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), text).unwrap();
        }
        symlink("old", set.join("link")).unwrap();
        symlink("/etc/passwd", source.join("link")).unwrap();
        symlink("/etc/passwd", source.join("untouched.c")).unwrap();
        let taken_to = |path: &str| {
            let input = EditsInput { upper: upper.clone(), source: path.to_owned() };
            taken(&input, &TreeDir::open(&set).unwrap())
        };
        let edits = taken_to("a/b-1/work/b-1").unwrap();
        assert_eq!(edits, Edits { taken: 3, left_out: vec!["kind/x".to_owned(), "main.o".to_owned()] });
        let text = |file: &str| fs::read_to_string(set.join(file)).unwrap();
        assert_eq!([text("main.c"), text("sub/deep.c"), text("untouched.c")], ["new", "newer", "old"]);
        assert_eq!((text(".git/config"), text("kind")), ("ours".to_owned(), "a file".to_owned()));
        assert_eq!(fs::read_link(set.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!set.join("main.o").exists());
        assert_eq!(taken_to("a/b-1/work/none").unwrap(), Edits::default());

        fs::rename(upper.join("a/b-1"), upper.join("a/c-1")).unwrap();
        symlink("c-1", upper.join("a/b-1")).unwrap();
        assert!(taken_to("a/b-1/work/b-1").is_err(), "through a link");
    }
}
