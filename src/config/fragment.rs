//! A fragment of a Portage directory: a folder shaped like `/etc/portage`, read but not yet merged.
//!
//! ```text
//! portage.locals/desktop/
//!   make.conf             file or directory; variables, evaluated as Portage would
//!   package.use/          file or directory; lines with atoms (also package.mask and their relatives)
//!   env/, bashrc, sets/…  anything else: copied byte for byte
//! ```
//!
//! Within a fragment, variables mean what Portage would make of the fragment alone: an assignment sees the earlier ones. A reference to a
//! variable that the fragment does not set afterwards stays a reference, so that `CFLAGS="${COMMON_FLAGS}"` follows when a later fragment
//! extends `COMMON_FLAGS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Findings, Place};
use super::history::{Said, Touch, written};
use super::switches::Word;
use super::{mentions, names, reading, secrets};
use crate::config::history::Part;
use crate::portage::binrepos::Unreachable;
use crate::portage::make_conf::{Assignment, Piece, Statement};
use crate::portage::package_files::{Line, LineFile};
use crate::portage::use_flags::Switch;
use crate::portage::{binrepos, make_conf, package_files};

/// Size limit of a variable: only references that multiply its text can exceed it.
const VALUE_LIMIT_BYTES: usize = 1 << 20;
/// Files that source each other deeper than this form a circle.
const SOURCE_DEPTH_LIMIT: usize = 16;

/// What a fragment makes of one variable.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Vec<Part>,
    /// The last assignment.
    pub(crate) place: Place,
    pub(crate) overrides: bool,
    /// Earlier assignments in the fragment that the last one does not contain, as written.
    pub(crate) replaced: Vec<(Place, Box<str>)>,
}

/// A line of a `package.*` file about one atom, prepared for merging: fragments are read in parallel, so most of the work is done here.
#[derive(Debug, Clone)]
pub(crate) struct AtomLine {
    pub(crate) atom: String,
    /// `-atom` in `package.mask` and `package.unmask`.
    pub(crate) negated: bool,
    pub(crate) overrides: bool,
    pub(crate) place: Place,
    pub(crate) words: Vec<Word>,
    /// As a statement for the history; the fragment's number is not known yet.
    pub(crate) touches: Vec<Touch>,
}

impl AtomLine {
    fn new(kind: LineFile, line: &Line, file: &Arc<Path>) -> Self {
        let place = Place::of(file, line.line);
        let word = |word: &String| {
            // A `-` has no meaning before names of files in `env/`.
            let switch = if kind == LineFile::Env { Switch::On(word.clone()) } else { Switch::parse(word) };
            Word { switch, place: place.clone(), overrides: line.overrides }
        };
        let words: Vec<Word> = line.words.iter().map(word).collect();
        let mut touches: Vec<Touch> = words.iter().map(|word| word.touch(0)).collect();
        if touches.is_empty() {
            let said = if line.negated { Said::TakenBack } else { Said::Listed };
            touches.push(Touch { fragment: 0, place: place.clone(), said, overrides: line.overrides });
        }
        Self { atom: line.atom.to_string(), negated: line.negated, overrides: line.overrides, place, words, touches }
    }
}

/// A file that is copied unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) executable: bool,
    /// Where it lies in the configuration directory.
    pub(crate) source: PathBuf,
    /// Where later fragments have an identical file.
    pub(crate) same: Vec<PathBuf>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fragment {
    /// Where it lies, relative to the configuration directory.
    pub(crate) dir: PathBuf,
    /// In order of first assignment.
    pub(crate) variables: Vec<Variable>,
    pub(crate) lines: BTreeMap<LineFile, Vec<AtomLine>>,
    /// By path below `/etc/portage`.
    pub(crate) copied: BTreeMap<PathBuf, Copied>,
}

impl Fragment {
    /// Reads the folder `dir`, relative to the configuration directory.
    pub(crate) fn read(findings: &mut Findings<'_>, dir: &Path) -> Self {
        tracing::debug!(fragment = %dir.display(), "reading");
        let mut fragment = Self { dir: dir.to_owned(), ..Self::default() };
        for entry in reading::entries_of(findings, dir) {
            let path = dir.join(&entry.name);
            if entry.name == "make.conf" {
                fragment.variables = read_make_conf(findings, &path);
            } else if let Some(kind) = LineFile::named(&entry.name) {
                fragment.lines.insert(kind, read_lines(findings, kind, &path));
            } else if entry.name == "make.profile" {
                findings.error_with_hint(
                    &Place::whole(&path),
                    "a fragment cannot select the Portage profile",
                    "write its name into `portage.profile` of the stage3 definition",
                );
            } else if entry.is_dir
                && !names::PORTAGE_NAMES.contains(&entry.name.as_str())
                && mentions::is_nested_fragment(findings, dir, &entry.name)
            {
                tracing::debug!(fragment = %path.display(), "is another one");
            } else {
                fragment.copy(findings, dir, &path);
            }
        }
        fragment
    }

