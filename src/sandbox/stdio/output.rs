//! Standard output and error: what a session writes into a pipe of its own, copied to ours.
//!
//! Copied and not moved by `splice(2)`: pages that a session has given away by `vmsplice` can still be changed by it.

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
                    // Nobody reads it any more: closing our side tells the command.
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // What is left in the pipe is printed; somebody outside who was given its other side is not waited for.
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
    /// Nobody reads our output any more. The command is told when it writes the next byte, as if it had our pipe itself.
    Gone,
}

fn wait(reader: &PipeReader, output: &File, watch: &PipeReader) -> Next {
    let mut polled = [
        PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN),
        // Errors and the other side's end are always told.
        PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty()),
    ];
    match rustix::event::poll(&mut polled, None) {
        Ok(_) if !polled[0].revents().is_empty() => Next::Over,
        Ok(_) if !polled[2].revents().is_empty() => Next::Gone,
        Ok(_) | Err(Errno::INTR) => Next::Read,
        Err(_) => Next::Over,
    }
}

/// False when it cannot be written.
fn write_all(output: &File, mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match rustix::io::write(output, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            // Who gave it to us, or shares it with us, does not wait.
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
