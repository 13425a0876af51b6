//! Saved patches: which packages they are for, and Portage's order of applying them.
//!
//! ```text
//! user.patches/PATCH/CATEGORY/PACKAGE[-VERSION[-rN]][:SLOT]/FILE.patch       as the user keeps them
//! /etc/portage/patches/CATEGORY/PACKAGE…/PATCH-FILE.patch                    as a stage gets them
//!
//! hello               every version          hello-2.10-r1       this revision
//! hello-2.10          every revision of it   hello-2.10-r0       the version as it first was
//! hello:0, hello-2.10:0, …                   and only of this slot
//! ```
//!
//! Portage's `eapply_user` looks into six directories for a package ([`directories`]) and unites their files by name: a file in a more
//! specific directory replaces one of the same name in a less specific one, and an empty file removes it. The rest is applied in order of
//! file name (`bin/phase-helpers.sh`, 3.0.83). All patches apply to all stages.

mod header;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::diagnostic::{Findings, Place};
use super::fragment::Copied;
use super::merge::Merge;
use super::{ConfigDir, Error, PortageDir, Result, reading};
use crate::did_you_mean::nearest;
use crate::portage::atom::Atom;
use crate::portage::cpv::{split_pf, split_revision};

pub(crate) use crate::origin::PatchRecord;
pub(crate) use header::Header;

/// The folder of the configuration directory.
pub(crate) const USER_PATCHES: &str = "user.patches";
/// Where Portage looks for patches, below `/etc/portage`.
pub(crate) const PATCHES_DIR: &str = "patches";

const LAYOUT: &str = "the directories are `CATEGORY/PACKAGE[-VERSION][:SLOT]`";

/// The versions of a package that a patch is for. Prints as the name of its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The package's name, without its category.
    pub package: String,
    /// Only this version, without a revision; `None`: any.
    pub version: Option<String>,
    /// Only this revision of the version, as written after `-r`; `None`: any. `0` is the version without a revision.
    pub revision: Option<String>,
    /// Only this slot, without sub-slot; `None`: any.
    pub slot: Option<String>,
}

/// Why the name of a directory matches no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Neither a package name nor one with a version.
    #[error("`{0}` is no package name, with a version or without one")]
    Package(String),
    /// The part after the colon.
    #[error("`{0}` is no slot")]
    Slot(String),
}

impl Scope {
    /// Whether Portage looks into this directory for `version` (with revision) of `package` in `slot`.
    pub fn matches(&self, package: &str, version: &str, slot: &str) -> bool {
        directories(package, version, slot).contains(&self.to_string())
    }

    /// The atom with the same meaning, as far as there is one: `~app-misc/hello-2.10`, `app-misc/hello:0`.
    pub fn atom(&self, category: &str) -> String {
        let name = format!("{category}/{}", self.package);
        let mut atom = match (&self.version, &self.revision) {
            (Some(version), Some(revision)) => format!("={name}-{version}-r{revision}"),
            (Some(version), None) => format!("~{name}-{version}"),
            (None, _) => name,
        };
        if let Some(slot) = &self.slot {
            atom = format!("{atom}:{slot}");
        }
        atom
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.package)?;
        if let Some(version) = &self.version {
            write!(f, "-{version}")?;
        }
        if let Some(revision) = &self.revision {
            write!(f, "-r{revision}")?;
        }
        if let Some(slot) = &self.slot {
            write!(f, ":{slot}")?;
        }
        Ok(())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> std::result::Result<Self, ScopeError> {
        let (name, slot) = match text.split_once(':') {
            Some((name, slot)) => (name, Some(slot.to_owned())),
            None => (text, None),
        };
        if let Some(slot) = slot.as_deref().filter(|slot| !is_slot(slot)) {
            return Err(ScopeError::Slot(slot.to_owned()));
        }
        let (package, version) = match split_pf(name) {
            Some((package, version)) => (package, Some(version)),
            None => (name, None),
        };
        // A package's name, without any other part of an atom.
        if Atom::parse_target(&format!("x/{package}")).map_or(true, |atom| atom.package != package) {
            return Err(ScopeError::Package(name.to_owned()));
        }
        let (version, revision) = match version.map(split_revision) {
            Some((version, revision)) => (Some(version.to_owned()), revision.map(str::to_owned)),
            None => (None, None),
        };
        Ok(Self { package: package.to_owned(), version, revision, slot })
    }
}

/// A slot without sub-slot (PMS 3.1.3), as allowed after the colon in a directory's name.
fn is_slot(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-'))
}

