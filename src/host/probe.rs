//! Checks that need a try: overlayfs in the data directory, and a whole session.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::sandbox::plan::{CommandLine, Network, Plan, Step};
use crate::sandbox::{self, Exit, Launcher, SessionOptions, Stdio, TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::sys;
use crate::sys::mount::{Attributes, NewFileSystem};
use crate::sys::overlay::{Layer, Overlay, Writable};

/// Mounts an overlay in an empty directory and tries what layers need. Input: the directory.
pub(crate) const TASK_OVERLAY: &str = "host.overlay";

/// The tasks of this module.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == TASK_OVERLAY).then_some(overlay_task as TaskFn)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OverlayInput {
    /// An empty directory of the user's, on the file system in question.
    dir: PathBuf,
    /// Only mounts one, on a file system in memory.
    in_memory: bool,
}

/// Which step failed, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
enum OverlayError {
    #[error("cannot {action} in an overlay")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount an overlay")]
    Mount(#[source] sys::Error),
    #[error("removing a file left no whiteout in the upper directory")]
    NoWhiteout,
}

impl OverlayError {
    /// For whoever asked, who gets nothing but words and this.
    fn kind(&self) -> &'static str {
        match self {
            Self::Mount(error) if error.errno() == Some(libc::ENODEV) => MISSING,
            Self::Mount(error) if error.errno() == Some(libc::EPERM) => NOT_FOR_USERS,
            _ => "overlay",
        }
    }
}

/// The kernel has no overlayfs.
pub(super) const MISSING: &str = "overlay-missing";
/// It has one, which only root of the host can mount.
pub(super) const NOT_FOR_USERS: &str = "overlay-not-for-users";

fn overlay_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: OverlayInput = context.input_as()?;
    let tried = if input.in_memory { try_in_memory(&input.dir).map_err(OverlayError::Mount) } else { try_overlay(&input.dir) };
    // By this very process: a limit may allow no other namespace beside this one.
    let mounted = if input.in_memory { input.dir.clone() } else { input.dir.join("merged") };
    let _ = sys::mount::unmount(&mounted);
    if let Err(error) = beneath::remove_tree(&input.dir) {
        tracing::debug!(%error, "to be removed by another process");
    }
    tried.map_err(|error| TaskFailure::of(error.kind(), &error))?;
    Ok(serde_json::Value::Null)
}

fn try_overlay(dir: &Path) -> Result<(), OverlayError> {
    let failed = |action| move |source| OverlayError::Io { action, source };
    let [lower, upper, work, merged] = INSIDE.map(|name| dir.join(name));
    for path in [&lower, &upper, &work, &merged] {
        fs::create_dir(path).map_err(failed("make a directory"))?;
    }
    for name in ["gone", "renamed", "owned"] {
        fs::write(lower.join(name), name).map_err(failed("write a file"))?;
    }
    mount(&lower, &upper, &work, &merged).map_err(OverlayError::Mount)?;
    // Deleting a file of a lower layer makes a whiteout: a character device, which an ordinary user may only make since Linux 5.8.
    fs::remove_file(merged.join("gone")).map_err(failed("remove a file"))?;
    let whiteout = fs::symlink_metadata(upper.join("gone")).map_err(failed("look for a whiteout"))?;
    if !whiteout.file_type().is_char_device() {
        return Err(OverlayError::NoWhiteout);
    }
    fs::rename(merged.join("renamed"), merged.join("other")).map_err(failed("rename a file"))?;
    std::os::unix::fs::chown(merged.join("owned"), Some(250), Some(250)).map_err(failed("give a file to another user"))?;
    let value = b"value";
    rustix::fs::setxattr(merged.join("owned"), c"user.gentoomuch", value, rustix::fs::XattrFlags::empty())
        .map_err(|errno| OverlayError::Io { action: "set an extended attribute", source: errno.into() })?;
    fs::create_dir_all(merged.join("deep/er")).map_err(failed("make a directory"))?;
    fs::rename(merged.join("deep"), merged.join("deeper")).map_err(failed("rename a directory"))?;
    Ok(())
}

