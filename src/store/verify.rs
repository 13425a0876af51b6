//! Checks that everything in the store is as it should be.
//!
//! [`Store::verify`] checks the structure and needs no helper. [`Store::verify_deep`] reads every sealed layer inside the id map. Both
//! report everything that they find, since one damaged file says little.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::Serialize;

use super::in_map::{InMap, call};
use super::tasks::{Compared, VerifyDeepInput};
use super::{
    DIRECTORIES, Error, IdMapChange, LayerId, LockMode, Result, SessionId, State, StateId, Store, TreeId, describe, lock, refs,
    session, tasks,
};
use crate::path_error::PathError;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing is lost. Either the next command corrects it, or it only costs space.
    Note,
    /// Something is no longer usable.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "finding")]
#[non_exhaustive]
pub enum Finding {
    /// The id map of the host has changed.
    IdMapChanged {
        /// What the store was made with.
        recorded: String,
        /// What the host grants now.
        current: String,
    },
    /// Others could enter a directory of the store.
    Mode { path: PathBuf, mode: String },
    /// Something is owned by somebody else.
    Owner { path: PathBuf, owner: u32 },
    /// A file cannot be read or understood.
    Unreadable { path: PathBuf, why: String },
    /// A directory that should be there is not one.
    NotADirectory { path: PathBuf },
    /// A ref names a state that is not there.
    RefWithoutState {
        name: String,
        state: StateId,
        /// It is only a previous value; the present one is fine.
        former: bool,
    },
    /// The name of a tree snapshot names none.
    RefWithoutTree { name: String, tree: TreeId },
    /// A state was made from one that is not there.
    StateWithoutParent { state: StateId, parent: StateId },
    /// A suspended session is on a state that is not there.
    SessionWithoutState { session: SessionId, state: StateId },
    /// A state names a layer that is not there.
    StateWithoutLayer { state: StateId, layer: LayerId },
    /// A state's id is not the digest of its contents.
    StateChanged { state: StateId },
    /// A file has the id of another one in it.
    WrongId { path: PathBuf },
    /// No state names this layer, and its session is gone.
    LayerWithoutState {
        layer: LayerId,
        /// The layer stays, since a missing or damaged state or name may lead to it.
        doubtful: bool,
    },
    /// A sealed layer has lost its manifest.
    ManifestMissing { layer: LayerId },
    /// No file of ours.
    Unknown { path: PathBuf },
    /// A killed process has left it.
    Litter { path: PathBuf },
}

impl Finding {
    pub fn severity(&self) -> Severity {
        match self {
            Self::LayerWithoutState { .. } | Self::Unknown { .. } | Self::Litter { .. } | Self::Mode { .. } => Severity::Note,
            _ => Severity::Error,
        }
    }

