//! Decides where a change belongs.
//!
//! The fragment that already has a line for the package, the last of several; else the last `portage.local` that only this definition
//! uses; else the last `portage.local`; else `portage.global`. In it the existing line is extended, or the new one follows it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Contradiction, Edit, Error, FragmentFiles, Fragments, Role, WantedLine};
use crate::config::Place;
use crate::portage::atom::{Atom, Operator};
use crate::portage::package_files::{self, Line, LineFile, split_comment};

/// The place of a line, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Placed {
    /// The fragment, relative to the configuration directory.
    pub fragment: PathBuf,
    /// The file, relative to the configuration directory.
    pub file: PathBuf,
    /// The line as it is needed: atom and words.
    pub line: String,
    /// Why it is needed.
    pub because: Vec<String>,
    /// Why this fragment, if that is not obvious.
    pub chosen: Option<String>,
}

/// The files with `wanted` in them. `into` is the fragment to write to, if one was asked for: `portage.locals/NAME`, `NAME`,
/// `portage.global`.
pub(crate) fn propose(fragments: &Fragments, wanted: &[WantedLine], into: Option<&str>) -> Result<(Vec<Edit>, Vec<Placed>), Error> {
    let into = into.map(|name| asked_for(fragments, name)).transpose()?;
    let mut texts: BTreeMap<PathBuf, String> = fragments.all.iter().flat_map(|fragment| fragment.texts.clone()).collect();
    let mut placed = Vec::new();
    let mut used_new = None;
    for line in wanted {
        let (fragment, chosen) = match into {
            Some(fragment) => (fragment, None),
            None => choose(fragments, line),
        };
        let file = file_for(fragment, line, &texts);
        contradiction(fragments, line, fragment, &file)?;
        let text = texts.entry(file.clone()).or_default();
        put(text, line);
        if fragment.role == Role::New {
            used_new = Some(fragment);
        }
        placed.push(Placed { fragment: fragment.dir.clone(), file, line: shown(line), because: line.because.clone(), chosen });
    }
    let before = |path: &Path| fragments.all.iter().find_map(|fragment| fragment.texts.get(path)).cloned();
    let mut edits: Vec<Edit> = texts
        .into_iter()
        .map(|(path, after)| edit(before(&path), path, after))
        .filter(|edit| edit.before.as_ref() != Some(&edit.after))
        .collect();
    if let Some(fragment) = used_new {
        edits.push(listed(fragments, fragment));
    }
    Ok((edits, placed))
}

/// `dev-libs/greet static-libs`
fn shown(line: &WantedLine) -> String {
    let mut text = line.atom.to_string();
    for word in &line.words {
        text.push(' ');
        text.push_str(word);
    }
    text
}

fn asked_for<'a>(fragments: &'a Fragments, name: &str) -> Result<&'a FragmentFiles, Error> {
    let name = name.trim_end_matches('/');
    let local = Path::new("portage.locals").join(name);
    fragments.all.iter().find(|fragment| fragment.dir == Path::new(name) || fragment.dir == local).ok_or_else(|| Error::Foreign {
        fragment: name.to_owned(),
        definition: fragments.definition.clone(),
        known: fragments.all.iter().map(|fragment| fragment.dir.display().to_string()).collect(),
    })
}

/// The definition's list with a further fragment.
fn listed(fragments: &Fragments, fragment: &FragmentFiles) -> Edit {
    let name = fragment.dir.strip_prefix("portage.locals").unwrap_or(&fragment.dir).display().to_string();
    let (path, before) = fragments.list.clone();
    let mut after = before.clone().unwrap_or_default();
    end_line(&mut after);
    after.push_str(&name);
    after.push('\n');
    edit(before, path, after)
}

/// New lines end as all others of the file do.
fn edit(before: Option<String>, path: PathBuf, after: String) -> Edit {
    let breaks = |text: &str| (text.matches("\r\n").count(), text.matches('\n').count());
    let is_of_dos = before.as_deref().map(breaks).is_some_and(|(of_dos, all)| all > 0 && of_dos == all);
    let after = if is_of_dos { after.replace("\r\n", "\n").replace('\n', "\r\n") } else { after };
    Edit { path, before, after }
}

/// Whether the package of `atom` is the one of `wanted`.
fn same_package(atom: &Atom, wanted: &Atom) -> bool {
    (&atom.category, &atom.package) == (&wanted.category, &wanted.package)
}

