//! Portage's build logs, given to the user who asked for the build.
//!
//! Portage gives each log to `portage:portage`, mode 0660: outside the session that is a subordinate id, and the user could neither read
//! the log of a failure nor the ones kept under `logs/`. Only inside the id map can that be changed; afterwards they are plain files of the
//! user's. What a build left there that is no plain file is removed: nobody shall find a FIFO or a link where a log is expected.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode};
use serde::{Deserialize, Serialize};

use crate::portage::untrusted;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn};

/// Name of the task: [`AdoptInput`] in, [`Adopted`] out.
pub const ADOPT: &str = "emerge.adopt-logs";

/// `DIR/build/CATEGORY/…` with `FEATURES=split-log`, `DIR/elog/…`.
const MAX_DEPTH: usize = 4;
const MAX_ENTRIES: usize = 100_000;

/// What [`ADOPT`] works on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdoptInput {
    /// The directory that is `PORTAGE_LOGDIR` in the session, as the host sees it.
    pub dir: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Logs that now are the user's.
    pub files: usize,
    /// Links, devices, FIFOs and sockets that were removed.
    pub removed: usize,
}

/// The tasks of this module, by name.
pub fn lookup(name: &str) -> Option<TaskFn> {
    (name == ADOPT).then_some(adopt_task as TaskFn)
}

fn adopt_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: AdoptInput = context.input_as()?;
    let adopted = adopt(&input.dir, Some(0)).map_err(|error| TaskFailure::of("logs", &error))?;
    serde_json::to_value(adopted).map_err(|error| TaskFailure::of("logs", &error))
}

/// Makes all logs below `dir` files of mode 0644 in directories of mode 0755, owned by `owner` (inside the id map 0 is the user).
fn adopt(dir: &Path, owner: Option<u32>) -> untrusted::Result<Adopted> {
    let root = untrusted::open_root(dir)?;
    let mut adopted = Adopted::default();
    let mut todo = vec![PathBuf::from(".")];
    while let Some(at) = todo.pop() {
        let opened = untrusted::open_dir_in(root.as_fd(), &at)?;
        own(opened.as_fd(), &at, owner, 0o755)?;
        for (name, kind) in untrusted::entries(&opened, &at, MAX_ENTRIES)? {
            let path = at.join(&name);
            match kind {
                FileType::Directory if path.components().count() <= MAX_DEPTH => todo.push(path),
                FileType::Directory => {}
                FileType::RegularFile => {
                    let (file, _) = untrusted::open_file_in(opened.as_fd(), Path::new(&name))?;
                    own(file.as_fd(), &path, owner, 0o644)?;
                    adopted.files += 1;
                }
                _ => {
                    rustix::fs::unlinkat(&opened, &name, AtFlags::empty()).map_err(|e| untrusted::Error::io("remove", &path, e))?;
                    adopted.removed += 1;
                }
            }
        }
    }
    Ok(adopted)
}

fn own(file: BorrowedFd<'_>, path: &Path, owner: Option<u32>, mode: u32) -> untrusted::Result<()> {
    let (uid, gid) = (owner.map(rustix::fs::Uid::from_raw), owner.map(rustix::fs::Gid::from_raw));
    // The mode last: a change of owner may take bits away.
    rustix::fs::fchown(file, uid, gid)
        .and_then(|()| rustix::fs::fchmod(file, Mode::from_raw_mode(mode)))
        .map_err(|e| untrusted::Error::io("adopt", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn logs_become_plain_readable_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let deep = dir.path().join("build/app-misc");
        std::fs::create_dir_all(&deep).expect("mkdir");
        for path in [dir.path().join("app-misc:broken-1:20261122-090000.log"), deep.join("broken-1:20261122-090000.log")] {
            std::fs::write(&path, "log").expect("write");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4660)).expect("chmod");
        }
        symlink("/etc/passwd", dir.path().join("a.log")).expect("symlink");
        rustix::fs::mkfifoat(rustix::fs::CWD, deep.join("b.log"), Mode::RWXU).expect("mkfifo");
        assert_eq!(adopt(dir.path(), None).expect("adopt"), Adopted { files: 2, removed: 2 });
        let mode = std::fs::metadata(deep.join("broken-1:20261122-090000.log")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert!(std::fs::symlink_metadata(dir.path().join("a.log")).is_err());
        assert!(lookup(ADOPT).is_some() && lookup("other").is_none());
    }

    #[test]
    fn no_such_directory() {
        let error = adopt(Path::new("/nonexistent/logs"), None).expect_err("no directory");
        assert_eq!(error.to_string(), "cannot open `/nonexistent/logs`");
    }
}
