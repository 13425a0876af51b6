//! Why a state has to be built: the differences between its inputs and those of the state that has its name.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::build_key::Inputs;
use crate::config::patches::PATCHES_DIR;
use crate::context::Context;
use crate::pipeline::Result;
use crate::portage::untrusted;
use crate::recipe::definition::Stage3;
use crate::recipe::standing::SINCE_BASE;
use crate::store;
use crate::store::State;

/// At most so many differences are told for one input.
const MOST_DETAILS: usize = 12;
/// Longer lines and values are cut.
const LONGEST: usize = 100;
/// The stem of our merged files, each in a directory that has the name of Portage's file.
const MERGED: &str = "50-gentoomuch";
/// How much of a file of a state's `/etc/portage` is compared.
const LIMIT_BYTES: u64 = 1 << 20;

/// One reason why a node has to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// In words: `never built`, `changed: packages`.
    pub words: String,
    /// The input that has changed: `packages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The differences, a line each: `+ app-misc/hello`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
}

impl Reason {
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), input: None, detail: Vec::new() }
    }
}

/// Why the state called `name` is not the one that `inputs` make. `from` are the inputs that are nodes, and whether those are rebuilt;
/// `recipe` is what a definition is made of, or what a stage4 is based on.
pub(crate) fn of_state(
    cx: &Context<'_>,
    name: &str,
    inputs: &Inputs,
    from: &[(&str, &str, bool)],
    recipe: Option<&Stage3>,
) -> Result<Vec<Reason>> {
    let Some(id) = cx.store.ref_get(name)? else { return Ok(vec![Reason::new("never built")]) };
    let before = match cx.store.state(&id) {
        Ok(state) => state,
        Err(store::Error::NoSuchState(_)) => return Ok(vec![Reason::new("its state was removed")]),
        Err(error) => return Err(error.into()),
    };
    let Some(old) = before.origin.inputs() else {
        return Ok(vec![Reason::new("its inputs are not known")]);
    };
    let changed = inputs.changed_since(old);
    if changed.is_empty() {
        return Ok(vec![Reason::new("its state was removed")]);
    }
    Ok(changed.into_iter().map(|input| reason(cx, input, inputs, old, from, recipe, &before)).collect())
}

fn reason(
    cx: &Context<'_>,
    input: String,
    new: &Inputs,
    old: &Inputs,
    from: &[(&str, &str, bool)],
    recipe: Option<&Stage3>,
    before: &State,
) -> Reason {
    let (was, is) = (old.get(&input).unwrap_or_default(), new.get(&input).unwrap_or_default());
    let node = from.iter().find(|(name, ..)| *name == input).filter(|_| !is.is_empty() && !was.is_empty());
    let (words, detail) = match (input.as_str(), node) {
        (_, Some((_, node, true))) => (format!("{node} is built anew"), Vec::new()),
        (_, Some((_, node, false))) => (format!("{node} has another state now"), Vec::new()),
        ("parent", None) => ("the profile has another stage3 now".to_owned(), Vec::new()),
        ("recipe", _) => ("this version of gentoomuch builds it in another way".to_owned(), Vec::new()),
        ("configuration" | SINCE_BASE, _) => {
            ("changed: configuration".to_owned(), recipe.map(|recipe| configuration(cx, before, recipe)).unwrap_or_default())
        }
        _ => (format!("changed: {input}"), difference(was, is)),
    };
    Reason { words, input: Some(input), detail: shortened(detail) }
}

/// How two values differ: lists by element, digests by the name before them, short texts as they are.
fn difference(was: &str, is: &str) -> Vec<String> {
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).ok();
    match (list(was), list(is)) {
        (Some(was), Some(is)) => {
            // `NAME=DIGEST`: the digests themselves tell a reader nothing.
            let name =
                |text: &String| text.split_once('=').filter(|(_, digest)| digest.len() == 64).map(|(name, _)| name.to_owned());
            let (before, after): (BTreeSet<&String>, BTreeSet<&String>) = (was.iter().collect(), is.iter().collect());
            let names: BTreeSet<String> = was.iter().filter_map(name).collect();
            let mut lines: Vec<String> = was
                .iter()
                .filter(|one| !after.contains(one) && !is.iter().any(|other| name(other).is_some() && name(other) == name(one)))
                .map(|one| format!("- {}", name(one).unwrap_or_else(|| one.clone())))
                .collect();
            lines.extend(is.iter().filter(|one| !before.contains(one)).map(|one| match name(one) {
                Some(name) if names.contains(&name) => format!("~ {name}"),
                Some(name) => format!("+ {name}"),
                None => format!("+ {one}"),
            }));
            if lines.is_empty() { vec!["in another order".to_owned()] } else { lines }
        }
        // A single digest or a program is not shown.
        _ if [was, is].iter().any(|text| text.len() > LONGEST || text.len() == 64) => Vec::new(),
        _ if was.is_empty() => vec![format!("+ {is}")],
        _ => vec![format!("{was} -> {is}")],
    }
}

