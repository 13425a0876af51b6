//! Portage's build logs, handed over to the user who asked for the build.
//!
//! ```text
//! sessions/ID/logs/          PORTAGE_LOGDIR of the session: files of `portage:portage`, mode 0660, and whatever else a package made there
//!   | task, after each emerge: the contents of regular files, bounded; what was taken is removed
//!   v
//! logs/WHAT-WHEN/packages/   files of the user's, mode 0644, that no session has ever seen
//! ```
//!
//! A user must not find a FIFO, a link or a set-id file instead of a log, and no session may write to a log that was handed over.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::beneath::{Error, Plain, Result, TreeDir, Walk, copy_plain};
use crate::sandbox::{TaskContext, TaskFailure, TaskFn};

/// Name of the task. It takes an [`AdoptInput`] and the target directory, and returns [`Adopted`].
pub(crate) const ADOPT: &str = "session.adopt-logs";

/// `DIR/build/CATEGORY/…` with `FEATURES=split-log`, `DIR/elog/…`.
const MAX_DEPTH: usize = 4;
/// No run has more packages.
const MAX_FILES: usize = 100_000;
/// Of a longer log only the end is kept.
const FILE_LIMIT_BYTES: u64 = 256 << 20;
/// The limit for all logs of one run.
const TOTAL_LIMIT_BYTES: u64 = 4 << 30;

/// Input of [`ADOPT`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AdoptInput {
    /// `PORTAGE_LOGDIR` of the session, as the host sees it.
    pub dir: PathBuf,
}

/// What the task did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adopted {
    /// Logs that were handed over.
    pub files: usize,
    /// Links, devices, FIFOs and sockets that were removed.
    pub removed: usize,
    /// Logs that were cut or left out because of a limit.
    pub cut: usize,
}

pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == ADOPT).then_some(adopt_task as TaskFn)
}

fn adopt_task(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: AdoptInput = context.input_as()?;
    let Some(to) = context.fds.pop() else {
        return Err(TaskFailure { kind: "logs".to_owned(), causes: vec!["no place for the logs".to_owned()] });
    };
    let adopted = adopt(&input.dir, &TreeDir::from_fd(to, "logs")).map_err(|error| TaskFailure::of("logs", &error))?;
    serde_json::to_value(adopted).map_err(|error| TaskFailure::of("logs", &error))
}

/// Copies all logs below `dir` to files of the same names below `to`, then removes them.
fn adopt(dir: &Path, to: &TreeDir) -> Result<Adopted> {
    let from = TreeDir::open(dir)?;
    let mut taker = Taker { to, adopted: Adopted::default(), left_bytes: TOTAL_LIMIT_BYTES };
    let mut walk = from.walk()?;
    loop {
        while let Some(entry) = walk.next_name() {
            match entry.kind {
                FileType::Directory if walk.depth() < MAX_DEPTH => walk.enter(&entry.name)?,
                FileType::Directory => {}
                FileType::RegularFile if taker.adopted.files < MAX_FILES => taker.take(&walk, &entry.name)?,
                FileType::RegularFile => taker.adopted.cut += 1,
                _ => taker.adopted.removed += 1,
            }
        }
        if walk.leave()?.is_none() {
            break;
        }
    }
    // The directory itself stays, since Portage has chosen its mode and owner.
    for entry in from.entries(MAX_FILES)? {
        from.remove(entry.os())?;
    }
    Ok(taker.adopted)
}

struct Taker<'a> {
    to: &'a TreeDir,
    adopted: Adopted,
    left_bytes: u64,
}

