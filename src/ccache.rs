//! The compiler cache: what the compilers of a profile have made, for its next builds. ccache itself runs in sessions only.
//!
//! ```text
//! cache/ccache/PROFILE/CATEGORY/PACKAGE/AB/CDEF…   an object, by the digest of all that went into it
//!        ^ read-only
//!      session ── writes ──> its own ccache/objects/CATEGORY/PACKAGE/AB/CDEF…
//!        '── the package is published, or the kernel kept ──> those of this package are copied
//! ```
//!
//! The layout is that of ccache's `file` storage. Who can write an object decides what the next compiler run of the same source yields, and
//! an object does not say who has made it. So each package has a directory of its own: what a package leaves there, only builds of the same
//! package read.
//!
//! Objects have checksums. An object that a power cut has damaged is one that is not there, so nothing is synced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::beneath;
use crate::beneath::{TreeDir, copy_plain};
use crate::durable::Unfinished;
use crate::path_error::{OfFile as _, PathError};

/// Where a session's own objects lie in its own directory.
pub(crate) const OBJECTS: &str = "objects";
/// No compiler makes a larger one; a sparse file can claim any size.
const OBJECT_LIMIT_BYTES: u64 = 1 << 30;
/// More names in a directory are refused.
const NAMES_LIMIT: usize = 200_000;
/// Lengths of a digest's beginning, which is the name of a directory, and of its rest.
const BEGINNING: usize = 2;
const REST: std::ops::RangeInclusive<usize> = 16..=128;
/// What is left of a full cache, in percent of its limit: not every build is to make room.
const LEFT_PERCENT: u64 = 90;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    Beneath(#[from] beneath::Error),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A published object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) path: PathBuf,
    pub(crate) meta: fs::Metadata,
}

