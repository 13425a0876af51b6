//! The record of a run, made of what its watcher is told.

use std::collections::HashSet;

use crate::artifact::Artifact;
use crate::artifact::recorded::newest_of;
use crate::causes;
use crate::names::refs::{kernel_ref, ref_name, stage4_ref};
use crate::pipeline::plan::{Part, What};
use crate::pipeline::run::{NodeReport, Outcome, Watcher};
use crate::pipeline::{Node, NodeKind, Pipeline};
use crate::portage::messages::Messages;
use crate::progress::Event;
use crate::record::{ArtifactRun, Ended, NodeRun, Outcome as Result, Recorder, Run, Why};

/// Tells a recorder what it tells the watcher.
pub(super) struct Recording<'r> {
    pub(super) recorder: &'r Recorder,
    pub(super) watcher: &'r dyn Watcher,
}

impl Watcher for Recording<'_> {
    fn begun(&self, node: &Node) {
        self.recorder.begun(&node.id);
        self.watcher.begun(node);
    }

    fn event(&self, node: &Node, event: &Event<'_>) {
        self.recorder.event(&node.id, event);
        self.watcher.event(node, event);
    }

    fn ended(&self, node: &Node, report: &NodeReport) {
        self.recorder.ended(&node.id, ended(report));
        self.watcher.ended(node, report);
    }
}

fn ended(report: &NodeReport) -> Ended {
    let (result, because) = match &report.outcome {
        Outcome::Reused => (Result::Reused, None),
        Outcome::Fetched => (Result::Fetched, None),
        Outcome::Built => (Result::Built, None),
        Outcome::Failed => (Result::Failed, None),
        Outcome::Skipped { because } => (Result::Skipped, Some(because.clone())),
        Outcome::Interrupted => (Result::Interrupted, None),
        Outcome::NotBegun => (Result::NotBegun, None),
    };
    let failure = report.failure.as_ref().filter(|_| result == Result::Failed);
    Ended {
        result,
        because,
        error: failure.map(|error| causes::all(error)).unwrap_or_default(),
        state: report.state.as_ref().map(ToString::to_string),
        layer_bytes: report.size_bytes.filter(|_| report.kind != NodeKind::Artifact),
        artifact: report.artifact.as_ref().map(|artifact| artifact_run(artifact, report.state.as_ref().map(ToString::to_string))),
        messages: serde_json::from_value::<Messages>(report.messages.clone()).unwrap_or_default(),
    }
}

fn artifact_run(artifact: &Artifact, state: Option<String>) -> ArtifactRun {
    ArtifactRun {
        path: artifact.path.clone(),
        format: artifact.format.clone(),
        size_bytes: artifact.size_bytes,
        signed_by: artifact.signed_by.clone(),
        state,
    }
}

impl Pipeline<'_, '_> {
    /// A record of all nodes before the first one is begun.
    pub(super) fn planned_run(&self, jobs: u32) -> Run {
        let took = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or_default();
        let needed: HashSet<&String> = self.nodes().flat_map(|node| &node.needs).collect();
        let wanted = self.nodes().filter(|node| !needed.contains(&node.id)).map(|node| node.id.clone()).collect();
        let nodes = self.parts.iter().map(|part| self.planned_node(part)).collect();
        Run { began: crate::clock::now().as_millisecond() - took, jobs, wanted, nodes, ..Run::default() }
    }

    fn planned_node(&self, part: &Part) -> NodeRun {
        let Node { id, kind, profile, name, needs, resumes, why, .. } = part.node.clone();
        let before = match &part.what {
            What::Definition { .. } => Some(ref_name(&profile, &name)),
            What::Kernel { .. } => Some(kernel_ref(&profile, &name)),
            What::Stage4 { .. } => Some(stage4_ref(&name)),
            What::Artifact { .. } => None,
        };
        let before = before.filter(|_| part.node.build).and_then(|name| self.cx.store.ref_get(&name).ok().flatten());
        let artifact_before = match &part.what {
            What::Artifact { options, .. } if part.node.build => {
                newest_of(&self.cx.places.stages().join(&name), &options.format.to_string())
            }
            _ => None,
        };
        NodeRun {
            kind: kind_word(kind).to_owned(),
            id,
            profile,
            name,
            needs,
            resumed: resumes,
            why: why.into_iter().map(|reason| Why { words: reason.words, detail: reason.detail }).collect(),
            before: before.map(|id| id.to_string()),
            artifact_before: artifact_before.map(|(path, made)| ArtifactRun {
                path,
                format: made.form.unwrap_or_default(),
                size_bytes: made.size,
                signed_by: made.signed_by,
                state: Some(made.state),
            }),
            ..NodeRun::default()
        }
    }
}

fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Stage3 => "stage3",
        NodeKind::Kernel => "kernel",
        NodeKind::Stage4 => "stage4",
        NodeKind::Artifact => "artifact",
    }
}
