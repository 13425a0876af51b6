//! The merged Portage directory as plain values with their sources: `config show --json` prints it and `config diff` compares it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::diagnostic::Place;
use super::fate::{Fate, fates};
use super::history::Touch;
use super::portage_dir::{AtomEntry, ListEntry, PortageDir};
use crate::portage::package_files::LineFile;

/// A merged Portage directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Effective {
    /// Folders of the fragments in the order of merging.
    pub fragments: Vec<PathBuf>,
    /// Variables of `make.conf`, in the order in which they are written.
    pub variables: Vec<EffectiveVariable>,
    /// Lines of `package.use` and its relatives by the name of the file, in the order in which they are written.
    pub packages: BTreeMap<&'static str, Vec<EffectiveLine>>,
    /// All files, merged and copied.
    pub files: Vec<EffectiveFile>,
}

/// A variable of `make.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EffectiveVariable {
    pub name: String,
    /// Its value, with references to other variables replaced if fragments set these.
    pub value: String,
    /// Its value as written.
    pub written: String,
    /// The entries, if it is a list.
    pub entries: Option<Vec<EffectiveEntry>>,
    /// The lines that it comes from.
    pub places: Vec<Place>,
    /// All statements about it.
    pub history: Vec<EffectiveTouch>,
}

/// A line of `package.use` or one of its relatives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EffectiveLine {
    pub atom: String,
    /// `-atom` in `package.mask` and `package.unmask`.
    pub negated: bool,
    /// Flags, keywords, licences, files of `env/`.
    pub entries: Vec<EffectiveEntry>,
    /// The lines that it comes from.
    pub places: Vec<Place>,
    /// All statements about it.
    pub history: Vec<EffectiveTouch>,
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EffectiveEntry {
    /// As written: `ssl`, `-X`, `-*`.
    pub entry: String,
    /// The lines with it.
    pub places: Vec<Place>,
}

/// A fragment's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EffectiveTouch {
    /// Folder of the fragment.
    pub fragment: PathBuf,
    pub place: Place,
    pub said: String,
    /// Whether it ends with `# override`.
    pub overrides: bool,
    pub fate: Fate,
}

/// A file of the Portage directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EffectiveFile {
    /// Path below `/etc/portage`.
    pub path: PathBuf,
    /// Permission bits, as an octal number in text: `0644`.
    pub mode: String,
    pub size_bytes: u64,
    /// The files that it comes from.
    pub sources: Vec<PathBuf>,
    /// Its content, if that is text.
    pub text: Option<String>,
}

impl PortageDir {
    /// The whole directory as plain values.
    pub fn effective(&self) -> Effective {
        let packages = LineFile::ALL.into_iter().filter_map(|kind| {
            let lines: Vec<EffectiveLine> = self.entries(kind).map(|entry| self.effective_line(&entry)).collect();
            (!lines.is_empty()).then_some((kind.file_name(), lines))
        });
        Effective {
            fragments: self.fragments().to_vec(),
            variables: self.variables().into_iter().map(|(name, places)| self.effective_variable(name, places)).collect(),
            packages: packages.collect(),
            files: self.files.keys().map(|path| self.effective_file(path)).collect(),
        }
    }

    fn effective_variable(&self, name: String, places: Vec<Place>) -> EffectiveVariable {
        EffectiveVariable {
            value: self.variable(&name).unwrap_or_default(),
            written: self.written(&name).unwrap_or_default(),
            entries: self.list(&name).map(|entries| entries.into_iter().map(effective_entry).collect()),
            history: self.effective_touches(&name, self.touches(&name)),
            places,
            name,
        }
    }

    fn effective_line(&self, entry: &AtomEntry<'_>) -> EffectiveLine {
        EffectiveLine {
            atom: entry.atom.to_owned(),
            negated: entry.negated,
            entries: entry.words().map(effective_entry).collect(),
            places: entry.places.to_vec(),
            history: self.effective_touches("", entry.history),
        }
    }

    /// The statements about the variable `name`, or about an atom, with their fates.
    pub fn effective_touches(&self, name: &str, touches: &[Touch]) -> Vec<EffectiveTouch> {
        let told = touches.iter().zip(fates(name, touches)).map(|(touch, fate)| EffectiveTouch {
            fragment: self.fragment_of(touch).to_owned(),
            place: touch.place.clone(),
            said: touch.said.to_string(),
            overrides: touch.overrides,
            fate,
        });
        told.collect()
    }

    fn effective_file(&self, path: &Path) -> EffectiveFile {
        let bytes = self.files.get(path).map_or(&[][..], Vec::as_slice);
        EffectiveFile {
            path: path.to_owned(),
            mode: format!("{:04o}", self.modes.get(path).copied().unwrap_or(0o644)),
            size_bytes: bytes.len() as u64,
            sources: self.origins(path),
            text: text(bytes).map(str::to_owned),
        }
    }

    /// The files of the configuration directory that `path` below `/etc/portage` was merged or copied from, in order.
    pub fn origins(&self, path: &Path) -> Vec<PathBuf> {
        let copied = self.sources(path);
        if !copied.is_empty() {
            return copied.to_vec();
        }
        let top = path.iter().next().and_then(|top| top.to_str()).unwrap_or_default();
        let places: Vec<Place> = match LineFile::named(top) {
            Some(kind) => self.entries(kind).flat_map(|entry| entry.places.iter().cloned()).collect(),
            None => self.variables().into_iter().flat_map(|(_, places)| places).collect(),
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for place in places {
            if !files.iter().any(|file| **file == *place.file) {
                files.push(place.file.to_path_buf());
            }
        }
        files
    }
}

fn effective_entry(entry: ListEntry<'_>) -> EffectiveEntry {
    EffectiveEntry { entry: entry.switch.to_string(), places: entry.places.to_vec() }
}

/// `bytes` as text, if a terminal can show it.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r')).then_some(text)
}
