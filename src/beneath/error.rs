//! What can go wrong with files that somebody else has shaped.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::path_error::PathError;

/// Why something beneath a directory could not be had, read or changed. Paths are for people: nothing opens them again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Io(#[from] PathError),
    /// A symbolic link where none is followed.
    #[error("`{}` is a symbolic link or lies behind one", path.display())]
    Link {
        /// The path asked for.
        path: PathBuf,
    },
    /// A link, device, FIFO, socket or directory.
    #[error("`{}` is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    /// More than anybody would have written.
    #[error("`{}` has more than {limit_bytes} bytes", path.display())]
    TooBig {
        path: PathBuf,
        /// What would have been accepted, bytes.
        limit_bytes: u64,
    },
    /// Zeros that occupy nothing, and that whoever reads them still has to read.
    #[error("`{}` has too large holes: the files of a tree may have {} GiB of them in all", path.display(), limit_bytes >> 30)]
    Holes {
        /// The file with which it was too much.
        path: PathBuf,
        /// What would have been accepted, bytes.
        limit_bytes: u64,
    },
    /// More entries than anybody would have made.
    #[error("directory `{}` has more than {limit} entries", path.display())]
    TooMany {
        path: PathBuf,
        /// What would have been accepted.
        limit: usize,
    },
    /// More names on the way down to one place than are held in memory.
    #[error("the directories down to `{}` have more names than fit into {} MiB", path.display(), limit_bytes >> 20)]
    TooWide {
        path: PathBuf,
        /// What would have been accepted, bytes of names.
        limit_bytes: usize,
    },
    /// Something is mounted in the tree, and what is mounted there is not ours to touch.
    #[error("something is mounted on `{}`", path.display())]
    Mounted { path: PathBuf },
    /// Somebody moved a directory while we were in it.
    #[error("`{}` was moved while it was read", path.display())]
    Moved { path: PathBuf },
}

impl Error {
    /// A call that failed, by what was tried.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io(PathError::new(action, path, source))
    }

    /// The error of opening something: the kernel's refusals to resolve get words of their own.
    pub(super) fn open(path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::Link { path: path.to_owned() },
            Errno::XDEV => Self::Mounted { path: path.to_owned() },
            errno => Self::io("open", path, errno),
        }
    }

    /// Whether the file simply is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(PathError { source, .. }) if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether there is nothing of the kind that was asked for: not there, behind something that is no directory, a link, or no regular file.
    pub fn is_no_such_file(&self) -> bool {
        match self {
            Self::Io(PathError { source, .. }) => matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            Self::Link { .. } | Self::NotRegular { .. } => true,
            _ => false,
        }
    }

    /// What it is about, for people.
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
            | Self::Moved { path } => path,
        }
    }

    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io(PathError { source, .. }) => Errno::from_io_error(source),
            Self::Link { .. } => Some(Errno::LOOP),
            Self::Mounted { .. } => Some(Errno::XDEV),
            _ => None,
        }
    }
}

/// What the functions of this room return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// For callers that name the path themselves.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(PathError { source, .. }) => source,
            other => other.errno().map_or_else(|| Self::other(other.to_string()), Self::from),
        }
    }
}

/// For the sandbox, whose errors travel between processes as calls with their arguments.
impl From<Error> for crate::sys::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(PathError { doing, path, source }) => Self::new(doing, path.display(), source),
            other => Self::new("open", other.path().display(), io::Error::other(other.to_string())),
        }
    }
}
