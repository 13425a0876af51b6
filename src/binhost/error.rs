//! Why a binary package host is not exported.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::threads::NoThread;
use crate::{beneath, config, context, names, sandbox, store};

/// A binary package host that was not exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Names(names::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The index of a pool.
    #[error(transparent)]
    Binpkgs(#[from] crate::portage::binpkgs::Error),
    /// A profile without a pool.
    #[error("profile `{profile}` has no binary packages: nothing was built on it yet")]
    NoPool { profile: String },
    /// A directory with other files in it.
    #[error("`{}` is neither empty nor an exported binhost", .0.display())]
    NotOurs(PathBuf),
    /// A directory with another profile's packages in it, which the export would remove.
    #[error("`{}` has the binary packages of profile `{profile}`", dir.display())]
    OtherProfile { dir: PathBuf, profile: String },
    /// There is no key to sign with.
    #[error("cannot sign packages")]
    Sign(#[source] crate::stage3::sign::SignError),
    /// A package that `gpg` would not sign.
    #[error(transparent)]
    Package(#[from] crate::portage::binpkgs::gpkg::Error),
    /// A record of ours that is damaged.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Names: names { Context });
