//! Layers as blobs.
//!
//! A layer never changes, so its blob is known once it was packed: the cache has a line for each. The archive itself is not kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::SignedLayer;
use super::{Error, Remote, Result};
use crate::archive::digest::Algorithm;
use crate::archive::tasks::{self, ExportInput, ImportInput};
use crate::beneath::{NAMES_LIMIT, RootDir, remove_tree};
use crate::context::{self, Context};
use crate::durable::{self, Mode, Unfinished};
use crate::path_error::PathError;
use crate::progress::{Event, Unit};
use crate::registry::{self, Blob};
use crate::store::{Incoming, LayerId};
use crate::threads;

/// Raise it when the same layer gets other bytes.
const PACKER: u32 = 1;
/// Above it, packing takes longer than it saves.
const LEVEL: u32 = 3;
/// How many blobs are fetched at once.
const AT_ONCE: usize = 4;

/// What directories of packages on their way into a pool begin with.
pub(super) const STAGING: &str = "packages-";

/// What documents on their way begin with.
pub(super) const DOCUMENT: &str = "document-";

/// A name that nobody else has. Containers that share a cache have the same process ids.
pub(super) fn unique(beginning: &str) -> String {
    format!("{beginning}{:016x}", RandomState::new().build_hasher().finish())
}

/// What is remembered of a packed layer.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    packer: u32,
    /// The digest of the layer when it was sealed.
    contents: String,
    digest: String,
    size: u64,
}

/// Where blobs lie on their way.
pub(super) fn place(cx: &Context<'_>) -> Result<PathBuf> {
    let place = cx.places.remote();
    durable::make_dirs(&place, Mode::Exactly(0o700))?;
    Ok(place)
}

