//! Standard output and error: what a session writes into a pipe of its own, copied to ours.
//!
//! We copy and do not `splice(2)`: a session can still change pages that it has put into a pipe by `vmsplice`.

use std::fs::File;
use std::io::PipeReader;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::CHUNK;
use super::cleaner::Cleaner;

pub(super) fn drain(reader: &PipeReader, output: &File, watch: &PipeReader, mut clean: Option<Cleaner>) {
    let mut chunk = vec![0; CHUNK];
    let mut over = false;
    loop {
        match rustix::io::read(reader, &mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                let cleaned = clean.as_mut().map(|clean| clean.text(&chunk[..length]));
                let bytes = cleaned.as_ref().map_or(&chunk[..length], String::as_bytes);
                if !write_all(output, bytes) {
                    // Nobody reads our output any more. The command learns it when we close our side of its pipe.
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // The session is over and its pipe is empty. Somebody outside may have received its writing side; we do not wait for them.
            Err(Errno::AGAIN) if over => return,
            Err(Errno::AGAIN) => match wait(reader, output, watch) {
                Next::Read => {}
                Next::Over => over = true,
                Next::Gone => return,
            },
            Err(_) => return,
        }
    }
}

enum Next {
    Read,
    /// The session is over.
    Over,
    /// Nobody reads our output any more. The command gets EPIPE with its next byte, as if it had our pipe itself.
    Gone,
}

fn wait(reader: &PipeReader, output: &File, watch: &PipeReader) -> Next {
    let mut polled = [
        PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN),
        // `poll` reports errors and the end of the other side without being asked.
        PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty()),
    ];
    match rustix::event::poll(&mut polled, None) {
        Ok(_) if !polled[0].revents().is_empty() => Next::Over,
        Ok(_) if !polled[2].revents().is_empty() => Next::Gone,
        Ok(_) | Err(Errno::INTR) => Next::Read,
        Err(_) => Next::Over,
    }
}

/// False if it cannot be written.
fn write_all(output: &File, mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match rustix::io::write(output, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            // Another process shares our output and has set `O_NONBLOCK`.
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::OUT)];
                if !matches!(rustix::event::poll(&mut polled, None), Ok(_) | Err(Errno::INTR)) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
