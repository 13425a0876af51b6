//! Signals of this process as counters and a descriptor, for programs with many threads.
//!
//! A handler that counts and writes to an eventfd works whichever thread the kernel picks; a signalfd would need the signal blocked
//! in every thread, also in those that others start.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::{Error, Result};

/// Signals are numbered up to here.
const LIMIT: usize = 65;

static COUNTS: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];
static EVENTS: [AtomicI32; LIMIT] = [const { AtomicI32::new(-1) }; LIMIT];

/// Handlers for some signals; dropping it puts the earlier actions back. At most one at a time may watch a signal.
#[derive(Debug)]
pub(crate) struct Watch {
    event: OwnedFd,
    earlier: Vec<(Signal, SigAction)>,
}

impl Watch {
    /// Counts from zero.
    pub(crate) fn new(signals: &[Signal]) -> Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).map_err(Error::of("eventfd", "0"))?;
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::SA_RESTART, SigSet::empty());
        let mut watch = Self { event, earlier: Vec::new() };
        for signal in signals {
            let slot = *signal as usize;
            if EVENTS[slot].compare_exchange(-1, watch.event.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
                return Err(Error::new("sigaction", format_args!("{signal}: watched already"), rustix::io::Errno::BUSY));
            }
            COUNTS[slot].store(0, Ordering::SeqCst);
            // SAFETY: the handler only touches atomics and writes to a descriptor, which is allowed in handlers.
            match unsafe { nix::sys::signal::sigaction(*signal, &action) } {
                Ok(earlier) => watch.earlier.push((*signal, earlier)),
                Err(errno) => {
                    EVENTS[slot].store(-1, Ordering::SeqCst);
                    return Err(Error::new("sigaction", signal, errno));
                }
            }
        }
        Ok(watch)
    }

    /// Counts a signal that nobody has sent.
    pub(crate) fn tell(&self, signal: Signal) {
        COUNTS[signal as usize].fetch_add(1, Ordering::SeqCst);
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// How often signals have come since the watch began.
    pub(crate) fn count(&self) -> u32 {
        self.earlier.iter().map(|(signal, _)| Self::count_of(*signal)).sum()
    }

    /// The first of the signals, in the order in which they were named, that has come.
    pub(crate) fn first(&self) -> Option<Signal> {
        self.earlier.iter().map(|(signal, _)| *signal).find(|signal| Self::count_of(*signal) > 0)
    }

    /// How often the signal has come since the last watch of it began.
    pub(crate) fn count_of(signal: Signal) -> u32 {
        COUNTS[signal as usize].load(Ordering::SeqCst)
    }

    /// Readable once a signal has come, until [`Watch::drain`].
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Makes the descriptor wait for the next signal.
    pub(crate) fn drain(&self) {
        let mut value = [0u8; 8];
        let _ = rustix::io::read(&self.event, &mut value);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for (signal, earlier) in self.earlier.drain(..).rev() {
            // SAFETY: the action was in place before; whoever put it there answers for it.
            let _ = unsafe { nix::sys::signal::sigaction(signal, &earlier) };
            EVENTS[signal as usize].store(-1, Ordering::SeqCst);
        }
    }
}

extern "C" fn count(number: libc::c_int) {
    let Some(slot) = usize::try_from(number).ok().filter(|slot| *slot < LIMIT) else { return };
    COUNTS[slot].fetch_add(1, Ordering::SeqCst);
    let event = EVENTS[slot].load(Ordering::SeqCst);
    let one = 1u64.to_ne_bytes();
    // SAFETY: `write` is allowed in handlers, and reads eight bytes that live here; `errno` is given back to whom we interrupted.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(event, one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_wakes_and_gives_back() {
        let watch = Watch::new(&[Signal::SIGUSR1]).unwrap();
        assert!(Watch::new(&[Signal::SIGUSR1]).is_err());
        assert_eq!(super::super::fd::wait_readable(&[watch.fd()], Some(0)).unwrap(), [false]);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert_eq!(super::super::fd::wait_readable(&[watch.fd()], Some(1000)).unwrap(), [true]);
        assert_eq!(Watch::count_of(Signal::SIGUSR1), 2);
        watch.drain();
        assert_eq!(super::super::fd::wait_readable(&[watch.fd()], Some(0)).unwrap(), [false]);
        drop(watch);
        let watch = Watch::new(&[Signal::SIGUSR1]).unwrap();
        assert_eq!(Watch::count_of(Signal::SIGUSR1), 0);
        watch.tell(Signal::SIGUSR1);
        assert_eq!(Watch::count_of(Signal::SIGUSR1), 1);
        assert_eq!(super::super::fd::wait_readable(&[watch.fd()], Some(0)).unwrap(), [true]);
    }
}
