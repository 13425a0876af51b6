//! Remembers which artifacts were compared with their digests: a pipeline with many stages must not read gigabytes to find that nothing
//! is to be done.
//!
//! ```text
//! cache/artifacts/HASH-OF-PATH.json    { file: device, inode, size, times }
//! ```
//!
//! Each write and rename sets a file's change time, which no program can set otherwise. A file that changed a moment ago is not recorded:
//! it could change again within the same tick of the clock.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::durable::Unfinished;
use crate::path_error::PathError;

/// Longer than the tick of any file system's clock.
const SETTLED_SECS: i64 = 3;

/// The `stat` values of files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    stamps: BTreeMap<PathBuf, String>,
    newest_secs: i64,
}

impl Stamps {
    /// The values of `files`; `None` if one is missing.
    pub(crate) fn of(files: &[PathBuf]) -> Option<Self> {
        let mut all = Self { stamps: BTreeMap::new(), newest_secs: 0 };
        for path in files {
            let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
            let changed = format!("{}.{}", meta.ctime(), meta.ctime_nsec());
            let stamp = format!("{} {} {} {}.{} {changed}", meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
            all.newest_secs = all.newest_secs.max(meta.ctime());
            all.stamps.insert(path.clone(), stamp);
        }
        Some(all)
    }

    /// Whether the recorded values are these.
    pub(crate) fn are_noted(&self, cache: &Path, artifact: &Path) -> bool {
        let noted = fs::read(record(cache, artifact)).ok();
        noted
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .is_some_and(|noted: BTreeMap<PathBuf, String>| noted == self.stamps)
    }

    /// Records them. On failure the files are read again the next time.
    pub(crate) fn note(&self, cache: &Path, artifact: &Path) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        // See above: such a file could still change without a new time.
        if now < self.newest_secs + SETTLED_SECS {
            return;
        }
        let path = record(cache, artifact);
        let text = serde_json::to_vec(&self.stamps).unwrap_or_default();
        let write = || -> Result<(), PathError> {
            fs::create_dir_all(cache).map_err(PathError::of("create", cache))?;
            let mut new = Unfinished::beside(&path, 0o600)?;
            new.file.write_all(&text).map_err(PathError::of("write", &path))?;
            new.finish(&path)
        };
        if let Err(error) = write() {
            tracing::debug!("cannot note that `{}` is whole: {error}", artifact.display());
        }
    }
}

fn record(cache: &Path, artifact: &Path) -> PathBuf {
    cache.join(format!("{}.json", hex::encode(Sha256::digest(artifact.as_os_str().as_encoded_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_not_changed_since_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, file) = (dir.path().join("cache"), dir.path().join("a"));
        let files = [file.clone()];
        assert_eq!(Stamps::of(&files), None);
        fs::write(&file, "x").unwrap();
        let fresh = Stamps::of(&files).unwrap();
        fresh.note(&cache, &file);
        assert!(!fresh.are_noted(&cache, &file), "it could change within the same tick");
        let settled = Stamps { newest_secs: 0, ..fresh };
        settled.note(&cache, &file);
        assert!(settled.are_noted(&cache, &file));
        assert!(!settled.are_noted(&cache, dir.path()), "another one");
        // Another file with the same size and the same time.
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(dir.path().join("b"), "y").unwrap();
        fs::rename(dir.path().join("b"), &file).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(!Stamps::of(&files).unwrap().are_noted(&cache, &file));
        fs::write(record(&cache, &file), "{").unwrap();
        assert!(!settled.are_noted(&cache, &file));
    }
}
