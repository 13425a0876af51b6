//! Errors of commands about what was built.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::portage::binpkgs;
use crate::store::StateId;
use crate::{beneath, config, context, names, sandbox, store};

/// A history, copy or comparison that is not possible.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Names of states and profiles.
    #[error(transparent)]
    Names(names::Error),
    /// A pool of binary packages.
    #[error(transparent)]
    Binpkgs(#[from] binpkgs::Error),
    /// The name has no earlier value.
    #[error("`{name}` has no earlier state {index}")]
    NoValue {
        /// The name in full.
        name: String,
        index: usize,
        /// How many there are, the present one included.
        kept: usize,
    },
    /// The position was given twice.
    #[error("`{0}` and the number are both a state to go back to")]
    TwoPositions(String),
    /// The stage3 below a builder moves with the builder only.
    #[error("`{name}` can only move together with its builder")]
    Upstream {
        /// The name in full.
        name: String,
        profile: String,
    },
    /// The tag exists and points to another state.
    #[error("the tag `{name}` is at {state} already")]
    Tagged { name: String, state: StateId },
    /// There is no such tag.
    #[error("there is no tag `{name}`")]
    NoTag { name: String, known: Vec<String> },
    /// Text that cannot be a tag.
    #[error("`{name}` cannot be the name of a tag")]
    TagName {
        name: String,
        #[source]
        source: store::Error,
    },
    /// Names of other states begin so.
    #[error("`{0}` is the name of a state, but not of a tag")]
    TagTaken(String),
    /// A position of a name, where a name is removed as a whole.
    #[error("`{0}` is an earlier state of a name, and names are removed as a whole")]
    EarlierState(String),
    /// A short form of more than one name.
    #[error("`{text}` means more than one thing")]
    SeveralNames { text: String, fits: Vec<String> },
    /// What a profile consists of goes with it.
    #[error("`{name}` belongs to the profile `{profile}`")]
    OfProfile { name: String, profile: String },
    /// A tree snapshot is no build state.
    #[error("`{0}` is a tree snapshot")]
    Tree(String),
    /// The configuration would have it built again.
    #[error("`{name}` has a definition: `{definition}`")]
    Defined {
        /// The name in full.
        name: String,
        /// Relative to the configuration directory.
        definition: String,
    },
    /// Something depends on it, so it is not removed.
    #[error("`{name}` is in use")]
    NameInUse {
        /// The name in full.
        name: String,
        /// What depends on it, in words.
        by: Vec<String>,
        /// Whether `--force` would remove it.
        may_force: bool,
    },
    /// Neither a definition nor a state nor an artifact is called so.
    #[error("there is no stage4 `{name}`")]
    NoStage { name: String, known: Vec<String> },
    /// The stage4 has no such artifact.
    #[error("`{stage}` has no artifact `{name}`")]
    NoArtifact { stage: String, name: String, known: Vec<String> },
    /// Nobody knows whose it is, so it is not removed.
    #[error("the artifact `{}` is damaged: {why}", path.display())]
    DamagedArtifact { path: PathBuf, why: String },
    /// Somebody has moved or removed it meanwhile.
    #[error("`{name}` is not what it was when it was shown")]
    Moved { name: String },
    /// Not all names were removed.
    #[error("not everything was removed")]
    Stopped { removed: Vec<String>, source: Box<Self> },
    /// No build has left logs.
    #[error("nothing has been logged yet")]
    NothingLogged,
    /// There is nothing to follow.
    #[error("nothing is being built")]
    NothingGoesOn,
    /// No run of a build is called so.
    #[error("there are no logs of `{name}`")]
    NoRun { name: String, known: Vec<String> },
    /// The run has no such log.
    #[error("{what} has no log of `{name}`")]
    NoLog { what: String, name: String, known: Vec<String> },
    /// The state has no such file.
    #[error("there is no `{path}` in `{state}`")]
    Missing { path: String, state: String },
    /// A device, a pipe or a socket cannot be copied.
    #[error("cannot copy `{path}` in `{state}`: it is {what}")]
    Special { path: String, state: String, what: String },
    /// A directory cannot be written to a stream.
    #[error("`{path}` in `{state}` is a directory; only a file can be written to standard output")]
    Directory { path: String, state: String },
    /// The target ends in `/` or `..` and is no directory.
    #[error("`{path}` has no last component to name the copy in `{}`", to.display())]
    NoName { path: String, to: PathBuf },
    /// The target exists.
    #[error("`{}` already exists", .0.display())]
    Exists(PathBuf),
    /// Neither the directory nor its parent exists.
    #[error("there is no directory `{}`", .0.display())]
    NoDirectory(PathBuf),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
lifted!(Error::Names: names { Context });
