//! What ebuilds say to the user: `elog`, `ewarn`, `eerror`, as Portage's elog module `save` writes it; with unread news, and configuration
//! files that wait for a decision.
//!
//! ```text
//! LOG: setup            a class and a phase; then what was said, line by line
//! The service starts …
//! WARN: postinst
//! …
//! ```
//!
//! An ebuild is root in its session, so the files may be hostile. What is kept is bounded, and has nothing in it that a terminal obeys.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::terminal_text::sanitize;

/// The field of an origin.
pub(crate) const FIELD: &str = "messages";
/// So much of a package's file is read.
pub(crate) const FILE_LIMIT_BYTES: u64 = 256 * 1024;
/// Of one package so many lines are kept. No ebuild of Gentoo's tree says as much.
const MOST_LINES: usize = 200;
/// Of all packages together. Beyond it packages are kept with nothing but the word that there is more.
const MOST_LINES_IN_ALL: usize = 5_000;
/// Of all packages together, bytes.
const MOST_BYTES_IN_ALL: usize = 512 << 10;
/// No build merges more.
pub(crate) const MOST_PACKAGES: usize = 20_000;
/// A longer name is nobody's.
const MOST_NAME_CHARS: usize = 200;

/// How urgent something is, as `PORTAGE_ELOG_CLASSES` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// `elog`
    Log,
    /// `ewarn`
    Warn,
    /// `eerror`
    Error,
}

impl Class {
    /// The function by which an ebuild says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "elog",
            Self::Warn => "ewarn",
            Self::Error => "eerror",
        }
    }
}

/// Lines that a phase of an ebuild has said one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Message {
    pub class: Class,
    /// The phase: `setup`, `postinst`.
    pub phase: String,
    pub lines: Vec<String>,
}

/// What one package has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Said {
    /// `category/name-version`
    pub package: String,
    pub messages: Vec<Message>,
    /// It has said more, which is in the log only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A news item that Portage counts as unread and relevant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewsItem {
    pub repository: String,
    /// `2026-01-31-profile-upgrade`
    pub name: String,
    pub title: String,
}

/// What a build has to tell its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Messages {
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Said>,
    /// The newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub news: Vec<NewsItem>,
    /// `._cfg0000_NAME` files, for `dispatch-conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_config: Vec<String>,
}

impl Messages {
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.news.is_empty() && self.pending_config.is_empty()
    }

    /// As JSON; null if there is nothing.
    pub fn json(&self) -> serde_json::Value {
        if self.is_empty() { serde_json::Value::Null } else { serde_json::json!(self) }
    }

    /// Adds what packages have said. Who was merged again said it anew. Bounds what is kept.
    pub(crate) fn add(&mut self, said: Vec<Said>) {
        let mut all: BTreeMap<String, Said> =
            std::mem::take(&mut self.packages).into_iter().chain(said).map(|said| (said.package.clone(), said)).collect();
        let (mut lines, mut bytes) = (MOST_LINES_IN_ALL, MOST_BYTES_IN_ALL);
        for said in all.values_mut() {
            let of = said.messages.iter().flat_map(|message| &message.lines);
            let (count, size) = of.fold((0, 0), |(count, size), line| (count + 1, size + line.len()));
            match (lines.checked_sub(count), bytes.checked_sub(size)) {
                (Some(left), Some(room)) => (lines, bytes) = (left, room),
                _ => {
                    said.messages.clear();
                    said.more = true;
                }
            }
        }
        self.packages = all.into_values().take(MOST_PACKAGES).collect();
    }
}

/// The package of a file of the module `save`, by its path below `elog`: `CATEGORY:PF:TIME.log`, or `CATEGORY/PF:TIME.log` with
/// `FEATURES=split-elog`.
pub(crate) fn package_of(file: &Path) -> Option<String> {
    let stem = file.to_str()?.strip_suffix(".log")?;
    let (package, _time) = stem.rsplit_once(':')?;
    let (category, pf) = package.split_once([':', '/'])?;
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-')) && part != ".."
    };
    (plain(category) && plain(pf) && package.len() <= MOST_NAME_CHARS).then(|| format!("{category}/{pf}"))
}

/// Reads such a file; `cut`: it goes on beyond `bytes`. Classes for authors of ebuilds (`QA`) are left out. `None`: nothing was said.
pub(crate) fn parse(package: String, bytes: &[u8], cut: bool) -> Option<Said> {
    let text = sanitize(bytes);
    let mut said = Said { package, messages: Vec::new(), more: cut };
    let mut wanted = false;
    let mut count = 0;
    for line in text.lines() {
        if let Some((class, phase)) = heading(line) {
            wanted = class.is_some();
            said.messages.extend(class.map(|class| Message { class, phase: phase.to_owned(), lines: Vec::new() }));
        } else if let Some(message) = said.messages.last_mut().filter(|_| wanted) {
            if count == MOST_LINES {
                said.more = true;
                break;
            }
            // Empty lines set things off; none is needed in front.
            if !(line.trim().is_empty() && message.lines.is_empty()) {
                message.lines.push(line.trim_end().to_owned());
                count += 1;
            }
        }
    }
    for message in &mut said.messages {
        let end = message.lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        message.lines.truncate(end);
    }
    said.messages.retain(|message| !message.lines.is_empty());
    (said.more || !said.messages.is_empty()).then_some(said)
}

