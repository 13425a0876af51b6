//! Digests of a stream while it is read or written: a thread for each algorithm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use blake2::Blake2b512;
use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha512};

use super::error::{Error, Result};

/// How many chunks may wait for a slow algorithm. A chunk is 1 MiB.
const QUEUE: usize = 8;

/// A digest that upstream publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// BLAKE2b with 512 bits.
    Blake2b,
    /// SHA-2 with 256 bits.
    Sha256,
    /// SHA-2 with 512 bits.
    Sha512,
}

impl Algorithm {
    /// Its name in `DIGESTS` files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake2b => "BLAKE2B",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }
}

/// Size and digests of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// Bytes in the stream.
    pub size: u64,
    /// Lower-case hex digest for each algorithm asked for.
    pub hex: BTreeMap<Algorithm, String>,
}

impl Digests {
    /// The digest by `algorithm`. Empty if it was not asked for.
    pub fn get(&self, algorithm: Algorithm) -> &str {
        self.hex.get(&algorithm).map_or("", String::as_str)
    }
}

/// Threads that compute digests of the chunks that they get.
#[derive(Debug)]
pub(super) struct Hashing {
    size: u64,
    lanes: Vec<(SyncSender<Arc<Vec<u8>>>, JoinHandle<(Algorithm, String)>)>,
}

impl Hashing {
    pub(super) fn start(algorithms: &[Algorithm]) -> Result<Self> {
        let mut lanes = Vec::new();
        for algorithm in algorithms.iter().copied() {
            let (sender, receiver) = sync_channel::<Arc<Vec<u8>>>(QUEUE);
            let thread = crate::threads::builder()
                .name(format!("digest {}", algorithm.name()))
                .spawn(move || {
                    let chunks = receiver.iter();
                    let hex = match algorithm {
                        Algorithm::Blake2b => digest::<Blake2b512>(chunks),
                        Algorithm::Sha256 => digest::<Sha256>(chunks),
                        Algorithm::Sha512 => digest::<Sha512>(chunks),
                    };
                    (algorithm, hex)
                })
                .map_err(Error::Thread)?;
            lanes.push((sender, thread));
        }
        Ok(Self { size: 0, lanes })
    }

    pub(super) fn update(&mut self, chunk: &Arc<Vec<u8>>) {
        self.size += chunk.len() as u64;
        for (sender, _) in &self.lanes {
            // The thread ends only when this sender is dropped, so this cannot fail.
            let _ = sender.send(Arc::clone(chunk));
        }
    }

    pub(super) fn finish(self) -> Digests {
        let mut hex = BTreeMap::new();
        for (sender, thread) in self.lanes {
            drop(sender);
            // If a thread panicked, its digest is missing, and a missing one equals none that upstream publishes.
            if let Ok((algorithm, digest)) = thread.join() {
                hex.insert(algorithm, digest);
            }
        }
        Digests { size: self.size, hex }
    }
}

fn digest<D: sha2::Digest>(chunks: impl Iterator<Item = Arc<Vec<u8>>>) -> String {
    let mut state = D::new();
    for chunk in chunks {
        state.update(chunk.as_slice());
    }
    hex::encode(state.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_whole_stream() {
        let mut hashing = Hashing::start(&[Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake2b]).unwrap();
        for piece in [&b"a"[..], b"", b"bc"] {
            hashing.update(&Arc::new(piece.to_vec()));
        }
        let digests = hashing.finish();
        assert_eq!(digests.size, 3);
        // FIPS 180-2 appendix B, RFC 7693 appendix A: "abc".
        assert_eq!(digests.get(Algorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(digests.get(Algorithm::Sha512).starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
        assert!(digests.get(Algorithm::Blake2b).starts_with("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b7"));
    }
}
