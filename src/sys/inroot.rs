//! Paths resolved inside a root directory: `..` and absolute symbolic links cannot lead out of it.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use super::{Error, Result};

/// A root directory, and how paths in it are resolved.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    by_walking: bool,
}

impl Root {
    /// Resolves with `openat2`, or by walking if `by_walking` (for tests) or if the kernel has no `openat2`.
    pub fn new(fd: OwnedFd, by_walking: bool) -> Self {
        Self { fd, by_walking }
    }

    /// The directory itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens what `path` names for use as a place (`O_PATH`), following symbolic links inside the root.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        if !self.by_walking {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let path = if path == Path::new("") { Path::new("/") } else { path };
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), how) {
                // Filters of container engines answer EPERM for calls they do not know.
                Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
                Err(rustix::io::Errno::AGAIN) => return self.open(path),
                answer => return answer.map_err(Error::of("openat2", format_args!("{}, RESOLVE_IN_ROOT", path.display()))),
            }
        }
        super::mountcompat::open_in_root(self.fd.as_fd(), path)
    }

    /// Opens the directory `path`, making it and its parents with `mode` where they are missing.
    pub fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        match self.open(path) {
            Ok(found) if is_directory(found.as_fd())? => Ok(found),
            Ok(_) => Err(Error::new("mkdir", path.display(), rustix::io::Errno::NOTDIR)),
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                let (parent, name) = self.parent(path)?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode & 0o7777))
                    .map_err(Error::of("mkdirat", path.display()))?;
                let new = self.open(path)?;
                chmod(new.as_fd(), mode, path)?;
                Ok(new)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the file `path` for use as a mount target, making an empty one where it is missing.
    pub fn file_target(&self, path: &Path) -> Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                let (parent, name) = self.parent(path)?;
                drop(create(parent.as_fd(), name, path)?);
                self.open(path)
            }
            answer => answer,
        }
    }

    /// Writes a file, replacing whatever has its name (but for a directory), with exactly this mode.
    pub fn write(&self, path: &Path, contents: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        unlink(parent.as_fd(), name, path)?;
        let mut file = std::fs::File::from(create(parent.as_fd(), name, path)?);
        file.write_all(contents).map_err(Error::of("write", path.display()))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).map_err(Error::of("fchmod", path.display()))
    }

    /// Makes a symbolic link, replacing whatever has its name (but for a directory).
    pub fn symlink(&self, path: &Path, to: &Path) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        unlink(parent.as_fd(), name, path)?;
        rustix::fs::symlinkat(to, &parent, name)
            .map_err(Error::of("symlinkat", format_args!("{}, {}", to.display(), path.display())))
    }

    /// Removes what `path` names, with everything below it. Nothing there is no error.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let Some((directory, name)) = split(path) else {
            return Err(Error::new("unlinkat", path.display(), rustix::io::Errno::BUSY));
        };
        match self.open(directory) {
            Ok(parent) => super::tree::remove_at(parent.as_fd(), name, path),
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renames within the root.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        rustix::fs::renameat(&from_parent, from_name, &to_parent, to_name)
            .map_err(Error::of("renameat", format_args!("{}, {}", from.display(), to.display())))
    }

    /// What kind of file has this name, without following a link in its last component.
    pub fn kind(&self, path: &Path) -> Result<Option<FileType>> {
        let Some((directory, name)) = split(path) else { return Ok(Some(FileType::Directory)) };
        let status = self.open(directory).and_then(|parent| {
            rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::of("fstatat", path.display()))
        });
        match status {
            Ok(status) => Ok(Some(FileType::from_raw_mode(status.st_mode))),
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The directory that holds `path` (made where it is missing) and the last component.
    fn parent<'path>(&self, path: &'path Path) -> Result<(OwnedFd, &'path OsStr)> {
        let (directory, name) = split(path).ok_or_else(|| Error::new("open", path.display(), rustix::io::Errno::ISDIR))?;
        Ok((self.directory(directory, 0o755)?, name))
    }
}

/// The parent and the last component, unless `path` is the root or ends in `..`.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

/// Whether the descriptor is of a directory.
pub fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    let status = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map_err(Error::of("fstat", ""))?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

fn create(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
        .map_err(Error::of("openat", format_args!("{}, O_CREAT|O_EXCL", path.display())))
}

fn unlink(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::new("unlinkat", path.display(), errno)),
    }
}

/// `mkdirat` obeys the umask and drops the sticky bit; a directory open with `O_PATH` is changed through its own name in itself.
fn chmod(directory: BorrowedFd<'_>, mode: u32, path: &Path) -> Result<()> {
    rustix::fs::chmodat(directory, ".", Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
        .map_err(Error::of("fchmodat", format_args!("{}, {mode:o}", path.display())))
}
