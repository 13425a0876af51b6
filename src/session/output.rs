//! The output of a command in a session. It ends with the session at the latest.
//!
//! A pipe ends when nobody has its writing side any more. A session can give that side away, in a message that lies in a socket of a
//! process that outlives it. So we also watch for the end of the session. We then read what is in the pipe, and nothing after that.

use std::io;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};

use crate::sys::fd::wait_readable;

/// The reading side of a pipe, and a descriptor that becomes readable at the end of the session.
#[derive(Debug)]
pub(crate) struct SessionOutput {
    pipe: PipeReader,
    ended: OwnedFd,
    /// How many bytes were in the pipe at the end and are not read yet.
    left: Option<usize>,
}

impl SessionOutput {
    pub(crate) fn new(pipe: PipeReader, ended: OwnedFd) -> Self {
        Self { pipe, ended, left: None }
    }

    /// Waits for something to read, or for an end of either kind.
    fn wait(&mut self) -> io::Result<()> {
        while self.left.is_none() {
            let ready = wait_readable(&[self.pipe.as_fd(), self.ended.as_fd()], None).map_err(io::Error::other)?;
            if ready[1] {
                // All processes of the session are gone. Whatever comes after these bytes is not from them.
                let bytes = rustix::io::ioctl_fionread(&self.pipe)?;
                self.left = Some(usize::try_from(bytes).unwrap_or(usize::MAX));
            } else if ready[0] {
                break;
            }
        }
        Ok(())
    }
}

impl Read for SessionOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        let most = self.left.map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let count = self.pipe.read(&mut buffer[..most])?;
        self.left = self.left.map(|left| left - count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn output() -> (SessionOutput, io::PipeWriter, UnixStream) {
        let (pipe, writer) = io::pipe().unwrap();
        let (ended, session) = UnixStream::pair().unwrap();
        (SessionOutput::new(pipe, ended.into()), writer, session)
    }

    #[test]
    fn it_ends_with_the_session_whoever_holds_the_pipe() {
        let (mut output, mut held, session) = output();
        held.write_all(&vec![b'x'; 50_000]).unwrap();
        let mut first = [0; 10];
        output.read_exact(&mut first).unwrap();
        drop(session);
        let mut rest = Vec::new();
        output.by_ref().take(1000).read_to_end(&mut rest).unwrap();
        held.write_all(b"after the end").unwrap();
        output.read_to_end(&mut rest).unwrap();
        assert_eq!((first, rest), ([b'x'; 10], vec![b'x'; 49_990]));
    }

    #[test]
    fn it_ends_with_the_pipe_while_the_session_goes_on() {
        let (mut output, mut writer, session) = output();
        writer.write_all(b"all").unwrap();
        drop(writer);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "all");
        drop(session);
    }
}