/// `WARN: postinst`: a class, if it is for users, and a phase.
fn heading(line: &str) -> Option<(Option<Class>, &str)> {
    let (class, phase) = line.split_once(": ")?;
    let class = match class {
        "LOG" => Some(Class::Log),
        "WARN" => Some(Class::Warn),
        "ERROR" => Some(Class::Error),
        "INFO" | "QA" => None,
        _ => return None,
    };
    (!phase.is_empty() && phase.len() <= 16 && phase.bytes().all(|byte| byte.is_ascii_lowercase())).then_some((class, phase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(said: &Said) -> Vec<(Class, &str, Vec<&str>)> {
        said.messages.iter().map(|of| (of.class, of.phase.as_str(), of.lines.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn files_name_their_packages() {
        for (file, package) in [
            ("app-misc:hello-2.10-r1:20261129-141855.log", Some("app-misc/hello-2.10-r1")),
            ("app-misc/hello-2.10:20261129-141855.log", Some("app-misc/hello-2.10")),
            ("summary.log", None),
            ("app-misc:hello-2.10:20261129-141855", None),
            ("app\u{1b}misc:hello-2.10:20261129-141855.log", None),
            ("..:hello:1.log", None),
            (":hello:1.log", None),
            ("a/b/c:1.log", None),
        ] {
            assert_eq!(package_of(Path::new(file)).as_deref(), package, "{file}");
        }
        assert_eq!(package_of(Path::new(&format!("a:{}:1.log", "x".repeat(300)))), None);
    }

    #[test]
    fn what_was_said_is_grouped_by_class_and_phase() {
        let text = "LOG: setup\none\n\ntwo  \nQA: install\nfor authors\nWARN: postinst\n\nthree: four\nLOG: not a phase\n\nERROR: postinst\n";
        let said = parse("a/b-1".to_owned(), text.as_bytes(), false).unwrap();
        assert_eq!(
            lines(&said),
            [(Class::Log, "setup", vec!["one", "", "two"]), (Class::Warn, "postinst", vec!["three: four", "LOG: not a phase"])]
        );
        assert!(!said.more);
        for nothing in ["", "QA: install\nfor authors\n", "LOG: setup\n\n\n", "words before any heading\n"] {
            assert_eq!(parse("a/b-1".to_owned(), nothing.as_bytes(), false), None, "{nothing:?}");
        }
    }

    #[test]
    fn hostile_words_are_safe_and_bounded() {
        let mut text = b"LOG: postinst\n\x1b]0;title\x07a\x1b[2J\x1b[31mb\xff\x9b\n".to_vec();
        text.extend(vec![b'x'; 100_000]);
        for _ in 0..MOST_LINES * 10 {
            text.extend(b"\nmore");
        }
        let said = parse("a/b-1".to_owned(), &text, false).unwrap();
        let lines = &said.messages[0].lines;
        assert_eq!((lines.len(), said.more), (MOST_LINES, true));
        assert_eq!(lines[0], "ab\u{fffd}\u{fffd}");
        assert_eq!(lines[1].chars().count(), crate::terminal_text::MAX_LINE_CHARS);
        // Nothing but what was cut off.
        assert!(parse("a/b-1".to_owned(), b"QA: install\n", true).unwrap().more);
    }

    #[test]
    fn all_of_it_together_is_bounded_and_the_last_time_counts() {
        let said = |package: &str, lines: usize| {
            let message = Message { class: Class::Log, phase: "setup".to_owned(), lines: vec!["x".to_owned(); lines] };
            Said { package: package.to_owned(), messages: vec![message], more: false }
        };
        let mut messages = Messages::default();
        messages.add(vec![said("b/b-1", 1), said("a/a-1", 2)]);
        messages.add(vec![said("b/b-1", 3)]);
        let counts = |messages: &Messages| -> Vec<(String, usize)> {
            let count = |said: &Said| said.messages.iter().map(|message| message.lines.len()).sum();
            messages.packages.iter().map(|said| (said.package.clone(), count(said))).collect()
        };
        assert_eq!(counts(&messages), [("a/a-1".to_owned(), 2), ("b/b-1".to_owned(), 3)]);
        messages.add((0..MOST_PACKAGES + 10).map(|number| said(&format!("c/c-{number}"), 100)).collect());
        assert_eq!(messages.packages.len(), MOST_PACKAGES);
        let kept: usize = counts(&messages).iter().map(|(_, count)| count).sum();
        assert!(kept <= MOST_LINES_IN_ALL && messages.packages.last().unwrap().more, "{kept}");
    }
}
