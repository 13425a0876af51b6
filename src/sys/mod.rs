//! Thin wrappers around system calls: every `unsafe` block of the crate lies below this module.
//!
//! A wrapper adds two things to its call: owned descriptors instead of integers, and an [`Error`] that says which call failed with which
//! arguments. So callers read like prose and messages like `strace`.
#![expect(unsafe_code, reason = "the one place of the crate that talks to the kernel directly")]

use std::borrow::Cow;
use std::fmt::Display;
use std::io;

pub(crate) mod cgroup;
pub(crate) mod fd;
pub(crate) mod landlock;
pub(crate) mod memfd;
pub(crate) mod mount;
pub(crate) mod mountcompat;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod overlay;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod seccomp;
mod seccomp_tables;
pub(crate) mod signal;
pub(crate) mod springboard;
pub(crate) mod usage;
pub(crate) mod watch;

/// A system call that failed, with the arguments that matter.
#[derive(Debug, thiserror::Error)]
#[error("`{call}({args})` failed")]
pub struct Error {
    /// Name of the call, as in section 2 of the manual. Owned when the error came from another of our processes.
    pub call: Cow<'static, str>,
    /// The arguments worth reading, formatted.
    pub args: String,
    #[source]
    pub source: io::Error,
}

impl Error {
    /// Wraps `source`, anything that converts into an [`io::Error`].
    pub fn new(call: &'static str, args: impl Display, source: impl Into<io::Error>) -> Self {
        Self { call: Cow::Borrowed(call), args: args.to_string(), source: source.into() }
    }

    /// Takes `source`, for use in `map_err`: `open(…).map_err(Error::of("open", path.display()))`.
    pub fn of<E: Into<io::Error>>(call: &'static str, args: impl Display) -> impl FnOnce(E) -> Self {
        move |source| Self::new(call, args, source)
    }

    /// The `errno` of the failed call, if it carried one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
