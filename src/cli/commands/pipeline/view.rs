//! What `pipeline` shows while it runs, on standard error.
//!
//! ```text
//! on a terminal     a line for each node that is being built, what is done above, how far it is below
//! elsewhere         lines that begin with `[NODE]`
//! GitHub, GitLab    a folded group for each node once it is done, since groups cannot be interleaved
//! --log-format json lines with `"node"`
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::build_times::schedule;
use crate::pipeline::expected::Expected;
use crate::pipeline::run::{NodeReport, Outcome, Watcher};
use crate::pipeline::{Node, Pipeline};
use crate::progress::{EmergeStatus, Event, Left};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState};

use super::pipeline_lines;
use crate::cli::forecast::{Ticking, columns, emerge_line, left_words, node_line};
use crate::cli::invocation::Invocation;
use crate::cli::progress::{Part, Progress, is_worth_a_line, style, tick};
use crate::cli::screen::Text;

/// As GitLab's runner wants it around its marks: clears the rest of the line.
const CLEAR: &str = "\x1b[0K";

/// Who folds groups of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    None,
    GitHub,
    GitLab,
}

/// Shows a run.
#[derive(Debug)]
pub(super) struct View<'p> {
    progress: &'p Progress,
    groups: Groups,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: BTreeMap<String, Running>,
    bars: Option<(MultiProgress, ProgressBar)>,
    done: usize,
    todo: usize,
    width: usize,
    expected: Expected,
    ahead: Ahead,
}

/// What is left of the whole run, as the last line shows it.
#[derive(Debug, Clone, Default)]
struct Ahead(Arc<Mutex<Option<(Left, Instant)>>>);

impl Ahead {
    fn set(&self, left: Option<Left>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = left.map(|left| (left, Instant::now()));
    }

    fn words(&self) -> Option<String> {
        let (left, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        left_words(&Left { secs: left.secs.saturating_sub(at.elapsed().as_secs()), ..left })
    }
}

/// What is shown of a node that is being built.
#[derive(Debug)]
struct Running {
    bar: Option<ProgressBar>,
    step: String,
    lines: Vec<Text>,
    last_emerge: Option<(Instant, EmergeStatus)>,
    part: Option<Part>,
    /// Seconds since 1970.
    since: i64,
    /// What its line says.
    doing: Doing,
    begun: Instant,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            bar: None,
            step: String::new(),
            lines: Vec::new(),
            last_emerge: None,
            part: None,
            since: crate::clock::now().as_second(),
            doing: Doing::default(),
            begun: Instant::now(),
        }
    }
}

/// What a node does, for the one that draws its line.
#[derive(Debug, Clone, Default)]
struct Doing {
    text: Arc<Mutex<String>>,
    emerge: Ticking,
}

impl Doing {
    /// The line of the node as it is now.
    fn line(&self, id: &str, column: usize, elapsed: u64) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        node_line(id, column, elapsed, &text, self.emerge.now().as_ref(), columns())
    }
}

impl Running {
    /// Shows `text` in its line; false if it has none.
    fn draw(&self, text: &str) -> bool {
        self.doing.emerge.set(None);
        text.clone_into(&mut self.doing.text.lock().unwrap_or_else(PoisonError::into_inner));
        self.bar.is_some()
    }
}

