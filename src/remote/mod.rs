//! States and binary packages elsewhere, by their keys: found there instead of being built, and published.
//!
//! ```text
//! push   seal -> pack each layer once -> blobs -> sign what they are -> manifest, last
//! pull   manifest -> statement: signed by who is trusted for remotes? -> origin -> blobs -> unpacked inside the id map by the importer
//!        that takes stage3s, sealed again: the same digest? -> layers, then states, get the names that they had
//! ```
//!
//! A state that was pulled is the one that was pushed: same id, same layers, so the same exports. Its layers keep their ids, and one that
//! is here already is not fetched again.
//!
//! A package comes into its pool in the form in which it lay in another one, under the same package key.
//!
//! document.rs and package.rs have the documents, layers.rs packs and unpacks, signers.rs says whose packages still count, gate.rs is what recipes and sessions ask.

mod document;
mod gate;
mod layers;
mod package;
mod package_pull;
mod package_push;
mod pull;
mod push;
mod rows;
mod signers;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use crate::context::{self, Context};
use crate::path_error::PathError;
use crate::portage::binpkgs;
use crate::portage::binpkgs::gpkg::Refusal;
use crate::registry::{self, Access, Blob, Repository};
use crate::stage3::sign::SignError;
use crate::stage3::{VerifyError, VerifyOptions};
use crate::store::StateId;
use crate::{sandbox, store};

pub(crate) use gate::{bring, bring_packages, foresee, known, publish};
pub(crate) use package_pull::pull_packages;
pub(crate) use package_push::push_packages;
pub(crate) use pull::pull;
pub(crate) use push::push;
pub(crate) use rows::{Found, Listing, PackageRow, Row, collect, find, listing, remove};
pub(crate) use signers::Signers;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a remote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no remote is configured")]
    None,
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// Who signed it does not count here, or nobody did.
    #[error("`{place}` has a {what} that does not count")]
    NotTrusted {
        place: String,
        what: &'static str,
        #[source]
        source: Box<VerifyError>,
    },
    /// It is not what was signed, or not what it says.
    #[error(transparent)]
    Flaw(Box<Flaw>),
    /// An archive that the importer refuses.
    #[error("the layer `{layer}` of `{place}` cannot be unpacked")]
    Layer {
        layer: String,
        place: String,
        #[source]
        source: sandbox::Error,
    },
    #[error("cannot pack the layer `{layer}`")]
    Pack {
        layer: String,
        #[source]
        source: sandbox::Error,
    },
    #[error("`{place}` has no state or package `{wanted}`")]
    NotThere { place: String, wanted: String },
    #[error("`{wanted}` is a package, and packages have no tags")]
    NoTag { wanted: String },
    /// Only what was built or kept can be found again.
    #[error("build state `{state}` has no build key")]
    NoKey { state: StateId },
    #[error("the blob `{digest}` of `{place}` was removed meanwhile")]
    Collected { place: String, digest: String },
    #[error("cannot sign for `{place}`")]
    Sign {
        place: String,
        #[source]
        source: SignError,
    },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Pool(#[from] binpkgs::Error),
    #[error(transparent)]
    Io(#[from] PathError),
}

/// Why what a remote has is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the {what} cannot be read")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("it is another kind of thing: `{}`", cut(.0))]
    Kind(String),
    /// Somebody has put what has one key in the place of another one.
    #[error("it is of another key: {}", cut(says))]
    Key { says: String },
    #[error("`{}` is no digest", cut(says))]
    Digest { says: String },
    /// Somebody has put another name, id or date on it.
    #[error("it is not `{wanted}`, but says so")]
    NotMeant { wanted: String },
    #[error("nobody has signed it")]
    NotSigned,
    #[error("the blob `{digest}` is larger than {limit} bytes")]
    Large { digest: String, limit: u64 },
    #[error("its {0} is not the one that was signed")]
    Other(&'static str),
    #[error("it lacks a part of what it was made from, or has more than was signed")]
    Incomplete,
    /// The file of a package has other metadata than was signed.
    #[error("the package says that it is `{}`", cut(says))]
    OtherPackage { says: String },
    #[error("the package cannot be used")]
    Unreadable(#[from] Refusal),
    #[error("{0}")]
    Package(&'static str),
}

/// The beginning of what anybody may have written.
fn cut(text: &str) -> String {
    const MOST: usize = 200;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(Box::new(flaw))
    }
}

/// The remote of an invocation, open.
#[derive(Debug)]
pub(crate) struct Remote<'a> {
    cx: &'a Context<'a>,
    settings: &'a context::RemoteSettings,
    repository: Box<dyn Repository + 'a>,
}

impl<'a> Remote<'a> {
    /// Opens it. Nobody is asked yet.
    pub(crate) fn open(cx: &'a Context<'_>) -> Result<Self> {
        let settings = cx.settings.remote.as_deref().ok_or(Error::None)?;
        let access = Access { downloader: context::downloader(cx), credentials: &cx.settings.registries, observer: cx.observer };
        Ok(Self { cx, settings, repository: registry::open(&settings.address, &access) })
    }

    pub(crate) fn shown(&self) -> String {
        self.repository.shown()
    }

    /// A small blob.
    fn document(&self, blob: &Blob) -> Result<Vec<u8>> {
        // Others may fetch the same one.
        let target = layers::place(self.cx)?.join(layers::unique(layers::DOCUMENT));
        self.repository.get_blob(blob, &target)?;
        let bytes = std::fs::read(&target).map_err(PathError::of("read", &target));
        crate::durable::remove_if_there(&target)?;
        Ok(bytes?)
    }

    /// Puts bytes as a blob.
    fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { digest: document::digest_of(bytes), size: bytes.len() as u64 };
        let failed = |error: std::io::Error| PathError::new("keep in memory", &*blob.digest, error);
        let memory: OwnedFd =
            rustix::fs::memfd_create("document", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut file = File::from(memory);
        file.write_all(bytes).map_err(failed)?;
        self.repository.put_blob(&blob, &file)?;
        Ok(blob)
    }

    /// How signatures are verified: with the present time.
    fn verify_options() -> VerifyOptions {
        VerifyOptions { now: crate::clock::now().as_second(), ..VerifyOptions::default() }
    }
}
