//! The lists of digests that we publish with our artifacts. They have upstream's format, so that one verifier reads both.
//!
//! ```text
//! stage4-amd64-web-….tar.zst              the artifact
//! stage4-amd64-web-….tar.zst.CONTENTS.gz  its listing
//! stage4-amd64-web-….tar.zst.DIGESTS      `digests_body` of both, clear-signed
//! stage4-amd64-web-….tar.zst.sha256       `sha256_body` of the artifact, clear-signed
//! stage4-amd64-web-….tar.zst.asc          detached signature
//! ```
//!
//! The bodies are unsigned text; [`super::sign`] signs them. Unsigned ones (`--no-sign`) are still compared by [`super::verify()`], but
//! prove nothing.

use std::io;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::digests::Algorithm;
use super::hashing::{Hasher, hash_all};

/// Size and digests of a file. The digests are lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigests {
    /// Its name, without directories.
    pub name: String,
    pub size: u64,
    /// BLAKE2b with 512 bits.
    pub blake2b: String,
    pub sha512: String,
    pub sha256: String,
}

impl FileDigests {
    /// Reads all of `reader` once, with a core for each digest. `progress` is told how many bytes were read.
    pub fn read(name: &str, reader: impl Read, progress: impl FnMut(u64)) -> io::Result<Self> {
        let (hashers, size) = hash_all(reader, vec![Hasher::blake2b(), Hasher::sha512(), Hasher::sha256()], progress)?;
        let [blake2b, sha512, sha256] = [0, 1, 2].map(|index: usize| hashers[index].hex());
        Ok(Self { name: name.to_owned(), size, blake2b, sha512, sha256 })
    }
}

/// The text of a `.DIGESTS` file for `files`, usually the tarball and its `.CONTENTS.gz`.
pub(crate) fn digests_body(files: &[FileDigests]) -> String {
    let mut body = String::new();
    for file in files {
        for (algorithm, digest) in [(Algorithm::Blake2b, &file.blake2b), (Algorithm::Sha512, &file.sha512)] {
            stanza(&mut body, algorithm, digest, &file.name);
        }
    }
    body
}

/// The text of a `.sha256` file.
pub(crate) fn sha256_body(file: &FileDigests) -> String {
    let mut body = String::new();
    stanza(&mut body, Algorithm::Sha256, &file.sha256, &file.name);
    body
}

fn stanza(body: &mut String, algorithm: Algorithm, digest: &str, name: &str) {
    body.push_str(&["# ", algorithm.name(), " HASH\n", digest, "  ", name, "\n"].concat());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage3::digests::DigestList;

    #[test]
    fn our_lists_are_read_by_our_parser() {
        let tarball = FileDigests::read("stage4-amd64-web.tar.zst", &b"tarball"[..], |_| ()).unwrap();
        let contents = FileDigests::read("stage4-amd64-web.tar.zst.CONTENTS.gz", &b"contents"[..], |_| ()).unwrap();
        assert_eq!(tarball.size, 7);
        let list = DigestList::parse(&digests_body(&[tarball.clone(), contents.clone()]), None).unwrap();
        for file in [&tarball, &contents] {
            let digests = list.of(&file.name).unwrap();
            assert_eq!((&digests[&Algorithm::Blake2b], &digests[&Algorithm::Sha512]), (&file.blake2b, &file.sha512));
        }
        let list = DigestList::parse(&sha256_body(&tarball), None).unwrap();
        assert_eq!(list.of(&tarball.name).unwrap()[&Algorithm::Sha256], tarball.sha256);
    }

    #[test]
    fn the_format_is_upstreams() {
        let file = FileDigests {
            name: "a.tar.xz".to_owned(),
            size: 1,
            blake2b: "b2".to_owned(),
            sha512: "512".to_owned(),
            sha256: "256".to_owned(),
        };
        assert_eq!(digests_body(std::slice::from_ref(&file)), "# BLAKE2B HASH\nb2  a.tar.xz\n# SHA512 HASH\n512  a.tar.xz\n");
        assert_eq!(sha256_body(&file), "# SHA256 HASH\n256  a.tar.xz\n");
    }
}