fn lines_of(file: LineFile, text: &str) -> Vec<Line> {
    package_files::parse(file, text).0
}

/// The files of one kind in a fragment.
fn files_of<'a>(
    fragment: &'a FragmentFiles,
    file: LineFile,
    texts: &'a BTreeMap<PathBuf, String>,
) -> impl DoubleEndedIterator<Item = (&'a PathBuf, &'a String)> {
    let top = fragment.dir.join(file.file_name());
    texts.iter().filter(move |(path, _)| path.starts_with(&top))
}

fn has_line(fragment: &FragmentFiles, line: &WantedLine) -> bool {
    files_of(fragment, line.file, &fragment.texts)
        .any(|(_, text)| lines_of(line.file, text).iter().any(|known| same_package(&known.atom, &line.atom)))
}

fn choose<'a>(fragments: &'a Fragments, line: &WantedLine) -> (&'a FragmentFiles, Option<String>) {
    let all = &fragments.all;
    if let Some(fragment) = all.iter().rev().find(|fragment| has_line(fragment, line)) {
        let shared = match fragment.role {
            Role::Local | Role::New if fragment.shared_with.is_empty() => None,
            Role::Local | Role::New => Some(format!("which {} as well", list_too(&fragment.shared_with))),
            Role::Global => Some("which is for every stage".to_owned()),
            Role::Cpu => Some("which is for every stage with this cpu".to_owned()),
        };
        let chosen = shared.map(|shared| {
            format!(
                "`{}` has a line for `{}` already: the new one goes there, \
                {shared}",
                fragment.dir.display(),
                line.atom.name()
            )
        });
        return (fragment, chosen);
    }
    let locals = || all.iter().rev().filter(|fragment| matches!(fragment.role, Role::Local | Role::New));
    if let Some(own) = locals().find(|fragment| fragment.shared_with.is_empty()) {
        return (own, None);
    }
    let definition = &fragments.definition;
    if let Some(shared) = locals().next() {
        let why = format!(
            "`{definition}` has no fragment of its own: the lines go to `{}`, the last one that it lists, which {} as well",
            shared.dir.display(),
            list_too(&shared.shared_with)
        );
        return (shared, Some(why));
    }
    let global = all.iter().find(|fragment| fragment.role == Role::Global).unwrap_or(&all[0]);
    let why =
        format!("`{definition}` lists no fragment: `{}` changes every stage (`--write NAME` makes one)", global.dir.display());
    (global, Some(why))
}

/// `a`, `b` list
fn list_too(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{} list{}", quoted.join(", "), if names.len() == 1 { "s" } else { "" })
}

/// The file of the fragment for the line.
fn file_for(fragment: &FragmentFiles, line: &WantedLine, texts: &BTreeMap<PathBuf, String>) -> PathBuf {
    let top = fragment.dir.join(line.file.file_name());
    let with_line = files_of(fragment, line.file, texts)
        .rev()
        .find(|(_, text)| lines_of(line.file, text).iter().any(|known| same_package(&known.atom, &line.atom)));
    if let Some((path, _)) = with_line {
        return path.clone();
    }
    if texts.contains_key(&top) {
        return top;
    }
    let is_directory = fragment.directories.contains(&line.file);
    // Where the other kinds are directories, this one becomes a directory as well.
    let by_habit = !fragment.directories.is_empty()
        && fragment.texts.keys().all(|path| path.parent().is_some_and(|parent| parent != fragment.dir));
    if is_directory || by_habit {
        // A file with the fragment's name is for everything; other names stand for a subject.
        let whole = fragment.dir.file_name().map(|name| top.join(name)).filter(|path| texts.contains_key(path));
        return whole.unwrap_or_else(|| top.join(&line.atom.package));
    }
    top
}

/// Puts the line into a file's text: into a line with the same atom, after one for the same package, or at the end.
fn put(text: &mut String, line: &WantedLine) {
    let known = lines_of(line.file, text);
    let same: Vec<&Line> = known.iter().filter(|known| same_package(&known.atom, &line.atom) && !known.negated).collect();
    if let Some(known) = same.iter().rev().find(|known| known.atom == line.atom) {
        let missing: Vec<String> = line.words.iter().filter(|word| !known.words.contains(word)).cloned().collect();
        if !missing.is_empty() {
            extend(text, known.line, &missing, &line.because);
        }
        return;
    }
    let mut new = comments(&line.because, None);
    new.push_str(&shown(line));
    new.push('\n');
    match same.last() {
        Some(known) => insert_after(text, known.line, &new),
        None => {
            end_line(text);
            text.push_str(&new);
        }
    }
}

