//! Reads the configuration directory into typed values that know their file and line.
//!
//! ```text
//! env/                    arch, jobs, sign_key, tree            [`Env`]
//! stage3.defines/NAME/    what a base is made of                [`Stage3Definition`]
//! stage4.defines/NAME/    what an artifact is made of           [`Stage4Definition`]
//! cpu.defines/NAME/       ┐
//! portage.global/         ├ fragments of a Portage directory    merged into a [`PortageDir`]
//! portage.locals/NAME/    │
//! user.patches/PATCH/     ┘ also by themselves                  [`patches::SavedPatch`]s
//! package.sets/NAME       named lists of packages               resolved into [`Package`]s
//! kernel.configs/NAME.kconf, user.scripts/NAME, user.removes/NAME, hooks/PHASE.d/NN-NAME.sh
//! keys/                   trusted keys: read by `stage3::keys`
//! ```
//!
//! All errors are collected, so that one run reports all of them, sorted by file and line: [`Error::Invalid`]. Warnings and notes are
//! returned with the values.

mod binary_packages;
mod check;
pub(crate) mod cpu;
mod definition;
mod diagnostic;
mod effective;
pub(crate) mod env;
pub(crate) mod explain;
mod fate;
mod fragment;
mod graph;
mod history;
pub(crate) mod hooks;
pub(crate) mod init;
pub(crate) mod kconfig;
mod kernel;
mod mentions;
mod merge;
mod merged;
mod names;
mod oci;
mod packages;
pub(crate) mod patches;
mod portage_dir;
pub(crate) mod proposal;
mod reading;
mod repos_conf;
pub(crate) mod resources;
mod secrets;
pub(crate) mod slurm;
pub(crate) mod source;
mod stage;
mod switches;
mod terms;
mod variables;

use std::io;
use std::path::{Path, PathBuf};

use crate::did_you_mean::nearest;
use crate::portage::make_conf::Piece;
use diagnostic::Findings;
use fragment::Fragment;
use merge::Merge;
use names::Shape;

pub use crate::patterns::PathPattern;
pub(crate) use binary_packages::BinaryPackages;
pub use definition::ArtifactFormat;
pub(crate) use definition::{NetworkUse, Stage3Definition, Stage4Definition, UserScript};
pub(crate) use diagnostic::{Diagnostic, Diagnostics, Located, Place, Severity};
pub(crate) use effective::{Effective, EffectiveFile};
pub use env::write_pin;
pub(crate) use env::{Env, RemoteAt, TreePin};
pub(crate) use graph::{Graph, Node, NodeKind, Unused};
pub use kernel::with_header as with_kernel_header;
pub(crate) use kernel::{DEFAULT_SOURCES, KernelConfig, parse_kernel_sources};
pub use oci::{LayerCompression, OciConfig};
pub(crate) use packages::{NO_SET, Package};
pub(crate) use portage_dir::MAKE_CONF;
pub use portage_dir::PortageDir;
pub(crate) use reading::counts;
pub(crate) use repos_conf::{REPOS_DIR, is_repository_name};
pub(crate) use stage::Stage;
pub(crate) use terms::{Difference, Terms, Topic, differences};

pub(crate) use kernel::sources_label;
pub(crate) use names::is_definition_name;

/// Name of the stage3 definition that `bootstrap` applies to make the builder.
pub(crate) const BUILDER: &str = "gentoomuch/builder";
/// Its name in the newest layout of the original tool.
const OLD_BUILDER: &str = "gentoomuch-builder";

/// Errors of a configuration directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("there is no configuration directory at `{0}`")]
    Missing(PathBuf),
    /// Something else has its name.
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    /// It cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// What could not be read.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A definition that does not exist, asked for by name.
    #[error("there is no {what} `{name}` in `{}`", .folder.display())]
    Unknown {
        /// "stage3 definition" or "stage4 definition".
        what: &'static str,
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// The nearest spelling, if one is near.
        nearest: Option<String>,
        known: Vec<String>,
    },
    /// Nobody can tell from it which definitions are gone.
    #[error("there are no definitions in `{0}`")]
    NoDefinitions(PathBuf),
    /// It has errors.
    #[error("{0}")]
    Invalid(Diagnostics),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A configuration directory. It is read on demand and never written.
#[derive(Debug, Clone)]
pub struct ConfigDir {
    root: PathBuf,
}

