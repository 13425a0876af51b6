//! Why an experiment does not start.

use crate::causes::{by_way_of, lifted};
use crate::query::versions::NotVisible;
use crate::threads::NoThread;
use crate::{beneath, config, context, names, recipe, sandbox, session, store};

/// An experiment that cannot start.
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
    #[error(transparent)]
    Session(session::Error),
    #[error(transparent)]
    Recipe(recipe::Error),
    /// A word of the matrix that we do not understand.
    #[error("`{word}` is neither a USE flag nor `CATEGORY/PACKAGE:FLAG`")]
    Word { word: String },
    /// Compiler flags with characters that have a meaning in the file that they are written to.
    #[error("`{0}` cannot be compiler flags")]
    Cflags(String),
    /// No version of a package can be installed.
    #[error(transparent)]
    NotVisible(#[from] NotVisible),
    /// A flag that none of the packages has.
    #[error("no package that is tried has the flag `{flag}`")]
    NoFlag {
        flag: String,
        /// The packages that were looked at.
        packages: Vec<String>,
        /// What was probably meant.
        nearest: Option<String>,
        /// The flags that they have.
        known: Vec<String>,
    },
    /// Too many combinations.
    #[error("{count} combinations are more than {most}")]
    TooMany { count: usize, most: usize },
    /// No combination can be built.
    #[error("no combination can be built")]
    AllLeftOut {
        reasons: Vec<String>,
        /// Flags that would satisfy `REQUIRED_USE`.
        ways: Vec<String>,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config });
lifted!(Error::Recipe: recipe { Context, Config, Names, Session });
