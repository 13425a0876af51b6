//! Stage3 and stage4 definitions: what a stage is made of.
//!
//! ```text
//! stage3.defines/NAME/                       stage4.defines/NAME/
//!   cpu              one of cpu.defines        profile    the bootstrapped profile to start from
//!   portage.local    some of portage.locals    stage3     one of stage3.defines
//!   packages         atoms and sets            packages, scripts, network   as on the left
//!   portage.profile  Portage profile           kconf      one of kernel.configs
//!   scripts          some of user.scripts      removes    some of user.removes, or paths
//!   network          who may use it            kernel.sources   what the kernel is built from, if not what kconf says
//!   binpkgs          own, or shared            keep       paths that are otherwise left out
//!   binhost          none, first or any        format     tar.xz, tar.zst, tar.gz, oci or squashfs
//!                                              oci        how a container runs it
//! ```
//!
//! Every file is optional but `profile` and `stage3`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::binary_packages::BinaryPackages;
use super::diagnostic::{Diagnostic, Findings, Located, Place};
use super::names::Shape;
use super::oci::OciConfig;
use super::packages::Package;
use super::{binary_packages, kernel, names, oci, packages, reading};
use crate::did_you_mean::{nearest, question};
use crate::patterns::PathPattern;
use crate::portage::atom::Atom;
use crate::portage::profile::PortageProfile;

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
    /// Which binary packages it may use; its stage4s may use the same.
    pub binary_packages: BinaryPackages,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

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
    /// The kernel sources from its `kernel.sources`, or from `kernel.defines` of an older layout.
    pub kernel_sources: Option<Located<Atom>>,
    /// What is installed; sets of `package.sets` are resolved.
    pub packages: Vec<Located<Package>>,
    /// What is run after the packages are installed, in order.
    pub scripts: Vec<UserScript>,
    /// What is removed after the scripts.
    pub removes: Vec<Located<PathPattern>>,
    /// Default exclusions of artifacts that are brought back.
    pub keep: Vec<Located<PathPattern>>,
    /// Format of the artifact, if it names one.
    pub format: Option<Located<ArtifactFormat>>,
    /// The container configuration of its image.
    pub oci: Option<OciConfig>,
    /// Who may use the network while building.
    pub network: NetworkUse,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// A script of `user.scripts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserScript {
    /// Its name, with the place that names it.
    pub name: Located<String>,
    /// Absolute path.
    pub path: PathBuf,
    /// Content, as it was when the configuration was read.
    pub contents: Vec<u8>,
}

/// Who may use the host's network during a build; by default nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// The line with `*`: everything.
    pub everything: Option<Place>,
    /// Packages that may, such as live ebuilds.
    pub atoms: Vec<Located<Atom>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ArtifactFormat {
    /// `tar.xz`
    TarXz,
    /// `tar.zst`
    TarZst,
    /// `tar.gz`
    TarGz,
    /// `tar`, not compressed.
    Tar,
    /// `oci`: an OCI image layout.
    Oci,
    /// `squashfs`
    Squashfs,
}

impl ArtifactFormat {
    pub const ALL: [Self; 6] = [Self::TarXz, Self::TarZst, Self::TarGz, Self::Tar, Self::Oci, Self::Squashfs];
}

impl fmt::Display for ArtifactFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TarXz => "tar.xz",
            Self::TarZst => "tar.zst",
            Self::TarGz => "tar.gz",
            Self::Tar => "tar",
            Self::Oci => "oci",
            Self::Squashfs => "squashfs",
        })
    }
}

/// Not a format of artifacts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no format; there are `tar.xz`, `tar.zst`, `tar.gz`, `tar`, `oci` and `squashfs`")]
pub struct UnknownFormat(String);

impl FromStr for ArtifactFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.to_string() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

const STAGE3_FILES: [&str; 9] = [
    "cpu",
    "portage.local",
    "flags",
    "packages",
    "portage.profile",
    "scripts",
    "network",
    binary_packages::FILES[0],
    binary_packages::FILES[1],
];
/// Files of older layouts, with their replacements.
const OLD_FILES: [(&str, &str); 3] = [
    ("hooks", "list scripts in `scripts`; scripts for every stage go to `hooks/PHASE.d/NN-NAME.sh`"),
    ("kernel_src", "name the kernel sources in `kernel.sources` of a stage4 definition"),
    ("kernel", "name the kernel configuration in `kconf` of a stage4 definition"),
];
const STAGE4_FILES: [&str; 11] =
    ["profile", "stage3", "kconf", kernel::SOURCES, "packages", "scripts", "removes", "keep", "format", "oci", "network"];

pub(crate) fn read_stage3(findings: &mut Findings<'_>, name: &str, dir: &Path) -> Stage3Definition {
    check_files(findings, dir, &STAGE3_FILES);
    let cpu = reading::single(findings, &dir.join("cpu"));
    if let Some(cpu) = &cpu {
        names::find(findings, "cpu.defines", Shape::Fragment, "CPU definition", cpu);
    }
    Stage3Definition {
        name: name.to_owned(),
        cpu,
        portage_locals: read_portage_locals(findings, dir),
        packages: packages::read(findings, &dir.join("packages")),
        portage_profile: read_parsed(findings, &dir.join("portage.profile")),
        scripts: read_scripts(findings, dir),
        network: read_network(findings, dir),
        binary_packages: binary_packages::read(findings, dir),
        notes: Vec::new(),
    }
}

