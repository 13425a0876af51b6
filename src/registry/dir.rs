//! A folder as a repository: of this machine, or on a file server that several mount.
//!
//! ```text
//! DIR/blobs/sha256/HEX    bytes by their digest
//! DIR/manifests/TAG       a manifest
//! ```
//!
//! There are no locks, which not every file server has. A file is written under another name, brought to the disk, and renamed; so nobody
//! sees a part of one, and of two who write the same one either may be the last. Others may write to the folder: what is read is a regular
//! file, is bounded, and counts by its digest alone; what is written or removed lies beneath a directory that was opened without links.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::address::is_tag;
use super::{Access, Blob, Collected, Error, MAX_MANIFEST_BYTES, Repository, Result};
use crate::beneath;
use crate::beneath::{NAMES_LIMIT, Plain, RootDir, TreeDir};
use crate::durable::{self, Unfinished};
use crate::path_error::PathError;
use crate::progress::Event;

const BLOBS: &str = "blobs/sha256";
const MANIFESTS: &str = "manifests";
const CHUNK: usize = 1 << 20;

/// A folder of blobs and manifests.
pub(super) struct Folder<'a> {
    path: PathBuf,
    access: Access<'a>,
    /// The places where leftovers were looked for: thousands of names are not listed for each of them.
    swept: Mutex<BTreeSet<&'static str>>,
}

impl fmt::Debug for Folder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Folder").field(&self.path).finish()
    }
}

impl<'a> Folder<'a> {
    pub(super) fn new(path: &Path, access: &Access<'a>) -> Self {
        Self { path: path.to_owned(), access: access.clone(), swept: Mutex::default() }
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

    /// Opens a place in the folder for writing. Makes it, if it is not there. Nobody's link leads us away.
    fn place(&self, place: &'static str) -> Result<TreeDir> {
        let mut dir = self.root()?;
        for name in place.split('/') {
            let (inner, is_new) = dir.open_or_make_dir(name, 0o777)?;
            if is_new {
                dir.sync()?;
            }
            dir = inner;
        }
        if self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
            sweep(&dir);
        }
        Ok(dir)
    }

    /// Opens a place in the folder, if it was ever made.
    fn opened(&self, place: &str) -> Result<Option<TreeDir>> {
        match self.root()?.open_dir(place) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
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
        let Some(dir) = self.opened(place)? else { return Ok(Vec::new()) };
        let entries = dir.entries(NAMES_LIMIT)?;
        Ok(entries.iter().filter_map(|entry| entry.text().map(str::to_owned)).collect())
    }

    /// Copies so many bytes, and says whether they have this digest and there are no more of them.
    fn copy(&self, from: impl Read, mut to: &File, blob: &Blob, paths: [&Path; 2]) -> Result<bool> {
        let [source, target] = paths;
        let is_it = self.is_it(from, blob, source, |bytes| {
            to.write_all(bytes).map_err(PathError::of("write", target))?;
            self.access.observer.event(&Event::Advance(bytes.len() as u64));
            Ok(())
        })?;
        to.sync_all().map_err(PathError::of("write", target))?;
        Ok(is_it)
    }

