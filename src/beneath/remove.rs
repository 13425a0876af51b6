//! Removes a tree, whatever is in it.
//!
//! No symbolic link is followed and no mount is entered. A directory without permissions gets some first (overlayfs makes its `work/work`
//! with mode 000). Names are read a few at a time and directories far above are closed, so that neither width nor depth costs memory or
//! descriptors.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::resolve::Way;
use super::walk::{open_child, reopen_parent};

/// How often a directory is emptied again if something keeps appearing in it.
const ROUNDS: usize = 8;
/// How many directories are open at once.
const OPEN_LIMIT: usize = 64;
/// How many names of a directory are read at a time.
const NAMES_AT_A_TIME: usize = 4096;

/// Whether this is the name that NFS or a FUSE file system gives a file that was removed while a process has it open: `.nfs` and the file's
/// number (`nfs_sillyrename`), `.fuse_hidden` and the like (libfuse's `hidden_name`).
pub(crate) fn is_held_open(name: &OsStr) -> bool {
    let number = |prefix: &[u8]| name.as_bytes().strip_prefix(prefix);
    let number = number(b".nfs").or_else(|| number(b".fuse_hidden"));
    number.is_some_and(|number| number.len() >= 8 && number.iter().all(u8::is_ascii_hexdigit))
}

/// Removes `path`, which only we make, with all that is below it. What vanishes meanwhile counts as removed, also `path` itself.
///
/// # Errors
///
/// [`Error::HeldOpen`] if nothing is left but what was removed already ([`is_held_open`]) and the directories above it.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::io("remove", path, Errno::INVAL));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => remove_at(Way::default(), parent.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("open", parent, errno)),
    }
}

/// Removes `name` in `parent` with all below it.
pub(super) fn remove_at(way: Way, parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<()> {
    let name = CString::new(name.as_bytes()).map_err(|error| Error::io("remove", shown, std::io::Error::from(error)))?;
    let failed = |errno| failure(errno, shown);
    match rustix::fs::unlinkat(parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux answers `EISDIR` for a directory, POSIX wants `EPERM` (unlink(2)).
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(failed(errno)),
    }
    for _ in 0..ROUNDS {
        let mut remover = Remover { way, top: shown.to_owned(), levels: Vec::new(), held: None };
        match open_accessible(way, parent, &name) {
            Ok(fd) => remover.empty(fd)?,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        }
        if let Some(path) = remover.held {
            return Err(Error::HeldOpen { path });
        }
        match rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::NOTEMPTY))
}

/// A directory that is being emptied.
#[derive(Debug)]
struct Level {
    name: CString,
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    /// Names that were read and are still to be removed. The last one is next.
    names: Vec<(CString, bool)>,
    /// The directory may have more names than were read.
    more: bool,
    /// How often it may still be read to its end: somebody may keep adding to it.
    readings_left: usize,
}

#[derive(Debug)]
struct Remover {
    way: Way,
    top: PathBuf,
    levels: Vec<Level>,
    /// What cannot be removed before a process closes it.
    held: Option<PathBuf>,
}

impl Remover {
    /// Removes everything below `fd`.
    fn empty(&mut self, fd: OwnedFd) -> Result<()> {
        self.push(CString::default(), fd).map_err(|errno| failure(errno, &self.top))?;
        while let Some(level) = self.levels.last_mut() {
            if let Some((name, is_directory)) = level.names.pop() {
                if is_directory { self.descend(&name)? } else { self.unlink(&name)? }
            } else if level.more {
                self.read().map_err(|errno| failure(errno, &self.shown(c"")))?;
            } else {
                self.leave()?;
            }
        }
        Ok(())
    }

    fn here(&self) -> std::result::Result<BorrowedFd<'_>, Errno> {
        self.levels.last().and_then(|level| level.fd.as_ref()).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Reads some names of the innermost directory.
    fn read(&mut self) -> std::result::Result<(), Errno> {
        let fd = self.here()?;
        // From the start again: entries were removed since the last reading, which makes the old position meaningless.
        rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut reader = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        let mut more = false;
        while let Some(entry) = reader.next() {
            let entry = match entry {
                // Somebody else has removed the directory meanwhile.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            if entry.file_name() == c"." || entry.file_name() == c".." {
                continue;
            }
            if names.len() == NAMES_AT_A_TIME {
                more = true;
                break;
            }
            names.push((entry.file_name().to_owned(), entry.file_type() == FileType::Directory));
        }
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        if !more {
            // A reading to the end that finds names is followed by another one, but not for ever.
            level.readings_left = level.readings_left.saturating_sub(1);
        }
        level.more = more || (!names.is_empty() && level.readings_left > 0);
        level.names = names;
        Ok(())
    }

