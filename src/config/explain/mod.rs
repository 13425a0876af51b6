//! Explains a variable, flag or package: who set it, what else affected it, and which of Portage's values it overrides.
//!
//! The merged Portage directory is half of the answer; the other half are the Portage profile, the ebuild repositories, and the stage3's
//! own `make.conf`. As far as these are known ([`Surroundings`]), the answer is Portage's.

mod licence;
mod package;
mod use_flag_words;
mod variable;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::diagnostic::Place;
use super::history::{Said, Touch};
use super::portage_dir::AtomEntry;
use super::{PortageDir, effective};
use crate::did_you_mean::nearest;
use crate::portage::atom::{Atom, AtomError};
use crate::portage::effective_use::{Layer, Outcome, Word, verdict};
use crate::portage::licence::LicenceGroups;
use crate::portage::matching::{Version, by_specificity};
use crate::portage::package_files::LineFile;
use crate::portage::profile_stack::{Known, LooseFile, ProfileStack, Source, evaluate};
use crate::portage::repository::{Repository, RepositoryError};
use crate::portage::use_flags;
use crate::portage::use_flags::Switch;

pub(crate) use package::{PackageExplained, PackageNote, VersionExplained};
pub(crate) use variable::VariableExplained;

/// The other inputs of Portage besides the merged directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// The ebuild repositories, the main one first.
    pub repositories: Vec<Repository>,
    /// The Portage profile, without `/etc/portage/profile`.
    pub profile: Option<ProfileStack>,
    /// Portage's own defaults, `make.globals`.
    pub make_globals: Option<String>,
    /// The stage3's own `make.conf`.
    pub make_conf: Option<String>,
}

/// What is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A variable of `make.conf`.
    Variable(String),
    /// A flag for all packages, in the words of `USE`: `video_cards_amdgpu` for `VIDEO_CARDS:amdgpu`.
    Flag(String),
    /// An entry of another list, such as `FEATURES:test`.
    Entry(String, String),
    Package(Atom),
    PackageFlag(Atom, String),
}

/// Why something cannot be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    /// Neither a variable nor an atom.
    #[error("`{word}` is neither a variable nor an atom")]
    Subject {
        /// As asked for.
        word: String,
        /// Packages of this name, with their category.
        packages: Vec<String>,
    },
    /// An invalid atom.
    #[error("`{word}` is no atom")]
    Atom {
        /// As asked for.
        word: String,
        #[source]
        source: AtomError,
    },
    /// A variable that nobody sets.
    #[error("nothing sets `{name}`: no fragment of the stage{}", if *.everywhere { ", not its stage3, and not its Portage profile" } else { "" })]
    NoVariable {
        name: String,
        /// Whether stage3 and Portage profile are known as well.
        everywhere: bool,
        /// The nearest spelling.
        nearest: Option<String>,
        /// What fragments set.
        known: Vec<String>,
    },
    /// An entry that the list does not have.
    #[error("nothing sets `{entry}` in `{variable}`")]
    NoEntry {
        variable: String,
        entry: String,
        /// The nearest spelling.
        nearest: Option<String>,
        /// What is in the list.
        known: Vec<String>,
    },
    /// A package that no repository has.
    #[error("there is no package `{package}` in {}", .repositories.join(", "))]
    NoPackage {
        package: String,
        /// Where it was looked for.
        repositories: Vec<String>,
        /// The nearest spelling.
        nearest: Option<String>,
    },
    /// A version that no repository has.
    #[error("`{atom}` matches no version of `{package}`")]
    NoVersion {
        atom: String,
        package: String,
        /// The versions there are.
        known: Vec<String>,
    },
    /// A flag that the package does not have and no line names.
    #[error("`{version}` has no flag `{flag}`")]
    NoFlag {
        /// The package with its version.
        version: String,
        flag: String,
        /// The nearest spelling.
        nearest: Option<String>,
        known: Vec<String>,
    },
    /// A repository or a profile that cannot be read.
    #[error("cannot read the ebuild repository")]
    Repository(#[from] RepositoryError),
}

pub(crate) type Result<T> = std::result::Result<T, ExplainError>;

/// Where a statement was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// A fragment of the configuration directory.
    Fragment {
        /// Its folder.
        fragment: PathBuf,
        place: Place,
        /// Whether it ends with `# override`.
        overrides: bool,
    },
    /// The Portage profile, or the repository for all profiles.
    Profile { source: Source },
    /// A file that the stage3 brings.
    Stage3 {
        /// The file in the root.
        file: PathBuf,
        line: u32,
    },
    /// `IUSE` of an ebuild.
    Ebuild {
        /// The package with its version.
        version: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment { place, .. } => place.fmt(f),
            Self::Profile { source } => source.fmt(f),
            Self::Stage3 { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Ebuild { version } => f.write_str(version),
        }
    }
}

/// A statement, in Portage's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Step {
    pub origin: Origin,
    /// Its subject: the variable, or the file of `package.*` and the atom.
    pub about: String,
    pub said: String,
    pub outcome: Outcome,
}