/// The directories below `patches/CATEGORY` that Portage looks into for a package, the least specific first. `version` may have a
/// revision, `slot` a sub-slot.
pub(crate) fn directories(package: &str, version: &str, slot: &str) -> [String; 6] {
    let (bare, revision) = split_revision(version);
    let revision = revision.unwrap_or("0");
    let slot = slot.split_once('/').map_or(slot, |(slot, _)| slot);
    [
        package.to_owned(),
        format!("{package}:{slot}"),
        format!("{package}-{bare}"),
        format!("{package}-{bare}:{slot}"),
        format!("{package}-{bare}-r{revision}"),
        format!("{package}-{bare}-r{revision}:{slot}"),
    ]
}

/// One patch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPatch {
    /// The patch that it belongs to: `PATCH` of `user.patches/PATCH`, or the folder of the fragment that contains it.
    pub name: String,
    pub category: String,
    /// Name and versions of the package.
    pub scope: Scope,
    /// The file's name in Portage's directory, which decides order and replacement: `PATCH-FILE.patch`.
    pub file_name: String,
    /// Where it lies, relative to the configuration directory.
    pub path: PathBuf,
    /// Its content. An empty file removes one of a less specific directory.
    pub contents: Vec<u8>,
}

impl SavedPatch {
    /// Its place below `/etc/portage` of a stage.
    pub fn target(&self) -> PathBuf {
        [PATCHES_DIR, &self.category, &self.scope.to_string(), &self.file_name].iter().collect()
    }

    /// Whether Portage looks at it for a version of a package. Another file may still replace it: see [`applied_to`].
    pub fn matches(&self, category: &str, package: &str, version: &str, slot: &str) -> bool {
        self.category == category && self.scope.matches(package, version, slot)
    }

    /// The versions that it is for.
    pub fn atom(&self) -> String {
        self.scope.atom(&self.category)
    }

    /// Its header.
    pub fn header(&self) -> Header {
        Header::read(&self.contents)
    }
}

/// What distinguishes patches: place and contents.
pub(crate) trait Placed {
    fn category(&self) -> &str;
    /// The directory below it: `hello-2.10`.
    fn directory(&self) -> String;
    /// The file's name as Portage sees it.
    fn file_name(&self) -> &str;
    /// SHA-256 of the contents, hexadecimal; none if it is empty.
    fn sha256(&self) -> Option<String>;
}

impl Placed for SavedPatch {
    fn category(&self) -> &str {
        &self.category
    }

    fn directory(&self) -> String {
        self.scope.to_string()
    }

    fn file_name(&self) -> &str {
        &self.file_name
    }

    fn sha256(&self) -> Option<String> {
        (!self.contents.is_empty()).then(|| hex::encode(Sha256::digest(&self.contents)))
    }
}

impl From<&SavedPatch> for PatchRecord {
    fn from(patch: &SavedPatch) -> Self {
        Self {
            name: patch.name.clone(),
            category: patch.category.clone(),
            directory: patch.scope.to_string(),
            file_name: patch.file_name.clone(),
            path: patch.path.clone(),
            sha256: patch.sha256(),
        }
    }
}

impl PatchRecord {
    /// Its path inside a root.
    pub fn inside(&self) -> PathBuf {
        ["/etc/portage", PATCHES_DIR, &self.category, &self.directory, &self.file_name].iter().collect()
    }

    /// `category/name` of the package; `None` if the directory matches none.
    pub fn package(&self) -> Option<String> {
        Some(format!("{}/{}", self.category, self.directory.parse::<Scope>().ok()?.package))
    }
}

impl Placed for PatchRecord {
    fn category(&self) -> &str {
        &self.category
    }

    fn directory(&self) -> String {
        self.directory.clone()
    }

    fn file_name(&self) -> &str {
        &self.file_name
    }

    fn sha256(&self) -> Option<String> {
        self.sha256.clone()
    }
}

/// Which of `patches` are applied to a package, in order. `version` may have a revision, `slot` a sub-slot.
pub(crate) fn applied_to<'a, P: Placed>(patches: &'a [P], category: &str, package: &str, version: &str, slot: &str) -> Vec<&'a P> {
    united(patches, category, &directories(package, version, slot))
}

/// The files in `directories` by name, in the order of bash's `LC_ALL=C sort`, which is also Rust's.
fn united<'a, P: Placed>(patches: &'a [P], category: &str, directories: &[String]) -> Vec<&'a P> {
    let mut found: BTreeMap<&str, &P> = BTreeMap::new();
    for directory in directories {
        for patch in patches.iter().filter(|patch| patch.category() == category && patch.directory() == *directory) {
            if patch.sha256().is_none() {
                found.remove(patch.file_name());
            } else {
                found.insert(patch.file_name(), patch);
            }
        }
    }
    found.into_values().collect()
}

/// EAPIs without `eapply_user` (PMS 12.3.3).
pub(crate) fn knows_no_patches(eapi: &str) -> bool {
    matches!(eapi, "0" | "1" | "2" | "3" | "4" | "5")
}

