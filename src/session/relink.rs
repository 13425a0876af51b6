//! Restores hard links that overlayfs has split.
//!
//! When a file is changed in a session, overlayfs copies it into the upper directory under the one name by which it was changed. Its
//! other names still lead to the file in the layer below. (The kernel's `index=on` would prevent that, but it needs rights in the initial
//! namespace.) Portage does this whenever it merges a package again whose files have not changed: it only sets their times. Without this
//! module a rebuilt package loses its hard links; those of git alone make hundreds of megabytes.
//!
//! Files become one again only if they were one file in a layer below, and if content, owner, mode, attributes and time are the same now.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, Timespec, Timestamps, fgetxattr, flistxattr, fstat, futimens};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath::{Plain, TreeDir, same_contents};
use crate::context::Context;
use crate::sandbox::{TaskContext, TaskFailure};
use crate::session::{Result, Work, relink};
use crate::{beneath, context};

/// Room for the names of a file's attributes, or for one value. The kernel's limit is the same.
const XATTRS_MAX: usize = 64 * 1024;
/// The name of a new link before it replaces the copy.
const TEMPORARY: &str = ".gentoomuch-relink";
/// How many names of one directory are read.
const NAMES_MAX: usize = 2_000_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RelinkInput {
    /// The upper directory. Its overlay must be gone.
    pub(crate) upper: PathBuf,
    /// The layers below, the topmost first.
    pub(crate) lower: Vec<PathBuf>,
}

/// A hard link could not be restored.
#[derive(Debug, thiserror::Error)]
#[error("cannot restore the hard links of `{}`", path.display())]
pub(crate) struct RelinkError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl RelinkError {
    fn at<E: Into<io::Error>>(path: &Path) -> impl Fn(E) -> Self {
        let path = path.to_owned();
        move |error| Self { path: path.clone(), source: error.into() }
    }
}

/// A file in the layers below: index of the layer, and inode.
type Origin = (usize, u64);

/// Restores hard links below `input.upper`. Returns how many copies became links.
pub(crate) fn relink_tree(input: &RelinkInput) -> std::result::Result<u64, RelinkError> {
    let open = |path: &PathBuf| TreeDir::open(path).map_err(RelinkError::at(path));
    let upper = open(&input.upper)?;
    let lower: Vec<TreeDir> = input.lower.iter().map(open).collect::<std::result::Result<_, _>>()?;
    let mut linked = 0;
    for names in candidates(&upper, &lower)?.into_values().filter(|names| names.len() > 1) {
        let mut different: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut twin = None;
            for other in &different {
                if same(&upper, other, &name).map_err(RelinkError::at(&name))? {
                    twin = Some(other);
                    break;
                }
            }
            match twin {
                Some(twin) => {
                    replace(&upper, twin, &name).map_err(RelinkError::at(&name))?;
                    linked += 1;
                }
                None => different.push(name),
            }
        }
    }
    Ok(linked)
}

/// Files of the upper directory that have one name but whose counterpart below has several. They are grouped by that counterpart, in
/// order of names.
fn candidates(upper: &TreeDir, lower: &[TreeDir]) -> std::result::Result<BTreeMap<Origin, Vec<PathBuf>>, RelinkError> {
    let mut found: BTreeMap<Origin, Vec<PathBuf>> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let failed = RelinkError::at(&dir);
        let Opened::Directory(here) = open_dir(upper, &dir).map_err(&failed)? else { continue };
        let mut below = Vec::new();
        for layer in lower {
            match open_dir(layer, &dir).map_err(&failed)? {
                Opened::Directory(dir) => below.push(Some(dir)),
                Opened::Nothing => below.push(None),
                // It is not a directory, so it hides what the layers below have there.
                Opened::Other => break,
            }
        }
        for entry in here.entries(NAMES_MAX).map_err(&failed)? {
            match entry.kind {
                FileType::Directory => pending.push(dir.join(entry.os())),
                FileType::RegularFile => {
                    let stat = here.stat_name(&entry.name).map_err(&failed)?;
                    if stat.is_some_and(|stat| stat.st_nlink == 1)
                        && let Some(origin) = origin(&below, &entry.name).map_err(&failed)?
                    {
                        found.entry(origin).or_default().push(dir.join(entry.os()));
                    }
                }
                _ => {}
            }
        }
    }
    for names in found.values_mut() {
        names.sort();
    }
    Ok(found)
}

/// The file that the topmost layer with `name` has there, if it has several names.
fn origin(below: &[Option<TreeDir>], name: &CStr) -> beneath::Result<Option<Origin>> {
    for (index, dir) in below.iter().enumerate() {
        let Some(dir) = dir else { continue };
        if let Some(stat) = dir.stat_name(name)? {
            let several = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1;
            return Ok(several.then_some((index, stat.st_ino)));
        }
    }
    Ok(None)
}

/// What a layer has in place of a directory.
enum Opened {
    Directory(TreeDir),
    Nothing,
    /// Something else, or a path that is too long for one call.
    Other,
}

fn open_dir(root: &TreeDir, path: &Path) -> beneath::Result<Opened> {
    match root.open_dir(path) {
        Ok(dir) => Ok(Opened::Directory(dir)),
        Err(error) if error.is_absent() => Ok(Opened::Nothing),
        Err(error) if error.is_no_such_file() || error.errno() == Some(Errno::NAMETOOLONG) => Ok(Opened::Other),
        Err(error) => Err(error),
    }
}

/// Whether two files of the upper directory differ only in their names.
fn same(root: &TreeDir, one: &Path, two: &Path) -> io::Result<bool> {
    let (one, two) = (root.open_file(one)?, root.open_file(two)?);
    let what = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    Ok(what(&one.stat) == what(&two.stat) && xattrs(&one)? == xattrs(&two)? && same_contents(&one, &two)?)
}

