//! Lists the packages in pools and removes single ones: under the pool's lock, the index first.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::publish::LockedPool;
use super::{DESCRIPTION, Error, INDEX, PackageFile, PoolKind, Result, THROWAWAY, publish};
use crate::portage::untrusted;
use crate::progress::Observer;

/// An existing pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PoolDir {
    /// Whether it is a throw-away pool.
    pub throwaway: bool,
    /// The name of its directory, which is its key.
    pub key: String,
    pub path: PathBuf,
}

/// A binary package in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    pub package: PackageFile,
    /// The USE flags that it was built with; `None` if the index does not have it.
    pub use_flags: Option<String>,
    /// Its slot, from the index.
    pub slot: Option<String>,
    /// Its package key, from the index.
    pub key: Option<super::PackageKey>,
    /// MD5 of the file in hexadecimal, from the index.
    pub md5: Option<String>,
    /// When it was built, seconds since the epoch; from the file if the index does not say it.
    pub built: i64,
}

/// The pools below `binpkgs`, sorted; empty if that does not exist.
pub(crate) fn pools(binpkgs: &Path) -> Result<Vec<PoolDir>> {
    let mut found = Vec::new();
    for kind in [PoolKind::Release, PoolKind::Throwaway] {
        let throwaway = kind == PoolKind::Throwaway;
        let dir = if throwaway { binpkgs.join(THROWAWAY) } else { binpkgs.to_owned() };
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("list", &dir, error)),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &dir, e))?.path();
            let Some(key) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // Not ours.
            if path.join(DESCRIPTION).is_file() {
                found.push(PoolDir { key: key.to_owned(), path: path.clone(), throwaway });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The packages in a pool, by path.
pub(crate) fn builds(pool: &Path) -> Result<Vec<Build>> {
    let dir = untrusted::open_root(pool).map_err(|e| Error::read(pool, e))?;
    let (packages, _) = publish::packages_in(dir.as_fd(), pool)?;
    let index = publish::read_index(dir.as_fd(), pool)?;
    let mut found = Vec::new();
    for package in packages {
        let path = pool.join(&package.path);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let stanza = index.packages.get(&package.path);
        let value = |key: &str| stanza.and_then(|stanza| stanza.get(key)).cloned();
        found.push(Build {
            use_flags: stanza.map(|stanza| stanza.get("USE").cloned().unwrap_or_default()),
            slot: stanza.map(|stanza| stanza.get("SLOT").cloned().unwrap_or_else(|| "0".to_owned())),
            key: stanza.and_then(publish::key_in),
            md5: value("MD5"),
            built: value("BUILD_TIME").and_then(|time| time.parse().ok()).unwrap_or_else(|| meta.mtime()),
            package,
        });
    }
    Ok(found)
}

/// Removes packages from a pool. If this is killed, files remain that the index does not list, which nobody uses.
pub(crate) fn remove(pool: &Path, paths: &BTreeSet<String>, now_secs: i64, observer: &dyn Observer) -> Result<()> {
    let locked = LockedPool::lock(pool, observer)?;
    let mut index = publish::read_index(locked.as_fd(), pool)?;
    let before = index.packages.len();
    index.packages.retain(|path, _| !paths.contains(path));
    if index.packages.len() != before {
        locked.write_atomically(INDEX, index.render(now_secs).as_bytes(), Some(now_secs))?;
    }
    for path in paths {
        let full = pool.join(path);
        match std::fs::remove_file(&full) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &full, error)),
            _ => {}
        }
        remove_empty(full.parent(), pool);
    }
    Ok(())
}

/// Removes directories below `top` that have become empty, from `dir` upwards.
pub(crate) fn remove_empty(dir: Option<&Path>, top: &Path) {
    for dir in dir.into_iter().flat_map(Path::ancestors).take_while(|dir| *dir != top && dir.starts_with(top)) {
        if std::fs::remove_dir(dir).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PoolInputs, open_pool};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn packages_go_with_their_stanzas() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let pool = open_pool(tmp.path(), PoolKind::Release, &PoolInputs::default(), &Silent).expect("pool");
        open_pool(tmp.path(), PoolKind::Throwaway, &PoolInputs::default(), &Silent).expect("pool");
        std::fs::create_dir(tmp.path().join("mine")).expect("mkdir");
        for path in ["a/b/b-1-1.gpkg.tar", "a/b/b-1-2.gpkg.tar", "c/d/d-2-1.gpkg.tar"] {
            std::fs::create_dir_all(pool.join(path).parent().expect("parent")).expect("mkdir");
            std::fs::write(pool.join(path), path).expect("write");
        }
        let stanza = "CPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nUSE: x y\nSLOT: 2\nMD5: ab\nBUILD_TIME: 7\n\n";
        std::fs::write(pool.join(INDEX), format!("VERSION: 0\n\n{stanza}")).expect("write");
        let found = pools(tmp.path()).expect("pools");
        assert_eq!(found.iter().map(|pool| pool.throwaway).collect::<Vec<_>>(), [false, true]);
        let all = builds(&pool).expect("builds");
        assert_eq!((all.len(), all[0].use_flags.as_deref(), all[0].slot.as_deref(), all[0].built), (3, Some("x y"), Some("2"), 7));
        assert_eq!((all[1].use_flags.as_deref(), all[1].built > 7), (None, true));
        let gone = BTreeSet::from(["a/b/b-1-1.gpkg.tar".to_owned(), "c/d/d-2-1.gpkg.tar".to_owned(), "no/such-1.tbz2".to_owned()]);
        remove(&pool, &gone, 9, &Silent).expect("remove");
        assert_eq!(builds(&pool).expect("builds").len(), 1);
        assert!(!pool.join("c").exists() && pool.join("a/b").exists());
        assert!(!std::fs::read_to_string(pool.join(INDEX)).expect("index").contains("CPV"));
        assert_eq!(pools(Path::new("/nonexistent")).expect("none"), []);
    }
}
