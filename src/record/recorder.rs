//! Listens to a run, and writes down what becomes of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::causes::in_one_line;
use crate::context::Context;
use crate::durable;
use crate::portage::messages::{Class, Message, Messages, Said};
use crate::progress::{Event, PackageStep};
use crate::record::{ArtifactRun, FILE, NodeRun, Outcome, PackageRun, Run, VERSION, WHAT};
use crate::session::logs::{LogDir, log_dir};

/// Between two nodes a record is written so often at most: it is synced each time.
const SELDOM: Duration = Duration::from_secs(10);
/// Of all nodes together.
const MOST_PACKAGES: usize = 20_000;
/// What packages have said, of all nodes together.
const MOST_MESSAGE_LINES: usize = 10_000;
/// Of one node.
const MOST_WARNINGS: usize = 100;
/// Of one error.
const MOST_CAUSES: usize = 20;
/// Longer lines are cut.
const MOST_CHARS: usize = 2000;

/// What a node has become.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub result: Outcome,
    pub because: Option<String>,
    pub error: Vec<String>,
    pub state: Option<String>,
    pub layer_bytes: Option<u64>,
    pub artifact: Option<ArtifactRun>,
    pub messages: Messages,
}

/// Makes the record of one run.
#[derive(Debug)]
pub(crate) struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    run: Run,
    /// Where each node is in it, by id.
    places: HashMap<String, usize>,
    dir: Option<LogDir>,
    written: Instant,
    packages: usize,
    message_lines: usize,
    /// No further attempt is made.
    broken: bool,
}

impl Recorder {
    /// Of a run whose nodes are known, in memory.
    pub(crate) fn new(run: Run) -> Self {
        let run = Run { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned(), ..run };
        let places = run.nodes.iter().enumerate().map(|(place, node)| (node.id.clone(), place)).collect();
        let state = State { run, places, dir: None, written: Instant::now(), packages: 0, message_lines: 0, broken: false };
        Self { state: Mutex::new(state) }
    }

    /// From here on it is kept on disk. If that does not work, there will be no report of this run, and nothing else is lost.
    pub(crate) fn keep(&self, cx: &Context<'_>) {
        let mut state = self.state();
        match log_dir(cx, WHAT) {
            Ok(dir) => {
                state.run.dir = Some(dir.to_path_buf());
                state.dir = Some(dir);
                state.write();
            }
            Err(error) => tracing::info!("no record of this run is kept: {}", in_one_line(&error)),
        }
    }

    pub(crate) fn begun(&self, id: &str) {
        let mut state = self.state();
        let taken: BTreeSet<usize> =
            state.run.nodes.iter().filter(|node| node.result == Outcome::Begun).filter_map(|node| node.slot).collect();
        let Some(node) = state.node(id) else { return };
        node.slot = Some(first_free(&taken));
        node.began = Some(now());
        node.result = Outcome::Begun;
        state.write();
    }

