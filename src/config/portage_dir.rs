//! The merged Portage directory: the `/etc/portage` of a stage, and queries about it.
//!
//! ```text
//! make.conf/50-gentoomuch.conf               the merged variables
//! package.use/50-gentoomuch                  the merged lines, likewise package.mask and their relatives
//! patches/CATEGORY/PACKAGE/PATCH-NAME.patch  from user.patches/PATCH/CATEGORY/PACKAGE/NAME.patch
//! binrepos.conf/50-gentoomuch.conf           a binrepos.conf that is a file, likewise repos.conf
//! env/, bashrc, sets/, …                     copied
//! ```
//!
//! If the root has `make.conf` or a `package.*` as a file, that file first moves into the directory of the same name as `10-stage3.conf`
//! or `10-stage3`: see [`PortageDir::directories`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use sha2::{Digest, Sha256};

use super::diagnostic::{Diagnostic, Located, Place};
use super::history;
use super::history::Part;
use super::history::{Fragments, Touch};
use super::merge::{AtomLines, Merge};
use super::merged::{Merged, Value, expanded};
use super::repos_conf::Repositories;
use super::switches::Switches;
use crate::portage::emerge::default_opts::DefaultOpts;
use crate::portage::make_conf;
use crate::portage::package_files::LineFile;
use crate::portage::use_flags::Switch;

/// Where the merged variables lie.
pub(crate) const MAKE_CONF: &str = "make.conf/50-gentoomuch.conf";

/// The merged Portage directory of one stage3 definition.
#[derive(Debug, Clone)]
pub struct PortageDir {
    /// Content by path below `/etc/portage`.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Permission bits by the same paths: 0644, or 0755 for what is executable in the configuration directory.
    pub modes: BTreeMap<PathBuf, u32>,
    /// Warnings and notes of the fragments.
    pub notes: Vec<Diagnostic>,
    /// Its repositories.
    pub repositories: Repositories,
    /// The part of its `EMERGE_DEFAULT_OPTS` that our runs of emerge use.
    pub emerge_opts: DefaultOpts,
    variables: Vec<Merged>,
    lines: BTreeMap<LineFile, Vec<AtomLines>>,
    sources: BTreeMap<PathBuf, Vec<PathBuf>>,
    fragments: Fragments,
}

/// The effective line of a `package.*` file for one atom.
#[derive(Debug, Clone, Copy)]
pub struct AtomEntry<'a> {
    /// As written.
    pub atom: &'a str,
    /// `-atom` in `package.mask` and `package.unmask`.
    pub negated: bool,
    /// Every line of the configuration directory that contributed.
    pub places: &'a [Place],
    /// All statements about it, in order.
    pub history: &'a [Touch],
    switches: &'a Switches,
}

impl<'a> AtomEntry<'a> {
    fn new(lines: &'a AtomLines) -> Self {
        Self {
            atom: &lines.atom,
            negated: lines.negated,
            places: &lines.places,
            history: &lines.history,
            switches: &lines.switches,
        }
    }

    /// Flags, keywords, licences, files of `env/`, in Portage's order.
    pub fn words(&self) -> impl Iterator<Item = ListEntry<'a>> + use<'a> {
        self.switches.entries.iter().map(|entry| ListEntry { switch: &entry.switch, places: &entry.places })
    }
}

/// As the merged file has it.
impl fmt::Display for AtomEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.switches.joined();
        let (minus, space) = (if self.negated { "-" } else { "" }, if words.is_empty() { "" } else { " " });
        write!(f, "{minus}{}{space}{words}", self.atom)
    }
}

/// A word of a merged list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListEntry<'a> {
    /// On, off or clear.
    pub switch: &'a Switch,
    /// The lines with it.
    pub places: &'a [Place],
}