    /// Whether this reads so many bytes with this digest, and no more. Each part of them is taken on.
    fn is_it(&self, mut from: impl Read, blob: &Blob, shown: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; CHUNK];
        loop {
            if (self.access.downloader.cancelled())() {
                return Err(Error::Interrupted);
            }
            let n = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(PathError::of("read", shown))?,
            };
            size += n as u64;
            if n == 0 || size > blob.size {
                break;
            }
            hash.update(&buffer[..n]);
            take(&buffer[..n])?;
        }
        Ok(size == blob.size && format!("sha256:{}", hex::encode(hash.finalize())) == blob.digest)
    }

    /// Whether an opened place has a blob, and nobody has changed its bytes.
    fn is_sound_in(&self, dir: &TreeDir, name: &str, blob: &Blob) -> Result<bool> {
        let there = match dir.open_file(name) {
            Ok(there) => there,
            // Also a link, or whatever has the name: a new file takes its place.
            Err(error) if error.is_no_such_file() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if there.size() != blob.size {
            return Ok(false);
        }
        // Somebody who collects just now sees that it is wanted. Who does not own it cannot say so.
        drop(there.file.set_modified(SystemTime::now()));
        self.is_it(&there.file, blob, there.shown(), |_| Ok(()))
    }

    /// Writes a blob into an opened place.
    fn put_into(&self, dir: &TreeDir, name: &str, blob: &Blob, file: &File) -> Result<()> {
        let target = dir.shown(name.as_ref());
        let new = create_in(dir, &target)?;
        if !self.copy(FromStart { file, at: 0 }, &new.file, blob, [&target, &target])? {
            return Err(Error::Changed { digest: blob.digest.clone() });
        }
        new.finish_here(&target)?;
        Ok(dir.sync()?)
    }

    /// The names of the blobs that manifests name. What is no manifest may name any.
    fn named(&self) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for tag in self.tags()? {
            let Some(bytes) = self.manifest(&tag)? else { continue };
            let manifest: Named =
                serde_json::from_slice(&bytes).map_err(|_| Error::NotAManifest { place: self.shown(), tag: tag.clone() })?;
            let digests = manifest.layers.iter().chain(&manifest.config).map(|descriptor| &descriptor.digest);
            named.extend(digests.filter_map(|digest| hex_of(digest)).map(str::to_owned));
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
            if root.kind(format!("{MANIFESTS}/{tag}"))? == Some(FileType::RegularFile) {
                found.insert(tag.clone());
            }
        }
        Ok(found)
    }

    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        if is_tag(tag) { self.read(MANIFESTS, tag, MAX_MANIFEST_BYTES) } else { Ok(None) }
    }

    fn put_manifest(&self, tag: &str, _media_type: &str, bytes: &[u8]) -> Result<()> {
        let dir = self.place(MANIFESTS)?;
        let target = dir.shown(tag.as_ref());
        let mut new = create_in(&dir, &target)?;
        new.file.write_all(bytes).map_err(PathError::of("write", &target))?;
        new.finish_here(&target)?;
        Ok(dir.sync()?)
    }

    fn tags(&self) -> Result<Vec<String>> {
        Ok(self.names(MANIFESTS)?.into_iter().filter(|name| is_tag(name)).collect())
    }

    fn remove(&self, tag: &str) -> Result<bool> {
        let Some(dir) = self.opened(MANIFESTS)?.filter(|_| is_tag(tag)) else { return Ok(false) };
        let Some(kind) = dir.kind(tag)? else { return Ok(false) };
        if kind != FileType::Directory {
            dir.unlink(tag)?;
            return Ok(true);
        }
        dir.remove_empty(tag)?;
        if dir.kind(tag)?.is_some() {
            return Err(PathError::new("remove", dir.shown(tag.as_ref()), Errno::NOTEMPTY).into());
        }
        Ok(true)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool> {
        Ok(self.blob(blob)?.is_some_and(|file| file.size() == blob.size))
    }

    fn is_sound(&self, blob: &Blob) -> Result<bool> {
        match (self.opened(BLOBS)?, hex_of(&blob.digest)) {
            (Some(dir), Some(name)) => self.is_sound_in(&dir, name, blob),
            _ => Ok(false),
        }
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
        // No bytes have another digest.
        let Some(name) = hex_of(&blob.digest) else { return Err(Error::Changed { digest: blob.digest.clone() }) };
        let dir = self.place(BLOBS)?;
        if self.is_sound_in(&dir, name, blob)? { Ok(()) } else { self.put_into(&dir, name, blob, file) }
    }

    fn collect(&self, least_age: Duration, remove: bool) -> Result<Option<Collected>> {
        let named = self.named()?;
        let mut collected = Collected::default();
        for place in [BLOBS, MANIFESTS] {
            if let Some(dir) = self.opened(place)? {
                let wanted = |name: &str| match hex_of(&format!("sha256:{name}")) {
                    Some(_) if place == BLOBS => named.contains(name),
                    _ => !durable::is_unfinished(name),
                };
                collect_in(&dir, least_age, remove, wanted, &mut collected)?;
            }
        }
        Ok(Some(collected))
    }
}

