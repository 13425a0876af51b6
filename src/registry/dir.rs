//! A folder as a repository: of this machine, or on a file server that several mount.
//!
//! ```text
//! DIR/blobs/sha256/HEX    bytes by their digest
//! DIR/manifests/TAG       a manifest
//! ```
//!
//! There are no locks, which not every file server has. A file is written under another name, brought to the disk, and renamed; so nobody
//! sees a part of one, and of two who write the same one either may be the last. Others may write to the folder: what is read is a regular
//! file, is bounded, and counts by its digest alone.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::address::is_tag;
use super::{Access, Blob, Collected, Error, MAX_MANIFEST_BYTES, Repository, Result};
use crate::beneath;
use crate::beneath::{NAMES_LIMIT, Plain, RootDir, TreeDir};
use crate::durable::{self, Mode, Unfinished};
use crate::path_error::PathError;
use crate::progress::Event;

const BLOBS: &str = "blobs/sha256";
const MANIFESTS: &str = "manifests";
const CHUNK: usize = 1 << 20;

/// A folder of blobs and manifests.
pub(super) struct Folder<'a> {
    path: PathBuf,
    access: Access<'a>,
}

impl fmt::Debug for Folder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Folder").field(&self.path).finish()
    }
}

impl<'a> Folder<'a> {
    pub(super) fn new(path: &Path, access: &Access<'a>) -> Self {
        Self { path: path.to_owned(), access: access.clone() }
    }

