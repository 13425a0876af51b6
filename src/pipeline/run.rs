//! Gives nodes to threads, each as soon as those that it needs are done, and records the outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::artifact::{Artifact, ExportOptions};
use crate::config::{ConfigDir, Stage4Definition};
use crate::context::Context;
use crate::jobserver::JobServer;
use crate::names::refs::{definition_lock, kernel_lock, kernel_ref, ref_name, stage4_lock, stage4_ref};
use crate::pipeline::elsewhere::Elsewhere;
use crate::pipeline::plan::{Part, What, Wishes, plan};
use crate::pipeline::recorded::Recording;
use crate::pipeline::why::Reason;
use crate::pipeline::{Error, Made, Node, NodeKind, Pipeline, PipelineOptions, Result, expected};
use crate::progress::{Event, Observer};
use crate::recipe::definition;
use crate::recipe::definition::{Stage3Recipe, definition_words};
use crate::recipe::kernel::make::{KernelRecipe, kernel_words};
use crate::recipe::realise::{Built, Recipe, brought, name_state, realise};
use crate::recipe::stage4::Stage4Recipe;
use crate::record::Recorder;
use crate::stage3::sign::{Gpg, SecretKey};
use crate::store::tasks::{DISK_USAGE, DiskUsageInput, TreeUsage};
use crate::store::{State, StateId};
use crate::{artifact, context, recipe, record, resolve};

/// How often a waiting thread checks for an interruption.
const LOOK: Duration = Duration::from_millis(100);
/// How many nodes are waited for at a time that are built elsewhere.
const MOST_AWAITED: usize = 128;

/// Receives the events of nodes, from any thread.
pub trait Watcher: Sync {
    fn begun(&self, node: &Node);
    /// Something happened in a node.
    fn event(&self, node: &Node, event: &Event<'_>);
    /// A node has its outcome.
    fn ended(&self, node: &Node, report: &NodeReport);
}

/// Forwards events without their node, for a request of a single node.
pub(crate) struct PassOn<'a>(pub(crate) &'a dyn Observer);

impl Watcher for PassOn<'_> {
    fn begun(&self, _node: &Node) {}

    fn event(&self, _node: &Node, event: &Event<'_>) {
        self.0.event(event);
    }

    fn ended(&self, _node: &Node, _report: &NodeReport) {}
}

/// The outcome of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Outcome {
    /// It existed.
    Reused,
    /// It came from the remote.
    Fetched,
    Built,
    /// Building it failed.
    Failed,
    /// It was not started, since a node that it needs failed.
    Skipped {
        /// That node's id.
        because: String,
    },
    /// The user interrupted it.
    Interrupted,
    /// The run ended before it was started.
    NotBegun,
}

/// The outcome of a node with its details.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeReport {
    pub id: String,
    pub kind: NodeKind,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took; 0 if nothing was done.
    pub seconds: f64,
    /// Bytes of the archive, or of the layer that was built.
    pub size_bytes: Option<u64>,
    /// Why it had to be built.
    pub why: Vec<Reason>,
    pub state: Option<StateId>,
    /// Its files.
    pub artifact: Option<Artifact>,
    /// If it was built: what its packages have said, unread news, and configuration files that wait for a decision.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<crate::portage::messages::Messages>"))]
    pub messages: serde_json::Value,
    /// The error, in one line.
    pub error: Option<String>,
    /// The error.
    #[serde(skip)]
    pub failure: Option<Error>,
}

/// The outcome of a run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// All nodes, each after those that it needs.
    pub nodes: Vec<NodeReport>,
    /// How long it took, planning included.
    pub seconds: f64,
    /// The budget of jobs.
    pub jobs: u32,
    /// What is known of it for a report.
    #[serde(skip)]
    pub(crate) record: record::Run,
}

