//! File names of stage tarballs.
//!
//! ```text
//! stage3-amd64-openrc-20260811T083102Z.tar.xz
//! stage3-amd64-musl-hardened-20260811T083102Z.tar.xz
//! stage4-amd64-web-20261122T120000Z-41aa1be94f4f.tar.zst      ours: with the beginning of the state's id
//! stage4-amd64-web-20261122T120000Z-41aa1be94f4f-2.tar.zst    the same state, with other things kept in it
//! ```
//!
//! A file name is data for display and for the metadata of a build state. It is never a reason to trust a file: whoever serves the file
//! chose its name.

use serde::{Deserialize, Serialize};

/// How many digits of a state's id are in the name of an artifact.
pub(crate) const ID_DIGITS: usize = 12;

/// How a tarball is compressed, according to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// `.tar.xz`
    Xz,
    /// `.tar.zst`
    Zst,
    /// `.tar.gz`
    Gz,
}

/// The parts of a tarball's file name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageName {
    /// The file name, without directories.
    pub file: String,
    /// The file name without `.tar.*`.
    pub stem: String,
    /// `3` of `stage3-…`, `4` of `stage4-…`. `None` for other names.
    pub stage: Option<u8>,
    /// Gentoo's name of the architecture: `amd64`, `arm64`, …
    pub arch: Option<String>,
    /// The part between architecture and timestamp: `openrc`, `musl-hardened`, …
    pub variant: Option<String>,
    /// When upstream started the build: `20260811T083102Z`, or `20260811` before 2018.
    pub timestamp: Option<String>,
    pub compression: Compression,
}

/// A file name that is not a tarball's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not the name of a tarball: it ends in none of .tar.xz, .tar.zst, .tar.gz")]
pub(crate) struct NotATarball {
    pub name: String,
}

impl StageName {
    /// Splits a file name (without directories). Any `<name>.tar.{xz,zst,gz}` is accepted. Parts that the name does not have are `None`.
    pub(crate) fn parse(file: &str) -> Result<Self, NotATarball> {
        let endings = [(".tar.xz", Compression::Xz), (".tar.zst", Compression::Zst), (".tar.gz", Compression::Gz)];
        let found = endings.iter().find_map(|(ending, compression)| Some((file.strip_suffix(ending)?, *compression)));
        let Some((stem, compression)) = found.filter(|(stem, _)| !stem.is_empty() && !file.contains('/')) else {
            return Err(NotATarball { name: file.to_owned() });
        };
        let mut name = Self {
            file: file.to_owned(),
            stem: stem.to_owned(),
            stage: None,
            arch: None,
            variant: None,
            timestamp: None,
            compression,
        };
        let Some((stage, rest)) = stem.strip_prefix("stage").and_then(|rest| rest.split_once('-')) else { return Ok(name) };
        let Ok(stage) = stage.parse() else { return Ok(name) };
        name.stage = Some(stage);
        let mut parts: Vec<&str> = rest.split('-').collect();
        parts.truncate(parts.len() - state_parts(&parts));
        if parts.len() > 1 && parts.last().is_some_and(|last| is_timestamp(last)) {
            name.timestamp = parts.pop().map(str::to_owned);
        }
        name.arch = parts.first().filter(|arch| !arch.is_empty()).map(|arch| (*arch).to_owned());
        name.variant = Some(parts.get(1..).unwrap_or_default().join("-")).filter(|variant| !variant.is_empty());
        Ok(name)
    }
}

/// How many parts at the end name a state of ours: an id after a timestamp, perhaps with a number after it.
fn state_parts(parts: &[&str]) -> usize {
    let is_id = |part: &str| part.len() == ID_DIGITS && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts {
        [.., time, id] if is_timestamp(time) && is_id(id) => 1,
        [.., time, id, number] if is_timestamp(time) && is_id(id) && is_number(number) => 2,
        _ => 0,
    }
}

