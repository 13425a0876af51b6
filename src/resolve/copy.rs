//! Copies the configuration directory, to try changes in the copy. Hidden files and trusted keys are left out: a build needs neither.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::config::proposal::Edit;
use crate::path_error::OfFile as _;
use crate::resolve::{Error, Result};

/// No configuration is deeper; links can form circles.
const MAX_DEPTH: usize = 24;

/// Copies `root` to the new directory `to`; all directories are 0700.
pub(crate) fn copy(root: &Path, to: &Path) -> Result<()> {
    let real = root.canonicalize().map_err(Error::io("read", root))?;
    copy_dir(&real, &real, to, 0)
}

fn copy_dir(root: &Path, from: &Path, to: &Path, depth: usize) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to).map_err(Error::io("create", to))?;
    if depth == MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(from).map_err(Error::io("list", from))? {
        let entry = entry.map_err(Error::io("list", from))?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || (depth == 0 && name == "keys") {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        // A link that leads out, or nowhere, is copied as a link: reading it gives the right error.
        let inside = source.canonicalize().is_ok_and(|real| real.starts_with(root));
        match fs::metadata(&source) {
            Ok(meta) if inside && meta.is_dir() => copy_dir(root, &source, &target, depth + 1)?,
            Ok(meta) if inside && meta.is_file() => drop(fs::copy(&source, &target).map_err(Error::io("copy", &source))?),
            _ => {
                if let Ok(link) = fs::read_link(&source) {
                    std::os::unix::fs::symlink(link, &target).map_err(Error::io("create", &target))?;
                }
            }
        }
    }
    Ok(())
}

/// Applies the edits to the copy.
pub(crate) fn apply(copy: &Path, edits: &[Edit]) -> Result<()> {
    for edit in edits {
        let path = copy.join(&edit.path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        }
        fs::write(&path, &edit.after).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_copy_is_private_and_has_nothing_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("config");
        for (path, text) in
            [("a/b/file", "x"), (".git/config", "secret"), ("keys/trusted", "key"), ("a/.swp", "x"), ("env/arch", "amd64")]
        {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::set_permissions(root.join("a/b/file"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        symlink("b", root.join("a/link")).unwrap();
        symlink("../../outside", root.join("a/out")).unwrap();
        symlink(".", root.join("a/circle")).unwrap();
        let to = dir.path().join("copy");
        copy(&root, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(to.join("a/link/file")).unwrap(), "x");
        assert!(to.join("a/out").is_symlink());
        for gone in [".git", "keys", "a/.swp"] {
            assert!(!to.join(gone).exists(), "{gone}");
        }
        let edit = Edit { path: "new/file".into(), before: None, after: "y".to_owned() };
        apply(&to, &[edit]).unwrap();
        assert_eq!(fs::read_to_string(to.join("new/file")).unwrap(), "y");
    }
}