impl Report {
    /// The report of the node `id`, if all nodes succeeded; else the error.
    pub(crate) fn into_node(mut self, id: &str) -> Result<NodeReport> {
        if let Some((_, error)) = self.failures().into_iter().next() {
            return Err(error);
        }
        // A node that neither failed nor was started was left out because of Ctrl-C.
        let is_done = self.nodes.iter().all(|node| matches!(node.outcome, Outcome::Built | Outcome::Reused | Outcome::Fetched));
        let node = self.nodes.into_iter().find(|node| is_done && node.id == id);
        node.ok_or_else(|| context::Error::Interrupted { resumable: false }.into())
    }

    /// How many nodes have an outcome.
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.nodes.iter().filter(|node| is(&node.outcome)).count()
    }

    /// Takes out the errors, by node id.
    pub fn failures(&mut self) -> Vec<(String, Error)> {
        self.nodes.iter_mut().filter_map(|node| Some((node.id.clone(), node.failure.take()?))).collect()
    }
}

/// Adds its node to each event.
struct NodeObserver<'w> {
    node: &'w Node,
    watcher: &'w dyn Watcher,
}

impl Observer for NodeObserver<'_> {
    fn event(&self, event: &Event<'_>) {
        self.watcher.event(self.node, event);
    }
}

/// The state that all threads share.
struct Board {
    /// Nodes whose needs are done, by position.
    ready: BTreeSet<usize>,
    /// For each node, how many of its needs are not done.
    open: Vec<usize>,
    made: Vec<Option<Made>>,
    reports: Vec<Option<NodeReport>>,
    running: usize,
    /// An archive is being packed, which uses all processors.
    packing: bool,
    /// No further node is started.
    stop: bool,
}

/// What became of a node that did not fail.
struct Done {
    made: Made,
    outcome: Outcome,
    size_bytes: Option<u64>,
    /// How long it took, if that is not the time that we waited for it.
    seconds: Option<f64>,
}

/// One run.
struct Run<'r> {
    pipeline: &'r Pipeline<'r, 'r>,
    watcher: &'r dyn Watcher,
    /// Who builds nodes on other machines.
    elsewhere: Option<&'r dyn Elsewhere>,
    keep_going: bool,
    server: JobServer,
    signer: Option<(Gpg, SecretKey)>,
    board: Mutex<Board>,
    changed: Condvar,
    places: BTreeMap<&'r str, usize>,
}

impl Pipeline<'_, '_> {
    /// Builds the missing nodes. An error is one before the first node; failures of nodes are in the report.
    pub fn run(&self, keep_going: bool, watcher: &dyn Watcher) -> Result<Report> {
        self.run_on(None, keep_going, watcher)
    }

    /// The same, where `elsewhere` takes nodes.
    pub(crate) fn run_on(&self, elsewhere: Option<&dyn Elsewhere>, keep_going: bool, watcher: &dyn Watcher) -> Result<Report> {
        let jobs = self.cx.settings.jobs.max(1);
        let todo = self.nodes().filter(|node| node.build).count();
        self.name_what_is_there()?;
        let recorder = Recorder::new(self.planned_run(jobs));
        let watcher = &Recording { recorder: &recorder, watcher };
        let nodes = if todo == 0 {
            let told = |part| {
                let report = reused(part);
                watcher.ended(&part.node, &report);
                report
            };
            self.parts.iter().map(told).collect()
        } else {
            self.check_before()?;
            let here = self.workers();
            // Waiting for others takes no jobs.
            let workers = if elsewhere.is_some() { todo.min(MOST_AWAITED) } else { here };
            let run = Run::new(self, elsewhere, keep_going, watcher, JobServer::start(jobs, here)?)?;
            recorder.keep(self.cx);
            crate::threads::crew(workers, || run.work());
            run.finish()
        };
        Ok(Report { nodes, seconds: self.begun.elapsed().as_secs_f64(), jobs, record: recorder.finish() })
    }

