//! Decompression in threads of its own. Other threads compute digests of the compressed bytes.
//!
//! ```text
//! file --1 MiB chunks--> decoding thread (liblzma starts more) --1 MiB buffers, 16 at most--> whoever reads the Decoder
//!              |
//!              +--> one thread per digest
//! ```
//!
//! [`Decoder::finish`] reads the file to its end, even after an error on the decoded side. So the caller can tell damage from a file that
//! was exchanged after its verification.

use std::fs::File;
use std::io;
use std::io::{BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use liblzma::stream::{Action, MtStreamBuilder, Status};

use super::digest::{Algorithm, Digests, Hashing};
use super::error::{Error, Result};

pub(super) const CHUNK: usize = 1 << 20;
/// How many decoded buffers may wait. Enough to bridge a slow directory, and little beside the decoder's own memory.
const BUFFERS: usize = 16;
/// Memory for all blocks that liblzma decodes at once. If one block needs more, it refuses. `xz -9` needs 64 MiB for its dictionary; a
/// file that needs more than this was not made to be unpacked.
const XZ_MEMORY_BYTES: u64 = 1 << 30;
/// The largest window that we accept, as a power of two: 128 MiB, the default of the `zstd` program.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not compressed.
    Plain,
    /// xz, of any number of blocks and streams.
    Xz,
    Zstd,
    /// gzip, of any number of members.
    Gzip,
}

impl Compression {
    /// Reads the magic at the start of a file.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Plain,
        }
    }
}

/// Why compressed data could not be decoded; the source of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The stream ends too early.
    #[error("the xz data is truncated")]
    XzTruncated,
    /// After the stream comes something that is neither padding nor another stream.
    #[error("there is other data after the xz data")]
    XzTrailing,
    /// liblzma refuses.
    #[error("the xz data cannot be decoded")]
    Xz(#[source] liblzma::stream::Error),
    /// The thread that decodes has ended without a message.
    #[error("the decoding thread died")]
    ThreadDied,
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Starts decoding `input`. Its first bytes tell the compression. `threads` limits the xz decoder, and `algorithms` are the digests of
/// the compressed bytes to compute.
pub(crate) fn open(input: impl Read + Send + 'static, threads: u32, algorithms: &[Algorithm]) -> Result<Decoder> {
    let position = Arc::new(AtomicU64::new(0));
    let hashing = Hashing::start(algorithms)?;
    let mut source = Source { input, hashing, chunk: Arc::default(), used: 0, position: Arc::clone(&position) };
    let start = source.fill_buf().map_err(|source| Error::Read { offset: 0, source })?;
    let compression = Compression::of(start);
    tracing::debug!(?compression, threads, "decoding");
    let (sender, receiver) = sync_channel(BUFFERS);
    let (recycle, recycled) = channel();
    let thread = crate::threads::builder()
        .name("decode".into())
        .spawn(move || {
            let mut output = Output { sender, recycled, buffer: Vec::new() };
            let result = match compression {
                Compression::Plain => copy(&mut source, &mut output),
                Compression::Xz => xz(&mut source, threads, &mut output),
                Compression::Zstd => zstd(&mut source, &mut output),
                Compression::Gzip => copy(flate2::bufread::MultiGzDecoder::new(&mut source), &mut output),
            };
            output.end(result);
            source.finish()
        })
        .map_err(Error::Thread)?;
    Ok(Decoder { receiver: Some(receiver), recycle, current: Vec::new(), used: 0, ended: false, thread: Some(thread), position })
}

/// As [`open`], from a file, which the kernel is told to read ahead.
pub fn open_file(file: File, threads: u32, algorithms: &[Algorithm]) -> Result<Decoder> {
    // It is only a hint, so an error does not matter.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    open(file, threads, algorithms)
}

/// The decoded stream.
#[derive(Debug)]
pub struct Decoder {
    receiver: Option<Receiver<Message>>,
    recycle: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    ended: bool,
    thread: Option<JoinHandle<io::Result<Digests>>>,
    position: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Data(Vec<u8>),
    End(io::Result<()>),
}

impl Decoder {
    /// How many compressed bytes have been read. The decoded side is at most a few buffers behind.
    pub fn position(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.position)
    }

    /// Stops decoding, reads what is left of the input and returns the digests of all of it.
    pub fn finish(mut self) -> Result<Digests> {
        self.receiver = None;
        let offset = self.position.load(Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(Digests::default()) };
        let result = thread.join().unwrap_or_else(|_| Err(DecodeError::ThreadDied.into()));
        result.map_err(|source| Error::Read { offset, source })
    }
}

impl BufRead for Decoder {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.used == self.current.len() && !self.ended {
            let Some(receiver) = &self.receiver else { break };
            match receiver.recv() {
                Ok(Message::Data(buffer)) => {
                    let mut old = std::mem::replace(&mut self.current, buffer);
                    self.used = 0;
                    old.clear();
                    // If the decoding thread has ended, nobody needs the buffer.
                    let _ = self.recycle.send(old);
                }
                Ok(Message::End(result)) => {
                    self.ended = true;
                    result?;
                }
                Err(_) => {
                    self.ended = true;
                    return Err(DecodeError::ThreadDied.into());
                }
            }
        }
        Ok(&self.current[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.current.len());
    }
}

