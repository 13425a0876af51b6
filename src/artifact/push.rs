//! Pushes an image to a registry.
//!
//! ```text
//! blobs/sha256/…              in parallel, those that are not there
//! manifests/sha256:…          this architecture's image, by its digest
//! manifests/TAG               the index, last: an entry for each architecture
//! ```
//!
//! The tag always stands for an index. An entry of this architecture in an existing one is replaced, all others stay as they are. Registries
//! know no "replace only if it is still the same". So it is looked at once more afterwards, in case somebody else pushed at the same time.

use std::fs;
use std::fs::File;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::artifact::{Error, Result};
use crate::context;
use crate::context::Context;
use crate::durable;
use crate::path_error::OfFile as _;
use crate::progress::{Event, Unit};
use crate::registry;
use crate::registry::{Access, Address, Blob, ImageAddress, Repository};
use crate::threads;

/// So many blobs travel at the same time.
const PARALLEL: usize = 4;
/// How often the index is written anew because somebody else did so, too.
const MOST_ATTEMPTS: usize = 5;
/// The tag if none is given.
const LATEST: &str = "latest";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index and an image as Docker calls them.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const IMAGE_CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The result of a push.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pushed {
    /// `oci://HOST/REPOSITORY:TAG`.
    pub address: String,
    /// Of the index that the tag stands for: `sha256:…`.
    pub digest: String,
    /// Of the image for this architecture.
    pub manifest: String,
    /// All that the index has an image for: `linux/amd64`.
    pub platforms: Vec<String>,
    /// How many blobs were sent.
    pub blobs_sent: usize,
    /// How many the registry had.
    pub blobs_there: usize,
    /// Of the blobs that were sent.
    pub bytes_sent: u64,
    /// Whether the tag stood for the same before.
    pub unchanged: bool,
}

/// A place for an image.
#[derive(Debug)]
pub(crate) struct Destination<'a> {
    place: Box<dyn Repository + 'a>,
    address: ImageAddress,
    tag: String,
}

/// An image layout's only image.
struct Image {
    /// `sha256:…` of the manifest.
    digest: String,
    manifest: Vec<u8>,
    platform: Value,
    /// Configuration and layers.
    blobs: Vec<Blob>,
}

impl<'a> Destination<'a> {
    /// Opens it and looks at the tag, so that what does not work is known before an image is made.
    pub(crate) fn open(cx: &'a Context<'_>, address: &ImageAddress) -> Result<Self> {
        let access = Access { downloader: context::downloader(cx), credentials: &cx.settings.registries, observer: cx.observer };
        let place = registry::open(&Address::Oci(address.place.clone()), &access);
        let tag = address.tag.clone().unwrap_or_else(|| LATEST.to_owned());
        let destination = Self { place, address: ImageAddress { tag: Some(tag.clone()), ..address.clone() }, tag };
        destination.entries(cx)?;
        Ok(destination)
    }

    /// Pushes the image in the layout `dir`.
    pub(crate) fn push(&self, cx: &Context<'_>, dir: &Path) -> Result<Pushed> {
        let image = Image::read(dir)?;
        cx.observer.step(&format!("pushing to {}", self.address));
        let (sent, bytes_sent) = self.send(cx, dir, &image.blobs)?;
        if self.place.has(std::slice::from_ref(&image.digest))?.is_empty() {
            self.place.put_manifest(&image.digest, MANIFEST, &image.manifest)?;
        }
        let ours = json!({
            "mediaType": MANIFEST, "digest": image.digest, "size": image.manifest.len(), "platform": image.platform,
        });
        let (index, unchanged) = self.tell(cx, &ours)?;
        let platforms = index["manifests"].as_array().into_iter().flatten().map(|entry| platform_name(&entry["platform"]));
        let mut platforms: Vec<String> = platforms.collect();
        platforms.dedup();
        Ok(Pushed {
            address: self.address.to_string(),
            digest: digest_of(&bytes_of(&index)),
            manifest: image.digest,
            platforms,
            blobs_sent: sent,
            blobs_there: image.blobs.len() - sent,
            bytes_sent,
            unchanged: unchanged && sent == 0,
        })
    }

