//! Joins the user's terminal and the session's.
//!
//! ```text
//! user's terminal (raw) --keys--> master of the session's pty --> command
//!                       <--all that it prints--
//! SIGWINCH -> size of the session's terminal;  SIGTERM, SIGHUP -> Interrupt
//! ```
//!
//! In raw mode Ctrl-C is an ordinary byte. The session's own terminal turns it into SIGINT for its foreground process group.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::interrupt::{Interrupt, Told};
use super::launch::Running;
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::pty::{self, RawMode};
use crate::sys::watch::Watch;

/// Whether standard input and output of this process are one terminal. Only then is a session joined with it. A user who redirects the
/// output does not expect us to read keys, and a user who redirects the input does not expect the session to move the cursor.
pub(crate) fn is_ours() -> bool {
    is_one(rustix::stdio::stdin(), rustix::stdio::stdout())
}

fn is_one(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> bool {
    let terminal = |fd: BorrowedFd<'_>| {
        let status = rustix::fs::fstat(fd).ok().filter(|_| rustix::termios::isatty(fd))?;
        Some((status.st_dev, status.st_rdev))
    };
    terminal(input).is_some_and(|input| terminal(output) == Some(input))
}

/// Bytes moved at a time.
const CHUNK: usize = 16 * 1024;

/// Joins `input` and `output`, both of the user's terminal, with the session's terminal until the session is over, then prints the rest.
/// The terminal's mode is restored on every way out.
pub fn proxy(running: &mut Running, interrupt: &Interrupt, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<Exit> {
    let Some(master) = running.pty() else {
        return interrupt.wait(running);
    };
    let master = sys::fd::duplicate(master)?;
    let resized = Watch::new(&[Signal::SIGWINCH])?;
    let raw = RawMode::enter(input)?;
    // The window may have changed between the plan and the watch.
    resize(input, master.as_fd())?;
    let mut pump = Pump { input, output, master: master.as_fd(), to_session: Vec::new(), input_open: true, master_open: true };
    let mut told = Told::Nothing;
    loop {
        let ready = pump.wait(&[running.finished_fd(), resized.fd(), interrupt.fd()])?;
        if ready.interrupted {
            told = interrupt.pass_on(running, told)?;
        }
        if ready.resized {
            resized.drain();
            resize(input, master.as_fd())?;
        }
        if ready.input && !pump.read_input()? {
            // The user's terminal is gone.
            running.signal(Signal::SIGHUP as i32)?;
        }
        if ready.master {
            pump.print()?;
        }
        pump.feed()?;
        if ready.finished {
            break;
        }
    }
    pump.print_rest()?;
    drop(raw);
    running.wait()
}

fn resize(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    match pty::size(from) {
        // A serial line reports 0 rows and columns.
        Some(size) if size.rows > 0 && size.columns > 0 => Ok(pty::set_size(to, size)?),
        _ => Ok(()),
    }
}

/// What would not block now.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each descriptor polled, all independent")]
struct Ready {
    finished: bool,
    resized: bool,
    interrupted: bool,
    input: bool,
    master: bool,
}

struct Pump<'fd> {
    input: BorrowedFd<'fd>,
    output: BorrowedFd<'fd>,
    master: BorrowedFd<'fd>,
    /// Typed, but not read by the session yet. A program that does not read must not stop its own output.
    to_session: Vec<u8>,
    input_open: bool,
    master_open: bool,
}

