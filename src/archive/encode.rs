//! Compression by all cores. The output does not depend on how many there are.
//!
//! * xz: liblzma's threaded encoder, even for one thread. The level alone decides the size of blocks.
//! * zstd: the library's own workers, at least one. The level alone decides the size of jobs.
//! * gzip: members of 1 MiB each, compressed independently and written in order. Every gzip reader takes several members.
//!
//! The output goes through the digests before it is written.

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::write::GzEncoder;
use liblzma::stream::{Action, Check, MtStreamBuilder, Status, Stream};

use super::decode::CHUNK;
use super::digest::{Algorithm, Digests, Hashing};
use super::error::{Error, Result};

/// How many compressed pieces may wait for the disk.
const QUEUE: usize = 16;

/// How an archive is compressed, and at which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// xz with a preset 0–9.
    Xz(u32),
    /// Zstandard with a level 1–19.
    Zstd(i32),
    /// gzip with a level 1–9.
    Gzip(u32),
    None,
}

/// Compresses what `chunks` yields into `out` and returns the digests of what was written.
///
/// For the same result the chunks must have the same sizes each time. `threads` does not change it.
pub(crate) fn encode<W: Write + Send>(
    chunks: impl Iterator<Item = Vec<u8>>,
    mut out: W,
    codec: Codec,
    threads: u32,
    algorithms: &[Algorithm],
) -> Result<Digests> {
    let hashing = Hashing::start(algorithms)?;
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel::<Arc<Vec<u8>>>(QUEUE);
        // In a thread of its own, so that a slow disk does not stop the compressor.
        let writer = crate::threads::builder()
            .name("write".into())
            .spawn_scoped(scope, move || {
                pieces.iter().try_for_each(|piece| out.write_all(&piece))?;
                out.flush()
            })
            .map_err(Error::Thread)?;
        let tee = Tee { sender, hashing, held: Vec::with_capacity(CHUNK) };
        let encoded = compress(chunks, tee, codec, threads.max(1));
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread died")));
        // If the disk is full, the compressor's error is only that nobody takes its output.
        written.map_err(Error::Write)?;
        encoded
    })
}

fn compress(chunks: impl Iterator<Item = Vec<u8>>, mut out: Tee, codec: Codec, threads: u32) -> Result<Digests> {
    match codec {
        Codec::Xz(preset) => {
            let stream =
                xz_builder(preset, threads).encoder().map_err(|error| Error::Codec { codec: "xz", source: error.into() })?;
            xz(chunks, stream, &mut out).map_err(Error::Write)?;
        }
        Codec::Zstd(level) => {
            let start = |source| Error::Codec { codec: "zstd", source };
            let mut encoder = zstd::stream::write::Encoder::new(&mut out, level.clamp(1, 19)).map_err(start)?;
            encoder.multithread(threads).map_err(start)?;
            encoder.include_checksum(true).map_err(start)?;
            for chunk in chunks {
                encoder.write_all(&chunk).map_err(Error::Write)?;
            }
            encoder.finish().map_err(Error::Write)?;
        }
        Codec::None => {
            for chunk in chunks {
                out.write_all(&chunk).map_err(Error::Write)?;
            }
        }
        Codec::Gzip(level) => gzip(chunks, &mut out, flate2::Compression::new(level.clamp(1, 9)), threads)?,
    }
    out.finish().map_err(Error::Write)
}

/// As many of `threads` as take no more than a quarter of the memory, but one at least. It is what `xz -T0` does. A thread takes 166 MiB
/// with the default preset, so that sixteen of them would end a small container.
pub(crate) fn threads_within(codec: Codec, threads: u32, memory_bytes: Option<u64>) -> u32 {
    let (Codec::Xz(preset), Some(memory_bytes)) = (codec, memory_bytes) else { return threads };
    let takes = |threads: &u32| xz_builder(preset, *threads).memusage();
    (2..=threads).rev().find(|threads| takes(threads) <= memory_bytes / 4).unwrap_or(1)
}

fn xz_builder(preset: u32, threads: u32) -> MtStreamBuilder {
    let preset = preset.min(9);
    let mut builder = MtStreamBuilder::new();
    builder.threads(threads).preset(preset).block_size(xz_block_bytes(preset)).check(Check::Crc64);
    builder
}

/// Three dictionaries, which is also liblzma's default. We set it, so that another version of liblzma gives the same output.
fn xz_block_bytes(preset: u32) -> u64 {
    let dictionary_log = match preset {
        0 => 18,
        1 => 20,
        2 => 21,
        3 | 4 => 22,
        5 | 6 => 23,
        7 => 24,
        8 => 25,
        _ => 26,
    };
    (3_u64 << dictionary_log).max(1 << 20)
}

