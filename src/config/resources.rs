//! `env/jobs`, `env/nice` and `env/ionice`: what builds take of the machine. Nothing here is part of a key.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{Findings, Located};
use super::reading;
use crate::portage::atom::Atom;
use crate::portage::session_conf::PackageJobs;
use crate::priority::{self, IoClass, Priority};

const JOBS: &str = "env/jobs";

/// What the files say.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Jobs of a build.
    pub jobs: Option<Located<u32>>,
    /// Packages with a number of their own, in the order of the file.
    pub package_jobs: Vec<Located<PackageJobs>>,
    pub priority: Priority,
}

pub(super) fn read(findings: &mut Findings<'_>) -> Resources {
    let (jobs, package_jobs) = read_jobs(findings);
    let nice = value(findings, Path::new("env/nice"), priority::nice);
    let io = value(findings, Path::new("env/ionice"), str::parse::<IoClass>);
    Resources { jobs, package_jobs, priority: Priority { nice, io } }
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
