//! Lists of digests, as in upstream's `.DIGESTS` and `.sha256` files.
//!
//! ```text
//! # BLAKE2B HASH                                   2022: "# BLAKE2 (b2sum) HASH", and absolute paths
//! 9f86…  stage3-amd64-openrc-20260811T083102Z.tar.xz
//! # SHA512 HASH
//! 2c26…  stage3-amd64-openrc-20260811T083102Z.tar.xz
//! # BLAKE2B HASH
//! 486e…  stage3-amd64-openrc-20260811T083102Z.tar.xz.CONTENTS.gz
//! ```
//!
//! Files are found by the last component of their path. Stanzas of unknown algorithms are skipped. MD5, SHA-1 and WHIRLPOOL are
//! remembered as weak: a file that has nothing better is refused with an error that says so.
//!
//! The parser gets text that was taken out of a verified signature ([`super::cleartext`]). It does not look for a signature.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A digest algorithm that is strong enough to rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// BLAKE2b with 512 bits, as `b2sum` prints it.
    Blake2b,
    Sha512,
    Sha256,
}

impl Algorithm {
    /// Upstream's name: `BLAKE2B`, `SHA512`, `SHA256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake2b => "BLAKE2B",
            Self::Sha512 => "SHA512",
            Self::Sha256 => "SHA256",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Blake2b | Self::Sha512 => 128,
            Self::Sha256 => 64,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What is wrong with a list of digests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestsError {
    /// A line of a known stanza that is neither `HEX  FILE` nor `NAME (FILE) = HEX`.
    #[error("line {line} is not a digest and a file name")]
    Line {
        /// Counted from 1, within the signed text.
        line: usize,
    },
    /// A digest of the wrong length, or not hexadecimal.
    #[error("line {line}: not a {algorithm} digest")]
    Digest {
        /// Counted from 1, within the signed text.
        line: usize,
        algorithm: Algorithm,
    },
    /// Two lines have different digests for one file.
    #[error("two different {algorithm} digests for `{file}`")]
    Contradiction { file: String, algorithm: Algorithm },
    /// The file is not in the list.
    #[error("no digest for `{file}`")]
    NotListed { file: String },
    /// The file has only digests that are too weak.
    #[error("only {algorithms} for `{file}`, too weak to rely on")]
    WeakOnly {
        file: String,
        /// As the list writes them.
        algorithms: String,
    },
}

/// Digests by file name and algorithm, in hexadecimal, lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DigestList {
    strong: BTreeMap<String, BTreeMap<Algorithm, String>>,
    weak: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stanza {
    Strong(Algorithm),
    Weak(String),
    Unknown,
}

impl DigestList {
    /// Reads a list. Lines before the first stanza count as `unmarked`, if that is given (`.sha256` files may have no stanza).
    pub(crate) fn parse(text: &str, unmarked: Option<Algorithm>) -> Result<Self, DigestsError> {
        let mut list = Self::default();
        let mut stanza = unmarked.map_or(Stanza::Unknown, Stanza::Strong);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                if let Some(name) = comment.trim().strip_suffix(" HASH") {
                    stanza = stanza_named(name);
                }
                continue;
            }
            if !line.is_empty() {
                list.add(index + 1, line, &stanza)?;
            }
        }
        Ok(list)
    }

    fn add(&mut self, number: usize, line: &str, stanza: &Stanza) -> Result<(), DigestsError> {
        let (stanza, digest, path) = if let Some(tagged) = split_tagged(line) {
            let (name, path, digest) = tagged;
            (stanza_named(name), digest, path)
        } else if *stanza == Stanza::Unknown {
            return Ok(());
        } else {
            let (digest, path) = split_plain(line).ok_or(DigestsError::Line { line: number })?;
            (stanza.clone(), digest, path)
        };
        let file = path.rsplit('/').next().unwrap_or(path).to_owned();
        if file.is_empty() {
            return Err(DigestsError::Line { line: number });
        }
        match stanza {
            Stanza::Unknown => {}
            Stanza::Weak(name) => {
                self.weak.entry(file).or_default().insert(name);
            }
            Stanza::Strong(algorithm) => {
                if digest.len() != algorithm.hex_len() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(DigestsError::Digest { line: number, algorithm });
                }
                let digest = digest.to_ascii_lowercase();
                let known = self.strong.entry(file.clone()).or_default().entry(algorithm).or_insert_with(|| digest.clone());
                if *known != digest {
                    return Err(DigestsError::Contradiction { file, algorithm });
                }
            }
        }
        Ok(())
    }

    /// The strong digests of `file` (without directories). There is at least one.
    pub(crate) fn of(&self, file: &str) -> Result<&BTreeMap<Algorithm, String>, DigestsError> {
        if let Some(digests) = self.strong.get(file) {
            return Ok(digests);
        }
        Err(match self.weak.get(file) {
            Some(names) => DigestsError::WeakOnly {
                file: file.to_owned(),
                algorithms: names.iter().map(String::as_str).collect::<Vec<_>>().join(" and "),
            },
            None => DigestsError::NotListed { file: file.to_owned() },
        })
    }

    #[cfg(test)]
    fn files(&self) -> impl Iterator<Item = &str> {
        self.strong.keys().map(String::as_str)
    }
}