/// Removes what killed processes have left unfinished.
fn sweep(dir: &TreeDir) {
    let entries = dir.entries(NAMES_LIMIT).unwrap_or_default();
    durable::sweep_in(dir.as_fd(), entries.iter().filter_map(|entry| entry.text()));
}

/// A new file in an opened directory. Its owner may write to it, since a sweep has to lock it.
fn create_in(dir: &TreeDir, target: &Path) -> Result<Unfinished> {
    let dir = dir.as_fd().try_clone_to_owned().map_err(PathError::of("write", target))?;
    Ok(Unfinished::create(dir, target, 0o644)?)
}

/// Removes the files of an opened directory that are so old and not wanted, or only counts them.
fn collect_in(
    dir: &TreeDir,
    least_age: Duration,
    remove: bool,
    wanted: impl Fn(&str) -> bool,
    collected: &mut Collected,
) -> Result<()> {
    let now = SystemTime::now();
    for entry in dir.entries(NAMES_LIMIT)? {
        let Some(name) = entry.text().filter(|name| entry.kind == FileType::RegularFile && !wanted(name)) else { continue };
        let Ok(file) = dir.open_file(name) else { continue };
        let modified = file.file.metadata().and_then(|meta| meta.modified()).map_err(PathError::of("examine", file.shown()))?;
        // A push puts its manifest last: what is young may belong to one that goes on just now.
        if now.duration_since(modified).is_ok_and(|age| age >= least_age) {
            // One that we may not write to was made by an older version or by somebody else.
            let is_being_written = || dir.open_to_write(name).is_ok_and(|file| !durable::lock(&file));
            if durable::is_unfinished(name) && is_being_written() {
                continue;
            }
            if remove {
                dir.unlink(name)?;
            }
            collected.blobs += 1;
            collected.bytes += file.size();
        }
    }
    Ok(())
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
    use crate::registry::Sources;

    fn blob(bytes: &[u8]) -> Blob {
        Blob { digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))), size: bytes.len() as u64 }
    }

    fn with(dir: &Path, run: impl FnOnce(&Folder<'_>)) {
        let sources = Sources::default();
        let downloader = Downloader::new(download::Settings::default(), Arc::new(|| false));
        run(&Folder::new(dir, &Access { downloader, credentials: &sources, observer: &Silent }));
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

    /// Swaps a directory for a link to another one.
    fn swap(dir: &Path, to: &Path) {
        fs::rename(dir, dir.with_extension("away")).unwrap();
        std::os::unix::fs::symlink(to, dir).unwrap();
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_leads_nothing_away() {
        let place = tempfile::tempdir().unwrap();
        let (dir, elsewhere) = (place.path().join("folder"), place.path().join("elsewhere"));
        for made in [&dir, &elsewhere] {
            fs::create_dir(made).unwrap();
        }
        with(&dir, |folder| {
            let there = put(folder, &dir, b"bytes");
            let name = hex_of(&there.digest).unwrap();
            fs::write(elsewhere.join(name), "precious").unwrap();
            fs::write(elsewhere.join(".x.1-1.new"), "precious").unwrap();
            let blobs = folder.place(BLOBS).unwrap();
            swap(&dir.join(BLOBS), &elsewhere);
            let others = blob(b"others");
            fs::write(place.path().join("given"), "others").unwrap();
            let given = File::open(place.path().join("given")).unwrap();
            folder.put_into(&blobs, hex_of(&others.digest).unwrap(), &others, &given).unwrap();
            let mut collected = Collected::default();
            collect_in(&blobs, Duration::ZERO, true, |found| found != name, &mut collected).unwrap();
            assert_eq!(collected, Collected { blobs: 1, bytes: 5 });
            assert!(folder.put_blob(&others, &given).is_err());
            assert!(folder.collect(Duration::ZERO, true).is_err());
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
            assert!(!dir.join("blobs/sha256.away").join(name).exists());
            // Nothing is made behind a link, either.
            fs::remove_file(dir.join(BLOBS)).unwrap();
            swap(&dir.join("blobs"), &elsewhere);
            assert!(folder.put_blob(&others, &given).is_err());
            folder.put_manifest("a", "", b"x").unwrap();
            swap(&dir.join(MANIFESTS), &elsewhere);
            fs::write(elsewhere.join("a"), "precious").unwrap();
            assert!(folder.remove("a").is_err() && folder.put_manifest("a", "", b"y").is_err());
            assert_eq!(fs::read(elsewhere.join("a")).unwrap(), b"precious");
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 3);
        });
    }

    #[test]
    fn what_killed_pushes_leave_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        fs::create_dir(&dir).unwrap();
        let left = |name: &str| {
            let path = dir.join(name);
            fs::write(&path, "left").unwrap();
            path
        };
        with(&dir, |folder| {
            let blobs = folder.place(BLOBS).unwrap();
            // It can be locked by a sweep.
            let new = create_in(&blobs, "mine".as_ref()).unwrap();
            let names = || folder.names(BLOBS).unwrap();
            assert_eq!((names().len(), new.file.metadata().unwrap().permissions().mode() & 0o200), (1, 0o200));
            sweep(&blobs);
            let collect = |secs| folder.collect(Duration::from_secs(secs), true).unwrap().unwrap().blobs;
            assert_eq!((collect(0), names().len()), (0, 1), "somebody writes it");
            left("blobs/sha256/.x.1-1.new");
            sweep(&blobs);
            assert_eq!(names().len(), 1);
            drop(new);
            assert!(names().is_empty());
            // Of older versions, which a sweep could not open.
            let old = left("blobs/sha256/.y.1-1.new");
            fs::set_permissions(&old, fs::Permissions::from_mode(0o444)).unwrap();
            folder.put_manifest("a", "", b"{}").unwrap();
            left("manifests/.a.1-1.new");
            assert_eq!((collect(3600), collect(0)), (0, 2));
            assert!(!old.exists() && folder.manifest("a").unwrap().is_some());
        });
    }

    #[test]
    fn a_garbled_blob_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        fs::create_dir(&dir).unwrap();
        with(&dir, |repository| {
            let given = put(repository, &dir, b"bytes");
            let path = dir.join(BLOBS).join(hex_of(&given.digest).unwrap());
            fs::write(&path, "bytez").unwrap();
            put(repository, &dir, b"bytes");
            assert_eq!(fs::read(&path).unwrap(), b"bytes");
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(place.path().join("given"), &path).unwrap();
            put(repository, &dir, b"bytes");
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            let error = repository.put_blob(&Blob { digest: "sha256:../x".to_owned(), size: 5 }, &File::open(&path).unwrap());
            assert!(matches!(error, Err(Error::Changed { .. })));
        });
    }

    #[test]
    fn what_is_no_manifest_is_in_no_others_way() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("folder");
        fs::create_dir(&dir).unwrap();
        with(&dir, |repository| {
            repository.put_manifest("good", "", b"{}").unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("manifests/pipe"), rustix::fs::Mode::RWXU).unwrap();
            fs::create_dir(dir.join("manifests/empty")).unwrap();
            fs::create_dir_all(dir.join("manifests/full/x")).unwrap();
            assert_eq!(repository.tags().unwrap(), ["empty", "full", "good", "pipe"]);
            assert_eq!(repository.has(&repository.tags().unwrap()).unwrap().len(), 1);
            assert_eq!(repository.manifest("good").unwrap().as_deref(), Some(&b"{}"[..]));
            for odd in ["empty", "full", "pipe"] {
                assert!(repository.manifest(odd).unwrap_err().is_of_one(), "{odd}");
                assert!(repository.collect(Duration::ZERO, true).is_err(), "nobody knows what it names");
                if odd == "full" {
                    let error = repository.remove(odd).unwrap_err();
                    assert!(error.to_string().contains("cannot remove `") && error.to_string().ends_with("full`"), "{error}");
                    fs::remove_dir(dir.join("manifests/full/x")).unwrap();
                }
                assert!(repository.remove(odd).unwrap() && !repository.remove(odd).unwrap(), "{odd}");
            }
            repository.collect(Duration::ZERO, true).unwrap();
        });
    }
}
