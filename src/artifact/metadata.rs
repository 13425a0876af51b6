//! The `.json` beside an artifact, as it is written. [`crate::artifact::recorded`] reads it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifact::recorded::FileMark;
use crate::origin::Recorded;
use crate::sandbox::Rung;
use crate::store::StateId;

/// What went in, and how its files are recognised.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Metadata<'a> {
    /// Of this file: 1.
    pub(super) format: u32,
    /// The file, or the directory of an image.
    pub(super) name: &'a str,
    /// The build state in it.
    pub(super) state: &'a StateId,
    /// The state's build key.
    pub(super) key: &'a str,
    /// No file in it is younger, seconds since 1970.
    pub(super) source_date_epoch: i64,
    /// The version that made it.
    pub(super) gentoomuch: &'static str,
    /// All of what the build was isolated by.
    pub(super) isolation: String,
    /// The kind of isolation; null if it is not known.
    pub(super) rung: Option<Rung>,
    /// The definition's `keep`.
    pub(super) keep: &'a [String],
    /// What is left out unless it is kept.
    pub(super) leaves_out: &'a [&'static str],
    /// Another one packs the same inputs to other bytes.
    pub(super) packer: &'static str,
    /// Fingerprint of the primary key.
    pub(super) signed_by: Option<String>,
    /// `tar.xz`, `oci`, …
    pub(super) form: String,
    /// The words by which the key was chosen: as long as they are the same we need not ask gpg which key they mean.
    pub(super) sign_key: Option<&'a str>,
    /// Files, directories, links and so on.
    pub(super) entries: u64,
    /// Before compression.
    pub(super) bytes_tar: u64,
    /// Of the archive or image, bytes.
    pub(super) size: u64,
    /// Of the archive, or of `index.json` of an image.
    pub(super) digests: Hashes<'a>,
    /// Of an image: how a container is started, and the like.
    pub(super) image: Option<&'a serde_json::Value>,
    /// The blobs of an image with their sizes.
    pub(super) blobs: BTreeMap<String, u64>,
    /// All other files except this one.
    pub(super) files: &'a BTreeMap<String, FileMark>,
    pub(super) origin: &'a Recorded,
    /// Installed packages.
    #[cfg_attr(test, schemars(with = "Vec<crate::portage::vdb::Package>"))]
    pub(super) packages: serde_json::Value,
}

/// Digests by several algorithms, hexadecimal.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct Hashes<'a> {
    pub(super) blake2b: &'a str,
    pub(super) sha256: &'a str,
    pub(super) sha512: &'a str,
}