    /// Sends the blobs that are not there; returns how many, and their size.
    fn send(&self, cx: &Context<'_>, dir: &Path, blobs: &[Blob]) -> Result<(usize, u64)> {
        let there = threads::each(PARALLEL, blobs, |blob| self.place.has_blob(blob))?;
        let mut missing: Vec<Blob> = blobs.iter().zip(there).filter(|(_, there)| !there).map(|(blob, _)| blob.clone()).collect();
        // The largest first: the last one travels alone.
        missing.sort_by(|a, b| (b.size, &a.digest).cmp(&(a.size, &b.digest)));
        let total = missing.iter().map(|blob| blob.size).sum();
        cx.observer.event(&Event::Begin { what: "pushing", total: Some(total), unit: Unit::Bytes });
        let outcome = threads::each(PARALLEL, &missing, |blob| {
            let path = dir.join("blobs/sha256").join(blob.digest.trim_start_matches("sha256:"));
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            Ok(self.place.put_blob(blob, &file)?)
        });
        cx.observer.event(&Event::End);
        outcome.map(|_| (missing.len(), total))
    }

    /// Puts our entry into the index under the tag. Returns the index, and whether it was like that before.
    fn tell(&self, cx: &Context<'_>, ours: &Value) -> Result<(Value, bool)> {
        let mut index = Value::Null;
        for attempt in 0..MOST_ATTEMPTS {
            let there = self.entries(cx)?;
            index = with_entry(there.as_ref(), ours);
            if there.as_ref().is_some_and(|there| there.written && there.index == index) {
                return Ok((index, attempt == 0));
            }
            let kind = index["mediaType"].as_str().unwrap_or(INDEX).to_owned();
            self.place.put_manifest(&self.tag, &kind, &bytes_of(&index))?;
        }
        // It has ours now; somebody else writes it all the time.
        Ok((index, false))
    }

    /// The index that the tag stands for, or one of the single image that it stands for.
    fn entries(&self, cx: &Context<'_>) -> Result<Option<There>> {
        let Some(bytes) = self.place.manifest(&self.tag)? else { return Ok(None) };
        let other = || Error::NotAnImage { address: self.address.to_string() };
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| other())?;
        if value["manifests"].is_array() && value["artifactType"].is_null() {
            return Ok(Some(There { index: value, written: true }));
        }
        let config = &value["config"];
        let known = config["mediaType"].as_str().is_some_and(|kind| IMAGE_CONFIGS.contains(&kind));
        let (Some(digest), Some(size), true) = (config["digest"].as_str(), config["size"].as_u64(), known) else {
            return Err(other());
        };
        let platform = self.platform(cx, &Blob { digest: digest.to_owned(), size })?.ok_or_else(other)?;
        let entry = json!({
            "mediaType": value["mediaType"].as_str().unwrap_or(MANIFEST), "digest": digest_of(&bytes), "size": bytes.len(),
            "platform": platform,
        });
        Ok(Some(There { index: json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}), written: false }))
    }

    /// What an image that somebody else has pushed runs on.
    fn platform(&self, cx: &Context<'_>, config: &Blob) -> Result<Option<Value>> {
        if config.size > registry::MAX_MANIFEST_BYTES {
            return Ok(None);
        }
        let cache = cx.places.oci_layers();
        fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let path = cache.join(format!("config-{}", std::process::id()));
        self.place.get_blob(config, &path)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path));
        durable::remove_if_there(&path)?;
        Ok(platform_of(&bytes?))
    }
}

/// What a tag stands for, as an index.
struct There {
    index: Value,
    /// It is there like this.
    written: bool,
}

impl Image {
    fn read(dir: &Path) -> Result<Self> {
        let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
        let blob = |digest: &str| dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        // We have written all of it, so whatever is missing was removed.
        let broken = || Error::BrokenLayout { path: dir.to_owned() };
        let of = |value: &Value| -> Option<Blob> {
            Some(Blob { digest: value["digest"].as_str()?.to_owned(), size: value["size"].as_u64()? })
        };
        let index: Value = serde_json::from_slice(&read(&dir.join("index.json"))?).map_err(|_| broken())?;
        let descriptor = of(&index["manifests"][0]).ok_or_else(broken)?;
        let manifest = read(&blob(&descriptor.digest))?;
        let value: Value = serde_json::from_slice(&manifest).map_err(|_| broken())?;
        let config = of(&value["config"]).ok_or_else(broken)?;
        let platform = platform_of(&read(&blob(&config.digest))?).ok_or_else(broken)?;
        let layers = value["layers"].as_array().ok_or_else(broken)?;
        let mut blobs = layers.iter().map(|layer| of(layer).ok_or_else(broken)).collect::<Result<Vec<_>>>()?;
        blobs.push(config);
        // Two layers may be alike.
        blobs.sort();
        blobs.dedup();
        Ok(Self { digest: descriptor.digest, manifest, platform, blobs })
    }
}

