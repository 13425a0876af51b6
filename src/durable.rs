//! Writing files so that a crash or power cut leaves either the old or the new version, and so that they are on the disk when we say so.
//!
//! ```text
//! write a new file with another name   fsync it   rename it over the old one   fsync the directory
//! fill a new directory                 syncfs     rename it                    fsync the directory
//! ```
//!
//! Without the first sync, a file can be empty or full of zeros after a power cut although its rename survived. Without the second, the
//! rename itself can be lost after we have told the user that it is done. A file is locked as long as it is written, so that
//! [`sweep`] can tell it from what a killed process has left. All code that writes small files uses this module
//! (`scripts/source-rules` checks that).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode as Permitted, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::path_error::PathError;

/// Makes the names of new files differ within one process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) type Result<T> = std::result::Result<T, PathError>;

/// The permissions of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Exactly these, whatever the umask is.
    Exactly(u32),
    /// These without the bits of the umask.
    AtMost(u32),
}

/// How a file is replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replace<'a> {
    pub mode: Mode,
    /// Where it is written first, on the same file system; by default beside the target, under a hidden name.
    pub staging: Option<&'a Path>,
    /// Its modification time; now if `None`.
    pub modified: Option<SystemTime>,
}

impl Replace<'_> {
    /// Beside the old one, with this mode.
    pub(crate) fn with_mode(mode: Mode) -> Self {
        Self { mode, staging: None, modified: None }
    }

    /// Replaces `target`, or creates it. On failure the old file is unchanged.
    pub(crate) fn replace(self, target: &Path, bytes: &[u8]) -> Result<()> {
        let (Mode::Exactly(mode) | Mode::AtMost(mode)) = self.mode;
        let mut new = match self.staging {
            Some(dir) => Unfinished::staged(dir, target, mode)?,
            None => Unfinished::beside(target, mode)?,
        };
        self.permit(&new.file)
            .and_then(|()| new.file.write_all(bytes))
            .and_then(|()| self.modified.map_or(Ok(()), |time| new.file.set_modified(time)))
            .map_err(PathError::of("write", target))?;
        sync(&new.file, target)?;
        new.finish(target)?;
        sync_parent(target)
    }

    fn permit(&self, file: &File) -> io::Result<()> {
        match self.mode {
            Mode::Exactly(mode) => file.set_permissions(Permissions::from_mode(mode)),
            Mode::AtMost(_) => Ok(()),
        }
    }
}

/// A file that is written under a hidden name of its own, `.NAME.PID-N.new`. If it is dropped before it is finished, it is removed. Whoever
/// swaps the name of its directory for a link meanwhile leads nothing of ours away.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub file: File,
    dir: OwnedFd,
    /// Empty once it has its name.
    hidden: String,
}

impl Unfinished {
    /// Beside `target`, with a mode that the umask restricts. What killed processes have left there is removed.
    pub(crate) fn beside(target: &Path, mode: u32) -> Result<Self> {
        sweep_once(parent_of(target));
        Self::staged(parent_of(target), target, mode)
    }

