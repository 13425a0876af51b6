//! Portage's index of a pool: the file `Packages`.
//!
//! ```text
//! ARCH: amd64                 header: common values of all packages, and counts
//! PACKAGES: 2
//! TIMESTAMP: 1700000000
//! VERSION: 0
//!                             an empty line ends each stanza
//! BUILD_ID: 1                 one stanza for each package; missing CHOST and REPO are inherited from the header
//! CPV: app-misc/hello-2.10
//! MD5: …
//! MTIME: 1700000000           of the file, whole seconds; if it and SIZE match, Portage does not open the package
//! PATH: app-misc/hello/hello-2.10-1.gpkg.tar
//! SIZE: 20480
//! ```
//!
//! Source: `portage/getbinpkg.py` (`PackageIndex`), `portage/dbapi/bintree.py` (`_populate_local`, `_pkgindex_write`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Keys that a stanza inherits from the header.
const INHERITED: [&str; 2] = ["CHOST", "REPO"];
/// The keys of a stanza that we keep. Others may be commands and addresses for downloads, and a session wrote them.
const OF_A_PACKAGE: &str = "BDEPEND BUILD_ID BUILD_TIME CHOST CPV DEFINED_PHASES DEPEND DESC DESCRIPTION EAPI GENTOOMUCH_KEY IDEPEND IUSE \
                            KEYWORDS LICENSE MD5 MTIME PATH PDEPEND PROPERTIES PROVIDES RDEPEND REPO REPO_REVISIONS REQUIRED_USE REQUIRES \
                            RESTRICT SHA1 SIZE SLOT USE USER_PATCHES";
/// The keys of the header that we keep.
const OF_ALL: &str = "ACCEPT_KEYWORDS ACCEPT_LICENSE ACCEPT_PROPERTIES ACCEPT_RESTRICT ARCH CBUILD CHOST ELIBC IUSE_IMPLICIT KERNEL PROFILE \
                      REPO USE USERLAND USE_EXPAND USE_EXPAND_HIDDEN USE_EXPAND_IMPLICIT USE_EXPAND_UNPREFIXED VERSION";

/// A package's stanza, reduced to those keys.
pub(crate) fn describing(stanza: &Stanza) -> Stanza {
    only(stanza, OF_A_PACKAGE)
}

/// A header, reduced to those keys.
pub(crate) fn describing_all(header: &Stanza) -> Stanza {
    only(header, OF_ALL)
}

