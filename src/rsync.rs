//! The host's `rsync`, asked for an ebuild repository.
//!
//! The options are Portage's own (`PORTAGE_RSYNC_OPTS`), with two differences: links that lead out of the tree are left out, and modes
//! are normalised. Files that an earlier tree has are copied from there instead of being sent. The address has to begin with `rsync://`,
//! since rsync starts a remote shell for other forms.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{self, Attendance, Error, Heard};
use crate::progress::{Event, Observer, Unit};

/// How to start `rsync`.
#[derive(Debug, Clone)]
pub(crate) struct Rsync {
    /// `rsync`, which is looked up in `PATH`, or a path.
    pub program: PathBuf,
    /// The caller's environment, of which only `VARIABLES` are passed on.
    pub environment: Vec<(OsString, OsString)>,
}

/// How rsync ends if a file was not there, among others.
const NOT_ALL_CAME: i32 = 23;
const VARIABLES: [&str; 3] = ["PATH", "HOME", "RSYNC_PROXY"];

impl Rsync {
    /// Fetches `uri` into `target`. Unchanged files are copied from `like`.
    pub(crate) fn fetch(
        &self,
        uri: &str,
        target: &Path,
        like: Option<&Path>,
        observer: &dyn Observer,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut command = self.command();
        command.args(["--recursive", "--links", "--safe-links", "--perms", "--omit-dir-times", "--delete"]);
        command.args(["--chmod=D0755,Fu+rw,Fgo+r,Fgo-w", "--info=progress2"]);
        command.args(["--exclude=/distfiles", "--exclude=/local", "--exclude=/packages", "--exclude=/.git", "--exclude=/.svn"]);
        if let Some(like) = like {
            let mut option = OsString::from("--copy-dest=");
            option.push(like);
            command.arg(option);
        }
        let mut directory = target.as_os_str().to_owned();
        directory.push("/");
        // With a slash at the end rsync copies the contents of the directory, without it the directory itself.
        command.arg("--").arg(format!("{}/", uri.trim_end_matches('/'))).arg(directory);
        let (mut done, mut known) = (0, 0);
        let mut line = |line: &str| {
            let Some((now, total)) = checked(line) else { return };
            if total != known {
                observer.event(&Event::Total(total));
                known = total;
            }
            if now > done {
                observer.event(&Event::Advance(now - done));
                done = now;
            }
        };
        observer.event(&Event::Begin { what: "receiving", total: None, unit: Unit::Things("files") });
        let ended = program::run(command, b"", Attendance { heard: Heard::Stdout, line: &mut line, cancelled, reaches_out: true });
        observer.event(&Event::End);
        ended?.ok().map(drop)
    }

    /// Fetches the regular file `name` at the top of `uri` as `target`, if there is one that is not larger than `limit_bytes`.
    pub(crate) fn fetch_file(
        &self,
        uri: &str,
        name: &str,
        target: &Path,
        limit_bytes: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut command = self.command();
        command.arg(format!("--max-size={limit_bytes}")).arg("--").arg(format!("{}/{name}", uri.trim_end_matches('/'))).arg(target);
        let attendance = Attendance { heard: Heard::Stdout, line: &mut |_| {}, cancelled, reaches_out: true };
        match program::run(command, b"", attendance)?.ok() {
            Err(Error::Failed { status, .. }) if status.code() == Some(NOT_ALL_CAME) => Ok(()),
            ended => ended.map(drop),
        }
    }

    /// What each call begins with.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--times", "--whole-file", "--compress", "--no-motd", "--timeout=180"]).env_clear();
        let passed = |name: &OsString| name.to_str().is_some_and(|name| VARIABLES.contains(&name));
        command.envs(self.environment.iter().filter(|(name, _)| passed(name)).map(|(name, value)| (name, value)));
        command.env("LC_ALL", "C");
        command
    }
}

/// How many files rsync has looked at, and how many there are, as far as it knows: it lists directories while it goes on.
///
/// ```text
///       1,234,567  42%    1.20MB/s    0:00:01 (xfr#5, to-chk=10/200)
///       1,234,567  42%    1.20MB/s    0:00:01 (xfr#5, ir-chk=1010/2000)
/// ```
fn checked(line: &str) -> Option<(u64, u64)> {
    let (_, numbers) = line.split_once("-chk=")?;
    let (left, total) = numbers.split_once(')')?.0.split_once('/')?;
    let (left, total): (u64, u64) = (left.parse().ok()?, total.parse().ok()?);
    Some((total.checked_sub(left)?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_has_looked_at() {
        for (line, want) in [
            ("      1,234,567  42%    1.20MB/s    0:00:01 (xfr#5, to-chk=10/200)", Some((190, 200))),
            ("              0   0%    0.00kB/s    0:00:00 (xfr#0, ir-chk=1000/1001)", Some((1, 1001))),
            ("      1,234,567  42%    1.20MB/s    0:00:01", None),
            ("(xfr#5, to-chk=201/200)", None),
            ("receiving incremental file list", None),
        ] {
            assert_eq!(checked(line), want, "{line}");
        }
    }
}