    pub(crate) fn event(&self, id: &str, event: &Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Package { package, step } => state.package(id, package, *step),
            Event::Warning(text) => state.warning(id, text),
            Event::Said { package, lines } => state.said(id, package, lines),
            _ => {}
        }
    }

    pub(crate) fn ended(&self, id: &str, ended: Ended) {
        let mut state = self.state();
        let Ended { result, because, error, state: made, layer_bytes, artifact, messages } = ended;
        let mut messages = messages;
        state.bound(&mut messages);
        let Some(node) = state.node(id) else { return };
        if node.began.is_some() {
            node.ended = Some(now());
        }
        node.end_packages(result);
        node.result = result;
        node.because = because;
        node.error = error.iter().take(MOST_CAUSES).map(|line| cut(line)).collect();
        node.state = made;
        node.layer_bytes = layer_bytes;
        node.artifact = artifact;
        // Of a state it is all that was said; of one that failed, what was told meanwhile stays.
        if !messages.is_empty() {
            node.messages = messages;
        }
        state.write();
    }

    /// The whole record; on disk, too, if it is kept there.
    pub(crate) fn finish(self) -> Run {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for node in state.run.nodes.iter_mut().filter(|node| node.result == Outcome::Waiting) {
            node.result = Outcome::NotBegun;
        }
        state.run.ended = Some(now());
        state.write();
        state.run
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn node(&mut self, id: &str) -> Option<&mut NodeRun> {
        self.run.nodes.get_mut(*self.places.get(id)?)
    }

    fn write(&mut self) {
        let Some(dir) = self.dir.as_ref().filter(|_| !self.broken) else { return };
        self.written = Instant::now();
        let text = serde_json::json!(self.run).to_string();
        if let Err(error) = durable::replace(&dir.join(FILE), text.as_bytes(), durable::Mode::AtMost(0o666)) {
            tracing::info!("the record of this run is cut off: {}", in_one_line(&error));
            self.broken = true;
        }
    }

    fn package(&mut self, id: &str, package: &str, step: PackageStep) {
        let room = self.packages < MOST_PACKAGES;
        let Some(node) = self.node(id) else { return };
        let began_another = node.package(package, step, now(), room);
        match began_another {
            Some(true) => self.packages += 1,
            Some(false) => {}
            None => self.run.more_packages = true,
        }
        if self.written.elapsed() >= SELDOM {
            self.write();
        }
    }

    fn warning(&mut self, id: &str, text: &str) {
        let Some(node) = self.node(id) else { return };
        if node.warnings.len() < MOST_WARNINGS {
            node.warnings.push(cut(text));
        }
    }

    fn said(&mut self, id: &str, package: &str, lines: &[(&'static str, &str)]) {
        let mut messages: Vec<Message> = Vec::new();
        let mut more = false;
        for (word, line) in lines {
            let class = match *word {
                "elog" => Class::Log,
                "ewarn" => Class::Warn,
                "eerror" => Class::Error,
                // That there is more.
                _ => {
                    more = true;
                    continue;
                }
            };
            match messages.last_mut() {
                Some(last) if last.class == class => last.lines.push(cut(line)),
                _ => messages.push(Message { class, phase: String::new(), lines: vec![cut(line)] }),
            }
        }
        let said = Said { package: package.to_owned(), messages, more };
        let mut told = Messages { packages: vec![said], ..Messages::default() };
        self.bound(&mut told);
        if let Some(node) = self.node(id) {
            node.messages.packages.extend(told.packages);
        }
    }

    /// Drops the lines for which there is no room. A state has them all.
    fn bound(&mut self, messages: &mut Messages) {
        for said in &mut messages.packages {
            let lines: usize = said.messages.iter().map(|message| message.lines.len()).sum();
            if self.message_lines + lines > MOST_MESSAGE_LINES {
                said.messages.clear();
                said.more = true;
            } else {
                self.message_lines += lines;
            }
        }
    }
}

impl NodeRun {
    /// Takes a step of a package: whether that begins another one, or `None` if there is no room for it.
    fn package(&mut self, package: &str, step: PackageStep, now: i64, room: bool) -> Option<bool> {
        let at = self.open.iter().copied().find(|at| self.packages[*at].package == package);
        let open = at.map(|at| &mut self.packages[at]);
        match (step, open) {
            (PackageStep::Done | PackageStep::Failed, Some(open)) => {
                open.ended = Some(now);
                open.failed = step == PackageStep::Failed;
                self.open.retain(|open| Some(*open) != at);
            }
            (PackageStep::Merging, Some(open)) => open.merged = open.merged.or(Some(now)),
            (PackageStep::Unpacking, Some(open)) => open.binary = true,
            // Who fails twice, or ends without a beginning, is told by another line of the same run.
            (PackageStep::Building, Some(_)) | (PackageStep::Done | PackageStep::Failed, None) => {}
            (_, None) if !room => return None,
            (step, None) => {
                let taken: BTreeSet<usize> = self.open.iter().map(|at| self.packages[*at].lane).collect();
                self.open.push(self.packages.len());
                self.packages.push(PackageRun {
                    package: cut(package),
                    lane: first_free(&taken),
                    began: now,
                    merged: (step == PackageStep::Merging).then_some(now),
                    ended: None,
                    binary: step == PackageStep::Unpacking,
                    failed: false,
                });
                return Some(true);
            }
        }
        Some(false)
    }

    /// What is not over by now was stopped with its node.
    fn end_packages(&mut self, result: Outcome) {
        let ended = self.ended;
        for package in self.packages.iter_mut().filter(|package| package.ended.is_none()) {
            package.ended = ended;
            package.failed = matches!(result, Outcome::Failed | Outcome::Interrupted);
        }
    }
}

fn first_free(taken: &BTreeSet<usize>) -> usize {
    (0..=taken.len()).find(|number| !taken.contains(number)).unwrap_or_default()
}

fn cut(text: &str) -> String {
    if text.chars().nth(MOST_CHARS).is_some() { text.chars().take(MOST_CHARS).collect() } else { text.to_owned() }
}

pub(crate) fn now() -> i64 {
    crate::clock::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> NodeRun {
        NodeRun { id: id.to_owned(), ..NodeRun::default() }
    }

    fn recorder(ids: &[&str]) -> Recorder {
        Recorder::new(Run { nodes: ids.iter().map(|id| node(id)).collect(), ..Run::default() })
    }

    fn step(recorder: &Recorder, package: &str, step: PackageStep) {
        recorder.event("stage4/a", &Event::Package { package, step });
    }

    #[test]
    fn packages_take_the_first_lane_that_is_free_and_nodes_the_first_slot() {
        let recorder = recorder(&["stage4/a", "stage4/b", "stage4/c", "stage4/d"]);
        for id in ["stage4/a", "stage4/b"] {
            recorder.begun(id);
        }
        step(&recorder, "x/a-1", PackageStep::Building);
        step(&recorder, "x/b-1", PackageStep::Unpacking);
        step(&recorder, "x/a-1", PackageStep::Merging);
        step(&recorder, "x/a-1", PackageStep::Done);
        // Output and log may both tell it.
        step(&recorder, "x/a-1", PackageStep::Done);
        step(&recorder, "x/c-1", PackageStep::Building);
        step(&recorder, "x/b-1", PackageStep::Failed);
        recorder.ended("stage4/a", Ended { result: Outcome::Failed, ..Ended::default() });
        recorder.begun("stage4/c");
        let run = recorder.finish();
        let slots: Vec<Option<usize>> = run.nodes.iter().map(|node| node.slot).collect();
        assert_eq!(slots, [Some(0), Some(1), Some(0), None]);
        let packages = &run.nodes[0].packages;
        let seen: Vec<(&str, usize, bool, bool, bool)> = packages
            .iter()
            .map(|package| (package.package.as_str(), package.lane, package.binary, package.failed, package.merged.is_some()))
            .collect();
        assert_eq!(seen, [("x/a-1", 0, false, false, true), ("x/b-1", 1, true, true, false), ("x/c-1", 0, false, true, false)]);
        assert!(packages.iter().all(|package| package.ended.is_some()), "{packages:?}");
        assert_eq!(run.nodes.iter().map(|node| node.result).collect::<Vec<_>>()[2..], [Outcome::Begun, Outcome::NotBegun]);
    }

    #[test]
    fn a_record_is_bounded() {
        let recorder = recorder(&["stage4/a"]);
        recorder.begun("stage4/a");
        for number in 0..=MOST_PACKAGES {
            let package = format!("x/p-{number}");
            step(&recorder, &package, PackageStep::Building);
            step(&recorder, &package, PackageStep::Done);
        }
        let long = "x".repeat(MOST_CHARS * 2);
        for _ in 0..MOST_WARNINGS * 2 {
            recorder.event("stage4/a", &Event::Warning(&long));
        }
        let lines = vec![("elog", long.as_str()); MOST_MESSAGE_LINES];
        for package in ["x/fits-1", "x/does-not-1"] {
            recorder.event("stage4/a", &Event::Said { package, lines: &lines });
        }
        let run = recorder.finish();
        let node = &run.nodes[0];
        assert_eq!((node.packages.len(), run.more_packages), (MOST_PACKAGES, true));
        assert_eq!((node.warnings.len(), node.warnings[0].len()), (MOST_WARNINGS, MOST_CHARS));
        let said: Vec<(usize, bool)> = node.messages.packages.iter().map(|said| (said.messages.len(), said.more)).collect();
        assert_eq!(said, [(1, false), (0, true)]);
    }
}
