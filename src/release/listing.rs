//! The list of latest builds of an architecture.

use serde::Serialize;

use super::seen::Seen;
use super::{Error, Releases, Result};
use crate::causes::in_one_line;
use crate::download::{self, Downloader, Url};
use crate::stage3::index::ReleaseIndex;
use crate::stage3::{Day, Signer, StageName, verify_clear_signed};

/// Upstream's lists have about 30 lines.
const MAX_LIST_BYTES: u64 = 1 << 20;
const DAY_SECS: i64 = 24 * 60 * 60;
/// Builds are weekly, so an older list is worth a warning.
const OLD_SECS: i64 = 28 * DAY_SECS;
/// How far one mirror may lag behind another.
const LAG_SECS: i64 = 7 * DAY_SECS;

/// A mirror's list of the latest builds.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listing {
    /// The mirror whose list this is.
    pub mirror: Url,
    /// The directory: `amd64`.
    pub arch: String,
    /// When the list was made, seconds since 1970, if it says that.
    pub made: Option<i64>,
    /// Who signed it.
    pub signer: Signer,
    /// Sorted by name.
    pub builds: Vec<Build>,
}

/// A build that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Build {
    /// `amd64-openrc`
    pub variant: String,
    /// When it was started: `20260811T083102Z`.
    pub timestamp: String,
    /// In bytes, if the list says so.
    pub size: Option<u64>,
    /// Below `releases/ARCH/autobuilds/`.
    pub path: String,
    /// Whether it is in the cache.
    pub fetched: bool,
}

impl Releases<'_> {
    /// The latest builds of `arch`, from the first mirror whose list is valid.
    pub(crate) fn listing(&self, arch: &str) -> Result<Listing> {
        self.step(&format!("reading the list of {arch}"));
        self.over_mirrors("latest-stage3.txt", |downloader, mirror| self.listing_of(downloader, mirror, arch))
    }

    /// Asks mirrors in turn until one answers with something valid; `name` is what is asked for.
    pub(super) fn over_mirrors<T>(&self, name: &str, ask: impl Fn(&Downloader, &Url) -> Result<T>) -> Result<T> {
        let mut tried = Vec::new();
        let mut untrusted = None;
        for (index, mirror) in self.mirrors.iter().enumerate() {
            let last = index + 1 == self.mirrors.len();
            let patient = if last { self.downloader.clone() } else { self.downloader.hasty() };
            match ask(&patient, mirror) {
                Ok(answer) => return Ok(answer),
                Err(Error::Download(download::Error::Failed { tried: more, .. })) => tried.extend(more),
                Err(error @ (Error::Untrusted { .. } | Error::Index { .. } | Error::Replayed { .. })) => {
                    if !last {
                        self.warning(&format!("{}; trying the next mirror", in_one_line(&error)));
                    }
                    untrusted = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match untrusted {
            Some(error) => Err(error),
            None if tried.is_empty() => Err(download::Error::NoUrls { name: name.to_owned() }.into()),
            None => Err(download::Error::Failed { name: name.to_owned(), tried }.into()),
        }
    }

    fn listing_of(&self, downloader: &Downloader, mirror: &Url, arch: &str) -> Result<Listing> {
        let url = mirror.below(&format!("releases/{arch}/autobuilds/latest-stage3.txt")).map_err(download::Error::from)?;
        let (url, document) = downloader.bytes(&[url], MAX_LIST_BYTES, self.observer)?;
        let name = url.name();
        let (text, signer) =
            verify_clear_signed(&name, &document, self.trusted, self.verify).map_err(|error| Error::verifying(&url, error))?;
        let index = ReleaseIndex::parse(&text).map_err(|source| Error::Index { url: url.clone(), source })?;
        self.fresh(&url, arch, index.timestamp)?;
        let mut builds: Vec<Build> = index
            .entries
            .into_iter()
            .filter_map(|entry| {
                let file = entry.path.rsplit('/').next().unwrap_or_default();
                let name = StageName::parse(file).ok().filter(|name| name.stage == Some(3))?;
                let parts = [name.arch, name.variant].into_iter().flatten().collect::<Vec<_>>();
                let fetched = self.path(file).is_file();
                Some(Build { variant: parts.join("-"), timestamp: name.timestamp?, size: entry.size, path: entry.path, fetched })
            })
            .collect();
        builds.sort_by(|a, b| (&a.variant, &a.timestamp).cmp(&(&b.variant, &b.timestamp)));
        Ok(Listing { mirror: mirror.clone(), arch: arch.to_owned(), made: index.timestamp, signer, builds })
    }

    /// Checks the list's age against the newest one seen, and remembers it.
    fn fresh(&self, url: &Url, arch: &str, made: Option<i64>) -> Result<()> {
        let Some(made) = made else {
            self.warning(&format!("the list `{url}` does not say when it was made: it may be old"));
            return Ok(());
        };
        let seen = Seen::read(self.dir);
        match seen.newest(arch) {
            Some(newest) if newest - made > LAG_SECS => {
                return Err(Error::Replayed { url: url.clone(), made, seen: newest });
            }
            Some(newest) if newest > made => {
                let (made, newest) = (Day(made), Day(newest));
                self.warning(&format!(
                    "the list `{url}` is from {made}, older than one from {newest} seen before: the mirror is \
                    behind"
                ));
            }
            _ if self.verify.now - made > OLD_SECS => {
                let weeks = (self.verify.now - made) / (7 * DAY_SECS);
                self.warning(&format!(
                    "the list `{url}` is {weeks} weeks old: the mirror is broken, or somebody hides newer builds"
                ));
            }
            _ => {}
        }
        self.create_dir()?;
        seen.remember(self.dir, arch, made)
    }
}
