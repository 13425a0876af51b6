//! Writes edits: each file by a rename, and only if nothing changed since it was read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Edit, Error};
use crate::durable;
use crate::durable::Mode;
use crate::path_error::PathError;

/// Writes the edits below `root`. First all files are compared with what was read, then each is replaced by a rename. Returns the files,
/// relative to `root`.
pub(crate) fn write(root: &Path, edits: &[Edit]) -> Result<Vec<PathBuf>, Error> {
    let edits: Vec<&Edit> = edits.iter().filter(|edit| edit.before.as_deref() != Some(&edit.after)).collect();
    let mut targets = Vec::new();
    for edit in &edits {
        targets.push(unchanged(root, edit)?);
    }
    for (edit, target) in edits.iter().zip(&targets) {
        replace(target, &edit.after)?;
    }
    Ok(edits.into_iter().map(|edit| edit.path.clone()).collect())
}

/// The file to replace: the target of a link, if that is inside.
fn unchanged(root: &Path, edit: &Edit) -> Result<PathBuf, Error> {
    let path = root.join(&edit.path);
    let target = match path.canonicalize() {
        Ok(real) if real.starts_with(root.canonicalize().map_err(PathError::of("read", root))?) => real,
        Ok(_) => return Err(Error::Outside(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => path,
        Err(source) => return Err(PathError::new("read", path, source).into()),
    };
    let now = match fs::read_to_string(&target) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(PathError::new("read", target, source).into()),
    };
    if now == edit.before { Ok(target) } else { Err(Error::Changed(target)) }
}

/// Creates a directory of the configuration with its parents: with the umask's mode, but never writable for others, since its contents
/// decide what is built.
pub(crate) fn make_dirs(dir: &Path) -> durable::Result<()> {
    durable::make_dirs(dir, Mode::AtMost(0o755))
}

/// Replaces a file by a rename. If this is killed it leaves a hidden file, which neither we nor Portage read.
pub(crate) fn replace(target: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    make_dirs(target.parent().unwrap_or(Path::new("/")))?;
    let mode = fs::metadata(target).map_or(Mode::AtMost(0o644), |meta| Mode::Exactly(meta.permissions().mode() & 0o777));
    Ok(durable::replace(target, contents.as_ref(), mode)?)
}
