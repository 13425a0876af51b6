//! Puts hard links together again that overlayfs has taken apart.
//!
//! A file that is changed in a session is copied into the upper directory under the one name it was changed by; its other names still
//! lead to the file of the layer below (the kernel's `index=on`, which would prevent that, needs rights in the initial namespace). Portage
//! does so whenever it merges a package again whose files have not changed: it sets their times and nothing else. Without this, a rebuilt
//! package loses its hard links, and those of git alone make hundreds of megabytes.
//!
//! Only files that were one file in a layer below, and that are the same now in content, owner, mode, attributes and time, become one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fgetxattr, flistxattr, fstat, futimens,
    linkat, openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Room for the names, or one value, of a file's attributes: the kernel's own limit.
const XATTRS_MAX: usize = 64 * 1024;
/// The name that a link has before it takes the place of a copy.
const TEMPORARY: &str = ".gentoomuch-relink";

/// Where to look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RelinkInput {
    /// The upper directory; its overlay must be gone.
    pub(super) upper: PathBuf,
    /// The layers below, top first.
    pub(super) lower: Vec<PathBuf>,
}

/// A link that could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("cannot restore the hard links of `{}`", path.display())]
pub(super) struct RelinkError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A file of the layers below: which layer, which inode.
type Origin = (usize, u64);

/// Restores hard links below `input.upper`; returns how many copies became links.
///
/// Never follows a symbolic link: what a session leaves behind is hostile.
pub(super) fn relink(input: &RelinkInput) -> Result<u64, RelinkError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |errno: Errno| RelinkError { path, source: errno.into() }
    };
    let upper = open_root(&input.upper).map_err(failed(&input.upper))?;
    let lower: Vec<OwnedFd> = input.lower.iter().map(|layer| open_root(layer).map_err(failed(layer))).collect::<Result<_, _>>()?;
    let mut linked = 0;
    for names in candidates(&upper, &lower)?.into_values().filter(|names| names.len() > 1) {
        let mut different: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut twin = None;
            for other in &different {
                if same(&upper, other, &name).map_err(|source| RelinkError { path: name.clone(), source })? {
                    twin = Some(other);
                    break;
                }
            }
            match twin {
                Some(twin) => {
                    replace(&upper, twin, &name).map_err(failed(&name))?;
                    linked += 1;
                }
                None => different.push(name),
            }
        }
    }
    Ok(linked)
}

/// Files of the upper directory with one name, whose counterpart below has several: by that counterpart, in order of names.
fn candidates(upper: &OwnedFd, lower: &[OwnedFd]) -> Result<BTreeMap<Origin, Vec<PathBuf>>, RelinkError> {
    let mut found: BTreeMap<Origin, Vec<PathBuf>> = BTreeMap::new();
    let mut pending = vec![PathBuf::from(".")];
    while let Some(dir) = pending.pop() {
        let failed = |errno: Errno| RelinkError { path: dir.clone(), source: errno.into() };
        let Opened::Directory(here) = open_dir(upper, &dir).map_err(failed)? else { continue };
        let mut below = Vec::new();
        for layer in lower {
            match open_dir(layer, &dir).map_err(failed)? {
                Opened::Directory(dir) => below.push(Some(dir)),
                Opened::Nothing => below.push(None),
                // It hides what the layers below have there.
                Opened::Other => break,
            }
        }
        for entry in Dir::read_from(&here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = statat(&here, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => pending.push(dir.join(name)),
                FileType::RegularFile if stat.st_nlink == 1 => {
                    if let Some(origin) = origin(&below, name).map_err(failed)? {
                        found.entry(origin).or_default().push(dir.join(name));
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

/// What the topmost layer that has `name` has there, if it is a file with several names.
fn origin(below: &[Option<OwnedFd>], name: &OsStr) -> Result<Option<Origin>, Errno> {
    for (index, dir) in below.iter().enumerate() {
        let Some(dir) = dir else { continue };
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let several = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1;
                return Ok(several.then_some((index, stat.st_ino)));
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// What a layer has at the place of a directory.
enum Opened {
    Directory(OwnedFd),
    Nothing,
    /// Or a path that is too long for the kernel to be opened at once.
    Other,
}

fn open_dir(root: &OwnedFd, path: &Path) -> Result<Opened, Errno> {
    match beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(dir) => Ok(Opened::Directory(dir)),
        Err(Errno::NOENT) => Ok(Opened::Nothing),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(Opened::Other),
        Err(errno) => Err(errno),
    }
}

/// Whether two files of the upper directory differ in nothing but their names.
fn same(root: &OwnedFd, one: &Path, two: &Path) -> io::Result<bool> {
    let open = |path| beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK);
    let (one, two) = (open(one)?, open(two)?);
    let what = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if what(&fstat(&one)?) != what(&fstat(&two)?) || xattrs(&one)? != xattrs(&two)? {
        return Ok(false);
    }
    same_content(File::from(one), File::from(two))
}

fn same_content(mut one: File, mut two: File) -> io::Result<bool> {
    let (mut here, mut there) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = one.read(&mut here)?;
        if length == 0 {
            return Ok(two.read(&mut there[..1])? == 0);
        }
        match two.read_exact(&mut there[..length]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        if here[..length] != there[..length] {
            return Ok(false);
        }
    }
}

/// A file's attributes, overlayfs's own aside.
fn xattrs(file: &OwnedFd) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; XATTRS_MAX];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
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

/// Makes `name` another name of `twin`; their directories keep their times.
fn replace(root: &OwnedFd, twin: &Path, name: &Path) -> Result<(), Errno> {
    let (from_dir, from) = parent(root, twin)?;
    let (to_dir, to) = parent(root, name)?;
    let before = fstat(&to_dir)?;
    match unlinkat(&to_dir, TEMPORARY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    linkat(&from_dir, &from, &to_dir, TEMPORARY, AtFlags::empty())?;
    renameat(&to_dir, TEMPORARY, &to_dir, &to)?;
    let time = |secs, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or_default() };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    futimens(to_dir.as_fd(), &times)
}

fn parent(root: &OwnedFd, path: &Path) -> Result<(OwnedFd, OsString), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
    Ok((beneath(root, path.parent().unwrap_or(Path::new(".")), OFlags::RDONLY | OFlags::DIRECTORY)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
        assert_eq!(relink(&input).unwrap(), 2);
        assert_eq!(["a", "b", "dir/c", "alone", "new"].map(|name| links(&input, name)), [3, 3, 3, 1, 1]);
        assert_eq!(fs::metadata(input.upper.join("dir")).unwrap().mtime(), 500, "directories keep their times");
        assert_eq!(fs::read_dir(input.upper.join("dir")).unwrap().count(), 1);
        assert_eq!(relink(&input).unwrap(), 0);
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
            assert_eq!(relink(&input).unwrap(), 1);
            assert_eq!(["a", "b", "dir/c"].map(|name| links(&input, name)), [2, 1, 2]);
        }
    }

    #[test]
    fn a_layer_between_hides_what_is_below_and_links_are_not_followed() {
        let (dir, input) = split();
        // In between, `b` is another file, and `dir` a link to where `c` has several names.
        fs::write(input.lower[0].join("b"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("lower/dir"), input.lower[0].join("dir")).unwrap();
        assert_eq!(relink(&input).unwrap(), 0);
        assert_eq!(["a", "b", "dir/c"].map(|name| links(&input, name)), [1, 1, 1]);
    }
}