impl Remote<'_> {
    /// Where a blob lies that has come. Pulls from other remotes do not wait for ours, and the same blob is another file for them.
    pub(super) fn path_of(&self, blob: &Blob) -> Result<PathBuf> {
        Ok(place(self.cx)?.join(format!("{}.{}", blob.digest.replace(':', "-"), self.mark())))
    }

    /// Sees to it that the repository has the layer, and says what is to be signed of it.
    pub(super) fn put_layer(&self, id: &LayerId) -> Result<SignedLayer> {
        let sealed = {
            let _sharing = context::share_store(self.cx)?;
            self.cx.store.seal(id, self.cx.launcher)?.sealed
        };
        let signed =
            |blob: Blob| SignedLayer { id: id.clone(), contents: sealed.digest.clone(), blob: blob.digest, size: blob.size };
        let meta = place(self.cx)?.join(format!("{id}.json"));
        let known = std::fs::read(&meta).ok().and_then(|bytes| serde_json::from_slice::<Packed>(&bytes).ok());
        let is_it = |known: &Packed| known.packer == PACKER && known.contents == sealed.digest;
        if let Some(Packed { digest, size, .. }) = known.filter(is_it) {
            let blob = Blob { digest, size };
            // What is not sound there is sent once more.
            if self.repository.is_sound(&blob)? {
                return Ok(signed(blob));
            }
        }
        let packed = place(self.cx)?.join(format!("{id}.tar.zst"));
        let unfinished = Unfinished::beside(&packed, 0o600)?;
        let blob = self.pack(id, &unfinished.file)?;
        let reading = unfinished.open_again()?;
        self.cx.observer.event(&Event::Begin { what: "pushing", total: Some(blob.size), unit: Unit::Bytes });
        let put = self.repository.put_blob(&blob, &reading);
        self.cx.observer.event(&Event::End);
        context::not_interrupted(self.cx)?;
        put?;
        let contents = sealed.digest.clone();
        let record = Packed { packer: PACKER, contents, digest: blob.digest.clone(), size: blob.size };
        durable::replace(&meta, &serde_json::to_vec(&record).unwrap_or_default(), Mode::Exactly(0o600))?;
        Ok(signed(blob))
    }

    fn pack(&self, id: &LayerId, out: &File) -> Result<Blob> {
        let cx = self.cx;
        // The archive is a file of its own: nobody's `clean` waits until it is sent.
        let _sharing = context::share_store(cx)?;
        let input = ExportInput::exact(cx.store.layer(id)?.path, LEVEL, cx.settings.processors);
        let fd = OwnedFd::from(out.try_clone().map_err(PathError::of("open", id.as_str()))?);
        let exported = tasks::export(cx.launcher, &input, fd, None, Vec::new(), Some(context::cancel(cx)?), cx.observer);
        context::not_interrupted(cx)?;
        let exported = exported.map_err(|source| Error::Pack { layer: id.to_string(), source })?;
        let digest = format!("sha256:{}", exported.archive.get(Algorithm::Sha256));
        Ok(Blob { digest, size: exported.archive.size })
    }

    /// Fetches the blobs of layers.
    pub(super) fn fetch(&self, layers: &[&SignedLayer]) -> Result<()> {
        self.fetch_blobs(layers.iter().map(|layer| layer.blob()).collect(), false).map(drop)
    }

    /// Fetches blobs, several at a time. What an earlier pull has left stays for a day, so that it is not fetched once more because of the
    /// one that was missing. If it is to `go_on`, what is wrong with one blob stops no other one, and is returned by its digest.
    pub(super) fn fetch_blobs(&self, mut blobs: Vec<Blob>, go_on: bool) -> Result<BTreeMap<String, registry::Error>> {
        if blobs.is_empty() {
            return Ok(BTreeMap::new());
        }
        sweep(&place(self.cx)?);
        // Layers may be equal.
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        blobs.dedup();
        let mut lacking = Vec::new();
        for blob in blobs {
            let path = self.path_of(&blob)?;
            if path.metadata().map_or(true, |meta| meta.len() != blob.size) {
                lacking.push((blob, path));
            }
        }
        let total = lacking.iter().fold(0, |sum: u64, (blob, _)| sum.saturating_add(blob.size));
        self.cx.observer.event(&Event::Begin { what: "fetching", total: Some(total), unit: Unit::Bytes });
        let fetched = threads::each(AT_ONCE, &lacking, |(blob, path)| match self.repository.get_blob(blob, path) {
            Err(error) if go_on && error.is_of_one() => Ok(Some((blob.digest.clone(), error))),
            fetched => fetched.map(|()| None),
        });
        self.cx.observer.event(&Event::End);
        context::not_interrupted(self.cx)?;
        Ok(fetched?.into_iter().flatten().collect())
    }

    /// Removes what was fetched.
    pub(super) fn forget(&self, layers: &[&SignedLayer]) -> Result<()> {
        for layer in layers {
            durable::remove_if_there(&self.path_of(&layer.blob())?)?;
        }
        Ok(())
    }

    /// Unpacks a layer that was fetched.
    pub(super) fn unpack(&self, layer: &SignedLayer, incoming: &Incoming) -> Result<()> {
        let cx = self.cx;
        let blob = layer.blob();
        let path = self.path_of(&blob)?;
        let file = File::open(&path).map_err(PathError::of("open", &path))?;
        let input = ImportInput {
            source: path.clone(),
            into: incoming.tree(&layer.id)?,
            size: layer.size,
            sha512: String::new(),
            blake2b: String::new(),
            threads: cx.settings.processors,
            layer_sha256: blob.digest.strip_prefix("sha256:").map(str::to_owned),
        };
        let hold = vec![incoming.lock_fd()?];
        let unpacked = tasks::import(cx.launcher, &input, OwnedFd::from(file), hold, Some(context::cancel(cx)?), cx.observer);
        context::not_interrupted(cx)?;
        if let Err(source) = unpacked {
            // Who knows what it is: it is not kept.
            durable::remove_if_there(&path)?;
            return Err(Error::Layer { layer: layer.id.to_string(), place: self.shown(), source });
        }
        Ok(())
    }
}

/// Removes what earlier pulls have left for longer than a day. What cannot be removed is no reason not to pull.
fn sweep(place: &Path) {
    const LONG: Duration = Duration::from_hours(24);
    let Ok(dir) = RootDir::open(place).and_then(|root| root.tree()) else { return };
    for entry in dir.entries(NAMES_LIMIT).unwrap_or_default() {
        let Some(name) = entry.text().filter(|name| ["sha256-", STAGING, DOCUMENT].iter().any(|kind| name.starts_with(kind)))
        else {
            continue;
        };
        let modified = place.join(name).symlink_metadata().and_then(|meta| meta.modified());
        if modified.ok().and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > LONG) {
            drop(remove_tree(&place.join(name)));
        }
    }
}
