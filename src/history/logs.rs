//! Logs of builds: which runs there were, and what each has logged.
//!
//! ```text
//! logs/WHAT-20261122T083102Z[-N]/
//!   emerge.log, commands.log           what emerge and the commands around it printed
//!   packages/CATEGORY:PF:TIME.log      of one package; `build/CATEGORY/PF:TIME.log` with `FEATURES=split-log`
//!   packages/elog/…                    messages of ebuilds
//! logs/pipeline-20261122T083102Z[-N]/  no logs: see `crate::record`
//! ```
//!
//! The files are the user's, but what is in them, and what they are called, comes from sessions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::Serialize;

use super::{Error, Result};
use crate::beneath::{Entry, Plain, TreeDir};
use crate::context::Context;
use crate::portage::cpv::split_pf;
use crate::record;

/// `packages/build/CATEGORY`, and what a package makes there itself.
const MAX_DEPTH: usize = 5;
/// Nobody has more.
const MAX_RUNS: usize = 1_000_000;

/// What one run of a build has logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Run {
    /// What was built: `stage-web`, `demo-plain`, `kernel-demo-server`.
    pub what: String,
    /// RFC 3339, in UTC.
    pub began: String,
    pub dir: PathBuf,
    pub logs: Vec<Log>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Log {
    /// `app-misc/hello-2.10`, `elog app-misc/hello-2.10`, `emerge`.
    pub name: String,
    pub bytes: u64,
    /// Below the run's directory.
    pub file: PathBuf,
    /// Seconds and nanoseconds.
    #[serde(skip)]
    pub(super) changed: (i64, u64),
}

impl Run {
    pub(crate) fn bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.bytes).sum()
    }

    /// Logs of single packages, without those of their messages.
    pub(crate) fn packages(&self) -> usize {
        self.logs.iter().filter(|log| log.is_of_package()).count()
    }

    /// Opens one of its logs.
    pub(crate) fn open(&self, log: &Log) -> Result<Plain> {
        Ok(TreeDir::open(&self.dir)?.open_file(&log.file)?)
    }

    /// The newest log that is called so: by its whole name, without the version, or without the category.
    pub(crate) fn log(&self, name: &str) -> Result<&Log> {
        let found = self.logs.iter().filter(|log| log.is_called(name)).max_by_key(|log| log.changed);
        found.ok_or_else(|| Error::NoLog {
            what: self.what.clone(),
            name: name.to_owned(),
            known: self.logs.iter().map(|log| log.name.clone()).collect(),
        })
    }
}

impl Log {
    pub(super) fn is_of_package(&self) -> bool {
        self.name.contains('/') && !self.name.starts_with("elog ")
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        let package = |of: &str| {
            let (category, pf) = of.split_once('/').unwrap_or(("", of));
            let pn = split_pf(pf).map_or(pf, |(pn, _)| pn);
            [of, pf, pn].contains(&name) || name.split_once('/') == Some((category, pn))
        };
        self.name == name || self.is_of_package() && package(&self.name)
    }
}

/// All runs that have left logs, the newest first.
///
/// # Errors
///
/// Directories of ours that cannot be read.
pub(crate) fn runs(cx: &Context<'_>) -> Result<Vec<Run>> {
    let dir = cx.places.logs();
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let logs_of_all = TreeDir::open(&dir)?;
    // Others may be somebody's own.
    for entry in logs_of_all.entries(MAX_RUNS)?.into_iter().filter(Entry::is_dir) {
        let Some((what, began)) = entry.text().and_then(what_and_when) else { continue };
        // That is the record of a run of several.
        if what == record::WHAT {
            continue;
        }
        // What cannot be read is not there: a run without logs removes its directory in the end.
        let logs = logs_of_all.open_dir(entry.os()).and_then(|dir| logs(&dir)).unwrap_or_default();
        found.push(Run { what, began, dir: dir.join(entry.os()), logs });
    }
    found.sort_by(|a, b| (&b.began, &b.dir).cmp(&(&a.began, &a.dir)));
    Ok(found)
}

/// The newest run of what is called `name`: a stage, a profile, a node of a pipeline, the directory itself.
///
/// # Errors
///
/// Nothing of this name has logged anything, or directories of ours cannot be read.
pub(crate) fn newest(cx: &Context<'_>, name: Option<&str>) -> Result<Run> {
    let mut runs = runs(cx)?;
    let Some(name) = name else {
        return runs.into_iter().next().ok_or(Error::NothingLogged);
    };
    let found = runs.iter().position(|run| is_meant(run, name)).or_else(|| {
        // Whatever was done last with a profile.
        let begin = format!("{}-", name.strip_prefix("profile/").unwrap_or(name));
        runs.iter().position(|run| run.what.starts_with(&begin))
    });
    match found {
        Some(at) => Ok(runs.swap_remove(at)),
        None => {
            let mut known: Vec<String> = runs.into_iter().map(|run| run.what).collect();
            known.sort();
            known.dedup();
            Err(Error::NoRun { name: name.to_owned(), known })
        }
    }
}

/// Whether a run is called so.
pub(crate) fn is_meant(run: &Run, name: &str) -> bool {
    let flat = name.replace('/', "-");
    let of_kind = |kind: &str, logged: &str| {
        name.strip_prefix(kind).is_some_and(|rest| run.what == format!("{logged}{}", rest.replace('/', "-")))
    };
    run.dir.ends_with(name)
        || run.what == flat
        || run.what == format!("stage-{flat}")
        || of_kind("stage4/", "stage-")
        || of_kind("stage3/", "")
        || of_kind("profile/", "")
}

