//! How progress looks: bars on a terminal, plain lines elsewhere, JSON lines when asked for.

use std::io;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::{EmergeStatus, Event, Fetching, Observer, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::args::{self, Global, LogFormat};
use crate::cli::forecast::{Ticking, columns, emerge_line, left_words};
use crate::cli::screen;
use crate::cli::screen::{Style, Text};
use crate::cli::table::human_bytes;

/// Without a terminal, a line for what takes long at most this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Renders the library's events on standard error.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts about one stream, none of which follows from the others")]
pub(crate) struct Progress {
    quiet: bool,
    json: bool,
    terminal: bool,
    color: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bar: Option<ProgressBar>,
    /// What `bar` shows, if that is a run of emerge.
    emerge: Option<Ticking>,
    /// Several bars that somebody else draws.
    bars: Option<MultiProgress>,
    begun: Option<Part>,
    last_emerge: Option<(Instant, EmergeStatus)>,
}

impl Progress {
    /// A renderer for the given options.
    pub(crate) fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal() && args::obeys();
        Self {
            quiet: global.quiet,
            json: global.log_format == LogFormat::Json,
            terminal,
            color: global.color.enabled(terminal),
            state: Mutex::default(),
        }
    }

    /// Removes what is being drawn, so that other output has a line of its own.
    pub(crate) fn clear(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Writes `text` to standard error as it is, above a bar if there is one.
    pub(crate) fn write(&self, text: &Text) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).write(text);
    }

    /// Whether nothing but results and errors is wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether what is said is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Lines that are written from now on go above these bars; `None`: there are no more.
    pub(crate) fn above(&self, bars: Option<MultiProgress>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bars = bars;
    }

    /// Says something about one of several things that go on at the same time.
    pub(crate) fn say_of(&self, node: &str, kind: &str, text: &str) {
        self.write(&self.line(kind, Some(node), text));
    }

    /// A line as it is written, with its end.
    pub(crate) fn line(&self, kind: &str, node: Option<&str>, text: &str) -> Text {
        if self.json {
            let mut line = serde_json::json!({ "kind": kind, "message": text });
            if let Some(node) = node {
                line["node"] = node.into();
            }
            return Text::json(&line, false).unwrap_or_default().words("\n");
        }
        let mut line = Text::default();
        if let Some(node) = node {
            line = line.painted(Style::Dim, &screen::line(&format!("[{node}]")), self.color).words(" ");
        }
        let line = match kind {
            "step" => line.painted(Style::Step, "*", self.color).words(" "),
            "warning" => line.painted(Style::Warning, "warning:", self.color).words(" "),
            // As the compiler said it.
            "output" => line,
            _ => line.words("  "),
        };
        line.text(&Text::line(text)).words("\n")
    }

    /// What a package has said, as lines with their ends.
    pub(crate) fn said(&self, node: Option<&str>, package: &str, lines: &[(&'static str, &str)]) -> Vec<Text> {
        let json = |class: &str, words: &str| {
            let mut line = serde_json::json!({ "kind": "elog", "class": class, "package": package, "message": words });
            if let Some(node) = node {
                line["node"] = node.into();
            }
            Text::json(&line, false).unwrap_or_default().words("\n")
        };
        if self.json {
            return lines.iter().map(|(class, words)| json(class, words)).collect();
        }
        let heading = self.line("note", node, &format!("{package} says:"));
        std::iter::once(heading).chain(lines.iter().map(|(class, words)| said_line(class, words, self.color))).collect()
    }

    /// Whether bars are drawn.
    pub(crate) fn draws(&self) -> bool {
        self.terminal && !self.json && !self.quiet
    }

    fn say(&self, state: &State, kind: &str, text: &str) {
        state.write(&self.line(kind, None, text));
    }

    fn emerge(&self, state: &mut State, status: &EmergeStatus) {
        if self.terminal && !self.json {
            let shown = state.emerge.get_or_insert_default().clone();
            shown.set(Some(status.clone()));
            if state.bar.is_none() {
                state.bar = Some(bar_for_packages(shown));
            }
            return;
        }
        if is_worth_a_line(&mut state.last_emerge, status) {
            state.write(&self.emerge_line(None, status));
        }
    }

    /// Where a run of emerge stands, without a terminal.
    pub(crate) fn emerge_line(&self, node: Option<&str>, status: &EmergeStatus) -> Text {
        let text = emerge_words(status);
        let left = status.left.as_ref().and_then(left_words).map(|left| format!(", {left}"));
        let text = format!("{}{}", text.trim_end(), left.unwrap_or_default());
        if !self.json {
            return self.line("progress", node, &text);
        }
        let mut line = serde_json::json!({ "kind": "progress", "message": text, "emerge": EmergeRun::of(status) });
        if let Some(node) = node {
            line["node"] = node.into();
        }
        Text::json(&line, false).unwrap_or_default().words("\n")
    }
}

impl State {
    /// Removes what is being drawn.
    fn clear(&mut self) {
        self.emerge = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Writes above what is being drawn.
    fn write(&self, text: &Text) {
        let write = || screen::err(text);
        match (&self.bar, &self.bars) {
            (Some(bar), _) => bar.suspend(write),
            (None, Some(bars)) => bars.suspend(write),
            (None, None) => write(),
        }
    }
}

/// How far a run of emerge is, what is being worked on and what is brought for it.
fn emerge_words(status: &EmergeStatus) -> String {
    let running: Vec<String> =
        status.running.iter().map(|task| format!("{} {} {}s", task.cpv, task.phase, task.elapsed_secs)).collect();
    let fetching = status.fetching.as_ref().filter(|fetching| fetching.goes_on()).map(fetching_words);
    let doing: Vec<String> = Some(running.join(", ")).filter(|text| !text.is_empty()).into_iter().chain(fetching).collect();
    let doing = doing.join("  ");
    if status.total == 0 && status.running.is_empty() {
        return doing;
    }
    format!("emerge: {} of {} packages done  {doing}", status.done, status.total)
}

/// `fetching: 3 of 40 files, 1.2 MiB of 30 MiB, waiting for hello-2.10.tar.gz`
pub(super) fn fetching_words(fetching: &Fetching) -> String {
    let bytes = |bytes| human_bytes(bytes);
    let mut text = format!(
        "fetching: {} of {} files, {} of {}",
        fetching.done,
        fetching.total,
        bytes(fetching.bytes_done),
        bytes(fetching.bytes_total)
    );
    if let Some((first, others)) = fetching.awaited.split_first() {
        text.push_str(&format!(", waiting for {first}"));
        if !others.is_empty() {
            text.push_str(&format!(" and {} more", others.len()));
        }
    }
    text
}

/// Whether a line says something that `last`, which was written before, did not; it becomes the last one then.
pub(crate) fn is_worth_a_line(last: &mut Option<(Instant, EmergeStatus)>, status: &EmergeStatus) -> bool {
    let waits = status.fetching.as_ref().is_some_and(Fetching::goes_on);
    if status.running.is_empty() && (status.done < status.total || status.total == 0) && !waits {
        // Nothing to do, or between two packages: the line of the next one says how many are done.
        return false;
    }
    let changed = last.as_ref().is_none_or(|(_, last)| last.done != status.done);
    let due = last.as_ref().is_none_or(|(at, _)| at.elapsed() >= PLAIN_INTERVAL);
    if changed || due {
        *last = Some((Instant::now(), status.clone()));
    }
    changed || due
}

impl Observer for Progress {
    fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.quiet {
            if let Event::Warning(text) = event {
                self.say(&state, "warning", text);
            }
            return;
        }
        match event {
            Event::Step(text) => {
                state.clear();
                self.say(&state, "step", text);
            }
            Event::Note(text) => self.say(&state, "note", text),
            Event::Warning(text) => self.say(&state, "warning", text),
            Event::Begin { what, total, unit } => {
                state.begun = Some(Part::new(what, *total, *unit));
                if self.terminal && !self.json {
                    state.clear();
                    state.bar = Some(bar_for(what, *total, *unit));
                }
            }
            Event::Total(total) => {
                if let Some(part) = &mut state.begun {
                    part.total = Some(*total);
                }
                if let (Some(bar), Some(part)) = (&state.bar, &state.begun) {
                    bar.set_length(*total);
                    bar.set_style(style(template(Some(*total), part.unit, columns())));
                }
            }
            Event::Advance(more) => {
                let line = state.begun.as_mut().and_then(|part| part.advance(*more)).filter(|_| !self.terminal && !self.json);
                if let Some(line) = line {
                    self.say(&state, "progress", &line);
                }
                if let Some(bar) = state.bar.as_ref().filter(|_| state.emerge.is_none()) {
                    bar.inc(*more);
                }
            }
            Event::End => {
                state.clear();
                if let Some(part) = state.begun.take().filter(|part| part.since.elapsed().as_secs_f64() >= 1.0 || self.json) {
                    self.say(&state, "note", &part.words());
                }
            }
            Event::Output(line) => self.say(&state, "output", line),
            Event::Emerge(status) => self.emerge(&mut state, status),
            // A status tells as much.
            Event::Package { .. } => {}
            Event::Said { package, lines } => state.write(&self.said(None, package, lines).into_iter().collect()),
        }
    }
}

/// A line of a package's, with how urgent it is, in Portage's colours.
pub(crate) fn said_line(class: &str, words: &str, color: bool) -> Text {
    let style = match class {
        "ewarn" => Style::Yellow,
        "eerror" => Style::Red,
        _ => Style::Green,
    };
    let line = Text::from("    ").painted(style, &format!("{class:<6}"), color);
    if words.is_empty() { line.words("\n") } else { line.words("  ").text(&Text::line(words)).words("\n") }
}

/// A part of the work that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    what: String,
    since: Instant,
    /// When a line last told how far it was.
    told: Instant,
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    unit: Unit,
}

