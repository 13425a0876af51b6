//! Fetches one stage3 with the files beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Releases, Result, Variant};
use crate::causes::in_one_line;
use crate::download::{Downloader, Request, Url};
use crate::path_error::PathError;
use crate::stage3::{StageName, Verified, VerifyError, verify_clear_signed};
use crate::{download, stage3};

/// Signatures and digests have a few kilobytes.
const MAX_SIDECAR_BYTES: u64 = 1 << 20;
/// Listings have a few megabytes.
const MAX_CONTENTS_BYTES: u64 = 64 << 20;
/// The largest stage3 is below a gigabyte. For a build named by its time no list gives the size.
const MAX_TARBALL_BYTES: u64 = 8 << 30;

/// The files beside a tarball that contain a signature or signed digests.
const PROOFS: [&str; 3] = [".DIGESTS", ".asc", ".sha256"];
const CONTENTS: &str = ".CONTENTS.gz";

/// Which build of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The latest, by the signed list.
    Latest,
    /// The one started at this time: `20260811T083102Z`.
    Of(String),
}

/// A fetched stage3.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub path: PathBuf,
    /// Where it came from; `None` if it was here already.
    pub url: Option<Url>,
    /// Bytes that an interrupted attempt had fetched.
    pub resumed: u64,
    /// The result of verification; holds the open file.
    pub verified: Verified,
}

/// Where a build is on mirrors.
struct Place {
    /// Path below a mirror.
    path: String,
    name: String,
    size: Option<u64>,
}

