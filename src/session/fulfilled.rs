//! After each run of emerge: is everything installed that was asked for?
//!
//! ```text
//! atoms and sets     each is satisfied by a package of Portage's database, or by `package.provided`
//! world              has them, unless the request is of one that is not recorded; those of @system never are
//! what was decided   each package that emerge had listed beforehand is there, with these USE flags and from this tree
//! ```
//!
//! emerge ends with 0 for many reasons. We ask Portage in the session. Packages have run there, so its answer may be hostile: it can hide
//! that something is missing from this build, but nothing else. News of the trees and configuration files that wait for a decision come with
//! the answer: a question of their own would start Portage once more.

use std::fmt;

use crate::context::Context;
use crate::portage::emerge::request::{Goal, Part, Request};
use crate::portage::emerge::resolution::Merge;
use crate::portage::messages::NewsItem;
use crate::query::fulfilled::{Decided, Fulfilled, Item, Problem, Told, Unmet};
use crate::session::ask::ask;
use crate::session::foreseen::Foreseen;
use crate::session::{Error, Result, Work, messages};

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, target, details } = self;
        let detail = |at: usize| details.get(at).map_or("?", String::as_str);
        match problem {
            Problem::NotInstalled => write!(f, "no installed package satisfies `{target}`"),
            Problem::NotInWorld => write!(f, "`{target}` is installed, but not recorded in world"),
            Problem::NotMerged => write!(f, "`{target}` should have been merged, but is not installed"),
            Problem::Flags => write!(f, "`{target}` is installed with other USE flags than decided: {}", details.join(" ")),
            Problem::Repository => write!(f, "`{target}` is installed from `{}`, not from `{}`", detail(0), detail(1)),
            Problem::Unreadable => write!(f, "Portage cannot look for `{target}`: {}", detail(0)),
        }
    }
}

/// The atoms and sets of a request, and whether emerge records them in world.
fn asked(request: &Request) -> (Vec<String>, bool) {
    match (&request.goal, request.part) {
        (Goal::RebuildWorld, _) => (vec!["@world".to_owned()], false),
        (Goal::Packages { atoms, oneshot, .. }, Part::All | Part::Packages) => (atoms.clone(), !oneshot),
        (Goal::Packages { .. }, Part::BuildDependencies) | (Goal::Resume | Goal::Depclean, _) => (Vec::new(), false),
    }
}

/// Fails if something that `request` asked for or emerge had decided is not installed. `what` is a word for the request.
pub(crate) fn fulfilled(cx: &Context<'_>, work: &Work<'_>, what: &str, request: &Request, foreseen: &Foreseen) -> Result<()> {
    let (targets, world) = asked(request);
    let decided = foreseen.list.iter().map(|Merge { cpv, repository, flags: on, off, .. }| {
        let repository = repository.as_deref();
        Decided { cpv, repository, on, off }
    });
    let decided: Vec<Decided<'_>> = decided.collect();
    if targets.is_empty() && decided.is_empty() {
        return Ok(());
    }
    let told = ask(cx, work, [Fulfilled { targets, world, decided }]).map_err(|error| match error {
        Error::NoAnswer(source) => Error::Unchecked { what: what.to_owned(), source },
        error => error,
    })?;
    let Told { unmet, news, pending_config } = told.into_iter().next().unwrap_or_default();
    messages::note(cx, work, |messages| {
        messages.news = news.into_iter().map(|Item { repository, name, title }| NewsItem { repository, name, title }).collect();
        messages.pending_config = pending_config;
    });
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
        let words = |problem, details: &[&str]| {
            let details = details.iter().map(|word| (*word).to_owned()).collect();
            Unmet { problem, target: "a/b".to_owned(), details }.to_string()
        };
        assert_eq!(
            [
                words(Problem::NotInstalled, &[]),
                words(Problem::NotInWorld, &[]),
                words(Problem::NotMerged, &[]),
                words(Problem::Flags, &["x", "-y"]),
                words(Problem::Repository, &["one", "two"]),
                words(Problem::Unreadable, &["why"]),
            ],
            [
                "no installed package satisfies `a/b`",
                "`a/b` is installed, but not recorded in world",
                "`a/b` should have been merged, but is not installed",
                "`a/b` is installed with other USE flags than decided: x -y",
                "`a/b` is installed from `one`, not from `two`",
                "Portage cannot look for `a/b`: why",
            ]
        );
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