impl Part {
    pub(crate) fn new(what: &str, total: Option<u64>, unit: Unit) -> Self {
        let now = Instant::now();
        Self { what: what.to_owned(), since: now, told: now, done: 0, total, unit }
    }

    /// More is done. Answers a line that tells how far it is, if the last one is long ago.
    pub(crate) fn advance(&mut self, more: u64) -> Option<String> {
        self.done += more;
        if self.told.elapsed() < PLAIN_INTERVAL {
            return None;
        }
        self.told = Instant::now();
        Some(format!("{}: {}", self.what, self.so_far()))
    }

    /// How much was done in which time, once it is over.
    pub(crate) fn words(&self) -> String {
        let (what, done, secs) = (&self.what, self.done, self.since.elapsed().as_secs_f64());
        match self.unit {
            Unit::Bytes => {
                let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
                format!("{what}: {} in {secs:.1} s, {}/s", human_bytes(done), human_bytes(done.saturating_mul(1000) / millis))
            }
            Unit::Things(things) => format!("{what}: {done} {things} in {secs:.1} s"),
        }
    }

    /// Whether it took long enough to be told.
    pub(crate) fn took_long(&self) -> bool {
        self.since.elapsed() >= Duration::from_secs(1)
    }

    /// How much is done by now.
    pub(crate) fn so_far(&self) -> String {
        let total = self.total.filter(|total| *total > 0);
        match (self.unit, total) {
            (Unit::Bytes, Some(total)) => format!("{} of {}", human_bytes(self.done), human_bytes(total)),
            (Unit::Bytes, None) => human_bytes(self.done),
            (Unit::Things(things), Some(total)) => {
                format!("{}% of {total} {things}", self.done.min(total).saturating_mul(100) / total)
            }
            (Unit::Things(things), None) => format!("{} {things}", self.done),
        }
    }
}

