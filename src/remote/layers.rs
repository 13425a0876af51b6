//! Layers as blobs.
//!
//! A layer never changes, so its blob is known once it was packed: the cache has a line for each. The archive itself is not kept.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::document::SignedLayer;
use super::{Error, Remote, Result};
use crate::archive::Format;
use crate::archive::digest::Algorithm;
use crate::archive::tasks::{self, ExportInput, ImportInput};
use crate::context::{self, Context};
use crate::durable::{self, Mode, Unfinished};
use crate::path_error::PathError;
use crate::progress::{Event, Unit};
use crate::registry::Blob;
use crate::store::{Incoming, LayerId};

/// Raise it when the same layer gets other bytes.
const PACKER: u32 = 1;
/// Above it, packing takes longer than it saves.
const LEVEL: u32 = 3;
/// How many blobs are fetched at once.
const AT_ONCE: usize = 4;

/// What is remembered of a packed layer.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    packer: u32,
    digest: String,
    size: u64,
}

/// Where blobs lie on their way.
pub(super) fn place(cx: &Context<'_>) -> Result<PathBuf> {
    let place = cx.places.remote();
    durable::make_dirs(&place, Mode::Exactly(0o700))?;
    Ok(place)
}

/// Where a blob lies that has come.
pub(super) fn path_of(place: &Path, blob: &Blob) -> PathBuf {
    place.join(blob.digest.replace(':', "-"))
}

impl Remote<'_> {
    /// Sees to it that the repository has the layer, and says what is to be signed of it.
    pub(super) fn put_layer(&self, id: &LayerId) -> Result<SignedLayer> {
        let sealed = self.cx.store.seal(id, self.cx.launcher)?.sealed;
        let signed = |blob: Blob| SignedLayer { id: id.clone(), contents: sealed.digest, blob: blob.digest, size: blob.size };
        let meta = place(self.cx)?.join(format!("{id}.json"));
        let known = std::fs::read(&meta).ok().and_then(|bytes| serde_json::from_slice::<Packed>(&bytes).ok());
        if let Some(Packed { digest, size, .. }) = known.filter(|known| known.packer == PACKER) {
            let blob = Blob { digest, size };
            if self.repository.has_blob(&blob)? {
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
        let record = Packed { packer: PACKER, digest: blob.digest.clone(), size: blob.size };
        durable::replace(&meta, &serde_json::to_vec(&record).unwrap_or_default(), Mode::Exactly(0o600))?;
        Ok(signed(blob))
    }

    fn pack(&self, id: &LayerId, out: &File) -> Result<Blob> {
        let cx = self.cx;
        let input = ExportInput {
            layers: vec![cx.store.layer(id)?.path],
            as_layer: false,
            exact: true,
            format: Format::TarZst,
            level: Some(LEVEL),
            threads: cx.settings.processors,
            exclude: Vec::new(),
            keep: Vec::new(),
            mtime_clamp: i64::MAX,
            mtime_floor: i64::MIN,
        };
        let fd = OwnedFd::from(out.try_clone().map_err(PathError::of("open", id.as_str()))?);
        let exported = tasks::export(cx.launcher, &input, fd, None, Vec::new(), Some(context::cancel(cx)?), cx.observer);
        context::not_interrupted(cx)?;
        let exported = exported.map_err(|source| Error::Pack { layer: id.to_string(), source })?;
        let digest = format!("sha256:{}", exported.archive.get(Algorithm::Sha256));
        Ok(Blob { digest, size: exported.archive.size })
    }

    /// Fetches the blobs of layers, several at a time.
    pub(super) fn fetch(&self, layers: &[&SignedLayer]) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        let place = place(self.cx)?;
        let total = layers.iter().map(|layer| layer.size).sum();
        self.cx.observer.event(&Event::Begin { what: "fetching", total: Some(total), unit: Unit::Bytes });
        let (next, failed) = (Mutex::new(layers.iter()), Mutex::new(None));
        crate::threads::crew(AT_ONCE.min(layers.len()), || {
            loop {
                let layer = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(blob) = layer.map(|layer| layer.blob()) else { break };
                if let Err(error) = self.repository.get_blob(&blob, &path_of(&place, &blob)) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    // Nobody begins another one.
                    next.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
                }
            }
        });
        self.cx.observer.event(&Event::End);
        context::not_interrupted(self.cx)?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Unpacks a layer that was fetched.
    pub(super) fn unpack(&self, layer: &SignedLayer, incoming: &Incoming) -> Result<()> {
        let cx = self.cx;
        let blob = layer.blob();
        let path = path_of(&place(cx)?, &blob);
        let file = File::open(&path).map_err(PathError::of("open", &path))?;
        // Whatever happens now, nobody needs its name any more.
        durable::remove_if_there(&path)?;
        let input = ImportInput {
            source: path,
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
        unpacked.map_err(|source| Error::Layer { layer: layer.id.to_string(), place: self.shown(), source })?;
        Ok(())
    }
}
