//! Runs programs of the host for us: `git` and `rsync`.
//!
//! One function starts them, with a given environment, no terminal and a process group of their own. It waits for them, passes on their
//! output line by line, and ends them when the user wants to stop.
//! out what they say line by line, and ends them when the user wants to stop.
//!
//! ```text
//! gentoomuch
//!  |- sh                  leads a process group; reads from a pipe of ours; kills the group when the pipe closes without a line
//!  `- git fetch           joins it
//!      `- git-remote-https
//! ```
//!
//! The programs do not watch our pipes, so without the shell they would outlive us for as long as a silent server keeps the connection
//! open.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::terminal_text::sanitize_line;
use crate::{sys, threads};

/// How many of a program's last messages an error carries.
const LAST_LINES: usize = 8;
/// Output beyond this is dropped.
const OUTPUT_LIMIT_BYTES: usize = 256 << 20;
/// How often `cancelled` is asked.
const TICK_MS: u64 = 100;
/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which of a program's outputs is handed out line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Stdout,
    Stderr,
}

/// Who receives a program's output and may end it.
pub(crate) struct Attendance<'a> {
    pub heard: Heard,
    /// Receives each piece that a line feed or carriage return ends; hostile.
    pub line: &'a mut (dyn FnMut(&str) + Send),
    /// Asked several times a second.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Whether it uses the network, and so may hang for any time: then it is killed if this process dies.
    pub reaches_out: bool,
}

impl fmt::Debug for Attendance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attendance").field("heard", &self.heard).finish_non_exhaustive()
    }
}

/// How a program ended, and its output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub argv: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// Its messages; hostile.
    pub stderr: String,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of this name.
    #[error("cannot find `{}`", program.display())]
    NotInstalled { program: PathBuf },
    /// It did not start, or one of its pipes failed.
    #[error("cannot run `{argv}`")]
    Run {
        argv: String,
        #[source]
        source: io::Error,
    },
    #[error("`{argv}` failed with {status}")]
    Failed {
        argv: String,
        status: ExitStatus,
        /// Its last messages, safe to print.
        last_lines: Vec<String>,
    },
    /// The user wanted to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Ended {
    /// Its output, if it succeeded.
    pub(crate) fn ok(self) -> Result<Vec<u8>, Error> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let last_lines = self.last_lines();
        Err(Error::Failed { argv: self.argv, status: self.status, last_lines })
    }

    /// Its last messages, safe to print. Of a line that was overwritten with carriage returns the last version counts.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let lines = self.stderr.lines().map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default());
        let lines: Vec<String> =
            lines.map(|line| sanitize_line(line.as_bytes(), 400)).filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
    }
}

/// Completes "cannot start a thread to" for the threads at a program's pipes.
const FEED: &str = "talk to a program with";

