//! What a report needs besides the record: from the store, from the files beside artifacts, and from the directory of logs. All of it may
//! be gone by now, which leaves gaps and is no error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::causes::in_one_line;
use crate::context;
use crate::context::Context;
use crate::history::diff::{DiffOptions, StateDiff, diff};
use crate::history::logs;
use crate::installed::kept;
use crate::installed::kept::KeptAudit;
use crate::inventory::packages_of;
use crate::portage::vdb::Package;
use crate::record::{NodeRun, Outcome, Run};
use crate::sandbox::TaskOptions;
use crate::store::tasks::{DISK_USAGE, DiskUsageInput, TreeUsage};
use crate::store::{LayerId, State, StateId};

/// A longer file beside an artifact is nobody's.
const METADATA_LIMIT_BYTES: u64 = 64 << 20;

/// A layer of one of the states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerSize {
    /// What made it: `stage4/web`.
    pub(super) of: String,
    pub(super) bytes: u64,
    /// Whether this run has made it.
    pub(super) is_new: bool,
}

/// What is known of a stage, or of a definition that nothing else needs.
#[derive(Debug, Default)]
pub(super) struct StageFacts {
    pub(super) name: String,
    /// The packages in it, the largest first.
    pub(super) packages: Vec<Package>,
    pub(super) change: Option<Changed>,
}

/// What changed since the artifact before, or since the state that had the name before.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) before: String,
    pub(super) diff: std::result::Result<StateDiff, String>,
    /// Bytes of the artifact before and now.
    pub(super) artifact: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The largest first.
    pub(super) layers: Vec<LayerSize>,
    pub(super) stages: Vec<StageFacts>,
    /// Of each stage4 the last audit of its state.
    pub(super) audits: Vec<(String, Option<KeptAudit>)>,
    /// The logs of each node, the newest first.
    pub(super) logs: BTreeMap<String, Vec<logs::Run>>,
    /// Whether the run goes on.
    pub(super) goes_on: bool,
}

impl Facts {
    pub(super) fn of(cx: &Context<'_>, run: &Run) -> Self {
        // An interrupted run is at its end: nobody waits for measurements.
        let measures = run.nodes.iter().any(NodeRun::was_begun) && cx.interrupt.count() == 0;
        if measures {
            cx.observer.step("measuring what was built");
        }
        let states = states(cx, run);
        let layers = if measures { layers(cx, run, &states) } else { Vec::new() };
        let stages = of_interest(run).map(|node| stage(cx, run, node, states.get(&node.id), measures)).collect();
        Self { layers, stages, audits: audits(cx, run), logs: logs_of(cx, run), goes_on: run.goes_on() }
    }
}

/// Of what has a state: nothing can be said of a stage that failed.
fn audits(cx: &Context<'_>, run: &Run) -> Vec<(String, Option<KeptAudit>)> {
    let kept = kept::kept(cx);
    let stages = run.nodes.iter().filter(|node| node.kind == "stage4");
    stages.filter_map(|node| Some((node.name.clone(), kept.get(node.state.as_ref()?).cloned()))).collect()
}

/// The state of each node that is still in the store.
fn states(cx: &Context<'_>, run: &Run) -> BTreeMap<String, State> {
    let with_state = run.nodes.iter().filter(|node| node.kind != "artifact");
    with_state
        .filter_map(|node| Some((node.id.clone(), cx.store.state(&node.state.as_ref()?.parse::<StateId>().ok()?).ok()?)))
        .collect()
}

/// Stages; where a run has none, what was asked for.
fn of_interest(run: &Run) -> impl Iterator<Item = &NodeRun> {
    let has_stages = run.nodes.iter().any(|node| node.kind == "stage4");
    run.nodes.iter().filter(move |node| if has_stages { node.kind == "stage4" } else { run.wanted.contains(&node.id) })
}