/// Whether the kernel mounts overlays for users at all.
fn try_in_memory(dir: &Path) -> Result<(), sys::Error> {
    let tmpfs = NewFileSystem::open("tmpfs")?.mount(Attributes::TEMPORARY)?;
    sys::mount::attach(tmpfs.as_fd(), sys::overlay::open_directory(dir)?.as_fd(), dir.display())?;
    let [lower, upper, work, merged] = INSIDE.map(|name| dir.join(name));
    for path in [&lower, &upper, &work, &merged] {
        fs::create_dir(path).map_err(sys::Error::of("mkdir", path.display()))?;
    }
    mount(&lower, &upper, &work, &merged)
}

fn mount(lower: &Path, upper: &Path, work: &Path, merged: &Path) -> Result<(), sys::Error> {
    let (lower, upper, work) = ([Layer::open(lower)?], Layer::open(upper)?, Layer::open(work)?);
    let overlay = Overlay { lower: &lower, writable: Some(Writable { upper: &upper, work: &work, volatile: true }) };
    overlay.mount_on(merged, true).map(drop)
}

/// Tries overlayfs in `dir`, which exists, and leaves nothing there.
pub(super) fn overlay(launcher: &Launcher, dir: &Path) -> Result<(), sandbox::Error> {
    in_area(launcher, dir, false)
}

/// Tries to mount an overlay that has nothing to do with the file system of `dir`.
pub(super) fn any_overlay(launcher: &Launcher, dir: &Path) -> Result<(), sandbox::Error> {
    in_area(launcher, dir, true)
}

fn in_area(launcher: &Launcher, dir: &Path, in_memory: bool) -> Result<(), sandbox::Error> {
    // Whether what others have left can be removed says nothing about this host.
    if let Err(error) = remove(launcher, &left_areas(dir)) {
        tracing::debug!(%error, "the next probe removes what was left in {}", dir.display());
    }
    let area = new_area(dir).map_err(sys::Error::of("mkdir", dir.display()))?;
    let options = TaskOptions { mounts: true, ..TaskOptions::default() };
    let result = launcher.task(TASK_OVERLAY, &OverlayInput { dir: area.path.clone(), in_memory }, options, &mut |_| {}).map(drop);
    result.and(remove(launcher, &[area]))
}

/// Removes areas, which are locked, unless the helper has done so: by now another process may have made one of the same name.
fn remove(launcher: &Launcher, areas: &[Area]) -> Result<(), sandbox::Error> {
    // What could not even begin has left an empty directory.
    let paths = areas.iter().filter(|area| area.is_there() && fs::remove_dir(&area.path).is_err()).map(|area| area.path.clone());
    let paths: Vec<PathBuf> = paths.collect();
    if paths.is_empty() {
        return Ok(());
    }
    let input = crate::store::tasks::RemoveInput { paths };
    launcher.task(crate::store::tasks::REMOVE_TREE, &input, TaskOptions::default(), &mut |_| {}).map(drop)
}

/// A directory to try things in. Its lock ends with the process, so an area without one was left by a process that was killed.
#[derive(Debug)]
struct Area {
    path: PathBuf,
    lock: OwnedFd,
}

/// An area is called so, then the process id, `-` and a number.
const AREA: &str = ".gentoomuch-doctor-";
/// All that lies in one.
const INSIDE: [&str; 4] = ["lower", "upper", "work", "merged"];
/// So many are tried, and so many that were left are removed at a time.
const MOST_AREAS: usize = 64;