/// Whether a flag is on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FlagExplained {
    pub flag: String,
    /// The version of the package; `None` for all packages.
    pub version: Option<String>,
    pub enabled: bool,
    /// Whether the package has it; `None` if unknown.
    pub exists: Option<bool>,
    /// The statements about it.
    pub steps: Vec<Step>,
    /// For all packages: lines about single ones.
    pub elsewhere: Vec<PackageNote>,
}

/// What a question is about.
#[derive(Debug, Clone)]
struct Heard {
    origin: Origin,
    about: String,
    said: String,
}

/// Answers questions about one stage.
#[derive(Debug)]
pub(crate) struct Explainer<'a> {
    portage: &'a PortageDir,
    around: &'a Surroundings,
    /// The profile, with the user's own on top.
    stack: Option<ProfileStack>,
    /// Cached, since many packages are asked about.
    licence_groups: OnceCell<LicenceGroups>,
}

impl<'a> Explainer<'a> {
    /// For `portage`, with the inputs `around`.
    pub(crate) fn new(portage: &'a PortageDir, around: &'a Surroundings) -> Self {
        let mut stack = around.profile.clone();
        if let Some(stack) = &mut stack {
            stack.push_user(user_profile(portage));
        }
        Self { portage, around, stack, licence_groups: OnceCell::new() }
    }

    /// The subject of `word`: `USE`, `USE:ssl`, `VIDEO_CARDS:amdgpu`, `app-misc/hello`, `app-misc/hello:nls`, `app-misc/hello:0:nls`.
    pub(crate) fn subject(&self, word: &str) -> Result<Subject> {
        let (name, entry) = word.split_once(':').map_or((word, None), |(name, entry)| (name, Some(entry)));
        let is_variable = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_variable {
            return Ok(match entry.filter(|entry| !entry.is_empty()) {
                None => Subject::Variable(name.to_owned()),
                Some(flag) if name == "USE" => Subject::Flag(flag.to_owned()),
                Some(value) if self.is_expanded(name)? => Subject::Flag(format!("{}_{value}", name.to_lowercase())),
                Some(entry) => Subject::Entry(name.to_owned(), entry.to_owned()),
            });
        }
        if !word.contains('/') {
            let mut packages = Vec::new();
            for repository in &self.around.repositories {
                packages.extend(repository.packages()?.into_iter().filter(|package| package.ends_with(&format!("/{name}"))));
            }
            packages.dedup();
            return Err(ExplainError::Subject { word: word.to_owned(), packages });
        }
        self.package_subject(word)
    }

    /// In `cat/pkg:X`, X can be a slot or a flag.
    fn package_subject(&self, word: &str) -> Result<Subject> {
        let parse = |text: &str| text.parse::<Atom>().map_err(|source| ExplainError::Atom { word: word.to_owned(), source });
        let single = word.replace("::", "\0\0");
        let Some((rest, last)) = single.rsplit_once(':').filter(|(_, last)| !last.contains('\0')) else {
            return Ok(Subject::Package(parse(word)?));
        };
        let (rest, last) = (rest.replace("\0\0", "::"), last.to_owned());
        let atom = parse(&rest)?;
        let (mut is_flag, mut is_slot) = (false, false);
        for ebuild in self.ebuilds(&atom)? {
            is_flag |= ebuild.flags().any(|flag| flag == last);
            is_slot |= ebuild.version.slot.as_deref().is_some_and(|slot| slot == last || slot.split('/').next() == Some(&last));
        }
        // If neither is known: slots are mostly numbers.
        let looks_like_a_slot = last.starts_with(|c: char| c.is_ascii_digit()) || last.contains(['/', '=', '*', '.']);
        if !is_flag && (is_slot || looks_like_a_slot) && atom.slot.is_none() {
            return Ok(Subject::Package(parse(word)?));
        }
        Ok(Subject::PackageFlag(atom, last))
    }

    /// Whether a flag is on for all packages without more specific lines.
    pub(crate) fn flag(&self, flag: &str) -> Result<FlagExplained> {
        let words = self.global_words()?;
        let explained = explained(&words, flag, &BTreeSet::new());
        let mut elsewhere = Vec::new();
        for entry in self.portage.entries(LineFile::Use).filter(|entry| entry.atom != "*/*") {
            elsewhere.extend(entry.words().filter(|word| word.switch.name() == flag).map(|word| PackageNote {
                file: LineFile::Use.file_name(),
                atom: entry.atom.to_owned(),
                said: word.switch.to_string(),
                places: word.places.to_vec(),
            }));
        }
        if explained.steps.is_empty() && elsewhere.is_empty() {
            let known = flags_named(&words);
            let nearest = nearest(flag, &known).map(str::to_owned);
            let known = self.portage.list("USE").unwrap_or_default();
            let known = known.iter().map(|entry| entry.switch.name().to_owned()).collect();
            return Err(ExplainError::NoEntry { variable: "USE".to_owned(), entry: flag.to_owned(), nearest, known });
        }
        Ok(FlagExplained { elsewhere, ..explained })
    }

