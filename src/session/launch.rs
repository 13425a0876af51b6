//! Starts commands in a session and waits for them.
//!
//! Before anything but emerge runs, the configuration is put back as it was before packages were installed. [`crate::session::run`] does
//! that; what is here does not, so that putting it back can itself be a command.

use std::fs;
use std::io::{PipeReader, PipeWriter};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::context::{Context, not_interrupted};
use crate::path_error::OfFile as _;
use crate::sandbox::plan::Network;
use crate::sandbox::{Exit, Running, SessionOptions, Stdio};
use crate::session::output::SessionOutput;
use crate::session::root::{Run, UserBind};
use crate::session::{Error, Result, Work, supply};
use crate::terminal_text::sanitize;
use crate::threads::NoThread;
use crate::{sandbox, threads};
/// For the error if the thread that reads a session's output cannot be started.
pub(crate) const READ: &str = "read the output of a session with";

/// The network that a run really gets if it asks for `network`. Adds the proxies to its environment.
pub(crate) fn connect(cx: &Context<'_>, network: Network, env: &mut Vec<(String, String)>) -> Network {
    match (&cx.settings.download, network) {
        (download, _) if download.offline => Network::None,
        (download, Network::Host) => {
            env.extend(download.proxies.variables());
            network
        }
        _ => network,
    }
}

/// How often we look after a running session.
const TICK: Duration = Duration::from_millis(200);

/// How many last lines of a failed command's output are shown.
pub(crate) const LAST_LINES: usize = 30;

pub(crate) fn launch(cx: &Context<'_>, work: &Work<'_>, run: &Run) -> Result<(Running, SessionOutput)> {
    let pipe = || -> std::io::Result<(PipeReader, PipeWriter, PipeWriter)> {
        let (reader, writer) = std::io::pipe()?;
        let second = writer.try_clone()?;
        Ok((reader, writer, second))
    };
    let (reader, stdout, stderr) = pipe().map_err(Error::io("create a pipe for", &*work.log_dir))?;
    let options = SessionOptions {
        hold: vec![work.session.borrow().lock_fd()?],
        limits: cx.settings.limits,
        priority: cx.settings.priority,
        used_ms: work.used_ms(),
        shows_host: work.root.shows_host(run),
        ..SessionOptions::new(Stdio::Pipes {
            stdin: crate::sys::fd::null().map_err(sandbox::Error::from)?,
            stdout: stdout.into(),
            stderr: stderr.into(),
        })
    };
    let running = cx.launcher.session(&work.root.plan(run), options)?;
    work.session.borrow_mut().record_pid1(running.pid1())?;
    let ended = running.finished_fd().try_clone_to_owned().map_err(Error::io("duplicate a descriptor for", &*work.log_dir))?;
    Ok((running, SessionOutput::new(reader, ended)))
}

/// Waits for the end of a session. The first Ctrl-C is passed on; the second one kills the session.
pub(crate) fn supervise(cx: &Context<'_>, work: &Work<'_>, running: &mut Running, mut tick: impl FnMut()) -> Result<Exit> {
    let mut told = 0;
    loop {
        if let Some(exit) = running.wait_timeout(TICK)? {
            return Ok(exit);
        }
        let count = cx.interrupt.count();
        if count > told {
            if told == 0 {
                cx.observer.note("interrupted: waiting for the build to stop (interrupt again to stop it at once)");
                // emerge handles SIGINT: it stops its jobs and keeps the merge list for `--resume`.
                running.signal(libc::SIGINT)?;
            }
            if count > 1 {
                running.kill()?;
            }
            told = count;
        }
        if work.is_over() {
            running.kill()?;
        }
        tick();
    }
}

pub(crate) fn run_of(work: &Work<'_>, argv: Vec<String>, network: Network) -> Run {
    Run { argv, env: work.env.clone(), network, terminal: false, hostname: work.hostname.clone(), shown: None, in_memory: None }
}

