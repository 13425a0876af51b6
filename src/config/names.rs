//! Names of definitions, fragments, sets and scripts: what they may look like, where they are, and which spelling was meant.

use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Located, Place};
use super::reading;

/// Why a word is no name.
fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.chars().any(char::is_control) {
        Some("has a control character")
    } else if name.starts_with('/') {
        Some("is an absolute path")
    } else if name.split('/').any(|part| part == "..") {
        Some("leads out of its folder with `..`")
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        Some("has an empty or hidden component")
    } else {
        None
    }
}

/// Whether `name` can be the name of something in a folder of the configuration directory.
pub(crate) fn is_name(name: &str) -> bool {
    fault(name).is_none()
}

/// What a name of a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A directory with files of its own in it, not only further directories.
    Directory,
    /// A regular file.
    File,
}

/// Everything of one shape below `folder`, nested names with `/`, sorted. `README.md` and hidden files do not count.
pub(crate) fn list(root: &Path, folder: &str, shape: Shape) -> Vec<String> {
    let mut names = Vec::new();
    collect(&root.join(folder), "", shape, &mut names);
    names.sort();
    names
}

fn collect(dir: &Path, prefix: &str, shape: Shape, names: &mut Vec<String>) {
    // A folder that is missing or unreadable holds no names; whoever needs one of them says where it looked.
    let Ok(entries) = reading::entries(dir) else { return };
    let mut has_files = false;
    for entry in entries {
        let name = if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
        if entry.is_dir {
            collect(&dir.join(&entry.name), &name, shape, names);
        } else {
            has_files = true;
            if shape == Shape::File {
                names.push(name);
            }
        }
    }
    if shape == Shape::Directory && has_files && !prefix.is_empty() {
        names.push(prefix.to_owned());
    }
}

/// Finds `name` in `folder`, or says what is there instead. `what` is the kind of thing, as in "cpu definition".
pub(crate) fn find(findings: &mut Findings<'_>, folder: &str, shape: Shape, what: &str, name: &Located<String>) -> Option<PathBuf> {
    find_at(findings, folder, shape, what, &name.value, &name.place())
}

/// As [`find`], for a name that was asked for at `place`.
pub(crate) fn find_at(
    findings: &mut Findings<'_>,
    folder: &str,
    shape: Shape,
    what: &str,
    name: &str,
    place: &Place,
) -> Option<PathBuf> {
    if let Some(fault) = fault(name) {
        findings.error(place, format!("the name of a {what} {fault}: `{}`", name.escape_debug()));
        return None;
    }
    let path = Path::new(folder).join(name);
    let full = findings.root().join(&path);
    let there = match shape {
        Shape::Directory => full.is_dir(),
        Shape::File => full.is_file(),
    };
    if there {
        return Some(path);
    }
    let known = list(findings.root(), folder, shape);
    findings.error_with_hint(place, format!("there is no {what} `{name}`"), alternatives(folder, name, &known));
    None
}

/// "did you mean …", or what there is.
pub(crate) fn alternatives(folder: &str, name: &str, known: &[String]) -> String {
    let looked = format!("looked for `{folder}/{name}`");
    if known.is_empty() {
        return format!("{looked}; nothing is there yet");
    }
    let nearest = nearest(name, known.iter().map(String::as_str));
    let all: Vec<String> = known.iter().take(12).map(|name| format!("`{name}`")).collect();
    let more = if known.len() > 12 { format!(" and {} more", known.len() - 12) } else { String::new() };
    match nearest {
        Some(near) => format!("did you mean `{near}`? {looked}; there are {}{more}", all.join(", ")),
        None => format!("{looked}; there are {}{more}", all.join(", ")),
    }
}

/// The candidate that differs least, if it differs little enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || candidate.ends_with(&format!("/{name}")))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, with a swap of neighbours as one step.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for (name, ok) in [
            ("hello", true),
            ("gentoomuch/builder", true),
            ("x86-64-v3", true),
            ("", false),
            ("/etc", false),
            ("a/../b", false),
            ("..", false),
            ("a//b", false),
            (".git", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_name(name), ok, "{name:?}");
        }
    }

    #[test]
    fn finds_the_spelling_that_was_meant() {
        let known = ["generic-amd64", "x86-64-v3", "gentoomuch/builder"];
        for (name, expected) in [
            ("generic-amd46", Some("generic-amd64")),
            ("x86-64-v4", Some("x86-64-v3")),
            ("builder", Some("gentoomuch/builder")),
            ("nothing", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