fn only(stanza: &Stanza, keys: &str) -> Stanza {
    let is_known = |key: &str| keys.split_whitespace().any(|known| known == key);
    stanza.iter().filter(|(key, _)| is_known(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The version that this module writes and the newest that it reads, as in Portage.
const VERSION: u64 = 0;

/// One stanza, by key.
pub(crate) type Stanza = BTreeMap<String, String>;

/// A parsed index. Inherited values are filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The header, without the counts.
    pub header: Stanza,
    /// The packages, by path below the pool.
    pub packages: BTreeMap<String, Stanza>,
}

impl Index {
    /// Reads an index. Like Portage it ignores lines without a colon and stanzas without a `CPV`, and takes an index of an unknown
    /// version as empty.
    pub fn parse(text: &str) -> Self {
        Self::parse_those(text, |_| true)
    }

    /// The same, but keeps only packages whose stanza `wanted` accepts. Storing all packages of a large pool takes longer than parsing them.
    pub(crate) fn parse_those(text: &str, mut wanted: impl FnMut(&Stanza) -> bool) -> Self {
        let mut stanzas = Stanzas { lines: text.lines() };
        let mut header = stanzas.next().unwrap_or_default();
        if header.get("VERSION").is_some_and(|v| v.parse::<u64>().is_ok_and(|v| v > VERSION)) {
            return Self::default();
        }
        let mut packages = BTreeMap::new();
        // A stanza without any key ends the index.
        for mut stanza in stanzas.take_while(|stanza| !stanza.is_empty()) {
            let Some(cpv) = stanza.get("CPV").filter(|cpv| !cpv.is_empty()) else { continue };
            let path = stanza.get("PATH").filter(|p| !p.is_empty()).cloned().unwrap_or_else(|| format!("{cpv}.tbz2"));
            for key in INHERITED {
                if let Some(value) = header.get(key).filter(|v| !v.is_empty()) {
                    stanza.entry(key.to_owned()).or_insert_with(|| value.clone());
                }
            }
            stanza.insert("PATH".to_owned(), path.clone());
            if wanted(&stanza) {
                packages.insert(path, stanza);
            } else {
                // The last of two with the same path counts.
                packages.remove(&path);
            }
        }
        header.remove("PACKAGES");
        header.remove("TIMESTAMP");
        Self { header, packages }
    }

    /// The text of the file, written at `timestamp` (seconds since the epoch).
    pub fn render(&self, timestamp: i64) -> String {
        let mut header = self.header.clone();
        header.insert("PACKAGES".to_owned(), self.packages.len().to_string());
        header.insert("TIMESTAMP".to_owned(), timestamp.to_string());
        header.entry("VERSION".to_owned()).or_insert_with(|| VERSION.to_string());
        let mut text = String::new();
        let inherited = |_: &str, _: &str| false;
        write_stanza(&mut text, &header, inherited);
        for stanza in self.packages.values() {
            write_stanza(&mut text, stanza, |key, value| {
                INHERITED.contains(&key) && self.header.get(key).is_some_and(|v| v == value)
            });
        }
        text
    }
}

fn write_stanza(text: &mut String, stanza: &Stanza, leave_out: impl Fn(&str, &str) -> bool) {
    for (key, value) in stanza {
        if !value.is_empty() && !leave_out(key, value) {
            let _ = writeln!(text, "{key}: {value}");
        }
    }
    text.push('\n');
}

struct Stanzas<'a> {
    lines: std::str::Lines<'a>,
}

impl Iterator for Stanzas<'_> {
    type Item = Stanza;

    fn next(&mut self) -> Option<Stanza> {
        let mut stanza = Stanza::new();
        let mut any = false;
        for line in self.lines.by_ref() {
            any = true;
            if line.is_empty() {
                break;
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            let well_formed = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if well_formed && !value.chars().any(|c| c.is_control() && c != '\t') {
                stanza.insert(key.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned());
            }
        }
        any.then_some(stanza)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ARCH: amd64
CHOST: x86_64-pc-linux-gnu
PACKAGES: 3
REPO: testbed
TIMESTAMP: 1700000000
VERSION: 0

BUILD_ID: 1
CPV: app-misc/hello-2.10
DESC: GNU hello: it greets
MTIME: 1699999999
PATH: app-misc/hello/hello-2.10-1.gpkg.tar
SIZE: 20480

CPV: app-misc/old-1
REPO: other

";

    #[test]
    fn reads_and_writes_what_portage_does() {
        let index = Index::parse(TEXT);
        assert_eq!(index.packages.len(), 2);
        let hello = &index.packages["app-misc/hello/hello-2.10-1.gpkg.tar"];
        assert_eq!((hello["DESC"].as_str(), hello["REPO"].as_str()), ("GNU hello: it greets", "testbed"));
        let old = &index.packages["app-misc/old-1.tbz2"];
        assert_eq!((old["REPO"].as_str(), old["CHOST"].as_str()), ("other", "x86_64-pc-linux-gnu"));
        let again = index.render(1_700_000_000);
        assert_eq!(
            again,
            TEXT.replace("PACKAGES: 3", "PACKAGES: 2")
                .replace("CPV: app-misc/old-1\n", "CPV: app-misc/old-1\nPATH: app-misc/old-1.tbz2\n")
        );
        assert_eq!(Index::parse(&again), index);
    }

    #[test]
    fn a_stanza_keeps_its_values_under_another_header() {
        let mut target = Index::parse("CHOST: aarch64-unknown-linux-gnu\nREPO: gentoo\nVERSION: 0\n\n");
        target.packages = Index::parse(TEXT).packages;
        let again = Index::parse(&target.render(1));
        assert_eq!(again.packages["app-misc/hello/hello-2.10-1.gpkg.tar"]["CHOST"], "x86_64-pc-linux-gnu");
        assert_eq!(again.packages["app-misc/hello/hello-2.10-1.gpkg.tar"]["REPO"], "testbed");
    }

    #[test]
    fn of_two_with_the_same_path_the_last_one_counts_whether_it_is_wanted_or_not() {
        let text =
            "VERSION: 0\n\nCPV: a/b-1\nPATH: p\nUSE: wanted\n\nCPV: a/b-1\nPATH: p\nUSE: other\n\nCPV: a/c-1\nUSE: wanted\n\n";
        let kept = Index::parse_those(text, |stanza| stanza["USE"] == "wanted");
        assert_eq!(kept.packages.into_keys().collect::<Vec<_>>(), ["a/c-1.tbz2"]);
    }

    #[test]
    fn odd_input() {
        assert_eq!(Index::parse(""), Index::default());
        assert_eq!(Index::parse("VERSION: 7\n\nCPV: a/b-1\n\n"), Index::default());
        let index = Index::parse("VERSION: 0\nno colon\n\nNOCPV: 1\n\nCPV: a/b-1\nK\u{1b}: x\nDESC: a\u{1b}[31mb\nUSE:\n\n");
        assert_eq!(index.packages.len(), 1);
        let only: Vec<&str> = index.packages["a/b-1.tbz2"].keys().map(String::as_str).collect();
        assert_eq!(only, ["CPV", "PATH", "USE"]);
        assert!(!index.render(0).contains("USE"), "empty values are not written");
    }
}
