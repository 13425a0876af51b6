//! Build states and the layers that they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, LayerId, LockMode, NewState, Purpose, Result, StateId, Store, durable, process};
use crate::origin::Recorded;
use crate::threads::share;

/// More lower directories than these the kernel does not stack (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;

/// A chain of layers and what it was made from. It never changes once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct State {
    /// Digest of `layers`, `parent`, `key` and `origin`.
    pub id: StateId,
    /// Bottom first.
    pub layers: Vec<LayerId>,
    /// The state that the topmost layer was built on.
    pub parent: Option<StateId>,
    /// The build key: a hash of all inputs.
    pub key: String,
    /// Who made it and from what: stage3 name, signer, the reason given for an unsigned one, definition, tree snapshot, packages.
    pub origin: Recorded,
    /// When it was committed, RFC 3339, UTC.
    pub created: String,
    /// Time of the newest input, in seconds since 1970. Exports clamp times to it.
    pub newest_input: i64,
    /// It was built elsewhere and came from a remote. For a build key, what was built here goes before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl State {
    /// Which of several with one build key is meant: the greatest.
    fn rank(&self) -> (bool, &str, &StateId) {
        (!self.adopted, &self.created, &self.id)
    }

    /// The id of a state with these properties.
    pub(super) fn derive_id(layers: &[LayerId], parent: Option<&StateId>, key: &str, origin: &Recorded) -> Result<StateId> {
        let parts = (layers, parent, key, origin);
        let path = PathBuf::from("states");
        let bytes = serde_json::to_vec(&parts).map_err(|source| Error::Encode { path, source })?;
        Ok(StateId::from_digest(&Sha256::digest(&bytes)))
    }
}

/// The contents of `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    pub id: LayerId,
    /// When it was committed, RFC 3339, UTC.
    pub created: String,
    pub purpose: Purpose,
    /// The state below it when it was written.
    pub base: Option<StateId>,
    /// Present once the layer is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// What a layer contained when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sealed {
    /// SHA-256 of the manifest, `sha256:` and 64 digits.
    pub digest: String,
    /// How many lines the manifest has, directories included.
    pub files: u64,
    /// Sum of the sizes of its regular files, hard links counted once.
    pub bytes: u64,
    /// When, RFC 3339, UTC.
    pub at: String,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub id: LayerId,
    /// Its tree, in overlayfs upper format.
    pub path: PathBuf,
    pub meta: LayerMeta,
}

impl Layer {
    /// Where the manifest is, once the layer is sealed.
    pub fn manifest(&self) -> PathBuf {
        self.path.with_file_name("manifest")
    }
}

impl State {
    /// Whether this state has this id and its contents were not changed.
    pub fn has_id(&self, id: &StateId) -> Result<bool> {
        Ok(self.id == *id && Self::derive_id(&self.layers, self.parent.as_ref(), &self.key, &self.origin)? == *id)
    }

    /// Refuses a state with more layers than the kernel stacks.
    pub(super) fn check_stackable(&self) -> Result<()> {
        if self.layers.len() <= MOST_LAYERS {
            return Ok(());
        }
        Err(Error::TooManyLayers { state: self.id.clone(), count: self.layers.len(), most: MOST_LAYERS })
    }

    /// Refuses a state on which no other can be made: with one more layer it could never be opened.
    pub fn check_room(&self) -> Result<()> {
        if self.layers.len() < MOST_LAYERS {
            return Ok(());
        }
        Err(Error::TooManyLayers { state: self.id.clone(), count: self.layers.len(), most: MOST_LAYERS })
    }

    /// Refuses a state that could not be read again: `serde_json` writes an origin that is nested more deeply than it reads.
    pub(super) fn check_readable(&self, path: &Path) -> Result<()> {
        let encode = |source| Error::Encode { path: path.to_owned(), source };
        let bytes = serde_json::to_vec(self).map_err(encode)?;
        serde_json::from_slice::<Self>(&bytes).map(drop).map_err(encode)
    }
}

impl Store {
    pub(super) fn state_path(&self, id: &StateId) -> PathBuf {
        self.path("states").join(format!("{id}.json"))
    }

    pub(super) fn layer_dir(&self, id: &LayerId) -> PathBuf {
        self.path("layers").join(id.as_str())
    }

    pub fn state(&self, id: &StateId) -> Result<State> {
        durable::read_json(&self.state_path(id))?.ok_or_else(|| Error::NoSuchState(id.clone()))
    }

    pub fn state_ids(&self) -> Result<Vec<StateId>> {
        self.ids("states", ".json")
    }

