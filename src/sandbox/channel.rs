//! Messages between our processes, over a Unix stream socket.
//!
//! ```text
//! frame = length (u32, little endian; descriptors travel with these four bytes) + JSON of that length
//! ```
//!
//! The end of the stream means that the other process died or wants us to end. The reader does the same in both cases.

use std::io;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message that is accepted. The longest ones in use are lists of files.
const FRAME_LIMIT: usize = 256 << 20;

/// The kernel's own limit of descriptors in one message (`SCM_MAX_FD`).
const DESCRIPTORS_LIMIT: usize = 253;

/// Why two of our processes could not talk to each other.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed. If the other process dies while we write, this is EPIPE.
    #[error("cannot talk to the helper process")]
    Io(#[from] io::Error),
    /// JSON cannot carry the value (such as a path that is not UTF-8), or this version does not know it.
    #[error("cannot encode or decode a message of the helper process")]
    Json(#[from] serde_json::Error),
    #[error("a message of {length} bytes to or from the helper process is longer than {FRAME_LIMIT}")]
    TooLong { length: usize },
    #[error("{count} descriptors are more than the {DESCRIPTORS_LIMIT} that one message carries")]
    TooManyDescriptors { count: usize },
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
}

impl Channel {
    /// A connected pair: our end, and the descriptor for the other process.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { socket: ours }, theirs.into()))
    }

    /// From the end that another process made.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self { socket: fd.into() }
    }

    /// A second handle of the same end.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    /// Tells the other side that nothing more comes; it can still answer.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Sends a message. The other process gets duplicates of the descriptors.
    pub(crate) fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(message)?;
        if body.len() > FRAME_LIMIT {
            return Err(ChannelError::TooLong { length: body.len() });
        }
        if fds.len() > DESCRIPTORS_LIMIT {
            return Err(ChannelError::TooManyDescriptors { count: fds.len() });
        }
        let length = u32::try_from(body.len()).map_err(|_| ChannelError::TooLong { length: body.len() })?;
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let header = length.to_le_bytes();
        let mut frame = Vec::with_capacity(header.len() + body.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&body);
        let sent = retry(|| sendmsg(&self.socket, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL))?;
        // Descriptors travel with the first byte that `sendmsg` sends, so the rest goes by `write`, or they would be sent twice. `write`
        // raises SIGPIPE where that has its default action. It ends a helper whose parent is gone, which is what we want.
        (&self.socket).write_all(&frame[sent..])?;
        Ok(())
    }

    /// Receives a message and the descriptors that came with it; `None` at the end of the stream.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        match self.receive_frame()? {
            Some((body, fds)) => Ok(Some((serde_json::from_slice(&body)?, fds))),
            None => Ok(None),
        }
    }

    /// The same for a body that need not be a message.
    pub(crate) fn receive_frame(&self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>, ChannelError> {
        let mut header = [0u8; 4];
        let mut fds = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_LIMIT))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = retry(|| {
            let mut slices = [IoSliceMut::new(&mut header)];
            recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let got = match got {
            Ok(answer) => answer.bytes,
            // A peer that dies with messages of ours unread resets the connection. For the reader that is the end of the stream, too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got == 0 {
            return Ok(None);
        }
        (&self.socket).read_exact(&mut header[got..])?;
        let length = u32::from_le_bytes(header) as usize;
        if length > FRAME_LIMIT {
            return Err(ChannelError::TooLong { length });
        }
        // `take` and not `vec![0; length]`: memory grows with what really comes, not with what the header promises.
        let mut body = Vec::new();
        (&self.socket).take(length as u64).read_to_end(&mut body)?;
        if body.len() != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Some((body, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            answer => return Ok(answer?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_descriptors() {
        let (here, there) = Channel::pair().unwrap();
        let there = Channel::from_fd(there);
        let null = crate::sys::fd::null().unwrap();
        here.send(&"first", &[null.as_fd(), null.as_fd()]).unwrap();
        here.send(&vec![1, 2, 3], &[]).unwrap();
        drop(here);
        let (text, fds) = there.receive::<String>().unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("first", 2));
        let (numbers, fds) = there.receive::<Vec<u8>>().unwrap().unwrap();
        assert_eq!((numbers, fds.len()), (vec![1, 2, 3], 0));
        assert!(there.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn messages_beyond_the_socket_buffer_arrive() {
        let (here, there) = Channel::pair().unwrap();
        let there = Channel::from_fd(there);
        let long = "x".repeat(3 << 20);
        let sender = std::thread::spawn({
            let long = long.clone();
            move || here.send(&long, &[crate::sys::fd::null().unwrap().as_fd()]).unwrap()
        });
        let (text, fds) = there.receive::<String>().unwrap().unwrap();
        sender.join().unwrap();
        assert_eq!((text, fds.len()), (long, 1));
    }

    #[test]
    fn absurd_lengths_are_refused_before_allocation() {
        let (mut raw, there) = UnixStream::pair().unwrap();
        raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let error = Channel::from_fd(there.into()).receive::<String>().unwrap_err();
        assert!(matches!(error, ChannelError::TooLong { .. }), "{error}");
    }
}
