//! The user's wish to stop: the first time we ask the session to end, the second time we kill it.

use std::os::fd::BorrowedFd;

use nix::sys::signal::Signal;

use super::error::Result;
use super::launch::Running;
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::watch::Watch;

/// The signals that mean "stop": Ctrl-C, `kill`, a closed terminal.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Counts SIGINT, SIGTERM and SIGHUP for as long as it lives, instead of dying from them. A process has one at most.
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
    pub fn install() -> Result<Self> {
        Ok(Self { watch: Watch::new(&SIGNALS)? })
    }

    /// Asks to stop, as Ctrl-C does; from any thread.
    pub fn ask(&self) {
        self.watch.tell(Signal::SIGTERM);
    }

    /// How many times the user has asked to stop. Long work checks this between its parts.
    pub fn count(&self) -> u32 {
        self.watch.count()
    }

    /// Whether the user has asked to stop, for threads and connections that may outlive the borrow. When no [`Interrupt`] is in place,
    /// this is the count of the last one.
    pub fn asked() -> bool {
        SIGNALS.iter().any(|signal| Watch::count_of(*signal) > 0)
    }

    /// The signal that came first. The session gets this one.
    pub fn signal(&self) -> Option<i32> {
        self.watch.first().map(|signal| signal as i32)
    }

    /// Becomes readable when the user asks (again) after [`Interrupt::seen`]; for poll loops.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }

    /// Empties the descriptor, so that it waits for the next signal.
    pub fn seen(&self) {
        self.watch.drain();
    }

    /// Passes the user's wish on: the first time the command gets the signal, the second time the session is killed.
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

    /// Waits for the end of a session without a terminal, and passes on what the user asks for meanwhile.
    pub fn wait(&self, running: &mut Running) -> Result<Exit> {
        let mut told = Told::Nothing;
        loop {
            // The session's end is looked at first: after it there is nobody to pass a signal to.
            let ready = sys::fd::wait_readable(&[running.finished_fd(), self.fd()], None)?;
            if ready.first() == Some(&true) {
                return running.wait();
            }
            told = self.pass_on(running, told)?;
        }
    }
}
