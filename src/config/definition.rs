//! Stage3 and stage4 definitions: what a stage is made of.
//!
//! ```text
//! stage3.defines/NAME/                       stage4.defines/NAME/
//!   cpu              one of cpu.defines        profile    the bootstrapped profile to start from
//!   portage.local    some of portage.locals    stage3     one of stage3.defines
//!   packages         atoms and sets            packages, scripts, network   as on the left
//!   portage.profile  Portage profile           kconf      one of kernel.configs
//!   scripts          some of user.scripts      removes    some of user.removes, or paths
//!   network          who may use it            keep       paths that are otherwise left out
//!                                              format     tar.xz, tar.zst or tar.gz
//! ```
//!
//! Every file is optional but `profile` and `stage3`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::diagnostic::{Diagnostic, Findings, Located, Place};
use super::names::{self, Shape};
use super::packages::{self, Package};
use super::patterns::PathPattern;
use super::reading;
use crate::portage::atom::Atom;
use crate::portage::profile::PortageProfile;

/// A stage3 definition.
#[derive(Debug, Clone)]
pub struct Stage3Definition {
    /// Its name, nested ones with `/`.
    pub name: String,
    /// Name of the fragment below `cpu.defines`.
    pub cpu: Option<Located<String>>,
    /// Names of fragments below `portage.locals`, in order.
    pub portage_locals: Vec<Located<String>>,
    /// What is installed; sets of `package.sets` are resolved.
    pub packages: Vec<Located<Package>>,
    /// The Portage profile, if not the stage3's own.
    pub portage_profile: Option<Located<PortageProfile>>,
    /// What is run after the packages are installed, in order.
    pub scripts: Vec<UserScript>,
    /// Who may use the network while building.
    pub network: NetworkUse,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// A stage4 definition.
#[derive(Debug, Clone)]
pub struct Stage4Definition {
    /// Its name, nested ones with `/`.
    pub name: String,
    /// The bootstrapped profile that it starts from.
    pub profile: Located<String>,
    /// The stage3 definition that is applied to the profile first.
    pub stage3: Located<String>,
    /// Kernel configuration, relative to the configuration directory.
    pub kconf: Option<Located<PathBuf>>,
    /// What is installed; sets of `package.sets` are resolved.
    pub packages: Vec<Located<Package>>,
    /// What is run after the packages are installed, in order.
    pub scripts: Vec<UserScript>,
    /// What is removed after the scripts.
    pub removes: Vec<Located<PathPattern>>,
    /// What is brought back of the things that an artifact leaves out by default.
    pub keep: Vec<Located<PathPattern>>,
    /// Format of the artifact, if it names one.
    pub format: Option<Located<ArtifactFormat>>,
    /// Who may use the network while building.
    pub network: NetworkUse,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// A script of `user.scripts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserScript {
    /// Its name, with the place that asks for it.
    pub name: Located<String>,
    /// Absolute path.
    pub path: PathBuf,
    /// Content, as it was when the configuration was read.
    pub contents: Vec<u8>,
}

/// Who may use the host's network in a build, which has none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// The line that says `*`: everything.
    pub everything: Option<Place>,
    /// Packages that may, such as live ebuilds.
    pub atoms: Vec<Located<Atom>>,
}

impl NetworkUse {
    /// Whether nothing may use the network.
    pub fn is_none(&self) -> bool {
        self.everything.is_none() && self.atoms.is_empty()
    }
}

/// Format of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ArtifactFormat {
    /// `tar.xz`
    TarXz,
    /// `tar.zst`
    TarZst,
    /// `tar.gz`
    TarGz,
}

impl ArtifactFormat {
    const ALL: [Self; 3] = [Self::TarXz, Self::TarZst, Self::TarGz];
}

impl fmt::Display for ArtifactFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TarXz => "tar.xz",
            Self::TarZst => "tar.zst",
            Self::TarGz => "tar.gz",
        })
    }
}

/// A format that no artifact has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no format; there are `tar.xz`, `tar.zst` and `tar.gz`")]
pub struct UnknownFormat(String);

impl FromStr for ArtifactFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.to_string() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

const STAGE3_FILES: [&str; 7] = ["cpu", "portage.local", "flags", "packages", "portage.profile", "scripts", "network"];
const STAGE4_FILES: [&str; 9] = ["profile", "stage3", "kconf", "packages", "scripts", "removes", "keep", "format", "network"];

pub(crate) fn read_stage3(findings: &mut Findings<'_>, name: &str, dir: &Path) -> Stage3Definition {
    check_files(findings, dir, &STAGE3_FILES);
    let cpu = reading::single(findings, &dir.join("cpu"));
    if let Some(cpu) = &cpu {
        names::find(findings, "cpu.defines", Shape::Directory, "CPU definition", cpu);
    }
    Stage3Definition {
        name: name.to_owned(),
        cpu,
        portage_locals: read_portage_locals(findings, dir),
        packages: packages::read(findings, &dir.join("packages")),
        portage_profile: read_parsed(findings, &dir.join("portage.profile")),
        scripts: read_scripts(findings, dir),
        network: read_network(findings, dir),
        notes: Vec::new(),
    }
}

