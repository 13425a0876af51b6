//! The user's wish to stop: once politely, twice at once.

use std::os::fd::BorrowedFd;

use nix::sys::signal::Signal;

use super::error::Result;
use super::launch::Running;
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::watch::Watch;

/// The signals that mean "stop": Ctrl-C, `kill`, a closed terminal.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Counts SIGINT, SIGTERM and SIGHUP instead of dying from them, as long as it lives. One a process.
#[derive(Debug)]
pub struct Interrupt {
    watch: Watch,
}

/// What an interrupted session has been told so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Told {
    #[default]
    Nothing,
    Stop,
    /// Nothing any more: it was killed.
    Killed,
}

impl Interrupt {
    /// Begins to count.
    pub fn install() -> Result<Self> {
        Ok(Self { watch: Watch::new(&SIGNALS)? })
    }

    /// Asks to stop, as Ctrl-C does; from any thread.
    pub fn ask(&self) {
        self.watch.tell(Signal::SIGTERM);
    }

    /// How many times the user has asked to stop. A long piece of work looks here between its parts.
    pub fn count(&self) -> u32 {
        self.watch.count()
    }

    /// Whether the user has asked to stop, for threads and connections that may outlive the borrow. Without an [`Interrupt`] in place
    /// it says what the last one has counted.
    pub fn asked() -> bool {
        SIGNALS.iter().any(|signal| Watch::count_of(*signal) > 0)
    }

    /// The signal that was first among equals: what the session is told.
    pub fn signal(&self) -> Option<i32> {
        self.watch.first().map(|signal| signal as i32)
    }

    /// Readable when the user has asked (again) since [`Interrupt::seen`]; for poll loops.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }

    /// Makes the descriptor wait for the next time.
    pub fn seen(&self) {
        self.watch.drain();
    }

    /// Passes on what the user asked for: the first time the signal goes to the command, the second time the session is killed.
    pub fn pass_on(&self, running: &mut Running, told: Told) -> Result<Told> {
        self.seen();
        let due = match self.count() {
            0 => Told::Nothing,
            1 => Told::Stop,
            _ => Told::Killed,
        };
        if due > told {
            match (due, self.signal()) {
                (Told::Killed, _) => running.kill()?,
                (_, Some(number)) => running.signal(number)?,
                (_, None) => {}
            }
        }
        Ok(due.max(told))
    }

    /// Waits for the end of a session without a terminal, passing on what the user asks for meanwhile.
    pub fn wait(&self, running: &mut Running) -> Result<Exit> {
        let mut told = Told::Nothing;
        loop {
            let ready = sys::fd::wait_readable(&[running.finished_fd(), self.fd()], None)?;
            if ready.first() == Some(&true) {
                return running.wait();
            }
            told = self.pass_on(running, told)?;
        }
    }
}