    fn copy(&mut self, findings: &mut Findings<'_>, dir: &Path, path: &Path) {
        for source in reading::files_below(findings, path) {
            if let (Some((bytes, executable)), Ok(target)) = (reading::bytes(findings, &source), source.strip_prefix(dir)) {
                if target.starts_with("binrepos.conf") {
                    check_hosts(findings, &source, &bytes);
                }
                secrets::check(findings, &source, target, &bytes);
                self.copied.insert(target.to_owned(), Copied { bytes, executable, source, same: Vec::new() });
            }
        }
    }
}

/// A package of a binary host is only installed if it has a signature that is trusted. So settings that switch that off are refused.
fn check_hosts(findings: &mut Findings<'_>, file: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (line, uri, why) in binrepos::unreachable(&text) {
        let (words, hint) = match why {
            Unreachable::Protocol => (
                "a binary package host has an `http` or `https` address, or is a directory of this machine",
                "write a directory of this machine as `file:///DIR`; on another machine, any web server can serve it",
            ),
            Unreachable::Reference => ("`%(…)s` is not supported here", "write the address in full; a `%` is written `%%`"),
        };
        findings.error_with_hint(&Place::new(file, line), format!("`{uri}` cannot be used: {words}"), hint);
    }
    for line in binrepos::unverified(&text) {
        findings.error_with_hint(
            &Place::new(file, line),
            "signatures of a binary package host are always verified",
            "remove the line, and import the host's key with `gentoomuch keys import --for binpkg FILE`",
        );
    }
}

fn read_lines(findings: &mut Findings<'_>, kind: LineFile, path: &Path) -> Vec<AtomLine> {
    let mut all = Vec::new();
    for file in reading::files_below(findings, path) {
        let Some(text) = reading::text(findings, &file) else { continue };
        let (lines, errors) = package_files::parse(kind, &text);
        let file: Arc<Path> = file.into();
        for error in errors {
            findings.error(&Place::of(&file, error.line), error.to_string());
        }
        all.extend(lines.iter().map(|line| AtomLine::new(kind, line, &file)));
    }
    all
}

fn read_make_conf(findings: &mut Findings<'_>, path: &Path) -> Vec<Variable> {
    let mut evaluation = Evaluation::default();
    for file in reading::files_below(findings, path) {
        evaluation.file(findings, &file.into(), 0);
    }
    evaluation.finish()
}

/// A value while the fragment is being read.
#[derive(Debug, Clone)]
enum Draft {
    Part(Part),
    /// A reference to a variable of this fragment, with its value at that point.
    Seen {
        name: String,
        version: usize,
        then: Vec<Draft>,
        place: Place,
    },
}

impl Draft {
    fn len(&self) -> usize {
        match self {
            Self::Part(part) => part.len(),
            Self::Seen { then, .. } => length(then),
        }
    }
}

fn length(drafts: &[Draft]) -> usize {
    drafts.iter().map(Draft::len).sum()
}

/// The text of a value that refers to no other fragment.
fn plain(drafts: &[Draft]) -> Option<String> {
    let part = |draft: &Draft| match draft {
        Draft::Part(Part::Text(text, _)) => Some(text.clone()),
        Draft::Part(_) => None,
        Draft::Seen { then, .. } => plain(then),
    };
    drafts.iter().map(part).collect()
}

#[derive(Debug)]
struct Assigned {
    name: String,
    value: Vec<Draft>,
    version: usize,
    place: Place,
    overrides: bool,
    replaced: Vec<(Place, Box<str>)>,
}

#[derive(Debug, Default)]
struct Evaluation {
    order: Vec<Assigned>,
    index: BTreeMap<String, usize>,
}

impl Evaluation {
    fn file(&mut self, findings: &mut Findings<'_>, file: &Arc<Path>, depth: usize) {
        let Some(text) = reading::text(findings, file) else { return };
        let statements = match make_conf::parse(&text) {
            Ok(statements) => statements,
            Err(error) => {
                findings.error(&Place::of(file, error.line), error.to_string());
                return;
            }
        };
        for statement in statements {
            match statement {
                Statement::Assign(assignment) => self.assign(findings, file, assignment),
                Statement::Source { file: pieces, line } => {
                    let place = Place::of(file, line);
                    let Some(text) = self.sourced(findings, &pieces, &place) else { continue };
                    if let Some(target) = source_target(findings, file, &text, &place, depth) {
                        self.file(findings, &target.into(), depth + 1);
                    }
                }
            }
        }
    }