impl ConfigDir {
    /// The directory at `root`, which must exist.
    pub fn open(root: &Path) -> Result<Self> {
        match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { root: root.to_owned() }),
            Ok(_) => Err(Error::NotADirectory(root.to_owned())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Error::Missing(root.to_owned())),
            Err(source) => Err(Error::Read { path: root.to_owned(), source }),
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings of `env/`. `default_arch` is Gentoo's keyword for this machine.
    pub fn env(&self, default_arch: &str) -> Result<Env> {
        let mut findings = Findings::new(&self.root);
        let env = env::read(&mut findings, default_arch);
        let (mut env, notes) = findings.finish(env)?;
        env.notes = notes;
        Ok(env)
    }

    /// What `env/ccache` says, whatever errors the rest of `env/` has.
    pub fn ccache(&self) -> Result<Option<u64>> {
        let mut findings = Findings::new(&self.root);
        let ccache = env::read_ccache(&mut findings, Path::new("env/ccache"));
        findings.finish(ccache).map(|(ccache, _)| ccache)
    }

    /// What `env/jobs`, `env/nice`, `env/ionice` and `env/tmpfs` say, whatever errors the rest of `env/` has.
    pub fn resources(&self) -> Result<resources::Resources> {
        let mut findings = Findings::new(&self.root);
        let resources = resources::read(&mut findings);
        findings.finish(resources).map(|(resources, _)| resources)
    }

    /// The limits in `env/limits`, whatever errors the rest of `env/` has.
    pub fn limits(&self) -> Result<crate::limits::Asked> {
        let mut findings = Findings::new(&self.root);
        let limits = env::read_limits(&mut findings, Path::new("env/limits"));
        findings.finish(limits).map(|(limits, _)| limits)
    }

    /// What `env/slurm` says, whatever errors the rest of `env/` has.
    pub(crate) fn slurm(&self) -> Result<slurm::Slurm> {
        let mut findings = Findings::new(&self.root);
        let slurm = slurm::read(&mut findings);
        findings.finish(slurm).map(|(slurm, _)| slurm)
    }

    /// What `env/remote` and `env/remote_key` say, whatever errors the rest of `env/` has.
    pub(crate) fn remote(&self) -> Result<(Option<RemoteAt>, Option<Located<String>>)> {
        let mut findings = Findings::new(&self.root);
        let dir = Path::new("env");
        let remote = (env::read_remote(&mut findings, dir), env::read_remote_key(&mut findings, dir));
        findings.finish(remote).map(|(remote, _)| remote)
    }

    /// Names of all stage3 definitions, sorted.
    pub fn stage3_names(&self) -> Vec<String> {
        names::list(&self.root, "stage3.defines", Shape::Directory)
    }

    /// Names of all stage4 definitions, sorted.
    pub fn stage4_names(&self) -> Vec<String> {
        names::list(&self.root, "stage4.defines", Shape::Directory)
    }

    /// Whether there is a stage3 definition `name`. Unlike [`Self::stage3_names`] it fails if that cannot be known.
    pub(crate) fn has_stage3(&self, name: &str) -> Result<bool> {
        Ok(names::is_name(name) && self.is_there(&self.stage3_dir(name))?)
    }

    /// The same for a stage4 definition.
    pub(crate) fn has_stage4(&self, name: &str) -> Result<bool> {
        Ok(names::is_name(name) && self.is_there(&Path::new("stage4.defines").join(name))?)
    }

    /// Fails if there is no folder of definitions at all: a wrong directory, or one that is not mounted.
    pub(crate) fn check_has_definitions(&self) -> Result<()> {
        let folders = ["stage3.defines", "stage4.defines"].map(Path::new);
        let there = folders.into_iter().map(|folder| self.is_there(folder)).collect::<Result<Vec<_>>>()?;
        if there.contains(&true) { Ok(()) } else { Err(Error::NoDefinitions(self.root.clone())) }
    }

