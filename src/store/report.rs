//! What `store ls`, `show`, `du` and `seal` report, as values for both tables and JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::in_map::{InMap, call};
use super::tasks::{DiskUsageInput, ManifestSummary, SealInput, TreeUsage};
use super::{
    Layer, LayerId, LockMode, Purpose, RefEntry, Result, Sealed, SessionId, SessionStatus, State, StateId, Store, TreeId, Wait,
    durable, process, tasks,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListReport {
    pub refs: Vec<RefRow>,
    /// Oldest first.
    pub states: Vec<StateRow>,
    /// Oldest first.
    pub layers: Vec<LayerRow>,
    /// Oldest first.
    pub sessions: Vec<SessionRow>,
    /// Oldest first.
    pub trees: Vec<TreeRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RefRow {
    pub name: String,
    pub state: StateId,
    pub since: String,
    /// How many previous values are kept.
    pub previous: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateRow {
    pub id: StateId,
    /// RFC 3339.
    pub created: String,
    pub layers: usize,
    /// What it was built on.
    pub parent: Option<StateId>,
    pub key: String,
    /// Names it has now.
    pub refs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LayerRow {
    pub id: LayerId,
    /// RFC 3339.
    pub created: String,
    pub purpose: Purpose,
    /// Its digest, once sealed.
    pub digest: Option<String>,
    /// How many states have it.
    pub states: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SessionRow {
    pub id: SessionId,
    pub purpose: Purpose,
    /// RFC 3339.
    pub created: String,
    /// The state below it.
    pub base: Option<StateId>,
    /// Active or suspended.
    pub status: SessionStatus,
    /// Build key.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TreeRow {
    pub id: TreeId,
    /// RFC 3339.
    pub created: String,
    /// Names it has now, without `tree/`.
    pub refs: Vec<String>,
    /// Where it came from.
    pub origin: serde_json::Value,
}

/// One build state in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShowReport {
    /// The state as written.
    #[serde(flatten)]
    pub state: State,
    /// Names it has now.
    pub refs: Vec<String>,
    /// Names that it had, with the position in the ref's history.
    pub former_refs: Vec<(String, usize)>,
    /// Its layers, bottom first.
    pub layer_rows: Vec<LayerRow>,
    /// States built on it.
    pub children: Vec<StateId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskUsage {
    /// Oldest first.
    pub layers: Vec<LayerUsage>,
    /// Oldest first.
    pub states: Vec<StateUsage>,
    /// Bytes of sessions, by id.
    pub sessions: BTreeMap<String, TreeUsage>,
    /// Bytes of tree snapshots, by id.
    pub trees: BTreeMap<String, TreeUsage>,
    /// Allocated for everything above, each layer once.
    pub total_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LayerUsage {
    pub id: LayerId,
    /// Allocated bytes and inodes.
    #[serde(flatten)]
    pub usage: TreeUsage,
    /// How many states have it.
    pub states: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateUsage {
    pub id: StateId,
    /// Names it has now.
    pub refs: Vec<String>,
    /// Allocated by all its layers.
    pub total_bytes: u64,
    /// Allocated by layers that another state has, too.
    pub shared_bytes: u64,
    /// Allocated by layers that no other state has.
    pub own_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SealReport {
    pub id: LayerId,
    /// What is recorded about it now.
    #[serde(flatten)]
    pub sealed: Sealed,
    /// It was sealed before, so nothing was done.
    pub was_sealed: bool,
}

impl Store {
    pub fn list(&self) -> Result<ListReport> {
        let states = self.states()?;
        let uses = uses(&states);
        let mut refs = Vec::new();
        let mut names: BTreeMap<StateId, Vec<String>> = BTreeMap::new();
        for (name, mut history) in self.readable_histories()? {
            let previous = history.len() - 1;
            let RefEntry { value: state, since } = history.swap_remove(0);
            names.entry(state.clone()).or_default().push(name.clone());
            refs.push(RefRow { name, state, since, previous });
        }
        let tree_names = self.tree_refs()?;
        let trees = self.trees()?.into_iter().map(|tree| TreeRow {
            refs: tree_names.iter().filter(|(_, id)| *id == tree.id).map(|(name, _)| name.clone()).collect(),
            id: tree.id,
            created: tree.meta.created,
            origin: tree.meta.origin,
        });
        Ok(ListReport {
            refs,
            layers: self.layers()?.into_iter().map(|layer| layer_row(layer, &uses)).collect(),
            sessions: self.sessions()?.into_iter().map(session_row).collect(),
            trees: trees.collect(),
            states: states.into_iter().map(|state| state_row(state, &names)).collect(),
        })
    }

    /// All about the state that `text` means, see [`Store::resolve`].
    pub fn show(&self, text: &str) -> Result<ShowReport> {
        let state = self.state(&self.resolve(text)?)?;
        let states = self.states()?;
        let uses = uses(&states);
        let mut former_refs = Vec::new();
        let mut refs = Vec::new();
        for (name, history) in self.readable_histories()? {
            if let Some(position) = history.iter().position(|e| e.value == state.id) {
                if position == 0 { refs.push(name) } else { former_refs.push((name, position)) }
            }
        }
        let layer_rows = state.layers.iter().map(|id| Ok(layer_row(self.layer(id)?, &uses))).collect::<Result<_>>()?;
        let children = states.into_iter().filter(|s| s.parent.as_ref() == Some(&state.id)).map(|s| s.id).collect();
        Ok(ShowReport { state, refs, former_refs, layer_rows, children })
    }

    /// Measures layers, sessions and tree snapshots, and what of them belongs to one state only.
    pub fn disk_usage(&self, in_map: &dyn InMap) -> Result<DiskUsage> {
        let (layers, states) = (self.layers()?, self.states()?);
        let (sessions, trees) = (self.sessions()?, self.trees()?);
        let mut paths: Vec<_> = layers.iter().map(|l| self.layer_dir(&l.id)).collect();
        paths.extend(sessions.iter().map(|s| self.session_dir(&s.id)));
        paths.extend(trees.iter().map(|t| self.path("trees").join(t.id.as_str())));
        let measured: Vec<TreeUsage> = call(in_map, tasks::DISK_USAGE, &DiskUsageInput { trees: paths })?;
        let mut measured = measured.into_iter();
        let mut next = || measured.next().unwrap_or_default();
        let uses = uses(&states);
        let layers: Vec<LayerUsage> = layers
            .into_iter()
            .map(|l| LayerUsage { usage: next(), states: uses.get(&l.id).copied().unwrap_or(0), id: l.id })
            .collect();
        let sessions: BTreeMap<String, TreeUsage> = sessions.into_iter().map(|s| (s.id.to_string(), next())).collect();
        let trees: BTreeMap<String, TreeUsage> = trees.into_iter().map(|t| (t.id.to_string(), next())).collect();
        let by_layer: BTreeMap<&LayerId, &LayerUsage> = layers.iter().map(|l| (&l.id, l)).collect();
        let names = self.names_by_state()?;
        let states = states.into_iter().map(|state| state_usage(state, &by_layer, &names)).collect();
        let others = sessions.values().chain(trees.values()).map(|u| u.bytes).sum::<u64>();
        let total_bytes = layers.iter().map(|l| l.usage.bytes).sum::<u64>() + others;
        Ok(DiskUsage { layers, states, sessions, trees, total_bytes })
    }

    /// Digests a layer, writes its manifest and records the digest. If the layer is sealed already, nothing is done.
    ///
    /// Sealing records what the layer contains; it does not change the layer.
    pub fn seal(&self, id: &LayerId, in_map: &dyn InMap) -> Result<SealReport> {
        let _lock = self.lock_named(&format!("seal/{id}"), Wait::Quietly)?;
        let layer = self.layer(id)?;
        if let Some(sealed) = layer.meta.sealed {
            return Ok(SealReport { id: id.clone(), sealed, was_sealed: true });
        }
        self.require_idmap()?;
        let area = self.temp_area()?;
        let input = SealInput { tree: layer.path.clone(), manifest: area.path().join("manifest") };
        let result = call::<ManifestSummary>(in_map, tasks::SEAL, &input).and_then(|summary| {
            // The manifest before the record: a layer whose record has a digest always has its manifest.
            let target = layer.manifest();
            crate::durable::publish(&input.manifest, &target)?;
            let ManifestSummary { digest, files, bytes } = summary;
            let sealed = Sealed { digest, files, bytes, at: process::now() };
            let mut meta = layer.meta;
            meta.sealed = Some(sealed.clone());
            self.write_json(&target.with_file_name("layer.json"), &meta)?;
            Ok(sealed)
        });
        area.discard(in_map)?;
        Ok(SealReport { id: id.clone(), sealed: result?, was_sealed: false })
    }

    /// The names whose present state has this layer.
    pub fn names_with(&self, layer: &LayerId) -> Result<Vec<String>> {
        let has = |id: &StateId| self.state(id).is_ok_and(|state| state.layers.contains(layer));
        Ok(self.refs()?.into_iter().filter(|(_, state)| has(state)).map(|(name, _)| name).collect())
    }

    fn names_by_state(&self) -> Result<BTreeMap<StateId, Vec<String>>> {
        let mut names: BTreeMap<StateId, Vec<String>> = BTreeMap::new();
        for (name, state) in self.refs()? {
            names.entry(state).or_default().push(name);
        }
        Ok(names)
    }

    /// Writes a small file of the store and brings it to the disk.
    fn write_json(&self, path: &std::path::Path, value: &impl Serialize) -> Result<()> {
        let _structure = self.structure(LockMode::Shared)?;
        durable::replace_json(&self.path("tmp"), path, value)
    }
}

/// How many states have each layer.
fn uses(states: &[State]) -> BTreeMap<LayerId, usize> {
    let mut uses = BTreeMap::new();
    for state in states {
        // A chain names each layer once. A damaged one that does not is still one state.
        for id in state.layers.iter().collect::<BTreeSet<_>>() {
            *uses.entry(id.clone()).or_insert(0) += 1;
        }
    }
    uses
}

fn layer_row(layer: Layer, uses: &BTreeMap<LayerId, usize>) -> LayerRow {
    let Layer { id, meta, .. } = layer;
    let states = uses.get(&id).copied().unwrap_or(0);
    LayerRow { id, created: meta.created, purpose: meta.purpose, digest: meta.sealed.map(|s| s.digest), states }
}

fn session_row(record: super::SessionRecord) -> SessionRow {
    let super::SessionRecord { id, purpose, created, base, status, key, .. } = record;
    SessionRow { id, purpose, created, base, status, key }
}

fn state_row(state: State, names: &BTreeMap<StateId, Vec<String>>) -> StateRow {
    let refs = names.get(&state.id).cloned().unwrap_or_default();
    StateRow { id: state.id, created: state.created, layers: state.layers.len(), parent: state.parent, key: state.key, refs }
}

fn state_usage(state: State, layers: &BTreeMap<&LayerId, &LayerUsage>, names: &BTreeMap<StateId, Vec<String>>) -> StateUsage {
    let (mut shared_bytes, mut own_bytes) = (0, 0);
    for layer in state.layers.iter().filter_map(|id| layers.get(id)) {
        *(if layer.states > 1 { &mut shared_bytes } else { &mut own_bytes }) += layer.usage.bytes;
    }
    let refs = names.get(&state.id).cloned().unwrap_or_default();
    StateUsage { id: state.id, refs, total_bytes: shared_bytes + own_bytes, shared_bytes, own_bytes }
}
