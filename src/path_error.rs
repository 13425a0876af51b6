//! A failed call on a file, for the errors of all rooms: which call, which file, and the kernel's answer.

use std::io;
use std::path::{Path, PathBuf};

/// Which call failed on which file. A room's error wraps it unchanged: `#[error(transparent)] Io(#[from] PathError)`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`", path.display())]
pub struct PathError {
    /// A verb with its object: `read`, `change the mode of`.
    pub doing: &'static str,
    /// Only for the message: nothing opens it again.
    pub path: PathBuf,
    /// The kernel's answer; a full disk is `ENOSPC` or `EDQUOT`.
    #[source]
    pub source: io::Error,
}

impl PathError {
    pub fn new(doing: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.into(), source: source.into() }
    }

    /// For `map_err`.
    pub fn of<E: Into<io::Error>>(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::new(doing, path, source)
    }
}

/// An error type that can hold a [`PathError`].
pub(crate) trait OfFile: From<PathError> {
    /// For `map_err`.
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| PathError { doing, path, source }.into()
    }
}

impl<E: From<PathError>> OfFile for E {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Room {
        #[error(transparent)]
        Io(#[from] PathError),
    }

    #[test]
    fn says_what_failed_once() {
        let error: Room = std::fs::read("/nonexistent").map_err(PathError::of("read", "/nonexistent")).unwrap_err().into();
        assert_eq!(error.to_string(), "cannot read `/nonexistent`");
        let cause = error.source().unwrap();
        assert_eq!((cause.to_string().as_str(), cause.source().is_none()), ("No such file or directory (os error 2)", true));
    }
}