impl Releases<'_> {
    /// Fetches a build and verifies it.
    pub(crate) fn fetch(&self, variant: &Variant, which: &Which) -> Result<Fetched> {
        let place = self.place(variant, which)?;
        self.create_dir()?;
        let target = self.path(&place.name);
        if target.is_file() {
            match self.verify(&target) {
                Ok(verified) => return Ok(Fetched { path: target, url: None, resumed: 0, verified }),
                Err(VerifyError::Rejected { file, reason }) if reason.is_damage() => {
                    let error = VerifyError::Rejected { file, reason };
                    self.warning(&format!("{}; fetching it again", in_one_line(&error)));
                    remove(&target)?;
                }
                Err(error) => return Err(Error::Verify(error)),
            }
        }
        self.step(&format!("fetching {}", place.name));
        self.sidecars(&place)?;
        self.tarball(&place, &target)
    }

    fn place(&self, variant: &Variant, which: &Which) -> Result<Place> {
        let dir = format!("releases/{}/autobuilds", variant.arch);
        match which {
            Which::Of(time) => {
                let name = format!("stage3-{variant}-{time}.tar.xz");
                let said = StageName::parse(&name).ok().and_then(|name| name.timestamp);
                if said.as_deref() != Some(time) {
                    return Err(Error::Date { text: time.escape_debug().to_string() });
                }
                Ok(Place { path: format!("{dir}/{time}/{name}"), name, size: None })
            }
            Which::Latest if self.downloader.settings().offline => self.newest_here(variant),
            Which::Latest => {
                let listing = self.listing(&variant.arch)?;
                // The list may have several builds of a variant; the last one is the latest.
                let Some(build) = listing.builds.iter().rev().find(|build| build.variant == variant.name) else {
                    let mut known: Vec<String> = listing.builds.into_iter().map(|build| build.variant).collect();
                    known.dedup();
                    return Err(Error::NoSuchVariant { variant: variant.name.clone(), arch: variant.arch.clone(), known });
                };
                let name = build.path.rsplit('/').next().unwrap_or_default().to_owned();
                Ok(Place { path: format!("{dir}/{}", build.path), name, size: build.size })
            }
        }
    }

    /// Without a list: the newest one in the cache.
    fn newest_here(&self, variant: &Variant) -> Result<Place> {
        let entries = fs::read_dir(self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| StageName::parse(entry.file_name().to_str()?).ok());
        let names = names.filter(|name| {
            let parts: Vec<&str> = name.arch.iter().chain(&name.variant).map(String::as_str).collect();
            name.stage == Some(3) && parts.join("-") == variant.name
        });
        let newest = names.max_by(|a, b| a.timestamp.cmp(&b.timestamp));
        let newest = newest.ok_or_else(|| download::Error::NothingHere { name: format!("stage3-{variant}") })?;
        self.note(&format!("offline, without the list of builds: using {}, the newest one that is here", newest.file));
        Ok(Place { path: String::new(), name: newest.file, size: None })
    }

    /// Fetches the small files, from the first mirror whose digests are signed by a trusted key. They come before the tarball, so that
    /// nobody waits for one that cannot be verified.
    fn sidecars(&self, place: &Place) -> Result<()> {
        self.over_mirrors(&place.name, |downloader, mirror| self.sidecars_of(downloader, mirror, place))
    }

    fn sidecars_of(&self, downloader: &Downloader, mirror: &Url, place: &Place) -> Result<()> {
        let tarball = mirror.below(&place.path).map_err(download::Error::from)?;
        for suffix in PROOFS.into_iter().chain([CONTENTS]) {
            let target = self.path(&format!("{}{suffix}", place.name));
            let url = tarball.with_suffix(suffix).map_err(download::Error::from)?;
            let request = Request {
                urls: std::slice::from_ref(&url),
                target: &target,
                size: None,
                limit: if suffix == CONTENTS { MAX_CONTENTS_BYTES } else { MAX_SIDECAR_BYTES },
                afresh: true,
                no_wait: self.no_wait,
            };
            match downloader.file(&request, self.observer) {
                Ok(_) => {}
                // A file of an earlier attempt may belong to another build or mirror.
                Err(error) if error.is_not_found() && suffix != PROOFS[0] => {
                    remove(&target)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if suffix == PROOFS[0] {
                let document = fs::read(&target).map_err(PathError::of("read", &target))?;
                let checked = verify_clear_signed(&url.name(), &document, self.trusted, self.verify);
                if let Err(error) = checked {
                    remove(&target)?;
                    return Err(Error::verifying(&url, error));
                }
            }
        }
        Ok(())
    }

    /// Fetches the tarball. If it does not verify it is fetched once more: from the beginning if it was assembled from parts, else from
    /// another mirror.
    fn tarball(&self, place: &Place, target: &Path) -> Result<Fetched> {
        let urls: std::result::Result<Vec<Url>, _> = self.mirrors.iter().map(|mirror| mirror.below(&place.path)).collect();
        let mut urls = urls.map_err(download::Error::from)?;
        let mut afresh = false;
        loop {
            let request =
                Request { urls: &urls, target, size: place.size, limit: MAX_TARBALL_BYTES, afresh, no_wait: self.no_wait };
            let done = self.downloader.file(&request, self.observer)?;
            let error = match self.verify(target) {
                Ok(verified) => {
                    return Ok(Fetched { path: target.to_owned(), url: Some(done.url), resumed: done.resumed, verified });
                }
                Err(error @ VerifyError::Rejected { .. }) => error,
                Err(error) => return Err(Error::Verify(error)),
            };
            // Nobody may find it who does not verify it.
            remove(target)?;
            if done.resumed > 0 {
                self.warning(&format!(
                    "{}; its parts may not belong together: downloading it again from the \
                    beginning",
                    in_one_line(&error)
                ));
            } else {
                urls.retain(|url| *url != done.url);
                if urls.is_empty() {
                    return Err(Error::verifying(&done.url, error));
                }
                self.warning(&format!("{}; trying the next mirror", in_one_line(&error)));
            }
            afresh = true;
        }
    }

    fn verify(&self, target: &Path) -> std::result::Result<Verified, VerifyError> {
        self.note("verifying");
        stage3::verify(target, self.trusted, self.verify, self.observer)
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PathError::new("remove", path, error).into()),
        _ => Ok(()),
    }
}