    fn assign(&mut self, findings: &mut Findings<'_>, file: &Arc<Path>, assignment: Assignment) {
        let Assignment { name, value, line, overrides } = assignment;
        let place = Place::of(file, line);
        let extends = value.iter().any(|piece| matches!(piece, Piece::Reference { name: other, .. } if *other == name));
        let value: Vec<Draft> = value.into_iter().flat_map(|piece| self.draft(file, &name, piece)).collect();
        if length(&value) > VALUE_LIMIT_BYTES {
            findings.error(&place, format!("the value of `{name}` grows beyond 1 MiB"));
            return;
        }
        if let Some(&at) = self.index.get(&name) {
            let version = self.order[at].version + 1;
            // `# override` in a fragment stays in force when the fragment extends the value further down.
            let overrides = overrides || self.order[at].overrides;
            let mut replaced = std::mem::take(&mut self.order[at].replaced);
            if !extends {
                let before = &self.order[at];
                replaced.push((before.place.clone(), written(&self.settle(&name, &before.value))));
            }
            self.order[at] = Assigned { name, value, version, place, overrides, replaced };
        } else {
            self.index.insert(name.clone(), self.order.len());
            self.order.push(Assigned { name, value, version: 0, place, overrides, replaced: Vec::new() });
        }
    }

    /// The file named after `source`. References are to variables that the fragment has set so far.
    fn sourced(&self, findings: &mut Findings<'_>, pieces: &[Piece], place: &Place) -> Option<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text { text: part, .. } => text.push_str(part),
                Piece::Reference { name, .. } => match self.index.get(name).and_then(|&at| plain(&self.order[at].value)) {
                    Some(part) => text.push_str(&part),
                    None => {
                        findings.error(place, format!("`source` uses `${{{name}}}`, which this fragment does not set before"));
                        return None;
                    }
                },
            }
        }
        Some(text)
    }

    fn draft(&self, file: &Arc<Path>, own_name: &str, piece: Piece) -> Vec<Draft> {
        match piece {
            Piece::Text { text, line } => vec![Draft::Part(Part::Text(text, Place::of(file, line)))],
            Piece::Reference { name, line } => {
                let place = Place::of(file, line);
                match self.index.get(&name).map(|&at| &self.order[at]) {
                    Some(seen) if name == own_name => seen.value.clone(),
                    Some(seen) => vec![Draft::Seen { name, version: seen.version, then: seen.value.clone(), place }],
                    None => vec![Draft::Part(Part::Earlier(name, place))],
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Variable> {
        let replaced: Vec<_> = self.order.iter_mut().map(|assigned| std::mem::take(&mut assigned.replaced)).collect();
        self.order
            .iter()
            .zip(replaced)
            .map(|(assigned, replaced)| Variable {
                name: assigned.name.clone(),
                value: self.settle(&assigned.name, &assigned.value),
                place: assigned.place.clone(),
                overrides: assigned.overrides,
                replaced,
            })
            .collect()
    }

    fn settle(&self, own_name: &str, drafts: &[Draft]) -> Vec<Part> {
        let mut parts = Vec::new();
        for draft in drafts {
            match draft {
                Draft::Part(Part::Earlier(name, place)) if name != own_name && !self.index.contains_key(name) => {
                    parts.push(Part::Reference(name.clone(), place.clone()));
                }
                Draft::Part(part) => parts.push(part.clone()),
                Draft::Seen { name, version, place, .. }
                    if name != own_name && self.index.get(name).is_some_and(|&at| self.order[at].version == *version) =>
                {
                    parts.push(Part::Reference(name.clone(), place.clone()));
                }
                Draft::Seen { then, .. } => parts.extend(self.settle(own_name, then)),
            }
        }
        parts
    }
}

/// The file of a `source` statement, if it is in the configuration directory.
fn source_target(findings: &mut Findings<'_>, file: &Path, text: &str, place: &Place, depth: usize) -> Option<PathBuf> {
    if depth >= SOURCE_DEPTH_LIMIT {
        findings.error(place, format!("`source {text}` leads back to the same file"));
        return None;
    }
    let mut target = PathBuf::new();
    for component in file.parent().unwrap_or(Path::new("")).join(text).components() {
        use std::path::Component;
        match component {
            Component::Normal(part) => target.push(part),
            Component::CurDir => {}
            Component::ParentDir if target.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                findings.error_with_hint(
                    place,
                    format!("`source {text}` leads out of the configuration directory"),
                    "copy the file into the fragment and name it relative to this one",
                );
                return None;
            }
        }
    }
    if !findings.root().join(&target).exists() {
        findings.error(place, format!("`source {text}`: there is no `{}`", target.display()));
        return None;
    }
    Some(target)
}
