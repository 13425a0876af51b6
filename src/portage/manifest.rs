//! Manifests of whole ebuild repositories (GLEP 74): size and hashes of every file of a tree.
//!
//! ```text
//! Manifest                      clear-signed; lists the Manifests of directories, which list others and files
//!   MANIFEST app-misc/Manifest.gz 1234 BLAKE2B … SHA512 …
//! app-misc/hello/Manifest
//!   EBUILD hello-2.10.ebuild 567 …       AUX x.patch is files/x.patch
//!   DIST hello-2.10.tar.gz 725946 …      a source archive, which is not in the tree
//! ```

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::stage3::hashing::{Hasher, hash_all};

/// The hashes that we verify, by their names in Manifests. A file needs at least one of them.
pub(crate) const HASHES: [&str; 3] = ["BLAKE2B", "SHA512", "SHA256"];

/// The hashes that Portage has in an index of packages. They notice damage, but prove nothing: the signature of a package does.
pub(crate) const INDEX_HASHES: [&str; 2] = ["MD5", "SHA1"];

/// The expected size and hashes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its size in bytes.
    pub size: u64,
    /// Hash and value in lower-case hexadecimal; those of [`HASHES`], for a package of a host also those of [`INDEX_HASHES`].
    pub hashes: BTreeMap<&'static str, String>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    Size,
    /// In at least one of the hashes.
    Contents,
}

impl Expected {
    /// Size and hashes, the words of a line after the name.
    pub(crate) fn of(words: &[&str]) -> Option<Self> {
        let (size, pairs) = words.split_first()?;
        let known = |pair: &[&str]| Some((*HASHES.iter().find(|hash| **hash == pair[0])?, pair[1].to_ascii_lowercase()));
        Some(Self { size: size.parse().ok()?, hashes: pairs.chunks_exact(2).filter_map(known).collect() })
    }

    /// What computes its hashes, in their order.
    pub(crate) fn hashers(&self) -> Vec<Hasher> {
        let hasher = |name: &str| match name {
            "BLAKE2B" => Hasher::blake2b(),
            "SHA512" => Hasher::sha512(),
            "SHA1" => Hasher::sha1(),
            "MD5" => Hasher::md5(),
            _ => Hasher::sha256(),
        };
        self.hashes.keys().map(|name| hasher(name)).collect()
    }

    /// Reads a file and compares it, in one pass for all hashes.
    pub fn difference(&self, reader: impl Read) -> io::Result<Option<Difference>> {
        let mut hashers = self.hashers();
        let mut reader = reader.take(self.size.saturating_add(1));
        // The files are small: a thread for each hash would cost more than it saves.
        let size = if self.size < 4 << 20 {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            for hasher in &mut hashers {
                hasher.update(&bytes);
            }
            bytes.len() as u64
        } else {
            let (fed, size) = hash_all(reader, hashers, |_| {})?;
            hashers = fed;
            size
        };
        Ok(self.difference_of(&hashers, size))
    }

    /// Compares what [`hashers`](Self::hashers) have read, and how much that was.
    pub(crate) fn difference_of(&self, hashers: &[Hasher], size: u64) -> Option<Difference> {
        if size != self.size {
            return Some(Difference::Size);
        }
        let same = hashers.iter().zip(self.hashes.values()).all(|(hasher, value)| hasher.hex() == *value);
        (!same).then_some(Difference::Contents)
    }
}

/// The source archives in the Manifest of a package, in its order. Lines of another form are skipped, and so are archives without a hash
/// that we verify.
pub fn source_archives(text: &str) -> impl Iterator<Item = (&str, Expected)> {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.strip_prefix("DIST ")?.split_whitespace().collect();
        let (name, rest) = words.split_first()?;
        let plain = !name.contains('/') && !name.contains(char::is_control) && !matches!(*name, "." | "..");
        Some((*name, Expected::of(rest).filter(|expected| plain && !expected.hashes.is_empty())?))
    })
}

/// A Manifest, with paths relative to the top of the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Other Manifests.
    pub manifests: BTreeMap<PathBuf, Expected>,
    pub files: BTreeMap<PathBuf, Expected>,
    /// Paths that it excludes (`IGNORE`).
    pub ignored: Vec<PathBuf>,
    /// When it was made, as written.
    pub timestamp: Option<String>,
}

/// A line that we do not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Words are missing.
    #[error("line {line}: `{kind}` has too few words")]
    Words {
        /// Counted from 1.
        line: usize,
        /// The first word.
        kind: String,
    },
    /// A path that leads out of the directory.
    #[error("line {line}: `{path}` is not a path below its directory")]
    Path {
        /// Counted from 1.
        line: usize,
        /// As written.
        path: String,
    },
    /// It has no hash that we verify.
    #[error("line {line}: `{path}` has none of the hashes BLAKE2B, SHA512 and SHA256")]
    Hashes {
        /// Counted from 1.
        line: usize,
        /// As written.
        path: String,
    },
    /// The same file twice, with different entries.
    #[error("line {line}: `{path}` is listed twice with different digests")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// As written.
        path: String,
    },
    /// An unknown kind of line.
    #[error("line {line}: `{kind}` is not known")]
    Kind {
        /// Counted from 1.
        line: usize,
        /// The first word.
        kind: String,
    },
}

