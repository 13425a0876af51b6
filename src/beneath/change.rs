//! Making, renaming and removing names below a handle.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::dir::{RootDir, TreeDir};
use super::error::{Error, Result};
use super::file::Plain;
use super::remove::remove_at;

/// The directory that holds a name.
struct Parent<'path> {
    fd: OwnedFd,
    name: &'path OsStr,
}

impl TreeDir {
    /// Makes a regular file that must not exist yet.
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let path = path.as_ref();
        let Parent { fd, name } = self.parent(path)?;
        create(fd.as_fd(), name, mode).map_err(|errno| Error::io("make", self.shown(path), errno))
    }

    /// Makes a directory that must not exist yet, with exactly this mode.
    pub fn make_dir(&self, path: impl AsRef<Path>, mode: u32) -> Result<TreeDir> {
        let path = path.as_ref();
        let Parent { fd, name } = self.parent(path)?;
        rustix::fs::mkdirat(&fd, name, Mode::RWXU).map_err(|errno| Error::io("make", self.shown(path), errno))?;
        let made = self.open_dir(path)?;
        // `mkdirat` obeys the umask.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| Error::io("change the mode of", self.shown(path), errno))?;
        Ok(made)
    }

    /// Opens a directory. Makes it if it is missing, with a mode that the umask restricts, and says whether it did.
    pub fn open_or_make_dir(&self, path: impl AsRef<Path>, mode: u32) -> Result<(TreeDir, bool)> {
        let path = path.as_ref();
        match self.open_dir(path) {
            Err(error) if error.is_absent() => {}
            opened => return opened.map(|dir| (dir, false)),
        }
        let Parent { fd, name } = self.parent(path)?;
        match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(mode & 0o7777)) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(path).map(|dir| (dir, true)),
            Err(errno) => Err(Error::io("make", self.shown(path), errno)),
        }
    }

    /// Opens a regular file for writing, and changes nothing in it.
    pub fn open_to_write(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        // As for reading: a FIFO without a reader is ENXIO, a terminal does not become ours.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(Plain::new(self.resolve(path, flags)?, self.shown(path))?.file)
    }

    /// Brings the names in this directory to the disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self).map_err(|errno| Error::io("write", self.shown(Path::new("")), errno))
    }

    /// Makes a symbolic link that must not exist yet. Its target is not looked at.
    pub fn symlink(&self, path: impl AsRef<Path>, to: impl rustix::path::Arg) -> Result<()> {
        let path = path.as_ref();
        let Parent { fd, name } = self.parent(path)?;
        rustix::fs::symlinkat(to, &fd, name).map_err(|errno| Error::io("make", self.shown(path), errno))
    }

    /// Gives a file here one more name, in `to`. If it is a link, the link itself gets the name.
    pub fn link(&self, path: impl AsRef<Path>, to: &Self, new: impl AsRef<Path>) -> Result<()> {
        let (path, new) = (path.as_ref(), new.as_ref());
        let (old, target) = (self.parent(path)?, to.parent(new)?);
        rustix::fs::linkat(&old.fd, old.name, &target.fd, target.name, AtFlags::empty())
            .map_err(|errno| Error::io("link", to.shown(new), errno))
    }

    /// Renames within or between trees of one file system. What has the new name is replaced as by `rename(2)`.
    pub fn rename(&self, path: impl AsRef<Path>, to: &Self, new: impl AsRef<Path>) -> Result<()> {
        let (path, new) = (path.as_ref(), new.as_ref());
        let (old, target) = (self.parent(path)?, to.parent(new)?);
        rustix::fs::renameat(&old.fd, old.name, &target.fd, target.name)
            .map_err(|errno| Error::io("rename", self.shown(path), errno))
    }

    /// Changes the mode of a file or directory.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let place = self.place(path)?;
        // `fchmod` refuses a descriptor of `O_PATH`, and a file that lacks a mode may not be openable without it.
        let link = format!("/proc/self/fd/{}", place.as_raw_fd());
        rustix::fs::chmod(link, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| Error::io("change the mode of", self.shown(path), errno))
    }

    /// Changes the times of a name (of a link itself), in seconds since 1970.
    pub fn set_time(&self, path: impl AsRef<Path>, secs: i64) -> Result<()> {
        let path = path.as_ref();
        let Parent { fd, name } = self.parent(path)?;
        let time = Timespec { tv_sec: secs, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::io("change the time of", self.shown(path), errno))
    }

    /// Removes a name that is not a directory. If there is nothing, that is fine.
    pub fn unlink(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let Parent { fd, name } = match self.parent(path) {
            Err(error) if error.is_absent() => return Ok(()),
            parent => parent?,
        };
        match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.shown(path), errno)),
        }
    }

    /// Removes an empty directory. A directory with something in it stays, and so does anything else.
    pub fn remove_empty(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let Parent { fd, name } = match self.parent(path) {
            Err(error) if error.is_no_such_file() => return Ok(()),
            parent => parent?,
        };
        match rustix::fs::unlinkat(&fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.shown(path), errno)),
        }
    }

    /// Removes a name with all that is below it. If there is nothing, that is fine.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match self.parent(path) {
            Ok(Parent { fd, name }) => remove_at(self.way(), fd.as_fd(), name, &self.shown(path)),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn parent<'path>(&self, path: &'path Path) -> Result<Parent<'path>> {
        let (directory, name) = split(path).ok_or_else(|| Error::io("change", self.shown(path), Errno::INVAL))?;
        Ok(Parent { fd: self.resolve(directory, OFlags::PATH | OFlags::DIRECTORY)?, name })
    }
}

