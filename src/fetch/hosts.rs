//! Hosts of binary packages: what their indexes list.
//!
//! A session asks by the address that Portage makes of `sync-uri`, or of the `URI` that the index names, and a package's `PATH`. It is
//! looked up, never used. An index is asked for once for each broker; it is not signed, and what a package is, its signature says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flate2::read::MultiGzDecoder;

use super::BinHost;
use super::board::MEMORY;
use crate::download::{self, Downloader, Url};
use crate::portage::binpkgs::index::Index;
use crate::portage::binpkgs::name::PackageFile;
use crate::portage::manifest::{Expected, HASHES};
use crate::progress::Silent;

/// An index larger than this, packed or not, is refused. Gentoo's largest has some 60 MB.
const INDEX_LIMIT_BYTES: u64 = 256 << 20;
/// The names of an index, in the order in which Portage asks.
const INDEX_NAMES: [&str; 2] = ["Packages.gz", "Packages"];

/// What a host has told.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    /// The index as it was sent, and which of [`INDEX_NAMES`] it is.
    pub(super) name: &'static str,
    pub(super) bytes: std::sync::Arc<Vec<u8>>,
    /// Packages by the address under which Portage asks for them.
    packages: std::sync::Arc<BTreeMap<String, (Url, Expected)>>,
}

/// The hosts, and what they have told so far, or why not.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Vec<(BinHost, Mutex<Option<(Instant, Result<Listing, String>)>>)>,
}

/// What a session asks a host for.
#[derive(Debug)]
pub(super) enum Asked {
    /// The index, by this name.
    Index { host: usize, name: &'static str },
    /// A package.
    Package { url: Url, expected: Expected },
}

impl Hosts {
    pub(super) fn new(hosts: &[BinHost]) -> Self {
        Self { hosts: hosts.iter().map(|host| (host.clone(), Mutex::default())).collect() }
    }

    /// What is meant by `uri`; in words, why nothing is.
    pub(super) fn asked(&self, uri: &str, downloader: &Downloader) -> Result<Asked, String> {
        for (at, (host, _)) in self.hosts.iter().enumerate() {
            let below = uri.strip_prefix(host.sync_uri.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
            if let Some(name) = INDEX_NAMES.into_iter().find(|name| below == Some(name)) {
                return Ok(Asked::Index { host: at, name });
            }
        }
        for at in 0..self.hosts.len() {
            if let Ok(listing) = self.listing(at, downloader)
                && let Some((url, expected)) = listing.packages.get(uri)
            {
                return Ok(Asked::Package { url: url.clone(), expected: expected.clone() });
            }
        }
        Err("no host that binrepos.conf names lists this package".to_owned())
    }

    /// What a host has, asked for the first time; in words, why that is not known.
    pub(super) fn listing(&self, at: usize, downloader: &Downloader) -> Result<Listing, String> {
        let (host, listing) = &self.hosts[at];
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure is forgotten after a while, as that of a file is.
        listing.take_if(|(since, listing)| listing.is_err() && since.elapsed() >= MEMORY);
        let (_, listing) = listing.get_or_insert_with(|| {
            let listing = fetch(host, downloader);
            (Instant::now(), listing)
        });
        listing.clone()
    }
}

fn fetch(host: &BinHost, downloader: &Downloader) -> Result<Listing, String> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| format!("binhost `{}`: {}", host.name, crate::causes::in_one_line(error));
    let base: Url = host.sync_uri.parse().map_err(|error: download::NotAUrl| failed(&error))?;
    for name in INDEX_NAMES {
        let url = base.below(name).map_err(|error| failed(&error))?;
        match downloader.bytes(&[url], INDEX_LIMIT_BYTES, &Silent) {
            Ok((_, bytes)) => {
                let packages = packages(name, &bytes, &base)
                    .ok_or_else(|| format!("binhost `{}`: its index cannot be unpacked", host.name))?;
                return Ok(Listing { name, bytes: bytes.into(), packages: packages.into() });
            }
            Err(error) if name != INDEX_NAMES[1] && error.is_not_found() => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(format!("binhost `{}` has no index", host.name))
}

fn packages(name: &str, bytes: &[u8], base: &Url) -> Option<BTreeMap<String, (Url, Expected)>> {
    let mut text = Vec::new();
    let size = if name == INDEX_NAMES[0] {
        MultiGzDecoder::new(bytes).take(INDEX_LIMIT_BYTES + 1).read_to_end(&mut text).ok()?
    } else {
        text.extend_from_slice(bytes);
        bytes.len()
    };
    if size as u64 > INDEX_LIMIT_BYTES {
        return None;
    }
    let index = Index::parse(&String::from_utf8_lossy(&text));
    let said = index.header.get("URI").filter(|uri| !uri.is_empty());
    // Portage joins the texts; an address is made of them only here, of a path that is one of a package.
    let shown = said.cloned().unwrap_or_else(|| base.to_string());
    let base = said.map_or_else(|| Some(base.clone()), |uri| uri.parse().ok())?;
    let package = |(path, stanza): (&String, &BTreeMap<String, String>)| {
        PackageFile::parse(path)?;
        let size = stanza.get("SIZE")?.parse().ok()?;
        let hashes = HASHES.into_iter().filter_map(|hash| Some((hash, stanza.get(hash)?.to_ascii_lowercase()))).collect();
        let url = base.below(path).ok()?;
        Some((format!("{}/{path}", shown.trim_end_matches('/')), (url, Expected { size, hashes })))
    };
    Some(index.packages.iter().filter_map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(header: &str, stanzas: &str) -> Vec<(String, String, u64)> {
        let base = "http://h/pool".parse().unwrap();
        let found = packages("Packages", format!("{header}VERSION: 0\n\n{stanzas}").as_bytes(), &base).unwrap();
        found.into_iter().map(|(uri, (url, expected))| (uri, url.to_string(), expected.size)).collect()
    }

    #[test]
    fn only_packages_of_the_index() {
        let stanzas = "CPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 3\n\nCPV: a/c-1\nPATH: ../../x.gpkg.tar\nSIZE: 3\n\n\
                       CPV: a/d-1\nPATH: a/d/d-1-1.gpkg.tar?x\nSIZE: 3\n\nCPV: a/e-1\nPATH: a/e/e-1-1.gpkg.tar\nSIZE: many\n\n\
                       CPV: a/g++-1\nPATH: a/g++/g++-1-1.gpkg.tar\nSIZE: 4\n\n";
        let row = |base: &str, path: &str, size| (format!("{base}/{path}"), format!("{base}/{path}"), size);
        let rows = |base: &str| vec![row(base, "a/b/b-1-1.gpkg.tar", 3), row(base, "a/g++/g++-1-1.gpkg.tar", 4)];
        assert_eq!(listed("", stanzas), rows("http://h/pool"));
        assert_eq!(listed("URI: https://elsewhere/x\n", stanzas), rows("https://elsewhere/x"));
    }

    #[test]
    fn an_index_that_is_none() {
        let base = "http://h".parse().unwrap();
        assert!(packages("Packages.gz", b"not packed", &base).is_none());
        assert!(
            packages("Packages", b"URI: file:///etc\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 3\n\n", &base)
                .is_none()
        );
        assert!(packages("Packages", b"\xff\0", &base).unwrap().is_empty());
    }
}