    fn staged(dir: &Path, target: &Path, mode: u32) -> Result<Self> {
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Permitted::empty());
        Self::create(dir.map_err(PathError::of("write", target))?, target, mode)
    }

    /// In an open directory, under an unused name: a killed process with our PID may have left one, so that alone is not unique. Of `target`
    /// the last name counts; the rest is for messages.
    pub(crate) fn create(dir: OwnedFd, target: &Path, mode: u32) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let hidden = unfinished_name(&name);
            match rustix::fs::openat(&dir, &*hidden, flags, Permitted::from_raw_mode(mode)) {
                Ok(file) => {
                    let file = File::from(file);
                    // A sweep that came between may have it, or have removed it.
                    if lock(&file) && file.metadata().is_ok_and(|meta| meta.nlink() > 0) {
                        return Ok(Self { file, dir, hidden });
                    }
                }
                Err(Errno::EXIST) => {}
                Err(source) => return Err(PathError::new("write", target, source)),
            }
        }
    }

    /// The same file, to be read.
    pub(crate) fn open_again(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.dir, &*self.hidden, flags, Permitted::empty());
        opened.map(File::from).map_err(PathError::of("open", &*self.hidden))
    }

    /// Gives the file its name, over one that is there.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        self.rename(CWD, target.as_os_str(), target)
    }

    /// The same in its own directory, once it is on the disk. The caller syncs the directory.
    pub(crate) fn finish_here(self, target: &Path) -> Result<()> {
        sync(&self.file, target)?;
        let dir = self.dir.try_clone().map_err(PathError::of("replace", target))?;
        self.rename(dir.as_fd(), target.file_name().unwrap_or_default(), target)
    }

    fn rename(mut self, dir: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<()> {
        rustix::fs::renameat(&self.dir, &*self.hidden, dir, name).map_err(PathError::of("replace", shown))?;
        record("rename", shown);
        self.hidden.clear();
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.hidden.is_empty() {
            // The error that led here is reported, not that of the removal.
            let _ = rustix::fs::unlinkat(&self.dir, &*self.hidden, AtFlags::empty());
        }
    }
}

/// The next name of this process for what is to be called `name`: `.NAME.PID-N.new`.
fn unfinished_name(name: &str) -> String {
    format!(".{name}.{}-{}.new", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Locks a file for its writer. True where a file system has no locks: there nothing is swept.
pub(crate) fn lock(file: &File) -> bool {
    !matches!(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

/// [`sweep`] where this process has not done so yet: a directory of thousands of files is not listed for each of them.
fn sweep_once(dir: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned()) {
        sweep(dir);
    }
}

/// Removes the files in `dir` that killed processes have left unfinished.
pub(crate) fn sweep(dir: &Path) {
    let Ok(opened) = File::open(dir) else { return };
    let names = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    sweep_in(opened.as_fd(), names);
}

/// The same in an open directory, which has these names. What cannot be removed is in nobody's way.
pub(crate) fn sweep_in(dir: BorrowedFd<'_>, names: impl IntoIterator<Item: AsRef<str>>) {
    // NFS locks only what is open for writing. A FIFO without a reader cannot be opened so.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    for name in names {
        let name = name.as_ref();
        if !is_unfinished(name) {
            continue;
        }
        let Ok(file) = rustix::fs::openat(dir, name, flags, Permitted::empty()).map(File::from) else { continue };
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        // Whoever writes it has the lock, which is ours until the file is gone: else somebody could begin to write it in between. Without
        // locks nothing is swept.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let swept = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            tracing::debug!(name, ?swept, "left by a process that was killed");
        }
    }
}

/// Whether a name is `.NAME.PID-N.new`.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).and_then(|name| name.rsplit_once('.'));
    number.and_then(|(_, number)| number.split_once('-')).is_some_and(|(pid, count)| digits(pid) && digits(count))
}

/// Replaces `target`, or creates it, with this mode.
pub(crate) fn replace(target: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    Replace::with_mode(mode).replace(target, bytes)
}

/// Renames a finished file, or a directory whose contents are synced, to `to`, replacing a file that is there.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    sync_file(from)?;
    rename_over(from, to)?;
    sync_parents(from, to)
}

/// As [`publish`], but fails with `AlreadyExists` if the name is taken.
pub(crate) fn publish_new(from: &Path, to: &Path) -> Result<()> {
    sync_file(from)?;
    let renamed = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems (NFS) and emulated kernels do not know `RENAME_NOREPLACE`.
        Err(Errno::INVAL | Errno::NOSYS) => move_to_free(from, to),
        other => other.map_err(io::Error::from),
    };
    renamed.map_err(PathError::of("publish", to))?;
    record("rename", to);
    sync_parents(from, to)
}

/// Syncs a directory with all its contents and renames it to `to`, which must not exist.
pub(crate) fn publish_tree(from: &Path, to: &Path) -> Result<()> {
    sync_tree(from)?;
    rename_over(from, to)?;
    sync_parents(from, to)
}