pub(crate) fn read_stage4(findings: &mut Findings<'_>, name: &str, dir: &Path) -> Option<Stage4Definition> {
    check_files(findings, dir, &STAGE4_FILES);
    let profile = required(findings, dir, "profile", "the bootstrapped profile to start from, for example `demo`");
    if let Some(profile) = profile.as_ref().filter(|profile| !names::is_profile_name(&profile.value)) {
        findings.error_with_hint(
            &profile.place(),
            format!("`{}` is no name of a profile", profile.value.escape_debug()),
            "the name given to `gentoomuch bootstrap`: letters, digits and `._+-`, not beginning with `.` or `-`",
        );
    }
    let stage3 = required(findings, dir, "stage3", "the stage3 definition to apply first");
    if let Some(stage3) = &stage3 {
        names::find(findings, "stage3.defines", Shape::Directory, "stage3 definition", stage3);
    }
    let kernel = reading::single(findings, &dir.join("kconf")).and_then(|kconf| kernel::find(findings, &kconf));
    let (kconf, kernel_sources) = kernel.map_or((None, None), |kernel| (Some(kernel.path), kernel.sources));
    let kernel_sources = kernel::read_chosen(findings, dir).or(kernel_sources);
    let packages = packages::read(findings, &dir.join("packages"));
    let scripts = read_scripts(findings, dir);
    let removes = read_removes(findings, dir);
    let keep = reading::list(findings, &dir.join("keep")).unwrap_or_default();
    let keep = keep.iter().filter_map(|entry| parsed(findings, entry)).collect();
    let format = read_parsed(findings, &dir.join("format"));
    let oci = oci::read(findings, &dir.join("oci"));
    let network = read_network(findings, dir);
    Some(Stage4Definition {
        name: name.to_owned(),
        profile: profile?,
        stage3: stage3?,
        kconf,
        kernel_sources,
        packages,
        scripts,
        removes,
        keep,
        format,
        oci,
        network,
        notes: Vec::new(),
    })
}

/// Warns about files that are not read: a misspelt `packages` would make an empty stage.
fn check_files(findings: &mut Findings<'_>, dir: &Path, known: &[&str]) {
    for entry in reading::entries_of(findings, dir) {
        if entry.is_dir || known.contains(&entry.name.as_str()) {
            continue;
        }
        let place = Place::whole(&dir.join(&entry.name));
        if let Some((_, replacement)) = OLD_FILES.iter().find(|(name, _)| *name == entry.name) {
            findings.warning(&place, "this file of an older layout is not read", *replacement);
            continue;
        }
        let hint = match nearest(&entry.name, known) {
            Some(near) => question(near),
            None => format!("a definition has {}", known.join(", ")),
        };
        findings.warning(&place, "this file of the definition is not read", hint);
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
                "there are both `flags` and `portage.local`",
                "`flags` is the old name; move its lines into `portage.local` and remove it",
            );
        } else {
            findings.warning(&Place::whole(&old), "`flags` is an old name", "rename the file to `portage.local`");
            entries = Some(old_entries);
        }
    }
    let entries = entries.unwrap_or_default();
    for entry in &entries {
        names::find(findings, "portage.locals", Shape::Fragment, "Portage fragment", entry);
    }
    entries
}

fn read_scripts(findings: &mut Findings<'_>, dir: &Path) -> Vec<UserScript> {
    let mut scripts = Vec::new();
    for name in reading::list(findings, &dir.join("scripts")).unwrap_or_default() {
        let Some(path) = names::find(findings, "user.scripts", Shape::File, "script", &name) else { continue };
        let Some(contents) = read_script(findings, &path) else { continue };
        scripts.push(UserScript { name, path: findings.root().join(path), contents });
    }
    scripts
}

/// A script of `user.scripts`. It need not be executable, since not every checkout keeps that bit.
pub(crate) fn read_script(findings: &mut Findings<'_>, path: &Path) -> Option<Vec<u8>> {
    let (contents, _) = reading::bytes(findings, path)?;
    if contents.iter().all(u8::is_ascii_whitespace) {
        findings.error_with_hint(
            &Place::whole(path),
            "the script is empty",
            "write the script, or remove it and the lines that \
            name it",
        );
    } else if contents.starts_with(b"#!") && contents.split(|byte| *byte == b'\n').next().is_some_and(|line| line.ends_with(b"\r"))
    {
        findings.error_with_hint(
            &Place::new(path, 1),
            "the script has the line ends of another system: its interpreter would not be found",
            "save it with Unix line ends: `sed -i 's/\\r$//'`",
        );
    } else if !contents.starts_with(b"#!") {
        findings.warning(
            &Place::new(path, 1),
            "the script has no `#!` line, so `/bin/sh` runs it",
            "begin it with `#!/bin/bash` or another interpreter of the root",
        );
    }
    Some(contents)
}

fn read_removes(findings: &mut Findings<'_>, dir: &Path) -> Vec<Located<PathPattern>> {
    let mut patterns = Vec::new();
    for entry in reading::list(findings, &dir.join("removes")).unwrap_or_default() {
        if entry.value.starts_with('/') {
            patterns.extend(parsed(findings, &entry));
        } else if let Some(path) = names::find(findings, "user.removes", Shape::File, "list of removals", &entry) {
            patterns.extend(read_removal(findings, &path));
        }
    }
    patterns
}

/// A list of `user.removes`. Paths are from the root even without a leading `/`, as in the old tool.
pub(crate) fn read_removal(findings: &mut Findings<'_>, path: &Path) -> Vec<Located<PathPattern>> {
    let mut patterns = Vec::new();
    for mut line in reading::list(findings, path).unwrap_or_default() {
        if !line.value.starts_with('/') {
            line.value.insert(0, '/');
        }
        patterns.extend(parsed(findings, &line));
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