pub(crate) fn read_stage4(findings: &mut Findings<'_>, name: &str, dir: &Path) -> Option<Stage4Definition> {
    check_files(findings, dir, &STAGE4_FILES);
    let profile = required(findings, dir, "profile", "the bootstrapped profile to start from, for example `demo`");
    if let Some(profile) = profile.as_ref().filter(|profile| !names::is_name(&profile.value)) {
        findings.error(&profile.place(), format!("`{}` is no name of a profile", profile.value.escape_debug()));
    }
    let stage3 = required(findings, dir, "stage3", "the stage3 definition to apply first");
    if let Some(stage3) = &stage3 {
        names::find(findings, "stage3.defines", Shape::Directory, "stage3 definition", stage3);
    }
    let kconf = reading::single(findings, &dir.join("kconf")).and_then(|kconf| read_kconf(findings, &kconf));
    let packages = packages::read(findings, &dir.join("packages"));
    let scripts = read_scripts(findings, dir);
    let removes = read_removes(findings, dir);
    let keep = reading::list(findings, &dir.join("keep")).unwrap_or_default();
    let keep = keep.iter().filter_map(|entry| parsed(findings, entry)).collect();
    let format = read_parsed(findings, &dir.join("format"));
    let network = read_network(findings, dir);
    Some(Stage4Definition {
        name: name.to_owned(),
        profile: profile?,
        stage3: stage3?,
        kconf,
        packages,
        scripts,
        removes,
        keep,
        format,
        network,
        notes: Vec::new(),
    })
}

/// Warns of files that are not read: a misspelt `packages` would make an empty stage.
fn check_files(findings: &mut Findings<'_>, dir: &Path, known: &[&str]) {
    for entry in reading::entries_of(findings, dir) {
        if entry.is_dir || known.contains(&entry.name.as_str()) {
            continue;
        }
        let hint = match names::nearest(&entry.name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("a definition has {}", known.join(", ")),
        };
        findings.warning(&Place::whole(&dir.join(&entry.name)), "this file of the definition is not read", hint);
    }
}

fn required(findings: &mut Findings<'_>, dir: &Path, file: &str, what: &str) -> Option<Located<String>> {
    let value = reading::single(findings, &dir.join(file));
    if value.is_none() {
        findings.error_with_hint(
            &Place::whole(&dir.join(file)),
            "the definition lacks this file, or it is empty",
            format!("write one line: {what}"),
        );
    }
    value
}

fn read_portage_locals(findings: &mut Findings<'_>, dir: &Path) -> Vec<Located<String>> {
    let (file, old) = (dir.join("portage.local"), dir.join("flags"));
    let mut entries = reading::list(findings, &file);
    if let Some(old_entries) = reading::list(findings, &old) {
        if entries.is_some() {
            findings.error_with_hint(
                &Place::whole(&old),
                "both `flags` and `portage.local` are there",
                "`flags` is the old name; move its lines into `portage.local` and remove it",
            );
        } else {
            findings.warning(&Place::whole(&old), "`flags` is an old name", "rename the file to `portage.local`");
            entries = Some(old_entries);
        }
    }
    let entries = entries.unwrap_or_default();
    for entry in &entries {
        names::find(findings, "portage.locals", Shape::Directory, "Portage fragment", entry);
    }
    entries
}

fn read_scripts(findings: &mut Findings<'_>, dir: &Path) -> Vec<UserScript> {
    let mut scripts = Vec::new();
    for name in reading::list(findings, &dir.join("scripts")).unwrap_or_default() {
        let Some(path) = names::find(findings, "user.scripts", Shape::File, "script", &name) else { continue };
        let Some((contents, _)) = reading::bytes(findings, &path) else { continue };
        if !contents.starts_with(b"#!") {
            findings.error_with_hint(
                &Place::new(&path, 1),
                "the script does not say what runs it",
                "begin it with `#!/bin/bash` or another interpreter that the root has",
            );
        }
        scripts.push(UserScript { name, path: findings.root().join(path), contents });
    }
    scripts
}

fn read_removes(findings: &mut Findings<'_>, dir: &Path) -> Vec<Located<PathPattern>> {
    let mut patterns = Vec::new();
    for entry in reading::list(findings, &dir.join("removes")).unwrap_or_default() {
        if entry.value.starts_with('/') {
            patterns.extend(parsed(findings, &entry));
        } else if let Some(path) = names::find(findings, "user.removes", Shape::File, "list of removals", &entry) {
            let lines = reading::list(findings, &path).unwrap_or_default();
            patterns.extend(lines.iter().filter_map(|line| parsed(findings, line)));
        }
    }
    patterns
}

fn read_network(findings: &mut Findings<'_>, dir: &Path) -> NetworkUse {
    let mut network = NetworkUse::default();
    for entry in reading::list(findings, &dir.join("network")).unwrap_or_default() {
        if entry.value == "*" {
            network.everything.get_or_insert(entry.place());
        } else {
            network.atoms.extend(parsed(findings, &entry));
        }
    }
    network
}

fn read_kconf(findings: &mut Findings<'_>, kconf: &Located<String>) -> Option<Located<PathBuf>> {
    let name = kconf.with(format!("{}.kconf", kconf.value.strip_suffix(".kconf").unwrap_or(&kconf.value)));
    let path = names::find(findings, "kernel.configs", Shape::File, "kernel configuration", &name)?;
    Some(kconf.with(path))
}

fn read_parsed<T>(findings: &mut Findings<'_>, file: &Path) -> Option<Located<T>>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let entry = reading::single(findings, file)?;
    parsed(findings, &entry)
}

fn parsed<T>(findings: &mut Findings<'_>, entry: &Located<String>) -> Option<Located<T>>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    match entry.value.parse() {
        Ok(value) => Some(entry.with(value)),
        Err(error) => {
            findings.error(&entry.place(), error.to_string());
            None
        }
    }
}
