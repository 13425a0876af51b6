//! How a mirror lays out its `distfiles/` (GLEP 75), according to `distfiles/layout.conf`.
//!
//! ```text
//! [structure]
//! 0=filename-hash BLAKE2B 8      the first one that we understand counts
//! 1=flat
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::portage::configparser;
use crate::portage::manifest::{Expected, HASHES};
use crate::stage3::hashing::Hasher;

/// Layouts of mirrors. Each mirror is asked once.
#[derive(Debug, Default)]
pub(super) struct Layouts(Mutex<BTreeMap<String, Arc<Mutex<Option<Layout>>>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// All in one directory.
    Flat,
    /// By a hash of the name.
    Name { hash: String, bits: Vec<usize> },
    /// By a hash of the contents. The file's name is then the hash, too.
    Contents { hash: String, bits: Vec<usize> },
}

/// The layouts of a mirror, the best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout(Vec<Way>);

impl Layouts {
    /// The layout of a mirror. `fetch` gets its `layout.conf`. If the mirror does not answer, we take it for flat this time and ask again
    /// later.
    pub(super) fn of(&self, base: &str, fetch: impl FnOnce() -> Option<String>) -> Layout {
        let known = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(base.to_owned()).or_default());
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = fetch().map(|text| Layout::parse(&text));
        }
        known.clone().unwrap_or_default()
    }
}

impl Layout {
    /// Reads a `layout.conf`. Lines that we do not understand are skipped, as in Portage. A mirror without one is flat.
    pub(super) fn parse(text: &str) -> Self {
        let parsed = configparser::parse(text);
        let value = |number: usize| {
            let mut of_section = parsed.settings.iter().rev().filter(|setting| {
                setting.section.is_some_and(|at| parsed.sections[at] == "structure") && setting.key == number.to_string()
            });
            of_section.next().map(|setting| setting.value.as_str())
        };
        Self((0..).map_while(value).filter_map(way).collect())
    }

    /// Where a file is below `distfiles/`, quoted for an address.
    pub(super) fn path(&self, name: &str, expected: &Expected) -> String {
        let path = self.0.iter().find_map(|way| match way {
            Way::Flat => Some(name.to_owned()),
            Way::Name { hash, bits } => Some(format!("{}{name}", directories(&of_name(hash, name), bits))),
            Way::Contents { hash, bits } => {
                let value = expected.hashes.get(hash.as_str())?;
                Some(format!("{}{value}", directories(value, bits)))
            }
        });
        quote(&path.unwrap_or_else(|| name.to_owned()))
    }
}

fn way(value: &str) -> Option<Way> {
    let words: Vec<&str> = value.split_whitespace().collect();
    match words[..] {
        ["flat"] => Some(Way::Flat),
        [kind @ ("filename-hash" | "content-hash"), hash, cutoffs] => {
            let bits: Option<Vec<usize>> =
                cutoffs.split(':').map(|bits| bits.parse().ok().filter(|bits| bits % 4 == 0 && *bits <= 512)).collect();
            // The case does not matter for content-hash, since Portage converts it there.
            let hash = if kind == "content-hash" { hash.to_ascii_uppercase() } else { hash.to_owned() };
            let (hash, bits) = (Some(hash).filter(|hash| HASHES.contains(&hash.as_str()))?, bits?);
            Some(if kind == "content-hash" { Way::Contents { hash, bits } } else { Way::Name { hash, bits } })
        }
        _ => None,
    }
}

fn of_name(hash: &str, name: &str) -> String {
    let mut hasher = match hash {
        "BLAKE2B" => Hasher::blake2b(),
        "SHA512" => Hasher::sha512(),
        _ => Hasher::sha256(),
    };
    hasher.update(name.as_bytes());
    hasher.hex()
}

/// `ab/cd/` for cutoffs of 8 bits each.
fn directories(hash: &str, bits: &[usize]) -> String {
    let mut rest = hash;
    let mut path = String::new();
    for bits in bits {
        let (part, behind) = rest.split_at((bits / 4).min(rest.len()));
        path.push_str(part);
        path.push('/');
        rest = behind;
    }
    path
}

/// `urllib.parse.quote`.
fn quote(path: &str) -> String {
    const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');
    utf8_percent_encode(path, QUOTED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_mirrors_have_files() {
        let expected = Expected { size: 1, hashes: [("SHA512", "0123456789abcdef".to_owned())].into() };
        let path = |conf: &str| Layout::parse(conf).path("a+b.tar", &expected);
        // b2sum of `a+b.tar` begins with these.
        let hash = of_name("BLAKE2B", "a+b.tar");
        let table = [
            ("", "a%2Bb.tar".to_owned()),
            ("[structure]\n0=flat\n", "a%2Bb.tar".to_owned()),
            ("[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n", format!("{}/a%2Bb.tar", &hash[..2])),
            ("[structure]\n0 = filename-hash BLAKE2B 8:4\n", format!("{}/{}/a%2Bb.tar", &hash[..2], &hash[2..3])),
            ("[structure]\n0=content-hash SHA512 8:8:8\n", "01/23/45/0123456789abcdef".to_owned()),
            ("[structure]\n0=content-hash BLAKE2B 8\n1=content-hash sha512 8\n", "01/0123456789abcdef".to_owned()),
            ("[structure]\n0=filename-hash WHIRLPOOL 8\n1=filename-hash BLAKE2B 9\n2=newer\n3=flat\n", "a%2Bb.tar".to_owned()),
            ("[structure]\n1=filename-hash BLAKE2B 8\n", "a%2Bb.tar".to_owned()),
            ("[other]\n0=filename-hash BLAKE2B 8\n", "a%2Bb.tar".to_owned()),
            ("<html>", "a%2Bb.tar".to_owned()),
        ];
        for (conf, expected) in table {
            assert_eq!(path(conf), expected, "{conf:?}");
        }
        let gentoo = Layout::parse("[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n");
        // As it lies on Gentoo's mirrors.
        assert_eq!(gentoo.path("hello-2.10.tar.gz", &expected).rsplit('/').next(), Some("hello-2.10.tar.gz"));
        assert_eq!(directories("ab", &[8, 8]), "ab//");
    }
}
