//! Small files of the store. They are written in its `tmp/`; [`crate::durable`] brings them to the disk.

use std::fs;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Result, id, open_at};
use crate::beneath::is_held_open;
use crate::durable;
use crate::durable::{Mode, Replace};

/// Replaces `target` by a file with these bytes. It is first written in `tmp`, a directory of the same file system.
///
/// The caller holds the structure lock. Without it a recovery could take the temporary file for litter.
pub(super) fn replace(tmp: &Path, target: &Path, bytes: &[u8]) -> Result<()> {
    let replacing = Replace { staging: Some(tmp), ..Replace::with_mode(Mode::Exactly(0o600)) };
    Ok(replacing.replace(target, bytes)?)
}

/// Replaces a file that may be lost in a power cut, but that no reader may see half-written. It is padded to `size` bytes.
pub(super) fn replace_unsynced_json(tmp: &Path, target: &Path, value: &impl Serialize, size: usize) -> Result<()> {
    let temporary = tmp.join(id::fresh()?);
    let result = write_unsynced_json_of(&temporary, value, size)
        .and_then(|()| fs::rename(&temporary, target).map_err(|e| Error::io("replace", target, e)));
    if result.is_err() {
        // The disk may be full, so remove the part that was written.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Rewrites such a file in place, which works on a full disk: the length stays the same, so it needs no new block, and it is one write.
pub(super) fn overwrite_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(|e| Error::io("open", path, e))?;
    let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let bytes = encode(path, value)?;
    if bytes.len() > size {
        return Err(Error::io("write", path, ErrorKind::StorageFull.into()));
    }
    file.write_all(&padded(bytes, size)).map_err(|e| Error::io("write", path, e))
}

/// Writes a file in a directory that nobody sees yet, with blanks at the end up to `size` bytes.
pub(super) fn write_unsynced_json_of(path: &Path, value: &impl Serialize, size: usize) -> Result<()> {
    fs::write(path, padded(encode(path, value)?, size)).map_err(|e| Error::io("write", path, e))
}

fn padded(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    bytes.resize(bytes.len().max(size), b' ');
    bytes
}

pub(super) fn replace_json(tmp: &Path, target: &Path, value: &impl Serialize) -> Result<()> {
    replace(tmp, target, &encode(target, value)?)
}

/// Writes a file in a directory that nobody sees yet. A later sync brings it to the disk.
pub(super) fn write_unsynced_json(path: &Path, value: &impl Serialize) -> Result<()> {
    fs::write(path, encode(path, value)?).map_err(|e| Error::io("write", path, e))
}

fn encode(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| Error::Encode { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

pub(super) fn sync_dir(path: &Path) -> Result<()> {
    Ok(durable::sync_dir(path)?)
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// The paths in a directory, sorted.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::io("list", path, e))? {
        let entry = entry.map_err(|e| Error::io("list", path, e))?;
        // It was removed already.
        if !is_held_open(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Renames, if there still is something to rename.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("move away", from, e)),
        _ => Ok(()),
    }
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
    fn a_file_is_written_anew_in_its_own_place_as_long_as_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.json");
        write_unsynced_json_of(&path, &"long as it is", 64).unwrap();
        overwrite_json(&path, &"x").unwrap();
        assert_eq!(read_json::<String>(&path).unwrap().as_deref(), Some("x"));
        assert_eq!(fs::metadata(&path).unwrap().len(), 64);
        let mut longest = "y".repeat(64);
        while encode(&path, &longest).unwrap().len() > 64 {
            longest.pop();
        }
        let error = overwrite_json(&path, &format!("{longest}y")).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
        assert_eq!(read_json::<String>(&path).unwrap().as_deref(), Some("x"));
        overwrite_json(&path, &longest).unwrap();
        assert_eq!(read_json::<String>(&path).unwrap(), Some(longest));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.json");
        assert!(read_json::<u32>(&path).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap_err().to_string(), format!("`{}` is damaged", path.display()));
        let below = path.join("below");
        assert_eq!(read_json::<u32>(&below).unwrap_err().to_string(), format!("cannot read `{}`", below.display()));
    }

    #[test]
    fn a_link_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(open_dir(dir.path()).is_ok());
        assert_eq!(open_dir(&link).unwrap_err().to_string(), format!("cannot open `{}`", link.display()));
    }

    #[test]
    fn full_device_is_reported_with_its_path() {
        // `/dev/full` gives ENOSPC for each write, as a full disk does.
        let path = Path::new("/dev/full");
        let error = write_unsynced_json(path, &1).unwrap_err();
        let Error::Io(crate::path_error::PathError { source, path: named, .. }) = &error else { panic!("{error:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(named, path);
    }
}
