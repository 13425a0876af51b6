//! `env/`: settings of the whole directory, one value in each file.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{Diagnostic, Findings, Located, Place};
use super::repos_conf::is_repository_name;
use super::resources::Resources;
use super::source::{Revision, SourceError, TreeSource};
use super::{binary_packages, reading, resources, slurm};
use crate::did_you_mean::{nearest, question};
use crate::limits;
use crate::limits::{Asked, Bound};
use crate::path_error::PathError;
use crate::portage::package_files::split_comment;
use crate::registry::Address;

/// Architectures by the keyword that Gentoo uses (`profiles/arch.list`).
pub(crate) const ARCHITECTURES: [&str; 14] =
    ["alpha", "amd64", "arm", "arm64", "hppa", "loong", "m68k", "mips", "ppc", "ppc64", "riscv", "s390", "sparc", "x86"];

const FILES: [&str; 17] = [
    "arch",
    binary_packages::FILES[0],
    binary_packages::FILES[1],
    "ccache",
    "ionice",
    "jobs",
    "limits",
    "nice",
    "remote",
    "remote_key",
    "sign_key",
    "slurm",
    "stage_key",
    "tmpfs",
    "tree",
    "uid",
    "gid",
];

/// Less is a slip of the pen: bytes without a unit.
const LEAST_CACHE_BYTES: u64 = 1 << 20;

/// Settings of the whole directory.
#[derive(Debug, Clone)]
pub struct Env {
    /// Architecture, by Gentoo's keyword.
    pub arch: String,
    /// Parallel jobs of a build and of single packages, and priorities.
    pub resources: Resources,
    /// How large the compiler cache of each profile may become, bytes, if there is to be one.
    pub ccache: Option<u64>,
    /// Limits of sessions.
    pub limits: Asked,
    /// Key that signs artifacts, as `gpg --local-user` takes it.
    pub sign_key: Option<Located<String>>,
    /// Where states are asked for before they are built.
    pub remote: Option<RemoteAt>,
    /// Key that signs what is published there.
    pub remote_key: Option<Located<String>>,
    /// The pin of each pinned ebuild repository.
    pub tree: BTreeMap<String, Located<TreePin>>,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// A remote, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAt {
    pub address: Address,
    /// What was built is published there without being told.
    pub push: bool,
    /// It is asked for states only, and gets no packages.
    pub states_only: bool,
}

/// The pinned state of an ebuild repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePin {
    /// Where it comes from; `None`: as `repos.conf` says.
    pub source: Option<TreeSource>,
    pub rev: Revision,
}

/// Reads `env/`; `default_arch` is used where `arch` is missing.
pub(crate) fn read(findings: &mut Findings<'_>, default_arch: &str) -> Env {
    let dir = Path::new("env");
    if findings.root().join(dir).is_dir() {
        check_files(findings, dir);
    }
    let arch = reading::single(findings, &dir.join("arch"));
    if let Some(arch) = arch.as_ref().filter(|arch| !ARCHITECTURES.contains(&arch.value.as_str())) {
        let hint = match nearest(&arch.value, ARCHITECTURES) {
            Some(near) => question(near),
            None => format!("one of {}", ARCHITECTURES.join(", ")),
        };
        findings.error_with_hint(&arch.place(), format!("`{}` is no architecture of Gentoo", arch.value), hint);
    }
    binary_packages::check(findings);
    let resources = resources::read(findings);
    let limits = read_limits(findings, &dir.join("limits"));
    check_memory(findings, &resources, &limits);
    // Who submits asks for it alone.
    slurm::read(findings);
    Env {
        arch: arch.map_or_else(|| default_arch.to_owned(), |arch| arch.value),
        resources,
        ccache: read_ccache(findings, &dir.join("ccache")),
        limits,
        sign_key: read_sign_key(findings, dir),
        remote: read_remote(findings, dir),
        remote_key: read_remote_key(findings, dir),
        tree: read_tree(findings, dir),
        notes: Vec::new(),
    }
}

fn check_files(findings: &mut Findings<'_>, dir: &Path) {
    for entry in reading::entries_of(findings, dir) {
        let place = Place::whole(&dir.join(&entry.name));
        match entry.name.as_str() {
            "uid" | "gid" => findings.note(&place, "this file has no effect: builds run as the user who starts them"),
            name if FILES.contains(&name) => {}
            name => {
                let hint = match nearest(name, FILES) {
                    Some(near) => question(near),
                    None => {
                        "there are arch, binhost, binpkgs, ccache, ionice, jobs, limits, nice, remote, remote_key, sign_key, slurm, tmpfs and tree"
                            .to_owned()
                    }
                };
                findings.warning(&place, "this setting is not known", hint);
            }
        }
    }
}

