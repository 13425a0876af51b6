//! The command's standard descriptors, where it has no terminal of its own.
//!
//! A descriptor is more than what one reads or writes through it. `/proc/self/fd/N` opens the same file anew, for writing too if the user may
//! write it, and a terminal takes keys, modes and escape sequences. So a command gets those of ours only where that does not matter:
//!
//! | ours is | as standard input | as standard output or error |
//! |---|---|---|
//! | a pipe | the pipe | the pipe |
//! | a terminal | `/dev/null` | a pipe; we print what comes, without escapes but for colours |
//! | a directory | refused | refused |
//! | a file, a socket, a device | a pipe, which we fill | a pipe; we write what comes |
//!
//! What the command does not read of a file stays there for the next one (`while read NAME; do gentoomuch freshroot …; done < list`).
//! The user's terminal is handed over as a whole or not at all: see [`super::terminal`].

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use super::error::{Error, Result};
use crate::beneath;
use crate::sys::{self, fd};

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;

/// What the command is given, and who moves what goes through it.
pub(super) struct Inherited {
    pub(super) fds: [OwnedFd; 3],
    pub(super) copies: Copies,
}

/// Threads that copy between the command's pipes and our descriptors. Dropping it ends them, once all that was written is printed.
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
            // A panic of it was printed already, and lost output is no reason for another.
            let _ = thread.join();
        }
    }
}

/// What one of our descriptors is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Terminal,
    /// `/dev/null`: nothing comes from there, and nothing arrives.
    Nothing,
    Other,
}

/// What the three are called.
const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Fails if standard input, output or error of this process is a directory. It is of no use there, and whoever holds one reaches what it is
/// part of.
pub fn refuse_directories() -> Result<()> {
    refuse_directories_among([rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()])
}

