//! Makes data and cache inaccessible to other users of the machine, and makes sure that nobody can replace them.
//!
//! ```text
//! /srv/pool/me/gentoomuch     0700, ours: the wall. Directories below have the modes that sessions need
//! /srv/pool/me                a directory on the way belongs to root or to us, and nobody else may write to it …
//! /srv/pool                   … or it is sticky, so that nobody can rename what is ours
//! ```
//!
//! Layers hold set-id files that belong to ids of the user, and caches hold what is compiled next, so both are closed to others whatever
//! the umask is. The rules for the directories above are those of sshd's `StrictModes` and of gnupg, with the exception that Debian's
//! sshd makes for groups with no other member.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Places;
use crate::durable;
use crate::durable::Mode;
use crate::path_error::PathError;

/// The directories directly below data and cache, with their modes. Directories that are bound into sessions are 0755 since other ids
/// than the user's have to enter them.
const BELOW_DATA: &[(&str, u32)] = &[("store", 0o700), ("stages", 0o700), ("logs", 0o700), ("binhost", 0o700), ("patches", 0o700)];
const BELOW_CACHE: &[(&str, u32)] = &[
    ("distfiles", 0o755),
    ("binpkgs", 0o700),
    ("repos", 0o700),
    ("stage3", 0o700),
    ("oci-layers", 0o700),
    ("artifacts", 0o700),
    ("standing", 0o700),
];

/// Who the directories are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    /// The user's group, if it has no other member.
    pub private_gid: Option<u32>,
    /// The id that stands for all ids that this user namespace does not map, if there are any: in a container `/` may belong to it.
    pub unknown_uid: Option<u32>,
}

/// `overflow` if this user namespace does not map all ids, by its `uid_map`. It stands for the unmapped ids even where it is itself
/// mapped to an id of the user.
pub(crate) fn unknown_id(uid_map: &str, overflow: Option<u32>) -> Option<u32> {
    let count = |line: &str| line.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    let known: u64 = uid_map.lines().filter_map(count).sum();
    overflow.filter(|_| known < u64::from(u32::MAX))
}

/// A directory that was open to others and was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub path: PathBuf,
    /// The mode it had.
    pub mode: u32,
}

