//! `env/`: settings of the whole directory, one value a file.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{Diagnostic, Findings, Located, Place};
use super::names;
use super::reading;

/// Architectures by the keyword that Gentoo uses (`profiles/arch.list`).
pub(crate) const ARCHITECTURES: [&str; 14] =
    ["alpha", "amd64", "arm", "arm64", "hppa", "loong", "m68k", "mips", "ppc", "ppc64", "riscv", "s390", "sparc", "x86"];

const FILES: [&str; 7] = ["arch", "jobs", "sign_key", "stage_key", "tree", "uid", "gid"];

/// Settings of the whole directory.
#[derive(Debug, Clone)]
pub struct Env {
    /// Architecture, by Gentoo's keyword.
    pub arch: String,
    /// Parallel jobs of a build, if set.
    pub jobs: Option<Located<u32>>,
    /// Key that signs artifacts, as `gpg --local-user` takes it.
    pub sign_key: Option<Located<String>>,
    /// Pinned tree snapshot or commit by ebuild repository.
    pub tree: BTreeMap<String, Located<String>>,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// Reads `env/`; `default_arch` is used where `arch` is missing.
pub(crate) fn read(findings: &mut Findings<'_>, default_arch: &str) -> Env {
    let dir = Path::new("env");
    if findings.root().join(dir).is_dir() {
        check_files(findings, dir);
    }
    let arch = reading::single(findings, &dir.join("arch"));
    if let Some(arch) = arch.as_ref().filter(|arch| !ARCHITECTURES.contains(&arch.value.as_str())) {
        let hint = match names::nearest(&arch.value, ARCHITECTURES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of {}", ARCHITECTURES.join(", ")),
        };
        findings.error_with_hint(&arch.place(), format!("`{}` is no architecture of Gentoo", arch.value), hint);
    }
    let jobs = reading::single(findings, &dir.join("jobs")).and_then(|entry| match entry.value.parse::<u32>() {
        Ok(jobs) if jobs > 0 => Some(entry.with(jobs)),
        _ => {
            findings.error(&entry.place(), format!("`{}` is no number of jobs", entry.value));
            None
        }
    });
    Env {
        arch: arch.map_or_else(|| default_arch.to_owned(), |arch| arch.value),
        jobs,
        sign_key: read_sign_key(findings, dir),
        tree: read_tree(findings, dir),
        notes: Vec::new(),
    }
}

fn check_files(findings: &mut Findings<'_>, dir: &Path) {
    for entry in reading::entries_of(findings, dir) {
        let place = Place::whole(&dir.join(&entry.name));
        match entry.name.as_str() {
            "uid" | "gid" => findings.note(&place, "without effect: builds run as the user who starts them"),
            name if FILES.contains(&name) => {}
            name => {
                let hint = match names::nearest(name, FILES) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "there are arch, jobs, sign_key and tree".to_owned(),
                };
                findings.warning(&place, "this setting is not known", hint);
            }
        }
    }
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
            findings.note(&old.place(), "`stage_key` is the old name of `sign_key` and is read as such");
        }
    }
    let key = new.or(old)?;
    if key.value.starts_with('-') || key.value.chars().any(char::is_control) {
        findings.error(&key.place(), format!("`{}` is no key", key.value.escape_debug()));
        return None;
    }
    Some(key)
}

/// `REPOSITORY PIN`, or a pin alone for `gentoo`.
fn read_tree(findings: &mut Findings<'_>, dir: &Path) -> BTreeMap<String, Located<String>> {
    let mut pins: BTreeMap<String, Located<String>> = BTreeMap::new();
    for entry in reading::list(findings, &dir.join("tree")).unwrap_or_default() {
        let words: Vec<&str> = entry.value.split_whitespace().collect();
        let (repository, pin) = match words[..] {
            [pin] => ("gentoo", pin),
            [repository, pin] => (repository, pin),
            _ => {
                findings.error(&entry.place(), "a line is a repository and its commit or snapshot");
                continue;
            }
        };
        if let Some(known) = pins.insert(repository.to_owned(), entry.with(pin.to_owned())) {
            findings.error(&entry.place(), format!("`{repository}` is pinned on line {} already", known.line));
        }
    }
    pins
}
