//! Work on trees of mapped owners: tasks that the helper runs inside the id map, as the map's root.
//!
//! Each is a plain function on paths with input and output as JSON. So tests run it as an ordinary user on trees of their own.

pub(super) mod digest;
mod forged;
pub(super) mod usage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::beneath::remove_tree;
use crate::path_error::PathError;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn};

pub(crate) use self::digest::{Compared, ManifestSummary, SealInput, VerifyDeepInput};
pub(crate) use self::forged::LookInput;
pub(crate) use self::usage::{DiskUsageInput, TreeUsage};

/// Removes trees. Takes a [`RemoveInput`], returns nothing.
pub(crate) const REMOVE_TREE: &str = "store.remove_tree";
/// Writes a layer's manifest. Takes a [`SealInput`], returns a [`ManifestSummary`].
pub(crate) const SEAL: &str = "store.seal";
/// Compares a layer with its manifest. Takes a [`VerifyDeepInput`], returns a [`Compared`].
pub(crate) const VERIFY_DEEP: &str = "store.verify_deep";
/// Refuses a tree with marks that only overlayfs may write. Takes a [`LookInput`], returns nothing.
pub(crate) const LOOK_THROUGH: &str = "store.look_through";
/// Measures trees. Takes a [`DiskUsageInput`], returns a list of [`TreeUsage`] in the same order.
pub(crate) const DISK_USAGE: &str = "store.disk_usage";

/// The kind of failure of [`REMOVE_TREE`] after which only files are left that a process has open.
pub(crate) const HELD_OPEN: &str = "held-open";

/// Input of [`REMOVE_TREE`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RemoveInput {
    /// Absolute; each is removed with all that is below it.
    pub paths: Vec<PathBuf>,
}

/// Why work on a tree failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// No thread can be started.
    #[error(transparent)]
    Thread(#[from] crate::threads::NoThread),
    /// The tree is not what it should be, or it cannot be read or removed.
    #[error(transparent)]
    Beneath(#[from] beneath::Error),
    /// A manifest could not be read or written.
    #[error(transparent)]
    Io(#[from] PathError),
    /// A mark that makes overlayfs hide files of the layers below, in a tree that no overlay has written.
    #[error("`{}` is or has {what}; only overlayfs can write that", path.display())]
    Forged { path: PathBuf, what: &'static str },
    /// A manifest is not one of ours.
    #[error("`{}` is damaged: line {line}", path.display())]
    Manifest {
        path: PathBuf,
        /// Its first bad line, from 1.
        line: usize,
    },
}

impl TreeError {
    fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io(PathError::new(action, path, source))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The input is of another task.
    #[error("the input of the task is not what it takes")]
    Input(#[source] serde_json::Error),
    /// The result cannot be put into JSON.
    #[error("the answer of the task cannot be passed on")]
    Output(#[source] serde_json::Error),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A task as this module knows it.
pub(crate) type Function = fn(serde_json::Value) -> Result<serde_json::Value, TaskError>;

/// The function of the task `name`, if it is one of the store's.
pub(crate) fn function(name: &str) -> Option<Function> {
    Some(match name {
        REMOVE_TREE => |input| {
            let input: RemoveInput = serde_json::from_value(input).map_err(TaskError::Input)?;
            // What can be removed is: a file that a process has open is in nobody else's way.
            let removed: Vec<_> = input.paths.iter().map(|path| remove_tree(path)).collect();
            removed.into_iter().collect::<Result<(), _>>().map_err(TreeError::from)?;
            Ok(serde_json::Value::Null)
        },
        SEAL => |input| run(input, digest::seal),
        VERIFY_DEEP => |input| run(input, digest::verify),
        DISK_USAGE => |input| run(input, usage::measure),
        LOOK_THROUGH => |input| run(input, forged::look_through),
        _ => return None,
    })
}

/// The same as the helper calls it, for [`crate::sandbox::helper::enter_if_asked`].
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    function(name).map(|_| in_helper as TaskFn)
}

fn in_helper(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let Some(function) = function(&context.name) else {
        // `lookup` has just found it.
        return Err(TaskFailure { kind: "no-such-task".to_owned(), causes: vec![format!("no task `{}`", context.name)] });
    };
    function(context.input.take()).map_err(|error| TaskFailure::of(error.kind(), &error))
}

impl TaskError {
    /// The word that callers in the other process match on.
    fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) | Self::Output(_) => "protocol",
            Self::Tree(TreeError::Beneath(beneath::Error::Mounted { .. })) => "mounted",
            Self::Tree(TreeError::Beneath(beneath::Error::Moved { .. })) => "moved",
            Self::Tree(TreeError::Beneath(beneath::Error::HeldOpen { .. })) => HELD_OPEN,
            Self::Tree(TreeError::Beneath(beneath::Error::TooBig { .. } | beneath::Error::Holes { .. })) => "too-big",
            Self::Tree(TreeError::Io { .. } | TreeError::Beneath(_)) => "io",
            Self::Tree(TreeError::Thread(_)) => "no-thread",
            Self::Tree(TreeError::Forged { .. }) => "forged",
            Self::Tree(TreeError::Manifest { .. }) => "damaged-manifest",
        }
    }
}

fn run<I, O>(input: serde_json::Value, work: fn(&I) -> Result<O, TreeError>) -> Result<serde_json::Value, TaskError>
where
    I: serde::de::DeserializeOwned,
    O: Serialize,
{
    let input = serde_json::from_value(input).map_err(TaskError::Input)?;
    serde_json::to_value(work(&input)?).map_err(TaskError::Output)
}
