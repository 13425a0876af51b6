//! Changes that a build needs in the configuration: their places, and the resulting files.
//!
//! ```text
//! WantedLine          package.use: dev-libs/greet static-libs, since app-misc/picky-1.0 needs it
//!   | placing         which fragment, which file, which line: extended, or a new one; contradictions with lines that are there
//!   v
//! Edit                a file's text before and after
//!   | diff            unified, for `patch -p1` and `git apply`
//!   | writing         one rename a file
//! ```
//!
//! Placing is pure: it works on texts read before, [`FragmentFiles`]; only [`write()`] writes.

mod diff;
mod placing;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostic::Findings;
use super::{ConfigDir, Place, Stage3Definition, definition, names, reading};
use crate::path_error::PathError;
use crate::portage::atom::Atom;
use crate::portage::package_files::LineFile;

pub(crate) use diff::unified;
pub(crate) use placing::{Placed, propose};
pub(crate) use writing::write;

pub(crate) use writing::{make_dirs, replace};

/// A line that the merged configuration needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedLine {
    /// In which of Portage's files.
    pub file: LineFile,
    /// For which packages.
    pub atom: Atom,
    /// Flags (written out), keywords or licences; empty for `package.unmask`.
    pub words: Vec<String>,
    /// The reasons for the comment above it, each a line.
    pub because: Vec<String>,
    /// It was masked by the configuration, not by the tree.
    pub masked_by_configuration: bool,
}

/// The role of a fragment in a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `cpu.defines/NAME`
    Cpu,
    /// `portage.global`
    Global,
    /// `portage.locals/NAME`, listed in the definition.
    Local,
    /// `portage.locals/NAME`, to be added to the list.
    New,
}

/// The line files of a fragment, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentFiles {
    /// Relative to the configuration directory.
    pub dir: PathBuf,
    pub role: Role,
    /// Other stage3 definitions that list it.
    pub shared_with: Vec<String>,
    /// Its `package.*` files, relative to the configuration directory.
    pub texts: BTreeMap<PathBuf, String>,
    pub directories: BTreeSet<LineFile>,
}

/// The input of placing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragments {
    /// The configuration directory, for messages.
    pub root: PathBuf,
    /// Name of the stage3 definition.
    pub definition: String,
    /// In the order of merging.
    pub all: Vec<FragmentFiles>,
    /// The definition's list of fragments, relative to the configuration directory, with its text.
    pub list: (PathBuf, Option<String>),
}

/// A file before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Relative to the configuration directory.
    pub path: PathBuf,
    /// Its text; `None`: it does not exist.
    pub before: Option<String>,
    /// Its new text.
    pub after: String,
}

/// Why a change is not possible.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line says the opposite.
    #[error(transparent)]
    Contradiction(Box<Contradiction>),
    /// The name of the fragment asked for is invalid.
    #[error("`{0}` cannot be the name of a fragment")]
    Name(String),
    /// The fragment asked for is not one of the definition's, and its place in the order is fixed.
    #[error("`{fragment}` is no fragment of `{definition}`")]
    Foreign {
        /// What was asked for.
        fragment: String,
        /// The stage3 definition.
        definition: String,
        /// The definition's fragments.
        known: Vec<String>,
    },
    /// A file changed since we read it.
    #[error("`{}` has changed meanwhile", .0.display())]
    Changed(PathBuf),
    /// A file that leads out of the configuration directory.
    #[error("`{}` is a link that leads out of the configuration directory", .0.display())]
    Outside(PathBuf),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// An existing line that contradicts the one that is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}/{there}: `{line}` contradicts what is needed: `{wanted}` in `{}`", .root.display(), place.file.display())]
pub struct Contradiction {
    pub root: PathBuf,
    /// Its place.
    pub there: Place,
    pub line: String,
    /// The line that is needed.
    pub wanted: String,
    /// Where that would go.
    pub place: Place,
    /// Who needs it.
    pub because: Vec<String>,
    /// Whether `# override` in a later fragment would help; not for a mask.
    pub may_override: bool,
}