/// `20260811T083102Z` or `20260811`.
fn is_timestamp(text: &str) -> bool {
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('T') {
        Some((date, time)) => digits(date, 8) && time.strip_suffix('Z').is_some_and(|time| digits(time, 6)),
        None => digits(text, 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stage, architecture, variant, timestamp.
    type Parts = (Option<u8>, Option<&'static str>, Option<&'static str>, Option<&'static str>);

    #[test]
    fn names_are_taken_apart() {
        let table: [(&str, Parts); 22] = [
            ("stage3-amd64-openrc-20260811T083102Z.tar.xz", (Some(3), Some("amd64"), Some("openrc"), Some("20260811T083102Z"))),
            (
                "stage3-amd64-musl-hardened-20260811T083102Z.tar.xz",
                (Some(3), Some("amd64"), Some("musl-hardened"), Some("20260811T083102Z")),
            ),
            ("stage3-amd64-20180102T214502Z.tar.xz", (Some(3), Some("amd64"), None, Some("20180102T214502Z"))),
            ("stage3-i686-20160101.tar.gz", (Some(3), Some("i686"), None, Some("20160101"))),
            ("stage4-amd64-web-20261122T120000Z.tar.zst", (Some(4), Some("amd64"), Some("web"), Some("20261122T120000Z"))),
            (
                "stage4-amd64-web-20261122T120000Z-41aa1be94f4f.tar.zst",
                (Some(4), Some("amd64"), Some("web"), Some("20261122T120000Z")),
            ),
            (
                "stage4-amd64-web-20261122T120000Z-41aa1be94f4f-2.tar.xz",
                (Some(4), Some("amd64"), Some("web"), Some("20261122T120000Z")),
            ),
            (
                "stage4-amd64-web-20261122T120000Z-41aa1be94f4f-x2.tar.xz",
                (Some(4), Some("amd64"), Some("web-20261122T120000Z-41aa1be94f4f-x2"), None),
            ),
            (
                "stage4-amd64-web-20261122T120000Z-41aa1be94f4f-.tar.xz",
                (Some(4), Some("amd64"), Some("web-20261122T120000Z-41aa1be94f4f-"), None),
            ),
            ("stage4-amd64-web-20261122T120000Z-x-2.tar.xz", (Some(4), Some("amd64"), Some("web-20261122T120000Z-x-2"), None)),
            ("stage4-amd64-web-41aa1be94f4f-2.tar.xz", (Some(4), Some("amd64"), Some("web-41aa1be94f4f-2"), None)),
            ("stage3-amd64-2026081.tar.xz", (Some(3), Some("amd64"), Some("2026081"), None)),
            ("stage3-amd64-2026081x.tar.xz", (Some(3), Some("amd64"), Some("2026081x"), None)),
            ("stage3-amd64-20260811T08310Z.tar.xz", (Some(3), Some("amd64"), Some("20260811T08310Z"), None)),
            ("stage3-amd64-2026081T083102Z.tar.xz", (Some(3), Some("amd64"), Some("2026081T083102Z"), None)),
            ("stage3-20260811.tar.xz", (Some(3), Some("20260811"), None, None)),
            (
                "stage4-amd64-web-20261122T120000Z-41aa1be94f4g.tar.xz",
                (Some(4), Some("amd64"), Some("web-20261122T120000Z-41aa1be94f4g"), None),
            ),
            ("stage4-amd64-web-20261122T120000Z-41aa.tar.xz", (Some(4), Some("amd64"), Some("web-20261122T120000Z-41aa"), None)),
            ("stage4-amd64-41aa1be94f4f.tar.zst", (Some(4), Some("amd64"), Some("41aa1be94f4f"), None)),
            ("stage4-amd64-web.tar.zst", (Some(4), Some("amd64"), Some("web"), None)),
            ("web.tar.gz", (None, None, None, None)),
            ("stagecoach-amd64.tar.gz", (None, None, None, None)),
        ];
        for (file, (stage, arch, variant, timestamp)) in table {
            let name = StageName::parse(file).unwrap();
            assert_eq!(
                (name.stage, name.arch.as_deref(), name.variant.as_deref(), name.timestamp.as_deref()),
                (stage, arch, variant, timestamp),
                "{file}"
            );
            assert_eq!(name.file, file);
        }
    }

    #[test]
    fn other_files_are_refused() {
        for file in ["stage3-amd64.tar.bz2", "stage3-amd64.tar", ".tar.xz", "a/b.tar.xz", ""] {
            let error = StageName::parse(file).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{file}` is not the name of a tarball: it ends in none of .tar.xz, .tar.zst, .tar.gz")
            );
        }
    }
}
