//! The changes that `--autounmask` proposes.

use super::{Change, ChangeKind, MAX_KEPT, cpv_or_atom};
use crate::portage::atom::{Atom, is_flag};

fn kind(line: &str) -> Option<ChangeKind> {
    let what = line.strip_prefix("The following ")?.strip_suffix(" changes are necessary to proceed:")?;
    match what {
        "keyword" => Some(ChangeKind::Keywords),
        "mask" => Some(ChangeKind::Unmask),
        "USE" => Some(ChangeKind::Use),
        "license" => Some(ChangeKind::License),
        _ => None,
    }
}

/// All proposals, each once.
pub(super) fn read(lines: &[&str]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut open = None;
    let mut about = About::default();
    for line in lines {
        if let Some(kind) = kind(line) {
            open = Some(kind);
            about = About::default();
            continue;
        }
        let Some(kind) = open else { continue };
        if line.is_empty() {
            open = None;
        } else if let Some(who) = line.strip_prefix("# required by ") {
            about.required_by.push(cpv_or_atom(who.trim_end_matches(" (argument)")));
        } else if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            match comment.strip_suffix(':').filter(|path| path.starts_with('/')) {
                Some(path) => about.masked_in = Some(path.to_owned()),
                None => about.comments.push(comment.to_owned()),
            }
        } else if !line.starts_with(' ')
            && let Some(change) = change(kind, line, std::mem::take(&mut about))
            && changes.len() < MAX_KEPT
            && !changes.iter().any(|known| (known.kind, &known.atom, &known.words) == (change.kind, &change.atom, &change.words))
        {
            changes.push(change);
        }
    }
    changes
}

/// The contents of the comments above a line.
#[derive(Default)]
struct About {
    required_by: Vec<String>,
    comments: Vec<String>,
    masked_in: Option<String>,
}

fn change(kind: ChangeKind, line: &str, about: About) -> Option<Change> {
    let About { required_by, comments, masked_in } = about;
    let mut words = line.split_whitespace();
    let atom: Atom = words.next()?.parse().ok()?;
    let words: Vec<String> = words.map(str::to_owned).collect();
    let plausible = !atom.is_wildcard()
        && atom.use_dependencies.is_empty()
        && (words.is_empty() == (kind == ChangeKind::Unmask))
        && words.iter().all(|word| is_word(kind, word));
    plausible.then_some(Change { kind, atom, words, required_by, comments, masked_in })
}

/// Whether a word is allowed in that file. emerge's output is hostile and ends up in the configuration.
fn is_word(kind: ChangeKind, word: &str) -> bool {
    match kind {
        ChangeKind::Unmask => false,
        ChangeKind::Use => is_flag(word.strip_prefix('-').unwrap_or(word)),
        ChangeKind::Keywords => {
            word == "**" || {
                let arch = word.strip_prefix('~').unwrap_or(word);
                arch == "*" || is_name(arch)
            }
        }
        ChangeKind::License => is_name(word),
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "+_.-".contains(c))
}
