//! What was asked for is what is there: after each run of emerge, what is installed is held against the request.
//!
//! ```text
//! atoms and sets     each is satisfied by a package of Portage's database, or by `package.provided`
//! world              has them, unless the request is of one that is not recorded; those of @system never are
//! what was decided   each package that emerge had listed beforehand is there, with these USE flags and from this tree
//! ```
//!
//! emerge ends with 0 for many reasons. The script asks Portage in the session; packages have run there, so what it says is hostile: it can
//! hide that something is missing from this build, and nothing more.

use std::fmt;

use serde::Deserialize;

use crate::context::Context;
use crate::portage::emerge::request::{Goal, Part, Request};
use crate::session::root::HOOKS_DIR;
use crate::session::supply::Foreseen;
use crate::session::work::write_public;
use crate::session::{Error, Result, Work, run};
use crate::terminal_text::sanitize_line;

const SCRIPT: &str = include_str!("fulfilled.py");
const SCRIPT_NAME: &str = "fulfilled.py";
const REQUEST_NAME: &str = "fulfilled.json";
const ANSWER: &str = "@gentoomuch ";
const DONE: &str = "@gentoomuch-done";
const OUTPUT_LIMIT_BYTES: u64 = 8 << 20;
/// Longer words than the script sends.
const MAX_WORD_CHARS: usize = 300;

/// What is otherwise than it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Problem {
    NotInstalled,
    NotInWorld,
    NotMerged,
    Flags,
    Repository,
    Unreadable,
}

/// An atom or a package that is not there as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmet {
    problem: Problem,
    target: String,
    #[serde(default)]
    details: Vec<String>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, target, details } = self;
        let detail = |at: usize| details.get(at).map_or("?", String::as_str);
        match problem {
            Problem::NotInstalled => write!(f, "no installed package satisfies `{target}`"),
            Problem::NotInWorld => write!(f, "`{target}` is installed, and not recorded in world"),
            Problem::NotMerged => write!(f, "`{target}` was to be merged, and is not installed"),
            Problem::Flags => write!(f, "`{target}` is installed with other USE flags than decided: {}", details.join(" ")),
            Problem::Repository => write!(f, "`{target}` is installed from `{}`, not from `{}`", detail(0), detail(1)),
            Problem::Unreadable => write!(f, "Portage cannot look for `{target}`: {}", detail(0)),
        }
    }
}

/// Output that is not what the script prints.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A line that is no answer.
    #[error("line {line} of its output is no answer")]
    Line {
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The last line is missing.
    #[error("its output is incomplete, or too long")]
    Unfinished,
}

/// Reads the script's output.
fn parse(text: &str) -> std::result::Result<Vec<Unmet>, AnswerError> {
    let mut all: Vec<Unmet> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line == DONE {
            return Ok(all);
        }
        let Some(json) = line.strip_prefix(ANSWER) else { continue };
        let mut unmet: Unmet = serde_json::from_str(json).map_err(|source| AnswerError::Line { line: index + 1, source })?;
        // JSON can hide control characters from whoever looked at the text.
        for word in unmet.details.iter_mut().chain([&mut unmet.target]) {
            *word = sanitize_line(word.as_bytes(), MAX_WORD_CHARS);
        }
        all.push(unmet);
    }
    Err(AnswerError::Unfinished)
}

/// What the script is asked: atoms and sets, and whether emerge records them.
fn asked(request: &Request) -> (Vec<String>, bool) {
    match (&request.goal, request.part) {
        (Goal::RebuildWorld, _) => (vec!["@world".to_owned()], false),
        (Goal::Packages { atoms, oneshot, .. }, Part::All | Part::Packages) => (atoms.clone(), !oneshot),
        (Goal::Packages { .. }, Part::BuildDependencies) | (Goal::Resume | Goal::Depclean, _) => (Vec::new(), false),
    }
}

/// Fails unless what `request` asked for, and emerge had decided, is installed. `what` is a word for the request.
pub(crate) fn fulfilled(cx: &Context<'_>, work: &Work<'_>, what: &str, request: &Request, foreseen: &Foreseen) -> Result<()> {
    let (targets, world) = asked(request);
    let package = |merge: &crate::portage::emerge::resolution::Merge| serde_json::json!({ "cpv": merge.cpv, "repository": merge.repository, "on": merge.flags, "off": merge.off });
    let decided: Vec<serde_json::Value> = foreseen.list.iter().map(package).collect();
    if targets.is_empty() && decided.is_empty() {
        return Ok(());
    }
    let hooks = &work.root.hooks;
    let json = serde_json::json!({ "targets": targets, "world": world, "decided": decided });
    write_public(&hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o644)?;
    write_public(&hooks.join(REQUEST_NAME), json.to_string().as_bytes(), 0o644)?;
    let argv = ["python3", "-B", &format!("{HOOKS_DIR}/{SCRIPT_NAME}"), &format!("{HOOKS_DIR}/{REQUEST_NAME}")];
    let text = run::output_of(cx, work, argv.map(str::to_owned).into(), OUTPUT_LIMIT_BYTES)?;
    let unmet = parse(&text).map_err(|source| Error::Unchecked { what: what.to_owned(), source })?;
    if unmet.is_empty() {
        return Ok(());
    }
    Err(Error::Unmet { what: what.to_owned(), unmet, log: work.log_dir.join("emerge.log") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::emerge::request::{Existing, Mode};

    #[test]
    fn answers_are_said_in_words() {
        let line = |problem: &str, details: &str| {
            format!("@gentoomuch {{\"problem\": \"{problem}\", \"target\": \"a/b\", \"details\": {details}}}\n")
        };
        let text = ["not-installed", "not-in-world", "not-merged"].map(|problem| line(problem, "[]")).concat()
            + &line("flags", "[\"x\", \"-y\"]")
            + &line("repository", "[\"one\", \"two\"]")
            + &line("unreadable", "[\"why\\u001b[2J\"]")
            + " * something of Portage's\n@gentoomuch-done\n";
        let said: Vec<String> = parse(&text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "no installed package satisfies `a/b`",
                "`a/b` is installed, and not recorded in world",
                "`a/b` was to be merged, and is not installed",
                "`a/b` is installed with other USE flags than decided: x -y",
                "`a/b` is installed from `one`, not from `two`",
                "Portage cannot look for `a/b`: why",
            ]
        );
    }

    #[test]
    fn output_that_is_cut_off_or_forged_is_no_answer() {
        assert!(matches!(parse(""), Err(AnswerError::Unfinished)));
        assert!(matches!(parse("x\n@gentoomuch {\"problem\": 1}\n"), Err(AnswerError::Line { line: 2, .. })));
    }

    #[test]
    fn what_is_looked_for_is_what_was_asked() {
        let packages = |oneshot| Goal::Packages { atoms: vec!["a/b".to_owned()], existing: Existing::Update, oneshot };
        let of = |goal, part| asked(&Request { part, ..Request::new(goal, Mode::Run) });
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(Goal::RebuildWorld, Part::All), (list(&["@world"]), false));
        assert_eq!(of(packages(false), Part::All), (list(&["a/b"]), true));
        assert_eq!(of(packages(true), Part::Packages), (list(&["a/b"]), false));
        assert_eq!(of(packages(false), Part::BuildDependencies), (list(&[]), false));
        assert_eq!(of(Goal::Depclean, Part::All), (list(&[]), false));
    }
}
