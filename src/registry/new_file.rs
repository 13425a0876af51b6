//! Files that are written in a folder to which others may write, too.
//!
//! As `durable.rs` does it, but in a directory that was opened once: whoever swaps its name for a link meanwhile leads nothing of ours
//! away, neither what is written nor what is removed.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FileType, FlockOperation};
use rustix::io::Errno;

use super::Result;
use crate::beneath::{NAMES_LIMIT, TreeDir};
use crate::durable;
use crate::path_error::PathError;

/// A file under a hidden name. If it is dropped before it is finished, it is removed.
#[derive(Debug)]
pub(super) struct NewFile<'a> {
    pub(super) file: File,
    dir: &'a TreeDir,
    hidden: String,
}

impl<'a> NewFile<'a> {
    /// For what will be called `name`. Its owner may write to it, since a sweep has to lock it.
    pub(super) fn create(dir: &'a TreeDir, name: &str) -> Result<Self> {
        loop {
            let hidden = durable::unfinished_name(name);
            match dir.create(&hidden, 0o644) {
                Ok(file) => {
                    let new = Self { file, dir, hidden };
                    // A sweep that came between may have it, or have removed it.
                    if durable::lock(&new.file) && new.file.metadata().is_ok_and(|meta| meta.nlink() > 0) {
                        return Ok(new);
                    }
                }
                Err(error) if error.errno() == Some(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the file its name, over what has it, and brings both to the disk.
    pub(super) fn finish(mut self, name: &str) -> Result<()> {
        self.file.sync_all().map_err(PathError::of("write", self.dir.shown(name.as_ref())))?;
        self.dir.rename(&self.hidden, self.dir, name)?;
        self.hidden.clear();
        Ok(self.dir.sync()?)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.hidden.is_empty() {
            // The error that led here is reported, not that of the removal.
            drop(self.dir.unlink(&self.hidden));
        }
    }
}

/// Replaces a file, or creates it.
pub(super) fn replace(dir: &TreeDir, name: &str, bytes: &[u8]) -> Result<()> {
    let mut new = NewFile::create(dir, name)?;
    new.file.write_all(bytes).map_err(PathError::of("write", dir.shown(name.as_ref())))?;
    new.finish(name)
}

/// Removes what killed processes have left unfinished. What cannot be removed is in nobody's way.
pub(super) fn sweep(dir: &TreeDir) {
    for entry in dir.entries(NAMES_LIMIT).unwrap_or_default() {
        let Some(name) = entry.text().filter(|name| durable::is_unfinished(name)) else { continue };
        if entry.kind != FileType::RegularFile {
            continue;
        }
        // The lock is ours until the file is gone: else somebody could begin to write it in between. Without locks nothing is swept.
        let Ok(file) = dir.open_to_write(name) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let swept = dir.unlink(name);
            tracing::debug!(name, ?swept, "left by a process that was killed");
        }
    }
}

/// Whether a process holds an unfinished file. One that we may not write to was made by an older version or by somebody else.
pub(super) fn is_being_written(dir: &TreeDir, name: &str) -> bool {
    dir.open_to_write(name).is_ok_and(|file| !durable::lock(&file))
}