    /// Names states that exist already, as after a rollback, and records that they were used.
    fn name_what_is_there(&self) -> Result<()> {
        for part in &self.parts {
            let Some(state) = part.made.state.as_ref().filter(|_| !part.node.build) else { continue };
            let profile = part.node.profile.as_str();
            let label = part.node.name.as_str();
            let (name, lock, words) = match &part.what {
                What::Definition { .. } => {
                    (ref_name(profile, label), definition_lock(profile, label), definition_words(profile, label))
                }
                What::Kernel { .. } => (kernel_ref(profile, label), kernel_lock(profile, label), kernel_words(profile, label)),
                What::Stage4 { .. } => (stage4_ref(label), stage4_lock(label), label.to_owned()),
                What::Artifact { .. } => continue,
            };
            // With several nodes the table shows it.
            if part.stands && self.options.one_by_one {
                self.cx.observer.note(&format!("the changes do not affect {words}"));
            }
            // If the name does not change we need no lock, and so do not wait for somebody who builds this node.
            let moves = self.cx.store.ref_get(&name)?.as_ref() != Some(&state.id);
            let _lock = if moves { Some(context::lock(self.cx, &lock)?) } else { None };
            name_state(self.cx, &name, Some(&words), &Built { state: state.clone(), reused: true })?;
        }
        Ok(())
    }

    /// Checks for errors that would otherwise be found after an hour of building.
    fn check_before(&self) -> Result<()> {
        for part in self.parts.iter().filter(|part| part.node.build) {
            if let What::Definition { recipe, .. } = &part.what {
                definition::check_cpu(self.cx, recipe)?;
            }
        }
        Ok(())
    }

    /// The key to sign with, if anything is signed.
    fn signer(&self) -> Result<Option<(Gpg, SecretKey)>> {
        let Some(gpg) = &self.options.gpg else { return Ok(None) };
        if !self.nodes().any(|node| node.build && node.kind == NodeKind::Artifact) {
            return Ok(None);
        }
        let signer = artifact::signer(self.cx, self.env.sign_key.as_ref().map(|key| key.value.clone()), Some(gpg))?;
        artifact::try_signer(self.cx, signer.as_ref())?;
        Ok(signer)
    }
}

fn reused(part: &Part) -> NodeReport {
    NodeReport { size_bytes: part.made.artifact.as_ref().map(|artifact| artifact.size_bytes), ..report(part, Outcome::Reused) }
}

fn report(part: &Part, outcome: Outcome) -> NodeReport {
    NodeReport {
        id: part.node.id.clone(),
        kind: part.node.kind,
        outcome,
        seconds: 0.0,
        size_bytes: None,
        why: part.node.why.clone(),
        state: part.node.state.clone(),
        artifact: part.node.artifact.clone(),
        messages: serde_json::Value::Null,
        error: None,
        failure: None,
    }
}

