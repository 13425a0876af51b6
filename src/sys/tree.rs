//! Removal of whole directory trees that somebody else filled.
//!
//! Symbolic links are never followed, and depth costs neither stack nor descriptors: what lies deeper than `DEPTH_LIMIT` is first
//! renamed up to the top, where it is removed in its turn.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::{Error, Result};

/// Directories that are open at the same time.
const DEPTH_LIMIT: usize = 64;

/// Removes `name` in `parent` and everything below it. Nothing there is no error.
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(Error::new("unlinkat", shown.display(), errno)),
    }
    let top = open_directory(parent, name, shown)?;
    Remover { top: &top, shown, moved: 0 }.empty(top.as_fd(), 0)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        .map_err(Error::of("unlinkat", format_args!("{}, AT_REMOVEDIR", shown.display())))
}

/// Removes the tree at `path`.
pub fn remove(path: &Path) -> Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("unlinkat", path.display(), rustix::io::Errno::BUSY));
    };
    let directory = if directory == Path::new("") { Path::new(".") } else { directory };
    match rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(parent) => remove_at(parent.as_fd(), name, path),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::new("open", directory.display(), errno)),
    }
}

struct Remover<'a> {
    top: &'a OwnedFd,
    shown: &'a Path,
    moved: u64,
}

impl Remover<'_> {
    /// Removes what `directory` holds. Listing starts again after a pass that moved something up into the directory being listed.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<()> {
        loop {
            let before = self.moved;
            for (name, is_directory) in self.list(directory)? {
                let name = OsStr::from_encoded(&name);
                if !is_directory {
                    rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(|errno| self.failed("unlinkat", errno))?;
                } else if depth < DEPTH_LIMIT {
                    let below = open_directory(directory, name, self.shown)?;
                    self.empty(below.as_fd(), depth + 1)?;
                    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR).map_err(|errno| self.failed("unlinkat", errno))?;
                } else {
                    self.move_to_top(directory, name)?;
                }
            }
            if depth > 0 || self.moved == before {
                return Ok(());
            }
        }
    }

    fn move_to_top(&mut self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        loop {
            self.moved += 1;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(directory, name, self.top, format!(".deep-{}", self.moved), flags) {
                Err(rustix::io::Errno::EXIST) => {}
                answer => return answer.map_err(|errno| self.failed("renameat2", errno)),
            }
        }
    }

    fn list(&self, directory: BorrowedFd<'_>) -> Result<Vec<(CString, bool)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(directory).map_err(|errno| self.failed("getdents64", errno))? {
            let entry = entry.map_err(|errno| self.failed("getdents64", errno))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
                    FileType::from_raw_mode(status.map_err(|errno| self.failed("fstatat", errno))?.st_mode)
                }
                known => known,
            };
            entries.push((name.to_owned(), kind == FileType::Directory));
        }
        Ok(entries)
    }

    fn failed(&self, call: &'static str, errno: rustix::io::Errno) -> Error {
        Error::new(call, format_args!("below {}", self.shown.display()), errno)
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // Without the ids of the map (a single-id store) a directory can be closed to its own owner.
        Err(rustix::io::Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty()).map_err(Error::of("fchmodat", shown.display()))?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
        answer => answer,
    }
    .map_err(Error::of("openat", format_args!("below {}, O_DIRECTORY", shown.display())))
}

/// Names as the kernel gives them.
trait FromEncoded {
    fn from_encoded(name: &CString) -> &OsStr;
}

impl FromEncoded for OsStr {
    fn from_encoded(name: &CString) -> &OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_depth_without_limit_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut here = OwnedFd::from(std::fs::File::open(&tree).unwrap());
        for _ in 0..1500 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        rustix::fs::symlinkat(&outside, &here, "link").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        std::fs::create_dir(tree.join(".deep-1")).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove(&tree).unwrap();
    }

    #[test]
    fn removes_a_single_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
    }
}
