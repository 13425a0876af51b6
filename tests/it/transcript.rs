//! What commands say, whole: each message of a command that a test expects to fail, and what commands that look at something print when
//! they succeed. Both are compared with `transcripts/MODULE/TEST.txt`.
//!
//! `INSTA_UPDATE=always` writes that file. What differs from run to run is redacted.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::place::Ran;

thread_local! {
    /// How many messages of this test have been compared.
    static SEEN: Cell<usize> = const { Cell::new(0) };
}

/// Tests whose places are small: there the same is shown in each run.
const SMALL: [&str; 8] = ["artifacts", "clean", "config_check", "history", "refusals", "removal", "signing", "trees"];

/// Commands that look at something.
const LOOKING: [&str; 18] = [
    "clean --dry-run",
    "clean -n",
    "config check",
    "config graph",
    "config ls",
    "diff",
    "keys ls",
    "log",
    "patch ls",
    "profile ls",
    "profile show",
    "session ls",
    "stage ls",
    "stage show",
    "store du",
    "tag ls",
    "tree diff",
    "tree ls",
];

/// Places and ids first, since they have numbers in them.
static REDACTIONS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let cache = regex::escape(crate::host::cache().to_str().unwrap());
    let checkout = regex::escape(env!("CARGO_MANIFEST_DIR"));
    let testbed =
        std::env::var("GENTOOMUCH_TESTBED").map_or_else(|_| format!("{cache}/gentoomuch-testbed"), |dir| regex::escape(&dir));
    [
        (format!(r"{cache}/gentoomuch-it/(place of \d+|\d+-\d+ (a|the shared) place)"), "PLACE"),
        (testbed, "TESTBED"),
        // In names that no other run has.
        (format!(r"(^|[^0-9]){}\b", std::process::id()), "${1}N"),
        // Others may be at work in a shared place, and have made some, or not.
        (r"(?m)^hint: there are(: .*| none)\n".into(), ""),
        (r"(?m)(^  build state .*\n)+".into(), "  build state NAMES\n"),
        (checkout, "CHECKOUT"),
        (r"/tmp/(gm|\.tmp)\w+".into(), "/tmp/NAME"),
        // Of two in one second, the later one has a number. An id may begin with digits, too.
        (r"\b\d{8}T\d{6}Z(-\d+\b)?".into(), "TIME"),
        (r"\bprocess \d+ \(`[^`]*`\)(, process \d+ \(`[^`]*`\))*".into(), "PROCESSES"),
        // Ids of processes begin anew, and may be short.
        (r"/proc/\d+".into(), "/proc/N"),
        (r"\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?)?".into(), "TIME"),
        (r"\b([0-9a-f]{8,}|[0-9A-F]{8,})\b".into(), "ID"),
        (r"\b\d+(\.\d+)? ([KMGT]?i?B|bytes|ms|s|min)\b".into(), "N $2"),
        (r"\b\d{4,}\b".into(), "N"),
    ]
    .map(|(pattern, word)| (Regex::new(&pattern).unwrap(), word))
    .into()
});

/// The command, and what it said from its first error on. `None` if it said none: not all that fails is an error.
fn redacted(ran: &Ran) -> Option<String> {
    let begin = if ran.stderr.starts_with("error: ") { 0 } else { ran.stderr.find("\nerror: ")? + 1 };
    let command = ran.what.lines().next().unwrap_or_default().replace(env!("CARGO_BIN_EXE_gentoomuch"), "gentoomuch");
    Some(without_output(&redact(format!("$ {command}\n{}", &ran.stderr[begin..]))))
}

fn redact(mut text: String) -> String {
    // The place of a test that has chosen it elsewhere.
    if let Some(place) = std::env::var_os("GENTOOMUCH_TEST_PLACE") {
        text = text.replace(place.to_str().unwrap(), "PLACE");
    }
    for (pattern, word) in REDACTIONS.iter() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text
}

/// The command, and what it printed. `None` if it does not look at something, or for programs.
fn looked(ran: &Ran) -> Option<String> {
    let line = ran.what.lines().next()?;
    let args = line.strip_prefix(env!("CARGO_BIN_EXE_gentoomuch"))?.trim_start();
    let looks = |command: &str| args.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    // What fits a size depends on how long ago something was used.
    if !LOOKING.iter().any(|command| looks(command)) || args.contains("--json") || args.contains("--max-size") {
        return None;
    }
    let text = redact(format!("$ gentoomuch {args}\n{}", ran.text()));
    // A table is as wide as its longest cell, which may be one of those that were redacted.
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    Some(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// A message without what is shown of a log or of a program's output, which belongs to Portage, make, the compiler, git or rsync.
fn without_output(text: &str) -> String {
    let is_of_others = text.contains("the whole output is in") || text.contains("` failed with exit status");
    let is_output = |line: &&str| is_of_others && line.starts_with("  ");
    let mut lines: Vec<&str> =
        text.lines().map(str::trim_end).map(|line| if is_output(&line) { "  OUTPUT" } else { line }).collect();
    lines.dedup_by(|one, other| one == other && *one == "  OUTPUT");
    lines.join("\n") + "\n"
}

/// The module and name of the test that runs. A thread that a test has started itself has no name, and no order among others.
fn test() -> Option<(String, String)> {
    let (module, test) =
        std::thread::current().name()?.rsplit_once("::").map(|(module, test)| (module.to_owned(), test.to_owned()))?;
    Some((module, test))
}

/// Holds the error of a command against the one that is kept.
#[track_caller]
pub(crate) fn compare_error(ran: &Ran) {
    let Some(said) = redacted(ran) else { return };
    // clap tells how a command is used; whoever interrupts one knows what to do.
    let has_hint = ["hint: ", "\nUsage: ", "try '--help'", "error: interrupted\n"].iter().any(|words| ran.stderr.contains(words));
    assert!(has_hint, "no hint in {ran}");
    compare(ran, said);
}

/// Holds what a successful command printed against what is kept, if both are of the kinds above.
#[track_caller]
pub(crate) fn compare_output(ran: &Ran) {
    if !ran.own || !test().is_some_and(|(module, _)| SMALL.contains(&&*module)) {
        return;
    }
    if let Some(said) = looked(ran) {
        compare(ran, said);
    }
}

#[track_caller]
fn compare(ran: &Ran, said: String) {
    let Some((module, test)) = test() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/transcripts")
        .join(module.replace("::", "/"))
        .join(format!("{test}.txt"));
    let at = SEEN.replace(SEEN.get() + 1);
    let mut kept = read(&path);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        kept.truncate(at);
        kept.push(said);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, kept.join("\n")).unwrap();
        return;
    }
    let expected = kept.get(at).map_or("", String::as_str);
    assert!(
        said == expected,
        "{}, message {}:\n{expected}\nis now\n{said}\nin\n{ran}\nINSTA_UPDATE=always writes it",
        path.display(),
        at + 1
    );
}

fn read(path: &PathBuf) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let mut messages: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("$ ") {
            messages.push(String::new());
        }
        let message = messages.last_mut().expect("a transcript begins with `$ `");
        message.push_str(line);
        message.push('\n');
    }
    // An empty line is between two.
    let last = messages.len().saturating_sub(1);
    for message in &mut messages[..last] {
        message.pop();
    }
    messages
}