/// Lines that differ between the merged configuration and the one in a state's layers.
fn configuration(cx: &Context<'_>, before: &State, recipe: &Stage3) -> Vec<String> {
    let layers = cx.store.lower_dirs(before);
    // A stage4 has the configuration of its base, unless that changed after the base was built.
    let recorded: BTreeSet<PathBuf> = before.origin.portage_files().unwrap_or_default().iter().cloned().collect();
    let mut lines = Vec::new();
    for path in recorded.union(&recipe.portage.files.keys().cloned().collect()) {
        let was = if recorded.contains(path) { read(&layers, path) } else { Some(Vec::new()) };
        // Files that cannot be read are skipped; the digest has shown that something differs.
        let Some(was) = was else { continue };
        let is = recipe.portage.files.get(path).cloned().unwrap_or_default();
        if path.starts_with(PATCHES_DIR) {
            lines.extend(patch(before, recipe, path, &was, &is));
            continue;
        }
        let (was, is) = (String::from_utf8_lossy(&was), String::from_utf8_lossy(&is));
        // Named as in the user's fragments.
        let is_merged = path.file_stem().is_some_and(|stem| stem == MERGED);
        let name = path.parent().filter(|_| is_merged).unwrap_or(path);
        lines.extend(changed_lines(&was, &is).into_iter().map(|line| format!("{}: {line}", name.display())));
    }
    lines
}

/// A new, removed or changed patch, named by the user's file; the differing lines of a patch are not shown.
fn patch(before: &State, recipe: &Stage3, path: &Path, was: &[u8], is: &[u8]) -> Option<String> {
    let source = recipe.portage.sources(path).first().cloned().or_else(|| {
        let mut records = before.origin.patches().iter();
        records.find(|record| record.inside() == Path::new("/etc/portage").join(path)).map(|record| record.path.clone())
    });
    let source = source.as_deref().unwrap_or(path).display();
    match (was.is_empty(), is.is_empty()) {
        _ if was == is => None,
        (true, _) => Some(format!("+ {source}")),
        (_, true) => Some(format!("- {source}")),
        _ => Some(format!("~ {source}")),
    }
}

/// Lines that only one of two texts has, without comments and blank lines.
fn changed_lines(was: &str, is: &str) -> Vec<String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    };
    let (was, is) = (lines(was), lines(is));
    let gone = was.iter().filter(|line| !is.contains(line)).map(|line| format!("- {line}"));
    gone.chain(is.iter().filter(|line| !was.contains(line)).map(|line| format!("+ {line}"))).collect()
}

/// A file of a state's `/etc/portage`, from its topmost layer; hostile.
fn read(layers: &[PathBuf], path: &Path) -> Option<Vec<u8>> {
    let path = Path::new("etc/portage").join(path);
    layers.iter().find_map(|layer| untrusted::read_in(untrusted::open_root(layer).ok()?.as_fd(), &path, LIMIT_BYTES).ok())
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    for line in &mut lines {
        let safe: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        *line = match safe.char_indices().nth(LONGEST) {
            Some((at, _)) => format!("{}…", &safe[..at]),
            None => safe,
        };
    }
    if lines.len() > MOST_DETAILS {
        let more = lines.len() - (MOST_DETAILS - 1);
        lines.truncate(MOST_DETAILS - 1);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let digest = |c: char| c.to_string().repeat(64);
        let lists = |values: &[&str]| serde_json::json!(values).to_string();
        let cases = [
            (lists(&["a/b", "c/d"]), lists(&["c/d", "e/f"]), vec!["- a/b", "+ e/f"]),
            (lists(&["a", "b"]), lists(&["b", "a"]), vec!["in another order"]),
            (
                lists(&[&format!("gentoo={}", digest('1')), &format!("gone={}", digest('1'))]),
                lists(&[&format!("gentoo={}", digest('2')), &format!("new={}", digest('3'))]),
                vec!["- gone", "~ gentoo", "+ new"],
            ),
            ("gentoo:default/a".to_owned(), "gentoo:default/b".to_owned(), vec!["gentoo:default/a -> gentoo:default/b"]),
            (digest('a'), digest('b'), vec![]),
            ("#!/bin/sh\n".repeat(20), "#!/bin/sh\n".repeat(21), vec![]),
            (String::new(), "new".to_owned(), vec!["+ new"]),
        ];
        for (was, is, expected) in cases {
            assert_eq!(difference(&was, &is), expected, "{was} {is}");
        }
    }

    #[test]
    fn lines_of_a_configuration() {
        let was = "# comment\nUSE=\"a b\"\n\napp-misc/hello nls\n";
        let is = "# another\nUSE=\"a b\"\napp-misc/hello -nls\n";
        assert_eq!(changed_lines(was, is), ["- app-misc/hello nls", "+ app-misc/hello -nls"]);
        let many: Vec<String> = (0..20).map(|n| format!("line {n}")).collect();
        assert_eq!(shortened(many[..MOST_DETAILS].to_vec()), many[..MOST_DETAILS]);
        let short = shortened(many);
        assert_eq!((short.len(), short[11].as_str()), (12, "and 9 more"));
        assert_eq!(shortened(vec!["\u{1b}[31m".repeat(40)])[0].chars().count(), LONGEST + 1);
    }
}