/// Runs a command of ours, which sees the directory `shown`, too. Its output goes to the log and is shown only if it fails. `on_lines`
/// gets now and then, and at the end, how many lines it has said.
pub(crate) fn logged(
    cx: &Context<'_>,
    work: &Work<'_>,
    argv: Vec<String>,
    network: Network,
    shown: Option<UserBind>,
    on_lines: &mut dyn FnMut(u64),
) -> Result<()> {
    let lines = AtomicU64::new(0);
    let log = work.log_dir.join("commands.log");
    let command = argv.join(" ");
    let mut run = Run { shown, ..run_of(work, argv, network) };
    run.network = connect(cx, network, &mut run.env);
    let (mut running, output) = launch(cx, work, &run)?;
    let (exit, said) = supply::answering(cx, &work.supply, || {
        std::thread::scope(|scope| {
            let reader = threads::scoped(scope, READ, || append_log(&log, &command, output, &lines))?;
            let exit = supervise(cx, work, &mut running, || on_lines(lines.load(Ordering::Relaxed)));
            Ok::<_, NoThread>((exit, reader.join()))
        })
    })?;
    on_lines(lines.load(Ordering::Relaxed));
    let (exit, said) = (exit?, said.unwrap_or_default());
    not_interrupted(cx)?;
    if let Some(error) = said.unwritten {
        cx.observer.warn(&format!("cannot write `{}`: {error}", log.display()));
    }
    if exit == Exit::Code(0) {
        return Ok(());
    }
    Err(Error::Command { command, exit, log, last_lines: said.last_lines })
}

/// A command's output.
#[derive(Debug, Default)]
struct Said {
    /// Its last lines, safe to print.
    last_lines: Vec<String>,
    /// Why the log does not have all of it.
    unwritten: Option<std::io::Error>,
}

/// Appends a command and its output to a log. If the log cannot be written, the command goes on.
fn append_log(path: &Path, command: &str, mut output: impl std::io::Read, lines: &AtomicU64) -> Said {
    use std::io::Write as _;
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    let mut log = opened.and_then(|mut file| writeln!(file, "$ {command}").map(|()| file));
    let mut write = |bytes: &[u8]| {
        if let Ok(file) = &mut log
            && let Err(error) = file.write_all(bytes)
        {
            log = Err(error);
        }
    };
    let mut tail = std::collections::VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let since = Instant::now();
    let broken = loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => break Some(error),
        };
        write(&buffer[..count]);
        let ended = buffer[..count].split(|byte| *byte == b'\n').count() - 1;
        lines.fetch_add(ended as u64, Ordering::Relaxed);
        tail.extend(buffer[..count].iter().copied());
        while tail.len() > 64 * 1024 {
            tail.pop_front();
        }
    };
    write(format!("# {:.1} s\n", since.elapsed().as_secs_f64()).as_bytes());
    let text = sanitize(tail.make_contiguous());
    let lines: Vec<&str> = text.lines().collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    Said { last_lines, unwritten: log.err().or(broken) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_loses_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commands.log");
        let output = "first\n".repeat(100_000) + "last\n";
        let lines = AtomicU64::new(0);
        let said = append_log(&path, "make", output.as_bytes(), &lines);
        assert_eq!(lines.into_inner(), 100_001);
        assert!(said.unwritten.is_none() && said.last_lines.last().unwrap() == "last", "{said:?}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("$ make\nfirst\n") && text.contains("last\n# "), "{}", text.len());
        for (path, words) in [("/dev/full", "No space left on device"), ("/nowhere/commands.log", "No such file")] {
            let mut output = output.as_bytes();
            let said = append_log(Path::new(path), "make", &mut output, &AtomicU64::new(0));
            assert!(output.is_empty(), "the command would have been stopped");
            assert_eq!(said.last_lines.last().unwrap(), "last");
            assert!(said.unwritten.unwrap().to_string().starts_with(words));
        }
    }
}
