//! Reading files that a session wrote: plain files only, never through a symbolic link, never more than asked for.
//!
//! A hostile build may leave a FIFO that blocks its reader, a link to `/etc/shadow` of the host, a file of four gigabytes where Portage
//! writes a hundred bytes, or ten million directory entries.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

/// A file or directory that could not be read, or is not what Portage would have written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel said no.
    #[error("cannot read `{path}`")]
    Io {
        /// The file, relative to what was being read.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A link, device, FIFO or socket.
    #[error("`{path}` is not a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// More than anybody would have written.
    #[error("`{path}` has more than {limit_bytes} bytes")]
    TooBig {
        /// The file.
        path: PathBuf,
        /// What would have been accepted, bytes.
        limit_bytes: u64,
    },
    /// More entries than anybody would have made.
    #[error("directory `{path}` has more than {limit} entries")]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// What would have been accepted.
        limit: usize,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }

    /// Whether the file simply is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What these functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Opens the directory `path`, which the caller trusts to be the right one.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Error::io(path, e))
}

/// Opens a directory below `root`, links resolved as if `root` were `/`, so that they cannot lead outside.
pub fn open_dir_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        .map_err(|e| Error::io(path, e))
}

/// Opens a regular file below `root`, links on the way resolved as if `root` were `/`; the file itself must not be one.
pub fn open_file_in(root: BorrowedFd<'_>, path: &Path) -> Result<(File, u64)> {
    // NONBLOCK: opening a FIFO for reading would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS).map_err(
        |e| {
            if e == rustix::io::Errno::LOOP { Error::NotRegular { path: path.to_owned() } } else { Error::io(path, e) }
        },
    )?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io(path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegular { path: path.to_owned() });
    }
    Ok((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// The contents of a regular file below `root`, at most `limit_bytes`.
pub fn read_in(root: BorrowedFd<'_>, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let (file, _) = open_file_in(root, path)?;
    let mut contents = Vec::new();
    // Not by the size that stat told: the file may grow while it is read.
    file.take(limit_bytes + 1).read_to_end(&mut contents).map_err(|e| Error::io(path, e))?;
    if contents.len() as u64 > limit_bytes {
        return Err(Error::TooBig { path: path.to_owned(), limit_bytes });
    }
    Ok(contents)
}

/// Names and types in a directory, sorted by name; `path` is for messages. Names that are not UTF-8 are left out: Portage makes none.
pub fn entries(dir: impl AsFd, path: &Path, limit: usize) -> Result<Vec<(String, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&dir).map_err(|e| Error::io(path, e))? {
        let entry = entry.map_err(|e| Error::io(path, e))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        if found.len() == limit {
            return Err(Error::TooMany { path: path.to_owned(), limit });
        }
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map(|s| FileType::from_raw_mode(s.st_mode))
                .map_err(|e| Error::io(&path.join(name), e))?,
            kind => kind,
        };
        found.push((name.to_owned(), kind));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
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