/// Fails if one of the command's descriptors is a directory, also one that is only a place (`O_PATH`).
pub(super) fn refuse_directories_among(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    for (fd, name) in fds.into_iter().zip(NAMES) {
        match beneath::is_directory(fd) {
            Ok(true) => return Err(Error::StandardDirectory { name }),
            // Nothing is open there.
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
        Kind::Pipe => input,
        Kind::Terminal | Kind::Nothing => fd::null()?,
        Kind::Other => copies.fill(input, again(&watch)?)?,
    };
    let stdout = copies.drain(output, again(&watch)?)?;
    let stderr = copies.drain(error, watch)?;
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

/// Our side of a pipe must not wait: the other side may never read, and what ends the session must end us.
fn without_waiting(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(sys::Error::of("fcntl", "F_GETFL"))?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(sys::Error::of("fcntl", "F_SETFL, O_NONBLOCK"))?)
}

impl Copies {
    /// A pipe that is filled from `input`.
    fn fill(&mut self, input: OwnedFd, watch: PipeReader) -> Result<OwnedFd> {
        let (reader, writer) = pipe()?;
        without_waiting(writer.as_fd())?;
        let left = again(&reader)?;
        self.threads.push(std::thread::spawn(move || fill(&File::from(input), writer, &left, &watch)));
        Ok(reader.into())
    }

    /// `output` itself if that is a pipe, else a pipe that is emptied into it.
    fn drain(&mut self, output: OwnedFd, watch: PipeReader) -> Result<OwnedFd> {
        let clean = match kind(output.as_fd())? {
            Kind::Pipe => return Ok(output),
            Kind::Nothing => return Ok(fd::null()?),
            Kind::Terminal => Some(Cleaner::default()),
            Kind::Other => None,
        };
        let (reader, writer) = pipe()?;
        without_waiting(reader.as_fd())?;
        self.threads.push(std::thread::spawn(move || drain(&reader, &File::from(output), &watch, clean)));
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

/// `left` is a second descriptor of the reading side: what is still in the pipe at the end was not read.
fn fill(mut input: &File, writer: PipeWriter, left: &PipeReader, watch: &PipeReader) {
    let mut chunk = vec![0; CHUNK];
    let mut pending = 0;
    'input: while ready(input.as_fd(), PollFlags::IN, watch) {
        let length = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut rest = &chunk[..length];
        while !rest.is_empty() {
            pending = rest.len();
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
    let unread = u64::try_from(pending).unwrap_or(0) + rustix::io::ioctl_fionread(left).unwrap_or(0);
    if let Some(back) = i64::try_from(unread).ok().filter(|back| *back > 0) {
        // Nothing can be given back to a socket or a device.
        let _ = rustix::fs::seek(input, SeekFrom::Current(-back));
    }
}

fn drain(reader: &PipeReader, mut output: &File, watch: &PipeReader, mut clean: Option<Cleaner>) {
    let mut chunk = vec![0; CHUNK];
    let mut over = false;
    loop {
        match rustix::io::read(reader, &mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                let cleaned = clean.as_mut().map(|clean| clean.text(&chunk[..length]));
                let bytes = cleaned.as_ref().map_or(&chunk[..length], String::as_bytes);
                if output.write_all(bytes).is_err() {
                    // Nobody reads it any more: closing our side tells the command.
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // What is left in the pipe is printed; somebody outside who was given its other side is not waited for.
            Err(Errno::AGAIN) if over => return,
            Err(Errno::AGAIN) => over = !ready(reader.as_fd(), PollFlags::IN, watch),
            Err(_) => return,
        }
    }
}

/// Takes from a stream of text what a terminal obeys, but for colours.
#[derive(Debug, Default)]
struct Cleaner {
    /// The beginning of a character whose end has not come yet.
    cut: Vec<u8>,
    state: State,
    /// Of a control sequence, so far.
    sequence: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC, and the intermediate characters behind it.
    Escape,
    /// After ESC `[`.
    Sequence,
    /// Up to BEL or ESC `\`, or the end of the line.
    Words,
}

/// Longer ones are none that we let through.
const SEQUENCE_LIMIT: usize = 32;

impl Cleaner {
    fn text(&mut self, chunk: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(chunk);
        if let Some(last) = bytes.iter().rposition(|byte| !(0x80..0xc0).contains(byte))
            && std::str::from_utf8(&bytes[last..]).is_err_and(|error| error.error_len().is_none())
        {
            self.cut = bytes.split_off(last);
        }
        let mut out = String::with_capacity(bytes.len());
        for character in String::from_utf8_lossy(&bytes).chars() {
            self.take(character, &mut out);
        }
        out
    }

    fn take(&mut self, character: char, out: &mut String) {
        match (self.state, character) {
            (_, '\x1b') => self.state = State::Escape,
            (_, '\n') | (State::Text, '\t' | '\r' | '\x08') => {
                self.state = State::Text;
                out.push(character);
            }
            (State::Text, '\u{9b}') | (State::Escape, '[') => {
                self.state = State::Sequence;
                self.sequence.clear();
            }
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') | (State::Escape, ']' | 'P' | 'X' | '^' | '_') => {
                self.state = State::Words;
            }
            (State::Text, text) if text.is_control() => {}
            (State::Text, text) => out.push(text),
            (State::Sequence, 'm') => {
                self.state = State::Text;
                if self.sequence.chars().all(|one| one.is_ascii_digit() || one == ';' || one == ':') {
                    out.push_str("\x1b[");
                    out.push_str(&self.sequence);
                    out.push('m');
                }
            }
            (State::Sequence, '@'..='~') | (State::Escape, '0'..='~') | (State::Words, '\x07' | '\u{9c}') => {
                self.state = State::Text;
            }
            (State::Sequence, part) if self.sequence.len() < SEQUENCE_LIMIT => self.sequence.push(part),
            (State::Sequence, _) => self.state = State::Text,
            (State::Escape | State::Words, _) => {}
        }
    }
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
