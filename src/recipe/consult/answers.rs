//! What Portage answers: hostile lines, parsed strictly, and turned into words at the lines that raised the questions.

use serde::Deserialize;

use crate::config::{ConfigDir, Diagnostic, Severity};
use crate::recipe::consult::questions::{Question, Questions};
use crate::terminal_text::sanitize_line;

/// Before an answer; other lines are what Portage says besides.
const ANSWER: &str = "@gentoomuch ";
/// Before the number of questions, in the last line.
const DONE: &str = "@gentoomuch-done ";
/// Longer words than the script sends.
const MAX_WORD_CHARS: usize = 100;

/// What is wrong with the thing asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Problem {
    NoRepository,
    NoPackage,
    NoVersion,
    Masked,
    NoFlag,
    MaskedFlag,
    ForcedFlag,
    UnknownFlag,
    UnknownValue,
    NoLicence,
    NoKeyword,
    NoFeature,
    NoSet,
    Refused,
}

/// An answer to the question of that number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    question: usize,
    problem: Problem,
    /// Names that could have been meant.
    #[serde(default)]
    near: Vec<String>,
    /// What there is instead, or why.
    #[serde(default)]
    details: Vec<String>,
}

/// Output that is not what the script prints.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// A line that is no answer.
    #[error("line {line} of its output is no answer")]
    Line {
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer to what was not asked.
    #[error("line {line} of its output answers question {question}, and there are {count}")]
    Question {
        /// From 1.
        line: usize,
        /// Its number.
        question: usize,
        /// How many there are.
        count: usize,
    },
    /// The last line is missing, or there are more answers than questions.
    #[error("its output is incomplete, or too long")]
    Unfinished,
}

/// Reads the script's output: answers to `count` questions.
pub(crate) fn parse(text: &str, count: usize) -> Result<Vec<Answer>, AnswerError> {
    let mut answers: Vec<Answer> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.strip_prefix(DONE).is_some_and(|number| number.trim() == count.to_string()) {
            return Ok(answers);
        }
        let Some(json) = line.strip_prefix(ANSWER) else { continue };
        let line = index + 1;
        let mut answer: Answer = serde_json::from_str(json).map_err(|source| AnswerError::Line { line, source })?;
        if answer.question >= count {
            return Err(AnswerError::Question { line, question: answer.question, count });
        }
        if answers.len() >= count {
            return Err(AnswerError::Unfinished);
        }
        for word in answer.near.iter_mut().chain(&mut answer.details) {
            // JSON can hide control characters from whoever looked at the text.
            *word = sanitize_line(word.as_bytes(), MAX_WORD_CHARS);
        }
        answers.push(answer);
    }
    Err(AnswerError::Unfinished)
}

/// What there is to say about the answers, at each line that raised the question.
pub(crate) fn findings(config: &ConfigDir, questions: &Questions, answers: &[Answer]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let questions = questions.numbered();
    for answer in answers {
        let Some(&(question, places)) = questions.get(answer.question) else { continue };
        let (message, hint) = words(question, answer);
        // A stage cannot be built without its packages; anything else is without effect.
        let wanted = matches!(question, Question::Target { .. } | Question::Set { .. });
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

fn words(question: &Question, answer: &Answer) -> (String, Option<String>) {
    let (subject, effect) = match question {
        Question::Atom { atom, .. } => (atom.as_str(), ": the line has no effect"),
        Question::Target { atom } | Question::Flag { atom, .. } => (atom.as_str(), ""),
        Question::GlobalFlag { flag, .. } => (flag.as_str(), ""),
        Question::Set { name } | Question::Licence { name } | Question::Keyword { name } | Question::Feature { name } => {
            (name.as_str(), "")
        }
        Question::Value { value, .. } => (value.as_str(), ""),
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
            let hint = meant().or_else(|| Some("no ebuild tree of the store has one of this name".to_owned()));
            (format!("there is no package `{subject}`{effect}"), hint)
        }
        Problem::NoVersion => (format!("no version matches `{subject}`{effect}"), there("there")),
        Problem::Masked => masked(subject, &answer.details),
        Problem::NoFlag => {
            let flag = if let Question::Flag { flag, .. } = question { flag.as_str() } else { "" };
            if subject.contains('*') {
                return (format!("no package that `{subject}` matches has a flag `{flag}`"), meant());
            }
            let none = || Some("it has no flags at all".to_owned());
            (format!("`{subject}` has no flag `{flag}`"), meant().or_else(|| there("there")).or_else(none))
        }
        Problem::MaskedFlag | Problem::ForcedFlag => beaten(question, answer.problem == Problem::MaskedFlag),
        Problem::UnknownFlag => (format!("no package has a flag `{subject}`"), meant()),
        Problem::UnknownValue => {
            let variable = if let Question::Value { variable, .. } = question { variable } else { "USE_EXPAND" };
            (format!("`{variable}` has no value `{subject}`"), meant())
        }
        Problem::NoLicence if subject.starts_with('@') => (format!("there is no group of licences `{subject}`"), meant()),
        Problem::NoLicence => (format!("there is no licence `{subject}`"), meant()),
        Problem::NoKeyword => (format!("`{subject}` is no keyword of an architecture"), meant()),
        Problem::NoFeature => (format!("Portage knows no feature `{subject}`"), meant()),
        Problem::NoSet => {
            let near: Vec<String> = answer.near.iter().map(|name| format!("@{name}")).collect();
            let meant = (!near.is_empty()).then(|| format!("did you mean {}?", quoted(&near, " or ")));
            (format!("there is no set `@{subject}`, neither in `package.sets` nor in Portage"), meant)
        }
        Problem::Refused => (format!("Portage does not take `{subject}`"), there("its reason")),
    }
}

/// A flag that the Portage profile does not let be switched.
fn beaten(question: &Question, is_masked: bool) -> (String, Option<String>) {
    let (verb, file) = if is_masked { ("masks", "use.mask") } else { ("forces", "use.force") };
    let (subject, line, prefix) = match question {
        Question::Flag { atom, flag, .. } if atom != "*/*" => {
            (format!("`{flag}` of `{atom}`"), format!("{atom} -{flag}"), "package.")
        }
        Question::GlobalFlag { flag, .. } | Question::Flag { flag, .. } => (format!("`{flag}`"), format!("-{flag}"), ""),
        Question::Value { variable, value, .. } => {
            (format!("`{value}` of `{variable}`"), format!("-{}_{value}", variable.to_lowercase()), "")
        }
        _ => ("it".to_owned(), String::new(), ""),
    };
    let hint = format!("`profile/{prefix}{file}` takes that back: `{line}`");
    (format!("the Portage profile {verb} {subject}: the word has no effect"), Some(hint))
}

/// `details`: the best version, then the reasons that Portage gives.
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
    (format!("`{atom}` is masked, the best version is `{version}`{reasons}"), hint)
}

fn quoted(words: &[String], between: &str) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(between)
}
