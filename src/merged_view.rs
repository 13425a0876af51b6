//! The layers of a state as one tree: mounted for a task, or single files of it without a mount.
//!
//! All layers are given topmost first. What is in them is hostile, so no link is followed out of the root.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::FileType;

use crate::beneath::{Result, RootDir};
use crate::sandbox::TaskFailure;
use crate::sys::overlay;

/// Longer files are refused; no `make.conf` has a megabyte.
const LIMIT_BYTES: u64 = 1 << 20;
/// How much of a directory is read.
const MOST_FILES: usize = 100;
const FILE_LIMIT_BYTES: u64 = 64 * 1024;

/// Mounts the view read-only over the topmost layer and returns its root. `None` without layers.
///
/// Only for tasks with [`crate::sandbox::TaskOptions::mounts`]: those have a mount namespace of their own, so nobody else sees it.
pub(crate) fn mount(layers: &[PathBuf]) -> std::result::Result<Option<OwnedFd>, TaskFailure> {
    let Some(top) = layers.first() else { return Ok(None) };
    overlay::mount_read_only(layers, top).map(Some).map_err(|error| TaskFailure::of("mount", &error))
}

/// The file `path`, from the topmost layer that has it.
pub(crate) fn read(layers: &[PathBuf], path: &str) -> Result<Option<String>> {
    for layer in layers {
        match RootDir::open(layer)?.read(path, LIMIT_BYTES) {
            Ok(bytes) => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            // In some roots it is a directory.
            Err(error) if error.is_no_such_file() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The files of the directory `path`, by their names in it. `None` if it is a file: no other file can lie beside that.
pub(crate) fn files_of(layers: &[PathBuf], path: &str) -> Option<BTreeMap<PathBuf, String>> {
    let (mut files, mut is_file) = (BTreeMap::new(), false);
    for layer in layers.iter().rev() {
        let Ok(root) = RootDir::open(layer) else { continue };
        match root.leads_to(path) {
            Ok(Some(FileType::Directory)) => is_file = false,
            Ok(Some(_)) => {
                files.clear();
                is_file = true;
                continue;
            }
            _ => continue,
        }
        let Ok(dir) = root.open_dir(path) else { continue };
        for entry in dir.entries(MOST_FILES).unwrap_or_default() {
            let name = PathBuf::from(entry.os());
            match dir.read(entry.os(), FILE_LIMIT_BYTES) {
                Ok(bytes) => drop(files.insert(name, String::from_utf8_lossy(&bytes).into_owned())),
                // A layer above has removed it, or it is something that Portage does not read.
                Err(_) => drop(files.remove(&name)),
            }
        }
    }
    (!is_file).then_some(files)
}