/// Swaps two directories in one step; the old one has the new one's name afterwards.
pub(crate) fn exchange_trees(new: &Path, old: &Path) -> Result<()> {
    sync_tree(new)?;
    rustix::fs::renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).map_err(PathError::of("replace", old))?;
    record("rename", old);
    sync_parents(new, old)
}

/// Removes a file, if it exists. Nothing is synced: after a power cut it may be there again.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PathError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Syncs a tree, and with it the rest of its file system: one `syncfs` is much faster than an `fsync` for each file.
pub(crate) fn sync_tree(dir: &Path) -> Result<()> {
    let opened = File::open(dir).map_err(PathError::of("open", dir))?;
    rustix::fs::syncfs(&opened).map_err(PathError::of("sync", dir))?;
    record("syncfs", dir);
    Ok(())
}

/// Syncs the entries of a directory.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let opened = File::open(dir).map_err(PathError::of("open", dir))?;
    sync(&opened, dir)
}

/// Creates a directory and its missing parents; each is synced before the next one is made in it.
pub(crate) fn make_dirs(dir: &Path, mode: Mode) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent, mode)?;
    }
    let (Mode::Exactly(bits) | Mode::AtMost(bits)) = mode;
    match fs::DirBuilder::new().mode(bits).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
        Err(source) => return Err(PathError::new("create", dir, source)),
    }
    if let Mode::Exactly(bits) = mode {
        // `mkdir` subtracts the umask.
        fs::set_permissions(dir, Permissions::from_mode(bits)).map_err(PathError::of("change the mode of", dir))?;
    }
    sync_parent(dir)
}

fn sync_file(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(PathError::of("open", path))?;
    sync(&file, path)
}

fn sync(file: &File, shown: &Path) -> Result<()> {
    file.sync_all().map_err(PathError::of("write", shown))?;
    record("fsync", shown);
    Ok(())
}

fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(parent_of(path))
}

fn sync_parents(from: &Path, to: &Path) -> Result<()> {
    sync_parent(to)?;
    // A rename across directories changes two of them; `fsync` of one does not write the other.
    if parent_of(from) == parent_of(to) { Ok(()) } else { sync_parent(from) }
}

fn rename_over(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(PathError::of("replace", to))?;
    record("rename", to);
    Ok(())
}

fn move_to_free(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        fs::hard_link(from, to)?;
        return fs::remove_file(from);
    }
    // A directory has no second link. Its rename replaces nothing but an empty directory.
    match fs::rename(from, to) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory) => Err(Errno::EXIST.into()),
        renamed => renamed,
    }
}