impl PortageDir {
    pub(crate) fn render(merge: Merge, notes: Vec<Diagnostic>) -> Self {
        let mut files = BTreeMap::new();
        let mut modes = BTreeMap::new();
        let lines: Vec<_> = merge.lines.iter().filter(|(_, lines)| !lines.is_empty()).collect();
        let render_all = || -> Vec<_> {
            let file = |(kind, lines): &(&LineFile, &Vec<AtomLines>)| (kind.file_name(), render_lines(lines).into_bytes());
            lines.par_iter().map(file).collect()
        };
        let (make_conf, lines) = rayon::join(|| render_make_conf(&merge.variables), render_all);
        if !merge.variables.is_empty() {
            files.insert(PathBuf::from(MAKE_CONF), make_conf.into_bytes());
        }
        files.extend(lines.into_iter().map(|(name, bytes)| (Path::new(name).join("50-gentoomuch"), bytes)));
        let mut sources = BTreeMap::new();
        for (mut path, copied) in merge.copied {
            if path == Path::new("binrepos.conf") || path == Path::new("repos.conf") {
                // A stage3 has a directory of the first name, and sessions have a file of their own in that of the second.
                path.push("50-gentoomuch.conf");
            }
            sources.insert(path.clone(), std::iter::once(copied.source).chain(copied.same).collect());
            modes.insert(path.clone(), if copied.executable { 0o755 } else { 0o644 });
            files.insert(path, copied.bytes);
        }
        for path in files.keys() {
            modes.entry(path.clone()).or_insert(0o644);
        }
        let Merge { variables, lines, fragments, repositories, emerge_opts, .. } = merge;
        Self { files, modes, notes, repositories, emerge_opts, variables, lines, sources, fragments }
    }

    /// SHA-256 over paths, modes and contents, in hexadecimal. Independent of where the configuration directory is.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, bytes) in &self.files {
            let path_bytes = path.as_os_str().as_encoded_bytes();
            hash.update((path_bytes.len() as u64).to_le_bytes());
            hash.update(path_bytes);
            hash.update(self.modes.get(path).copied().unwrap_or(0o644).to_le_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hex::encode(hash.finalize())
    }

    /// The merged `make.conf`, empty if no fragment sets a variable.
    pub fn make_conf(&self) -> &str {
        self.files.get(Path::new(MAKE_CONF)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Directories in whose place Portage also accepts a file, with the new name of the root's file in each.
    pub fn directories(&self) -> Vec<(PathBuf, &'static str)> {
        let tops: BTreeSet<PathBuf> = self
            .files
            .keys()
            .filter(|path| path.components().count() == 2)
            .filter_map(|path| path.parent().map(Path::to_owned))
            .filter(|top| top.as_os_str() == "make.conf" || top.to_str().is_some_and(|name| LineFile::named(name).is_some()))
            .collect();
        let name = |top: &Path| if top.as_os_str() == "make.conf" { "10-stage3.conf" } else { "10-stage3" };
        tops.into_iter().map(|top| (top.clone(), name(&top))).collect()
    }

    /// The value of a variable with all references replaced; unset variables are empty.
    pub fn variable(&self, name: &str) -> Option<String> {
        let words = self.located_words(name)?;
        let verbatim = expanded(&self.variables, name);
        let text: String = verbatim.iter().map(|(text, _)| text.as_str()).collect();
        Some(if words.is_empty() { String::new() } else { text.trim().to_owned() })
    }

    /// The words of a variable with their lines; `None` if no fragment sets it.
    pub fn located_words(&self, name: &str) -> Option<Vec<Located<String>>> {
        self.variables.iter().find(|merged| merged.name == name)?;
        let parts = expanded(&self.variables, name);
        let mut words: Vec<Located<String>> = Vec::new();
        let mut within = false;
        for (text, place) in parts {
            for c in text.chars() {
                match (c.is_whitespace(), words.last_mut()) {
                    (true, _) => within = false,
                    (false, Some(word)) if within => word.value.push(c),
                    (false, _) => {
                        words.push(Located { value: c.to_string(), file: place.file.clone(), line: place.line });
                        within = true;
                    }
                }
            }
        }
        Some(words)
    }

    /// The flags of `CPU_FLAGS_X86`, `CPU_FLAGS_ARM` and the like that are on, as (variable, flag).
    pub fn cpu_flags(&self) -> Vec<(String, Located<String>)> {
        let mut flags = Vec::new();
        for merged in self.variables.iter().filter(|merged| merged.name.starts_with("CPU_FLAGS_")) {
            if let Value::Switches(switches) = &merged.value {
                for entry in &switches.entries {
                    if let (Switch::On(flag), Some(place)) = (&entry.switch, entry.places.last()) {
                        let flag = Located { value: flag.clone(), file: place.file.clone(), line: place.line };
                        flags.push((merged.name.clone(), flag));
                    }
                }
            }
        }
        flags
    }

    /// All variables that some fragment sets, in the order of the merged file, with every line that contributed.
    pub fn variables(&self) -> Vec<(String, Vec<Place>)> {
        self.variables.iter().map(|merged| (merged.name.clone(), merged.places())).collect()
    }

    /// The effective lines of a `package.*` file, in order.
    pub fn entries(&self, kind: LineFile) -> impl Iterator<Item = AtomEntry<'_>> {
        self.lines.get(&kind).into_iter().flatten().map(AtomEntry::new)
    }

    /// The words of a list in Portage's order; `None` if the variable is no list or not set.
    pub fn list(&self, name: &str) -> Option<Vec<ListEntry<'_>>> {
        match &self.variables.iter().find(|merged| merged.name == name)?.value {
            Value::Switches(switches) => {
                Some(switches.entries.iter().map(|entry| ListEntry { switch: &entry.switch, places: &entry.places }).collect())
            }
            Value::Single(_) => None,
        }
    }

