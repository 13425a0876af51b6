//! `env/jobs`, `env/nice`, `env/ionice` and `env/tmpfs`: what builds take of the machine. Nothing here is part of a key.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{Findings, Located};
use super::reading;
use crate::limits;
use crate::portage::atom::Atom;
use crate::portage::session_conf::PackageJobs;
use crate::priority::{self, IoClass, Priority};

const JOBS: &str = "env/jobs";
const TMPFS: &str = "env/tmpfs";
/// Less is a slip of the pen: bytes without a unit.
const LEAST_TMPFS_BYTES: u64 = 1 << 20;

/// Packages are compiled in memory.
#[derive(Debug, Clone)]
pub struct Tmpfs {
    /// The file system in memory that a session gets.
    pub size_bytes: Located<u64>,
    /// Packages that are compiled on the disk all the same.
    pub on_disk: Vec<Located<Atom>>,
}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Jobs of a build.
    pub jobs: Option<Located<u32>>,
    /// Packages with a number of their own, in the order of the file.
    pub package_jobs: Vec<Located<PackageJobs>>,
    pub priority: Priority,
    pub tmpfs: Option<Tmpfs>,
}

pub(super) fn read(findings: &mut Findings<'_>) -> Resources {
    let (jobs, package_jobs) = read_jobs(findings);
    let nice = value(findings, Path::new("env/nice"), priority::nice);
    let io = value(findings, Path::new("env/ionice"), str::parse::<IoClass>);
    Resources { jobs, package_jobs, priority: Priority { nice, io }, tmpfs: read_tmpfs(findings) }
}

fn value<T, E: std::error::Error>(findings: &mut Findings<'_>, file: &Path, read: impl Fn(&str) -> Result<T, E>) -> Option<T> {
    let entry = reading::single(findings, file)?;
    read(&entry.value).map_err(|error| findings.error(&entry.place(), error.to_string())).ok()
}

/// `JOBS` once, for all; `ATOM JOBS`, each atom once.
fn read_jobs(findings: &mut Findings<'_>) -> (Option<Located<u32>>, Vec<Located<PackageJobs>>) {
    let (mut all, mut packages): (Option<Located<u32>>, _) = (None, Vec::new());
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    for entry in reading::list(findings, Path::new(JOBS)).unwrap_or_default() {
        let words: Vec<&str> = entry.value.split_whitespace().collect();
        let (atom, number) = match words[..] {
            [number] => (None, number),
            [atom, number] => (Some(atom), number),
            _ => {
                findings.error_with_hint(&entry.place(), "a line is `JOBS` or `ATOM JOBS`", "for example `dev-qt/qtwebengine 2`");
                continue;
            }
        };
        let Some(jobs) = number.parse().ok().filter(|jobs: &u32| *jobs > 0) else {
            findings.error(&entry.place(), format!("`{}` is no number of jobs", number.escape_debug()));
            continue;
        };
        match atom.map(str::parse::<Atom>) {
            None => match &all {
                Some(first) => findings.error(&entry.place(), format!("line {} says `{}` already", first.line, first.value)),
                None => all = Some(entry.with(jobs)),
            },
            Some(Err(error)) => findings.error(&entry.place(), error.to_string()),
            Some(Ok(atom)) if atom.to_string() == "*/*" => {
                findings.error_with_hint(
                    &entry.place(),
                    "`*/*` is every package",
                    "a line with the number alone is for all of them",
                );
            }
            Some(Ok(atom)) => match lines.insert(atom.to_string(), entry.line) {
                Some(line) => findings.error(&entry.place(), format!("line {line} has `{atom}` already")),
                None => packages.push(entry.with(PackageJobs { atom: atom.to_string(), jobs })),
            },
        }
    }
    (all, packages)
}

/// `SIZE` once; `ATOM disk`, each atom once.
fn read_tmpfs(findings: &mut Findings<'_>) -> Option<Tmpfs> {
    let (mut size, mut on_disk): (Option<Located<u64>>, Vec<Located<Atom>>) = (None, Vec::new());
    let lines = reading::list(findings, Path::new(TMPFS))?;
    for entry in &lines {
        let words: Vec<&str> = entry.value.split_whitespace().collect();
        match words[..] {
            [text] => match (tmpfs_bytes(text), &size) {
                (Err(error), _) => findings.error(&entry.place(), error),
                (Ok(_), Some(first)) => findings.error(&entry.place(), format!("line {} has the size already", first.line)),
                (Ok(bytes), None) => size = Some(entry.with(bytes)),
            },
            [atom, "disk"] => match atom.parse::<Atom>() {
                Err(error) => findings.error(&entry.place(), error.to_string()),
                Ok(atom) if atom.to_string() == "*/*" => {
                    findings.error_with_hint(
                        &entry.place(),
                        "`*/*` is every package",
                        "without the file, all are compiled on the disk",
                    );
                }
                Ok(atom) => match on_disk.iter().find(|known| known.value.to_string() == atom.to_string()) {
                    Some(known) => findings.error(&entry.place(), format!("line {} has `{atom}` already", known.line)),
                    None => on_disk.push(entry.with(atom)),
                },
            },
            _ => {
                findings.error_with_hint(
                    &entry.place(),
                    "a line is `SIZE` or `ATOM disk`",
                    "for example `4G`, or `dev-qt/qtwebengine disk`",
                );
            }
        }
    }
    match (size, lines.first()) {
        (Some(size_bytes), _) => Some(Tmpfs { size_bytes, on_disk }),
        (None, Some(first)) if lines.iter().all(|line| line.value.split_whitespace().count() != 1) => {
            findings.error_with_hint(&first.place(), "no line has the size", "a line with the size alone, such as `4G`");
            None
        }
        (None, _) => None,
    }
}

fn tmpfs_bytes(text: &str) -> Result<u64, String> {
    match limits::size(text) {
        Some(bytes) if bytes >= LEAST_TMPFS_BYTES => Ok(bytes),
        Some(_) => Err(format!("`{text}` is too small to compile in: a size such as `4G`")),
        None => Err(format!("`{}` is no size: a number with K, M, G or T, such as `4G`", text.escape_debug())),
    }
}
