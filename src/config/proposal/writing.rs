//! Writing edits: one rename a file, and nothing that changed meanwhile.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Edit, Error};
use crate::durable;
use crate::durable::Mode;
use crate::path_error::PathError;

/// Writes the edits below `root`, each file by one rename, after all of them were found to be as they were read. Returns what was
/// written, relative to `root`.
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

/// The file that is to be replaced: what a link leads to, as long as that is inside.
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

/// Makes a directory of the configuration with its parents: as the umask wants it, but never for others to write to, since what is there decides
/// what is built.
pub(crate) fn make_dirs(dir: &Path) -> durable::Result<()> {
    durable::make_dirs(dir, Mode::AtMost(0o755))
}

/// Writes a file by a rename over what is there. Killed here, it leaves a hidden file, which neither we nor Portage read.
pub(crate) fn replace(target: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    make_dirs(target.parent().unwrap_or(Path::new("/")))?;
    let mode = fs::metadata(target).map_or(Mode::AtMost(0o644), |meta| Mode::Exactly(meta.permissions().mode() & 0o777));
    Ok(durable::replace(target, contents.as_ref(), mode)?)
}
