//! Remembers the newest list of each architecture. An old list is signed as well, and a mirror could serve it to keep a security hole
//! open.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Result;
use crate::durable;
use crate::path_error::PathError;

const NAME: &str = "lists.json";
/// The file has a few lines for each architecture.
const MAX_BYTES: u64 = 64 * 1024;

/// By architecture: when its newest list was made, seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen(BTreeMap<String, i64>);

impl Seen {
    /// Reads the file; empty if it is damaged, since it is only a cache.
    pub(super) fn read(dir: &Path) -> Self {
        let path = dir.join(NAME);
        let small = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_BYTES);
        small.then(|| fs::read(&path).ok()).flatten().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    pub(super) fn newest(&self, arch: &str) -> Option<i64> {
        self.0.get(arch).copied()
    }

    /// Remembers a list. Of two concurrent processes one may overwrite the other's entry; the next list repairs that.
    pub(super) fn remember(mut self, dir: &Path, arch: &str, made: i64) -> Result<()> {
        if self.newest(arch).is_some_and(|newest| newest >= made) {
            return Ok(());
        }
        self.0.insert(arch.to_owned(), made);
        let path = dir.join(NAME);
        let json = serde_json::to_vec_pretty(&self).map_err(std::io::Error::other).map_err(PathError::of("write", &path))?;
        Ok(durable::replace(&path, &json, durable::Mode::AtMost(0o644))?)
    }
}
