//! Standard input: what a session gets of a file or a pipe of ours, and how what it leaves stays there.
//!
//! A file has a position. We read ahead, and at the end move the position back by what is still in the session's pipe.
//!
//! A pipe has none, so we read nothing ahead: `tee(2)` shows the session what is in our pipe, and we take from ours what the session has taken from its
//! own. We show more once the session's pipe is empty, since `tee` always begins at the front. Whoever reads our pipe at the same time may see the
//! same bytes.
//!
//! The session can write into its own pipe. Then more seems to be left there than we gave. What counts as left is never more than was given, so the
//! session gets to no position that it could not have reached by reading.

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

/// The size of the smallest pipe, which has room only when it is empty. The kernel makes it one page, whatever a page has.
const SMALLEST: usize = 4096;
/// How soon a pipe that is not full is looked at again, at first.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// And at last.
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// Fills `writer` from a file, a socket or a device. `left` is a second descriptor of the reading side: what is still in the pipe at the end was
/// not read.
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
    // The end of the file is the end of the pipe.
    drop(writer);
    while fd::wait_readable(&[watch.as_fd()], None).is_ok_and(|over| over == [false]) {}
    let unread = pending.saturating_add(rustix::io::ioctl_fionread(left).unwrap_or(0)).min(given);
    if let Some(back) = i64::try_from(unread).ok().filter(|back| *back > 0) {
        // Nothing can be given back to a socket or a device.
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
                // Somebody else was faster, or the session has filled its own pipe.
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return,
            };
            if !self.empties(given, watch) {
                return;
            }
        }
    }

    /// Nothing is also shown when somebody else has read what was there.
    fn is_ended(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.input.as_fd(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&at_once)).is_err() || polled[0].revents().contains(PollFlags::HUP)
    }

    /// Makes the session's pipe as large as what there is for it. The smallest one wakes us when it is empty; a larger one moves more at a time, and
    /// wakes us early if it was full.
    fn fit(&self) {
        let waiting = bytes_in(self.input.as_fd()).unwrap_or(0);
        let wanted = if waiting >= CHUNK / 2 { CHUNK } else { SMALLEST };
        // A user who has many pipes gets no larger ones.
        if self.size.get() != wanted && rustix::pipe::fcntl_setpipe_size(&self.pipe, wanted).is_ok() {
            self.size.set(wanted);
        }
    }

    /// Waits until the session's pipe is empty, and takes out of ours what was taken there of the `given` bytes. False once nobody takes more.
    fn empties(&self, given: usize, watch: &PipeReader) -> bool {
        let (mut taken, mut over, mut pause) = (0, false, FIRST_PAUSE);
        loop {
            // What cannot be known was not taken.
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

    /// Waits until the session's pipe is worth a look. False once the session is over, or nobody there has its reading side any more.
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
        // It has room and is not empty: nothing tells us when it is.
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
                // Somebody else has taken it.
                Ok(0) | Err(_) => return,
            }
        }
    }
}

fn bytes_in(pipe: BorrowedFd<'_>) -> Option<usize> {
    rustix::io::ioctl_fionread(pipe).ok().and_then(|bytes| usize::try_from(bytes).ok())
}
