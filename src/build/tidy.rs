//! Takes a session's [`Litter`] out of its upper directory, inside the id map, before it becomes a layer.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};
use rustix::io::Errno;

use super::session::{Litter, LitterFile};

/// What could not be tidied.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove `{}`, which only the session needed", path.display())]
pub(super) struct TidyError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Removes `litter`; what is not there, or holds something of the session's work, is left alone.
///
/// Never follows a symbolic link: what a session leaves behind is hostile.
pub(super) fn tidy(litter: &Litter) -> Result<(), TidyError> {
    let failed = |path: &Path, errno: Errno| TidyError { path: path.to_owned(), source: errno.into() };
    let upper = open_root(&litter.upper).map_err(|errno| failed(&litter.upper, errno))?;
    let mut lower = Vec::new();
    for layer in &litter.lower {
        lower.push(open_root(layer).map_err(|errno| failed(layer, errno))?);
    }
    for file in &litter.files {
        remove_file(upper.as_fd(), file).map_err(|errno| failed(Path::new(&file.path), errno))?;
    }
    let mut directories = with_parents(&litter.directories);
    // Deepest first, so that a parent is empty when its turn comes.
    directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for directory in directories {
        if !lower.iter().any(|layer| exists(layer.as_fd(), &directory)) {
            remove_empty(upper.as_fd(), &directory).map_err(|errno| failed(&directory, errno))?;
        }
    }
    Ok(())
}

fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn with_parents(paths: &[String]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = paths
        .iter()
        .flat_map(|path| Path::new(path).ancestors().filter(|path| path.parent().is_some()))
        .map(Path::to_owned)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The directory that holds `path`, and the last component; `None` when the directory is not there.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<Option<(OwnedFd, &'a OsStr)>, Errno> {
    let Some(Component::Normal(name)) = path.components().next_back() else { return Ok(None) };
    let relative = path.parent().unwrap_or(Path::new("/")).strip_prefix("/").unwrap_or(Path::new(""));
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(root, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
        Ok(dir) => Ok(Some((dir, name))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn exists(root: BorrowedFd<'_>, path: &Path) -> bool {
    matches!(parent(root, path), Ok(Some((dir, name))) if statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn remove_file(root: BorrowedFd<'_>, file: &LitterFile) -> Result<(), Errno> {
    let Some((dir, name)) = parent(root, Path::new(&file.path))? else { return Ok(()) };
    match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        // A whiteout means that the session's work removed it: that stays.
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            if let Some(contents) = &file.only_if
                && !holds(&dir, name, contents.as_bytes())?
            {
                return Ok(());
            }
            unlinkat(&dir, name, AtFlags::empty())
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether the file holds exactly `contents`; never reads more than one byte beyond that.
fn holds(dir: &OwnedFd, name: &OsStr, contents: &[u8]) -> Result<bool, Errno> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), contents.len() as u64 + 1), &mut found);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(found == contents)
}

fn remove_empty(root: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let Some((dir, name)) = parent(root, path)? else { return Ok(()) };
    match unlinkat(&dir, OsStr::from_bytes(name.as_bytes()), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(path: &str) -> LitterFile {
        LitterFile { path: path.to_owned(), only_if: None }
    }

    #[test]
    fn a_resolver_that_the_work_itself_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (contents, stays) in [("ours\n", false), ("ours\nand more\n", true), ("theirs\n", true), ("", true)] {
            fs::write(dir.path().join("resolv.conf"), contents).unwrap();
            let resolver = LitterFile { path: "/resolv.conf".into(), only_if: Some("ours\n".into()) };
            tidy(&Litter {
                upper: dir.path().to_owned(),
                lower: vec![],
                files: vec![resolver],
                directories: vec![],
                outside: vec![],
            })
            .unwrap();
            assert_eq!(dir.path().join("resolv.conf").exists(), stays, "{contents:?}");
        }
    }

    #[test]
    fn what_only_the_session_needed_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            "upper/var/db/repos/gentoo",
            "upper/var/cache/distfiles",
            "upper/var/tmp/portage/kept",
            "upper/etc/portage/make.conf",
            "lower/var/cache",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(upper.join("etc/portage/make.conf/99-session.conf"), "x").unwrap();
        fs::write(upper.join("etc/portage/make.conf/50-gentoomuch.conf"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", upper.join("etc/resolv.conf")).unwrap();
        let litter = Litter {
            upper: upper.clone(),
            lower: vec![lower],
            files: vec![file("/etc/portage/make.conf/99-session.conf"), file("/etc/resolv.conf"), file("/none/such")],
            directories: vec!["/var/db/repos/gentoo".into(), "/var/cache/distfiles".into(), "/var/tmp/portage".into()],
            outside: vec![],
        };
        tidy(&litter).unwrap();
        assert!(!upper.join("var/db").exists(), "mount points and their parents go");
        assert!(upper.join("var/cache").exists(), "a directory that a layer below has stays");
        assert!(!upper.join("var/cache/distfiles").exists());
        assert!(upper.join("var/tmp/portage/kept").exists(), "what holds something stays");
        assert!(!upper.join("etc/portage/make.conf/99-session.conf").exists());
        assert!(upper.join("etc/portage/make.conf/50-gentoomuch.conf").exists());
        assert!(upper.join("etc/resolv.conf").is_symlink(), "a link is the session's own work");
        tidy(&litter).unwrap();
    }

    #[test]
    fn a_link_in_the_way_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        fs::create_dir_all(outside.join("make.conf")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(outside.join("make.conf/99-session.conf"), "precious").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("etc/portage")).unwrap();
        let litter = Litter {
            upper,
            lower: vec![],
            files: vec![file("/etc/portage/make.conf/99-session.conf")],
            directories: vec!["/etc/portage/make.conf".into()],
            outside: vec![],
        };
        tidy(&litter).unwrap();
        assert!(outside.join("make.conf/99-session.conf").exists());
    }
}
