//! Looks for what only overlayfs may write.
//!
//! A session that sees its upper directory through the overlay cannot make a whiteout or an opaque mark there: the kernel refuses it. A
//! session that was given the directory itself can. (A kernel's layers are written so.) It could then hide files of every root that is
//! stacked on the layer.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::TreeError;
use crate::beneath::{Budget, TreeDir, Walk};

/// Input of [`super::LOOK_THROUGH`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LookInput {
    /// A tree that no overlay has ever written.
    pub tree: PathBuf,
}

/// Refuses a tree with marks for overlayfs, or with files too large to be sealed and exported.
pub(super) fn look_through(input: &LookInput) -> Result<(), TreeError> {
    let mut walk = TreeDir::open(&input.tree)?.walk()?;
    let mut budget = Budget::default();
    check_attributes(&walk, walk.here(), c"")?;
    loop {
        while let Some(entry) = walk.next_name() {
            let kind = FileType::from_raw_mode(walk.stat(&entry.name)?.st_mode);
            if entry.whiteout {
                return Err(TreeError::Forged { path: walk.shown(&entry.name), what: "a whiteout" });
            }
            match kind {
                FileType::Directory => {
                    walk.enter(&entry.name)?;
                    check_attributes(&walk, walk.here(), c"")?;
                }
                FileType::RegularFile => {
                    let file = walk.open_file(&entry.name)?;
                    budget.admit(&file)?;
                    check_attributes(&walk, std::os::fd::AsFd::as_fd(&file), &entry.name)?;
                }
                // Only regular files and directories can have `user.` attributes (`xattr(7)`).
                _ => {}
            }
        }
        if walk.leave()?.is_none() {
            return Ok(());
        }
    }
}

fn check_attributes(walk: &Walk, file: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), TreeError> {
    let names = match super::digest::grow(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::NOTSUP) => return Ok(()),
        names => names.map_err(|errno| TreeError::io("read the attributes of", walk.shown(name), errno))?,
    };
    let speaks = |name: &[u8]| name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.");
    if names.split(|byte| *byte == 0).any(speaks) {
        return Err(TreeError::Forged { path: walk.shown(name), what: "an attribute of overlayfs" });
    }
    Ok(())
}
