//! States of another store become ours, with their layers.
//!
//! ```text
//! tmp/AREA/LAYER/fs          filled by the caller, inside the id map
//! tmp/AREA/LAYER/manifest    sealed, and held against the digest that it had where it came from
//! tmp/AREA/LAYER/layer.json
//! ```
//!
//! Everything is on the disk before the first layer gets its name, and all layers have theirs before the first state is written. What was
//! killed in between leaves layers without a state and a locked area, which recovery removes.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::in_map::{InMap, call, check_upper};
use super::tasks::{ManifestSummary, SealInput};
use super::tree_snapshot::TempArea;
use super::{Error, LayerId, LayerMeta, LockMode, Result, State, Store, durable, make_dir, tasks};

/// Layers of another store that are on their way into this one. If it is dropped, the next recovery removes them.
#[derive(Debug)]
#[must_use = "what is not committed is removed by the next recovery"]
pub(crate) struct Incoming {
    area: TempArea,
    ready: Vec<LayerId>,
}

impl Store {
    /// An empty area for layers of another store.
    pub(crate) fn incoming(&self) -> Result<Incoming> {
        self.require_idmap()?;
        Ok(Incoming { area: self.temp_area()?, ready: Vec::new() })
    }

    /// Whether this store has the layer, with the contents of this digest. It is sealed if it was not.
    pub(crate) fn has_layer(&self, id: &LayerId, digest: &str, in_map: &dyn InMap) -> Result<bool> {
        match self.layer(id) {
            Err(Error::NoSuchLayer(_)) => return Ok(false),
            layer => drop(layer?),
        }
        let found = self.seal(id, in_map)?.sealed.digest;
        if found == digest {
            return Ok(true);
        }
        Err(Error::OtherDigest { layer: id.clone(), found, expected: digest.to_owned() })
    }
}

impl Incoming {
    /// Where the contents of a layer are to be unpacked: a new, empty directory.
    pub(crate) fn tree(&self, id: &LayerId) -> Result<PathBuf> {
        let dir = self.area.path().join(id.as_str());
        make_dir(&dir, 0o700)?;
        let tree = dir.join("fs");
        make_dir(&tree, 0o755)?;
        Ok(tree)
    }

    /// Keeps the area locked in another process.
    pub(crate) fn lock_fd(&self) -> Result<OwnedFd> {
        self.area.lock_fd()
    }

    /// Seals an unpacked layer. It must be what it was when it was sealed where it comes from.
    pub(crate) fn seal(&mut self, mut meta: LayerMeta, in_map: &dyn InMap) -> Result<()> {
        let dir = self.area.path().join(meta.id.as_str());
        let input = SealInput { tree: dir.join("fs"), manifest: dir.join("manifest") };
        let ManifestSummary { digest, files, bytes } = call(in_map, tasks::SEAL, &input)?;
        let Some(sealed) = meta.sealed.as_mut().filter(|sealed| sealed.digest == digest) else {
            let expected = meta.sealed.map(|sealed| sealed.digest).unwrap_or_default();
            return Err(Error::OtherDigest { layer: meta.id, found: digest, expected });
        };
        (sealed.files, sealed.bytes) = (files, bytes);
        durable::write_unsynced_json(&dir.join("layer.json"), &meta)?;
        check_upper(&input.tree, self.area.store().fd())?;
        self.ready.push(meta.id);
        Ok(())
    }

    /// Gives the layers and then the states their names, parents first. What is there already stays.
    pub(crate) fn commit(self, states: &[State]) -> Result<()> {
        let store = self.area.store().clone();
        for state in states {
            if !state.has_id(&state.id)? {
                return Err(Error::NotItself(state.id.clone()));
            }
            state.check_stackable()?;
            state.check_readable(&store.state_path(&state.id))?;
        }
        self.area.sync()?;
        {
            let _structure = store.structure(LockMode::Shared)?;
            for id in &self.ready {
                let target = store.layer_dir(id);
                match fs::rename(self.area.path().join(id.as_str()), &target) {
                    // Somebody else has brought it meanwhile.
                    Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
                    renamed => renamed.map_err(|error| Error::io("create", &target, error))?,
                }
            }
            durable::sync_dir(&store.path("layers"))?;
            for state in states {
                for layer in &state.layers {
                    store.layer(layer)?;
                }
                let path = store.state_path(&state.id);
                if !path.exists() {
                    let adopted = State { adopted: true, ..state.clone() };
                    durable::replace_json(&store.path("tmp"), &path, &adopted)?;
                }
            }
        }
        for state in states {
            store.note_use(&state.id);
        }
        self.area.finish();
        Ok(())
    }

    /// Removes what has come so far.
    pub(crate) fn discard(self, in_map: &dyn InMap) -> Result<()> {
        self.area.discard(in_map)
    }
}
