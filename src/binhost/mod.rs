//! Binary package hosts: ours, exported and served, and others', used by sessions.
//!
//! ```text
//! export    a pool as a directory that any web server can hand out: packages signed, index, public key, instructions
//! server    that directory over HTTP
//! client    a session that installs from the hosts that its configuration names
//! ```

pub mod export;
pub mod server;

use std::io;
use std::path::PathBuf;


/// Why there is no binhost.
#[derive(Debug, thiserror::Error)]
pub enum BinhostError {
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
    /// A package that Portage refused.
    #[error("cannot trust `{package}`")]
    Untrusted {
        /// The host's name, and the package's path there.
        package: String,
        /// Why.
        #[source]
        why: crate::portage::emerge::Distrust,
        /// Portage's whole output.
        log: PathBuf,
    },
    /// No key to verify with.
    #[error("`binrepos.conf` names a binhost, and no key that is here counts for binary packages")]
    NoKeys,
    /// The keys of the configuration.
    #[error(transparent)]
    Keys(#[from] crate::stage3::keys::KeysError),
    /// A root without gpg.
    #[error("cannot make a keyring in the session")]
    Keyring(#[source] Box<crate::error::Error>),
}
