//! The messages between our processes. Both ends are the same program, so the messages have no versions.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::priority::Priority;
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::pty::TerminalSize;

use super::idmap::IdMap;
use super::limits::{Exceeded, Limits};
use super::plan::MountCalls;
use super::plan::Plan;

/// The program's own name (`argv[0]`) as the outer helper.
pub(crate) const OUTER: &str = "gentoomuch-helper";
/// Names of the processes that it forks. They are not longer than its own: see [`crate::sys::process::fork`].
pub(crate) const PID1: &str = "gentoomuch-init";
pub(crate) const SESSION: &str = "gentoomuch-enter";

/// gentoomuch to the outer helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The map is written: become root of it. The first request, answered by [`FromOuter::Entered`].
    Enter,
    /// Make the namespaces of a session, without one. Answered by [`FromOuter::Entered`]; the helper ends with them.
    Namespaces,
    /// With descriptors: PID 1's socket, stdin, stdout, stderr, then the locks to hold.
    Session { session: Box<SessionRequest>, remove_after: Vec<PathBuf> },
    /// With descriptors: those of the task, then the locks to hold.
    Task { name: String, input: serde_json::Value, mounts: bool, fd_count: usize },
}

/// The outer helper to gentoomuch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromOuter {
    /// It is in its user namespace and waits for the map.
    Unshared,
    /// It is root of its namespace, with all capabilities there, and waits for work.
    Entered,
    /// PID 1 runs, under this number in the host's PID namespace.
    Spawned {
        pid1: i32,
    },
    /// PID 1 has ended and what had to be removed is removed; `removal` is the failure of that. `held` is an upper directory whose
    /// overlay somebody outside keeps alive, `unsure` why that cannot be told.
    Done {
        pid1: Exit,
        removal: Option<WireError>,
        held: Option<PathBuf>,
        unsure: Option<WireError>,
    },
    Event(serde_json::Value),
    TaskDone(Result<serde_json::Value, TaskFailure>),
    Failed(Failure),
}

/// The outer helper to PID 1, with the descriptors of [`Request::Session`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionRequest {
    pub(crate) plan: Plan,
    pub(crate) nested: IdMap,
    /// The user that PID 1 becomes. The nested map does not have it.
    pub(crate) watcher: Option<u32>,
    pub(crate) mount_calls: MountCalls,
    pub(crate) terminal_size: Option<TerminalSize>,
    pub(crate) limits: Limits,
    pub(crate) priority: Priority,
    /// The time that earlier runs have used, in milliseconds.
    pub(crate) used_ms: u64,
    /// A control group counts memory and processes, so PID 1 does not.
    pub(crate) counted: bool,
    /// Other users can meet the session in directories of the host and receive descriptors from it.
    pub(crate) shows_host: bool,
}

/// gentoomuch to PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToPid1 {
    /// For the command's process group, or the terminal's foreground process group.
    Signal(i32),
}

/// PID 1 to gentoomuch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromPid1 {
    /// The command is being executed; with the master side of the terminal, if there is one.
    Started,
    /// The command has ended.
    Exited(Exit),
    /// The session could not be made.
    Failed(Failure),
}

/// The session's process to PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSession {
    /// It runs; with a descriptor of its own directory in the old `/proc`.
    Ready,
    /// It is in its nested user namespace and waits for the map.
    Unshared,
    /// The command could not be executed.
    Failed(Failure),
}

/// PID 1 to the session's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSession {
    /// All mounts are made: unshare. With stdin, stdout and stderr, or with the session's terminal. `watched_by_own`: PID 1 has the command's user.
    Enter {
        command: super::plan::CommandLine,
        terminal: bool,
        calls: MountCalls,
        limits: Limits,
        priority: Priority,
        watched_by_own: bool,
    },
    /// The nested map is written.
    Mapped,
}

/// A [`sys::Error`] on its way between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireError {
    call: String,
    args: String,
    errno: Option<i32>,
    message: String,
}

impl From<sys::Error> for WireError {
    fn from(error: sys::Error) -> Self {
        let (errno, message) = (error.errno(), error.source.to_string());
        Self { call: error.call.into_owned(), args: error.args, errno, message }
    }
}

impl From<WireError> for sys::Error {
    fn from(wire: WireError) -> Self {
        let source = wire.errno.map_or_else(|| io::Error::other(wire.message), io::Error::from_raw_os_error);
        Self { call: wire.call.into(), args: wire.args, source }
    }
}

/// Why a helper gives up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The user namespace was refused.
    UserNamespace(WireError),
    /// Becoming id 0 inside the map, or the other namespaces, were refused.
    Namespaces(WireError),
    /// A step of the plan failed.
    Step { index: usize, error: WireError },
    /// Something after the steps failed.
    Prepare(WireError),
    /// The nested namespace was refused.
    Nested(WireError),
    /// The command's directory cannot be entered.
    Directory(WireError),
    /// No such command.
    CommandNotFound,
    /// There is such a command but it cannot be executed.
    CommandNotExecutable(WireError),
    /// A process below ended without a word.
    Died { who: String },
    /// A programming error.
    Panic(String),
    /// The session used more than it may.
    Exceeded(Exceeded),
    /// Somebody has files of the session open: its upper directory.
    Held(PathBuf),
    /// What it uses cannot be seen.
    Unseen(WireError),
    /// Our own processes did not understand each other.
    Protocol(String),
}

/// Why a task failed, in a form that crosses processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.causes.first().map_or(self.kind.as_str(), String::as_str))]
pub struct TaskFailure {
    /// A word for the caller to match on, such as `digest-mismatch`.
    pub kind: String,
    /// The error and its causes, outermost first.
    pub causes: Vec<String>,
}

impl TaskFailure {
    /// Takes an error and the chain of its sources.
    pub fn of(kind: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        Self { kind: kind.to_owned(), causes: chain.map(ToString::to_string).collect() }
    }
}

/// PID 1's socket and its standard descriptors come before the locks.
pub(crate) const PASSED_ON: usize = 4;
