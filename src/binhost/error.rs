//! What keeps a pool from being handed out.

use std::io;
use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::threads::NoThread;
use crate::{beneath, config, context, names, sandbox, store};

/// A binary package host that was not exported, or is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// Names of profiles.
    #[error(transparent)]
    Names(names::Error),
    /// The configuration directory.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The index of a pool.
    #[error(transparent)]
    Binpkgs(#[from] crate::portage::binpkgs::Error),
    /// A profile without a pool.
    #[error("profile `{profile}` has no binary packages: nothing was built on it yet")]
    NoPool {
        /// The profile.
        profile: String,
    },
    /// A directory with something else in it.
    #[error("`{}` is neither empty nor an exported binhost", .0.display())]
    NotOurs(PathBuf),
    /// A directory with another profile's packages in it, which would go.
    #[error("`{}` has the binary packages of profile `{profile}`", dir.display())]
    OtherProfile {
        /// The directory.
        dir: PathBuf,
        /// The profile.
        profile: String,
    },
    /// Not a directory that was exported.
    #[error("`{}` is not an exported binhost", .0.display())]
    NotExported(PathBuf),
    /// No key.
    #[error("cannot sign packages")]
    Sign(#[source] crate::stage3::sign::SignError),
    /// A package that `gpg` would not sign.
    #[error(transparent)]
    Package(#[from] crate::portage::binpkgs::gpkg::Error),
    /// A record of ours that is damaged.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What functions of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Names: names { Context });
