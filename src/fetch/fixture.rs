//! Ebuild trees for tests.

use std::fs;
use std::path::Path;

use super::Tree;

/// A tree that lives as long as its test.
#[derive(Debug)]
pub(super) struct TreeDir {
    name: &'static str,
    dir: tempfile::TempDir,
}

impl TreeDir {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn tree(&self) -> Tree {
        Tree { name: self.name.to_owned(), dir: self.dir.path().to_owned() }
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