/// Starts `command`, writes `input` to it and waits for its end.
pub(crate) fn run(mut command: Command, input: &[u8], attendance: Attendance<'_>) -> Result<Ended, Error> {
    let argv = command_line(&command);
    tracing::debug!(argv, "starting");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source: io::Error| Error::Run { argv: argv.clone(), source };
    let watchdog = if attendance.reaches_out { Some(Watchdog::start().map_err(failed)?) } else { None };
    command.process_group(watchdog.as_ref().map_or(0, Watchdog::group));
    let mut child = command.spawn().map_err(|source| match source.kind() {
        // `NotFound` can also mean the working directory.
        io::ErrorKind::NotFound if command.get_current_dir().is_none_or(Path::is_dir) => {
            Error::NotInstalled { program: command.get_program().into() }
        }
        _ => failed(source),
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let Attendance { heard, line, cancelled, reaches_out: _ } = attendance;
    let (mut to_out, mut to_err): (Option<&mut (dyn FnMut(&str) + Send)>, _) = match heard {
        Heard::Stdout => (Some(line), None),
        Heard::Stderr => (None, Some(line)),
    };
    let (stdout, stderr, outcome) = std::thread::scope(|scope| {
        let fed = threads::scoped(scope, FEED, move || {
            if let Some(mut stdin) = stdin
                && let Err(error) = stdin.write_all(input)
            {
                // It stopped reading: it has enough, or it failed and says why on stderr.
                tracing::debug!("it does not read any more: {error}");
            }
        });
        let out = threads::scoped(scope, FEED, move || stdout.map(|stdout| read(stdout, &mut to_out)).unwrap_or_default());
        let err = threads::scoped(scope, FEED, move || stderr.map(|stderr| read(stderr, &mut to_err)).unwrap_or_default());
        let group = watchdog.as_ref().map(Watchdog::group);
        match fed.and_then(|_| Ok((out?, err?))) {
            Ok((out, err)) => {
                let outcome = attend(&mut child, group, cancelled);
                (out.join().unwrap_or_default(), err.join().unwrap_or_default(), outcome)
            }
            Err(error) => {
                // Without a thread nobody reads its output, so it would block for ever.
                if let Some(group) = group.or_else(|| i32::try_from(child.id()).ok()) {
                    sys::process::signal_group(group, nix::sys::signal::Signal::SIGKILL);
                }
                (Vec::new(), Vec::new(), child.wait().and(Err(error.into())))
            }
        }
    });
    drop(watchdog);
    let status = outcome.map_err(failed)?.ok_or(Error::Interrupted)?;
    Ok(Ended { argv, status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// Kills its process group if this process is killed. It is started first, and the program joins its group.
struct Watchdog(Child);

impl Watchdog {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        // `read` succeeds if we write a line, and the shell just ends. If we die it sees the end of the file, and kills its process
        // group (`kill 0`).
        command.args(["-c", "read -r end || kill -s KILL 0"]).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    fn group(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(0)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let told = self.0.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        let ended = self.0.wait();
        tracing::trace!(?told, ?ended, "nothing to watch any more");
    }
}

/// Waits for the end of `child`; `None` when it was ended because the user wants to stop.
fn attend(child: &mut Child, group: Option<i32>, cancelled: &dyn Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let group = group.unwrap_or(pid);
    let pidfd = sys::process::open_pidfd(pid).map_err(|error| error.source)?;
    let mut asked: Option<Instant> = None;
    loop {
        // A pidfd becomes readable when the process ends; `TICK_MS` is only for `cancelled`.
        sys::fd::wait_readable(&[pidfd.as_fd()], Some(TICK_MS)).map_err(|error| error.source)?;
        if let Some(status) = child.try_wait()? {
            if asked.is_some() {
                // Children of the program may still run.
                sys::process::signal_group(group, nix::sys::signal::Signal::SIGKILL);
                return Ok(None);
            }
            return Ok(Some(status));
        }
        match asked {
            None if cancelled() => {
                asked = Some(Instant::now());
                sys::process::signal_group(group, nix::sys::signal::Signal::SIGTERM);
            }
            Some(since) if since.elapsed() > PATIENCE => {
                sys::process::signal_group(group, nix::sys::signal::Signal::SIGKILL);
            }
            _ => {}
        }
    }
}

fn read(mut from: impl Read, heard: &mut Option<&mut (dyn FnMut(&str) + Send)>) -> Vec<u8> {
    let (mut all, mut line) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::debug!("its output cannot be read: {error}");
                break;
            }
        };
        let bytes = &buffer[..count];
        all.extend_from_slice(&bytes[..count.min(OUTPUT_LIMIT_BYTES - all.len())]);
        if let Some(heard) = heard.as_mut() {
            for &byte in bytes {
                if matches!(byte, b'\n' | b'\r') {
                    heard(&String::from_utf8_lossy(&line));
                    line.clear();
                } else if line.len() < 4096 {
                    line.push(byte);
                }
            }
        }
    }
    all
}

fn command_line(command: &Command) -> String {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .map(|word| sanitize_line(word.as_bytes(), 400))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin");
        command
    }

    #[test]
    fn lines_are_heard_while_it_runs_and_the_last_ones_kept() {
        let mut heard = Vec::new();
        let mut line = |line: &str| heard.push(line.to_owned());
        let attendance = Attendance { heard: Heard::Stderr, line: &mut line, cancelled: &|| false, reaches_out: false };
        let ended = run(shell("cat; printf '10%%\\r20%%\\rdone\\n\\033[31mred\\n' >&2; exit 3"), b"in", attendance).unwrap();
        assert_eq!((ended.stdout.as_slice(), ended.status.code()), (&b"in"[..], Some(3)));
        assert_eq!(ended.last_lines()[0], "done");
        assert!(!ended.last_lines()[1].contains('\u{1b}'));
        assert!(matches!(ended.ok(), Err(Error::Failed { .. })));
        assert_eq!(heard[..3], ["10%", "20%", "done"]);
    }

    #[test]
    fn whoever_wants_to_stop_does_not_wait_for_what_it_has_started() {
        let since = Instant::now();
        let attendance = Attendance {
            heard: Heard::Stdout,
            line: &mut |_| {},
            cancelled: &|| since.elapsed().as_millis() > 300,
            reaches_out: true,
        };
        // Neither of them ends by itself.
        let outcome = run(shell("sleep infinity & sleep infinity"), b"", attendance);
        assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let attendance = Attendance { heard: Heard::Stdout, line: &mut |_| {}, cancelled: &|| false, reaches_out: false };
        let error = run(Command::new("/nonexistent/rsync"), b"", attendance).unwrap_err();
        assert_eq!(error.to_string(), "cannot find `/nonexistent/rsync`");
    }
}
