//! Upstream's releases: lists them and fetches them from mirrors.
//!
//! ```text
//! MIRROR/releases/ARCH/autobuilds/latest-stage3.txt              clear-signed list of the latest builds
//! MIRROR/releases/ARCH/autobuilds/TS/stage3-VARIANT-TS.tar.xz    with .asc, .DIGESTS, .sha256, .CONTENTS.gz
//!
//! cache/stage3/stage3-VARIANT-TS.tar.xz                          fetched and verified, with the same files beside it
//! cache/stage3/lists.json                                        times of the newest lists seen, by architecture
//! ```
//!
//! The list tells which builds are the latest and how large they are; it is used only if its signature is valid. Old lists are signed as
//! well, so a list that is older than one seen before is accepted only if it lags a little, as mirrors do. The tarball is fetched last,
//! after the small files beside it, and stays only if it verifies.
//!
//! `keys` fetches the public keys for that from web key directories and keyservers.

mod error;
mod fetch;
pub(crate) mod keys;
mod listing;
mod seen;
mod variant;

use std::path::PathBuf;

use crate::download::{Downloader, Url};
use crate::progress::{Event, Observer};
use crate::stage3::VerifyOptions;
use crate::stage3::keys::KeysFor;

pub(crate) use error::Error;
pub(crate) use fetch::{Fetched, Which};
pub(crate) use listing::Listing;
pub(crate) use variant::Variant;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The address of Gentoo's mirrors.
pub(crate) const OFFICIAL: &str = "https://distfiles.gentoo.org";

/// Mirrors, and what is needed to fetch from them.
#[derive(Clone, Copy)]
pub(crate) struct Releases<'a> {
    /// Asked in this order.
    pub mirrors: &'a [Url],
    /// Where stage3s are kept; created when needed.
    pub dir: &'a std::path::Path,
    /// Asks them.
    pub downloader: &'a Downloader,
    /// Which signatures count.
    pub trusted: KeysFor<'a>,
    pub verify: &'a VerifyOptions,
    /// Fail instead of waiting while another process fetches the same file.
    pub no_wait: bool,
    /// Is told what happens.
    pub observer: &'a (dyn Observer + 'a),
}

impl std::fmt::Debug for Releases<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Releases").field("mirrors", &self.mirrors).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Releases<'_> {
    fn step(&self, text: &str) {
        self.observer.event(&Event::Step(text));
    }

    fn note(&self, text: &str) {
        self.observer.event(&Event::Note(text));
    }

    fn warning(&self, text: &str) {
        self.observer.event(&Event::Warning(text));
    }

    fn create_dir(&self) -> Result<()> {
        Ok(crate::durable::make_dirs(self.dir, crate::durable::Mode::AtMost(0o777))?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The mirrors of a `GENTOO_MIRRORS` that can be asked over HTTP. The others (`rsync:`, `ftp:`, directories) are returned as the second
/// part.
pub(crate) fn mirrors_of(gentoo_mirrors: &str) -> (Vec<Url>, Vec<String>) {
    let mut others = Vec::new();
    let urls = gentoo_mirrors.split_whitespace().filter_map(|word| match word.parse() {
        Ok(url) => Some(url),
        Err(_) => {
            others.push(word.to_owned());
            None
        }
    });
    (urls.collect(), others)
}
