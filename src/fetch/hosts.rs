//! Hosts of binary packages: what their indexes list.
//!
//! A session asks by the address that Portage makes of `sync-uri` (or of the `URI` in the index) and a package's `PATH`. We only look
//! that address up in the index and never use it. Each broker asks for an index once. It is not signed: the signature of each package
//! decides what it is, here (`bring`) and once more in the session.
//!
//! A host that is a directory of this machine is read here, also without a network. A session gets only what its index lists, and no link
//! in it may lead out of it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::BinHost;
use crate::beneath::{Plain, RootDir};
use crate::download::{Downloader, Url};
use crate::portage::binpkgs::index::Index;
use crate::portage::binpkgs::name::PackageFile;
use crate::portage::manifest::{Expected, HASHES, INDEX_HASHES};
use crate::progress::Silent;
use crate::{beneath, download};

/// A larger index, packed or not, is refused. Gentoo's largest has some 60 MB.
const INDEX_LIMIT_BYTES: u64 = 256 << 20;
/// The names of an index, in the order in which Portage asks for them.
const INDEX_NAMES: [&str; 2] = ["Packages.gz", "Packages"];

/// Where a host or a package of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// At this address.
    Server(Url),
    /// In this directory, at this path. Of a host itself the path is empty.
    Directory(PathBuf, String),
}

impl Whereabouts {
    /// Of a package of this host.
    fn below(&self, path: &str) -> Option<Self> {
        match self {
            Self::Server(url) => url.below(path).ok().map(Self::Server),
            Self::Directory(dir, _) => Some(Self::Directory(dir.clone(), path.to_owned())),
        }
    }

    /// Whether it is a package in the format that has signatures.
    pub(super) fn is_signable(&self) -> bool {
        self.shown().ends_with(".gpkg.tar")
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Server(url) => url.to_string(),
            Self::Directory(dir, path) => dir.join(path).display().to_string(),
        }
    }

    /// A name for its copy that no other package has. Several hosts, and several categories of one host, may have packages of one name.
    pub(super) fn name(&self) -> String {
        let shown = self.shown();
        let last = shown.rsplit('/').next().unwrap_or_default();
        format!("{}-{last}", &hex::encode(Sha256::digest(&shown))[..16])
    }
}

/// Opens a file of a host that is a directory. The user chose the directory, so it may be a link.
pub(super) fn open(dir: &Path, path: &str) -> beneath::Result<Plain> {
    RootDir::open(dir)?.follow(path)
}

/// A host's answer.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    /// The index as it was sent, and which of [`INDEX_NAMES`] it is.
    pub(super) name: &'static str,
    pub(super) bytes: std::sync::Arc<Vec<u8>>,
    /// Packages by the address with which Portage asks for them.
    packages: std::sync::Arc<BTreeMap<String, (Whereabouts, Expected)>>,
}

/// When it answered, and what, or why not.
type Told = (Instant, Result<Listing, String>);

/// The hosts with their answers so far.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Vec<(BinHost, Mutex<Option<Told>>)>,
}

/// What a session asks a host for.
#[derive(Debug)]
pub(super) enum Asked {
    /// The index of this name.
    Index {
        host: usize,
        name: &'static str,
    },
    Package {
        at: Whereabouts,
        expected: Expected,
    },
}

impl Hosts {
    pub(super) fn new(hosts: &[BinHost]) -> Self {
        Self { hosts: hosts.iter().map(|host| (host.clone(), Mutex::default())).collect() }
    }

    /// What `uri` means. The error says in words why it means nothing.
    pub(super) fn asked(&self, uri: &str, downloader: &Downloader) -> Result<Asked, String> {
        for (at, (host, _)) in self.hosts.iter().enumerate() {
            let below = uri.strip_prefix(&host.asked_as()).and_then(|rest| rest.strip_prefix('/'));
            if let Some(name) = INDEX_NAMES.into_iter().find(|name| below == Some(name)) {
                return Ok(Asked::Index { host: at, name });
            }
        }
        for at in 0..self.hosts.len() {
            if let Ok(listing) = self.listing(at, downloader)
                && let Some((at, expected)) = listing.packages.get(uri)
            {
                return Ok(Asked::Package { at: at.clone(), expected: expected.clone() });
            }
        }
        Err("no host in binrepos.conf lists this package".to_owned())
    }

    /// Whether a host failed to answer.
    pub(super) fn has_failed(&self) -> bool {
        let failed = |(_, listing): &(BinHost, Mutex<Option<Told>>)| {
            matches!(*listing.lock().unwrap_or_else(PoisonError::into_inner), Some((_, Err(_))))
        };
        self.hosts.iter().any(failed)
    }

    /// What a host has. It is asked at the first call. The error says in words why we do not know.
    pub(super) fn listing(&self, at: usize, downloader: &Downloader) -> Result<Listing, String> {
        let (host, listing) = &self.hosts[at];
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure is forgotten after a while, as that of a file is.
        listing.take_if(|(since, listing)| listing.is_err() && since.elapsed() >= MEMORY);
        let (_, listing) = listing.get_or_insert_with(|| {
            let listing = fetch(host, downloader).map_err(|words| format!("binhost `{}`: {words}", host.name));
            (Instant::now(), listing)
        });
        listing.clone()
    }
}

