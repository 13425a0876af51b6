//! Removing a tree, whatever is in it.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::walk::{self, TreeError, Walk};

/// How often a directory is emptied again when something keeps appearing in it.
const ROUNDS: usize = 8;

/// Removes `path` with all below it: no symbolic link is followed, no mount entered, and directories without permissions (overlayfs makes its
/// `work/work` with mode 000) are given some first. What vanishes meanwhile, `path` itself included, is as good as removed.
///
/// # Panics
///
/// Never: the walk is left only at its end.
pub fn remove_tree(path: &Path) -> Result<(), TreeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TreeError::io("remove", path, Errno::INVAL));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(TreeError::io("open", parent, e)),
    };
    let name = CString::new(name.as_bytes()).map_err(|e| TreeError::io("remove", path, std::io::Error::from(e)))?;
    let failed = |e: Errno| error(e, path);
    match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(failed(e)),
    }
    for _ in 0..ROUNDS {
        match open_accessible(parent.as_fd(), &name) {
            Ok(fd) => empty(Walk::new(fd, path)?)?,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed(e)),
        }
        match rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(failed(Errno::NOTEMPTY))
}

/// Removes everything below the directory that the walk begins in.
fn empty(mut walk: Walk) -> Result<(), TreeError> {
    loop {
        while let Some(entry) = walk.next_name() {
            if entry.kind == FileType::Directory {
                descend(&mut walk, &entry.name)?;
            } else {
                unlink(&mut walk, &entry.name)?;
            }
        }
        let Some(name) = walk.leave()? else { return Ok(()) };
        match rustix::fs::unlinkat(walk.dir(), &name, AtFlags::REMOVEDIR) {
            // Not empty: somebody has added to it, and the outermost call begins again.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
            Err(e) => return Err(error(e, &walk.path_of(&name))),
        }
    }
}

fn descend(walk: &mut Walk, name: &CStr) -> Result<(), TreeError> {
    let result = open_accessible(walk.dir(), name).and_then(|fd| walk.enter_opened(name, fd));
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Another thing has taken the name.
        Err(Errno::NOTDIR | Errno::LOOP) => unlink(walk, name),
        Err(e) => Err(error(e, &walk.path_of(name))),
    }
}

fn unlink(walk: &mut Walk, name: &CStr) -> Result<(), TreeError> {
    match rustix::fs::unlinkat(walk.dir(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // File systems that do not tell types in listings.
        Err(Errno::ISDIR) => descend(walk, name),
        Err(e) => Err(error(e, &walk.path_of(name))),
    }
}

/// Opens a directory, made listable and changeable for its owner if it is not.
fn open_accessible(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let text = OsStr::from_bytes(name.to_bytes());
    let fd = match walk::open_child(parent, text) {
        Err(Errno::ACCESS) => {
            // A descriptor that needs no permission, and through it the mode: `fchmodat` would follow a link put in its place.
            let handle = rustix::fs::openat(
                parent,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            rustix::fs::chmod(through.as_str(), Mode::RWXU)?;
            walk::open_child(parent, text)?
        }
        other => other?,
    };
    if rustix::fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
        // Refused for another owner's directory; then the removal itself says what is wrong.
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
    Ok(fd)
}

fn error(errno: Errno, path: &Path) -> TreeError {
    match errno {
        Errno::XDEV => TreeError::Mounted { path: path.to_owned() },
        e => TreeError::io("remove", path, e),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A chain of directories too deep for paths and descriptors, with a file in each.
    pub(in super::super) fn deep(top: &Path, levels: usize, name: &CStr) {
        fs::create_dir(top).unwrap();
        let mut at = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
            rustix::fs::openat(&at, c"file", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).unwrap();
        }
    }

    fn long_name() -> CString {
        CString::new("d".repeat(200)).unwrap()
    }

    #[test]
    fn deep_trees() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("t");
        deep(&top, 400, &long_name());
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("t"), dir.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        fs::create_dir(&top).unwrap();
        symlink(&outside, top.join("link")).unwrap();
        symlink("/nonexistent", top.join("dangling")).unwrap();
        remove_tree(&top).unwrap();
        assert!(outside.join("precious").exists());
        // Named itself, a link is removed as a link.
        symlink(&outside, &top).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.is_symlink() && outside.join("precious").exists());
    }

    /// As root this passes for another reason; the suite is run as an ordinary user too.
    #[test]
    fn directories_without_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("t");
        fs::create_dir_all(top.join("work/work/inner")).unwrap();
        fs::write(top.join("work/work/inner/f"), "").unwrap();
        for (path, mode) in [("work/work/inner", 0o400), ("work/work", 0o000), ("work", 0o555), ("", 0o000)] {
            fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn several_may_remove_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("t");
        fs::create_dir(&top).unwrap();
        for i in 0..4 {
            deep(&top.join(format!("deep{i}")), 90, c"d");
            for j in 0..50 {
                fs::write(top.join(format!("{i}-{j}")), "").unwrap();
            }
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(|| remove_tree(&top))).collect();
            for worker in workers {
                worker.join().unwrap().unwrap();
            }
        });
        assert!(!top.exists());
    }

    #[test]
    fn the_way_back_up_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("t");
        deep(&top, 100, c"d");
        let mut walk = Walk::open(&top).unwrap();
        for _ in 0..100 {
            walk.enter(c"d").unwrap();
        }
        // The innermost directory is taken elsewhere while we are in it; what we kept open is not affected, what we closed is.
        let middle: std::path::PathBuf = std::iter::once(top.clone()).chain((0..20).map(|_| "d".into())).collect();
        fs::rename(&middle, dir.path().join("elsewhere")).unwrap();
        let error = std::iter::from_fn(|| walk.leave().transpose()).find_map(Result::err).unwrap();
        let expected = format!("`{}` was moved while it was read", middle.display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn messages_name_the_path() {
        let error = remove_tree(Path::new("/proc/self/environ")).unwrap_err();
        assert_eq!(error.to_string(), "cannot remove `/proc/self/environ`");
        assert_eq!(self::error(Errno::XDEV, Path::new("/a")).to_string(), "something is mounted on `/a`");
    }
}