impl Manifest {
    /// Parses the Manifest of `dir`, relative to the top.
    pub(crate) fn parse(dir: &Path, text: &str) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            let words: Vec<&str> = content.split_whitespace().collect();
            let Some((&kind, rest)) = words.split_first() else { continue };
            let lacking = || ManifestError::Words { line, kind: kind.escape_debug().to_string() };
            let Some((&name, rest)) = rest.split_first() else { return Err(lacking()) };
            let below =
                |name: &str| below(dir, name).ok_or_else(|| ManifestError::Path { line, path: name.escape_debug().to_string() });
            match kind {
                "TIMESTAMP" => manifest.timestamp = Some(name.to_owned()),
                "DIST" => {}
                "IGNORE" => manifest.ignored.push(below(name)?),
                "MANIFEST" | "DATA" | "EBUILD" | "MISC" | "AUX" | "OPTIONAL" => {
                    let path = if kind == "AUX" { below(&format!("files/{name}"))? } else { below(name)? };
                    let expected = Expected::of(rest).ok_or_else(lacking)?;
                    if expected.hashes.is_empty() {
                        return Err(ManifestError::Hashes { line, path: name.escape_debug().to_string() });
                    }
                    let list = if kind == "MANIFEST" { &mut manifest.manifests } else { &mut manifest.files };
                    if list.insert(path, expected.clone()).is_some_and(|before| before != expected) {
                        return Err(ManifestError::Twice { line, path: name.escape_debug().to_string() });
                    }
                }
                _ => return Err(ManifestError::Kind { line, kind: kind.escape_debug().to_string() }),
            }
        }
        Ok(manifest)
    }
}

fn below(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let plain = !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| dir.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_directory_and_source_archives_are_none() {
        let text = "TIMESTAMP 2026-08-11T00:00:00Z\nIGNORE local\nMANIFEST app/Manifest.gz 3 MD5 x SHA512 AB\nAUX x.patch 1 BLAKE2B 0f\n\
                    DIST x.tar 1 SHA512 00\nEBUILD x-1.ebuild 2 SHA256 11 BLAKE2B 22\n";
        let manifest = Manifest::parse(Path::new("dir"), text).unwrap();
        let paths: Vec<&Path> = manifest.files.keys().map(PathBuf::as_path).collect();
        assert_eq!(paths, [Path::new("dir/files/x.patch"), Path::new("dir/x-1.ebuild")]);
        assert_eq!(manifest.manifests[Path::new("dir/app/Manifest.gz")].hashes["SHA512"], "ab");
        assert_eq!(manifest.ignored, [Path::new("dir/local")]);
        assert_eq!(manifest.timestamp.as_deref(), Some("2026-08-11T00:00:00Z"));
    }

    #[test]
    fn source_archives_are_those_that_can_be_verified() {
        let text = "DIST a.tar 3 MD5 x SHA512 AB\nDIST b 1 MD5 x\nDIST c many SHA512 0\nDIST ../d 1 SHA512 0\nDIST d\u{1b}[31m 1 SHA512 0\nDIST\nEBUILD e 1 SHA512 0\n\
                    DIST f 0 BLAKE2B 1 SHA256 2\n";
        let found: Vec<_> = source_archives(text).collect();
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a.tar", "f"]);
        assert_eq!(found[0].1, Expected { size: 3, hashes: BTreeMap::from([("SHA512", "ab".to_owned())]) });
        assert_eq!(found[1].1.hashes.len(), 2);
    }

    #[test]
    fn every_hash_has_to_fit() {
        let hex = |mut hasher: Hasher| {
            hasher.update(b"abc");
            hasher.hex()
        };
        let hashes = BTreeMap::from([("BLAKE2B", hex(Hasher::blake2b())), ("SHA256", hex(Hasher::sha256()))]);
        let expected = Expected { size: 3, hashes };
        assert_eq!(expected.difference(&b"abc"[..]).unwrap(), None);
        assert_eq!(expected.difference(&b"abd"[..]).unwrap(), Some(Difference::Contents));
        assert_eq!(expected.difference(&b"abcd"[..]).unwrap(), Some(Difference::Size));
        assert_eq!(expected.difference(&b"ab"[..]).unwrap(), Some(Difference::Size));
        let mut one_wrong = expected;
        one_wrong.hashes.insert("SHA256", "00".to_owned());
        assert_eq!(one_wrong.difference(&b"abc"[..]).unwrap(), Some(Difference::Contents));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        let wrong = |text: &str| Manifest::parse(Path::new(""), text).unwrap_err().to_string();
        for (text, message) in [
            ("DATA", "line 1: `DATA` has too few words"),
            ("\nDATA x many SHA512 0", "line 2: `DATA` has too few words"),
            ("DATA ../x 1 SHA512 0", "line 1: `../x` is not a path below its directory"),
            ("DATA /x 1 SHA512 0", "line 1: `/x` is not a path below its directory"),
            ("DATA x 1 MD5 0 SHA1 0", "line 1: `x` has none of the hashes BLAKE2B, SHA512 and SHA256"),
            ("DATA x 1 SHA512 0\nDATA x 2 SHA512 0", "line 2: `x` is listed twice with different digests"),
            ("DAT x 1 SHA512 0", "line 1: `DAT` is not known"),
        ] {
            assert_eq!(wrong(text), message);
        }
    }
}
