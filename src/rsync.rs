//! The host's `rsync`, asked for an ebuild repository.
//!
//! The options are Portage's own (`PORTAGE_RSYNC_OPTS`), with two differences: links that lead out of the tree are left out, and modes
//! are normalised. Files that an earlier tree has are copied from there instead of being sent. The address has to begin with `rsync://`,
//! since rsync starts a remote shell for other forms.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{self, Attendance, Error, Heard};
use crate::progress::{Event, Observer};

/// How to start `rsync`.
#[derive(Debug, Clone)]
pub(crate) struct Rsync {
    /// `rsync`, which is looked up in `PATH`, or a path.
    pub program: PathBuf,
    /// The caller's environment, of which only `VARIABLES` are passed on.
    pub environment: Vec<(OsString, OsString)>,
}

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
        let mut command = Command::new(&self.program);
        command.args([
            "--recursive",
            "--links",
            "--safe-links",
            "--perms",
            "--times",
            "--omit-dir-times",
            "--whole-file",
            "--delete",
        ]);
        command.args(["--compress", "--no-motd", "--timeout=180", "--chmod=D0755,Fu+rw,Fgo+r,Fgo-w", "--info=progress2"]);
        command.args(["--exclude=/distfiles", "--exclude=/local", "--exclude=/packages", "--exclude=/.git", "--exclude=/.svn"]);
        if let Some(like) = like {
            let mut option = OsString::from("--copy-dest=");
            option.push(like);
            command.arg(option);
        }
        let mut directory = target.as_os_str().to_owned();
        directory.push("/");
        // With a slash at the end rsync copies the contents of the directory, without it the directory itself.
        command.arg("--").arg(format!("{}/", uri.trim_end_matches('/'))).arg(directory).env_clear();
        let passed = |name: &OsString| name.to_str().is_some_and(|name| VARIABLES.contains(&name));
        command.envs(self.environment.iter().filter(|(name, _)| passed(name)).map(|(name, value)| (name, value)));
        command.env("LC_ALL", "C");
        let mut received = 0;
        let mut line = |line: &str| {
            // `      1,234,567  42%    1.20MB/s    0:00:01 (xfr#5, to-chk=10/200)`
            let word = line.split_whitespace().next().unwrap_or_default().replace(',', "");
            if let Ok(bytes) = word.parse::<u64>()
                && bytes > received
            {
                observer.event(&Event::Advance(bytes - received));
                received = bytes;
            }
        };
        observer.event(&Event::Begin { what: "receiving", total: None });
        let ended = program::run(command, b"", Attendance { heard: Heard::Stdout, line: &mut line, cancelled, reaches_out: true });
        observer.event(&Event::End);
        ended?.ok().map(drop)
    }
}