/// `web-20261122T083102Z-1` in its parts, the time as RFC 3339.
fn what_and_when(name: &str) -> Option<(String, String)> {
    let (head, last) = name.rsplit_once('-')?;
    let (what, stamp) = if last.ends_with('Z') { (head, last) } else { head.rsplit_once('-')? };
    let number = name.get(what.len() + 1 + stamp.len()..)?.trim_start_matches('-');
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    number
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| (what.to_owned(), format!("{}Z", time.strftime("%Y-%m-%dT%H:%M:%S"))))
}

/// Of the run first, then by name. Empty files are left out.
fn logs(dir: &TreeDir) -> Result<Vec<Log>, crate::beneath::Error> {
    let (mut found, mut walk) = (Vec::new(), dir.walk()?);
    loop {
        while let Some(entry) = walk.next_name() {
            match entry.kind {
                FileType::Directory if walk.depth() < MAX_DEPTH => walk.enter(&entry.name)?,
                FileType::RegularFile => {
                    let stat = walk.stat(&entry.name)?;
                    let file = PathBuf::from(OsString::from_vec(walk.relative(&entry.name)));
                    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                    found.push(Log { name: name_of(&file), bytes, file, changed: (stat.st_mtime, stat.st_mtime_nsec) });
                }
                _ => {}
            }
        }
        if walk.leave()?.is_none() {
            break;
        }
    }
    found.retain(|log| log.bytes > 0);
    found.sort_by(|a, b| (a.name.contains('/'), &a.name, &a.file).cmp(&(b.name.contains('/'), &b.name, &b.file)));
    Ok(found)
}

/// What a file is about, by its path below the run's directory.
pub(super) fn name_of(file: &Path) -> String {
    let path = file.to_string_lossy();
    let path = path.strip_prefix("packages/").unwrap_or(&path);
    let (kind, path) = path.strip_prefix("elog/").map_or(("", path), |rest| ("elog ", rest));
    let path = path.strip_prefix("build/").unwrap_or(path);
    let (below, name) = path.rsplit_once('/').map_or(("", path), |(below, name)| (&path[..=below.len()], name));
    let stem = ["", ".gz"].into_iter().find_map(|packed| name.strip_suffix(packed)?.strip_suffix(".log")).unwrap_or(name);
    // The last part is the time.
    let named = match stem.rsplit_once(':') {
        Some((package, _)) => package.replacen(':', "/", 1),
        None => stem.to_owned(),
    };
    format!("{kind}{below}{named}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn directories_tell_what_was_built_and_when() {
        for (name, what, when) in [
            ("stage-web-20261122T083102Z", "stage-web", "2026-11-22T08:31:02Z"),
            ("demo-gentoomuch-builder-20261122T083102Z-12", "demo-gentoomuch-builder", "2026-11-22T08:31:02Z"),
        ] {
            assert_eq!(what_and_when(name), Some((what.to_owned(), when.to_owned())));
        }
        for other in ["mine", "a-b", "web-20261322T083102Z", "web-20261122T083102Z-x", "20261122T083102Z", ""] {
            assert_eq!(what_and_when(other), None, "{other}");
        }
    }

    #[test]
    fn files_tell_what_they_are_about() {
        for (file, name) in [
            ("emerge.log", "emerge"),
            ("packages/app-arch:lz4-1.9.4:20261129-141855.log", "app-arch/lz4-1.9.4"),
            ("packages/build/app-arch/lz4-1.9.4:20261129-141855.log.gz", "app-arch/lz4-1.9.4"),
            ("packages/elog/app-arch:lz4-1.9.4:20261129-141855.log", "elog app-arch/lz4-1.9.4"),
            ("packages/elog/summary.log", "elog summary"),
            ("packages/of\u{1b}somebody", "of\u{1b}somebody"),
        ] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }

    #[test]
    fn a_run_is_found_by_each_of_its_names_and_a_log_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, files: &[&str]| {
            for file in files {
                let path = dir.path().join(name).join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "x").unwrap();
            }
            let (what, began) = what_and_when(name).unwrap();
            Run { what, began, dir: dir.path().join(name), logs: logs(&TreeDir::open(&dir.path().join(name)).unwrap()).unwrap() }
        };
        let web = run(
            "stage-web-20261122T083102Z",
            &[
                "emerge.log",
                "packages/app-arch:lz4-1.9.4:1.log",
                "packages/elog/summary.log",
                "packages/a/b/c/deep.log",
                "packages/a/b/c/d/e/f/deeper.log",
                "packages/a/b/c/d/deeper.log",
            ],
        );
        for name in ["web", "stage4/web", "stage-web", "stage-web-20261122T083102Z"] {
            assert!(is_meant(&web, name), "{name}");
        }
        assert!(!is_meant(&web, "stage3/web") && !is_meant(&web, "eb"));
        let base = run("demo-gentoomuch-builder-20261122T083102Z", &["emerge.log"]);
        for name in ["stage3/demo/gentoomuch/builder", "profile/demo/gentoomuch/builder", "demo/gentoomuch/builder"] {
            assert!(is_meant(&base, name), "{name}");
        }
        let names: Vec<&str> = web.logs.iter().map(|log| log.name.as_str()).collect();
        assert_eq!(names, ["elog summary", "emerge", "a/b/c/d/deeper", "a/b/c/deep", "app-arch/lz4-1.9.4"]);
        for name in ["lz4", "lz4-1.9.4", "app-arch/lz4", "app-arch/lz4-1.9.4"] {
            assert_eq!(web.log(name).unwrap().name, "app-arch/lz4-1.9.4", "{name}");
        }
        assert_eq!(web.log("emerge").unwrap().name, "emerge");
        assert_eq!(web.log("lz").unwrap_err().to_string(), "stage-web has no log of `lz`");
    }
}
