//! Upstream's lists of the latest builds, `latest-stage3.txt` and `latest-stage3-<variant>.txt`.
//!
//! ```text
//! # Latest as of Tue, 11 Aug 2026 09:00:01 +0000
//! # ts=1786438801
//! 20260811T083102Z/stage3-amd64-openrc-20260811T083102Z.tar.xz 283467296
//! ```
//!
//! The lists are clear-signed. The parser gets the text from [`super::verify_clear_signed`]. Paths are relative to the directory of the
//! list (`releases/<arch>/autobuilds/`).

use serde::{Deserialize, Serialize};

/// A list of builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReleaseIndex {
    /// When upstream made the list, in seconds since 1970, if the list says so.
    pub timestamp: Option<i64>,
    /// The builds, in the list's order.
    pub entries: Vec<IndexEntry>,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    /// Relative path, without `.` or `..` components.
    pub path: String,
    /// Size of the tarball in bytes. Lists before 2016 have none.
    pub size: Option<u64>,
}

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    /// A path leads out of the list's directory.
    #[error("line {line}: `{path}` is not a path below the list's directory")]
    Path {
        /// Counted from 1, within the signed text.
        line: usize,
        path: String,
    },
    /// After the path comes something that is not a number.
    #[error("line {line}: `{text}` is not a size in bytes")]
    Size {
        /// Counted from 1, within the signed text.
        line: usize,
        text: String,
    },
    /// The list is empty.
    #[error("lists no builds")]
    Empty,
}

impl ReleaseIndex {
    pub(crate) fn parse(text: &str) -> Result<Self, IndexError> {
        let mut timestamp = None;
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                timestamp = comment.trim().strip_prefix("ts=").and_then(|seconds| seconds.parse().ok()).or(timestamp);
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(path) = words.next() else { continue };
            if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(IndexError::Path { line: index + 1, path: path.to_owned() });
            }
            let size = match words.next() {
                None => None,
                Some(word) => Some(word.parse().map_err(|_| IndexError::Size { line: index + 1, text: word.to_owned() })?),
            };
            entries.push(IndexEntry { path: path.to_owned(), size });
        }
        if entries.is_empty() { Err(IndexError::Empty) } else { Ok(Self { timestamp, entries }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_list() {
        let text = "# Latest as of Tue, 11 Aug 2026 09:00:01 +0000\n# ts=1786438801\n\
                    20260811T083102Z/stage3-amd64-openrc-20260811T083102Z.tar.xz 283467296\nold/stage3.tar.xz\n";
        let index = ReleaseIndex::parse(text).unwrap();
        assert_eq!(index.timestamp, Some(1_786_438_801));
        assert_eq!(index.entries[0].path, "20260811T083102Z/stage3-amd64-openrc-20260811T083102Z.tar.xz");
        assert_eq!(index.entries[0].size, Some(283_467_296));
        assert_eq!(index.entries[1].size, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("../x.tar.xz 1", "line 1: `../x.tar.xz` is not a path below the list's directory"),
            ("\n/etc/x.tar.xz 1", "line 2: `/etc/x.tar.xz` is not a path below the list's directory"),
            ("x.tar.xz big", "line 1: `big` is not a size in bytes"),
            ("# ts=1\n", "lists no builds"),
        ];
        for (text, words) in table {
            assert_eq!(ReleaseIndex::parse(text).unwrap_err().to_string(), words);
        }
    }
}