impl Pump<'_> {
    /// `others`: the end of the session, the window's size, the user's wish to stop.
    fn wait(&self, others: &[BorrowedFd<'_>; 3]) -> Result<Ready> {
        let mut polled: Vec<PollFd<'_>> = others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        // Read no more keys while many wait. Do not poll a closed descriptor: it would always be ready.
        let input = if self.input_open && self.to_session.len() < CHUNK { PollFlags::IN } else { PollFlags::empty() };
        let mut master = if self.master_open { PollFlags::IN } else { PollFlags::empty() };
        master.set(PollFlags::OUT, self.master_open && !self.to_session.is_empty());
        let (input_at, master_at) = (polled.len(), polled.len() + usize::from(!input.is_empty()));
        if !input.is_empty() {
            polled.push(PollFd::from_borrowed_fd(self.input, input));
        }
        if !master.is_empty() {
            polled.push(PollFd::from_borrowed_fd(self.master, master));
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(sys::Error::new("poll", polled.len(), errno).into()),
        }
        let set = |index: usize| polled.get(index).is_some_and(|entry| !entry.revents().is_empty());
        Ok(Ready {
            finished: set(0),
            resized: set(1),
            interrupted: set(2),
            input: !input.is_empty() && set(input_at),
            master: !master.is_empty() && polled.get(master_at).is_some_and(|entry| entry.revents().intersects(!PollFlags::OUT)),
        })
    }

    /// Reads what was typed; false at the end.
    fn read_input(&mut self) -> Result<bool> {
        let mut chunk = [0u8; CHUNK];
        match rustix::io::read(self.input, &mut chunk) {
            Ok(0) | Err(Errno::IO) => self.input_open = false,
            Ok(length) => self.to_session.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(sys::Error::new("read", "terminal", errno).into()),
        }
        Ok(self.input_open)
    }

    /// Writes to the session's terminal as much as it takes without blocking.
    fn feed(&mut self) -> Result<()> {
        while !self.to_session.is_empty() && self.master_open && writable(self.master)? {
            // A terminal in line mode takes 4095 bytes at most; small writes never block once it is writable.
            let wish = self.to_session.len().min(256);
            match rustix::io::write(self.master, &self.to_session[..wish]) {
                Ok(length) => drop(self.to_session.drain(..length)),
                Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
                // `EIO`: no process has the other side open any more.
                Err(Errno::IO) => self.master_open = false,
                Err(errno) => return Err(sys::Error::new("write", "session's terminal", errno).into()),
            }
        }
        Ok(())
    }

    /// Prints one chunk; false once there can be no more.
    fn print(&mut self) -> Result<bool> {
        let mut chunk = [0u8; CHUNK];
        // EIO is how a pty's master reports that no process has the other side open.
        match rustix::io::read(self.master, &mut chunk) {
            Ok(0) | Err(Errno::IO) => self.master_open = false,
            Ok(length) => write_all(self.output, &chunk[..length])?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(sys::Error::new("read", "session's terminal", errno).into()),
        }
        Ok(self.master_open)
    }

    /// Prints the rest of the output. All processes of the session are gone, so this comes to an end.
    fn print_rest(&mut self) -> Result<()> {
        while self.master_open && sys::fd::wait_readable(&[self.master], Some(0))? == [true] {
            self.print()?;
        }
        Ok(())
    }
}

fn writable(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let zero = rustix::event::Timespec::default();
    match rustix::event::poll(&mut polled, Some(&zero)) {
        Ok(_) => Ok(polled[0].revents().contains(PollFlags::OUT)),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(sys::Error::new("poll", "session's terminal", errno).into()),
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            // `O_NONBLOCK` belongs to the open terminal, so another process that shares it may have set it.
            Err(Errno::AGAIN) => drop(rustix::event::poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::OUT)], None)),
            Err(errno) => return Err(Error::Sys(sys::Error::new("write", "terminal", errno))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::pty::OpenptFlags;

    use super::*;

    #[test]
    fn two_terminals_are_not_one() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let [first, second] = [(); 2].map(|()| {
            let master = rustix::pty::openpt(flags).unwrap();
            let other = pty::open_other_side(&master).unwrap();
            (master, other)
        });
        let null = sys::fd::null().unwrap();
        assert!(is_one(first.1.as_fd(), first.1.try_clone().unwrap().as_fd()));
        for (input, output) in [(&first.1, &second.1), (&first.1, &null), (&null, &first.1), (&null, &null)] {
            assert!(!is_one(input.as_fd(), output.as_fd()));
        }
    }
}