/// The `USER_PATCHES` that Portage records for a package with these patches; `None` without patches.
pub(crate) fn digest<P: Placed>(applied: &[&P]) -> Option<String> {
    if applied.is_empty() {
        return None;
    }
    let each: String = applied.iter().filter_map(|patch| patch.sha256()).collect();
    Some(hex::encode(Sha256::digest(each)))
}

/// The `USER_PATCHES` that Portage requires of a binary package when it decides whether to use it. For that it looks into fewer
/// directories than `eapply_user`, in another order (`portage/package/ebuild/_config/UserPatches.py`, 3.0.83): with patches for a version
/// without its revision it accepts a package that was built without them.
pub(crate) fn digest_for_binaries<P: Placed>(
    patches: &[P],
    category: &str,
    package: &str,
    version: &str,
    slot: &str,
) -> Option<String> {
    let slot = slot.split_once('/').map_or(slot, |(slot, _)| slot);
    let names =
        [package.to_owned(), format!("{package}-{version}"), format!("{package}:{slot}"), format!("{package}-{version}:{slot}")];
    // An empty file still replaces one in a less specific directory, so it is only removed afterwards.
    digest(&united(patches, category, &names))
}

impl ConfigDir {
    /// All patches below `user.patches`, sorted by path.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if one lies where Portage never looks.
    pub fn patches(&self) -> Result<Vec<SavedPatch>> {
        let mut findings = Findings::new(self.root());
        let patches = read(&mut findings);
        Ok(findings.finish(patches)?.0)
    }

    /// The names of all saved patches, sorted.
    pub fn patch_names(&self) -> Vec<String> {
        let entries = reading::entries(&self.root().join(USER_PATCHES)).unwrap_or_default();
        entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect()
    }

    /// The files of the saved patch `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if it does not exist, else as [`ConfigDir::patches`].
    pub fn patch(&self, name: &str) -> Result<Vec<SavedPatch>> {
        let known = self.patch_names();
        if !known.iter().any(|known| known == name) {
            let nearest = nearest(name, &known).map(str::to_owned);
            let folder = self.root().join(USER_PATCHES);
            return Err(Error::Unknown { what: "saved patch", name: name.to_owned(), folder, nearest, known });
        }
        Ok(self.patches()?.into_iter().filter(|patch| patch.name == name).collect())
    }
}

impl PortageDir {
    /// All patches of a stage, from `user.patches` and from fragments, at their places in Portage's directory.
    pub fn patches(&self) -> Vec<SavedPatch> {
        let below = self.files.range(PathBuf::from(PATCHES_DIR)..).take_while(|(path, _)| path.starts_with(PATCHES_DIR));
        below.filter_map(|(path, bytes)| self.patch(path, bytes)).collect()
    }

    fn patch(&self, path: &Path, bytes: &[u8]) -> Option<SavedPatch> {
        let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        let [_, category, directory, file_name] = parts[..] else { return None };
        let scope = directory.parse().ok().filter(|_| is_patch(path))?;
        let source = self.sources(path).first()?;
        let name = match source.strip_prefix(USER_PATCHES) {
            Ok(below) => below.iter().next()?.to_string_lossy().into_owned(),
            Err(_) => source.parent()?.ancestors().nth(3)?.display().to_string(),
        };
        let (category, file_name) = (category.to_owned(), file_name.to_owned());
        Some(SavedPatch { name, category, scope, file_name, path: source.clone(), contents: bytes.to_vec() })
    }
}

fn is_patch(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "patch" || extension == "diff")
}

/// Everything below `user.patches`.
fn read(findings: &mut Findings<'_>) -> Vec<SavedPatch> {
    let folder = Path::new(USER_PATCHES);
    if !findings.root().join(folder).is_dir() {
        return Vec::new();
    }
    let files = reading::files_below(findings, folder);
    files.into_iter().filter_map(|path| read_patch(findings, path)).collect()
}

fn read_patch(findings: &mut Findings<'_>, path: PathBuf) -> Option<SavedPatch> {
    let below = path.strip_prefix(USER_PATCHES).unwrap_or(&path);
    let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let place = Place::whole(&path);
    if !is_patch(&path) {
        findings.note(&place, "not read: neither `*.patch` nor `*.diff`");
        return None;
    }
    let [name, category, directory, file] = &parts[..] else {
        findings.error_with_hint(
            &place,
            "the patch is in a place where Portage does not look",
            "patches lie in `user.patches/PATCH/CATEGORY/PACKAGE[-VERSION][:SLOT]/`",
        );
        return None;
    };
    let is_category = Atom::parse_target(&format!("{category}/x")).is_ok_and(|atom| atom.category == *category);
    let Some(scope) = directory.parse().ok().filter(|_| is_category) else {
        findings.error_with_hint(&place, format!("`{category}/{directory}` is no package"), LAYOUT);
        return None;
    };
    let (contents, _) = reading::bytes(findings, &path)?;
    let (name, category, file_name) = (name.clone(), category.clone(), format!("{name}-{file}"));
    Some(SavedPatch { name, category, scope, file_name, path, contents })
}

