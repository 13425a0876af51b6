//! Blobs by digest and manifests by tag, kept elsewhere: by a registry, or in a shared folder of the same shape.
//!
//! ```text
//! address      oci://HOST[:PORT]/REPOSITORY[:TAG], dir:/PATH
//! credentials  who we are to a registry, from the files that docker, podman and skopeo read
//! challenge    what a registry wants to know (WWW-Authenticate)
//! client       questions to one registry: who asks, tokens, patience
//! oci          the OCI distribution API as a Repository
//! upload       a blob on its way there
//! dir          a folder as a Repository
//! ```
//!
//! Nothing that comes is trusted: a blob counts if its digest is the one that was asked for, and what a manifest means is for the caller.

mod address;
mod challenge;
mod client;
mod credentials;
mod dir;
mod error;
mod oci;
mod upload;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

pub(crate) use address::OciAddress;
pub use address::{Address, ImageAddress, NotAnAddress};
pub use credentials::Sources;
pub(crate) use credentials::{BadCredentials, usual_files};
pub use error::Error;
pub(crate) use error::Result;

use crate::download::Downloader;
use crate::progress::Observer;

/// A manifest is not larger. It is also what the specification asks registries to accept.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Blobs by digest, and manifests by tag: an OCI repository or a folder of the same shape.
pub trait Repository: fmt::Debug + Send + Sync {
    /// Its address, for messages: `oci://HOST/REPOSITORY`, `dir:/path`.
    fn shown(&self) -> String;
    /// Which of `tags` have a manifest. Many at once.
    fn has(&self, tags: &[String]) -> Result<BTreeSet<String>>;
    /// The manifest of a tag, of at most [`MAX_MANIFEST_BYTES`].
    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>>;
    /// Puts a manifest under a tag. Its blobs are there already.
    fn put_manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Result<()>;
    /// All tags, sorted.
    fn tags(&self) -> Result<Vec<String>>;
    /// Whether there was one.
    fn remove(&self, tag: &str) -> Result<bool>;
    fn has_blob(&self, blob: &Blob) -> Result<bool>;
    /// Whether it has it, whole. A registry sees to that itself.
    fn is_sound(&self, blob: &Blob) -> Result<bool> {
        self.has_blob(blob)
    }
    /// Brings a blob. What has come before an interruption is used. `target` exists only once size and digest are right.
    fn get_blob(&self, blob: &Blob, target: &Path) -> Result<()>;
    /// Puts a blob, from the beginning of `file`. There is nothing to do if it is there; a folder looks whether it still has its bytes.
    fn put_blob(&self, blob: &Blob, file: &File) -> Result<()>;
    /// Removes the blobs that no manifest names and that are so old, or only counts them. `None`: the repository sees to that itself.
    fn collect(&self, _least_age: Duration, _remove: bool) -> Result<Option<Collected>> {
        Ok(None)
    }
}

/// What a collection removes: what nothing names, and what killed pushes have left unfinished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: u64,
    pub bytes: u64,
}

/// Bytes by their digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// `sha256:HEX`.
    pub digest: String,
    pub size: u64,
}

/// What repositories are opened with.
#[derive(Clone)]
pub struct Access<'a> {
    pub downloader: Downloader,
    /// Who we are to registries.
    pub credentials: &'a Sources,
    /// Hears notes, and [`crate::progress::Event::Advance`] for the bytes of blobs. The caller begins and ends the part that they belong to.
    pub observer: &'a dyn Observer,
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("downloader", &self.downloader).finish_non_exhaustive()
    }
}

/// Opens a repository. No server is asked yet.
pub fn open<'a>(address: &Address, access: &Access<'a>) -> Box<dyn Repository + 'a> {
    match address {
        Address::Oci(place) => Box::new(oci::Oci::new(place, access)),
        Address::Dir(path) => Box::new(dir::Folder::new(path, access)),
    }
}
