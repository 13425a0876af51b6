//! Room for a removal on a full disk.
//!
//! A removal makes a directory with a lock and a mark in it, and a name that forgets values is written anew. On a disk without a free byte
//! or inode none of that can be made, and nothing could ever be removed. So the store keeps a few files that mean nothing. A removal that
//! finds the disk full gives them up and begins again. The next command takes them back.

use std::fs;
use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::{Result, Store, make_dir};

/// Their directory, in the root of the store.
pub(super) const NAME: &str = "ballast";

/// A removal makes four files and directories at a time; another process may do the same.
const FILES: usize = 8;

/// Room for the names in the new directory, and for the directories of the file system itself.
const FILE_BYTES: u64 = 64 << 10;

impl Store {
    fn ballast(&self, number: usize) -> PathBuf {
        self.path(NAME).join(number.to_string())
    }

    /// Makes what is missing of it. On a disk that is full or read-only there is none.
    pub(super) fn take_ballast(&self) {
        // A process that was killed may have left one that is empty.
        let light = |path: &PathBuf| fs::metadata(path).map_or(true, |meta| meta.len() < FILE_BYTES);
        let missing: Vec<PathBuf> = (0..FILES).map(|number| self.ballast(number)).filter(light).collect();
        if missing.is_empty() || make_dir(&self.path(NAME), 0o700).is_err() {
            return;
        }
        for path in missing {
            // Not every file system can reserve blocks. The inode is worth something without them.
            let made = File::create(&path).map(|file| fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES));
            if let Ok(Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) | Err(_) = made {
                // What was half made would count as there.
                drop(made.map(|_| fs::remove_file(&path)));
                return;
            }
        }
    }

    /// Does `work`. If the disk is full, gives up the ballast and does it again, so `work` must be able to begin anew.
    pub(super) fn with_ballast<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.is_full() => {
                let given_up = (0..FILES).filter(|number| fs::remove_file(self.ballast(*number)).is_ok()).count();
                tracing::debug!(%error, given_up, "the disk is full");
                if given_up > 0 { work() } else { Err(error) }
            }
            done => done,
        }
    }
}