impl<'r> Run<'r> {
    fn new(
        pipeline: &'r Pipeline<'r, 'r>,
        elsewhere: Option<&'r dyn Elsewhere>,
        keep_going: bool,
        watcher: &'r dyn Watcher,
        server: JobServer,
    ) -> Result<Self> {
        let parts = &pipeline.parts;
        let places: BTreeMap<&str, usize> = parts.iter().enumerate().map(|(at, part)| (part.node.id.as_str(), at)).collect();
        let mut board = Board {
            ready: BTreeSet::new(),
            open: Vec::new(),
            made: Vec::new(),
            reports: Vec::new(),
            running: 0,
            packing: false,
            stop: false,
        };
        for (at, part) in parts.iter().enumerate() {
            let open = part.node.needs.iter().filter(|id| places.get(id.as_str()).is_some_and(|at| parts[*at].node.build)).count();
            board.open.push(open);
            if part.node.build && open == 0 {
                board.ready.insert(at);
            }
            let done = (!part.node.build).then(|| reused(part));
            if let Some(report) = &done {
                watcher.ended(&part.node, report);
            }
            board.made.push(done.is_some().then(|| part.made.clone()));
            board.reports.push(done);
        }
        let signer = pipeline.signer()?;
        let (board, changed) = (Mutex::new(board), Condvar::new());
        Ok(Self { pipeline, watcher, elsewhere, keep_going, server, signer, board, changed, places })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of each thread.
    fn work(&self) {
        while let Some(at) = self.next() {
            let part = &self.pipeline.parts[at];
            self.watcher.begun(&part.node);
            let begun = Instant::now();
            let observer = NodeObserver { node: &part.node, watcher: self.watcher };
            let built = self.build(part, &observer);
            self.settle(at, part, built, begun.elapsed());
        }
    }

    /// Takes the next ready node; waits while there may be one.
    fn next(&self) -> Option<usize> {
        let mut board = self.board();
        loop {
            if self.pipeline.cx.interrupt.count() > 0 {
                board.stop = true;
            }
            if board.stop {
                return None;
            }
            let packs = |at: usize| self.pipeline.parts[at].node.kind == NodeKind::Artifact;
            let next = board.ready.iter().copied().find(|at| !board.packing || !packs(*at));
            if let Some(at) = next {
                board.ready.remove(&at);
                board.running += 1;
                board.packing |= packs(at);
                return Some(at);
            }
            if board.running == 0 {
                return None;
            }
            board = self.changed.wait_timeout(board, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn build(&self, part: &Part, observer: &NodeObserver<'_>) -> Result<Done> {
        let elsewhere = self.elsewhere.filter(|elsewhere| elsewhere.takes(&part.node));
        let there = elsewhere.map(|elsewhere| elsewhere.wait(&part.node, observer)).transpose()?;
        // Where others build, what cannot be fetched is not built here.
        let is_theirs = there.is_some() || (self.elsewhere.is_some() && part.node.fetch);
        let shared = self.pipeline.cx;
        let cx = &Context { observer, jobserver: Some(&self.server), settings: shared.settings.clone(), ..*shared };
        let config = self.pipeline.config;
        let profile = part.node.profile.as_str();
        let (built, stage) = match &part.what {
            What::Definition { recipe, upstream, asked_for } => {
                let stage4s = self.stage4s_on(&part.node.id);
                let on = Stage3Recipe { config, profile, upstream, stage3: recipe, stage4s: &stage4s };
                (obtained(cx, &on, is_theirs), asked_for.as_str())
            }
            What::Kernel { recipe, builder, asked_for } => {
                let builder = self.state_of(builder)?;
                (obtained(cx, &KernelRecipe { config, profile, kernel: recipe, builder: &builder }, is_theirs), asked_for.as_str())
            }
            What::Stage4 { recipe, base, kernel } => {
                // With a definition that has to be built, its stage4s have been asked about as well.
                let is_asked =
                    !self.keep_going && self.places.get(base.as_str()).is_some_and(|at| self.pipeline.parts[*at].node.build);
                let base = self.state_of(base)?;
                let kernel = kernel.as_ref().map(|kernel| self.state_of(kernel)).transpose()?;
                let since = recipe.since(&base);
                let on = Stage4Recipe { config, profile, stage4: recipe, base: &base, kernel: kernel.as_ref(), is_asked, since };
                (obtained(cx, &on, is_theirs), part.node.name.as_str())
            }
            What::Artifact { of, options } => {
                let state = self.state_of(of)?;
                let _lock = context::lock(cx, &stage4_lock(&part.node.name))?;
                let options = ExportOptions { signer: self.signer.clone(), ..options.as_ref().clone() };
                let target = artifact::target(cx, Some(&part.node.name), "stage4", &state, &options);
                let artifact = artifact::export(cx, &part.node.name, target, &state, &options)?;
                let outcome = if artifact.reused { Outcome::Reused } else { Outcome::Built };
                let size_bytes = Some(artifact.size_bytes);
                let made = Made { state: Some(state), artifact: Some(artifact) };
                return Ok(Done { made, outcome, size_bytes, seconds: None });
            }
        };
        let built = built.map_err(|error| resolve::with_proposal(cx, config, stage, profile, error))?;
        let Some(built) = built else { return Err(Error::NotArrived { id: part.node.id.clone() }) };
        let is_built = there.map_or(!built.reused, |arrived| arrived.is_built);
        let is_fetched = || cx.settings.remote.as_deref().is_some_and(|remote| remote.has_fetched(&built.state.id.to_string()));
        let outcome = if is_built {
            Outcome::Built
        } else if is_fetched() {
            Outcome::Fetched
        } else {
            Outcome::Reused
        };
        let size_bytes = if is_built { layer_bytes(cx, &built.state) } else { None };
        let seconds = there.map(|arrived| arrived.seconds);
        Ok(Done { made: Made { state: Some(built.state), artifact: None }, outcome, size_bytes, seconds })
    }

    /// The stage4s whose packages Portage is asked about when their base is built. With `keep_going` an error in one of them does not
    /// prevent the others.
    fn stage4s_on(&self, id: &str) -> Vec<Stage4Definition> {
        let parts = self.pipeline.parts.iter().filter(|_| !self.keep_going);
        let on_it = parts.filter_map(|part| match &part.what {
            What::Stage4 { recipe, base, .. } if base == id => Some(recipe.definition.clone()),
            _ => None,
        });
        on_it.collect()
    }

    /// The state of a finished node.
    fn state_of(&self, id: &str) -> Result<State> {
        let made = self.places.get(id).and_then(|at| self.board().made[*at].clone());
        let unbuilt = || Error::Unbuilt { id: id.to_owned(), needs: vec![id.to_owned()] };
        made.and_then(|made| made.state).ok_or_else(unbuilt)
    }

    /// Records a node's outcome, and releases or skips the nodes that need it.
    fn settle(&self, at: usize, part: &Part, built: Result<Done>, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut board = self.board();
        board.running -= 1;
        board.packing &= part.node.kind != NodeKind::Artifact;
        let mut told = vec![at];
        match built {
            Ok(Done { made, outcome, size_bytes, seconds: measured }) => {
                let seconds = measured.unwrap_or(seconds);
                let state = made.state.as_ref().map(|state| state.id.clone());
                let artifact = made.artifact.clone();
                let new = made.state.as_ref().filter(|_| outcome == Outcome::Built && artifact.is_none());
                let messages = new.map_or(serde_json::Value::Null, |state| state.origin.messages().json());
                board.reports[at] = Some(NodeReport { seconds, size_bytes, state, artifact, messages, ..report(part, outcome) });
                board.made[at] = Some(made);
                for (other, dependent) in self.pipeline.parts.iter().enumerate() {
                    if dependent.node.needs.contains(&part.node.id) && board.reports[other].is_none() {
                        board.open[other] -= 1;
                        if board.open[other] == 0 {
                            board.ready.insert(other);
                        }
                    }
                }
            }
            Err(error) => {
                let interrupted = error.is_interrupted();
                let outcome = if interrupted { Outcome::Interrupted } else { Outcome::Failed };
                let error_words = (!interrupted).then(|| error.to_string());
                board.reports[at] = Some(NodeReport { seconds, error: error_words, failure: Some(error), ..report(part, outcome) });
                board.stop |= interrupted || !self.keep_going;
                if !interrupted {
                    told.extend(self.skip(&mut board, &part.node.id));
                }
            }
        }
        for at in told {
            if let Some(report) = &board.reports[at] {
                expected::remember(self.pipeline.cx, report, self.pipeline.parts[at].node.resumes);
                self.watcher.ended(&self.pipeline.parts[at].node, report);
            }
        }
        drop(board);
        self.changed.notify_all();
    }

    /// Gives up the nodes that need `failed`, directly or indirectly.
    fn skip(&self, board: &mut Board, failed: &str) -> Vec<usize> {
        let mut lost = BTreeSet::from([failed]);
        let mut skipped = Vec::new();
        // Nodes come after those that they need, so one pass is enough.
        for (at, part) in self.pipeline.parts.iter().enumerate() {
            if board.reports[at].is_none() && part.node.needs.iter().any(|id| lost.contains(id.as_str())) {
                lost.insert(&part.node.id);
                board.ready.remove(&at);
                board.reports[at] = Some(report(part, Outcome::Skipped { because: failed.to_owned() }));
                skipped.push(at);
            }
        }
        skipped
    }

    fn finish(self) -> Vec<NodeReport> {
        let board = self.board.into_inner().unwrap_or_else(PoisonError::into_inner);
        let both = board.reports.into_iter().zip(&self.pipeline.parts);
        both.map(|(known, part)| known.unwrap_or_else(|| report(part, Outcome::NotBegun))).collect()
    }
}

/// The state of a recipe. What is built elsewhere is in the remote, or nowhere.
fn obtained(cx: &Context<'_>, recipe: &impl Recipe, is_theirs: bool) -> recipe::Result<Option<Built>> {
    if is_theirs { brought(cx, recipe) } else { realise(cx, recipe).map(Some) }
}

/// Size on disk of a state's topmost layer. Only for display, so failures are ignored.
fn layer_bytes(cx: &Context<'_>, state: &State) -> Option<u64> {
    let top = cx.store.lower_dirs(state).into_iter().next()?;
    let input = DiskUsageInput { trees: vec![top] };
    let answer = cx.launcher.task(DISK_USAGE, &input, crate::sandbox::TaskOptions::default(), &mut |_| {}).ok()?;
    let usage: Vec<TreeUsage> = serde_json::from_value(answer).ok()?;
    usage.first().map(|usage| usage.bytes)
}

/// Builds what is wished, one node after the other; returns the state of the node `id`.
pub(crate) fn build_one(cx: &Context<'_>, config: &ConfigDir, wishes: Wishes, id: &str) -> Result<Built> {
    let options = PipelineOptions { one_by_one: true, ..PipelineOptions::default() };
    let node = plan(cx, config, wishes, options)?.run(false, &PassOn(cx.observer))?.into_node(id)?;
    let unbuilt = || crate::pipeline::Error::Unbuilt { id: id.to_owned(), needs: Vec::new() };
    let state = cx.store.state(&node.state.ok_or_else(unbuilt)?)?;
    Ok(Built { state, reused: node.outcome != Outcome::Built })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[(&str, Outcome)]) -> Report {
        let node = |(id, outcome): &(&str, Outcome)| NodeReport {
            id: (*id).to_owned(),
            kind: NodeKind::Stage4,
            outcome: outcome.clone(),
            seconds: 0.0,
            size_bytes: None,
            why: Vec::new(),
            state: None,
            artifact: None,
            messages: serde_json::Value::Null,
            error: None,
            failure: None,
        };
        Report { nodes: outcomes.iter().map(node).collect(), seconds: 0.0, jobs: 1, record: record::Run::default() }
    }

    #[test]
    fn one_thing_is_done_only_if_all_of_its_run_is() {
        let done = report(&[("stage3/a", Outcome::Reused), ("stage4/b", Outcome::Built), ("artifact/b", Outcome::Reused)]);
        assert_eq!(done.into_node("stage4/b").unwrap().outcome, Outcome::Built);
        // Ctrl-C between the stage and its files: nothing has failed, and the files are not there.
        let cut = report(&[("stage4/b", Outcome::Built), ("artifact/b", Outcome::NotBegun)]);
        let error = cut.into_node("stage4/b").unwrap_err();
        assert!(matches!(error, Error::Context(context::Error::Interrupted { .. })), "{error}");
    }
}