    /// The values for references in `make.conf`: Portage's defaults, the profile, the stage3's own `make.conf`.
    fn known(&self) -> Result<Known> {
        let mut known = Known::new();
        // `make.globals` contains commands, which are no references.
        if let Some(text) = &self.around.make_globals {
            drop(evaluate(text, &source_of(MAKE_GLOBALS), &mut known));
        }
        for node in self.stack.iter().flat_map(|stack| &stack.nodes) {
            node.make_defaults(&mut known)?;
        }
        if let Some(text) = &self.around.make_conf {
            drop(evaluate(text, &source_of(STAGE3_MAKE_CONF), &mut known));
        }
        Ok(known)
    }

    /// The words of a list of the profile, stacked.
    fn stacked(&self, name: &str) -> Result<Vec<String>> {
        let mut known = Known::new();
        let mut values: Vec<String> = Vec::new();
        for node in self.stack.iter().flat_map(|stack| &stack.nodes) {
            for default in node.make_defaults(&mut known)?.into_iter().filter(|default| default.name == name) {
                for (word, _) in default.words {
                    match word.strip_prefix('-') {
                        Some("*") => values.clear(),
                        Some(word) => values.retain(|value| value != word),
                        None if !values.contains(&word) => values.push(word),
                        None => {}
                    }
                }
            }
        }
        Ok(values)
    }

    /// Whether the values of a variable are flags with its name as prefix.
    fn is_expanded(&self, name: &str) -> Result<bool> {
        let expand = self.stacked("USE_EXPAND")?;
        if !expand.is_empty() {
            return Ok(expand.iter().any(|variable| variable == name));
        }
        Ok(use_flags::is_use_expand(name) || use_flags::is_single_valued(name))
    }

    /// The lines of these files that match a version, the most specific last.
    fn meaning(&self, files: &[LineFile], version: &Version) -> Vec<AtomEntry<'_>> {
        let entries = files.iter().flat_map(|file| self.portage.entries(*file));
        let (entries, atoms): (Vec<_>, Vec<Atom>) =
            entries.filter_map(|entry| entry.atom.parse().ok().map(|atom| (entry, atom))).unzip();
        let atoms: Vec<&Atom> = atoms.iter().collect();
        by_specificity(&atoms, version).into_iter().map(|index| entries[index]).collect()
    }

    fn fragment(&self, touch: &Touch) -> Origin {
        Origin::Fragment {
            fragment: self.portage.fragment_of(touch).to_owned(),
            place: touch.place.clone(),
            overrides: touch.overrides,
        }
    }
}

/// The statements about a list, without those that a later assignment of the same fragment replaced.
fn switches(touches: &[Touch]) -> impl Iterator<Item = (&Touch, &Switch)> {
    touches.iter().filter_map(|touch| match &touch.said {
        Said::Switch(switch) => Some((touch, switch)),
        _ => None,
    })
}

fn explained(words: &[Word<Heard>], flag: &str, iuse: &BTreeSet<String>) -> FlagExplained {
    let verdict = verdict(words, flag, iuse);
    let steps = verdict.said.iter().map(|&(index, outcome)| step(&words[index], outcome)).collect();
    FlagExplained { flag: flag.to_owned(), version: None, enabled: verdict.enabled, exists: None, steps, elsewhere: Vec::new() }
}

/// Portage's own defaults.
pub(crate) const MAKE_GLOBALS: &str = "/usr/share/portage/config/make.globals";
/// A stage3's `make.conf`.
pub(crate) const STAGE3_MAKE_CONF: &str = "/etc/portage/make.conf";

fn source_of(file: &str) -> Source {
    Source { repository: None, file: file.into(), line: 0 }
}

/// The place of a line outside of the fragments. A value with references also has lines of other files.
fn outside(source: &Source) -> Origin {
    let of_stage3 =
        [MAKE_GLOBALS, STAGE3_MAKE_CONF].iter().any(|name| source.repository.is_none() && source.file == Path::new(name));
    if of_stage3 {
        return Origin::Stage3 { file: source.file.clone(), line: source.line };
    }
    Origin::Profile { source: source.clone() }
}

fn step(word: &Word<Heard>, outcome: Outcome) -> Step {
    let Heard { origin, about, said } = word.origin.clone();
    let about = match word.layer {
        Layer::Ebuild => "IUSE".to_owned(),
        _ => about,
    };
    Step { origin, about, said, outcome }
}

fn flags_named(words: &[Word<Heard>]) -> Vec<String> {
    let names: BTreeSet<String> =
        words.iter().map(|word| word.origin.said.trim_start_matches('-').to_owned()).filter(|name| !name.contains('=')).collect();
    names.into_iter().collect()
}

/// The files of `/etc/portage/profile`, which fragments may contain.
fn user_profile(portage: &PortageDir) -> Vec<LooseFile> {
    let mut files = Vec::new();
    for (path, bytes) in &portage.files {
        let (Ok(below), Some(text)) = (path.strip_prefix("profile"), effective::text(bytes)) else { continue };
        let told_as = portage.sources(path).first().cloned().unwrap_or_else(|| Path::new("/etc/portage").join(path));
        files.push(LooseFile { path: below.to_owned(), told_as, text: text.to_owned() });
    }
    files
}

#[cfg(test)]
mod tests;
