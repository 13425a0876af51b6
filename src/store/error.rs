//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use super::{Busy, LayerId, SessionId, StateId, TreeId};
use crate::path_error::PathError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file failed; a full disk arrives here as `ENOSPC` or `EDQUOT`, with the path that could not be written.
    #[error(transparent)]
    Io(#[from] PathError),
    /// Data that was accepted earlier could not be brought to the disk: `syncfs` reported a write-back error.
    #[error("what was written below `{}` did not reach the disk", path.display())]
    WriteBack {
        /// Root of the store.
        path: PathBuf,
        /// `EIO`, `ENOSPC` or `EDQUOT`.
        #[source]
        source: io::Error,
    },
    /// A file of ours does not hold what we write.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A value could not be put into words for the disk.
    #[error("cannot write the contents of `{}`", path.display())]
    Encode {
        /// The file that it was for.
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A ref's file does not hold lines of an id and a time.
    #[error("`{}` is damaged: line {line} is not an id and a time", path.display())]
    DamagedRef {
        path: PathBuf,
        /// Its first bad line, from 1.
        line: usize,
    },
    /// The store was written by another version of this program.
    #[error("`{}` has layout version {found}, and this program knows {known}", path.display())]
    Version { path: PathBuf, found: u32, known: u32 },
    /// Something that should be a directory is not.
    #[error("`{}` is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    /// A store belongs to the user who made it.
    #[error("`{}` belongs to user {owner}, and this is user {me}", path.display())]
    NotOwner {
        /// What belongs to another.
        path: PathBuf,
        owner: u32,
        me: u32,
    },
    /// An administrator has changed the user's subordinate ids since the store was made.
    #[error("`{}` was made with {recorded}, and the host now grants {current}", root.display())]
    IdMapChanged {
        /// Root of the store.
        root: PathBuf,
        recorded: String,
        current: String,
    },
    /// A name that cannot be a ref's or a lock's.
    #[error("`{name}` cannot be a name in the store: {problem}")]
    Name { name: String, problem: NameProblem },
    /// Text that is not an id of the kind wanted.
    #[error("`{text}` is not the id of a {what}")]
    Id {
        text: String,
        /// `layer`, `build state`, …
        what: &'static str,
    },
    /// No ref has this name.
    #[error("no build state is called `{name}`")]
    NoSuchRef { name: String },
    /// A ref has fewer previous values than asked for.
    #[error("`{name}` has no value {index}: {kept} are kept")]
    NoSuchRefEntry {
        name: String,
        /// As asked for, 0 is the present value.
        index: usize,
        kept: usize,
    },
    /// The beginning of an id fits several.
    #[error("`{text}` is the beginning of {count} ids")]
    Ambiguous {
        text: String,
        /// How many it fits.
        count: usize,
    },
    #[error("there is no build state `{0}`")]
    NoSuchState(StateId),
    #[error("there is no layer `{0}`")]
    NoSuchLayer(LayerId),
    /// No such tree snapshot.
    #[error("there is no tree snapshot `{0}`")]
    NoSuchTree(TreeId),
    /// Somebody holds the lock, and we were told not to wait.
    #[error("{0}")]
    Busy(Busy),
    /// Waiting for a lock was given up on demand.
    #[error("gave up waiting for `{lock}`")]
    Cancelled { lock: String },
    /// A session's first process is still there, so that its upper directory may still be written.
    #[error("process {pid} of session `{session}` is still running")]
    StillRunning {
        session: SessionId,
        /// Its PID 1, as seen from here.
        pid: i32,
    },
    /// A programming error: an upper directory that another session was given has to be looked through.
    #[error("session `{session}` was bound into another one and was not looked through")]
    NotLookedThrough { session: SessionId },
    /// The whole store was to be removed, and somebody works in it.
    #[error("somebody still works in session `{0}`")]
    SessionBusy(SessionId),
    /// An upper directory that must not become a layer.
    #[error("`{}` cannot become a layer: {problem}", path.display())]
    Upper { path: PathBuf, problem: UpperProblem },
    /// A tree could not be removed or read to its end.
    #[error(transparent)]
    Tree(#[from] super::tasks::TreeError),
    /// Work inside the id map failed.
    #[error("`{task}` failed inside the id map")]
    InMap {
        task: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task answered something else than it should.
    #[error("`{task}` gave an unexpected answer")]
    Answer {
        task: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// A simulated crash.
    #[cfg(test)]
    #[error("stopped here by a test")]
    Injected,
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io(PathError::new(action, path, source))
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The name, or one of its parts between slashes.
    #[error("it is empty, or a part of it is")]
    Empty,
    /// A part begins with `.` or `-`.
    #[error("no part of it may begin with `.` or `-`")]
    Start,
    /// `..` would be a parent in a path.
    #[error("it contains `..`")]
    Parent,
    /// Something outside the alphabet.
    #[error("it contains {0:?}, and may have letters, digits and `._+-` only")]
    Character(char),
    /// `.ref` is the ending of ref files.
    #[error("no part of it may end with `.ref`")]
    Ending,
    /// More than a file system takes.
    #[error("it is longer than 200 bytes")]
    Long,
    /// Names below `tree/` are of tree snapshots, and only these are.
    #[error("names of tree snapshots, and only those, begin with `tree/`")]
    Kind,
}

/// Why an upper directory is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpperProblem {
    /// It vanished, or something else took its place.
    #[error("it is not a directory")]
    NotADirectory,
    /// Root of the id map is the user, and owns each root directory.
    #[error("it belongs to id {0}, not to the user")]
    Owner(u32),
    /// Whoever enters the layer could not even list it.
    #[error("its mode is {0:o}, and its owner cannot read and enter it")]
    Mode(u32),
    /// Something is still mounted on it.
    #[error("it lies on another file system than the store")]
    Mounted,
}