impl Taker<'_> {
    fn take(&mut self, walk: &Walk, name: &CStr) -> Result<()> {
        let log = walk.open_file(name)?;
        let take_bytes = log.size().min(FILE_LIMIT_BYTES).min(self.left_bytes);
        self.adopted.cut += usize::from(take_bytes < log.size());
        self.left_bytes -= take_bytes;
        let path = walk.relative(name);
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if !parent.as_os_str().is_empty() && self.to.kind(parent)?.is_none() {
                self.to.make_dir(parent, 0o755)?;
            }
        }
        // An earlier run of the same session may have left a log of this name.
        self.to.unlink(path)?;
        let made = self.to.create(path, 0o644)?;
        end_of(&log, take_bytes, &made)?;
        self.adopted.files += 1;
        Ok(())
    }
}

/// Copies the last `count` bytes.
fn end_of(log: &Plain, count: u64, to: &File) -> Result<()> {
    if count == log.size() {
        return copy_plain(log, to);
    }
    let failed = |error: std::io::Error| Error::io("copy", log.shown(), error);
    let mut from = &log.file;
    from.seek(SeekFrom::Start(log.size() - count)).map_err(failed)?;
    std::io::copy(&mut std::io::Read::take(from, count), &mut &*to).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn logs_become_plain_readable_files_that_no_session_has_open() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("session"), dir.path().join("logs"));
        let deep = from.join("build/app-misc");
        std::fs::create_dir_all(&deep).expect("mkdir");
        std::fs::create_dir(&to).expect("mkdir");
        let flat = "app-misc:broken-1:20261122-090000.log";
        for path in [from.join(flat), deep.join("broken-1:20261122-090000.log")] {
            std::fs::write(&path, "log").expect("write");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4660)).expect("chmod");
        }
        let mut open = File::options().append(true).open(from.join(flat)).expect("open");
        std::fs::write(dir.path().join("secret"), "secret").expect("write");
        symlink(dir.path().join("secret"), from.join("a.log")).expect("symlink");
        symlink(dir.path(), from.join("elog")).expect("symlink");
        rustix::fs::mkfifoat(rustix::fs::CWD, deep.join("b.log"), rustix::fs::Mode::RWXU).expect("mkfifo");
        drop(std::os::unix::net::UnixListener::bind(from.join("socket")).expect("bind"));
        std::fs::hard_link(from.join(flat), from.join("same.log")).expect("link");
        // Nor does what is there already lead anywhere.
        symlink(dir.path().join("secret"), to.join(flat)).expect("symlink");

        let target = TreeDir::open(&to).expect("open");
        assert_eq!(adopt(&from, &target).expect("adopt"), Adopted { files: 3, removed: 4, cut: 0 });
        assert_eq!(std::fs::read_dir(&from).expect("list").count(), 0);
        let mut names: Vec<String> = std::fs::read_dir(&to)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, [flat, "build", "same.log"]);
        let meta = std::fs::symlink_metadata(to.join("build/app-misc/broken-1:20261122-090000.log")).expect("stat");
        assert!(meta.is_file() && meta.mode() & 0o7133 == 0, "{:o}", meta.mode());
        std::io::Write::write_all(&mut open, b"changed").expect("write");
        for name in [flat, "same.log"] {
            assert_eq!(std::fs::read_to_string(to.join(name)).expect("read"), "log");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("secret")).expect("read"), "secret");

        // Another run of the same session.
        std::fs::write(from.join(flat), "again").expect("write");
        File::create(from.join("hole.log")).expect("create").set_len(4 << 40).expect("grow");
        assert_eq!(adopt(&from, &target).expect("adopt"), Adopted { files: 2, removed: 0, cut: 1 });
        assert_eq!(std::fs::read_to_string(to.join(flat)).expect("read"), "again");
        assert_eq!(std::fs::metadata(to.join("hole.log")).expect("stat").len(), FILE_LIMIT_BYTES);
        assert!(lookup(ADOPT).is_some() && lookup("other").is_none());
    }

    #[test]
    fn no_such_directory() {
        let to = tempfile::tempdir().expect("tempdir");
        let error = adopt(Path::new("/nonexistent/logs"), &TreeDir::open(to.path()).expect("open")).expect_err("no directory");
        assert_eq!(error.to_string(), "cannot open `/nonexistent/logs`");
    }
}
