//! How far something is and how long it will still take, in one line that fits the terminal.
//!
//! ```text
//! 100 columns   [====        ] 12/40 dev-qt/qtbase-6.10 compile 3:10 of ~12 min · ~41 min left  fetching 3/9
//!  40 columns   12/40 dev-qt/qtbase · ~41 min left
//! ```
//!
//! What is dropped first is said last in [`candidates`]. The package's name is what stays.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::screen;
use crate::progress::{EmergeStatus, EmergeTask, Expected, Fetching, Left};

/// The columns of a terminal that does not know.
const COLUMNS: usize = 80;
/// Columns of a bar of packages, and from which width on there is one.
const BAR: usize = 12;
const BAR_FROM: usize = 96;
/// A node's line that is shorter than this has the room of its name, too.
const LEAST_ROOM: usize = 44;

/// The columns of the terminal that progress is drawn on, but for the last one: some terminals wrap at it.
pub(crate) fn columns() -> usize {
    screen::err_width().unwrap_or(COLUMNS).saturating_sub(1).max(1)
}

/// A time that passes: `0:12`, `3:10`, `1:02:03`.
pub(crate) fn clock(secs: u64) -> String {
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

/// An estimated time, no more exact than it is: `8 s`, `40 s`, `12 min`, `3 h 20 min`.
pub(crate) fn about(secs: u64) -> String {
    let to = |unit: u64| (secs + unit / 2) / unit * unit;
    match secs {
        0..10 => format!("{} s", secs.max(1)),
        10..58 => format!("{} s", to(5)),
        58..3570 => format!("{} min", to(60) / 60),
        3570..36_000 => match to(600) {
            whole if whole % 3600 == 0 => format!("{} h", whole / 3600),
            rest => format!("{} h {} min", rest / 3600, rest % 3600 / 60),
        },
        _ => format!("{} h", to(3600) / 3600),
    }
}

fn mark(guess: bool) -> &'static str {
    if guess { "?" } else { "" }
}

/// `~12 min`, with a question mark if that is from another machine.
pub(crate) fn expected_words(expected: Expected) -> String {
    format!("~{}{}", about(expected.secs), mark(expected.guess))
}

/// `~12 min`, `over 12 min` if part of it was never built; nothing where nothing can be said.
pub(crate) fn amount_words(left: &Left) -> Option<String> {
    match (left.secs, left.unknown) {
        (0, 1..) => None,
        (secs, 0) => Some(format!("~{}{}", about(secs), mark(left.guess))),
        (secs, _) => Some(format!("over {}{}", about(secs), mark(left.guess))),
    }
}

/// `~41 min left`
pub(crate) fn left_words(left: &Left) -> Option<String> {
    Some(format!("{} left", amount_words(left)?))
}

