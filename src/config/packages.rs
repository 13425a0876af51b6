//! Package lists: atoms and sets, with the sets of `package.sets/` replaced by their contents.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::diagnostic::{Findings, Located, Place};
use super::names::Shape;
use super::{names, reading};
use crate::did_you_mean::nearest;
use crate::portage::atom::Atom;

/// So begins what is said of a set before Portage was asked.
pub(crate) const NO_SET: &str = "no file defines the set";
/// Portage's own sets (`cnf/sets/portage.conf`, 3.0.83), which `emerge` resolves.
const PORTAGE_SETS: [&str; 22] = [
    "changed-deps",
    "changed-subslot",
    "deprecated-live-rebuild",
    "downgrade",
    "golang-rebuild",
    "installed",
    "live-rebuild",
    "module-rebuild",
    "preserved-rebuild",
    "profile",
    "rebuilt-binaries",
    "rust-rebuild",
    "security",
    "selected",
    "selected-packages",
    "selected-sets",
    "system",
    "unavailable",
    "unavailable-binaries",
    "world",
    "x11-module-rebuild",
    "depclean",
];

/// Whether Portage itself defines the set `name`.
pub(crate) fn is_portage_set(name: &str) -> bool {
    PORTAGE_SETS.contains(&name)
}

/// Whether a fragment contains the set `name` as `sets/NAME`, where Portage looks for it in `/etc/portage`.
pub(crate) fn is_brought(root: &Path, name: &str) -> bool {
    let of =
        |folder: &'static str| names::list(root, folder, Shape::Fragment).into_iter().map(move |name| Path::new(folder).join(name));
    let mut fragments = of("portage.locals").chain(of("cpu.defines")).chain([Path::new("portage.global").to_owned()]);
    names::is_name(name) && fragments.any(|fragment| root.join(fragment).join("sets").join(name).is_file())
}

/// What `emerge` is told to install.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Package {
    Atom(Atom),
    /// A set of Portage or of a repository, without its `@`.
    Set(String),
}

impl fmt::Display for Package {
    /// As an argument of `emerge`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Atom(atom) => atom.fmt(f),
            Self::Set(name) => write!(f, "@{name}"),
        }
    }
}

/// Reads the list `file` and resolves its sets. A package that is named several times is kept at its first place.
pub(crate) fn read(findings: &mut Findings<'_>, file: &Path) -> Vec<Located<Package>> {
    let mut resolver = Resolver { within: Vec::new(), seen: BTreeSet::new(), done: BTreeSet::new(), packages: Vec::new() };
    for entry in entries(findings, file) {
        resolver.entry(findings, &entry);
    }
    resolver.packages
}

/// The words of a list. Neither atoms nor names of sets contain a blank, so a line may have several; the old tool passed whole lines to
/// emerge.
pub(crate) fn entries(findings: &mut Findings<'_>, file: &Path) -> Vec<Located<String>> {
    let lines = reading::list(findings, file).unwrap_or_default();
    lines.iter().flat_map(|line| line.value.split_whitespace().map(|word| line.with(word.to_owned()))).collect()
}

struct Resolver {
    /// The sets that are being read, outermost first, and where each was named.
    within: Vec<(String, Place)>,
    seen: BTreeSet<Package>,
    done: BTreeSet<String>,
    packages: Vec<Located<Package>>,
}

impl Resolver {
    fn entry(&mut self, findings: &mut Findings<'_>, entry: &Located<String>) {
        let word = entry.value.as_str();
        let is_set = |name: &str| names::is_name(name) && findings.root().join("package.sets").join(name).is_file();
        if let Some(name) = word.strip_prefix('@') {
            if is_set(name) {
                self.set(findings, name, entry);
            } else {
                self.foreign_set(findings, name, entry);
            }
        } else if is_set(word) {
            findings.warning(&entry.place(), format!("`{word}` is the name of a set"), format!("write `@{word}`"));
            self.set(findings, word, entry);
        } else {
            match Atom::parse_target(word) {
                Ok(atom) => self.push(entry.with(Package::Atom(atom))),
                Err(error) => {
                    let known = names::list(findings.root(), "package.sets", Shape::File);
                    match nearest(word, &known) {
                        Some(near) => {
                            findings.error_with_hint(&entry.place(), error.to_string(), format!("did you mean the set `@{near}`?"));
                        }
                        None => findings.error_with_hint(&entry.place(), error.to_string(), "a line holds one atom or one `@set`"),
                    }
                }
            }
        }
    }

    fn set(&mut self, findings: &mut Findings<'_>, name: &str, entry: &Located<String>) {
        if let Some(at) = self.within.iter().position(|(outer, _)| outer == name) {
            let circle: Vec<String> = self.within[at..].iter().map(|(name, _)| format!("`@{name}`")).collect();
            findings.error(&entry.place(), format!("the set `@{name}` contains itself: {} and back", circle.join(" names ")));
            return;
        }
        if !self.done.insert(name.to_owned()) {
            return;
        }
        self.within.push((name.to_owned(), entry.place()));
        for entry in entries(findings, &Path::new("package.sets").join(name)) {
            self.entry(findings, &entry);
        }
        self.within.pop();
    }

    fn foreign_set(&mut self, findings: &mut Findings<'_>, name: &str, entry: &Located<String>) {
        let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-+./".contains(c));
        if !valid {
            findings.error(&entry.place(), format!("`@{}` is no name of a set", name.escape_debug()));
            return;
        }
        if !PORTAGE_SETS.contains(&name) && !is_brought(findings.root(), name) {
            let known = names::list(findings.root(), "package.sets", Shape::File);
            let message = format!("{NO_SET} `@{name}`, and Portage does not define it by itself");
            let hint = names::alternatives("package.sets", name, &known);
            // A repository may define it, unless the name is a typing error.
            if nearest(name, &known).is_some() {
                findings.warning(&entry.place(), message, hint);
            } else {
                findings.note_with_hint(&entry.place(), message, hint);
            }
        }
        self.push(entry.with(Package::Set(name.to_owned())));
    }

    fn push(&mut self, package: Located<Package>) {
        if self.seen.insert(package.value.clone()) {
            self.packages.push(package);
        }
    }
}
