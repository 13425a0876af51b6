//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use super::{Busy, LayerId, SessionId, StateId, TreeId};
use crate::path_error::PathError;
use crate::{beneath, sandbox};

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file failed. A full disk is `ENOSPC` or `EDQUOT` here, with the path that could not be written.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The kernel had accepted data and could not bring it to the disk: `syncfs` reported a write-back error.
    #[error("cannot write the data below `{}` to the disk", path.display())]
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
    /// A value could not be written as JSON.
    #[error("cannot write the contents of `{}`", path.display())]
    Encode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A ref's file has a line that is not an id and a time.
    #[error("`{}` is damaged: line {line} is not an id and a time", path.display())]
    DamagedRef {
        path: PathBuf,
        /// Its first bad line, from 1.
        line: usize,
    },
    /// Another version of this program made the store.
    #[error("`{}` has layout version {found}, but this program knows {known}", path.display())]
    Version { path: PathBuf, found: u32, known: u32 },
    /// A file or link lies where a directory of the store should be.
    #[error("`{}` is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    /// A store belongs to the user who made it.
    #[error("`{}` belongs to user {owner}, and this is user {me}", path.display())]
    NotOwner { path: PathBuf, owner: u32, me: u32 },
    /// An administrator has changed the user's subordinate ids since the store was made.
    #[error("`{}` was made with {recorded}, but the host now grants {current}", root.display())]
    IdMapChanged {
        /// Root of the store.
        root: PathBuf,
        recorded: String,
        current: String,
    },
    /// The kernel stacks no more layers.
    #[error("build state `{state}` has {count} layers, and Linux stacks at most {most}")]
    TooManyLayers { state: StateId, count: usize, most: usize },
    /// Nothing may be removed as long as this file cannot be read: what it needs is unknown.
    #[error("`{}` is damaged, so nobody knows what it needs", path.display())]
    Doubt { path: PathBuf },
    /// A name that cannot be a ref's or a lock's.
    #[error("`{name}` cannot be a name in the store: {problem}")]
    Name { name: String, problem: NameProblem },
    /// This is not an id of the wanted kind.
    #[error("`{text}` is not the id of a {what}")]
    Id {
        text: String,
        /// `layer`, `build state`, …
        what: &'static str,
    },
    #[error("no build state is called `{name}`")]
    NoSuchRef { name: String },
    /// A ref has fewer previous values than the caller asked for.
    #[error("`{name}` has no value {index}: {kept} are kept")]
    NoSuchRefEntry {
        name: String,
        /// 0 is the present value.
        index: usize,
        kept: usize,
    },
    #[error("`{text}` is the beginning of {count} ids")]
    Ambiguous { text: String, count: usize },
    #[error("there is no build state `{0}`")]
    NoSuchState(StateId),
    #[error("there is no layer `{0}`")]
    NoSuchLayer(LayerId),
    /// No such tree snapshot.
    #[error("there is no tree snapshot `{0}`")]
    NoSuchTree(TreeId),
    /// Others hold the lock, and the caller did not want to wait.
    #[error("{0}")]
    Busy(Busy),
    /// The user stopped waiting for a lock.
    #[error("gave up waiting for `{lock}`")]
    Cancelled { lock: String },
    /// The first process of a session still exists, so the upper directory may still be written.
    #[error("process {pid} of session `{session}` is still running")]
    StillRunning {
        session: SessionId,
        /// Its PID 1, as seen from here.
        pid: i32,
    },
    /// A programming error: an upper directory that was bound into another session must be committed by `commit_bound`.
    #[error("cannot check session `{session}`, since it was mounted in another one")]
    NotLookedThrough { session: SessionId },
    /// A programming error: what was done by hand is nobody's result.
    #[error("session `{session}` was changed by hand and cannot become a build state")]
    ByHand { session: SessionId },
    /// A layer is not what it is said to be.
    #[error("layer `{layer}` has the digest {found}, not {expected}")]
    OtherDigest { layer: LayerId, found: String, expected: String },
    /// A state of another store was changed.
    #[error("build state `{0}` does not have the contents that its id says")]
    NotItself(StateId),
    /// The whole store was to be removed, but somebody works in it.
    #[error("a process still works in session `{0}`")]
    SessionBusy(SessionId),
    /// This upper directory must not become a layer.
    #[error("`{}` cannot become a layer: {problem}", path.display())]
    Upper { path: PathBuf, problem: UpperProblem },
    /// A tree could not be removed, or not read completely.
    #[error(transparent)]
    Tree(#[from] super::tasks::TreeError),
    /// Work inside the id map failed.
    #[error("`{task}` failed inside the id map")]
    InMap {
        task: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task sent an answer of another form than expected.
    #[error("`{task}` gave an unexpected answer")]
    Answer {
        task: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// A crash that a test simulates.
    #[cfg(test)]
    #[error("stopped here by a test")]
    Injected,
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io(PathError::new(action, path, source))
    }

    /// The kernel's answer, if a call on a file failed.
    fn errno(&self) -> Option<i32> {
        if let Self::Io(error) = self { error.source.raw_os_error() } else { None }
    }

    /// Whether nothing is left of what was to be removed but files that some process has open.
    pub(super) fn is_held_open(&self) -> bool {
        match self {
            Self::Tree(super::tasks::TreeError::Beneath(error)) => matches!(error, beneath::Error::HeldOpen { .. }),
            Self::InMap { source, .. } => match source.downcast_ref() {
                Some(sandbox::Error::Task { failure, .. }) => failure.kind == super::tasks::HELD_OPEN,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether there is no byte or no inode left, or no more of the user's.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Whether the file system is mounted read-only.
    pub(super) fn is_read_only(&self) -> bool {
        self.errno() == Some(libc::EROFS)
    }

    /// Whether one file of ours cannot be read or understood, which says nothing of the others.
    pub(super) fn is_damage(&self) -> bool {
        let is_ours = matches!(self.errno(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
        matches!(self, Self::Damaged { .. } | Self::DamagedRef { .. } | Self::Io(_)) && !is_ours
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The name or a part of it is empty.
    #[error("it is empty, or a part of it is")]
    Empty,
    /// A part begins with `.` (a hidden file) or `-` (an option on a command line).
    #[error("no part of it may begin with `.` or `-`")]
    Start,
    /// `..` is the parent in a path.
    #[error("it contains `..`")]
    Parent,
    /// A character that is not allowed.
    #[error("it contains {0:?}, but only letters, digits and `._+-` are allowed")]
    Character(char),
    /// `.ref` is how files of refs end.
    #[error("no part of it may end with `.ref`")]
    Ending,
    /// A file name has at most 255 bytes; the rest is for our endings.
    #[error("it is longer than 200 bytes")]
    Long,
    /// Names of tree snapshots begin with `tree/`, and no other names do.
    #[error("only names of tree snapshots begin with `tree/`, and all of them do")]
    Kind,
}

/// Why an upper directory is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpperProblem {
    /// It vanished, or a file took its place.
    #[error("it is not a directory")]
    NotADirectory,
    /// Root of the id map is the user, so the user owns every root directory.
    #[error("it belongs to id {0}, not to the user")]
    Owner(u32),
    /// Its owner could not even list it.
    #[error("its mode is {0:o}, so its owner cannot read and enter it")]
    Mode(u32),
    /// Something is mounted on it.
    #[error("it is not on the file system of the store")]
    Mounted,
}