/// Files in memory count as memory of the session: a file system that is as large as that ends a build where a disk would go on.
fn check_memory(findings: &mut Findings<'_>, resources: &Resources, limits: &Asked) {
    let (Some(tmpfs), Some(Bound::At(most))) = (&resources.tmpfs, limits.memory) else { return };
    if tmpfs.size_bytes.value >= most {
        let hint = "compilers need some, too: the build is repeated on the disk when the limit is exceeded";
        findings.warning(&tmpfs.size_bytes.place(), "this is all the memory that `env/limits` leaves a session", hint);
    }
}

/// A size.
pub(super) fn read_ccache(findings: &mut Findings<'_>, file: &Path) -> Option<u64> {
    let entry = reading::single(findings, file)?;
    match limits::size(&entry.value) {
        Some(bytes) if bytes >= LEAST_CACHE_BYTES => return Some(bytes),
        Some(_) => findings.error_with_hint(
            &entry.place(),
            format!("`{}` is too small for a compiler cache", entry.value),
            "a size such as `5G`; without the file there is none",
        ),
        None => findings.error(
            &entry.place(),
            format!("`{}` is no size of a compiler cache: a number with K, M, G or T, such as `5G`", entry.value.escape_debug()),
        ),
    }
    None
}

/// `NAME VALUE`, each name once.
pub(super) fn read_limits(findings: &mut Findings<'_>, file: &Path) -> Asked {
    let mut limits = Asked::default();
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    for entry in reading::list(findings, file).unwrap_or_default() {
        let name = entry.value.split_whitespace().next().unwrap_or_default().to_owned();
        match entry.value.parse::<Asked>() {
            Ok(limit) => {
                limits = limits.or(limit);
                if let Some(line) = lines.insert(name.clone(), entry.line) {
                    findings.error(&entry.place(), format!("line {line} limits `{name}` already"));
                }
            }
            Err(error) => findings.error(&entry.place(), error.to_string()),
        }
    }
    limits
}

fn read_sign_key(findings: &mut Findings<'_>, dir: &Path) -> Option<Located<String>> {
    let new = reading::single(findings, &dir.join("sign_key"));
    let old = reading::single(findings, &dir.join("stage_key"));
    if let Some(old) = &old {
        if new.as_ref().is_some_and(|new| new.value != old.value) {
            findings.error_with_hint(
                &old.place(),
                "`stage_key` and `sign_key` name different keys",
                "`stage_key` is the old name; remove it",
            );
        } else {
            findings.note(&old.place(), "`stage_key` is the old name of `sign_key`; it is still read");
        }
    }
    a_key(findings, new.or(old)?)
}

/// The key that signs for remotes.
pub(super) fn read_remote_key(findings: &mut Findings<'_>, dir: &Path) -> Option<Located<String>> {
    let key = reading::single(findings, &dir.join("remote_key"))?;
    a_key(findings, key)
}

fn a_key(findings: &mut Findings<'_>, key: Located<String>) -> Option<Located<String>> {
    if key.value.starts_with('-') || key.value.chars().any(char::is_control) {
        findings.error(&key.place(), format!("`{}` is no key", key.value.escape_debug()));
        return None;
    }
    Some(key)
}

/// What may be behind an address.
const WORDS: [&str; 2] = ["push", "states"];

/// `ADDRESS`, and behind it `push`, `states` or both.
pub(super) fn read_remote(findings: &mut Findings<'_>, dir: &Path) -> Option<RemoteAt> {
    let entry = reading::single(findings, &dir.join("remote"))?;
    let (address, push, states_only) = with_words(&entry.value);
    // A folder's name may end so, and then it is usually there.
    let is_there = address.strip_prefix("dir:").is_some_and(|folder| Path::new(folder).is_dir());
    let last = address.rsplit_once(char::is_whitespace).map(|(_, word)| word).filter(|word| !is_there && !word.contains('/'));
    if let Some((word, near)) = last.and_then(|word| Some((word, nearest(word, WORDS)?))) {
        let message = format!("`{}` counts as part of the address", word.escape_debug());
        findings.warning(&entry.place(), message, question(near));
    }
    match address.parse::<Address>() {
        Ok(address) => Some(RemoteAt { address, push, states_only }),
        Err(error) => {
            findings.error_with_hint(&entry.place(), error.to_string(), error.hint());
            None
        }
    }
}

