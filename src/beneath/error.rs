//! What can go wrong with files that somebody else has made.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::path_error::PathError;

/// Why something below a directory could not be opened, read or changed. The paths are only for people: nothing opens them again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Io(#[from] PathError),
    /// There is a symbolic link where we follow none.
    #[error("`{}` is a symbolic link or lies behind one", path.display())]
    Link { path: PathBuf },
    /// It is a link, device, FIFO, socket or directory.
    #[error("`{}` is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    /// It is larger than any real file of its kind.
    #[error("`{}` has more than {limit_bytes} bytes", path.display())]
    TooBig {
        path: PathBuf,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// Holes occupy nothing on the disk, but whoever reads them has to read all their zeros.
    #[error("`{}` has too large holes: the files of a tree may have {} GiB of them in all", path.display(), limit_bytes >> 30)]
    Holes {
        /// The file that exceeded the limit.
        path: PathBuf,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// More entries than any real directory of its kind has.
    #[error("directory `{}` has more than {limit} entries", path.display())]
    TooMany {
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The directories down to one place have more names than we hold in memory.
    #[error("the directories down to `{}` have more names than fit into {} MiB", path.display(), limit_bytes >> 20)]
    TooWide {
        path: PathBuf,
        /// The limit, in bytes of names.
        limit_bytes: usize,
    },
    /// Something is mounted in the tree. It is not part of the tree, so we do not touch it.
    #[error("something is mounted on `{}`", path.display())]
    Mounted { path: PathBuf },
    /// A file system without a better way gives a file that is removed while a process has it open another name, and removes it when it
    /// is closed.
    #[error("`{}` was removed, and a process still has it open", path.display())]
    HeldOpen { path: PathBuf },
    /// Somebody moved a directory while we were in it.
    #[error("`{}` was moved while it was read", path.display())]
    Moved { path: PathBuf },
}

impl Error {
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io(PathError::new(action, path, source))
    }

    /// The error of opening something. What the kernel refuses to resolve becomes a kind of its own.
    pub(super) fn open(path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::Link { path: path.to_owned() },
            Errno::XDEV => Self::Mounted { path: path.to_owned() },
            errno => Self::io("open", path, errno),
        }
    }

    /// Whether the file does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(PathError { source, .. }) if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether there is no file of the kind asked for: it does not exist, something on the way is not a directory, or it is a link or no
    /// regular file.
    pub fn is_no_such_file(&self) -> bool {
        match self {
            Self::Io(PathError { source, .. }) => matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            Self::Link { .. } | Self::NotRegular { .. } => true,
            _ => false,
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Io(PathError { path, .. })
            | Self::Link { path }
            | Self::NotRegular { path }
            | Self::TooBig { path, .. }
            | Self::Holes { path, .. }
            | Self::TooMany { path, .. }
            | Self::TooWide { path, .. }
            | Self::Mounted { path }
            | Self::HeldOpen { path }
            | Self::Moved { path } => path,
        }
    }

    /// The kernel's answer, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io(PathError { source, .. }) => Errno::from_io_error(source),
            Self::Link { .. } => Some(Errno::LOOP),
            Self::Mounted { .. } => Some(Errno::XDEV),
            Self::HeldOpen { .. } => Some(Errno::BUSY),
            _ => None,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// For callers that add the path themselves.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(PathError { source, .. }) => source,
            other => other.errno().map_or_else(|| Self::other(other.to_string()), Self::from),
        }
    }
}

/// For the sandbox. Its errors travel between processes as calls with their arguments.
impl From<Error> for crate::sys::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(PathError { doing, path, source }) => Self::new(doing, path.display(), source),
            other => Self::new("open", other.path().display(), io::Error::other(other.to_string())),
        }
    }
}