/// A file's attributes, without those of overlayfs.
fn xattrs(file: &Plain) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; XATTRS_MAX];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        // The file system has no extended attributes.
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(b"user.overlay.")) {
        let mut value = vec![0; XATTRS_MAX];
        let length = fgetxattr(file, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// Makes `name` another name of `twin`. The directory keeps its times.
fn replace(root: &TreeDir, twin: &Path, name: &Path) -> io::Result<()> {
    let (Some(parent), Some(last)) = (name.parent(), name.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let dir = root.open_dir(parent)?;
    let before = fstat(&dir)?;
    // A killed run may have left it.
    dir.unlink(TEMPORARY)?;
    root.link(twin, &dir, TEMPORARY)?;
    // A rename, so that the name always has one of the two files.
    dir.rename(TEMPORARY, &dir, last)?;
    let time = |secs, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or_default() };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    Ok(futimens(dir.as_fd(), &times)?)
}

/// Name of the task that restores hard links. Returns how many.
pub(crate) const RELINK: &str = "session.relink";

pub(crate) fn relink_task(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: RelinkInput = context.input_as()?;
    let linked = relink::relink_tree(&input).map_err(|error| TaskFailure::of("relink", &error))?;
    Ok(serde_json::json!(linked))
}

/// Restores the hard links that overlayfs split when emerge merged the same files again.
pub(crate) fn relink(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    let options = crate::sandbox::TaskOptions { hold: vec![work.session.borrow().lock_fd()?], ..Default::default() };
    let input = RelinkInput { upper: work.root.upper.clone(), lower: work.root.lower.clone() };
    let linked = context::task(cx, crate::session::relink::RELINK, &input, options, &mut |_| {})?;
    tracing::debug!(%linked, "hard links restored");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::time::{Duration, SystemTime};

    /// A layer in which `a`, `b` and `dir/c` are one file, and an upper directory in which each is a copy.
    fn split() -> (tempfile::TempDir, RelinkInput) {
        let dir = tempfile::tempdir().unwrap();
        let input = RelinkInput { upper: dir.path().join("upper"), lower: vec![dir.path().join("top"), dir.path().join("lower")] };
        fs::create_dir(&input.lower[0]).unwrap();
        for root in [&input.upper, &input.lower[1]] {
            fs::create_dir_all(root.join("dir")).unwrap();
        }
        let lower = &input.lower[1];
        fs::write(lower.join("a"), "x").unwrap();
        for name in ["b", "dir/c"] {
            fs::hard_link(lower.join("a"), lower.join(name)).unwrap();
        }
        fs::write(lower.join("alone"), "x").unwrap();
        for name in ["a", "b", "dir/c", "alone", "new"] {
            fs::write(input.upper.join(name), "content").unwrap();
            at(&input.upper.join(name), 1000);
        }
        at(&input.upper.join("dir"), 500);
        (dir, input)
    }

    fn at(path: &Path, secs: u64) {
        File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    }

    fn links(input: &RelinkInput, name: &str) -> u64 {
        fs::symlink_metadata(input.upper.join(name)).unwrap().nlink()
    }

    #[test]
    fn copies_of_one_file_become_one_file_and_nothing_else_does() {
        let (_dir, input) = split();
        assert_eq!(relink_tree(&input).unwrap(), 2);
        assert_eq!(["a", "b", "dir/c", "alone", "new"].map(|name| links(&input, name)), [3, 3, 3, 1, 1]);
        assert_eq!(fs::metadata(input.upper.join("dir")).unwrap().mtime(), 500, "directories keep their times");
        assert_eq!(fs::read_dir(input.upper.join("dir")).unwrap().count(), 1);
        assert_eq!(relink_tree(&input).unwrap(), 0);
    }

    #[test]
    fn what_has_become_different_stays_apart() {
        let changes: [fn(&Path); 4] = [
            |path| fs::write(path, "CONTENT").unwrap(),
            |path| fs::write(path, "content and more").unwrap(),
            |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap(),
            |path| at(path, 2000),
        ];
        for change in changes {
            let (_dir, input) = split();
            let changed = input.upper.join("b");
            change(&changed);
            if fs::metadata(&changed).unwrap().mtime() != 2000 {
                at(&changed, 1000);
            }
            assert_eq!(relink_tree(&input).unwrap(), 1);
            assert_eq!(["a", "b", "dir/c"].map(|name| links(&input, name)), [2, 1, 2]);
        }
    }

    #[test]
    fn a_layer_between_hides_what_is_below_and_links_are_not_followed() {
        let (dir, input) = split();
        // In between, `b` is another file, and `dir` a link to where `c` has several names.
        fs::write(input.lower[0].join("b"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("lower/dir"), input.lower[0].join("dir")).unwrap();
        assert_eq!(relink_tree(&input).unwrap(), 0);
        assert_eq!(["a", "b", "dir/c"].map(|name| links(&input, name)), [1, 1, 1]);
    }

    /// A hole costs whoever made it nothing. Reading four of 4 TiB would take a night.
    #[test]
    fn holes_are_not_read() {
        let (_dir, input) = split();
        for name in ["a", "b", "dir/c"] {
            let file = fs::OpenOptions::new().write(true).open(input.upper.join(name)).unwrap();
            file.set_len(4 << 40).unwrap();
            at(&input.upper.join(name), 1000);
        }
        assert_eq!(relink_tree(&input).unwrap(), 2);
        assert_eq!(["a", "b", "dir/c"].map(|name| links(&input, name)), [3, 3, 3]);
    }
}
