//! What Portage says about the packages of an experiment, asked in a session of its own: hostile lines, parsed strictly.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::portage::atom::{Atom, is_flag};
use crate::portage::emerge::resolution::required_use::{Expression, FlagState};
use crate::session::visible::NotVisible;
use crate::try_it::Error;
use crate::try_it::combinations::Subject;

/// The script that asks, and its name beside the hooks.
pub(crate) const SCRIPT: &str = include_str!("try.py");
pub(crate) const SCRIPT_NAME: &str = "try.py";
/// What it reads.
pub(crate) const REQUEST_NAME: &str = "try.json";
/// More than it prints for hundreds of packages.
pub(crate) const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;

const ANSWER: &str = "@gentoomuch ";
const DONE: &str = "@gentoomuch-done ";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    cpv: Option<String>,
    flags: Vec<String>,
    on: Vec<String>,
    masked: Vec<String>,
    forced: Vec<String>,
    required_use: String,
    versions: Vec<String>,
    reasons: Vec<String>,
    near: Vec<String>,
}

/// Reads what the script says about `atoms`, of which the first `tried` are the packages that are tried.
pub(crate) fn parse(text: &str, atoms: &[String], tried: usize) -> Result<Vec<Subject>, Error> {
    let mut subjects = Vec::new();
    let mut lines = text.lines();
    for (at, atom) in atoms.iter().enumerate() {
        let json = lines.by_ref().find_map(|line| line.strip_prefix(ANSWER)).ok_or(Error::Answer(None))?;
        let answer: Answer = serde_json::from_str(json).map_err(|source| Error::Answer(Some(source)))?;
        subjects.push(subject(answer, atom, at < tried)?);
    }
    let complete = lines.any(|line| line.strip_prefix(DONE).is_some_and(|count| count.trim() == atoms.len().to_string()));
    if complete { Ok(subjects) } else { Err(Error::Answer(None)) }
}

fn subject(answer: Answer, atom: &str, is_tried: bool) -> Result<Subject, Error> {
    let Some(cpv) = answer.cpv else {
        return Err(NotVisible::told(atom, answer.versions, answer.reasons, answer.near).into());
    };
    let parsed: Atom = format!("={cpv}").parse().map_err(|_| Error::Answer(None))?;
    let fixed: BTreeSet<&String> = answer.masked.iter().chain(&answer.forced).collect();
    let flags = answer.flags.iter().filter(|flag| is_flag(flag)).map(|flag| {
        let state = FlagState { on: answer.on.contains(flag), fixed: fixed.contains(flag) };
        (flag.clone(), state)
    });
    let required = Expression::parse(&answer.required_use)
        .inspect_err(|error| tracing::debug!(cpv, %error, "REQUIRED_USE is left to emerge"))
        .ok();
    Ok(Subject {
        name: parsed.name(),
        flags: flags.collect(),
        masked: answer.masked.iter().cloned().collect(),
        required,
        is_tried,
        cpv,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, &["a/b".to_owned()], 1).unwrap_err().to_string()
    }

    #[test]
    fn answers_become_subjects() {
        let text = r#"!!! a warning of Portage's
@gentoomuch {"cpv": "a/b-1.0", "flags": ["x", "y", "bad flag"], "on": ["x"], "masked": ["y"], "forced": [], "required_use": "|| ( x y )"}
@gentoomuch {"cpv": "l/c-2", "flags": [], "on": [], "masked": [], "forced": [], "required_use": "( broken"}
@gentoomuch-done 2
"#;
        let subjects = parse(text, &["a/b".to_owned(), "l/c".to_owned()], 1).unwrap();
        assert_eq!((subjects[0].name.as_str(), subjects[0].is_tried, subjects[1].is_tried), ("a/b", true, false));
        let x = FlagState { on: true, fixed: false };
        let y = FlagState { on: false, fixed: true };
        assert_eq!(subjects[0].flags, [("x".to_owned(), x), ("y".to_owned(), y)].into());
        assert!(subjects[0].required.is_some() && subjects[1].required.is_none());
    }

    #[test]
    fn what_there_is_not_is_told_apart() {
        assert_eq!(error("@gentoomuch {\"near\": [\"a/c\\u001b[1m\"]}\n@gentoomuch-done 1\n"), "there is no package `a/b`");
        let masked = "@gentoomuch {\"versions\": [\"a/b-1\"], \"reasons\": [\"~amd64 keyword\"]}\n@gentoomuch-done 1\n";
        assert_eq!(error(masked), "no version of `a/b` may be installed: a/b-1 is masked (~amd64 keyword)");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let words = "what Portage said about the packages is not understood";
        for text in [
            "",
            "@gentoomuch {}",
            "@gentoomuch {\"cpv\": \"a/b-1\", \"evil\": 1}\n@gentoomuch-done 1\n",
            "@gentoomuch {\"cpv\": \"../../etc\"}\n@gentoomuch-done 1\n",
            "@gentoomuch {\"cpv\": \"a/b-1\"}\n",
            "@gentoomuch {\"cpv\": \"a/b-1\"}\n@gentoomuch-done 2\n",
        ] {
            let said = error(text);
            assert!(said == words || (text == "@gentoomuch {}" && said == "there is no package `a/b`"), "{text}: {said}");
        }
    }
}