/// `user.patches/PATCH/CATEGORY/PACKAGE/x.patch` becomes `patches/CATEGORY/PACKAGE/PATCH-x.patch`, so that patches from several folders
/// do not collide and keep their order within a folder.
pub(crate) fn add(findings: &mut Findings<'_>, merge: &mut Merge) {
    for patch in read(findings) {
        let target = patch.target();
        let copied = Copied { bytes: patch.contents, executable: false, source: patch.path, same: Vec::new() };
        merge.add_copied(findings, target, copied);
    }
}

/// Checks the contents of patches, and conflicts between them. Reading has reported misplaced ones.
pub(crate) fn check(findings: &mut Findings<'_>) {
    // Reading errors were reported when they were added to the stages' directory.
    let patches = read(&mut Findings::new(findings.root()));
    for patch in &patches {
        let place = Place::whole(&patch.path);
        let others: Vec<&SavedPatch> = patches.iter().filter(|other| shadows(patch, other)).collect();
        if patch.contents.is_empty() && !others.is_empty() {
            findings.note(&place, format!("takes away {}", listed(&others)));
        } else if let Some(fault) = fault(&patch.contents) {
            let hint = "make one with `git diff` or `diff -u`; without a `--- ` line, nothing would be changed";
            findings.error_with_hint(&place, fault, hint);
        } else {
            check_shadowed(findings, patch, &others);
        }
        if let Some(revision) = &patch.scope.revision {
            check_revision(findings, patch, revision);
        }
    }
}

fn check_shadowed(findings: &mut Findings<'_>, patch: &SavedPatch, others: &[&SavedPatch]) {
    let place = Place::whole(&patch.path);
    let (own, foreign): (Vec<&SavedPatch>, Vec<&SavedPatch>) = others.iter().partition(|other| other.name == patch.name);
    if !own.is_empty() {
        findings.note(&place, format!("applied in place of {}", listed(&own)));
    }
    if !foreign.is_empty() {
        // `a-b/…/c.patch` and `a/…/b-c.patch`.
        findings.warning(
            &place,
            format!("applied in place of {}, which another patch has", listed(&foreign)),
            format!("Portage sees the same name `{}` for both: rename one", patch.file_name),
        );
    }
}

fn check_revision(findings: &mut Findings<'_>, patch: &SavedPatch, revision: &str) {
    let Scope { package, version: Some(version), .. } = &patch.scope else { return };
    let place = Place::whole(&patch.path);
    if revision == "0" {
        findings.note_with_hint(
            &place,
            format!("this is for {version} without a revision only, not for later revisions"),
            format!("for every revision, write `{package}-{version}`"),
        );
    } else if revision.starts_with('0') {
        let plain = revision.trim_start_matches('0');
        findings.warning(
            &place,
            format!("this is only for an ebuild whose name ends in exactly `-r{revision}`"),
            format!("write revisions without leading zeros: `-r{}`", if plain.is_empty() { "0" } else { plain }),
        );
    }
}

/// Whether `patch` replaces `other` for at least one version: same name, more specific directory.
fn shadows(patch: &SavedPatch, other: &SavedPatch) -> bool {
    let (narrow, wide) = (&patch.scope, &other.scope);
    // By their positions in the list of directories.
    let rank = |scope: &Scope| (scope.version.is_some(), scope.revision.is_some(), scope.slot.is_some());
    patch.category == other.category
        && patch.file_name == other.file_name
        && narrow.package == wide.package
        && rank(narrow) > rank(wide)
        && (wide.version.is_none() || narrow.version == wide.version)
        && (wide.revision.is_none() || narrow.revision == wide.revision)
        && (wide.slot.is_none() || narrow.slot.is_none() || narrow.slot == wide.slot)
}

fn listed(patches: &[&SavedPatch]) -> String {
    patches.iter().map(|patch| format!("`{}`", patch.path.display())).collect::<Vec<_>>().join(", ")
}

/// Errors in the bytes of a patch.
fn fault(bytes: &[u8]) -> Option<&'static str> {
    const STARTS: [&[u8]; 5] = [b"--- ", b"diff ", b"Index: ", b"*** ", b"GIT binary patch"];
    if bytes.is_empty() {
        Some("the patch is empty")
    } else if bytes.split(|byte| *byte == b'\n').any(|line| STARTS.iter().any(|start| line.starts_with(start))) {
        None
    } else {
        Some("this does not look like a patch")
    }
}