/// Changes in the root of a session before it begins. Missing parents are made.
impl RootDir {
    /// Opens the directory `path`. Makes it and its parents with `mode` if they are missing.
    pub fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        match self.place(path) {
            Ok(found) if is_directory(found.as_fd()).map_err(|errno| Error::io("examine", self.shown(path), errno))? => Ok(found),
            Ok(_) => Err(Error::io("make", self.shown(path), Errno::NOTDIR)),
            Err(error) if error.is_absent() => {
                let Parent { fd, name } = self.made_parent(path)?;
                rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(mode & 0o7777))
                    .map_err(|errno| Error::io("make", self.shown(path), errno))?;
                let new = self.place(path)?;
                // `mkdirat` obeys the umask and drops the sticky bit. The descriptor is `O_PATH`, which `fchmod` refuses, so `.` in it is
                // changed.
                rustix::fs::chmodat(&new, c".", Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
                    .map_err(|errno| Error::io("change the mode of", self.shown(path), errno))?;
                Ok(new)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the file `path` as a mount target. Makes an empty one if it is missing.
    pub fn file_target(&self, path: &Path) -> Result<OwnedFd> {
        match self.place(path) {
            Err(error) if error.is_absent() => {
                let Parent { fd, name } = self.made_parent(path)?;
                create(fd.as_fd(), name, 0o644).map_err(|errno| Error::io("make", self.shown(path), errno))?;
                self.place(path)
            }
            answer => answer,
        }
    }

    /// Writes a file with exactly this mode. Replaces whatever has its name, except a directory.
    pub fn write(&self, path: &Path, contents: &[u8], mode: u32) -> Result<()> {
        let Parent { fd, name } = self.made_parent(path)?;
        // Removed and made anew: writing into what is there could follow a link or change another name of the same file.
        self.unlink(fd.as_fd(), name, path)?;
        let failed = |error: std::io::Error| Error::io("write", self.shown(path), error);
        let mut file = create(fd.as_fd(), name, 0o644).map_err(|errno| failed(errno.into()))?;
        file.write_all(contents).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).map_err(|errno| failed(errno.into()))
    }

    /// Makes a symbolic link. Replaces whatever has its name, except a directory.
    pub fn symlink(&self, path: &Path, to: &Path) -> Result<()> {
        let Parent { fd, name } = self.made_parent(path)?;
        self.unlink(fd.as_fd(), name, path)?;
        rustix::fs::symlinkat(to, &fd, name).map_err(|errno| Error::io("make", self.shown(path), errno))
    }

    /// Removes what `path` names, with everything below it. If there is nothing, that is fine.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let Some((directory, name)) = split(path) else { return Err(Error::io("remove", self.shown(path), Errno::BUSY)) };
        match self.place(directory) {
            Ok(parent) => remove_at(self.way(), parent.as_fd(), name, &self.shown(path)),
            Err(error) if error.is_no_such_file() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renames within the root.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (old, new) = (self.made_parent(from)?, self.made_parent(to)?);
        rustix::fs::renameat(&old.fd, old.name, &new.fd, new.name).map_err(|errno| Error::io("rename", self.shown(from), errno))
    }

    fn made_parent<'path>(&self, path: &'path Path) -> Result<Parent<'path>> {
        let (directory, name) = split(path).ok_or_else(|| Error::io("make", self.shown(path), Errno::ISDIR))?;
        Ok(Parent { fd: self.directory(directory, 0o755)?, name })
    }

    fn unlink(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.shown(path), errno)),
        }
    }
}

/// The parent and the last component, unless `path` is the root or ends in `..`.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

pub(crate) fn is_directory(fd: BorrowedFd<'_>) -> std::result::Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

fn create(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> std::result::Result<File, Errno> {
    // `O_EXCL` also fails on an existing link, so nothing is written through one.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode & 0o7777)).map(File::from)
}
