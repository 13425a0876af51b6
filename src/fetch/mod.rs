//! The broker: it fetches what a session needs, since a session has no network.
//!
//! ```text
//!  in the session                                   outside: this process
//!  emerge
//!   `- FETCHCOMMAND: fetch.py ──── socket ────────> serve     one line: a name and its digests (or a package of a binhost)
//!        |                                            |
//!        |                                          index     a Manifest of the session's trees must list it
//!        |                                          addresses SRC_URI of that tree, mirrors of the configuration; never the session's
//!        |                                          bring     download, verify; of a package of a binhost also its signatures
//!        |                                            |
//!      link to /run/gentoomuch/distfiles (ro) <──── shelf     rename into distfiles
//! ```
//!
//! What must be set up in a session:
//!
//! - the directory of [`listen()`], with the script and the socket, at [`seen::FETCH`] (ro). No other session has it;
//! - [`Shelves::distfiles`] at [`seen::DISTFILES`] (ro), [`Shelves::packages`] at [`seen::PACKAGES`] (ro);
//! - in `make.conf`: [`SOURCE_COMMAND`] as `FETCHCOMMAND` and `RESUMECOMMAND`, and as each `FETCHCOMMAND_*` and `RESUMECOMMAND_*` that
//!   somebody has set; [`MIRROR`] as the only one of `GENTOO_MIRRORS`; an empty `FETCH_WRAPPER`;
//! - in the last file of `binrepos.conf`, for each host by its name (a host's own section counts more than `[DEFAULT]`):
//!   [`PACKAGE_COMMAND`] as `fetchcommand` and `resumecommand`.

mod board;
mod bring;
mod broker;
mod error;
#[cfg(test)]
mod fixture;
mod hosts;
mod inside;
mod layout;
mod listen;
mod places;
mod serve;
mod servers;
mod shelf;
mod trees;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::causes::in_one_line;
use crate::portage::binpkgs::gpkg::Refusal;
use crate::portage::binrepos;

pub use broker::Broker;
pub(crate) use error::Error;
pub use listen::listen;
pub use trees::dictionary;

pub(crate) use shelf::{BY_CONTENT, INCOMING};

/// Where these things are in a session.
pub(crate) mod seen {
    pub(crate) const FETCH: &str = "/run/gentoomuch/fetch";
    /// Source archives.
    pub(crate) const DISTFILES: &str = "/run/gentoomuch/distfiles";
    /// Packages of binhosts.
    pub(crate) const PACKAGES: &str = "/run/gentoomuch/packages";
}

/// The script that a session runs.
pub const SCRIPT: &str = include_str!("fetch.py");

/// `FETCHCOMMAND` and `RESUMECOMMAND`, as Portage must have them after it has read `make.conf`. Without the `site` module (`-S`) Python
/// starts in half the time.
pub(crate) const SOURCE_COMMAND: &str =
    r#"/usr/bin/python3 -ISB /run/gentoomuch/fetch/fetch source "${DISTDIR}" "${FILE}" "${URI}" "${DIGESTS}""#;

/// `fetchcommand` and `resumecommand` of a host in `binrepos.conf`.
pub(crate) const PACKAGE_COMMAND: &str =
    r#"/usr/bin/python3 -ISB /run/gentoomuch/fetch/fetch package "${DISTDIR}" "${FILE}" "${URI}""#;

/// The only mirror that Portage knows. So it asks once for each file, and not once for each mirror. No host of this name can exist (RFC
/// 6761).
pub(crate) const MIRROR: &str = "http://gentoomuch.invalid";

/// The address of binhosts that are directories.
const DIRECTORIES: &str = "http://binhost.gentoomuch.invalid";

/// Directories of ours that a session sees read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelves {
    /// Source archives, the user's.
    pub distfiles: PathBuf,
    /// Packages and indexes of binhosts, this session's.
    pub packages: PathBuf,
}

/// Where files may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The session's ebuild trees, the one with the highest priority first.
    pub trees: Vec<Tree>,
    /// `GENTOO_MIRRORS` of the merged configuration, or Portage's default.
    pub mirrors: Vec<String>,
    /// `etc/portage/mirrors`: names and what they stand for. The mirrors of `local` are asked first.
    pub custom_mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of `binrepos.conf`.
    pub hosts: Vec<BinHost>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub name: String,
    pub dir: PathBuf,
}

