//! Standard input: what a session gets of our file or pipe, and how the rest stays there.
//!
//! A file has a position. We read ahead, and at the end set the position back by what is still in the session's pipe.
//!
//! A pipe has no position, so we read nothing ahead: `tee(2)` copies what is in our pipe into the session's, and we take out of ours as
//! much as the session has read. We copy more once the session's pipe is empty, since `tee` always begins at the front. If somebody else
//! reads our pipe at the same time, both may see the same bytes.
//!
//! The session can write into its own pipe. Then more seems to be left there than we gave. So we never count more as left than we gave,
//! and the session cannot reach a position that it could not have reached by reading.

use std::cell::Cell;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::{CHUNK, ready};
use crate::sys::fd;

/// The size of the smallest pipe. It is one page, and the kernel rounds up to that. A pipe of one page has room only when it is empty.
const SMALLEST: usize = 4096;
/// How soon we look again, at first, whether a pipe that is not full is empty.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest pause between two looks.
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// Fills `writer` from a file, a socket or a device. `left` is a second descriptor of the reading side: through it we see at the end what
/// the session did not read.
pub(super) fn fill(mut input: &File, writer: PipeWriter, left: &PipeReader, watch: &PipeReader) {
    let mut chunk = vec![0; CHUNK];
    let (mut given, mut pending) = (0u64, 0u64);
    'input: while ready(input.as_fd(), PollFlags::IN, watch) {
        let length = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        given += length as u64;
        let mut rest = &chunk[..length];
        while !rest.is_empty() {
            pending = rest.len() as u64;
            if !ready(writer.as_fd(), PollFlags::OUT, watch) {
                break 'input;
            }
            match rustix::io::write(&writer, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => break 'input,
            }
        }
        pending = 0;
    }
    // The session sees the end of the file when the last writing side of its pipe is closed.
    drop(writer);
    while fd::wait_readable(&[watch.as_fd()], None).is_ok_and(|over| over == [false]) {}
    let unread = pending.saturating_add(rustix::io::ioctl_fionread(left).unwrap_or(0)).min(given);
    if let Some(back) = i64::try_from(unread).ok().filter(|back| *back > 0) {
        // A socket or a device has no position to set back.
        let _ = rustix::fs::seek(input, SeekFrom::Current(-back));
    }
}

/// A pipe of ours that a session reads by way of one of its own.
pub(super) struct Shown {
    /// Ours.
    input: OwnedFd,
    /// The writing side of the session's.
    pipe: PipeWriter,
    /// `/dev/null`, where bytes go that were taken.
    null: OwnedFd,
    /// The size that we gave to `pipe` last.
    size: Cell<usize>,
}

impl Shown {
    pub(super) fn new(input: OwnedFd, pipe: PipeWriter) -> crate::sys::Result<Self> {
        Ok(Self { input, pipe, null: fd::null()?, size: Cell::new(0) })
    }

    /// Until the end of our pipe or of the session.
    pub(super) fn pass_on(&self, watch: &PipeReader) {
        while ready(self.input.as_fd(), PollFlags::IN, watch) {
            self.fit();
            let given = match rustix::pipe::tee(&self.input, &self.pipe, CHUNK, SpliceFlags::NONBLOCK) {
                Ok(0) if self.is_ended() => return,
                Ok(given) => given,
                // Somebody else has read it first, or the session has written into its own pipe and filled it.
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return,
            };
            if !self.empties(given, watch) {
                return;
            }
        }
    }

    /// `tee` answers 0 at the end of our pipe, and also when somebody else has read what was there. The poll tells which.
    fn is_ended(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.input.as_fd(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&at_once)).is_err() || polled[0].revents().contains(PollFlags::HUP)
    }

    /// Makes the session's pipe as large as what waits in ours. The smallest pipe wakes us exactly when it is empty. A larger one moves
    /// more at a time but wakes us as soon as it is no longer full.
    fn fit(&self) {
        let waiting = bytes_in(self.input.as_fd()).unwrap_or(0);
        let wanted = if waiting >= CHUNK / 2 { CHUNK } else { SMALLEST };
        // The kernel gives no larger pipes to a user who has many (`pipe-user-pages-soft`). The old size works, too.
        if self.size.get() != wanted && rustix::pipe::fcntl_setpipe_size(&self.pipe, wanted).is_ok() {
            self.size.set(wanted);
        }
    }

    /// Waits until the session's pipe is empty, and takes out of ours what the session has read of the `given` bytes. False if nobody can
    /// read more.
    fn empties(&self, given: usize, watch: &PipeReader) -> bool {
        let (mut taken, mut over, mut pause) = (0, false, FIRST_PAUSE);
        loop {
            // If we cannot tell, we take nothing out: a byte shown twice is better than a lost one.
            let left = bytes_in(self.pipe.as_fd()).unwrap_or(usize::MAX);
            let now = given.saturating_sub(left);
            self.take(now.saturating_sub(taken));
            taken = taken.max(now);
            if left == 0 || over {
                return left == 0;
            }
            over = !self.may_be_empty(watch, &mut pause);
        }
    }

    /// Waits until it is worth looking at the session's pipe. False once the session is over, or nobody has its reading side any more.
    fn may_be_empty(&self, watch: &PipeReader, pause: &mut Duration) -> bool {
        let pipe = PollFd::from_borrowed_fd(self.pipe.as_fd(), PollFlags::OUT);
        let mut polled = [pipe, PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        if !polled[1].revents().is_empty() || polled[0].revents().contains(PollFlags::ERR) {
            return false;
        }
        if bytes_in(self.pipe.as_fd()) == Some(0) {
            return true;
        }
        // The pipe has room but is not empty. No event tells us when it becomes empty, so we look again after a pause.
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        *pause = (*pause * 2).min(LAST_PAUSE);
        let mut over = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
        matches!(rustix::event::poll(&mut over, Some(&timeout)), Ok(0) | Err(Errno::INTR))
    }

    fn take(&self, mut length: usize) {
        while length > 0 {
            match rustix::pipe::splice(&self.input, None, &self.null, None, length, SpliceFlags::NONBLOCK) {
                Ok(taken @ 1..) => length -= taken,
                Err(Errno::INTR) => {}
                // Somebody else has read it.
                Ok(0) | Err(_) => return,
            }
        }
    }
}

fn bytes_in(pipe: BorrowedFd<'_>) -> Option<usize> {
    rustix::io::ioctl_fionread(pipe).ok().and_then(|bytes| usize::try_from(bytes).ok())
}
