//! What `pipeline` shows while it runs, on standard error.
//!
//! ```text
//! on a terminal     a line for each node that is being built, what is done above, how far it is below
//! elsewhere         lines that begin with `[NODE]`
//! GitHub, GitLab    a folded group for each node once it is done, since groups cannot be interleaved
//! --log-format json lines with `"node"`
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::pipeline::Node;
use crate::pipeline::run::{NodeReport, Outcome, Watcher};
use crate::progress::{EmergeStatus, Event};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pipeline_lines;
use crate::cli::invocation::Invocation;
use crate::cli::progress::{Progress, emerge_words, is_worth_a_line, tick};
use crate::cli::screen;
use crate::cli::screen::Text;
use crate::cli::table::human_bytes;

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
}

/// What is shown of a node that is being built.
#[derive(Debug, Default)]
struct Running {
    bar: Option<ProgressBar>,
    step: String,
    lines: Vec<Text>,
    last_emerge: Option<(Instant, EmergeStatus)>,
    part: Option<(String, Option<u64>, u64, Instant)>,
    /// Seconds since 1970.
    since: i64,
}

impl Running {
    /// Shows `text` in its line; false if it has none.
    fn draw(&self, text: &str) -> bool {
        if let Some(bar) = &self.bar {
            bar.set_message(screen::line(text));
        }
        self.bar.is_some()
    }
}

impl<'p> View<'p> {
    /// Of a run of `nodes`.
    pub(super) fn new<'n>(progress: &'p Progress, nodes: impl Iterator<Item = &'n Node>) -> Self {
        let todo: Vec<&Node> = nodes.filter(|node| node.build).collect();
        let groups = match () {
            () if progress.draws() || progress.is_json() || progress.is_quiet() => Groups::None,
            () if Invocation::is_true("GITHUB_ACTIONS") => Groups::GitHub,
            () if Invocation::is_true("GITLAB_CI") => Groups::GitLab,
            () => Groups::None,
        };
        let bars = (progress.draws() && !todo.is_empty()).then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let all = bars.add(ProgressBar::new(todo.len() as u64));
            all.set_style(style("  {pos} of {len} nodes done  {elapsed}"));
            tick(&all);
            progress.above(Some(bars.clone()));
            (bars, all)
        });
        let width = todo.iter().map(|node| node.id.chars().count()).max().unwrap_or(0);
        Self { progress, groups, state: Mutex::new(State { running: BTreeMap::new(), bars, done: 0, todo: todo.len(), width }) }
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
        let (doing, text) = emerge_words(status);
        if running.bar.is_some() {
            let count = if status.total == 0 { String::new() } else { format!(" ({} of {})", status.done, status.total) };
            let step = format!("{}{count}  {doing}", running.step);
            running.draw(step.trim_end());
        } else if is_worth_a_line(&mut running.last_emerge, status) {
            self.say(running, id, "progress", text.trim_end());
        }
    }

    fn end_of_part(&self, running: &mut Running, id: &str) {
        let Some((what, _, bytes, since)) = running.part.take() else { return };
        let secs = since.elapsed().as_secs_f64();
        if secs >= 1.0 && running.bar.is_none() {
            let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = human_bytes(bytes.saturating_mul(1000) / millis);
            self.say(running, id, "note", &format!("{what}: {} in {secs:.1} s, {rate}/s", human_bytes(bytes)));
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

impl Watcher for View<'_> {
    fn begun(&self, node: &Node) {
        let mut state = self.state();
        let mut running = Running { since: crate::clock::now().as_second(), ..Running::default() };
        if let Some((bars, all)) = &state.bars {
            let bar = bars.insert_before(all, ProgressBar::new_spinner());
            bar.set_style(style(&format!("  {{prefix:<{}}}  {{elapsed:>4}}  {{wide_msg}}", state.width)));
            bar.set_prefix(screen::line(&node.id));
            tick(&bar);
            running.bar = Some(bar);
        } else if self.groups != Groups::None {
            // The rest of it comes when it is done, which may be in an hour.
            self.progress.write(&Text::line(&format!("{}: begun", node.id)).words("\n"));
        }
        state.running.insert(node.id.clone(), running);
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
            Event::Begin { what, total } => running.part = Some(((*what).to_owned(), *total, 0, Instant::now())),
            Event::Advance(bytes) => {
                let Some((_, total, done, _)) = &mut running.part else { return };
                *done += bytes;
                let so_far = match total {
                    Some(total) if *total > 0 => format!("{} of {}", human_bytes(*done), human_bytes(*total)),
                    _ => human_bytes(*done),
                };
                let text = format!("{}  {so_far}", running.step);
                running.draw(&text);
            }
            Event::End => self.end_of_part(running, id),
            Event::Output(line) => self.say(running, id, "output", line),
            Event::Emerge(status) => self.emerge(running, id, status),
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

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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