    pub fn remedy(&self) -> &'static str {
        match self {
            Self::IdMapChanged { .. } => {
                "ask the administrator to restore the recorded ranges in `/etc/subuid` and `/etc/subgid`, or start a new store \
                 with `--data`"
            }
            Self::Mode { .. } => {
                "remove the permissions of group and others with `chmod 0700`; they could reach set-id files in layers"
            }
            Self::Owner { .. } => "find out who put it there; the store's own files belong to the user who made it",
            Self::RefWithoutState { former: true, .. } => {
                "restore that file from a backup, or give up the earlier value with `gentoomuch clean --keep N`; until then all \
                 states and layers stay"
            }
            Self::RefWithoutState { .. } => {
                "restore that file from a backup; or move or remove the name, and give up the value with `gentoomuch clean --keep \
                 N`; until then all states and layers stay"
            }
            Self::StateWithoutParent { .. } => "restore that file from a backup; until then all states and layers stay",
            Self::SessionWithoutState { .. } => {
                "restore that file from a backup, or give up the session with `gentoomuch clean --sessions`; until then all \
                 states and layers stay"
            }
            Self::RefWithoutTree { .. } => "move the name to another value, or build again",
            Self::Unreadable { .. }
            | Self::NotADirectory { .. }
            | Self::StateWithoutLayer { .. }
            | Self::StateChanged { .. }
            | Self::WrongId { .. } => "restore it from a backup, or remove the names that need it and build again",
            Self::LayerWithoutState { doubtful: false, .. } => "nothing uses it; remove it with `gentoomuch clean`",
            Self::LayerWithoutState { doubtful: true, .. } => {
                "it stays, since a missing or damaged state may need it: see the other findings"
            }
            Self::ManifestMissing { .. } => "the digest is still there, but `verify --deep` can no longer show what differs",
            Self::Unknown { .. } => "remove it if nobody needs it",
            Self::Litter { .. } => "the next command removes it",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdMapChanged { recorded, current } => {
                write!(f, "the store was made with {recorded}, but the host now grants {current}")
            }
            Self::Mode { path, mode } => write!(f, "`{}` has mode {mode}, but should have 0700", path.display()),
            Self::Owner { path, owner } => write!(f, "`{}` belongs to user {owner}", path.display()),
            Self::Unreadable { path, why } => write!(f, "`{}` cannot be read: {why}", path.display()),
            Self::NotADirectory { path } => write!(f, "`{}` is not a directory", path.display()),
            Self::RefWithoutState { name, state, former: false } => {
                write!(f, "`{name}` names build state `{state}`, but `states/{state}.json` is missing")
            }
            Self::RefWithoutState { name, state, former: true } => {
                write!(f, "`{name}` once named build state `{state}`, but `states/{state}.json` is missing")
            }
            Self::StateWithoutParent { state, parent } => {
                write!(f, "build state `{state}` was made from `{parent}`, but `states/{parent}.json` is missing")
            }
            Self::SessionWithoutState { session, state } => {
                write!(f, "suspended session `{session}` is on build state `{state}`, but `states/{state}.json` is missing")
            }
            Self::RefWithoutTree { name, tree } => write!(f, "`tree/{name}` names tree snapshot `{tree}`, which is missing"),
            Self::StateWithoutLayer { state, layer } => {
                write!(f, "build state `{state}` needs layer `{layer}`, which is missing")
            }
            Self::StateChanged { state } => write!(f, "build state `{state}` does not match its id"),
            Self::WrongId { path } => write!(f, "the content of `{}` does not match its name", path.display()),
            Self::LayerWithoutState { layer, .. } => write!(f, "no build state has layer `{layer}`"),
            Self::ManifestMissing { layer } => write!(f, "the manifest of layer `{layer}` is missing"),
            Self::Unknown { path } => write!(f, "`{}` is not a file of the store", path.display()),
            Self::Litter { path } => write!(f, "`{}` was left by a process that was killed", path.display()),
        }
    }
}

/// What `store verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VerifyReport {
    /// Worst first, then by text.
    pub findings: Vec<Finding>,
    /// How many refs were looked at.
    pub refs: usize,
    /// How many states.
    pub states: usize,
    /// How many layers.
    pub layers: usize,
    /// How many tree snapshots.
    pub trees: usize,
}

impl VerifyReport {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What `store verify --deep` found in the contents of layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeepReport {
    /// Layers that contain what they did when sealed.
    pub good: Vec<LayerId>,
    /// Layers whose contents are not.
    pub different: Vec<LayerDifferences>,
    /// Layers without a digest to compare with.
    pub unsealed: Vec<LayerId>,
}

/// A sealed layer that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LayerDifferences {
    pub layer: LayerId,
    pub recorded_digest: String,
    pub digest: String,
    /// The manifest itself was changed, too, so the differences below may mislead.
    pub manifest_changed: bool,
    pub first: Vec<Difference>,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Difference {
    /// Relative to the layer's root; bytes outside printable ASCII are `\xNN`.
    pub path: String,
    pub what: String,
}

impl Store {
    /// Checks the structure of the whole store. Errors are only those of listing directories; everything else is a finding. The caller
    /// holds the store's lock, shared.
    ///
    /// What others make or remove at this moment looks like damage. So if there are findings, we check a second time while nobody makes
    /// or removes anything.
    pub fn verify(&self) -> Result<VerifyReport> {
        match self.look() {
            Ok(report) if report.is_clean() => return Ok(report),
            first => tracing::debug!(?first, "looking again"),
        }
        let _structure = self.structure(LockMode::Exclusive)?;
        self.look()
    }

    fn look(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        if self.idmap_change() == IdMapChange::Changed {
            let (recorded, current) = (describe(&self.inner.idmap), describe(&self.inner.current));
            report.findings.push(Finding::IdMapChanged { recorded, current });
        }
        if let Some(mode) = self.inner.loose {
            report.findings.push(Finding::Mode { path: self.root().to_owned(), mode: format!("{mode:04o}") });
        }
        self.verify_names(&mut report)?;
        self.verify_layers(&mut report)?;
        let states = self.verify_states(&mut report)?;
        self.verify_refs(&states, &mut report)?;
        self.verify_trees(&mut report)?;
        self.verify_passing(&mut report)?;
        report.findings.sort_by_cached_key(|f| (std::cmp::Reverse(f.severity()), f.to_string()));
        Ok(report)
    }

