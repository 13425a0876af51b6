//! Turns Portage's answers into messages at the lines that raised the questions.

use crate::config::{ConfigDir, Diagnostic, Severity};
use crate::query::names::{Named, Problem, Unknown};
use crate::recipe::consult::questions::Questions;

/// The messages for all answers, at each line that raised the question.
pub(crate) fn findings(config: &ConfigDir, questions: &Questions, answers: &[Option<Unknown>]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for ((question, places), answer) in questions.with_places().zip(answers) {
        let Some(answer) = answer else { continue };
        let (message, hint) = words(question, answer);
        // Without its packages a stage cannot be built. Any other name only has no effect.
        let wanted = matches!(question, Named::Target { .. } | Named::Set { .. });
        let severity = if wanted { Severity::Error } else { Severity::Warning };
        findings.extend(places.iter().map(|place| Diagnostic {
            file: config.root().join(&place.file),
            line: place.line,
            severity,
            message: message.clone(),
            hint: hint.clone(),
        }));
    }
    findings
}

fn words(question: &Named, answer: &Unknown) -> (String, Option<String>) {
    let (subject, effect) = match question {
        Named::Atom { atom, .. } => (atom.as_str(), ": the line has no effect"),
        Named::Target { atom } | Named::Flag { atom, .. } => (atom.as_str(), ""),
        Named::GlobalFlag { flag, .. } => (flag.as_str(), ""),
        Named::Set { name } | Named::Licence { name } | Named::Keyword { name } | Named::Feature { name } => (name.as_str(), ""),
        Named::Value { value, .. } => (value.as_str(), ""),
    };
    let meant = || (!answer.near.is_empty()).then(|| format!("did you mean {}?", quoted(&answer.near, " or ")));
    let there = |what: &str| {
        let are = if answer.details.len() == 1 { "is" } else { "are" };
        (!answer.details.is_empty()).then(|| format!("{what} {are} {}", quoted(&answer.details, ", ")))
    };
    match answer.problem {
        Problem::NoRepository => {
            let repository = subject.split_once("::").map_or(subject, |(_, rest)| rest.split('[').next().unwrap_or(rest));
            let hint = meant().or_else(|| there("there"));
            (format!("there is no ebuild repository `{repository}`{effect}"), hint)
        }
        Problem::NoPackage if subject.contains('*') => (format!("no package matches `{subject}`{effect}"), meant()),
        Problem::NoPackage => {
            let hint = meant().or_else(|| Some("no ebuild tree in the store has this name".to_owned()));
            (format!("there is no package `{subject}`{effect}"), hint)
        }
        Problem::NoVersion => (format!("no version matches `{subject}`{effect}"), there("there")),
        Problem::Masked => masked(subject, &answer.details),
        Problem::NoFlag => {
            let flag = if let Named::Flag { flag, .. } = question { flag.as_str() } else { "" };
            if subject.contains('*') {
                return (format!("`{subject}` matches no package that has a flag `{flag}`"), meant());
            }
            let none = || Some("it has no flags".to_owned());
            (format!("`{subject}` has no flag `{flag}`"), meant().or_else(|| there("there")).or_else(none))
        }
        Problem::MaskedFlag | Problem::ForcedFlag => beaten(question, answer.problem == Problem::MaskedFlag),
        Problem::UnknownFlag => (format!("no package has a flag `{subject}`"), meant()),
        Problem::UnknownValue => {
            let variable = if let Named::Value { variable, .. } = question { variable } else { "USE_EXPAND" };
            (format!("`{variable}` has no value `{subject}`"), meant())
        }
        Problem::NoLicence if subject.starts_with('@') => (format!("there is no licence group `{subject}`"), meant()),
        Problem::NoLicence => (format!("there is no licence `{subject}`"), meant()),
        Problem::NoKeyword => (format!("`{subject}` is not the keyword of an architecture"), meant()),
        Problem::NoFeature => (format!("Portage knows no feature `{subject}`"), meant()),
        Problem::NoSet => {
            let near: Vec<String> = answer.near.iter().map(|name| format!("@{name}")).collect();
            let meant = (!near.is_empty()).then(|| format!("did you mean {}?", quoted(&near, " or ")));
            (format!("there is no set `@{subject}`, neither in `package.sets` nor in Portage"), meant)
        }
        Problem::Refused => (format!("Portage does not accept `{subject}`"), there("its reason")),
    }
}

/// The Portage profile does not let the user switch this flag.
fn beaten(question: &Named, is_masked: bool) -> (String, Option<String>) {
    let (verb, file) = if is_masked { ("masks", "use.mask") } else { ("forces", "use.force") };
    let (subject, line, prefix) = match question {
        Named::Flag { atom, flag, .. } if atom != "*/*" => (format!("`{flag}` of `{atom}`"), format!("{atom} -{flag}"), "package."),
        Named::GlobalFlag { flag, .. } | Named::Flag { flag, .. } => (format!("`{flag}`"), format!("-{flag}"), ""),
        Named::Value { variable, value, .. } => {
            (format!("`{value}` of `{variable}`"), format!("-{}_{value}", variable.to_lowercase()), "")
        }
        _ => ("it".to_owned(), String::new(), ""),
    };
    let hint = format!("to undo that, write `{line}` into `profile/{prefix}{file}`");
    (format!("the Portage profile {verb} {subject}: this word has no effect"), Some(hint))
}

/// `details` is the best version, then Portage's reasons.
fn masked(atom: &str, details: &[String]) -> (String, Option<String>) {
    let (version, reasons) = details.split_first().map_or((atom, &[] as &[String]), |(version, reasons)| (version, reasons));
    let hint = reasons.iter().find_map(|reason| {
        if let Some(keyword) = reason.strip_suffix(" keyword") {
            let keyword = if keyword == "missing" { "**" } else { keyword };
            Some(format!("accept it in `package.accept_keywords`: `{atom} {keyword}`"))
        } else if let Some(licences) = reason.strip_suffix(" license(s)") {
            Some(format!("accept it in `package.license`: `{atom} {licences}`"))
        } else {
            (reason == "package.mask").then(|| format!("unmask it in `package.unmask`: `{atom}`"))
        }
    });
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    (format!("`{atom}` is masked; the best version is `{version}`{reasons}"), hint)
}

fn quoted(words: &[String], between: &str) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(between)
}