/// How much of a line there is room for.
#[derive(Debug, Clone, Copy)]
struct Detail {
    name: Name,
    others: Others,
    phase: bool,
    time: Time,
    left: bool,
    count: bool,
    fetching: Fetched,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// `dev-qt/qtbase-6.10`
    Versioned,
    /// `dev-qt/qtbase`
    Package,
    /// `qtbase`
    Short,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// `3:10 of ~12 min`
    Expected,
    /// `3:10`
    Elapsed,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    All,
    Number,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetched {
    Words,
    Number,
    None,
}

/// The richest first.
fn candidates() -> [Detail; 11] {
    let all = Detail {
        name: Name::Versioned,
        others: Others::All,
        phase: true,
        time: Time::Expected,
        left: true,
        count: true,
        fetching: Fetched::Words,
    };
    let numbers = Detail { fetching: Fetched::Number, ..all };
    let first = Detail { others: Others::Number, ..numbers };
    let plain = Detail { phase: false, ..first };
    let alone = Detail { others: Others::None, fetching: Fetched::None, ..plain };
    let short_time = Detail { time: Time::Elapsed, ..alone };
    let no_time = Detail { time: Time::None, ..short_time };
    let unversioned = Detail { name: Name::Package, ..no_time };
    let counted = Detail { left: false, ..unversioned };
    let named = Detail { count: false, ..counted };
    [all, numbers, first, plain, alone, short_time, no_time, unversioned, counted, named, Detail { name: Name::Short, ..named }]
}

/// Where a run of emerge stands, in at most `width` columns.
pub(crate) fn emerge_line(status: &EmergeStatus, width: usize) -> String {
    let bar = bar(status).filter(|_| width >= BAR_FROM).unwrap_or_default();
    let room = width.saturating_sub(bar.chars().count());
    let fits = candidates().into_iter().map(|detail| text(status, detail)).find(|text| text.chars().count() <= room);
    let text = fits.unwrap_or_else(|| {
        // Even the name is longer.
        let [.., last] = candidates();
        cut(&text(status, last), room)
    });
    format!("{bar}{text}")
}

fn bar(status: &EmergeStatus) -> Option<String> {
    let done = (status.done.min(status.total) * BAR).checked_div(status.total)?;
    Some(format!("[{:<BAR$}] ", "=".repeat(done)))
}

fn text(status: &EmergeStatus, detail: Detail) -> String {
    let mut words = Vec::new();
    if detail.count && status.total > 0 {
        words.push(format!("{}/{}", status.done, status.total));
    }
    let others = status.running.len().saturating_sub(1);
    let shown = if detail.others == Others::All { status.running.len() } else { 1 };
    let tasks: Vec<String> = longest_first(&status.running).take(shown).map(|task| task_words(task, detail)).collect();
    words.extend((!tasks.is_empty()).then(|| tasks.join(", ")));
    words.extend((detail.others == Others::Number && others > 0).then(|| format!("+{others}")));
    if let Some(left) = status.left.as_ref().filter(|_| detail.left).and_then(left_words) {
        words.push(format!("· {left}"));
    }
    let fetching = status.fetching.as_ref().filter(|fetching| fetching.goes_on());
    let fetching = fetching.and_then(|fetching| match detail.fetching {
        Fetched::Words => Some(format!(" {}", super::progress::fetching_words(fetching))),
        // Else there would be nothing to read.
        Fetched::Number => Some(fetched(fetching)),
        Fetched::None => status.running.is_empty().then(|| fetched(fetching)),
    });
    words.extend(fetching);
    words.join(" ")
}

fn fetched(fetching: &Fetching) -> String {
    format!("fetching {}/{}", fetching.done, fetching.total)
}

/// The one that the others wait for is likely the one that takes longest.
fn longest_first(running: &[EmergeTask]) -> impl Iterator<Item = &EmergeTask> {
    let mut tasks: Vec<&EmergeTask> = running.iter().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.elapsed_secs));
    tasks.into_iter()
}

fn task_words(task: &EmergeTask, detail: Detail) -> String {
    let package = crate::portage::cpv::Cpv::name_of(&task.cpv);
    let mut words = screen::line(match detail.name {
        Name::Versioned => &task.cpv,
        Name::Package => package,
        Name::Short => package.split_once('/').map_or(package, |(_, name)| name),
    });
    if detail.phase && !task.phase.is_empty() {
        words.push_str(&format!(" {}", screen::line(&task.phase)));
    }
    if detail.time != Time::None {
        words.push_str(&format!(" {}", clock(task.elapsed_secs)));
    }
    if let Some(expected) = task.expected.filter(|_| detail.time == Time::Expected) {
        words.push_str(&format!(" of {}", expected_words(expected)));
    }
    words
}

/// At most `width` columns of it.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A status that goes on by itself between two events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticking(Arc<Mutex<Option<(EmergeStatus, Instant)>>>);

impl Ticking {
    pub(crate) fn set(&self, status: Option<EmergeStatus>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status.map(|status| (status, Instant::now()));
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Option<EmergeStatus> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|(status, at)| later(status, at.elapsed()))
    }
}

fn later(status: &EmergeStatus, since: Duration) -> EmergeStatus {
    let secs = since.as_secs();
    let running = status.running.iter().map(|task| EmergeTask { elapsed_secs: task.elapsed_secs + secs, ..task.clone() });
    let left = status.left.map(|left| Left { secs: left.secs.saturating_sub(secs), ..left });
    EmergeStatus { running: running.collect(), left, ..status.clone() }
}

