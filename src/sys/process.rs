//! Processes: attributes, waiting, and the two ways to leave.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether the status is 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status a shell would show: the code, or 128 and the signal's number.
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(out, "status {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(out, "signal {number} ({signal})"),
                Err(_) => write!(out, "signal {number}"),
            },
        }
    }
}

/// Whether other processes of the user may look into this one: its memory, its `/proc/PID/exe`, its descriptors.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    nix::sys::prctl::set_dumpable(dumpable).map_err(Error::of("prctl", format_args!("PR_SET_DUMPABLE, {}", u8::from(dumpable))))
}

/// Set-id programs and file capabilities no longer give anything to this process and its children.
pub fn set_no_new_privileges() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().map_err(Error::of("prctl", "PR_SET_NO_NEW_PRIVS, 1"))
}

/// Makes this process the leader of a session and a process group of its own, without a terminal.
pub fn new_session() -> Result<()> {
    nix::unistd::setsid().map(drop).map_err(Error::of("setsid", ""))
}

/// Reaps one child that has ended, of any process group, without waiting. `None`: none has ended, or there is none.
pub fn reap_any() -> Result<Option<(i32, Exit)>> {
    reap(None, WaitPidFlag::WNOHANG)
}

/// Waits for the end of any child. `None`: there is none.
pub fn wait_any() -> Result<Option<(i32, Exit)>> {
    reap(None, WaitPidFlag::empty())
}

/// Waits for the end of one child.
pub fn wait_for(pid: i32) -> Result<Exit> {
    match reap(Some(Pid::from_raw(pid)), WaitPidFlag::empty())? {
        Some((_, exit)) => Ok(exit),
        None => Err(Error::new("waitpid", pid, nix::errno::Errno::ECHILD)),
    }
}

fn reap(pid: Option<Pid>, flags: WaitPidFlag) -> Result<Option<(i32, Exit)>> {
    loop {
        match nix::sys::wait::waitpid(pid, Some(flags | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) => return Ok(Some((pid.as_raw(), Exit::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Ok(Some((pid.as_raw(), Exit::Signal(signal as i32)))),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("waitpid", pid.map_or(-1, Pid::as_raw), errno)),
        }
    }
}

/// A descriptor that becomes readable when the child `pid` ends (Linux 5.3).
pub fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    let number = rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::new("pidfd_open", pid, rustix::io::Errno::INVAL))?;
    rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()).map_err(Error::of("pidfd_open", pid))
}

/// Sends SIGKILL to the process that `pidfd` names. One that has ended already is no error.
pub fn kill_pidfd(pidfd: impl AsFd) -> Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::new("pidfd_send_signal", "SIGKILL", errno)),
    }
}

/// Replaces this process by the program at `path`. Returns only on failure.
pub fn execute(path: &CString, argv: &[CString], env: &[CString]) -> Result<Infallible> {
    nix::unistd::execve(path, argv, env).map_err(Error::of("execve", path.to_string_lossy()))
}

/// Ends this process at once: no destructors, no buffered output. For the helper only, which must never return into a program
/// that believes it is alone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Removes from the bounding set every capability that `kept` does not name, known to us or not: the kernel says where they end.
pub fn limit_bounding_set(kept: u64) -> Result<()> {
    for number in 0..64u32 {
        if kept >> number & 1 == 1 {
            continue;
        }
        // SAFETY: the call takes integers.
        let code = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if code != 0 {
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(());
            }
            return Err(Error::new("prctl", format_args!("PR_CAPBSET_DROP, {number}"), error));
        }
    }
    Ok(())
}

/// Sends a signal to all processes of a group. One that has ended already is no error.
pub fn signal_group(group: i32, signal: nix::sys::signal::Signal) {
    if let Err(errno) = nix::sys::signal::killpg(Pid::from_raw(group), signal) {
        tracing::debug!(group, %signal, %errno, "nobody to tell");
    }
}
