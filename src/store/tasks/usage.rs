//! What trees occupy on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::TreeError;
use crate::beneath::TreeDir;

/// Input of [`super::DISK_USAGE`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiskUsageInput {
    /// Directories, absolute.
    pub trees: Vec<PathBuf>,
}

/// What one tree occupies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TreeUsage {
    /// Allocated on the disk, directories included. Hard links within the tree count once.
    pub bytes: u64,
    /// How many inodes.
    pub files: u64,
}

/// Measures each tree. One that does not exist occupies nothing.
pub(super) fn measure(input: &DiskUsageInput) -> Result<Vec<TreeUsage>, TreeError> {
    crate::threads::pool()?;
    input.trees.par_iter().map(|top| measure_tree(top)).collect()
}

fn measure_tree(top: &Path) -> Result<TreeUsage, TreeError> {
    let mut walk = match TreeDir::open(top) {
        Ok(dir) => dir.walk()?,
        Err(error) if error.is_absent() => return Ok(TreeUsage::default()),
        Err(error) => return Err(error.into()),
    };
    let mut linked = BTreeSet::new();
    let mut sum = TreeUsage::default();
    add(&mut sum, &walk.stat_here()?);
    loop {
        while let Some(entry) = walk.next_name() {
            let stat = walk.stat(&entry.name)?;
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if directory || stat.st_nlink == 1 || linked.insert(stat.st_ino) {
                add(&mut sum, &stat);
            }
            if directory {
                walk.enter(&entry.name)?;
            }
        }
        if walk.leave()?.is_none() {
            return Ok(sum);
        }
    }
}

fn add(sum: &mut TreeUsage, stat: &rustix::fs::Stat) {
    // `st_blocks` counts 512 bytes, whatever the file system's block size, see `stat(3type)`.
    sum.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    sum.files += 1;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hard_links_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("fs");
        fs::create_dir_all(tree.join("sub")).unwrap();
        let empty = measure_tree(&tree).unwrap();
        assert_eq!(empty.files, 2);
        fs::write(tree.join("a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(tree.join("a"), tree.join("sub/b")).unwrap();
        fs::File::create(tree.join("hole")).unwrap().set_len(1 << 40).unwrap();
        // Allocation may be delayed until the data is written back.
        fs::File::open(tree.join("a")).unwrap().sync_all().unwrap();
        let full = measure_tree(&tree).unwrap();
        assert_eq!(full.files, 4);
        let grown = full.bytes - empty.bytes;
        assert!((1 << 20..(1 << 20) + 65536).contains(&grown), "{grown}");
        let input = DiskUsageInput { trees: vec![tree, dir.path().join("missing")] };
        assert_eq!(measure(&input).unwrap(), [full, TreeUsage::default()]);
    }
}