impl Object {
    fn made(&self) -> SystemTime {
        self.meta.modified().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What a profile has, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OfProfile {
    pub(crate) profile: String,
    pub(crate) packages: usize,
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
}

/// The profiles that have a cache, below the directory of all.
pub(crate) fn profiles(top: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = directories(top)?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

/// The objects of each package of a profile, by `CATEGORY/PACKAGE`.
pub(crate) fn packages(of_profile: &Path) -> Result<BTreeMap<String, Vec<Object>>> {
    let mut found = BTreeMap::new();
    for (category, dir) in directories(of_profile)? {
        for (package, dir) in directories(&dir)? {
            let mut objects = Vec::new();
            for (_, dir) in directories(&dir)? {
                objects.extend(entries(&dir)?.into_iter().filter(|object| object.meta.is_file()));
            }
            found.insert(format!("{category}/{package}"), objects);
        }
    }
    Ok(found)
}

/// What each profile has.
pub(crate) fn listing(top: &Path) -> Result<Vec<OfProfile>> {
    let of = |profile: String| {
        let packages = packages(&top.join(&profile))?;
        let all = || packages.values().flatten();
        Ok(OfProfile { profile, packages: packages.len(), objects: all().count(), bytes: all().map(|one| one.meta.len()).sum() })
    };
    profiles(top)?.into_iter().map(of).collect()
}

/// Copies what a session has made for one package. What is there already is replaced: ccache adds to some of its objects.
///
/// The session's files are hostile: only regular files are taken whose names ccache gives, and at most so many bytes. Returns how many
/// objects they were.
pub(crate) fn merge(own: &Path, of_profile: &Path, package: &str, limit_bytes: u64) -> Result<usize> {
    let source = match TreeDir::open(own).and_then(|own| own.open_dir(format!("{OBJECTS}/{package}"))) {
        Err(error) if error.is_absent() => return Ok(0),
        source => source?,
    };
    let target = of_profile.join(package);
    let (mut count, mut bytes) = (0, 0);
    for beginning in source.entries(NAMES_LIMIT)?.iter().filter(|entry| entry.is_dir()) {
        let Some(beginning) = digits(&beginning.os().to_string_lossy(), BEGINNING..=BEGINNING) else { continue };
        let from = source.open_dir(&beginning)?;
        let to = target.join(&beginning);
        make_open(of_profile, &to)?;
        for entry in from.entries(NAMES_LIMIT)? {
            let Some(name) = digits(&entry.os().to_string_lossy(), REST) else { continue };
            // A process of the session may take it away meanwhile, or nobody but root of the session may read it.
            let Ok(object) = from.open_file(&name) else { continue };
            bytes += object.size();
            if object.size() > OBJECT_LIMIT_BYTES || bytes > limit_bytes {
                tracing::debug!(package, name, "too large for the compiler cache");
                continue;
            }
            let target = to.join(&name);
            let new = Unfinished::beside(&target, 0o644)?;
            new.file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(PathError::of("change the mode of", &target))?;
            copy_plain(&object, &new.file)?;
            new.finish(&target)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Removes the oldest objects of a profile, if they are more than `limit_bytes`. Sessions that read them compile again.
pub(crate) fn trim(of_profile: &Path, limit_bytes: u64) -> Result<u64> {
    let mut all: Vec<Object> = packages(of_profile)?.into_values().flatten().collect();
    let total: u64 = all.iter().map(|object| object.meta.len()).sum();
    if total <= limit_bytes {
        return Ok(0);
    }
    all.sort_by_key(Object::made);
    let mut freed = 0;
    for object in all {
        if total - freed <= limit_bytes / 100 * LEFT_PERCENT {
            break;
        }
        crate::durable::remove_if_there(&object.path)?;
        freed += object.meta.len();
    }
    Ok(freed)
}

/// A word of ccache's digits (base 32, without what may be a path).
fn digits(name: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<String> {
    let is_digit = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase();
    (lengths.contains(&name.len()) && name.bytes().all(is_digit)).then(|| name.to_owned())
}

/// Makes a directory that every user of a session may read, with those above it that are below `top`.
pub(crate) fn make_open(top: &Path, dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| dir.starts_with(top) && !dir.is_dir()).collect();
    fs::create_dir_all(top).map_err(Error::io("create", top))?;
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", dir)(error)),
            _ => fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", dir))?,
        }
    }
    Ok(())
}

fn directories(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let named = |object: Object| Some((object.path.file_name()?.to_str()?.to_owned(), object.path));
    Ok(entries(dir)?.into_iter().filter(|object| object.meta.is_dir()).filter_map(named).collect())
}

/// What is in a directory of ours. What another process removes meanwhile is left out.
fn entries(dir: &Path) -> Result<Vec<Object>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(Error::io("list", dir))?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(Error::io("list", dir))?;
        if let Ok(meta) = entry.metadata() {
            found.push(Object { path: entry.path(), meta });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    const NAME: &str = "2cs1qe4evbcm8s46n9spfhr1905u2ka";

    fn object(own: &Path, package: &str, name: &str, text: &str) -> PathBuf {
        let path = own.join(OBJECTS).join(package).join("da").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn of_a_session_only_the_objects_of_one_package_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (own, published) = (dir.path().join("own"), dir.path().join("all/demo"));
        assert_eq!(merge(&own.join("none"), &published, "a/b", 100).unwrap(), 0);
        object(&own, "a/b", NAME, "one");
        object(&own, "a/c", NAME, "planted");
        assert_eq!(merge(&own, &published, "a/b", 100).unwrap(), 1);
        assert_eq!(fs::read_to_string(published.join("a/b/da").join(NAME)).unwrap(), "one");
        assert!(!published.join("a/c").exists());
        // ccache adds to an object.
        object(&own, "a/b", NAME, "one, two");
        assert_eq!(merge(&own, &published, "a/b", 100).unwrap(), 1);
        assert_eq!(fs::read_to_string(published.join("a/b/da").join(NAME)).unwrap(), "one, two");
        let [of] = &listing(&dir.path().join("all")).unwrap()[..] else { panic!("one profile") };
        assert_eq!((of.profile.as_str(), of.packages, of.objects, of.bytes), ("demo", 1, 1, 8));
        for path in ["a", "a/b", "a/b/da"] {
            assert_eq!(fs::metadata(published.join(path)).unwrap().permissions().mode() & 0o777, 0o755, "{path}");
        }
        assert_eq!(fs::metadata(published.join("a/b/da").join(NAME)).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn links_odd_names_and_what_is_too_large_stay_in_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let (own, published) = (dir.path().join("own"), dir.path().join("demo"));
        object(&own, "a/b", NAME, "one");
        let in_it = own.join(OBJECTS).join("a/b/da");
        symlink("/etc/passwd", in_it.join(NAME.replace('2', "3"))).unwrap();
        fs::write(in_it.join(format!(".{NAME}")), "hidden").unwrap();
        fs::write(in_it.join("short"), "short").unwrap();
        fs::File::create(in_it.join(NAME.replace('2', "4"))).unwrap().set_len(4 << 40).unwrap();
        fs::create_dir(in_it.join(NAME.replace('2', "5"))).unwrap();
        symlink("/etc", own.join(OBJECTS).join("a/b/ab")).unwrap();
        symlink("/etc", own.join(OBJECTS).join("a/link")).unwrap();
        assert_eq!(merge(&own, &published, "a/b", 1 << 20).unwrap(), 1);
        assert_eq!(packages(&published).unwrap()["a/b"].len(), 1);
        assert!(merge(&own, &published, "a/link", 1 << 20).is_err());
        assert!(!published.join("a/link").exists());
        // No more than there is room for.
        object(&own, "a/d", NAME, "12345");
        object(&own, "a/d", &NAME.replace('2', "6"), "12345");
        assert_eq!(merge(&own, &published, "a/d", 9).unwrap(), 1);
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let (own, published) = (dir.path().join("own"), dir.path().join("demo"));
        let names: Vec<String> = ('a'..='d').map(|c| NAME.replace('2', &c.to_string())).collect();
        for (at, name) in names.iter().enumerate() {
            object(&own, "a/b", name, &"x".repeat(100));
            merge(&own, &published, "a/b", 1000).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at as u64);
            fs::File::options().append(true).open(published.join("a/b/da").join(name)).unwrap().set_modified(time).unwrap();
            fs::remove_dir_all(&own).unwrap();
        }
        assert_eq!(trim(&published, 400).unwrap(), 0);
        assert_eq!(trim(&published, 300).unwrap(), 200);
        let left: Vec<_> = packages(&published).unwrap().remove("a/b").unwrap();
        assert!(left.iter().all(|object| object.made() >= SystemTime::UNIX_EPOCH + Duration::from_secs(2)), "{left:?}");
        assert_eq!(trim(&dir.path().join("none"), 0).unwrap(), 0);
    }
}
