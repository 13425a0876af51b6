//! Small files of the store: written in its `tmp/`, and what is durable of them by [`crate::durable`].

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Result, id, open_at};
use crate::durable::{self, Mode, Replace};

/// Replaces `target` by a file with these bytes, written first in `tmp` (a directory of the same file system).
///
/// The caller holds the structure lock, or recovery could take the temporary file for litter.
pub(super) fn replace(tmp: &Path, target: &Path, bytes: &[u8]) -> Result<()> {
    let replacing = Replace { staging: Some(tmp), ..Replace::with_mode(Mode::Exactly(0o600)) };
    Ok(replacing.replace(target, bytes)?)
}

/// Replaces a file of which nothing is needed after a power cut, only that no reader ever sees half of it.
pub(super) fn replace_unsynced_json(tmp: &Path, target: &Path, value: &impl Serialize) -> Result<()> {
    let temporary = tmp.join(id::fresh()?);
    write_unsynced_json(&temporary, value)?;
    fs::rename(&temporary, target).map_err(|e| Error::io("replace", target, e))
}

pub(super) fn replace_json(tmp: &Path, target: &Path, value: &impl Serialize) -> Result<()> {
    replace(tmp, target, &encode(target, value)?)
}

/// Writes a file whose directory is not visible to anybody yet, and which a later sync brings to the disk.
pub(super) fn write_unsynced_json(path: &Path, value: &impl Serialize) -> Result<()> {
    fs::write(path, encode(path, value)?).map_err(|e| Error::io("write", path, e))
}

fn encode(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| Error::Encode { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a JSON file of ours; `None` if there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Brings the names in a directory to the disk.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    Ok(durable::sync_dir(path)?)
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn failure_names_the_path_and_leaves_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        let target = dir.path().join("occupied");
        fs::create_dir(&target).unwrap();
        let error = replace(&tmp, &target, b"x").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot replace `{}`", target.display()));
        assert!(error.source().unwrap().to_string().contains("directory"));
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.json");
        assert!(read_json::<u32>(&path).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap_err().to_string(), format!("`{}` is damaged", path.display()));
    }

    #[test]
    fn full_device_is_reported_with_its_path() {
        // `/dev/full` gives ENOSPC for each write, as a full disk does.
        let path = Path::new("/dev/full");
        let error = write_unsynced_json(path, &1).unwrap_err();
        let Error::Io { source, path: named, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(named, path);
    }
}
