//! Signals: a clean slate, signals as readable descriptors, and sending them.

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::{Error, Result};

/// Gives every signal its default action and unblocks all. A process that inherits an ignored SIGCHLD cannot wait for its children, and a
/// session must not inherit that our runtime ignores SIGPIPE.
pub(crate) fn reset_all() -> Result<()> {
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours. Handlers that the runtime installed (stack overflow) are given up.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }
            .map_err(Error::of("signal", format_args!("{signal}, SIG_DFL")))?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(Error::of("sigprocmask", "SIG_SETMASK, []"))
}

/// Lets this process wait for its children. If the program that started us ignores SIGCHLD, so do we, and the kernel reaps children
/// before `waitpid` finds them.
pub(crate) fn heed_children() -> Result<()> {
    // SAFETY: the default action runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }
        .map(drop)
        .map_err(Error::of("signal", "SIGCHLD, SIG_DFL"))
}

/// Lets a write beyond `RLIMIT_FSIZE` fail with `EFBIG`. Its signal, SIGXFSZ, would kill the process without a message.
pub(crate) fn ignore_file_size() -> Result<()> {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) }
        .map(drop)
        .map_err(Error::of("signal", "SIGXFSZ, SIG_IGN"))
}

/// Blocks `signals` for this thread and the threads it will start, and gives a descriptor that is readable when one is pending.
pub(crate) fn as_descriptor(signals: &[Signal]) -> Result<SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().map_err(Error::of("pthread_sigmask", "SIG_BLOCK"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Error::of("signalfd", ""))
}

/// Sends `signal` to a process group. Does nothing if it has ended.
pub(crate) fn send_to_group(group: i32, signal: i32) -> Result<()> {
    send(Pid::from_raw(-group), signal)
}

/// Sends a signal to every process of this PID namespace but its first, which must be the caller.
pub(crate) fn send_to_all_others(signal: Signal) -> Result<()> {
    send(Pid::from_raw(-1), signal as i32)
}

fn send(target: Pid, signal: i32) -> Result<()> {
    // SAFETY: `kill` takes two integers. The wrapper of `nix` knows no real-time signals.
    let code = unsafe { libc::kill(target.as_raw(), signal) };
    let error = std::io::Error::last_os_error();
    if code == 0 || error.raw_os_error() == Some(libc::ESRCH) {
        Ok(())
    } else {
        Err(Error::new("kill", format_args!("{target}, {signal}"), error))
    }
}