/// Why nothing can be kept in a place.
#[derive(Debug, thiserror::Error)]
pub enum Unsafe {
    /// It belongs to another user.
    #[error("`{path}` belongs to another user (uid {uid})")]
    Foreign {
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A directory above it, or a link on the way, belongs to somebody who could replace it.
    #[error("`{on_the_way}` belongs to another user (uid {uid}), who could replace `{path}`")]
    ForeignWay {
        path: PathBuf,
        /// The directory or link.
        on_the_way: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may write to a directory above it.
    #[error("other users can rename files in `{on_the_way}` (mode {mode:04o}), and so replace `{path}`")]
    OpenWay { path: PathBuf, on_the_way: PathBuf, mode: u32 },
    /// Its path is not UTF-8, so it can be named neither to our helper processes nor in JSON.
    #[error("the name of `{path}` is not UTF-8")]
    NotText { path: PathBuf },
    /// Not a directory.
    #[error("`{path}` is not a directory")]
    NotADirectory { path: PathBuf },
    /// It could not be examined or closed.
    #[error(transparent)]
    Io(#[from] PathError),
}

impl Unsafe {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Foreign { .. } | Self::ForeignWay { .. } => {
                "choose a place below a directory of your own with `--data` and `--cache`".to_owned()
            }
            Self::OpenWay { on_the_way, .. } => format!(
                "choose a place below a directory of your own with `--data` and `--cache`; or, if other users agree, `chmod go-w \
                 {0}` or `chmod +t {0}`",
                on_the_way.display()
            ),
            Self::NotText { .. } => {
                "choose places with names in UTF-8 with `--config`, `--data` and `--cache`, or with `GENTOOMUCH_CONFIG`, \
                 `GENTOOMUCH_DATA` and `GENTOOMUCH_CACHE`"
                    .to_owned()
            }
            Self::NotADirectory { .. } | Self::Io { .. } => "choose another place with `--data` and `--cache`".to_owned(),
        }
    }
}

impl Places {
    /// Closes data and cache to others, and refuses a place where that does not protect them. With `make`, missing directories are
    /// created; a failure of that is reported by whoever needs them. Returns the directories that others could enter before.
    pub fn close(&self, owner: Owner, make: bool) -> Result<Vec<Closed>, Unsafe> {
        let mut closed = Vec::new();
        if let Some(path) = [&self.config, &self.data, &self.cache].into_iter().find(|path| path.to_str().is_none()) {
            return Err(Unsafe::NotText { path: path.clone() });
        }
        for (top, below) in [(&self.data, BELOW_DATA), (&self.cache, BELOW_CACHE)] {
            if make {
                // Parents that have to be created are 0700 as well, as the XDG base directory specification wants it.
                drop(durable::make_dirs(top, Mode::AtMost(0o700)));
            }
            if !wall(top, owner, &mut closed)? {
                continue;
            }
            let mut new = false;
            for &(name, mode) in below {
                let path = top.join(name);
                if make {
                    let made = DirBuilder::new().mode(0o700).create(&path);
                    if made.is_ok() {
                        set_mode(&path, mode)?;
                        new = true;
                    }
                }
                inside(&path, mode, owner, &mut closed)?;
            }
            if new {
                durable::sync_dir(top)?;
            }
        }
        Ok(closed)
    }
}

/// Checks a top directory and those above it, and closes it. Returns whether it exists.
fn wall(path: &Path, owner: Owner, closed: &mut Vec<Closed>) -> Result<bool, Unsafe> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(false),
        Err(source) => return Err(PathError::new("find", path, source).into()),
    };
    check_way(path, &real, owner)?;
    let metadata = examine(&real)?;
    if !metadata.is_dir() {
        return Err(Unsafe::NotADirectory { path: path.to_owned() });
    }
    if metadata.uid() != owner.uid {
        return Err(Unsafe::Foreign { path: path.to_owned(), uid: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        set_mode(&real, 0o700)?;
        closed.push(Closed { path: path.to_owned(), mode });
    }
    Ok(true)
}

/// Corrects the mode of a directory below the wall, if it is ours. Links, and directories of other users, were put there by the user and
/// stay.
fn inside(path: &Path, wanted: u32, owner: Owner, closed: &mut Vec<Closed>) -> Result<(), Unsafe> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(PathError::new("examine", path, source).into()),
    };
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() && metadata.uid() == owner.uid && mode & 0o077 & !wanted != 0 {
        set_mode(path, wanted)?;
        closed.push(Closed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Refuses a path that somebody else could redirect. Checks both the directories as written and those after resolving links.
fn check_way(path: &Path, real: &Path, owner: Owner) -> Result<(), Unsafe> {
    let is_ours = |uid: u32| uid == 0 || uid == owner.uid || Some(uid) == owner.unknown_uid;
    for link in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        let metadata = fs::symlink_metadata(link).map_err(PathError::of("examine", link))?;
        if metadata.file_type().is_symlink() && !is_ours(metadata.uid()) {
            return Err(Unsafe::ForeignWay { path: path.to_owned(), on_the_way: link.to_owned(), uid: metadata.uid() });
        }
    }
    // Where a link is on the way, both the directory that holds it and the one that it leads to count.
    for directory in path.ancestors().skip(1).chain(real.ancestors().skip(1)).filter(|part| !part.as_os_str().is_empty()) {
        let metadata = examine(directory)?;
        let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let on_the_way = || (path.to_owned(), directory.to_owned());
        if !is_ours(uid) {
            let (path, on_the_way) = on_the_way();
            return Err(Unsafe::ForeignWay { path, on_the_way, uid });
        }
        let sticky = mode & 0o1000 != 0;
        let by_group = mode & 0o020 != 0 && (Some(metadata.gid()) != owner.private_gid || has_acl(directory));
        if (by_group || mode & 0o002 != 0) && !sticky {
            let (path, on_the_way) = on_the_way();
            return Err(Unsafe::OpenWay { path, on_the_way, mode });
        }
    }
    Ok(())
}

/// Whether the group's bits of the mode mean others than the group (acl(5): they are the mask).
fn has_acl(directory: &Path) -> bool {
    rustix::fs::getxattr(directory, "system.posix_acl_access", &mut [0_u8; 0]).is_ok_and(|length| length > 0)
}

fn examine(path: &Path) -> Result<Metadata, Unsafe> {
    Ok(fs::metadata(path).map_err(PathError::of("examine", path))?)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Unsafe> {
    Ok(fs::set_permissions(path, Permissions::from_mode(mode)).map_err(PathError::of("close to others", path))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn me() -> Owner {
        Owner { uid: rustix::process::geteuid().as_raw(), private_gid: None, unknown_uid: None }
    }

    fn places(dir: &Path) -> Places {
        Places { config: dir.join("config"), data: dir.join("a/b/data"), cache: dir.join("cache") }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_closed_and_what_is_open_is_closed_once() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        // A look makes nothing.
        assert_eq!(places.close(me(), false).unwrap(), []);
        assert!(!places.data.exists() && !places.cache.exists());
        assert_eq!(places.close(me(), true).unwrap(), []);
        assert!(!places.config.exists(), "the configuration is the user's");
        for path in [&dir.path().join("a"), &dir.path().join("a/b"), &places.data, &places.cache, &places.logs(), &places.stages()]
        {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        assert_eq!(mode(&places.distfiles()), 0o755);
        for (path, open, wanted) in [
            (&places.data, 0o755, 0o700),
            (&places.cache, 0o2770, 0o700),
            (&places.logs(), 0o777, 0o700),
            (&places.patches(), 0o711, 0o700),
            (&places.distfiles(), 0o777, 0o755),
        ] {
            chmod(path, open);
            assert_eq!(places.close(me(), true).unwrap(), [Closed { path: path.clone(), mode: open }]);
            assert_eq!(mode(path), wanted, "{}", path.display());
            assert_eq!(places.close(me(), true).unwrap(), []);
        }
        // What leads elsewhere stays as it is.
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        chmod(&elsewhere, 0o777);
        fs::remove_dir(places.stages()).unwrap();
        symlink(&elsewhere, places.stages()).unwrap();
        assert_eq!(places.close(me(), true).unwrap(), []);
        assert_eq!(mode(&elsewhere), 0o777);
    }

    #[test]
    fn a_place_that_others_can_put_something_else_in_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        places.close(me(), true).unwrap();
        let open = dir.path().join("a");
        for (bits, words) in [
            (0o777, Some("(mode 0777)")),
            (0o775, Some("(mode 0775)")),
            (0o757, Some("(mode 0757)")),
            (0o1777, None),
            (0o755, None),
        ] {
            chmod(&open, bits);
            let said = places.close(me(), true).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), words.is_some(), "{bits:o}: {said:?}");
            if let (Some(said), Some(words)) = (said, words) {
                let begin = format!("other users can rename files in `{}` {words}, and so replace", open.display());
                assert!(said.starts_with(&begin), "{said}");
            }
        }
        // A group of one's own is nobody else.
        chmod(&open, 0o775);
        let group = Owner { private_gid: Some(fs::metadata(&open).unwrap().gid()), ..me() };
        assert_eq!(places.close(group, true).unwrap(), []);
        chmod(&open, 0o777);
        assert!(places.close(group, true).is_err());
        chmod(&open, 0o700);

        // Through a link the way is both: that of the link, and that of the directory.
        let by_link = Places { data: dir.path().join("link/data"), ..places.clone() };
        symlink(dir.path().join("a/b"), dir.path().join("link")).unwrap();
        assert_eq!(by_link.close(me(), true).unwrap(), []);
        chmod(&open, 0o777);
        let error = by_link.close(me(), true).unwrap_err();
        assert!(error.to_string().contains(&format!("`{}` (mode 0777)", open.display())), "{error}");
        assert!(error.hint().contains(&format!("`chmod +t {}`", open.display())), "{}", error.hint());
    }

    #[test]
    fn a_place_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        places.close(me(), true).unwrap();
        let real = me().uid;
        let other = Owner { uid: real + 1, ..me() };
        let error = places.close(other, false).unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to another user (uid {real})")), "{error}");
        // With a way that is everybody's, the place itself is what is wrong.
        let places = Places { data: dir.path().to_owned(), ..places };
        let error = places.close(other, false).unwrap_err();
        if real != 0 {
            assert_eq!(error.to_string(), format!("`{}` belongs to another user (uid {real})", dir.path().display()));
        }
        // An id that stands for nobody known.
        assert!(places.close(Owner { unknown_uid: Some(real), ..other }, false).is_err());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Places { data: file.clone(), ..places }.close(me(), true).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is not a directory", file.display()));
    }

    #[test]
    fn an_id_stands_for_unknown_ones_wherever_there_are_some() {
        let unknown = |map: &str| unknown_id(map, Some(65534));
        assert_eq!(unknown("         0          0 4294967295\n"), None);
        assert_eq!(unknown("         0       1000          1\n"), Some(65534));
        // Mapped, and yet `/` has it, which belongs to a root that is not.
        assert_eq!(unknown("         0       1004          1\n         1    2196608      65535\n"), Some(65534));
        assert_eq!(unknown_id("0 1000 1\n", None), None);
    }
}