/// The index with our entry in place of that of the same platform.
fn with_entry(there: Option<&There>, ours: &Value) -> Value {
    let mut index =
        there.map_or_else(|| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}), |there| there.index.clone());
    if index["mediaType"] != DOCKER_INDEX {
        index["mediaType"] = json!(INDEX);
    }
    let others = index["manifests"].as_array().cloned().unwrap_or_default();
    let same = |entry: &Value| is_same_platform(&entry["platform"], &ours["platform"]);
    let mut entries: Vec<Value> = Vec::new();
    // It keeps its place, and what others have written into it.
    for entry in others {
        if !same(&entry) {
            entries.push(entry);
        } else if !entries.iter().any(same) {
            entries.push(if entry["digest"] == ours["digest"] { entry } else { ours.clone() });
        }
    }
    if !entries.iter().any(same) {
        entries.push(ours.clone());
    }
    index["manifests"] = Value::Array(entries);
    index
}

/// Whether an image for the one is meant for the other, too. arm64 is `v8` whether that is said or not.
fn is_same_platform(one: &Value, other: &Value) -> bool {
    let variant = |platform: &Value| {
        let variant = platform["variant"].as_str().unwrap_or_default().to_owned();
        if platform["architecture"] == "arm64" && variant == "v8" { String::new() } else { variant }
    };
    one["os"] == other["os"] && one["architecture"] == other["architecture"] && variant(one) == variant(other)
}

fn platform_of(config: &[u8]) -> Option<Value> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let mut platform = json!({"architecture": config["architecture"].as_str()?, "os": config["os"].as_str()?});
    if let Some(variant) = config["variant"].as_str() {
        platform["variant"] = json!(variant);
    }
    Some(platform)
}

/// `linux/amd64`, safe to print.
fn platform_name(platform: &Value) -> String {
    let of = |name: &str| crate::terminal_text::sanitize_line(platform[name].as_str().unwrap_or("unknown").as_bytes(), 40);
    let variant = if platform["variant"].is_string() { format!("/{}", of("variant")) } else { String::new() };
    format!("{}/{}{variant}", of("os"), of("architecture"))
}

/// `serde_json` sorts the names in an object.
fn bytes_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digest: &str, architecture: &str) -> Value {
        json!({"digest": digest, "platform": {"os": "linux", "architecture": architecture}})
    }

    #[test]
    fn an_index_keeps_what_is_not_ours() {
        let with = |there: &Value| with_entry(Some(&There { index: there.clone(), written: true }), &entry("new", "arm64"));
        let digests = |index: &Value| -> Vec<String> {
            let all = index["manifests"].as_array().unwrap();
            all.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(digests(&with_entry(None, &entry("new", "arm64"))), ["new"]);
        let attestation =
            json!({"digest": "proof", "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": {"a": "b"}});
        let old = json!({"digest": "old", "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}});
        let twice = json!({"digest": "older", "platform": {"os": "linux", "architecture": "arm64"}});
        let there = json!({
            "schemaVersion": 2, "mediaType": INDEX, "annotations": {"kept": "yes"},
            "manifests": [entry("amd", "amd64"), old, attestation, twice],
        });
        let index = with(&there);
        assert_eq!(digests(&index), ["amd", "new", "proof"]);
        assert_eq!((&index["annotations"]["kept"], &index["manifests"][2]), (&json!("yes"), &attestation));
        assert_eq!(with(&index), index);
        // 32-bit arm has variants that are different machines.
        let v7 = json!({"manifests": [{"digest": "v7", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]});
        let index = with_entry(Some(&There { index: v7, written: true }), &entry("new", "arm"));
        assert_eq!(digests(&index), ["v7", "new"]);
        assert_eq!(index["mediaType"], INDEX);
        let docker = json!({"mediaType": DOCKER_INDEX, "manifests": []});
        assert_eq!(with(&docker)["mediaType"], DOCKER_INDEX);
        assert_eq!(platform_name(&json!({"os": "linux", "architecture": "arm", "variant": "v7"})), "linux/arm/v7");
    }
}
