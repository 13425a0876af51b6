//! Why a profile is not changed.

use crate::causes::{by_way_of, lifted};
use crate::{beneath, config, context, names, recipe, resolve, sandbox, store};

/// A profile that is left as it is.
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
    Recipe(recipe::Error),
    #[error(transparent)]
    Resolve(resolve::Error),
    /// Its builder was never built.
    #[error("profile `{profile}` has no builder")]
    NoBuilder { profile: String },
    /// Its stage3 was replaced, so the builder is not based on it any more.
    #[error("the builder of profile `{profile}` was built from another stage3 than the profile has now")]
    OtherStage3 { profile: String },
    /// Something depends on it, so it is not removed.
    #[error("profile `{profile}` is in use")]
    InUse {
        profile: String,
        /// What depends on it, in words.
        by: Vec<String>,
        /// Whether `--force` would remove it.
        may_force: bool,
    },
    /// The new name is taken.
    #[error("there is a profile `{profile}` already")]
    Exists { profile: String },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
lifted!(Error::Names: names { Context });
lifted!(Error::Recipe: recipe { Context, Config, Names });
lifted!(Error::Resolve: resolve { Context, Config, Names, Recipe });