/// The line of a node that is being built: its name in a column, how long it has been going on, and what it does. Where that leaves no
/// room for a package, the package has the whole line.
pub(crate) fn node_line(id: &str, column: usize, elapsed: u64, doing: &str, emerge: Option<&EmergeStatus>, width: usize) -> String {
    let begin = format!("  {:<column$}  {:>5}  ", screen::line(id), clock(elapsed));
    let room = width.saturating_sub(begin.chars().count());
    match emerge {
        Some(status) if room < LEAST_ROOM => format!("  {}", emerge_line(status, width.saturating_sub(2))),
        Some(status) => format!("{begin}{}", emerge_line(status, room)),
        None => cut(format!("{begin}{}", screen::line(doing)).trim_end(), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> EmergeStatus {
        let task = |cpv: &str, elapsed_secs, secs| EmergeTask {
            cpv: cpv.to_owned(),
            phase: "compile".to_owned(),
            elapsed_secs,
            expected: Some(Expected { secs, guess: false }),
        };
        EmergeStatus {
            done: 12,
            total: 40,
            running: vec![task("app-misc/hello-2.10", 5, 9), task("dev-qt/qtbase-6.10", 190, 720)],
            fetching: Some(Fetching { done: 3, total: 9, bytes_total: 1024, ..Fetching::default() }),
            left: Some(Left { secs: 2460, unknown: 0, guess: false }),
        }
    }

    #[test]
    fn the_name_of_the_package_is_what_stays() {
        let status = status();
        let mut told: Vec<(usize, String)> = Vec::new();
        for width in 1..=160 {
            let line = emerge_line(&status, width);
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(width < 6 || line.contains("qtbase"), "{width}: {line}");
            if told.last().is_none_or(|(_, last)| *last != line) {
                told.push((width, line));
            }
        }
        let told: Vec<String> = told.into_iter().map(|(width, line)| format!("{width:>3}  {line}")).collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_line_of_a_node_has_its_name_where_there_is_room() {
        let status = EmergeStatus { fetching: None, ..status() };
        let line = |emerge, width| node_line("stage4/web", 12, 65, "checking web", emerge, width);
        assert_eq!(line(Some(&status), 40), "  12/40 dev-qt/qtbase · ~41 min left");
        assert_eq!(line(Some(&status), 79), "  stage4/web     1:05  12/40 dev-qt/qtbase-6.10 3:10 of ~12 min · ~41 min left");
        assert_eq!(line(None, 79), "  stage4/web     1:05  checking web");
        assert_eq!(line(None, 20), "  stage4/web     1:…");
    }

    #[test]
    fn times_are_as_exact_as_they_are_known() {
        for (secs, want) in [
            (0, "1 s"),
            (7, "7 s"),
            (12, "10 s"),
            (57, "55 s"),
            (58, "1 min"),
            (89, "1 min"),
            (720, "12 min"),
            (3569, "59 min"),
            (3570, "1 h"),
            (12_100, "3 h 20 min"),
            (35_999, "10 h"),
            (90_000, "25 h"),
        ] {
            assert_eq!(about(secs), want, "{secs}");
        }
        assert_eq!([clock(0), clock(190), clock(3723)], ["0:00", "3:10", "1:02:03"]);
        let words = |secs, unknown, guess| left_words(&Left { secs, unknown, guess });
        assert_eq!(words(720, 0, false).unwrap(), "~12 min left");
        assert_eq!(words(720, 0, true).unwrap(), "~12 min? left");
        assert_eq!(words(720, 3, false).unwrap(), "over 12 min left");
        assert_eq!(words(0, 3, false), None);
    }

    #[test]
    fn a_hostile_name_moves_nothing() {
        let mut status = status();
        status.running[1].cpv = "a/\u{1b}[2Jb-1".to_owned();
        assert!(emerge_line(&status, 100).contains("a/\\u{1b}[2Jb-1"), "{}", emerge_line(&status, 100));
        status.done = usize::MAX / 100;
        assert!(emerge_line(&status, 100).starts_with("[============] "));
    }

    #[test]
    fn time_passes_between_two_events() {
        let status = later(&status(), Duration::from_secs(61));
        assert_eq!((status.running[1].elapsed_secs, status.left.unwrap().secs), (251, 2399));
        assert_eq!(later(&status, Duration::from_secs(9999)).left.unwrap().secs, 0);
        assert_eq!(Ticking::default().now(), None);
    }
}