    /// Reads every sealed layer and compares it with its manifest. Names at most `limit` differences of each layer.
    pub fn verify_deep(&self, in_map: &dyn InMap, limit: usize, mut begin: impl FnMut(&LayerId)) -> Result<DeepReport> {
        let mut report = DeepReport::default();
        for id in self.ids::<LayerId>("layers", "")? {
            // `verify` reports what cannot be read.
            let Ok(layer) = self.layer(&id) else { continue };
            let Some(sealed) = &layer.meta.sealed else {
                report.unsealed.push(id);
                continue;
            };
            begin(&id);
            let input = VerifyDeepInput { tree: layer.path.clone(), manifest: layer.manifest(), limit };
            let compared: Compared = call(in_map, tasks::VERIFY_DEEP, &input)?;
            if compared.digest == sealed.digest {
                report.good.push(id);
                continue;
            }
            report.different.push(LayerDifferences {
                layer: id,
                recorded_digest: sealed.digest.clone(),
                digest: compared.digest,
                manifest_changed: compared.manifest_digest != sealed.digest,
                first: compared.differences.into_iter().map(|(path, what)| Difference { path, what }).collect(),
                count: compared.count,
            });
        }
        Ok(report)
    }

    /// Names that are not ours.
    fn verify_names(&self, report: &mut VerifyReport) -> Result<()> {
        type IsKnown = fn(&str) -> bool;
        for path in super::durable::list(self.root())? {
            let name = name_of(&path);
            if !DIRECTORIES.contains(&name) && name != "store.json" && name != super::ballast::NAME {
                report.findings.push(Finding::Unknown { path });
            }
        }
        let known: [(&str, IsKnown); 4] = [
            ("layers", |n| n.parse::<LayerId>().is_ok()),
            ("states", |n| n.strip_suffix(".json").is_some_and(|n| n.parse::<StateId>().is_ok())),
            ("trees", |n| n.parse::<TreeId>().is_ok()),
            ("sessions", |n| n.parse::<SessionId>().is_ok()),
        ];
        for (directory, is_known) in known {
            for path in super::durable::list(&self.path(directory))? {
                if !is_known(name_of(&path)) {
                    report.findings.push(Finding::Unknown { path });
                }
            }
        }
        Ok(())
    }

    fn verify_layers(&self, report: &mut VerifyReport) -> Result<()> {
        for id in self.ids::<LayerId>("layers", "")? {
            report.layers += 1;
            let dir = self.layer_dir(&id);
            check_directory(&dir, true, &mut report.findings);
            check_directory(&dir.join("fs"), false, &mut report.findings);
            for path in super::durable::list(&dir).unwrap_or_default() {
                if !matches!(name_of(&path), "fs" | "layer.json" | "manifest") {
                    report.findings.push(Finding::Unknown { path });
                }
            }
            let path = dir.join("layer.json");
            match self.layer(&id) {
                Ok(layer) if layer.meta.id != id => report.findings.push(Finding::WrongId { path }),
                Ok(layer) if layer.meta.sealed.is_some() && !layer.manifest().exists() => {
                    report.findings.push(Finding::ManifestMissing { layer: id });
                }
                Ok(_) => {}
                Err(e) => report.findings.push(unreadable(path, &e)),
            }
        }
        Ok(())
    }

    /// The states that could be read.
    fn verify_states(&self, report: &mut VerifyReport) -> Result<Vec<State>> {
        let mut good = Vec::new();
        let present: BTreeSet<LayerId> = self.ids("layers", "")?.into_iter().collect();
        let mut needed = BTreeSet::new();
        for id in self.ids::<StateId>("states", ".json")? {
            report.states += 1;
            let state = match self.state(&id) {
                Ok(state) => state,
                Err(e) => {
                    report.findings.push(unreadable(self.state_path(&id), &e));
                    continue;
                }
            };
            if state.id != id {
                report.findings.push(Finding::WrongId { path: self.state_path(&id) });
            } else if !state.has_id(&id)? {
                report.findings.push(Finding::StateChanged { state: id.clone() });
            }
            for layer in state.layers.iter().filter(|l| !present.contains(l)) {
                report.findings.push(Finding::StateWithoutLayer { state: id.clone(), layer: layer.clone() });
            }
            needed.extend(state.layers.iter().cloned());
            good.push(state);
        }
        let reached = self.reached().unwrap_or_default().there;
        let parents =
            good.iter().filter(|state| reached.contains(&state.id)).filter_map(|state| Some((state, state.parent.as_ref()?)));
        report.findings.extend(
            parents
                .filter(|(_, parent)| !self.state_path(parent).exists())
                .map(|(state, parent)| Finding::StateWithoutParent { state: state.id.clone(), parent: parent.clone() }),
        );
        let unnamed: Vec<&LayerId> = present.difference(&needed).collect();
        if !unnamed.is_empty() {
            let doubtful = self.named_layers()?.is_none();
            let found = unnamed.into_iter().map(|layer| Finding::LayerWithoutState { layer: layer.clone(), doubtful });
            report.findings.extend(found);
        }
        Ok(good)
    }