/// The parent of a path; `.` for a name alone.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Notes a call that succeeded, for tests that check the order.
#[cfg_attr(not(test), expect(unused_variables, clippy::missing_const_for_fn, reason = "only tests look"))]
fn record(call: &str, path: &Path) {
    #[cfg(test)]
    tests::note(call, path);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static CALLS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    }

    pub(super) fn note(call: &str, path: &Path) {
        CALLS.with_borrow_mut(|calls| calls.iter_mut().for_each(|calls| calls.push(format!("{call} {}", path.display()))));
    }

    /// What `run` has brought to the disk, call by call, paths from `top`.
    pub(crate) fn calls<T>(top: &Path, run: impl FnOnce() -> T) -> (T, Vec<String>) {
        CALLS.set(Some(Vec::new()));
        let answer = run();
        let calls = CALLS.take().unwrap_or_default();
        let top = top.display().to_string();
        (answer, calls.into_iter().map(|call| call.replace(&format!("{top}/"), "").replace(&top, ".")).collect())
    }

    #[test]
    fn the_file_is_on_the_disk_before_its_name_and_both_before_success() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let target = top.join("a/b/file");
        let (made, log) = calls(top, || make_dirs(target.parent().unwrap(), Mode::Exactly(0o700)));
        made.unwrap();
        assert_eq!(log, ["fsync .", "fsync a"]);
        for text in ["old", "new"] {
            let (replaced, log) = calls(top, || replace(&target, text.as_bytes(), Mode::Exactly(0o640)));
            replaced.unwrap();
            assert_eq!(log, ["fsync a/b/file", "rename a/b/file", "fsync a/b"]);
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
        }
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o640);
        let (published, log) = calls(top, || publish(&target, &top.join("moved")));
        published.unwrap();
        assert_eq!(log, ["fsync a/b/file", "rename moved", "fsync .", "fsync a/b"]);
        fs::write(&target, "again").unwrap();
        let error = publish_new(&target, &top.join("moved")).unwrap_err();
        assert_eq!(
            (error.source.kind(), error.to_string()),
            (ErrorKind::AlreadyExists, format!("cannot publish `{}`", top.join("moved").display()))
        );
        let (published, log) = calls(top, || publish_tree(&top.join("a"), &top.join("c")));
        published.unwrap();
        assert_eq!(log, ["syncfs a", "rename c", "fsync ."]);
        fs::create_dir(top.join("d")).unwrap();
        let (exchanged, log) = calls(top, || exchange_trees(&top.join("d"), &top.join("c")));
        exchanged.unwrap();
        assert_eq!(log, ["syncfs d", "rename c", "fsync ."]);
        assert!(top.join("d/b/file").exists());
    }

    #[test]
    fn failure_names_the_target_and_leaves_what_was_there_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("occupied");
        fs::create_dir(&target).unwrap();
        let error = replace(&target, b"x", Mode::AtMost(0o666)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot replace `{}`", target.display()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let staging = dir.path().join("none");
        let elsewhere = Replace { staging: Some(&staging), ..Replace::with_mode(Mode::AtMost(0o666)) };
        let error = elsewhere.replace(&dir.path().join("file"), b"x").unwrap_err();
        assert_eq!((error.doing, error.source.kind()), ("write", ErrorKind::NotFound));
    }

    #[test]
    fn file_systems_without_noreplace() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::write(path(name), name).unwrap();
        }
        assert_eq!(move_to_free(&path("a"), &path("b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        move_to_free(&path("a"), &path("c")).unwrap();
        assert!(!path("a").exists() && fs::read(path("c")).unwrap() == b"a");
        for name in ["dir/file", "full/file"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for taken in ["c", "full"] {
            assert_eq!(move_to_free(&path("dir"), &path(taken)).unwrap_err().kind(), ErrorKind::AlreadyExists, "{taken}");
        }
        move_to_free(&path("dir"), &path("moved")).unwrap();
        assert!(!path("dir").exists() && path("moved/file").exists());
    }

    #[test]
    fn what_a_killed_process_has_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..64 {
            fs::write(dir.path().join(format!(".file.{}-{number}.new", std::process::id())), "theirs").unwrap();
        }
        replace(&dir.path().join("file"), b"mine", Mode::AtMost(0o666)).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
    }

    #[test]
    fn a_sweep_takes_what_nobody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let kept = [".a.1-2.old", ".a.1.new", ".a.x-1.new", "a.1-2.new", "lists.json"];
        for name in kept.iter().chain(&[".lists.json.1-0.new", ".a.b.77-12.new"]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".d.1-1.new")).unwrap();
        let new = Unfinished::beside(&dir.path().join("mine"), 0o600).unwrap();
        sweep(dir.path());
        assert_eq!(names().len(), kept.len() + 2);
        assert!(dir.path().join(&new.hidden).exists());
        drop(new);
        assert_eq!(names(), [&kept[..1], &[".a.1.new", ".a.x-1.new", ".d.1-1.new", "a.1-2.new", "lists.json"]].concat());
        let new = Unfinished::beside(&dir.path().join("mine"), 0o600).unwrap();
        new.finish(&dir.path().join("mine")).unwrap();
        sweep(&dir.path().join("mine"));
        assert!(names().contains(&"mine".into()) && names().len() == kept.len() + 2);
    }
}