    /// The folder itself, which nobody makes by a slip of the pen, and not where it is to be mounted.
    fn root(&self) -> Result<TreeDir> {
        match RootDir::open(&self.path) {
            Ok(root) => Ok(root.tree()?),
            Err(error) if error.is_no_such_file() => Err(Error::NoFolder { place: self.shown() }),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, place: &str, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.root()?.read(format!("{place}/{name}"), limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(beneath::Error::TooBig { limit_bytes, .. }) => {
                Err(Error::TooLarge { place: self.shown(), what: format!("`{name}`"), limit: limit_bytes })
            }
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a place in the folder, if it is not there; for a name in it.
    fn target(&self, place: &str, name: &str) -> Result<PathBuf> {
        drop(self.root()?);
        let dir = self.path.join(place);
        durable::make_dirs(&dir, Mode::AtMost(0o777))?;
        // Nobody's link leads us away.
        drop(self.root()?.open_dir(place)?);
        Ok(dir.join(name))
    }

    fn blob(&self, blob: &Blob) -> Result<Option<Plain>> {
        let Some(name) = hex_of(&blob.digest) else { return Ok(None) };
        match self.root()?.open_file(format!("{BLOBS}/{name}")) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in a place; none if it was never made.
    fn names(&self, place: &str) -> Result<Vec<String>> {
        let entries = match self.root()?.open_dir(place) {
            Ok(dir) => dir.entries(NAMES_LIMIT)?,
            Err(error) if error.is_absent() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        Ok(entries.iter().filter_map(|entry| entry.text().map(str::to_owned)).collect())
    }

    /// Copies so many bytes, and says whether they have this digest and there are no more of them.
    fn copy(&self, mut from: impl Read, to: &File, blob: &Blob, paths: [&Path; 2]) -> Result<bool> {
        let [source, target] = paths;
        let (mut hash, mut size, mut to) = (Sha256::new(), 0_u64, to);
        let mut buffer = vec![0; CHUNK];
        loop {
            if (self.access.downloader.cancelled())() {
                return Err(Error::Interrupted);
            }
            let n = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(PathError::of("read", source))?,
            };
            size += n as u64;
            if n == 0 || size > blob.size {
                break;
            }
            hash.update(&buffer[..n]);
            to.write_all(&buffer[..n]).map_err(PathError::of("write", target))?;
            self.access.observer.event(&Event::Advance(n as u64));
        }
        to.sync_all().map_err(PathError::of("write", target))?;
        Ok(size == blob.size && format!("sha256:{}", hex::encode(hash.finalize())) == blob.digest)
    }

    /// The blobs that manifests name. What is no manifest may name any.
    fn named(&self) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for tag in self.tags()? {
            let Some(bytes) = self.manifest(&tag)? else { continue };
            let manifest: Named =
                serde_json::from_slice(&bytes).map_err(|_| Error::NotAManifest { place: self.shown(), tag: tag.clone() })?;
            named.extend(manifest.layers.into_iter().chain(manifest.config).map(|descriptor| descriptor.digest));
        }
        Ok(named)
    }
}

/// What a manifest names.
#[derive(Deserialize)]
struct Named {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

impl Repository for Folder<'_> {
    fn shown(&self) -> String {
        super::Address::Dir(self.path.clone()).to_string()
    }

    fn has(&self, tags: &[String]) -> Result<BTreeSet<String>> {
        let root = self.root()?;
        let mut found = BTreeSet::new();
        for tag in tags.iter().filter(|tag| is_tag(tag)) {
            if root.stat(format!("{MANIFESTS}/{tag}"))?.is_some() {
                found.insert(tag.clone());
            }
        }
        Ok(found)
    }

    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        if is_tag(tag) { self.read(MANIFESTS, tag, MAX_MANIFEST_BYTES) } else { Ok(None) }
    }

    fn put_manifest(&self, tag: &str, _media_type: &str, bytes: &[u8]) -> Result<()> {
        Ok(durable::replace(&self.target(MANIFESTS, tag)?, bytes, Mode::AtMost(0o644))?)
    }

    fn tags(&self) -> Result<Vec<String>> {
        Ok(self.names(MANIFESTS)?.into_iter().filter(|name| is_tag(name)).collect())
    }

    fn remove(&self, tag: &str) -> Result<bool> {
        let was_there = self.has(&[tag.to_owned()])?.contains(tag);
        if was_there {
            durable::remove_if_there(&self.path.join(MANIFESTS).join(tag))?;
        }
        Ok(was_there)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool> {
        Ok(self.blob(blob)?.is_some_and(|file| file.size() == blob.size))
    }

    fn get_blob(&self, blob: &Blob, target: &Path) -> Result<()> {
        let Some(plain) = self.blob(blob)? else {
            return Err(Error::NotFound { place: self.shown(), what: format!("blob `{}`", blob.digest) });
        };
        let new = Unfinished::beside(target, 0o600)?;
        if !self.copy(&plain.file, &new.file, blob, [plain.shown(), target])? {
            return Err(Error::WrongDigest { place: self.shown(), digest: blob.digest.clone() });
        }
        Ok(new.finish(target)?)
    }

    fn put_blob(&self, blob: &Blob, file: &File) -> Result<()> {
        let name = hex_of(&blob.digest).unwrap_or_default();
        let target = self.target(BLOBS, name)?;
        if let Some(there) = self.blob(blob)?.filter(|there| there.size() == blob.size) {
            // Somebody who collects just now sees that it is wanted. Who does not own it cannot say so.
            drop(there.file.set_modified(SystemTime::now()));
            return Ok(());
        }
        let new = Unfinished::beside(&target, 0o444)?;
        if !self.copy(FromStart { file, at: 0 }, &new.file, blob, [&target, &target])? {
            return Err(Error::Changed { digest: blob.digest.clone() });
        }
        new.finish(&target)?;
        Ok(durable::sync_dir(&self.path.join(BLOBS))?)
    }

    fn collect(&self, least_age: Duration, remove: bool) -> Result<Option<Collected>> {
        let named = self.named()?;
        let mut collected = Collected::default();
        let now = SystemTime::now();
        let dir = match self.root()?.open_dir(BLOBS) {
            Err(error) if error.is_absent() => return Ok(Some(collected)),
            dir => dir?,
        };
        for name in self.names(BLOBS)? {
            let digest = format!("sha256:{name}");
            if hex_of(&digest).is_none() || named.contains(&digest) {
                continue;
            }
            let Ok(file) = dir.open_file(&name) else { continue };
            let path = self.path.join(BLOBS).join(&name);
            let modified = file.file.metadata().and_then(|meta| meta.modified()).map_err(PathError::of("examine", &path))?;
            // A push puts its manifest last: what is young may belong to one that goes on just now.
            if now.duration_since(modified).is_ok_and(|age| age >= least_age) {
                if remove {
                    durable::remove_if_there(&path)?;
                }
                collected.blobs += 1;
                collected.bytes += file.size();
            }
        }
        Ok(Some(collected))
    }
}

/// A file from its beginning, whatever its position is.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The digits of `sha256:HEX`, which are a name in the folder.
fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(hex)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::download::{self, Downloader};
    use crate::progress::Silent;
    use crate::registry::{Address, Sources};

    fn blob(bytes: &[u8]) -> Blob {
        Blob { digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))), size: bytes.len() as u64 }
    }

    fn with(dir: &Path, run: impl FnOnce(&dyn Repository)) {
        let sources = Sources::default();
        let downloader = Downloader::new(download::Settings::default(), Arc::new(|| false));
        let access = Access { downloader, credentials: &sources, observer: &Silent };
        run(&*super::super::open(&Address::Dir(dir.to_owned()), &access));
    }

    fn put(repository: &dyn Repository, dir: &Path, bytes: &[u8]) -> Blob {
        let file = dir.join("../given");
        fs::write(&file, bytes).unwrap();
        repository.put_blob(&blob(bytes), &File::open(&file).unwrap()).unwrap();
        blob(bytes)
    }

    #[test]
    fn what_was_put_is_found_and_a_folder_that_is_not_there_is_not_made() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        with(&dir, |repository| {
            let error = repository.tags().unwrap_err();
            assert!(error.is_unreachable() && error.hint().unwrap().contains("mount"), "{error}");
            assert!(repository.put_manifest("a", "", b"x").unwrap_err().is_unreachable());
            assert!(!dir.exists());
        });
        fs::create_dir(&dir).unwrap();
        with(&dir, |repository| {
            assert!(repository.tags().unwrap().is_empty());
            assert_eq!(repository.manifest("a").unwrap(), None);
            let given = put(repository, &dir, b"bytes");
            assert!(repository.has_blob(&given).unwrap() && !repository.has_blob(&blob(b"others")).unwrap());
            repository.put_manifest("a", "", b"one").unwrap();
            repository.put_manifest("a", "", b"two").unwrap();
            assert_eq!(repository.manifest("a").unwrap().as_deref(), Some(&b"two"[..]));
            assert_eq!(repository.tags().unwrap(), ["a"]);
            let asked = ["a", "b", "../a", ".."].map(str::to_owned);
            assert_eq!(repository.has(&asked).unwrap().into_iter().collect::<Vec<_>>(), ["a"]);
            let target = place.path().join("got");
            repository.get_blob(&given, &target).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"bytes");
            assert!(repository.remove("a").unwrap() && !repository.remove("a").unwrap());
        });
    }

    #[test]
    fn others_bytes_are_not_taken() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        fs::create_dir(&dir).unwrap();
        with(&dir, |repository| {
            let given = put(repository, &dir, b"bytes");
            let path = dir.join(BLOBS).join(hex_of(&given.digest).unwrap());
            let target = place.path().join("got");
            let refused = |words: &str| {
                let error = repository.get_blob(&given, &target).unwrap_err().to_string();
                assert!(error.contains(words), "{error}");
                assert!(!target.exists());
            };
            fs::remove_file(&path).unwrap();
            refused("has no blob");
            for other in [&b"bytez"[..], b"byte", b"bytes and more"] {
                fs::write(&path, other).unwrap();
                refused("sent other bytes than");
                fs::remove_file(&path).unwrap();
            }
            std::os::unix::fs::symlink(place.path().join("given"), &path).unwrap();
            refused("is not a regular file");
            // What is put has to be what it is said to be.
            let other = File::open(place.path().join("given")).unwrap();
            let error = repository.put_blob(&blob(b"others"), &other).unwrap_err();
            assert!(matches!(error, Error::Changed { .. }), "{error}");
            assert_eq!(fs::read_dir(dir.join(BLOBS)).unwrap().count(), 1);
            fs::create_dir(dir.join(MANIFESTS)).unwrap();
            fs::File::create(dir.join(MANIFESTS).join("huge")).unwrap().set_len(MAX_MANIFEST_BYTES + 1).unwrap();
            assert!(repository.manifest("huge").unwrap_err().to_string().contains("of more than 4194304 bytes"));
        });
        // A link in the place of a directory of ours leads nowhere.
        fs::remove_dir_all(dir.join(BLOBS)).unwrap();
        fs::create_dir(place.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(place.path().join("elsewhere"), dir.join(BLOBS)).unwrap();
        with(&dir, |repository| {
            let given = File::open(place.path().join("given")).unwrap();
            assert!(repository.put_blob(&blob(b"bytes"), &given).is_err());
            assert_eq!(fs::read_dir(place.path().join("elsewhere")).unwrap().count(), 0);
        });
    }

    #[test]
    fn only_what_nothing_names_is_collected() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        fs::create_dir(&dir).unwrap();
        with(&dir, |repository| {
            let collect = |secs, remove| repository.collect(Duration::from_secs(secs), remove).unwrap().unwrap();
            assert_eq!(collect(0, true), Collected::default());
            let [one, two, three] = [&b"one"[..], b"two", b"three"].map(|bytes| put(repository, &dir, bytes));
            let manifest = serde_json::json!({ "config": { "digest": one.digest }, "layers": [{ "digest": two.digest }] });
            repository.put_manifest("a", "", manifest.to_string().as_bytes()).unwrap();
            fs::write(dir.join(BLOBS).join("README"), "not ours").unwrap();
            assert_eq!(collect(3600, true), Collected::default());
            assert_eq!(collect(0, false), Collected { blobs: 1, bytes: 5 });
            assert!(repository.has_blob(&three).unwrap());
            assert_eq!(collect(0, true), Collected { blobs: 1, bytes: 5 });
            assert!(!repository.has_blob(&three).unwrap() && repository.has_blob(&two).unwrap());
            repository.put_manifest("b", "", b"{").unwrap();
            let error = repository.collect(Duration::ZERO, true).unwrap_err();
            assert!(error.to_string().starts_with("`b` in `dir:"), "{error}");
            assert!(repository.has_blob(&one).unwrap());
        });
    }
}