/// A host of binary packages: a server, or a directory of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinHost {
    /// Its section's name.
    pub name: String,
    /// `sync-uri`.
    pub sync_uri: String,
    /// The user's configuration names it, and not only a stage3. Then it may be on this machine or on its network, like all servers of
    /// the configuration.
    pub configured: bool,
}

impl BinHost {
    /// Its directory, if it is one.
    pub fn directory(&self) -> Option<PathBuf> {
        binrepos::directory(&self.sync_uri)
    }

    /// The address with which a session asks for it. Portage would open a directory by itself, but the session has none of ours. So
    /// Portage gets the address of a server that cannot exist (RFC 6761).
    pub fn asked_as(&self) -> String {
        match self.directory() {
            Some(dir) => format!("{DIRECTORIES}/{}", &hex::encode(Sha256::digest(dir.as_os_str().as_bytes()))[..16]),
            None => self.sync_uri.trim_end_matches('/').to_owned(),
        }
    }

    /// The path of a package of this host, from an address in [`Missing`].
    pub fn path_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        let base = self.directory().map_or_else(|| self.sync_uri.clone(), |dir| dir.display().to_string());
        address.strip_prefix(base.trim_end_matches('/')).filter(|rest| rest.starts_with('/'))
    }
}

/// A package whose source archives are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `category/name-version`.
    pub cpv: String,
    pub repository: String,
    pub files: Files,
}

/// Which files of a package are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// These, as Portage's `getFetchMap` says.
    Named(Vec<String>),
    /// Those for these USE flags. They are all that are on: `IUSE`'s, the architecture, `kernel_linux` and the like.
    Flags(BTreeSet<String>),
}

/// What an ebuild says about its sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `category/name-version`.
    pub cpv: String,
    pub repository: String,
    /// `SRC_URI`, with its conditions.
    pub src_uri: String,
    /// `RESTRICT`, with its conditions.
    pub restrict: String,
}

/// Asks Portage for the metadata of ebuilds (`category/name-version`, tree) that are in no metadata cache. It runs in a session where
/// nothing but Portage has run.
pub type AskMetadata = Box<dyn Fn(&[(String, String)]) -> Vec<Metadata> + Send + Sync>;

/// How far fetching is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Files that are here and verified.
    pub files_done: usize,
    pub files_failed: usize,
    /// All files that were wanted or asked for.
    pub files_total: usize,
    /// Bytes that are here.
    pub bytes_done: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    pub running: Vec<String>,
    /// Files that the session waits for.
    pub awaited: Vec<String>,
}

/// A file that is not here and that we cannot fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    /// `category/name-version` of packages that want it. Empty if only the session asked.
    pub packages: Vec<String>,
    pub bytes: u64,
    pub reason: Reason,
}

/// Why a file cannot be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Downloads are switched off.
    Offline,
    /// The ebuild has RESTRICT="fetch": the user must fetch it. `pkg_nofetch` says how.
    Restricted,
    /// No place has it: each address, with what it answered.
    Nobody(Vec<(String, String)>),
    /// All places that answered have another file of that name: each address, with what it has.
    Another(Vec<(String, String)>),
    /// A package of a host that no trusted key has signed as it is: its address, and why it is not taken.
    Distrusted(String, Box<Refusal>),
    /// Something else, in words.
    Other(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("downloads are switched off"),
            Self::Restricted => f.write_str("the ebuild says that you have to download it by hand"),
            Self::Nobody(tried) if tried.is_empty() => f.write_str("it has no address"),
            Self::Nobody(tried) | Self::Another(tried) => {
                f.write_str(if matches!(self, Self::Nobody(_)) {
                    "no server has it"
                } else {
                    "every server has a different file \
                    under this name"
                })?;
                tried.iter().try_for_each(|(place, words)| write!(f, "\n  {place}: {words}"))
            }
            Self::Distrusted(place, refusal) => write!(f, "cannot be trusted\n  {place}: {}", in_one_line(refusal.as_ref())),
            Self::Other(words) => f.write_str(words),
        }
    }
}