/// An address, and whether `push` and `states` are behind it. A folder's name may have spaces.
fn with_words(text: &str) -> (&str, bool, bool) {
    let (mut address, mut push, mut states_only) = (text, false, false);
    while let Some((before, word @ ("push" | "states"))) = address.rsplit_once(char::is_whitespace) {
        *(if word == "push" { &mut push } else { &mut states_only }) = true;
        address = before.trim_end();
    }
    (address, push, states_only)
}

/// `REPOSITORY METHOD URI REV`; `REPOSITORY REV` if `repos.conf` says where it comes from; `REV` alone for `gentoo`.
fn read_tree(findings: &mut Findings<'_>, dir: &Path) -> BTreeMap<String, Located<TreePin>> {
    let mut pins: BTreeMap<String, Located<TreePin>> = BTreeMap::new();
    for entry in reading::list(findings, &dir.join("tree")).unwrap_or_default() {
        let words: Vec<&str> = entry.value.split_whitespace().collect();
        let (repository, source, rev) = match words[..] {
            [rev] => ("gentoo", None, rev),
            [repository, rev] => (repository, None, rev),
            [repository, method, uri, rev] => (repository, Some((method, uri)), rev),
            _ => {
                let hint = "for example `gentoo git https://github.com/gentoo-mirror/gentoo.git COMMIT`";
                findings.error_with_hint(&entry.place(), "a line is `REPOSITORY METHOD URI REVISION`", hint);
                continue;
            }
        };
        if !is_repository_name(repository) {
            findings.error(&entry.place(), format!("`{}` cannot be the name of a repository", repository.escape_debug()));
            continue;
        }
        match pin(source, rev) {
            Ok(pin) => {
                if let Some(known) = pins.insert(repository.to_owned(), entry.with(pin)) {
                    findings.error(&entry.place(), format!("line {} pins `{repository}` already", known.line));
                }
            }
            Err(error) => findings.error(&entry.place(), error.to_string()),
        }
    }
    pins
}

fn pin(source: Option<(&str, &str)>, rev: &str) -> Result<TreePin, PinError> {
    let source = match source {
        Some((method, uri)) => Some(TreeSource::new(method.parse()?, uri)?),
        None => None,
    };
    let rev = match &source {
        Some(source) => source.revision(rev)?,
        None => Revision::parse(rev)?,
    };
    if rev.is_fixed() { Ok(TreePin { source, rev }) } else { Err(PinError::Moving(rev.to_string())) }
}

/// Why a line of `env/tree` is not a pin.
#[derive(Debug, thiserror::Error)]
enum PinError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("`{0}` may mean another tree tomorrow: a pin is a full commit id, a day (`20260811`) or `sha256:DIGEST`")]
    Moving(String),
}

/// The line of `env/tree` that pins `repository`.
pub fn pin_line(repository: &str, pin: &TreePin) -> String {
    match &pin.source {
        Some(TreeSource { method, uri }) => format!("{repository} {method} {uri} {}", pin.rev),
        None => format!("{repository} {}", pin.rev),
    }
}

/// Pins `repository` in `env/tree` below `root`: replaces or adds its line and leaves the others. Returns file and line.
pub fn write_pin(root: &Path, repository: &str, pin: &TreePin) -> Result<Place, super::proposal::Error> {
    let file = Path::new("env/tree");
    let path = root.join(file);
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(PathError::new("read", path, source).into()),
    };
    let new = pin_line(repository, pin);
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let names = |line: &String| {
        let words: Vec<&str> = split_comment(line).0.split_whitespace().collect();
        match words[..] {
            [_] => repository == "gentoo",
            [name, ..] => name == repository,
            [] => false,
        }
    };
    let at = match lines.iter().position(names) {
        Some(at) => {
            let comment = lines[at].find('#').map(|from| format!("  {}", &lines[at][from..])).unwrap_or_default();
            lines[at] = new + &comment;
            at
        }
        None => {
            lines.push(new);
            lines.len() - 1
        }
    };
    super::proposal::replace(&path, &(lines.join("\n") + "\n"))?;
    Ok(Place::new(file, u32::try_from(at + 1).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_an_address() {
        for (text, expected) in [
            ("dir:/srv/states", ("dir:/srv/states", false, false)),
            ("dir:/srv/my states/x", ("dir:/srv/my states/x", false, false)),
            ("dir:/srv/states  push", ("dir:/srv/states", true, false)),
            ("dir:/srv/states states", ("dir:/srv/states", false, true)),
            ("dir:/srv/states states push", ("dir:/srv/states", true, true)),
            ("dir:/srv/states push\tstates", ("dir:/srv/states", true, true)),
            ("push", ("push", false, false)),
        ] {
            assert_eq!(with_words(text), expected, "{text}");
        }
    }
}
