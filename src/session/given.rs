//! What a session was given beside its layers, noted next to its directories. If a build fails in it, the session in which a user works on
//! it by hand gets the same.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::beneath::TreeDir;
use crate::sandbox::plan::Source;
use crate::session::Result;
use crate::session::readable_files::{create_open, write_public};
use crate::session::root::KernelTree;
use crate::store::Session;
use crate::trees::choose::PinnedTree;

/// The tree snapshots that are mounted in it.
const TREES: &str = "trees.json";
/// The headers of its kernel, the topmost first.
const HEADERS: &str = "headers.json";
/// What it has written over the headers, and overlayfs's work directory for that.
const USR_SRC: &str = "usr-src";
const USR_SRC_WORK: &str = "usr-src.work";

pub(crate) fn note_trees(session: &Session, trees: &[PinnedTree]) -> Result<()> {
    write_public(&session.path(TREES), serde_json::json!(trees).to_string().as_bytes(), 0o644)
}

/// The tree snapshots of the session in `dir`, as long as all of them are there.
pub(crate) fn trees_of(dir: &Path) -> Option<Vec<PinnedTree>> {
    let trees: Vec<PinnedTree> = read(dir, TREES)?;
    trees.iter().all(|tree| TreeDir::open(&tree.path).is_ok()).then_some(trees)
}

/// `/usr/src` of a session with the headers of a kernel. What it writes there goes with it.
pub(crate) fn kernel_tree(session: &Session, lower: Vec<Source>) -> Result<KernelTree> {
    let (upper, work) = (session.path(USR_SRC), session.path(USR_SRC_WORK));
    create_open(&upper)?;
    write_public(&session.path(HEADERS), serde_json::json!(lower).to_string().as_bytes(), 0o644)?;
    Ok(KernelTree { lower, upper, work })
}

/// The headers that the session in `dir` was shown, below what it has written over them.
pub(crate) fn headers_of(dir: &Path) -> Option<Vec<Source>> {
    let mut headers: Vec<Source> = read(dir, HEADERS)?;
    headers.insert(0, dir.join(USR_SRC).into());
    Some(headers)
}

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(dir.join(name)).ok()?).ok()
}