impl ConfigDir {
    /// The fragments of a stage3 definition as text. `into` names a further one to write to: `portage.locals/NAME` or `NAME`; it need not
    /// exist.
    pub fn fragments(&self, stage3: &Stage3Definition, into: Option<&str>) -> Result<Fragments, Error> {
        let mut all = Vec::new();
        if let Some(cpu) = &stage3.cpu {
            all.push(self.fragment_files(Path::new("cpu.defines").join(&cpu.value), Role::Cpu, Vec::new())?);
        }
        all.push(self.fragment_files(PathBuf::from("portage.global"), Role::Global, Vec::new())?);
        let others = self.others(&stage3.name);
        let users = |name: &str| -> Vec<String> {
            others.iter().filter(|(_, locals)| locals.iter().any(|local| local == name)).map(|(other, _)| other.clone()).collect()
        };
        for local in &stage3.portage_locals {
            let dir = Path::new("portage.locals").join(&local.value);
            all.push(self.fragment_files(dir, Role::Local, users(&local.value))?);
        }
        if let Some(name) = into {
            let name = name.trim_end_matches('/');
            let known = all.iter().any(|fragment| fragment.dir == Path::new(name));
            let name = name.strip_prefix("portage.locals/").unwrap_or(name);
            let dir = Path::new("portage.locals").join(name);
            if !known && !all.iter().any(|fragment| fragment.dir == dir) {
                // A name with another folder is hardly meant as that of a fragment.
                let folders =
                    ["cpu.defines", "package.sets", "portage.global", "portage.locals", "stage3.defines", "stage4.defines"];
                if folders.iter().any(|folder| Path::new(name).starts_with(folder)) {
                    let known = all.iter().map(|fragment| fragment.dir.display().to_string()).collect();
                    return Err(Error::Foreign { fragment: name.to_owned(), definition: stage3.name.clone(), known });
                }
                if !names::is_name(name) {
                    return Err(Error::Name(name.to_owned()));
                }
                all.push(self.fragment_files(dir, Role::New, users(name))?);
            }
        }
        let list = match stage3.portage_locals.first() {
            Some(first) => first.file.to_path_buf(),
            None => self.stage3_dir(&stage3.name).join("portage.local"),
        };
        let text = self.text_of(&list)?;
        Ok(Fragments { root: self.root().to_owned(), definition: stage3.name.clone(), all, list: (list, text) })
    }

    fn text_of(&self, path: &Path) -> Result<Option<String>, Error> {
        match std::fs::read_to_string(self.root().join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PathError::new("read", self.root().join(path), source).into()),
        }
    }

    /// The other stage3 definitions with their fragments. Their errors do not matter here.
    fn others(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let others = self.stage3_names().into_iter().filter(|other| other != name);
        others
            .map(|other| {
                let mut findings = Findings::new(self.root());
                let dir = Path::new("stage3.defines").join(&other);
                let definition = definition::read_stage3(&mut findings, &other, &dir);
                (other, definition.portage_locals.into_iter().map(|local| local.value).collect())
            })
            .collect()
    }

    fn fragment_files(&self, dir: PathBuf, role: Role, shared_with: Vec<String>) -> Result<FragmentFiles, Error> {
        let mut fragment = FragmentFiles { dir, role, shared_with, texts: BTreeMap::new(), directories: BTreeSet::new() };
        let mut findings = Findings::new(self.root());
        for kind in LineFile::ALL {
            let path = fragment.dir.join(kind.file_name());
            let full = self.root().join(&path);
            if full.is_dir() {
                fragment.directories.insert(kind);
            } else if !full.exists() {
                continue;
            }
            for file in reading::files_below(&mut findings, &path) {
                if let Some(text) = self.text_of(&file)? {
                    fragment.texts.insert(file, text);
                }
            }
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests;