    fn is_there(&self, path: &Path) -> Result<bool> {
        let path = self.root.join(path);
        match std::fs::metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Reads the stage3 definition `name`.
    pub fn stage3(&self, name: &str) -> Result<Stage3Definition> {
        let dir = self.stage3_dir(&self.known_stage3(name)?);
        let mut findings = Findings::new(&self.root);
        let definition = definition::read_stage3(&mut findings, name, &dir);
        let (mut definition, notes) = findings.finish(definition)?;
        definition.notes = notes;
        Ok(definition)
    }

    /// Reads the stage4 definition `name`.
    pub fn stage4(&self, name: &str) -> Result<Stage4Definition> {
        let dir = Path::new("stage4.defines").join(self.known_stage4(name)?);
        let mut findings = Findings::new(&self.root);
        let definition = definition::read_stage4(&mut findings, name, &dir);
        match findings.finish(definition)? {
            (Some(mut definition), notes) => {
                definition.notes = notes;
                Ok(definition)
            }
            // A missing required file is an error, so `finish` has failed before.
            (None, notes) => Err(Error::Invalid(notes.into())),
        }
    }

    /// Where stage4 definitions name the profile `name`. Definitions with errors are skipped: these are reported when they are used.
    pub fn stage4s_on(&self, name: &str) -> Vec<Place> {
        let definitions = self.stage4_names().into_iter().filter_map(|stage4| self.stage4(&stage4).ok());
        definitions.filter(|definition| definition.profile.value == name).map(|definition| definition.profile.place()).collect()
    }

    /// The contents of the set `package.sets/NAME`, including those of its sets; `None` if it does not exist.
    pub fn set(&self, name: &str) -> Result<Option<Vec<Located<Package>>>> {
        let file = Path::new("package.sets").join(name);
        if !names::is_name(name) || !self.root.join(&file).is_file() {
            return Ok(None);
        }
        let mut findings = Findings::new(&self.root);
        let packages = packages::read(&mut findings, &file);
        Ok(Some(findings.finish(packages)?.0))
    }

    /// Merges the fragments that a stage3 definition names.
    pub fn portage_dir(&self, definition: &Stage3Definition) -> Result<PortageDir> {
        let mut findings = Findings::new(&self.root);
        let merge = self.merge(&mut findings, definition);
        let (merge, notes) = findings.finish(merge)?;
        Ok(PortageDir::render(merge, notes))
    }

    /// The value of a variable in `portage.global/make.conf`, which every stage gets; references to other variables are left out.
    pub fn global_variable(&self, name: &str) -> Result<Option<Located<String>>> {
        let dir = Path::new("portage.global");
        if !self.root.join(dir).is_dir() {
            return Ok(None);
        }
        let mut findings = Findings::new(&self.root);
        let fragment = Fragment::read(&mut findings, dir);
        let (fragment, _) = findings.finish(fragment)?;
        let variable = fragment.variables.into_iter().find(|variable| variable.name == name);
        Ok(variable.map(|variable| {
            let text = variable.value.iter().map(|part| match part.piece() {
                Piece::Text { text, .. } => text,
                Piece::Reference { .. } => String::new(),
            });
            Located { value: text.collect(), file: variable.place.file.clone(), line: variable.place.line }
        }))
    }

    /// Where the stage3 definition `name` lies, relative to the directory.
    fn stage3_dir(&self, name: &str) -> PathBuf {
        let folder = Path::new("stage3.defines");
        let is_there = |name: &str| self.root.join(folder).join(name).is_dir();
        folder.join(if name == BUILDER && !is_there(BUILDER) && is_there(OLD_BUILDER) { OLD_BUILDER } else { name })
    }

    fn known_stage3(&self, name: &str) -> Result<String> {
        if name == BUILDER && self.root.join(self.stage3_dir(name)).is_dir() {
            return Ok(name.to_owned());
        }
        self.known("stage3 definition", "stage3.defines", name, || self.stage3_names())
    }

    fn known_stage4(&self, name: &str) -> Result<String> {
        self.known("stage4 definition", "stage4.defines", name, || self.stage4_names())
    }

    fn known(&self, what: &'static str, folder: &str, name: &str, known: impl FnOnce() -> Vec<String>) -> Result<String> {
        if names::is_name(name) && self.root.join(folder).join(name).is_dir() {
            return Ok(name.to_owned());
        }
        let known = known();
        let nearest = nearest(name, &known).map(str::to_owned);
        Err(Error::Unknown { what, name: name.to_owned(), folder: self.root.join(folder), nearest, known })
    }

    fn merge(&self, findings: &mut Findings<'_>, definition: &Stage3Definition) -> Merge {
        let mut dirs = Vec::new();
        dirs.extend(
            definition.cpu.iter().filter_map(|cpu| names::find(findings, "cpu.defines", Shape::Fragment, "CPU definition", cpu)),
        );
        if self.root.join("portage.global").is_dir() {
            dirs.push(PathBuf::from("portage.global"));
        }
        for local in &definition.portage_locals {
            dirs.extend(names::find(findings, "portage.locals", Shape::Fragment, "Portage fragment", local));
        }
        let mut merge = Merge::default();
        for fragment in findings.each(dirs, |findings, dir| Fragment::read(findings, &dir)) {
            merge.add(findings, fragment);
        }
        patches::add(findings, &mut merge);
        merge.finish(findings);
        merge
    }
}

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
