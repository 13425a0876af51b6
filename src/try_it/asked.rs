//! What Portage says about the packages of an experiment.

use std::collections::BTreeSet;

use crate::portage::atom::is_flag;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::resolution::required_use::{Expression, FlagState};
use crate::query::versions::{Flags, Found, NotVisible, Taken};
use crate::try_it::combinations::Subject;

/// Portage's answers about `atoms`, of which the first `tried` are tried.
pub(crate) fn subjects(taken: Vec<Taken>, atoms: &[String], tried: usize) -> Result<Vec<Subject>, NotVisible> {
    let subjects = taken.into_iter().zip(atoms).enumerate();
    subjects.map(|(at, (taken, atom))| Ok(subject(taken.found(atom)?, at < tried))).collect()
}

fn subject(Found { cpv, flags, .. }: Found, is_tried: bool) -> Subject {
    let Flags { all, on, masked, forced, required_use } = flags.unwrap_or_default();
    let fixed: BTreeSet<&String> = masked.iter().chain(&forced).collect();
    let flags = all.iter().filter(|flag| is_flag(flag)).map(|flag| {
        let state = FlagState { on: on.contains(flag), fixed: fixed.contains(flag) };
        (flag.clone(), state)
    });
    let required =
        Expression::parse(&required_use).inspect_err(|error| tracing::debug!(cpv, %error, "REQUIRED_USE is left to emerge")).ok();
    Subject {
        name: Cpv::name_of(&cpv).to_owned(),
        flags: flags.collect(),
        masked: masked.into_iter().collect(),
        required,
        is_tried,
        cpv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answers: &[&str]) -> Vec<Taken> {
        answers.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    #[test]
    fn answers_become_subjects() {
        let place = r#""repository": "r", "slot": "0", "ebuild": "/x""#;
        let taken = read(&[
            &format!(
                r#"{{"found": {{"cpv": "a/b-1.0", {place}, "flags": {{"all": ["x", "y", "bad flag"], "on": ["x"], "masked": ["y"], "forced": [], "required_use": "|| ( x y )"}}}}}}"#
            ),
            &format!(
                r#"{{"found": {{"cpv": "l/c-2", {place}, "flags": {{"all": [], "on": [], "masked": [], "forced": [], "required_use": "( broken"}}}}}}"#
            ),
        ]);
        let subjects = subjects(taken, &["a/b".to_owned(), "l/c".to_owned()], 1).unwrap();
        assert_eq!((subjects[0].name.as_str(), subjects[0].is_tried, subjects[1].is_tried), ("a/b", true, false));
        let x = FlagState { on: true, fixed: false };
        let y = FlagState { on: false, fixed: true };
        assert_eq!(subjects[0].flags, [("x".to_owned(), x), ("y".to_owned(), y)].into());
        assert!(subjects[0].required.is_some() && subjects[1].required.is_none());
    }

    #[test]
    fn what_there_is_not_is_told_apart() {
        let said = |json: &str| subjects(read(&[json]), &["a/b".to_owned()], 1).unwrap_err().to_string();
        assert_eq!(said(r#"{"missing": {"near": ["a/c"]}}"#), "there is no package `a/b`");
        let masked = r#"{"missing": {"versions": ["a/b-1"], "reasons": ["~amd64 keyword"]}}"#;
        assert_eq!(said(masked), "no version of `a/b` can be installed: a/b-1 is masked (~amd64 keyword)");
    }
}