    fn descend(&mut self, name: &CStr) -> Result<()> {
        let opened = self.here().and_then(|here| open_accessible(self.way, here, name));
        match opened.and_then(|fd| self.push(name.to_owned(), fd)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // Something else has taken the name.
            Err(Errno::NOTDIR | Errno::LOOP) => self.unlink(name),
            Err(errno) => Err(failure(errno, &self.shown(name))),
        }
    }

    fn unlink(&mut self, name: &CStr) -> Result<()> {
        match self.here().and_then(|here| rustix::fs::unlinkat(here, name, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The file system does not tell kinds in listings, and this is a directory.
            Err(Errno::ISDIR) => self.descend(name),
            Err(Errno::BUSY) if is_held_open(OsStr::from_bytes(name.to_bytes())) => {
                self.held = Some(self.shown(name));
                Ok(())
            }
            Err(errno) => Err(failure(errno, &self.shown(name))),
        }
    }

    fn push(&mut self, name: CString, fd: OwnedFd) -> std::result::Result<(), Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let identity = (stat.st_dev, stat.st_ino);
        self.levels.push(Level { name, fd: Some(fd), identity, names: Vec::new(), more: true, readings_left: ROUNDS });
        if let Some(distant) = self.levels.len().checked_sub(OPEN_LIMIT + 1) {
            // Its names are read again on the way back.
            let level = &mut self.levels[distant];
            (level.fd, level.names, level.more) = (None, Vec::new(), true);
        }
        Ok(())
    }

    /// Goes up and removes the directory that it came from.
    fn leave(&mut self) -> Result<()> {
        let Some(child) = self.levels.pop() else { return Ok(()) };
        let Some(parent) = self.levels.last_mut() else { return Ok(()) };
        if parent.fd.is_none() {
            let opened = child.fd.as_ref().ok_or(Errno::BADF).and_then(|from| reopen_parent(from.as_fd(), parent.identity));
            match opened {
                Ok(Some(fd)) => parent.fd = Some(fd),
                Ok(None) => return Err(Error::Moved { path: self.shown(&child.name) }),
                Err(errno) => return Err(failure(errno, &self.shown(&child.name))),
            }
        }
        match self.here().and_then(|here| rustix::fs::unlinkat(here, &child.name, AtFlags::REMOVEDIR)) {
            // NOTEMPTY: somebody has added to it. The next reading of the parent finds it again.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(failure(errno, &self.shown(&child.name))),
        }
    }

    fn shown(&self, name: &CStr) -> PathBuf {
        let mut path = self.top.clone();
        for part in self.levels.iter().skip(1).map(|level| level.name.as_c_str()).chain([name]).filter(|part| !part.is_empty()) {
            path.push(OsString::from_vec(part.to_bytes().to_vec()));
        }
        path
    }
}

/// Opens a directory. If its owner cannot list or change it, the mode is changed first.
fn open_accessible(way: Way, parent: BorrowedFd<'_>, name: &CStr) -> std::result::Result<OwnedFd, Errno> {
    let fd = match open_child(way, parent, name) {
        Err(Errno::ACCESS) => {
            // The mode is changed through a descriptor that needs no permission: `fchmodat` would follow a link that somebody put in its
            // place.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
            open_child(way, parent, name)?
        }
        other => other?,
    };
    if rustix::fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
        // The kernel refuses this for another owner's directory. Then the removal reports the error.
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
    Ok(fd)
}

fn failure(errno: Errno, path: &Path) -> Error {
    match errno {
        Errno::BUSY if path.file_name().is_some_and(is_held_open) => Error::HeldOpen { path: path.to_owned() },
        Errno::XDEV => Error::Mounted { path: path.to_owned() },
        errno => Error::io("remove", path, errno),
    }
}
