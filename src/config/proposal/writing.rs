//! Writing edits: one rename a file, and nothing that changed meanwhile.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Edit, Error};

/// Writes the edits below `root`, each file by one rename, after all of them were found to be as they were read. Returns what was
/// written, relative to `root`.
pub fn write(root: &Path, edits: &[Edit]) -> Result<Vec<PathBuf>, Error> {
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
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    let target = match path.canonicalize() {
        Ok(real) if real.starts_with(root.canonicalize().map_err(failed("read", root))?) => real,
        Ok(_) => return Err(Error::Outside(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => path,
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    };
    let now = match fs::read_to_string(&target) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(Error::Io { action: "read", path: target, source }),
    };
    if now == edit.before { Ok(target) } else { Err(Error::Changed(target)) }
}

/// Makes a directory of the configuration with its parents: as the umask wants it, but never for others to write to, since what is there decides
/// what is built.
pub(crate) fn make_dirs(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// Writes a file by a rename over what is there.
pub(crate) fn replace(target: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    let dir = target.parent().unwrap_or(Path::new("/"));
    make_dirs(dir).map_err(failed("create", dir))?;
    let mode = fs::metadata(target).map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Hidden, so that neither we nor Portage would read it if we were killed here.
    let new = dir.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(contents.as_ref())?;
        file.sync_all()
    })();
    if let Err(source) = written.and_then(|()| fs::rename(&new, target)) {
        // The error is what counts; what cannot be removed is hidden.
        drop(fs::remove_file(&new));
        return Err(Error::Io { action: "write", path: target.to_owned(), source });
    }
    Ok(())
}