fn bar_for(what: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    bar.set_style(style(template(total, unit, columns())));
    bar.set_prefix(screen::line(what));
    if let Unit::Things(things) = unit {
        bar.set_message(things);
    }
    tick(&bar);
    bar
}

/// What there is room for.
fn template(total: Option<u64>, unit: Unit, columns: usize) -> &'static str {
    match (total, unit, columns) {
        (Some(_), _, ..60) => "  {prefix:<10} {percent:>3}%  {eta} left",
        (Some(_), Unit::Bytes, ..90) => "  {prefix:<10} [{wide_bar}] {percent:>3}%  {bytes} of {total_bytes}  {eta} left",
        (Some(_), Unit::Bytes, _) => {
            "  {prefix:<10} [{wide_bar}] {percent:>3}%  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        (Some(_), Unit::Things(_), _) => "  {prefix:<10} [{wide_bar}] {percent:>3}%  {pos} of {len} {msg}  {eta} left",
        (None, Unit::Bytes, _) => "  {prefix:<10} {spinner} {bytes}  {binary_bytes_per_sec}",
        (None, Unit::Things(_), _) => "  {prefix:<10} {spinner} {pos} {msg}  {elapsed}",
    }
}

/// A run of emerge for programs.
#[derive(serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct EmergeRun<'a> {
    /// Packages.
    done: usize,
    /// Packages.
    total: usize,
    running: Vec<RunningPackage<'a>>,
    /// Null if nothing is known.
    left: Option<crate::progress::Left>,
}