fn stanza_named(name: &str) -> Stanza {
    match name.trim() {
        "BLAKE2B" | "BLAKE2 (b2sum)" | "BLAKE2b" => Stanza::Strong(Algorithm::Blake2b),
        "SHA512" => Stanza::Strong(Algorithm::Sha512),
        "SHA256" => Stanza::Strong(Algorithm::Sha256),
        weak @ ("MD5" | "SHA1" | "WHIRLPOOL" | "RMD160") => Stanza::Weak(weak.to_owned()),
        _ => Stanza::Unknown,
    }
}

/// `HEX  FILE`, or `HEX *FILE` as coreutils writes for binary mode.
fn split_plain(line: &str) -> Option<(&str, &str)> {
    let (digest, path) = line.split_once(char::is_whitespace)?;
    let path = path.trim_start();
    Some((digest, path.strip_prefix('*').unwrap_or(path)))
}

/// `SHA256 (FILE) = HEX`, as `sha256sum --tag` writes.
fn split_tagged(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once(" (")?;
    let (path, digest) = rest.rsplit_once(") = ")?;
    Some((name, path, digest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: &str = "stage3-amd64-openrc-20260811T083102Z.tar.xz";

    fn digest(digit: char, len: usize) -> String {
        digit.to_string().repeat(len)
    }

    #[test]
    fn todays_format() {
        let text = format!(
            "# BLAKE2B HASH\n{a}  {STAGE}\n# SHA512 HASH\n{b}  {STAGE}\n# BLAKE2B HASH\n{c}  {STAGE}.CONTENTS.gz\n",
            a = digest('A', 128),
            b = digest('b', 128),
            c = digest('c', 128)
        );
        let list = DigestList::parse(&text, None).unwrap();
        let digests = list.of(STAGE).unwrap();
        assert_eq!(digests[&Algorithm::Blake2b], digest('a', 128));
        assert_eq!(digests[&Algorithm::Sha512], digest('b', 128));
        assert_eq!(list.of(&format!("{STAGE}.CONTENTS.gz")).unwrap().len(), 1);
        assert_eq!(list.files().count(), 2);
    }

    #[test]
    fn format_of_2022_with_absolute_paths() {
        let text = format!("# BLAKE2 (b2sum) HASH\n{}  /var/tmp/catalyst/builds/{STAGE}\n", digest('a', 128));
        assert_eq!(DigestList::parse(&text, None).unwrap().of(STAGE).unwrap()[&Algorithm::Blake2b], digest('a', 128));
    }

    #[test]
    fn sha256_files_with_and_without_stanza() {
        let hash = digest('d', 64);
        for text in
            [format!("# SHA256 HASH\n{hash}  {STAGE}\n"), format!("{hash} *{STAGE}\n"), format!("SHA256 ({STAGE}) = {hash}\n")]
        {
            let list = DigestList::parse(&text, Some(Algorithm::Sha256)).unwrap();
            assert_eq!(list.of(STAGE).unwrap()[&Algorithm::Sha256], hash, "{text}");
        }
    }

    #[test]
    fn unknown_stanzas_are_skipped_whatever_they_hold() {
        let text = format!("# KANGAROO HASH\nwhatever\n# SHA512 HASH\n{}  {STAGE}\n", digest('b', 128));
        assert_eq!(DigestList::parse(&text, None).unwrap().of(STAGE).unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let ok = digest('a', 128);
        let other = digest('b', 128);
        let md5 = digest('c', 32);
        let sha1 = digest('c', 40);
        let table = [
            (format!("# SHA512 HASH\n{ok}\n"), "line 2 is not a digest and a file name"),
            (format!("# SHA512 HASH\n{ok}  dir/\n"), "line 2 is not a digest and a file name"),
            (format!("# SHA512 HASH\n{md5}  f\n"), "line 2: not a SHA512 digest"),
            (format!("# SHA512 HASH\n{}  f\n", digest('x', 128)), "line 2: not a SHA512 digest"),
            (format!("# SHA512 HASH\n{ok}  f\n{other}  /elsewhere/f\n"), "two different SHA512 digests for `f`"),
        ];
        for (text, words) in table {
            assert_eq!(DigestList::parse(&text, None).unwrap_err().to_string(), words);
        }
        let list = DigestList::parse(&format!("# MD5 HASH\n{md5}  f\n# SHA1 HASH\n{sha1}  f\n"), None).unwrap();
        assert_eq!(list.of("f").unwrap_err().to_string(), "only MD5 and SHA1 for `f`, too weak to rely on");
        assert_eq!(list.of("g").unwrap_err().to_string(), "no digest for `g`");
        // The same digest twice is no contradiction.
        assert!(DigestList::parse(&format!("# SHA512 HASH\n{ok}  f\n{ok}  f\n"), None).is_ok());
    }
}
