//! The ranges that the host grants a user: `/etc/subuid` and `/etc/subgid`, or what `getsubids` answers.
//!
//! ```text
//! NAME-OR-UID:FIRST:COUNT          one range a line; several lines a user are allowed (subuid(5))
//! INDEX: NAME FIRST COUNT          as getsubids(1) prints them
//! ```
//!
//! A line `subid: sss` in `/etc/nsswitch.conf` makes a directory service the source (nsswitch of shadow 4.9). `newuidmap` then ignores the
//! files, so `getsubids` is asked first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::IdMapError;
use crate::sandbox::refusal::find_program;

/// Where this host keeps ranges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subids<'a> {
    /// `/`, except in tests.
    pub(super) root: &'a Path,
    /// Where `getsubids` is looked for.
    pub(super) search: &'a [PathBuf],
}

/// First id and count.
pub(super) type Range = (u32, u32);

impl Subids<'_> {
    /// The user's ranges of user ids and of group ids.
    pub(super) fn of(self, user: &str, uid: u32) -> Result<[Vec<Range>; 2], IdMapError> {
        let files = || -> Result<_, IdMapError> { Ok([self.file("etc/subuid", user, uid)?, self.file("etc/subgid", user, uid)?]) };
        if self.is_elsewhere() {
            return self.ask(user).map_or_else(files, Ok);
        }
        match files() {
            Err(error @ (IdMapError::NoRange { .. } | IdMapError::Read { .. })) => self.ask(user).ok_or(error),
            answer => answer,
        }
    }

    fn file(self, name: &str, user: &str, uid: u32) -> Result<Vec<Range>, IdMapError> {
        let path = self.root.join(name);
        let text = std::fs::read_to_string(&path).map_err(|source| IdMapError::Read { path: path.clone(), source })?;
        parse(&text, user, uid, &path)
    }

    fn is_elsewhere(self) -> bool {
        std::fs::read_to_string(self.root.join("etc/nsswitch.conf")).is_ok_and(|text| names_another_source(&text))
    }

    /// What `getsubids` answers; `None` if it is missing or knows no range of either kind.
    fn ask(self, user: &str) -> Option<[Vec<Range>; 2]> {
        let program = find_program("getsubids", self.search)?;
        let ask = |kind: Option<&str>| {
            let mut command = Command::new(&program);
            command.args(kind).arg(user).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
            let output = command.output().ok().filter(|output| output.status.success())?;
            let ranges = answered(&String::from_utf8_lossy(&output.stdout));
            tracing::debug!(program = %program.display(), ?kind, ?ranges, "asked for subordinate ids");
            (!ranges.is_empty()).then_some(ranges)
        };
        Some([ask(None)?, ask(Some("-g"))?])
    }
}

fn names_another_source(nsswitch: &str) -> bool {
    nsswitch
        .lines()
        .filter_map(|line| line.split('#').next()?.trim().strip_prefix("subid:"))
        .any(|sources| sources.trim() != "files")
}

/// The ranges in the output of `getsubids`.
fn answered(output: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().skip(2).map(|field| field.parse::<u32>().ok());
        let (first, count) = (fields.next()??, fields.next()??);
        (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    output.lines().filter_map(range).collect()
}

/// The user's ranges. A broken line of another user is ignored.
fn parse(text: &str, user: &str, uid: u32, path: &Path) -> Result<Vec<Range>, IdMapError> {
    let number = uid.to_string();
    let mut ranges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut fields = line.split(':').map(str::trim);
        let owner = fields.next().unwrap_or_default();
        if owner.is_empty() || (owner != user && owner != number) {
            continue;
        }
        let range = (|| {
            let (first, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
            (fields.next().is_none() && first.checked_add(count).is_some()).then_some((first, count))
        })();
        match range {
            Some(range) => ranges.push(range),
            None => return Err(IdMapError::Line { path: path.to_owned(), line: index + 1, text: line.to_owned() }),
        }
    }
    if ranges.iter().all(|(_, count)| *count == 0) {
        return Err(IdMapError::NoRange { user: user.to_owned(), path: path.to_owned() });
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ranges(text: &str) -> Result<Vec<Range>, String> {
        parse(text, "larry", 1000, Path::new("/etc/subuid")).map_err(|error| error.to_string())
    }

    #[test]
    fn subid_files() {
        for (text, wanted) in [
            ("larry:100000:65536\n", Ok(vec![(100_000, 65536)])),
            ("# comment\n\nroot:1:1\nlarry:100000:65536 # his\n1000:300000:10\n", Ok(vec![(100_000, 65536), (300_000, 10)])),
            ("larry2:1:1\n10001:1:1\nbroken\n", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("larry:100000:0\n", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("\nlarry:many:1\n", Err("/etc/subuid:2: `larry:many:1` is not `NAME:FIRST:COUNT`")),
            ("larry:4294967295:2\n", Err("/etc/subuid:1: `larry:4294967295:2` is not `NAME:FIRST:COUNT`")),
            ("larry:1:2:3\n", Err("/etc/subuid:1: `larry:1:2:3` is not `NAME:FIRST:COUNT`")),
        ] {
            assert_eq!(ranges(text), wanted.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn answers_of_getsubids() {
        assert_eq!(answered("0: larry 100000 65536\n1: larry 300000 10\n"), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(answered("Error fetching ranges\n0: larry 5 0\n1: larry 4294967295 2\n"), []);
    }

    #[test]
    fn sources_of_nsswitch() {
        for (text, elsewhere) in
            [("passwd: files sss\n", false), ("subid: files\n", false), ("# subid: sss\n", false), ("subid:  sss # ipa\n", true)]
        {
            assert_eq!(names_another_source(text), elsewhere, "{text}");
        }
    }

    /// A host that keeps its ranges in a directory service: `getsubids` knows them.
    fn host(files: &[(&str, &str)], answers: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let program = dir.path().join("getsubids");
        fs::write(&program, format!("#!/bin/sh\n{answers}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn found(host: &tempfile::TempDir) -> Result<[Vec<Range>; 2], String> {
        let search = [host.path().to_owned()];
        let error = |error: IdMapError| error.to_string().replace(&host.path().display().to_string(), "");
        Subids { root: host.path(), search: &search }.of("larry", 1000).map_err(error)
    }

    #[test]
    fn ranges_come_from_wherever_the_host_keeps_them() {
        const ANSWERS: &str =
            r#"[ "$*" = "-g larry" ] && echo "0: larry 500000 70000" || printf '0: larry 200000 40000\n1: larry 300000 30000\n'"#;
        let directory = || Ok([vec![(200_000, 40000), (300_000, 30000)], vec![(500_000, 70000)]]);
        let files = || Ok([vec![(100_000, 65536)], vec![(100_000, 65536)]]);
        let full = [("etc/subuid", "larry:100000:65536\n"), ("etc/subgid", "larry:100000:65536\n")];
        assert_eq!(found(&host(&full, ANSWERS)), files());
        assert_eq!(found(&host(&[("etc/subuid", "else:1:1\n"), ("etc/subgid", "")], ANSWERS)), directory());
        assert_eq!(found(&host(&[], ANSWERS)), directory());
        let with_service = [full[0], full[1], ("etc/nsswitch.conf", "subid: sss\n")];
        assert_eq!(found(&host(&with_service, ANSWERS)), directory());
        assert_eq!(found(&host(&with_service, "echo Error fetching ranges; exit 1")), files());
        let none = host(&[("etc/subuid", "")], "exit 1");
        assert_eq!(found(&none), Err("`larry` has no range of ids in `/etc/subuid`".to_owned()));
    }
}
