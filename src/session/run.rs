//! The only way to run a command in a session.

use std::os::fd::{AsFd as _, OwnedFd};

use crate::context::{Context, not_interrupted};
use crate::path_error::OfFile as _;
use crate::sandbox::plan::Network;
use crate::sandbox::{Exit, SessionOptions, Stdio, terminal};
use crate::session::launch::{LAST_LINES, READ, run_of, supervise};
use crate::session::output::SessionOutput;
use crate::session::root::Run;
use crate::session::{Error, Result, Work, launch, put_back, supply};
use crate::terminal_text::{sanitize, sanitize_uncut};
use crate::threads;
use crate::threads::NoThread;

/// Runs a command with the caller's own standard streams, or on a terminal of its own. Returns how it ended.
pub(crate) fn attend(cx: &Context<'_>, work: &Work<'_>, run: &Run) -> Result<Exit> {
    put_back::put_back_configuration(cx, work)?;
    let options = SessionOptions {
        hold: locks_of(work)?,
        limits: cx.settings.limits,
        priority: cx.settings.priority,
        used_ms: work.used_ms(),
        shows_host: work.root.shows_host(run),
        terminal_size: if run.terminal { crate::sys::pty::size(std::io::stdin()) } else { None },
        ..SessionOptions::new(Stdio::Inherit)
    };
    let mut running = cx.launcher.session(&work.root.plan(run), options)?;
    work.session.borrow_mut().record_pid1(running.pid1())?;
    supply::answering(cx, &work.supply, || {
        if run.terminal {
            Ok(terminal::proxy(&mut running, cx.interrupt, std::io::stdin().as_fd(), std::io::stdout().as_fd())?)
        } else {
            Ok(cx.interrupt.wait(&mut running)?)
        }
    })
}

/// The session's lock, and that of the one it stands on.
fn locks_of(work: &Work<'_>) -> Result<Vec<OwnedFd>> {
    let session = work.session.borrow();
    Ok(std::iter::once(session.lock_fd()?).chain(session.lock_fd_below()?).collect())
}

/// Runs a command of ours. Its output goes to the log and is shown only if it fails.
pub(crate) fn command(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, network: Network) -> Result<()> {
    command_counted(cx, work, argv, network, &mut |_| {})
}

/// As [`command`]; `on_lines` gets how many lines it has said.
pub(crate) fn command_counted(
    cx: &Context<'_>,
    work: &Work<'_>,
    argv: Vec<String>,
    network: Network,
    on_lines: &mut dyn FnMut(u64),
) -> Result<()> {
    put_back::put_back_configuration(cx, work)?;
    launch::logged(cx, work, argv, network, None, on_lines)
}

/// Runs a command without network. Returns how it ended and the beginning of its output, which may be hostile.
pub(crate) fn exit_and_output(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<(Exit, Vec<u8>)> {
    put_back::put_back_configuration(cx, work)?;
    read_run(cx, work, &run_of(work, argv, Network::None), limit_bytes)
}

fn read_run(cx: &Context<'_>, work: &Work<'_>, run: &Run, limit_bytes: u64) -> Result<(Exit, Vec<u8>)> {
    let (mut running, output) = launch::launch(cx, work, run)?;
    let (exit, text) = supply::answering(cx, &work.supply, || {
        std::thread::scope(|scope| {
            let reader = threads::scoped(scope, READ, || read_bounded(output, limit_bytes))?;
            Ok::<_, NoThread>((supervise(cx, work, &mut running, || {}), reader.join()))
        })
    })?;
    let exit = exit?;
    not_interrupted(cx)?;
    let text = text.unwrap_or_else(|_| Ok(Vec::new())).map_err(Error::io("read the output in", &*work.log_dir))?;
    Ok((exit, text))
}

/// Runs a command and returns the beginning of its output, with nothing that a terminal obeys. Lines may have any length.
pub(crate) fn output_of(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<String> {
    Ok(sanitize_uncut(&checked_output(cx, work, argv, limit_bytes)?))
}

/// The same without cleaning.
pub(crate) fn checked_output(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<Vec<u8>> {
    put_back::put_back_configuration(cx, work)?;
    checked(cx, work, &run_of(work, argv, Network::None), limit_bytes)
}

/// As [`checked_output`], for a program of ours. If the configuration has to be put back, the same run does that before.
pub(crate) fn output_and_put_back(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<Vec<u8>> {
    let Some(before) = put_back::before(work)? else { return checked(cx, work, &run_of(work, argv, Network::None), limit_bytes) };
    let argv = before.argv.into_iter().chain(argv).collect();
    let run = Run { shown: Some(before.shown), ..run_of(work, argv, Network::None) };
    let output = checked(cx, work, &run, limit_bytes)?;
    put_back::is_done(work)?;
    Ok(output)
}

fn checked(cx: &Context<'_>, work: &Work<'_>, run: &Run, limit_bytes: u64) -> Result<Vec<u8>> {
    let (exit, text) = read_run(cx, work, run, limit_bytes)?;
    if exit == Exit::Code(0) {
        return Ok(text);
    }
    let text = sanitize(&text);
    let log = work.log_dir.join("commands.log");
    let lines: Vec<&str> = text.lines().collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    Err(Error::Command { command: run.argv.join(" "), exit, log, last_lines })
}

/// Reads all of `output` but keeps only the first bytes.
fn read_bounded(mut output: SessionOutput, limit_bytes: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut kept = Vec::new();
    std::io::Read::by_ref(&mut output).take(limit_bytes).read_to_end(&mut kept)?;
    // Read to the end: a command whose pipe is full would never end.
    std::io::copy(&mut output, &mut std::io::sink())?;
    Ok(kept)
}