fn fetch(host: &BinHost, downloader: &Downloader) -> Result<Listing, String> {
    let base = match host.directory() {
        Some(dir) => Whereabouts::Directory(dir, String::new()),
        None => Whereabouts::Server(host.sync_uri.parse().map_err(|error: download::NotAUrl| words(&error))?),
    };
    for name in INDEX_NAMES {
        if let Some(bytes) = index(&base, name, downloader)? {
            let packages = packages(name, &bytes, &base, &host.asked_as())?;
            return Ok(Listing { name, bytes: bytes.into(), packages: packages.into() });
        }
    }
    Err(match base {
        Whereabouts::Directory(dir, _) => format!("`{}` has no index", dir.display()),
        Whereabouts::Server(_) => "it has no index".to_owned(),
    })
}

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    crate::causes::in_one_line(error)
}

/// An index, packed or not. `None` if the host has none of this name.
fn index(base: &Whereabouts, name: &str, downloader: &Downloader) -> Result<Option<Vec<u8>>, String> {
    match base {
        Whereabouts::Server(base) => {
            let url = base.below(name).map_err(|error| words(&error))?;
            match downloader.bytes(&[url], INDEX_LIMIT_BYTES, &Silent) {
                Ok((_, bytes)) => Ok(Some(bytes)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(words(&error)),
            }
        }
        Whereabouts::Directory(dir, _) => {
            let root = RootDir::open(dir).map_err(|error| words(&error))?;
            let is_there = root.leads_to(name).map_err(|error| words(&error))?.is_some();
            is_there.then(|| root.follow(name)?.read(INDEX_LIMIT_BYTES)).transpose().map_err(|error| words(&error))
        }
    }
}

/// What an index lists, by the address with which Portage asks for it. Portage joins the texts, so we do. `asked` is the host's address
/// as Portage knows it.
fn packages(
    name: &str,
    bytes: &[u8],
    base: &Whereabouts,
    asked: &str,
) -> Result<BTreeMap<String, (Whereabouts, Expected)>, String> {
    let mut text = Vec::new();
    let size = if name == INDEX_NAMES[0] {
        // One byte more than allowed, so that an index that is too large is noticed and not cut.
        let unpacked = MultiGzDecoder::new(bytes).take(INDEX_LIMIT_BYTES + 1).read_to_end(&mut text);
        unpacked.map_err(|_| "its index cannot be unpacked".to_owned())?
    } else {
        text.extend_from_slice(bytes);
        bytes.len()
    };
    if size as u64 > INDEX_LIMIT_BYTES {
        return Err(format!("its index has more than {} MiB", INDEX_LIMIT_BYTES >> 20));
    }
    let index = Index::parse(&String::from_utf8_lossy(&text));
    let said = index.header.get("URI").filter(|uri| !uri.is_empty());
    let (base, asked) = match said {
        None => (base.clone(), asked),
        Some(uri) => {
            let elsewhere = |error: download::NotAUrl| {
                format!(
                    "its index says that the packages are at another address: \
                {}",
                    words(&error)
                )
            };
            (Whereabouts::Server(uri.parse().map_err(elsewhere)?), uri.as_str())
        }
    };
    let package = |(path, stanza): (&String, &BTreeMap<String, String>)| {
        PackageFile::parse(path)?;
        let size = stanza.get("SIZE")?.parse().ok()?;
        let known = HASHES.into_iter().chain(INDEX_HASHES);
        let hashes = known.filter_map(|hash| Some((hash, stanza.get(hash)?.to_ascii_lowercase()))).collect();
        Some((format!("{}/{path}", asked.trim_end_matches('/')), (base.below(path)?, Expected { size, hashes })))
    };
    Ok(index.packages.iter().filter_map(package).collect())
}

/// So long a "no" is remembered: Portage asks for a file once for each address that it knows, and a user who types the command again
/// wants to see it tried again.
pub(super) const MEMORY: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(header: &str, stanzas: &str) -> Vec<(String, String, u64)> {
        let base = Whereabouts::Server("http://h/pool".parse().unwrap());
        let text = format!("{header}VERSION: 0\n\n{stanzas}");
        let found = packages("Packages", text.as_bytes(), &base, "http://h/pool").unwrap();
        found.into_iter().map(|(uri, (at, expected))| (uri, at.shown(), expected.size)).collect()
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
        let base = Whereabouts::Server("http://h".parse().unwrap());
        let of = |name: &str, bytes: &[u8]| packages(name, bytes, &base, "http://h").unwrap_err();
        assert_eq!(of("Packages.gz", b"not packed"), "its index cannot be unpacked");
        let elsewhere = of("Packages", b"URI: file:///etc\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 3\n\n");
        assert_eq!(elsewhere, "its index says that the packages are at another address: `file:///etc` is not a URL");
    }
}