    /// All states, oldest first, without damaged ones, see [`Store::damaged`].
    pub fn states(&self) -> Result<Vec<State>> {
        let read = |id: StateId| match self.state(&id) {
            // Deleted between listing and reading.
            Err(Error::NoSuchState(_)) => Ok(None),
            state => self.unless_damaged(&self.state_path(&id), state),
        };
        let mut states: Vec<State> = share(self.ids("states", ".json")?, read)?.into_iter().flatten().collect();
        states.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        Ok(states)
    }

    /// The youngest state with this build key. Keys do not name states: a build that is repeated gets a second state.
    pub fn state_by_key(&self, key: &str) -> Result<Option<State>> {
        Ok(self.states_by_key(&[key])?.remove(key))
    }

    /// For each of these build keys the youngest state, if there is one; of those that were built here, if there are any. Whoever signs for a
    /// remote says when a state of its own was built, and which others come with it.
    ///
    /// Reads each state's file once, several at a time, and parses only those that contain one of the keys.
    pub fn states_by_key(&self, keys: &[&str]) -> Result<BTreeMap<String, State>> {
        let wanted: BTreeSet<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let ids = self.ids::<StateId>("states", ".json")?;
        let read = |id: StateId| -> Result<Option<State>> {
            let path = self.state_path(&id);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Deleted between listing and reading.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return self.unless_damaged(&path, Err(Error::io("read", &path, error))),
            };
            if !strings_of(&bytes).any(|string| wanted.contains(string)) {
                return Ok(None);
            }
            let state = serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.clone(), source });
            let state: Option<State> = self.unless_damaged(&path, state)?;
            Ok(state.filter(|state| wanted.contains(state.key.as_bytes())))
        };
        let mut youngest: BTreeMap<String, State> = BTreeMap::new();
        for state in share(ids, read)?.into_iter().flatten() {
            match youngest.get(&state.key) {
                Some(other) if other.rank() > state.rank() => {}
                _ => drop(youngest.insert(state.key.clone(), state)),
            }
        }
        Ok(youngest)
    }

    /// Makes a state of existing layers, bottom first. The caller must know which of them may lie on which: what emerge wrote belongs on
    /// what it was written on, and on nothing else. The caller holds the store's lock, shared.
    pub fn state_of_layers(&self, layers: Vec<LayerId>, new: NewState) -> Result<State> {
        for layer in &layers {
            self.layer(layer)?;
        }
        let NewState { key, origin, newest_input, parent } = new;
        let id = State::derive_id(&layers, parent.as_ref(), &key, &origin)?;
        let state = State { id, layers, parent, key, origin, created: process::now(), newest_input, adopted: false };
        state.check_readable(&self.state_path(&state.id))?;
        let _structure = self.structure(LockMode::Shared)?;
        durable::replace_json(&self.path("tmp"), &self.state_path(&state.id), &state)?;
        self.note_use(&state.id);
        Ok(state)
    }

    /// All layers, oldest first, without damaged ones, see [`Store::damaged`].
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let read = |id: LayerId| match self.layer(&id) {
            // Deleted between listing and reading.
            Err(Error::NoSuchLayer(_)) if !self.layer_dir(&id).exists() => Ok(None),
            layer => self.unless_damaged(&self.layer_dir(&id).join("layer.json"), layer),
        };
        Ok(share(self.layer_ids()?, read)?.into_iter().flatten().collect())
    }

    pub fn layer_ids(&self) -> Result<Vec<LayerId>> {
        self.ids("layers", "")
    }

    pub fn layer(&self, id: &LayerId) -> Result<Layer> {
        let dir = self.layer_dir(id);
        let meta = durable::read_json(&dir.join("layer.json"))?.ok_or_else(|| Error::NoSuchLayer(id.clone()))?;
        Ok(Layer { id: id.clone(), path: dir.join("fs"), meta })
    }

    /// The trees that overlayfs stacks for this state, topmost first as the kernel wants them.
    pub fn lower_dirs(&self, state: &State) -> Vec<PathBuf> {
        state.layers.iter().rev().map(|id| self.layer_dir(id).join("fs")).collect()
    }
}

/// The parts of a JSON text between quotation marks, cut at each escape. No key contains an escape.
fn strings_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_a_json_text() {
        let strings: Vec<&[u8]> = strings_of(br#"{"key": "abc", "origin": {"a": ["x", "y"]}}"#).collect();
        assert!([b"abc".as_slice(), b"x", b"y"].iter().all(|string| strings.contains(string)), "{strings:?}");
        assert!(!strings.contains(&b"ab".as_slice()));
    }
}