    /// The value of a variable in the merged `make.conf`, with references as `${NAME}`.
    pub fn written(&self, name: &str) -> Option<String> {
        let merged = self.variables.iter().find(|merged| merged.name == name)?;
        Some(match &merged.value {
            Value::Switches(switches) => switches.joined(),
            Value::Single(parts) => history::written(parts).into(),
        })
    }

    /// All statements about a variable, in order. Empty if no fragment sets it, or only through `COMMON_FLAGS`.
    pub fn touches(&self, name: &str) -> &[Touch] {
        self.variables.iter().find(|merged| merged.name == name).map_or(&[], |merged| &merged.history)
    }

    /// The folder of the fragment that made a statement, relative to the configuration directory.
    pub fn fragment_of(&self, touch: &Touch) -> &Path {
        self.fragments.of(touch)
    }

    /// The folders of all fragments in the order of merging, relative to the configuration directory.
    pub fn fragments(&self) -> &[PathBuf] {
        self.fragments.as_slice()
    }

    /// The source files of the copied file `path`, relative to the configuration directory, one for each fragment that has it. Empty for
    /// merged files.
    pub fn sources(&self, path: &Path) -> &[PathBuf] {
        self.sources.get(path).map_or(&[], Vec::as_slice)
    }
}

const HEADER: &str = "# Merged by gentoomuch from the fragments named below; change those instead.\n";

/// The fragments' files, without line numbers: a comment that moves a line must not rebuild a world.
fn origin(places: &[Place]) -> String {
    if let [place] = places {
        return place.file.display().to_string();
    }
    let mut seen = BTreeSet::new();
    let files: Vec<String> =
        places.iter().filter(|place| seen.insert(place.file.as_os_str())).map(|place| place.file.display().to_string()).collect();
    files.join(", ")
}

fn render_make_conf(variables: &[Merged]) -> String {
    let mut out = String::from(HEADER);
    for merged in variables {
        let value = match &merged.value {
            // These words contain no quotes, dollar signs and backslashes, except for `${…}`, which is a reference.
            Value::Switches(switches) => match switches.joined() {
                // Portage takes the bare word for a statement.
                joined if joined == "source" => "\" source\"".to_owned(),
                joined => format!("\"{joined}\""),
            },
            Value::Single(parts) => make_conf::quote(&parts.iter().map(Part::piece).collect::<Vec<_>>()),
        };
        // Writing to a string cannot fail.
        let _ = write!(out, "\n# {}\n{}={value}\n", origin(&merged.places()), merged.name);
    }
    out
}

fn render_lines(lines: &[AtomLines]) -> String {
    let mut out = String::from(HEADER);
    let mut last = String::new();
    for line in lines {
        let origin = origin(&line.places);
        if origin != last {
            let _ = write!(out, "\n# {origin}\n");
            last = origin;
        }
        let _ = writeln!(out, "{}", AtomEntry::new(line));
    }
    out
}