    fn verify_refs(&self, states: &[State], report: &mut VerifyReport) -> Result<()> {
        let present: BTreeSet<&StateId> = states.iter().map(|s| &s.id).collect();
        for (name, path) in self.ref_files()? {
            report.refs += 1;
            if refs::check_name(&name).is_err() {
                report.findings.push(Finding::Unknown { path });
                continue;
            }
            if let Some(short) = name.strip_prefix("tree/") {
                match refs::read::<TreeId>(&path) {
                    Ok(entries) => {
                        // Only the present value is checked: older snapshots stay only until somebody cleans up.
                        if let Some(entry) = entries.into_iter().next().filter(|e| self.tree(&e.value).is_err()) {
                            report.findings.push(Finding::RefWithoutTree { name: short.to_owned(), tree: entry.value });
                        }
                    }
                    Err(e) => report.findings.push(unreadable(path, &e)),
                }
                continue;
            }
            match refs::read::<StateId>(&path) {
                Ok(entries) => {
                    let missing = entries.into_iter().enumerate().filter(|(_, e)| !present.contains(&e.value));
                    report.findings.extend(missing.map(|(i, e)| Finding::RefWithoutState {
                        name: name.clone(),
                        state: e.value,
                        former: i > 0,
                    }));
                }
                Err(e) => report.findings.push(unreadable(path, &e)),
            }
        }
        Ok(())
    }

    fn verify_trees(&self, report: &mut VerifyReport) -> Result<()> {
        for id in self.ids::<TreeId>("trees", "")? {
            report.trees += 1;
            let dir = self.path("trees").join(id.as_str());
            check_directory(&dir, true, &mut report.findings);
            check_directory(&dir.join("fs"), false, &mut report.findings);
            let path = dir.join("tree.json");
            match self.tree(&id) {
                Ok(tree) if tree.meta.id != id => report.findings.push(Finding::WrongId { path }),
                Ok(_) => {}
                Err(e) => report.findings.push(unreadable(path, &e)),
            }
        }
        Ok(())
    }

    /// Sessions and temporary areas. Those in use are fine.
    fn verify_passing(&self, report: &mut VerifyReport) -> Result<()> {
        for path in super::durable::list(&self.path("sessions"))? {
            match super::durable::read_json::<session::SessionRecord>(&path.join("session.json")) {
                Ok(Some(record)) if self.is_kept(&record) => {
                    check_directory(&path, true, &mut report.findings);
                    if let Some(state) = record.base.filter(|id| !self.state_path(id).exists()) {
                        report.findings.push(Finding::SessionWithoutState { session: record.id, state });
                    }
                }
                _ if !is_free(&path)? => {}
                Err(error @ super::Error::Io(_)) => report.findings.push(unreadable(path.join("session.json"), &error)),
                _ => report.findings.push(Finding::Litter { path }),
            }
        }
        for path in super::durable::list(&self.path("tmp"))? {
            if is_free(&path)? && !super::recover::has_only_held_open(&path) {
                report.findings.push(Finding::Litter { path });
            }
        }
        Ok(())
    }
}

/// Whether nobody holds the lock of a session or temporary area.
fn is_free(path: &Path) -> Result<bool> {
    let lock_path = path.join("lock");
    match lock::is_held(&lock_path) {
        Ok(held) => Ok(!held && path.symlink_metadata().is_ok()),
        // A plain file in `tmp/`: its writer is at work or was killed.
        Err(Error::Io(PathError { source, .. })) if source.kind() == std::io::ErrorKind::NotADirectory => Ok(true),
        Err(e) => Err(e),
    }
}

/// Checks a directory of ours. `private` ones must be closed to others; the top of a tree has the mode that the tree wants.
fn check_directory(path: &Path, private: bool, findings: &mut Vec<Finding>) {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => meta,
        _ => {
            findings.push(Finding::NotADirectory { path: path.to_owned() });
            return;
        }
    };
    let mode = meta.mode() & 0o7777;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        findings.push(Finding::Owner { path: path.to_owned(), owner: meta.uid() });
    }
    if private && mode != 0o700 {
        findings.push(Finding::Mode { path: path.to_owned(), mode: format!("{mode:04o}") });
    }
}

fn unreadable(path: PathBuf, error: &dyn std::error::Error) -> Finding {
    let causes: Vec<String> = std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect();
    Finding::Unreadable { path, why: causes.join(": ") }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}