fn xz(chunks: impl Iterator<Item = Vec<u8>>, mut stream: Stream, out: &mut Tee) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    for chunk in chunks {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let before = stream.total_in();
            stream.process_vec(rest, &mut buffer, Action::Run)?;
            rest = &rest[usize::try_from(stream.total_in() - before).unwrap_or(0)..];
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    loop {
        let status = stream.process_vec(&[], &mut buffer, Action::Finish)?;
        out.write_all(&buffer)?;
        buffer.clear();
        if matches!(status, Status::StreamEnd) {
            return Ok(());
        }
    }
}

/// One member to compress, and where to send the result.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

fn gzip(chunks: impl Iterator<Item = Vec<u8>>, out: &mut Tee, level: flate2::Compression, threads: u32) -> Result<()> {
    std::thread::scope(|scope| {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            crate::threads::builder()
                .name("gzip".into())
                .spawn_scoped(scope, move || {
                    while let Some((data, answer)) = next_job(&queue) {
                        // After a write error nobody receives it.
                        let _ = answer.send(member(&data, level));
                    }
                })
                .map_err(Error::Thread)?;
        }
        // Limits how many members are in memory. The queue keeps their order.
        let depth = usize::try_from(threads).unwrap_or(1) * 2 + 2;
        let mut awaited: VecDeque<Receiver<io::Result<Vec<u8>>>> = VecDeque::new();
        let mut take = |answer: Receiver<io::Result<Vec<u8>>>| out.write_all(&answer.recv().map_err(io::Error::other)??);
        for chunk in chunks {
            let (answer, result) = sync_channel(1);
            jobs.send((chunk, answer)).map_err(|_| Error::Write(io::ErrorKind::BrokenPipe.into()))?;
            awaited.push_back(result);
            if awaited.len() > depth
                && let Some(first) = awaited.pop_front()
            {
                take(first).map_err(Error::Write)?;
            }
        }
        awaited.into_iter().try_for_each(take).map_err(Error::Write)
    })
}

fn next_job(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn member(data: &[u8], level: flate2::Compression) -> io::Result<Vec<u8>> {
    // The header has no time, name or operating system, so that the same data gives the same bytes.
    let mut encoder = GzEncoder::new(Vec::with_capacity(data.len() / 2), level);
    encoder.write_all(data)?;
    encoder.finish()
}

/// Collects large pieces and gives each to the digests and to the writing thread.
#[derive(Debug)]
struct Tee {
    sender: SyncSender<Arc<Vec<u8>>>,
    hashing: Hashing,
    held: Vec<u8>,
}

impl Tee {
    fn pass_on(&mut self) -> io::Result<()> {
        let piece = Arc::new(std::mem::replace(&mut self.held, Vec::with_capacity(CHUNK)));
        self.hashing.update(&piece);
        self.sender.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<Digests> {
        self.pass_on()?;
        Ok(self.hashing.finish())
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.held.len());
        self.held.extend_from_slice(&bytes[..n]);
        if self.held.len() == CHUNK {
            self.pass_on()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_container_compresses_with_fewer_threads() {
        let gib = |count: u64| Some(count << 30);
        for (codec, threads, memory_bytes, expected) in [
            (Codec::Xz(6), 16, None, 16),
            (Codec::Xz(6), 16, gib(64), 16),
            (Codec::Xz(6), 16, gib(4), 6),
            (Codec::Xz(6), 16, Some(100 << 20), 1),
            (Codec::Xz(9), 16, gib(4), 1),
            (Codec::Xz(6), 1, gib(4), 1),
            (Codec::Zstd(3), 16, Some(100 << 20), 16),
        ] {
            assert_eq!(threads_within(codec, threads, memory_bytes), expected, "{codec:?} {threads} {memory_bytes:?}");
        }
    }

    /// A disk that is full after so many bytes.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_named_and_nothing_hangs() {
        for codec in [Codec::Xz(0), Codec::Zstd(1), Codec::Gzip(1)] {
            let mut state = 1_u32;
            let noise = (0..40).map(|_| {
                (0..CHUNK)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        state.to_be_bytes()[0]
                    })
                    .collect()
            });
            let error = encode(noise, Full(100_000), codec, 2, &[Algorithm::Sha256]).unwrap_err();
            let Error::Write(source) = error else { panic!("{error}") };
            assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{codec:?}");
        }
    }
}