fn layers(cx: &Context<'_>, run: &Run, states: &BTreeMap<String, State>) -> Vec<LayerSize> {
    let mut made_by: BTreeMap<LayerId, (String, bool)> = BTreeMap::new();
    // Nodes first: what they stand on may be one of them.
    for node in &run.nodes {
        if let Some(top) = states.get(&node.id).and_then(|state| state.layers.last()) {
            made_by.entry(top.clone()).or_insert((node.id.clone(), node.result == Outcome::Built));
        }
    }
    for state in states.values() {
        for below in std::iter::successors(parent(cx, state), |state| parent(cx, state)) {
            if let Some(top) = below.layers.last() {
                made_by.entry(top.clone()).or_insert_with(|| (words_of(&below), false));
            }
        }
        for layer in &state.layers {
            made_by.entry(layer.clone()).or_insert_with(|| ("another layer below".to_owned(), false));
        }
    }
    let known: Vec<_> = made_by.into_iter().filter_map(|(id, made)| Some((cx.store.layer(&id).ok()?.path, made))).collect();
    let input = DiskUsageInput { trees: known.iter().map(|(path, _)| path.clone()).collect() };
    let answer = context::task(cx, DISK_USAGE, &input, TaskOptions::default(), &mut |_| {});
    let usage: Vec<TreeUsage> = answer.ok().and_then(|answer| serde_json::from_value(answer).ok()).unwrap_or_default();
    let sized = known.into_iter().zip(usage).map(|((_, (of, is_new)), usage)| LayerSize { of, bytes: usage.bytes, is_new });
    let mut sized: Vec<LayerSize> = sized.collect();
    sized.sort_by(|a, b| (b.bytes, &a.of).cmp(&(a.bytes, &b.of)));
    sized
}

fn parent(cx: &Context<'_>, state: &State) -> Option<State> {
    cx.store.state(state.parent.as_ref()?).ok()
}

/// A state that no node of the run stands for.
fn words_of(state: &State) -> String {
    let origin = &state.origin;
    let name = origin.definition().or(origin.name()).or(origin.profile()).unwrap_or_default();
    format!("{} {name}", origin.kind().unwrap_or("a state")).trim_end().to_owned()
}

fn stage(cx: &Context<'_>, run: &Run, node: &NodeRun, state: Option<&State>, measures: bool) -> StageFacts {
    let artifact = run.nodes.iter().find(|other| other.kind == "artifact" && other.needs.contains(&node.id));
    let recorded = artifact.and_then(|artifact| artifact.artifact.as_ref()).and_then(|artifact| packages_beside(&artifact.path));
    let asked = || state.filter(|_| measures).and_then(|state| packages_of(cx, state).ok());
    let mut packages = recorded.or_else(asked).unwrap_or_default();
    packages.sort_by(|a, b| (b.size_bytes, &a.cpv).cmp(&(a.size_bytes, &b.cpv)));
    let change = if measures { changed(cx, node, artifact) } else { None };
    StageFacts { name: node.name.clone(), packages, change }
}

/// Against what the artifact before was made of, or against the state that had the name.
fn changed(cx: &Context<'_>, node: &NodeRun, artifact: Option<&NodeRun>) -> Option<Changed> {
    let after = node.state.clone()?;
    let earlier = artifact.and_then(|artifact| artifact.artifact_before.as_ref());
    let before = earlier.and_then(|artifact| artifact.state.clone()).or_else(|| node.before.clone())?;
    let sizes = earlier.zip(artifact.and_then(|artifact| artifact.artifact.as_ref()));
    if before == after && sizes.is_none() {
        return None;
    }
    let options = DiffOptions { before: before.clone(), after, packages: true, files: true, below: None };
    let diff = diff(cx, &options).map_err(|error| in_one_line(&error));
    Some(Changed { before, diff, artifact: sizes.map(|(before, now)| (before.size_bytes, now.size_bytes)) })
}

/// The packages that the file beside an artifact names: for that nothing is started.
fn packages_beside(artifact: &Path) -> Option<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let path = crate::artifact::recorded::beside(artifact, "json");
    let size = std::fs::metadata(&path).ok()?.len();
    let bytes = (size <= METADATA_LIMIT_BYTES).then(|| std::fs::read(&path).ok()).flatten()?;
    Some(serde_json::from_slice::<Metadata>(&bytes).ok()?.packages)
}

/// Runs of builds by their names and times: a node is locked while it is built, so nobody else has logged under its name meanwhile.
fn logs_of(cx: &Context<'_>, run: &Run) -> BTreeMap<String, Vec<logs::Run>> {
    let begun: BTreeSet<&str> = run.nodes.iter().filter(|node| node.was_begun()).map(|node| node.id.as_str()).collect();
    if begun.is_empty() {
        return BTreeMap::new();
    }
    let all = logs::runs(cx).unwrap_or_default();
    let of = |node: &NodeRun| -> Vec<logs::Run> {
        let secs = |time: Option<i64>| time.map(|time| time.div_euclid(1000));
        let (Some(began), ended) = (secs(node.began), secs(node.ended.or(run.ended))) else { return Vec::new() };
        let meanwhile = |log: &&logs::Run| {
            let time = log.began.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second);
            time.is_ok_and(|time| time >= began && ended.is_none_or(|ended| time <= ended)) && logs::is_meant(log, &node.id)
        };
        all.iter().filter(meanwhile).cloned().collect()
    };
    run.nodes.iter().filter(|node| node.was_begun()).map(|node| (node.id.clone(), of(node))).collect()
}
