//! How progress looks: bars on a terminal, plain lines elsewhere, JSON lines when asked for.

use std::io;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::{EmergeStatus, Event, Fetching, Observer};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::args::{Global, LogFormat};
use crate::cli::screen;
use crate::cli::screen::{Style, Text};

/// Without a terminal, a line for `emerge` at most this often.
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
    /// Several bars that somebody else draws.
    bars: Option<MultiProgress>,
    begun: Option<(String, Instant, u64)>,
    last_emerge: Option<(Instant, EmergeStatus)>,
}

impl Progress {
    /// A renderer for the given options.
    pub(crate) fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
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
        let (doing, text) = emerge_words(status);
        if self.terminal && !self.json {
            let bar = state.bar.get_or_insert_with(|| bar_for_packages(status.total as u64));
            bar.set_length(status.total as u64);
            bar.set_position(status.done as u64);
            bar.set_message(screen::line(&doing));
            return;
        }
        if is_worth_a_line(&mut state.last_emerge, status) {
            self.say(state, "progress", text.trim_end());
        }
    }
}

impl State {
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

/// What is being worked on and brought, and the whole line.
pub(crate) fn emerge_words(status: &EmergeStatus) -> (String, String) {
    let running: Vec<String> =
        status.running.iter().map(|task| format!("{} {} {}s", task.cpv, task.phase, task.elapsed_secs)).collect();
    let fetching = status.fetching.as_ref().filter(|fetching| fetching.goes_on()).map(fetching_words);
    let doing: Vec<String> = Some(running.join(", ")).filter(|text| !text.is_empty()).into_iter().chain(fetching).collect();
    let doing = doing.join("  ");
    if status.total == 0 && status.running.is_empty() {
        return (doing.clone(), doing);
    }
    let text = format!("emerge: {} of {} packages done  {doing}", status.done, status.total);
    (doing, text)
}

/// `fetching: 3 of 40 files, 1.2 MiB of 30 MiB, waiting for hello-2.10.tar.gz`
fn fetching_words(fetching: &Fetching) -> String {
    let bytes = |bytes| crate::cli::table::human_bytes(bytes);
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
                if let Some(bar) = state.bar.take() {
                    bar.finish_and_clear();
                }
                self.say(&state, "step", text);
            }
            Event::Note(text) => self.say(&state, "note", text),
            Event::Warning(text) => self.say(&state, "warning", text),
            Event::Begin { what, total } => {
                state.begun = Some(((*what).to_owned(), Instant::now(), 0));
                if self.terminal && !self.json {
                    state.bar = Some(bar_for_bytes(what, *total));
                }
            }
            Event::Advance(bytes) => {
                if let Some((_, _, done)) = &mut state.begun {
                    *done += bytes;
                }
                if let Some(bar) = &state.bar {
                    bar.inc(*bytes);
                }
            }
            Event::End => {
                if let Some(bar) = state.bar.take() {
                    bar.finish_and_clear();
                }
                if let Some((what, since, bytes)) = state.begun.take() {
                    let secs = since.elapsed().as_secs_f64();
                    if secs >= 1.0 || self.json {
                        let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
                        let rate = crate::cli::table::human_bytes(bytes.saturating_mul(1000) / millis);
                        self.say(
                            &state,
                            "note",
                            &format!("{what}: {} in {secs:.1} s, {rate}/s", crate::cli::table::human_bytes(bytes)),
                        );
                    }
                }
            }
            Event::Output(line) => self.say(&state, "output", line),
            Event::Emerge(status) => self.emerge(&mut state, status),
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

fn bar_for_bytes(what: &str, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = if total.is_some() {
        "  {prefix:<10} [{wide_bar}] {percent:>3}%  {bytes} of {total_bytes}  {binary_bytes_per_sec}  ETA {eta}"
    } else {
        "  {prefix:<10} {spinner} {bytes}  {binary_bytes_per_sec}"
    };
    bar.set_style(style(template));
    bar.set_prefix(screen::line(what));
    tick(&bar);
    bar
}

/// Redraws a bar by itself. Its thread is started by a library that panics if it cannot be: then the bar moves only with the work.
pub(super) fn tick(bar: &ProgressBar) {
    if crate::threads::spare("draw with").is_ok() {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
}

fn bar_for_packages(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    bar.set_style(style("  emerge     [{bar:12}] {pos} of {len}  {elapsed}  {wide_msg}"));
    tick(&bar);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_told_with_what_is_built() {
        let mut fetching = Fetching { done: 3, failed: 1, total: 40, bytes_done: 2048, bytes_total: 4096, awaited: Vec::new() };
        let words = |total, fetching: &Fetching| {
            let status = EmergeStatus { done: 0, total, running: Vec::new(), fetching: Some(fetching.clone()) };
            emerge_words(&status).1
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