#[derive(serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunningPackage<'a> {
    /// `category/name-version`
    package: &'a str,
    phase: &'a str,
    elapsed_secs: u64,
    /// Null if it was never built.
    expected_secs: Option<u64>,
}

impl<'a> EmergeRun<'a> {
    fn of(status: &'a EmergeStatus) -> Self {
        let running = status.running.iter().map(|task| RunningPackage {
            package: &task.cpv,
            phase: &task.phase,
            elapsed_secs: task.elapsed_secs,
            expected_secs: task.expected.map(|expected| expected.secs),
        });
        Self { done: status.done, total: status.total, running: running.collect(), left: status.left }
    }
}

/// Redraws a bar by itself. Its thread is started by a library that panics if it cannot be: then the bar moves only with the work.
pub(super) fn tick(bar: &ProgressBar) {
    if crate::threads::spare("draw with").is_ok() {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
}

fn bar_for_packages(shown: Ticking) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let line = move |_: &ProgressState, to: &mut dyn std::fmt::Write| {
        if let Some(status) = shown.now() {
            // It writes into a string.
            let _ = to.write_str(&emerge_line(&status, columns().saturating_sub(2)));
        }
    };
    bar.set_style(style("  {line}").with_key("line", line));
    tick(&bar);
    bar
}

pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_part_tells_how_far_it_is_now_and_then() {
        let mut part = Part::new("packing", Some(4096), Unit::Bytes);
        assert_eq!(part.advance(1024), None, "it has only begun");
        part.told = Instant::now().checked_sub(PLAIN_INTERVAL).unwrap();
        assert_eq!(part.advance(1024).as_deref(), Some("packing: 2.0 KiB of 4.0 KiB"));
        assert_eq!(part.advance(1024), None, "it has just been told");
    }

    #[test]
    fn what_is_fetched_is_told_with_what_is_built() {
        let mut fetching = Fetching { done: 3, failed: 1, total: 40, bytes_done: 2048, bytes_total: 4096, awaited: Vec::new() };
        let words = |total, fetching: &Fetching| {
            let status = EmergeStatus { total, fetching: Some(fetching.clone()), ..EmergeStatus::default() };
            emerge_words(&status)
        };
        assert_eq!(words(0, &fetching), "fetching: 3 of 40 files, 2.0 KiB of 4.0 KiB");
        fetching.awaited = ["a.tar", "b.tar", "c.tar"].map(str::to_owned).into();
        let waiting = "fetching: 3 of 40 files, 2.0 KiB of 4.0 KiB, waiting for a.tar and 2 more";
        assert_eq!(words(7, &fetching), format!("emerge: 0 of 7 packages done  {waiting}"));
        let status = EmergeStatus { fetching: Some(fetching.clone()), ..EmergeStatus::default() };
        assert!(is_worth_a_line(&mut None, &status), "something is waited for");
        fetching.done = 39;
        assert_eq!(words(7, &fetching), "emerge: 0 of 7 packages done  ");
        let status = EmergeStatus { fetching: Some(fetching), ..EmergeStatus::default() };
        assert!(!is_worth_a_line(&mut None, &status));
    }
}
