//! Pseudo-terminals from a given devpts.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::{Error, Result};

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Unlocks the master `ptmx` and opens its other side without a path (Linux 4.13). A path could lead into another devpts.
pub(crate) fn open_other_side(ptmx: impl AsFd) -> Result<OwnedFd> {
    let ptmx = ptmx.as_fd();
    rustix::pty::unlockpt(ptmx).map_err(Error::of("ioctl", "ptmx, TIOCSPTLCK"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(ptmx, flags).map_err(Error::of("ioctl", "ptmx, TIOCGPTPEER"))
}

/// The size of the terminal, if it is one.
pub(crate) fn size(terminal: impl AsFd) -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Tells the terminal its size; the foreground process group gets SIGWINCH.
pub(crate) fn set_size(terminal: impl AsFd, size: TerminalSize) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(Error::of("ioctl", "TIOCSWINSZ"))
}

/// Makes `terminal` the controlling terminal of this session leader.
pub(crate) fn take_control(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).map_err(Error::of("ioctl", "TIOCSCTTY"))
}

/// The foreground process group of the terminal, in this process's PID namespace.
pub(crate) fn foreground_group(terminal: impl AsFd) -> Option<i32> {
    rustix::termios::tcgetpgrp(terminal).ok().map(rustix::process::Pid::as_raw_pid)
}

/// A terminal in raw mode: every key goes through as bytes. Dropping it restores the mode, also when a panic unwinds. After SIGKILL the
/// user needs `stty sane`.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    earlier: rustix::termios::Termios,
}

impl RawMode {
    pub(crate) fn enter(terminal: impl AsFd) -> Result<Self> {
        let terminal = super::fd::duplicate(terminal)?;
        let earlier = rustix::termios::tcgetattr(&terminal).map_err(Error::of("tcgetattr", ""))?;
        let mut raw = earlier.clone();
        raw.make_raw();
        // The guard comes first, so that the mode is restored even if setting it fails half-way.
        let guard = Self { terminal, earlier };
        rustix::termios::tcsetattr(&guard.terminal, rustix::termios::OptionalActions::Drain, &raw)
            .map_err(Error::of("tcsetattr", "raw"))?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, rustix::termios::OptionalActions::Drain, &self.earlier);
    }
}
