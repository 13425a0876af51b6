//! Reads files that a session wrote, by path below a directory: [`crate::beneath`] with the errors of Portage's readers.
//!
//! A hostile build may leave a FIFO that blocks its reader, a link to the host's `/etc/shadow`, a file of four gigabytes where Portage
//! writes a hundred bytes, or ten million directory entries.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;

use crate::beneath::RootDir;
pub(crate) use crate::beneath::{Error, Result};

/// Opens the directory `path`, which the caller knows to be the right one.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd> {
    Ok(RootDir::open(path)?.into())
}

/// Opens a directory below `root`. Links are resolved as if `root` were `/`, so they cannot lead outside.
pub(crate) fn open_dir_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    Ok(RootDir::borrowed(root, "")?.open_dir(path)?.into())
}

/// Opens a regular file below `root`. Links on the way are resolved as if `root` were `/`; the file itself must not be a link.
pub(crate) fn open_file_in(root: BorrowedFd<'_>, path: &Path) -> Result<(File, u64)> {
    let plain = RootDir::borrowed(root, "")?.open_file(path)?;
    let size = plain.size();
    Ok((plain.file, size))
}

/// The contents of a regular file below `root`, at most `limit_bytes`.
pub(crate) fn read_in(root: BorrowedFd<'_>, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    RootDir::borrowed(root, "")?.read(path, limit_bytes)
}

/// Names and types in a directory, sorted; `path` is for messages. Names that are not UTF-8 are left out, since Portage makes none.
pub(crate) fn entries(dir: impl AsFd, path: &Path, limit: usize) -> Result<Vec<(String, FileType)>> {
    let entries = RootDir::borrowed(dir.as_fd(), path)?.entries(limit)?;
    Ok(entries.into_iter().filter_map(|entry| Some((entry.text()?.to_owned(), entry.kind))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files_inside_the_root() {
        let dir = tempfile::tempdir().expect("tempdir");
        let outside = dir.path().join("secret");
        std::fs::write(&outside, "secret").expect("write");
        let root_path = dir.path().join("root");
        std::fs::create_dir_all(root_path.join("d")).expect("mkdir");
        std::fs::write(root_path.join("d/plain"), "12345").expect("write");
        symlink(&outside, root_path.join("link")).expect("symlink");
        symlink("../../../..", root_path.join("up")).expect("symlink");
        rustix::fs::mkfifoat(rustix::fs::CWD, root_path.join("fifo"), Mode::RWXU).expect("mkfifo");
        let root = open_root(&root_path).expect("open");
        let read = |p: &str| read_in(root.as_fd(), Path::new(p), 5);
        assert_eq!(read("d/plain").expect("plain"), b"12345");
        assert_eq!(read("up/d/plain").expect("links stay inside"), b"12345");
        assert!(read("up/secret").expect_err("outside").is_absent());
        assert_eq!(read("link").expect_err("link").to_string(), "`link` is not a regular file");
        assert_eq!(read("fifo").expect_err("fifo").to_string(), "`fifo` is not a regular file");
        std::fs::write(root_path.join("d/plain"), "123456").expect("write");
        assert_eq!(read("d/plain").expect_err("big").to_string(), "`d/plain` has more than 5 bytes");
        assert_eq!(entries(&root, Path::new("."), 2).expect_err("many").to_string(), "directory `.` has more than 2 entries");
        let names: Vec<String> = entries(&root, Path::new("."), 9).expect("entries").into_iter().map(|e| e.0).collect();
        assert_eq!(names, ["d", "fifo", "link", "up"]);
    }
}