impl<'p> View<'p> {
    /// Of a run of `nodes`.
    pub(super) fn new(progress: &'p Progress, pipeline: &Pipeline<'_, '_>) -> Self {
        let todo: Vec<&Node> = pipeline.nodes().filter(|node| node.build).collect();
        let groups = match () {
            () if progress.draws() || progress.is_json() || progress.is_quiet() => Groups::None,
            () if Invocation::is_true("GITHUB_ACTIONS") => Groups::GitHub,
            () if Invocation::is_true("GITLAB_CI") => Groups::GitLab,
            () => Groups::None,
        };
        let (expected, ahead) = (pipeline.expected(), Ahead::default());
        ahead.set(expected.left());
        let bars = (progress.draws() && !todo.is_empty()).then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let all = bars.add(ProgressBar::new(todo.len() as u64));
            let shown = ahead.clone();
            let left = move |_: &ProgressState, to: &mut dyn std::fmt::Write| {
                // It writes into a string.
                let _ = to.write_str(&shown.words().unwrap_or_default());
            };
            all.set_style(style("  {pos} of {len} nodes done  {elapsed}  {left}").with_key("left", left));
            tick(&all);
            progress.above(Some(bars.clone()));
            (bars, all)
        });
        let width = todo.iter().map(|node| node.id.chars().count()).max().unwrap_or(0);
        let state = State { running: BTreeMap::new(), bars, done: 0, todo: todo.len(), width, expected, ahead };
        Self { progress, groups, state: Mutex::new(state) }
    }

    /// Takes away what is drawn.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.running.clear();
        if let Some((bars, all)) = state.bars.take() {
            all.finish_and_clear();
            drop(bars.clear());
            self.progress.above(None);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line of a node: now, or with the others of its group.
    fn say(&self, running: &mut Running, id: &str, kind: &str, text: &str) {
        if self.groups == Groups::None {
            self.progress.say_of(id, kind, text);
        } else {
            running.lines.push(self.progress.line(kind, None, text));
        }
    }

    /// As [`Self::say`], for what a package has said.
    fn said(&self, running: &mut Running, id: &str, package: &str, lines: &[(&'static str, &str)]) {
        if self.groups == Groups::None {
            self.progress.write(&self.progress.said(Some(id), package, lines).into_iter().collect());
        } else {
            running.lines.extend(self.progress.said(None, package, lines));
        }
    }

    fn emerge(&self, running: &mut Running, id: &str, status: &EmergeStatus) {
        if running.bar.is_some() {
            running.draw(&running.step.clone());
            // Before it has a list, and after its last package, its step says more.
            if !emerge_line(status, usize::MAX).is_empty() && (status.total == 0 || status.done < status.total) {
                running.doing.emerge.set(Some(status.clone()));
            }
        } else if is_worth_a_line(&mut running.last_emerge, status) {
            if self.groups == Groups::None {
                self.progress.write(&self.progress.emerge_line(Some(id), status));
            } else {
                running.lines.push(self.progress.emerge_line(None, status));
            }
        }
    }

    fn end_of_part(&self, running: &mut Running, id: &str) {
        if let Some(part) = running.part.take().filter(|part| part.took_long() && running.bar.is_none()) {
            self.say(running, id, "note", &part.words());
        }
    }

    /// Writes all that a node has said, folded.
    fn group(&self, running: &Running, id: &str, title: &str) {
        let now = crate::clock::now().as_second();
        let name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let title = Text::line(title);
        let mut text = match self.groups {
            Groups::GitHub => Text::from("::group::").text(&title),
            _ => Text::default()
                .code(CLEAR)
                .words(&format!("section_start:{}:{name}[collapsed=true]", running.since))
                .code("\r")
                .code(CLEAR)
                .text(&title),
        };
        text = running.lines.iter().fold(text.words("\n"), |text, line| text.text(&tame(line)));
        text = match self.groups {
            Groups::GitHub => text.words("::endgroup::\n"),
            _ => text.code(CLEAR).words(&format!("section_end:{now}:{name}")).code("\r").code(CLEAR).words("\n"),
        };
        self.progress.write(&text);
    }
}

impl State {
    /// Works out what is left, as it is known now.
    fn look_ahead(&mut self) {
        if self.bars.is_none() {
            return;
        }
        let mut tasks = self.expected.tasks.clone();
        for (task, id) in tasks.iter_mut().zip(&self.expected.ids) {
            if let Some(running) = self.running.get(id) {
                let elapsed = running.begun.elapsed().as_secs();
                let of_node = task.left.map(|left| Left { secs: left.secs.saturating_sub(elapsed), ..left });
                let of_emerge = running.doing.emerge.now().and_then(|status| status.left);
                // A node is more than one run of emerge, and may have more to do than before.
                task.left = of_node.into_iter().chain(of_emerge).max_by_key(|left| left.secs);
                task.is_running = true;
            }
        }
        self.ahead.set(schedule::left(&tasks, self.expected.workers));
    }
}

impl Watcher for View<'_> {
    fn begun(&self, node: &Node) {
        let mut state = self.state();
        let mut running = Running::default();
        if let Some((bars, all)) = &state.bars {
            let bar = bars.insert_before(all, ProgressBar::new_spinner());
            let (doing, id, column) = (running.doing.clone(), node.id.clone(), state.width);
            let line = move |drawn: &ProgressState, to: &mut dyn std::fmt::Write| {
                // It writes into a string.
                let _ = to.write_str(&doing.line(&id, column, drawn.elapsed().as_secs()));
            };
            bar.set_style(style("{line}").with_key("line", line));
            tick(&bar);
            running.bar = Some(bar);
        } else if self.groups != Groups::None {
            // The rest of it comes when it is done, which may be in an hour.
            self.progress.write(&Text::line(&format!("{}: begun", node.id)).words("\n"));
        }
        state.running.insert(node.id.clone(), running);
        state.look_ahead();
    }

    fn event(&self, node: &Node, event: &Event<'_>) {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(&node.id) else { return };
        let id = node.id.as_str();
        if self.progress.is_quiet() && !matches!(event, Event::Warning(_)) {
            return;
        }
        match event {
            Event::Step(text) => {
                (*text).clone_into(&mut running.step);
                if !running.draw(text) {
                    self.say(running, id, "step", text);
                }
            }
            Event::Note(text) => self.say(running, id, "note", text),
            Event::Warning(text) => self.say(running, id, "warning", text),
            Event::Begin { what, total, unit } => running.part = Some(Part::new(what, *total, *unit)),
            Event::Total(total) => {
                if let Some(part) = &mut running.part {
                    part.total = Some(*total);
                }
            }
            Event::Advance(more) => {
                let Some(part) = &mut running.part else { return };
                let line = part.advance(*more);
                let text = format!("{}  {}", running.step, part.so_far());
                if !running.draw(&text)
                    && let Some(line) = line.filter(|_| !self.progress.is_json())
                {
                    self.say(running, id, "progress", &line);
                }
            }
            Event::End => {
                // Else its time would go on.
                running.doing.emerge.set(None);
                self.end_of_part(running, id);
            }
            Event::Output(line) => self.say(running, id, "output", line),
            Event::Emerge(status) => {
                self.emerge(running, id, status);
                state.look_ahead();
            }
            Event::Package { .. } => {}
            Event::Said { package, lines } => self.said(running, id, package, lines),
        }
    }

    fn ended(&self, node: &Node, report: &NodeReport) {
        if report.outcome == Outcome::Reused && !node.build {
            // Told in the end: it took no time.
            return;
        }
        let mut state = self.state();
        state.done += 1;
        let begun = state.running.remove(&node.id);
        state.expected.ended(&node.id);
        state.look_ahead();
        let was_begun = begun.is_some();
        let running = begun.unwrap_or_default();
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        if let Some((_, all)) = &state.bars {
            all.set_position(state.done as u64);
        }
        if self.progress.is_quiet() {
            return;
        }
        let words = ended_words(report);
        if self.groups == Groups::None {
            let kind = if matches!(report.outcome, Outcome::Failed | Outcome::Skipped { .. }) { "warning" } else { "step" };
            let count = if running.bar.is_none() && !self.progress.is_json() {
                format!("  ({} of {})", state.done, state.todo)
            } else {
                String::new()
            };
            self.progress.say_of(&node.id, kind, &format!("{words}{count}"));
        } else if !was_begun {
            self.progress.write(&Text::line(&format!("{}: {words}", node.id)).words("\n"));
        } else {
            self.group(&running, &node.id, &format!("{} {words}", node.id));
            if report.outcome == Outcome::Failed && self.groups == Groups::GitHub {
                let line = format!("::error title={}::{}", node.id, escaped(&words));
                self.progress.write(&Text::line(&line).words("\n"));
            }
        }
    }
}

fn ended_words(report: &NodeReport) -> String {
    let time = pipeline_lines::seconds(report.seconds);
    match &report.outcome {
        Outcome::Built => format!("built in {time}"),
        Outcome::Reused => "reused: another command has built it meanwhile".to_owned(),
        Outcome::Fetched => format!("fetched in {time}"),
        Outcome::Failed => format!("failed after {time}: {}", report.error.as_deref().unwrap_or_default()),
        Outcome::Skipped { because } => format!("skipped: {because} failed"),
        Outcome::Interrupted => format!("interrupted after {time}"),
        Outcome::NotBegun => pipeline_lines::result(&report.outcome).to_owned(),
    }
}

/// A line that no runner takes for a command of its own, whatever a package is called.
fn tame(line: &Text) -> Text {
    let begins = line.as_str().trim_start();
    if begins.starts_with("::") || begins.starts_with("##[") { Text::from("| ").text(line) } else { line.clone() }
}

/// For the message of a workflow command.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_a_command_to_the_runner() {
        for (line, tamed) in
            [("  ::error::x", "|   ::error::x"), ("##[group]", "| ##[group]"), ("* building a::b", "* building a::b")]
        {
            assert_eq!(tame(&line.into()), tamed.into());
        }
        assert_eq!(escaped("50%\nof it"), "50%25%0Aof it");
    }
}
