//! The command's standard descriptors when it has no terminal of its own.
//!
//! A descriptor can do more than read or write. `/proc/self/fd/N` opens the same file anew, for writing too if the user may write it:
//! whoever writes into our pipe then writes to its next reader, such as the shell in `… | bash`. `O_NONBLOCK` is shared by all who have
//! the same description, and a terminal takes keys, modes and escape sequences. So a command gets none of ours:
//!
//! | ours is | as standard input | as standard output or error |
//! |---|---|---|
//! | a pipe | a pipe, which shows what is in ours | a pipe; we write what comes |
//! | a terminal | `/dev/null` | a pipe; we print what comes, without escapes but for colours |
//! | a directory | refused | refused |
//! | a file, a socket, a device | a pipe, which we fill | a pipe; we write what comes |
//!
//! What the command does not read of a file or a pipe stays there for the next one (`while read NAME; do gentoomuch freshroot …; done <
//! list`). If our standard output and error are the same file, the command has one pipe for both, so that the order of its output stays.
//! The user's terminal is handed over as a whole or not at all: see [`super::terminal`].

mod cleaner;
mod input;
mod output;

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use self::cleaner::Cleaner;
use super::error::{Error, Result};
use crate::beneath;
use crate::sys::{self, fd};
use crate::threads::{self, NoThread};

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;

/// What the command is given, and who moves what goes through it.
pub(super) struct Inherited {
    pub(super) fds: [OwnedFd; 3],
    pub(super) copies: Copies,
}

/// Threads that copy between the command's pipes and our descriptors. Dropping it prints what was written, then ends them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    threads: Vec<JoinHandle<()>>,
    /// Closed when the session is over.
    stop: Option<PipeWriter>,
}

impl Drop for Copies {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // The panic was printed already. Lost output is no reason for a second one.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Terminal,
    /// `/dev/null`: nothing comes from there, and nothing arrives.
    Nothing,
    Other,
}

/// For messages.
const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Fails if standard input, output or error of this process is a directory. A command has no use for one, and through it could reach its
/// parents.
pub(crate) fn refuse_directories() -> Result<()> {
    refuse_directories_among([rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()])
}

/// Fails if one of the command's descriptors is a directory, opened normally or as a place (`O_PATH`).
pub(super) fn refuse_directories_among(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    for (fd, name) in fds.into_iter().zip(NAMES) {
        match beneath::is_directory(fd) {
            Ok(true) => return Err(Error::StandardDirectory { name }),
            // A closed descriptor is fine.
            Ok(false) | Err(Errno::BADF) => {}
            Err(errno) => return Err(sys::Error::new("fstat", name, errno).into()),
        }
    }
    Ok(())
}

/// The command's descriptors for those of this process.
pub(super) fn inherit() -> Result<Inherited> {
    join(fd::duplicate_stdio()?)
}

fn join([input, output, error]: [OwnedFd; 3]) -> Result<Inherited> {
    refuse_directories_among([input.as_fd(), output.as_fd(), error.as_fd()])?;
    let (watch, stop) = pipe()?;
    let mut copies = Copies { threads: Vec::new(), stop: Some(stop) };
    let stdin = match kind(input.as_fd())? {
        Kind::Pipe => copies.show(input, again(&watch)?)?,
        Kind::Terminal | Kind::Nothing => fd::null()?,
        Kind::Other => copies.fill(input, again(&watch)?)?,
    };
    // Two pipes would be read by two threads, and what the command wrote to both would come out in another order.
    let as_one = is_same(output.as_fd(), error.as_fd())?;
    let stdout = copies.drain(output, again(&watch)?)?;
    let stderr = if as_one { fd::duplicate(&stdout)? } else { copies.drain(error, watch)? };
    Ok(Inherited { fds: [stdin, stdout, stderr], copies })
}

fn pipe() -> Result<(PipeReader, PipeWriter)> {
    std::io::pipe().map_err(|error| sys::Error::new("pipe2", "O_CLOEXEC", error).into())
}

fn again(watch: &PipeReader) -> Result<PipeReader> {
    watch.try_clone().map_err(|error| sys::Error::new("fcntl", "F_DUPFD_CLOEXEC", error).into())
}

fn kind(fd: BorrowedFd<'_>) -> Result<Kind> {
    if rustix::termios::isatty(fd) {
        return Ok(Kind::Terminal);
    }
    let status = rustix::fs::fstat(fd).map_err(sys::Error::of("fstat", "standard descriptor"))?;
    Ok(match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo => Kind::Pipe,
        FileType::CharacterDevice if status.st_rdev == rustix::fs::makedev(1, 3) => Kind::Nothing,
        _ => Kind::Other,
    })
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool> {
    let stat = |fd| rustix::fs::fstat(fd).map_err(sys::Error::of("fstat", "standard descriptor"));
    let (one, other) = (stat(one)?, stat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Our side of a pipe must not block: the other side may never read, and the end of the session must end us.
fn without_waiting(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(sys::Error::of("fcntl", "F_GETFL"))?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(sys::Error::of("fcntl", "F_SETFL, O_NONBLOCK"))?)
}

impl Copies {
    fn begin(&mut self, what: &'static str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(threads::builder().spawn(work).map_err(|source| NoThread::new(what, source))?);
        Ok(())
    }

    /// A pipe that is filled from `input`.
    fn fill(&mut self, input: OwnedFd, watch: PipeReader) -> Result<OwnedFd> {
        let (reader, writer) = pipe()?;
        without_waiting(writer.as_fd())?;
        let left = again(&reader)?;
        self.begin("fill standard input", move || input::fill(&File::from(input), writer, &left, &watch))?;
        Ok(reader.into())
    }

    /// A pipe that shows what is in `input`, a pipe of ours.
    fn show(&mut self, input: OwnedFd, watch: PipeReader) -> Result<OwnedFd> {
        let (reader, writer) = pipe()?;
        let shown = input::Shown::new(input, writer)?;
        self.begin("fill standard input", move || shown.pass_on(&watch))?;
        Ok(reader.into())
    }

    /// A pipe that is emptied into `output`.
    fn drain(&mut self, output: OwnedFd, watch: PipeReader) -> Result<OwnedFd> {
        let clean = match kind(output.as_fd())? {
            Kind::Nothing => return Ok(fd::null()?),
            Kind::Terminal => Some(Cleaner::default()),
            Kind::Pipe | Kind::Other => None,
        };
        let (reader, writer) = pipe()?;
        without_waiting(reader.as_fd())?;
        self.begin("copy the output", move || output::drain(&reader, &File::from(output), &watch, clean))?;
        Ok(writer.into())
    }
}

/// Waits until `fd` is ready or closed on its other side; false once the session is over.
fn ready(fd: BorrowedFd<'_>, flags: PollFlags, watch: &PipeReader) -> bool {
    loop {
        let mut polled = [PollFd::from_borrowed_fd(fd, flags), PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) if !polled[1].revents().is_empty() => return false,
            Ok(_) if !polled[0].revents().is_empty() => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