impl Read for Decoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(into.len());
        into[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// The compressed side: reads chunks and gives each to the digests.
#[derive(Debug)]
struct Source<R> {
    input: R,
    hashing: Hashing,
    chunk: Arc<Vec<u8>>,
    used: usize,
    position: Arc<AtomicU64>,
}

impl<R: Read> Source<R> {
    fn finish(mut self) -> io::Result<Digests> {
        loop {
            let n = self.fill_buf()?.len();
            if n == 0 {
                return Ok(self.hashing.finish());
            }
            self.consume(n);
        }
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() {
            let mut chunk = Vec::with_capacity(CHUNK);
            // `read_to_end` fills the spare capacity without zeroing it first, and it retries on EINTR.
            self.input.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            self.chunk = Arc::new(chunk);
            self.used = 0;
            self.hashing.update(&self.chunk);
            self.position.fetch_add(self.chunk.len() as u64, Ordering::Relaxed);
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.chunk.len());
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(into.len());
        into[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// The decoded side of the thread.
#[derive(Debug)]
struct Output {
    sender: SyncSender<Message>,
    recycled: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Nobody reads the decoded side any more. This is not an error.
struct Abandoned;

impl Output {
    /// A buffer with room in it.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() < CHUNK {
            self.buffer = self.recycled.try_recv().unwrap_or_default();
            self.buffer.reserve_exact(CHUNK.saturating_sub(self.buffer.capacity()));
        }
        &mut self.buffer
    }

    fn send_if_full(&mut self) -> std::result::Result<(), Abandoned> {
        if self.buffer.len() == self.buffer.capacity() { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> std::result::Result<(), Abandoned> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.send(Message::Data(std::mem::take(&mut self.buffer))).map_err(|_| Abandoned)
    }

    fn end(mut self, result: io::Result<()>) {
        // The reader may be gone; then there is nobody to tell.
        if self.send().is_ok() {
            let _ = self.sender.send(Message::End(result));
        }
    }
}

fn copy(mut reader: impl Read, output: &mut Output) -> io::Result<()> {
    loop {
        let buffer = output.room();
        let want = buffer.capacity() - buffer.len();
        if reader.by_ref().take(want as u64).read_to_end(buffer)? == 0 {
            return Ok(());
        }
        if output.send_if_full().is_err() {
            return Ok(());
        }
    }
}

fn zstd<R: Read>(source: &mut Source<R>, output: &mut Output) -> io::Result<()> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    copy(decoder, output)
}

/// Decodes all streams of a file. liblzma's threaded decoder takes one stream, so we look for the next one ourselves.
fn xz<R: Read>(source: &mut Source<R>, threads: u32, output: &mut Output) -> io::Result<()> {
    loop {
        let mut stream = MtStreamBuilder::new()
            .threads(threads.max(1))
            .memlimit_threading(XZ_MEMORY_BYTES)
            .memlimit_stop(XZ_MEMORY_BYTES)
            .decoder()
            .map_err(DecodeError::Xz)?;
        loop {
            let input = source.fill_buf()?;
            let at_end = input.is_empty();
            let before = stream.total_in();
            let action = if at_end { Action::Finish } else { Action::Run };
            let status = stream.process_vec(input, output.room(), action);
            source.consume(usize::try_from(stream.total_in() - before).unwrap_or(0));
            if output.send_if_full().is_err() {
                return Ok(());
            }
            match status.map_err(DecodeError::Xz)? {
                Status::StreamEnd => break,
                Status::MemNeeded if at_end => return Err(DecodeError::XzTruncated.into()),
                Status::Ok | Status::GetCheck | Status::MemNeeded => {}
            }
        }
        if !another_xz_stream(source)? {
            return Ok(());
        }
    }
}

/// Skips padding (whole groups of four zeros). True if another stream starts after it.
fn another_xz_stream<R: Read>(source: &mut Source<R>) -> io::Result<bool> {
    let mut padding = 0_u64;
    loop {
        let input = source.fill_buf()?;
        if input.is_empty() {
            return if padding.is_multiple_of(4) { Ok(false) } else { Err(DecodeError::XzTrailing.into()) };
        }
        let zeros = input.iter().position(|b| *b != 0).unwrap_or(input.len());
        if zeros < input.len() {
            // The magic may be split between two chunks. Its first byte decides; the decoder checks the rest.
            let starts = input[zeros] == 0xfd && (padding + zeros as u64).is_multiple_of(4);
            source.consume(zeros);
            return if starts { Ok(true) } else { Err(DecodeError::XzTrailing.into()) };
        }
        padding += zeros as u64;
        source.consume(zeros);
    }
}