impl Area {
    fn open(path: PathBuf) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, lock })
    }

    fn lock(&self) -> rustix::io::Result<()> {
        rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether the path still leads to it: another process may have removed it before it was locked.
    fn is_there(&self) -> bool {
        let is_same = |stat: rustix::fs::Stat| {
            fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (stat.st_dev, stat.st_ino))
        };
        rustix::fs::fstat(&self.lock).is_ok_and(is_same)
    }

    /// In a directory that others may write, they could give this name to another directory of ours.
    fn is_ours(&self) -> bool {
        let is_known =
            |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| INSIDE.iter().any(|name| entry.file_name() == *name));
        rustix::fs::fstat(&self.lock).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw())
            && fs::read_dir(&self.path).is_ok_and(|mut entries| entries.all(is_known))
    }
}

/// A new directory. One of the same name may be there: a container gives every first process the same number.
fn new_area(dir: &Path) -> io::Result<Area> {
    for number in 0..MOST_AREAS {
        let path = dir.join(format!("{AREA}{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        let area = Area::open(path.clone()).inspect_err(|_| drop(fs::remove_dir(&path)))?;
        // Where files cannot be locked, nothing that was left is removed either.
        if area.lock() != Err(Errno::WOULDBLOCK) && area.is_there() {
            return Ok(area);
        }
        // Another process took it for one that was left, and removes it.
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Those that killed processes have left in `dir`.
fn left_areas(dir: &Path) -> Vec<Area> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(AREA)?.split_once('-'));
        numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().filter(is_name).take(MOST_AREAS);
    let areas = entries.filter_map(|entry| Area::open(entry.path()).ok()).filter(Area::is_ours);
    areas.filter(|area| area.lock().is_ok() && area.is_there()).collect()
}

/// Why a session came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("`true` ended with {0}")]
    Ended(Exit),
}

/// Starts a session on the host's own root, read-only, that runs `true`.
pub(super) fn session(launcher: &Launcher) -> Result<(), SessionError> {
    let mut steps = vec![Step::BindRoot { source: "/".into(), read_only: true }];
    steps.extend(Step::standard(launcher.isolation().proc()));
    steps.push(Step::PivotRoot);
    let plan = Plan {
        hostname: "doctor".to_owned(),
        network: Network::None,
        steps,
        command: CommandLine {
            argv: vec!["true".to_owned()],
            env: vec![("PATH".to_owned(), "/usr/bin:/bin:/run/current-system/sw/bin".to_owned())],
            login: false,
            cwd: "/".into(),
        },
        terminal: false,
    };
    let mut running = match launcher.session(&plan, SessionOptions::new(Stdio::Null)) {
        // All was made, and the host has no such program.
        Err(sandbox::Error::CommandNotFound { .. }) => return Ok(()),
        started => started?,
    };
    let exit = running.wait()?;
    if exit.success() { Ok(()) } else { Err(SessionError::Ended(exit)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_first_process_has_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let first = new_area(dir.path()).unwrap();
        fs::write(first.path.join("left"), "").unwrap();
        let second = new_area(dir.path()).unwrap();
        assert!(second.path != first.path && first.path.join("left").exists());
    }

    #[test]
    fn what_a_killed_process_has_left_is_found_and_what_is_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (used, left) = (new_area(dir.path()).unwrap(), dir.path().join(".gentoomuch-doctor-1-0"));
        fs::create_dir_all(left.join("work")).unwrap();
        // Neither a link, nor what only has such a name, nor what holds something else.
        std::os::unix::fs::symlink(&left, dir.path().join(".gentoomuch-doctor-1-1")).unwrap();
        fs::create_dir(dir.path().join(".gentoomuch-doctor-notes")).unwrap();
        fs::create_dir_all(dir.path().join(".gentoomuch-doctor-1-2/thesis")).unwrap();
        let found: Vec<PathBuf> = left_areas(dir.path()).into_iter().map(|area| area.path).collect();
        assert_eq!(found, [left]);
        assert!(used.path.exists());
        assert!(left_areas(&dir.path().join("none")).is_empty());
    }
}