fn comments(because: &[String], about: Option<&str>) -> String {
    let about = about.map(|words| format!("{words}: ")).unwrap_or_default();
    because.iter().map(|reason| format!("# {about}{reason}\n")).collect::<Vec<_>>().concat()
}

/// Adds the line break at the end, if it is missing.
fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Adds words to line `number`, and a comment above it.
fn extend(text: &mut String, number: u32, words: &[String], because: &[String]) {
    let mut out = String::with_capacity(text.len() + 80);
    for (at, raw) in (1..).zip(text.split_inclusive('\n')) {
        if at != number {
            out.push_str(raw);
            continue;
        }
        out.push_str(&comments(because, Some(&words.join(" "))));
        let content = split_comment(raw).0.trim_end();
        // After `VIDEO_CARDS:` every word would become one of that variable.
        let expanded = content.split_whitespace().find(|word| word.ends_with(':')).and_then(|word| content.find(word));
        let place = expanded.unwrap_or(content.len());
        out.push_str(content[..place].trim_end());
        for word in words {
            out.push(' ');
            out.push_str(word);
        }
        if expanded.is_some() {
            out.push(' ');
        }
        out.push_str(&raw[place..]);
    }
    *text = out;
}

fn insert_after(text: &mut String, number: u32, new: &str) {
    let mut out = String::with_capacity(text.len() + new.len());
    for (at, raw) in (1..).zip(text.split_inclusive('\n')) {
        out.push_str(raw);
        if at == number {
            end_line(&mut out);
            out.push_str(new);
        }
    }
    *text = out;
}

/// A line of any fragment that contradicts the needed one, unless a later line takes it back.
fn contradiction(fragments: &Fragments, wanted: &WantedLine, fragment: &FragmentFiles, file: &Path) -> Result<(), Error> {
    let opposite = |word: &str| match word.strip_prefix('-') {
        Some(name) => name.to_owned(),
        None => format!("-{word}"),
    };
    let mut found: Option<(PathBuf, Line)> = None;
    for fragment in &fragments.all {
        let kind = if wanted.masked_by_configuration { LineFile::Mask } else { wanted.file };
        for (path, text) in files_of(fragment, kind, &fragment.texts) {
            for line in lines_of(kind, text).into_iter().filter(|line| may_mean(&line.atom, &wanted.atom)) {
                let contradicts = if wanted.masked_by_configuration {
                    !line.negated
                } else {
                    (line.words.iter().any(|word| wanted.words.iter().any(|wanted| *word == opposite(wanted))))
                        || (wanted.file == LineFile::Unmask && line.negated)
                };
                let agrees = wanted.words.iter().all(|wanted| line.words.contains(wanted));
                if contradicts {
                    found = Some((path.clone(), line));
                } else if line.overrides && agrees {
                    found = None;
                }
            }
        }
    }
    let Some((path, line)) = found else { return Ok(()) };
    let text = fragments.all.iter().find_map(|fragment| fragment.texts.get(&path)).map(String::as_str).unwrap_or_default();
    let raw = text.lines().nth(line.line.saturating_sub(1) as usize).unwrap_or_default();
    let lines = fragment.texts.get(file).map_or(0, |text| text.lines().count());
    Err(Error::Contradiction(Box::new(Contradiction {
        root: fragments.root.clone(),
        there: Place::new(&path, line.line),
        line: split_comment(raw).0.trim().to_owned(),
        wanted: shown(wanted),
        place: Place::new(file, u32::try_from(lines + 1).unwrap_or(u32::MAX)),
        because: wanted.because.clone(),
        may_override: !wanted.masked_by_configuration,
    })))
}

/// Whether a line of the configuration is about the same packages as `wanted`. A line for all packages is a default, which one for a
/// package may change; a line for another version does not matter.
fn may_mean(atom: &Atom, wanted: &Atom) -> bool {
    let exact = |operator| matches!(operator, Some(Operator::Equal | Operator::AnyRevision));
    let other_version = exact(atom.operator)
        && exact(wanted.operator)
        && atom.version != wanted.version
        && !atom.version.as_deref().is_some_and(|version| version.ends_with('*'));
    let other_slot = matches!((&atom.slot, &wanted.slot), (Some(a), Some(b)) if a != b);
    same_package(atom, wanted) && !other_version && !other_slot
}
