//! All hashes of a file in one parallel pass.
//!
//! ```text
//!                         ┌─ thread: SHA-512   (digest and OpenPGP signature share the state after the last byte)
//! file ── reader (caller) ┼─ thread: BLAKE2b
//!         1 MiB chunks    └─ thread: SHA-256   (only if a list of digests or a signature wants it)
//! ```
//!
//! The chunks are shared, not copied, and their buffers are used again. With a core for each hash, the pass takes as long as the slowest
//! hash.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use blake2::Blake2b512;
use md5::Md5;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::threads;

/// Bytes read at a time. Large enough that passing a chunk on costs little, small enough for the cache that cores share.
const CHUNK_BYTES: usize = 1 << 20;

/// How many chunks may wait for a slow hash.
const QUEUE_CHUNKS: usize = 4;

/// A hash being computed. The OpenPGP library's boxed trait object cannot be cloned or sent to another thread; this can.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Blake2b(Box<Blake2b512>),
    /// Only against damage, as is SHA-1.
    Md5(Md5),
    Sha1(Sha1),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn blake2b() -> Self {
        Self::Blake2b(Box::default())
    }

    pub(crate) fn md5() -> Self {
        Self::Md5(Md5::new())
    }

    pub(crate) fn sha1() -> Self {
        Self::Sha1(Sha1::new())
    }

    pub(crate) fn sha224() -> Self {
        Self::Sha224(Sha224::new())
    }

    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(crate) fn sha384() -> Self {
        Self::Sha384(Sha384::new())
    }

    pub(crate) fn sha512() -> Self {
        Self::Sha512(Sha512::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake2b(hash) => sha2::digest::Update::update(hash.as_mut(), bytes),
            Self::Md5(hash) => sha2::digest::Update::update(hash, bytes),
            Self::Sha1(hash) => sha2::digest::Update::update(hash, bytes),
            Self::Sha224(hash) => sha2::digest::Update::update(hash, bytes),
            Self::Sha256(hash) => sha2::digest::Update::update(hash, bytes),
            Self::Sha384(hash) => sha2::digest::Update::update(hash, bytes),
            Self::Sha512(hash) => sha2::digest::Update::update(hash, bytes),
        }
    }

    /// The digest of the bytes so far, in lower-case hexadecimal.
    pub(crate) fn hex(&self) -> String {
        match self.clone() {
            Self::Blake2b(hash) => hex::encode(hash.finalize()),
            Self::Md5(hash) => hex::encode(hash.finalize()),
            Self::Sha1(hash) => hex::encode(hash.finalize()),
            Self::Sha224(hash) => hex::encode(hash.finalize()),
            Self::Sha256(hash) => hex::encode(hash.finalize()),
            Self::Sha384(hash) => hex::encode(hash.finalize()),
            Self::Sha512(hash) => hex::encode(hash.finalize()),
        }
    }

    /// As the OpenPGP library wants it, to append a signature's own fields. BLAKE2b is not an OpenPGP hash, and weak ones do not count.
    pub(crate) fn into_openpgp(self) -> Option<Box<dyn DynDigest + Send>> {
        Some(match self {
            Self::Blake2b(_) | Self::Md5(_) | Self::Sha1(_) => return None,
            Self::Sha224(hash) => Box::new(hash),
            Self::Sha256(hash) => Box::new(hash),
            Self::Sha384(hash) => Box::new(hash),
            Self::Sha512(hash) => Box::new(hash),
        })
    }
}

/// Feeds everything that `reader` has to each of `hashers`. Returns them with the number of bytes. `progress` is told how many bytes were
/// read.
pub(crate) fn hash_all(
    mut reader: impl Read,
    hashers: Vec<Hasher>,
    mut progress: impl FnMut(u64),
) -> io::Result<(Vec<Hasher>, u64)> {
    thread::scope(|scope| {
        let mut queues = Vec::new();
        let mut workers = Vec::new();
        for mut hasher in hashers {
            let (queue, chunks) = sync_channel::<(Arc<Vec<u8>>, usize)>(QUEUE_CHUNKS);
            queues.push(queue);
            workers.push(threads::scoped(scope, "hash with", move || {
                for (chunk, len) in chunks {
                    hasher.update(&chunk[..len]);
                }
                hasher
            })?);
        }
        // A queue holds QUEUE_CHUNKS, its worker one more, and one is being filled. After that many the oldest buffer is free again.
        let mut buffers: Vec<Arc<Vec<u8>>> = (0..QUEUE_CHUNKS + 2).map(|_| Arc::new(vec![0; CHUNK_BYTES])).collect();
        let mut total = 0;
        for turn in (0..buffers.len()).cycle() {
            let buffer = &mut buffers[turn];
            if Arc::get_mut(buffer).is_none() {
                *buffer = Arc::new(vec![0; CHUNK_BYTES]);
            }
            let len = fill(&mut reader, Arc::get_mut(buffer).expect("no other owner, as just made sure"))?;
            if len == 0 {
                break;
            }
            for queue in &queues {
                // The worker lives until its queue is dropped below, so this cannot fail.
                drop(queue.send((Arc::clone(buffer), len)));
            }
            total += len as u64;
            progress(len as u64);
        }
        drop(queues);
        let hashers =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect();
        Ok((hashers, total))
    })
}

/// Reads until `buffer` is full or the end is reached.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_sees_every_byte_in_order() {
        let all = || vec![Hasher::blake2b(), Hasher::sha224(), Hasher::sha256(), Hasher::sha384(), Hasher::sha512()];
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 11 * CHUNK_BYTES + 17] {
            let data: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut heard = 0;
            let (hashers, total) = hash_all(data.as_slice(), all(), |bytes| heard += bytes).unwrap();
            assert_eq!((total, heard), (size as u64, size as u64));
            for (parallel, mut plain) in hashers.iter().zip(all()) {
                plain.update(&data);
                assert_eq!(parallel.hex(), plain.hex());
            }
        }
    }

    #[test]
    fn known_values() {
        let digest = |mut hasher: Hasher| {
            hasher.update(b"abc");
            hasher.hex()
        };
        assert_eq!(digest(Hasher::sha256()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(digest(Hasher::sha512()).starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(digest(Hasher::blake2b()).starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
    }

    #[test]
    fn an_interrupted_read_goes_on() {
        struct Interrupted(bool);
        impl Read for Interrupted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = !self.0;
                if self.0 { Err(io::ErrorKind::Interrupted.into()) } else { b"abc".as_slice().read(buffer) }
            }
        }
        let mut buffer = [0; 6];
        assert_eq!(fill(&mut Interrupted(false), &mut buffer).unwrap(), 6);
        assert_eq!(&buffer, b"abcabc");
    }

    #[test]
    fn a_failing_read_is_reported() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken disk"))
            }
        }
        let error = hash_all(Failing, vec![Hasher::sha512()], |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "broken disk");
    }
}
