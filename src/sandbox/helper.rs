//! The entry point of our own processes, and what a task sees.

use super::channel::Channel;
use super::outer;
use super::request::OUTER;
use crate::sandbox::task::Lookup;
use crate::sys;

/// Call this first in `main`, before any thread exists: it returns at once unless this process was started as one of our helpers,
/// and never returns if it was. `lookup` finds the tasks that the program offers.
///
/// A helper gets its socket as standard input and nothing else, so it first closes every descriptor from 3 upwards. The program that
/// starts sessions may have others open that are not close-on-exec, and a link in the root could name one of them (CVE-2024-21626).
///
/// In the program itself it resets SIGCHLD: if the parent ignored it, the kernel would reap our children before we could wait for them.
pub fn enter_if_asked(lookup: Lookup) {
    // `sigaction` fails only for a signal that does not exist.
    drop(sys::signal::heed_children());
    let Some(name) = std::env::args_os().next() else { return };
    if name != OUTER {
        return;
    }
    // It was executed by the number of a descriptor, which `ps` would show.
    sys::process::rename(OUTER);
    let code = match sys::fd::close_others().and_then(|()| sys::fd::take_stdin()) {
        Ok(control) => outer::run(Channel::from_fd(control), lookup),
        Err(_) => 70,
    };
    sys::process::exit_now(code);
}
