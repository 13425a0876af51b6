//! Sealing a layer, and comparing it with what it was when it was sealed.
//!
//! ```text
//! gentoomuch manifest 1
//! . dir 0755 0 0
//! etc/foo file 0644 0 0 12 sha256:ab… user.note=76
//! usr/bin/a file 04755 0 0 9 sha256:cd…
//! usr/bin/b hardlink usr/bin/a
//! usr/lib64 symlink 0777 0 0 lib
//! usr/share/gone char 0000 0 0 0:0
//! ```
//!
//! One line for each name, sorted: path, kind, mode (octal), owner and group as inside the id map; then by kind size and digest, target,
//! or device numbers; then extended attributes as `name=hex`. Bytes outside printable ASCII, blanks and backslashes are `\xNN`. The
//! digest of a layer is the SHA-256 of this text. Times are left out, and so are the attributes in which overlayfs notes inode numbers
//! and file system ids. So a copied layer has the digest of its original.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TreeError;
use crate::beneath::{Budget, Plain, TreeDir, Walk};

const HEADER: &str = "gentoomuch manifest 1";

/// Attributes about the file system that the layer lies on, not about the layer.
const LOCAL_ATTRIBUTES: [&str; 6] = [
    "user.overlay.origin",
    "user.overlay.uuid",
    "user.overlay.impure",
    "user.overlay.nlink",
    "user.overlay.upper",
    // SELinux labels come from the host.
    "security.selinux",
];

/// Input of [`super::SEAL`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SealInput {
    pub tree: PathBuf,
    /// Where to write the manifest. Must not exist.
    pub manifest: PathBuf,
}

/// The totals of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestSummary {
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// How many names, the top included.
    pub files: u64,
    /// Sum of the sizes of regular files, hard links counted once.
    pub bytes: u64,
}

/// Input of [`super::VERIFY_DEEP`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VerifyDeepInput {
    pub tree: PathBuf,
    /// Its manifest from the time of sealing.
    pub manifest: PathBuf,
    /// How many differences to name at most.
    pub limit: usize,
}

/// How a tree compares with its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Compared {
    /// Digest of the tree now.
    pub digest: String,
    /// Digest of the manifest's text now. If it is not the layer's, somebody has changed the manifest.
    pub manifest_digest: String,
    /// The first differences, by path: a path (escaped as in the manifest) and what differs there.
    pub differences: Vec<(String, String)>,
    /// How many there are in all.
    pub count: u64,
}

/// Writes the manifest of a tree.
pub(super) fn seal(input: &SealInput) -> Result<ManifestSummary, TreeError> {
    crate::threads::pool()?;
    let manifest = Manifest::of(&input.tree)?;
    let failed = |e: std::io::Error| TreeError::io("write", &input.manifest, e);
    let mut file = File::create_new(&input.manifest).map_err(failed)?;
    file.write_all(manifest.text().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(manifest.summary())
}

/// Compares a tree with its manifest.
pub(super) fn verify(input: &VerifyDeepInput) -> Result<Compared, TreeError> {
    crate::threads::pool()?;
    let (old, manifest_digest) = read_manifest(&input.manifest)?;
    let new = Manifest::of(&input.tree)?;
    let mut compared = Compared { digest: new.summary().digest, manifest_digest, differences: Vec::new(), count: 0 };
    let mut add = |path: &String, what: String| {
        compared.count += 1;
        if compared.differences.len() < input.limit {
            compared.differences.push((path.clone(), what));
        }
    };
    for path in old.keys().chain(new.lines.keys().filter(|p| !old.contains_key(*p))) {
        match (old.get(path), new.lines.get(path)) {
            (Some(_), None) => add(path, "missing".to_owned()),
            (None, Some(_)) => add(path, "not there when sealed".to_owned()),
            (Some(was), Some(is)) if was != is => add(path, difference(was, is)),
            _ => {}
        }
    }
    compared.differences.sort();
    Ok(compared)
}

/// The names of the fields of a line, by position. Extended attributes follow.
fn field_names(kind: &str) -> &'static [&'static str] {
    match kind {
        "file" => &["kind", "mode", "owner", "group", "size", "contents"],
        "symlink" => &["kind", "mode", "owner", "group", "target"],
        "char" | "block" => &["kind", "mode", "owner", "group", "device"],
        "hardlink" => &["kind", "link"],
        _ => &["kind", "mode", "owner", "group"],
    }
}

/// Which fields differ, in words.
fn difference(was: &str, is: &str) -> String {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.split(' ').collect(), is.split(' ').collect());
    if was[0] != is[0] {
        return format!("kind was {} and is {}", was[0], is[0]);
    }
    let names = field_names(was[0]);
    let mut words = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let (a, b) = (was.get(i).unwrap_or(&"-"), is.get(i).unwrap_or(&"-"));
        if a != b {
            // Two digests beside each other would tell a reader nothing.
            words.push(if *name == "contents" { "contents differ".to_owned() } else { format!("{name} was {a} and is {b}") });
        }
    }
    if was.get(names.len()..) != is.get(names.len()..) {
        words.push("extended attributes differ".to_owned());
    }
    words.join(", ")
}

fn read_manifest(path: &Path) -> Result<(BTreeMap<String, String>, String), TreeError> {
    let file = File::open(path).map_err(|e| TreeError::io("read", path, e))?;
    let mut hasher = Sha256::new();
    let mut lines = BTreeMap::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| TreeError::io("read", path, e))?;
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
        let damaged = || TreeError::Manifest { path: path.to_owned(), line: i + 1 };
        if i == 0 {
            if line != HEADER {
                return Err(damaged());
            }
            continue;
        }
        let (name, rest) = line.split_once(' ').ok_or_else(damaged)?;
        lines.insert(name.to_owned(), rest.to_owned());
    }
    Ok((lines, named(&hasher.finalize())))
}

fn named(digest: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest))
}

/// One name of the tree with its line.
struct Entry {
    path: String,
    line: String,
    /// For a regular file with more than one name.
    inode: Option<u64>,
    bytes: u64,
}

struct Manifest {
    lines: BTreeMap<String, String>,
    bytes: u64,
}

impl Manifest {
    /// Reads a tree. One thread at a time walks; the others read files.
    fn of(tree: &Path) -> Result<Self, TreeError> {
        let walker = Walker::new(tree)?;
        let entries: Vec<Entry> = walker.par_bridge().map(|found| found?.finish()).collect::<Result<_, TreeError>>()?;
        Ok(Self::from_entries(entries))
    }

    fn from_entries(mut entries: Vec<Entry>) -> Self {
        // Sorted before hard links are found, so that the first path is the same in each run: files come from several threads.
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        let mut lines = BTreeMap::new();
        let mut bytes = 0;
        for entry in entries {
            let mut line = entry.line;
            match entry.inode.map(|inode| first.entry(inode)) {
                Some(std::collections::btree_map::Entry::Occupied(other)) => line = format!("hardlink {}", other.get()),
                other => {
                    bytes += entry.bytes;
                    if let Some(place) = other {
                        place.or_insert_with(|| entry.path.clone());
                    }
                }
            }
            lines.insert(entry.path, line);
        }
        Self { lines, bytes }
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (path, line) in &self.lines {
            text.push_str(path);
            text.push(' ');
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn summary(&self) -> ManifestSummary {
        let digest = named(&Sha256::digest(self.text().as_bytes()));
        ManifestSummary { digest, files: self.lines.len() as u64, bytes: self.bytes }
    }
}

/// A name that the walk found. A regular file comes opened, so that reading it needs no path.
struct Found {
    path: PathBuf,
    name: String,
    stat: Stat,
    attributes: Vec<String>,
    content: Content,
}

enum Content {
    File(Plain),
    Symlink(Vec<u8>),
    Other,
}

impl Found {
    fn finish(self) -> Result<Entry, TreeError> {
        let stat = &self.stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let owners = format!("{:04o} {} {}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        let mut bytes = 0;
        let mut line = match (kind, self.content) {
            (FileType::RegularFile, Content::File(file)) => {
                let (size, digest) = read(file.file).map_err(|e| TreeError::io("read", &self.path, e))?;
                bytes = size;
                format!("file {owners} {size} {digest}")
            }
            (FileType::Symlink, Content::Symlink(target)) => format!("symlink {owners} {}", escape(&target)),
            (FileType::Directory, _) => format!("dir {owners}"),
            (FileType::CharacterDevice, _) => format!("char {owners} {}", device(stat)),
            (FileType::BlockDevice, _) => format!("block {owners} {}", device(stat)),
            (FileType::Fifo, _) => format!("fifo {owners}"),
            (FileType::Socket, _) => format!("socket {owners}"),
            _ => format!("unknown {owners}"),
        };
        for attribute in &self.attributes {
            line.push(' ');
            line.push_str(attribute);
        }
        let inode = (kind == FileType::RegularFile && stat.st_nlink > 1).then_some(stat.st_ino);
        Ok(Entry { path: self.name, line, inode, bytes })
    }
}

fn device(stat: &Stat) -> String {
    format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

fn read(mut file: File) -> std::io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, named(&hasher.finalize()))),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The walk as an iterator.
struct Walker {
    walk: Option<Walk>,
    top: Option<Found>,
    budget: Budget,
}

impl Walker {
    fn new(tree: &Path) -> Result<Self, TreeError> {
        let walk = TreeDir::open(tree)?.walk()?;
        let stat = walk.stat_here()?;
        let attributes = attributes(walk.here()).map_err(|e| TreeError::io("read the attributes of", tree, e))?;
        let top = Found { path: tree.to_owned(), name: ".".to_owned(), stat, attributes, content: Content::Other };
        Ok(Self { walk: Some(walk), top: Some(top), budget: Budget::default() })
    }
}

impl Iterator for Walker {
    type Item = Result<Found, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(top) = self.top.take() {
            return Some(Ok(top));
        }
        let walk = self.walk.as_mut()?;
        let result = step(walk, &mut self.budget).transpose();
        if !matches!(result, Some(Ok(_))) {
            // After an error the walk does not know where it is.
            self.walk = None;
        }
        result
    }
}

/// The next name of the walk, entered if it is a directory.
fn step(walk: &mut Walk, budget: &mut Budget) -> Result<Option<Found>, TreeError> {
    loop {
        if let Some(entry) = walk.next_name() {
            return examine(walk, &entry.name, budget).map(Some);
        }
        if walk.leave()?.is_none() {
            return Ok(None);
        }
    }
}

fn examine(walk: &mut Walk, name: &std::ffi::CStr, budget: &mut Budget) -> Result<Found, TreeError> {
    let path = walk.shown(name);
    let failed = |e: Errno| TreeError::io("read the attributes of", &path, e);
    let stat = walk.stat(name)?;
    let relative = escape(&walk.relative(name));
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut content = Content::Other;
    let attributes = match kind {
        FileType::Directory => {
            walk.enter(name)?;
            attributes(walk.here()).map_err(failed)?
        }
        FileType::RegularFile => {
            let file = walk.open_file(name)?;
            budget.admit(&file)?;
            let attributes = attributes(&file).map_err(failed)?;
            content = Content::File(file);
            attributes
        }
        FileType::Symlink => {
            content = Content::Symlink(walk.read_link(name)?);
            Vec::new()
        }
        // Opening a socket, device or fifo can have effects, and a user can set no attributes on them (`xattr(7)`).
        _ => Vec::new(),
    };
    Ok(Found { path, name: relative, stat, attributes, content })
}

/// Extended attributes as `name=hex`, sorted, without [`LOCAL_ATTRIBUTES`].
fn attributes(fd: impl AsFd) -> Result<Vec<String>, Errno> {
    let fd = fd.as_fd();
    let names = match grow(|buffer| rustix::fs::flistxattr(fd, buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let text = escape(name);
        if LOCAL_ATTRIBUTES.contains(&text.as_str()) {
            continue;
        }
        match grow(|buffer| rustix::fs::fgetxattr(fd, name, buffer)) {
            Ok(value) => found.push(format!("{text}={}", hex::encode(value))),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls with a larger buffer until the answer fits. The kernel's limit is 64 KiB.
pub(super) fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's limit of a list of attributes and of a value is 64 KiB (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(64 * 1024, 0),
            Err(e) => return Err(e),
        }
    }
}

/// Bytes as one printable word.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if matches!(byte, 0x21..=0x7e) && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn sample(dir: &Path) -> PathBuf {
        let tree = dir.join("fs");
        fs::create_dir_all(tree.join("etc/with blank")).unwrap();
        fs::write(tree.join("etc/hello"), "hello\n").unwrap();
        fs::write(tree.join("etc/\u{fc}ml\n"), "").unwrap();
        fs::hard_link(tree.join("etc/hello"), tree.join("etc/again")).unwrap();
        symlink("../etc/hello", tree.join("link")).unwrap();
        fs::set_permissions(tree.join("etc/hello"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(tree.join("etc/\u{fc}ml\n"), fs::Permissions::from_mode(0o600)).unwrap();
        for d in ["", "etc", "etc/with blank"] {
            fs::set_permissions(tree.join(d), fs::Permissions::from_mode(0o755)).unwrap();
        }
        tree
    }

    fn inputs(dir: &Path) -> (SealInput, VerifyDeepInput) {
        let (tree, manifest) = (dir.join("fs"), dir.join("manifest"));
        (SealInput { tree: tree.clone(), manifest: manifest.clone() }, VerifyDeepInput { tree, manifest, limit: 3 })
    }

    #[test]
    fn manifest_of_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tree = sample(dir.path());
        let me = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let text = Manifest::of(&tree).unwrap().text().replace(&format!(" {me} {group}"), " U G");
        // Of `hello\n` and of nothing, as `sha256sum` gives them.
        let expected = "gentoomuch manifest 1\n\
            . dir 0755 U G\n\
            etc dir 0755 U G\n\
            etc/\\xc3\\xbcml\\x0a file 0600 U G 0 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
            etc/again file 4755 U G 6 sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n\
            etc/hello hardlink etc/again\n\
            etc/with\\x20blank dir 0755 U G\n\
            link symlink 0777 U G ../etc/hello\n";
        assert_eq!(text, expected);
        let summary = Manifest::of(&tree).unwrap().summary();
        assert_eq!((summary.files, summary.bytes), (7, 6));
    }

    #[test]
    fn copies_have_the_same_digest_and_changes_have_another() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let (seal_input, verify_input) = inputs(dir.path());
        let sealed = seal(&seal_input).unwrap();
        assert_eq!(fs::read_to_string(&seal_input.manifest).unwrap().lines().count(), 8);
        let same = verify(&verify_input).unwrap();
        assert_eq!(
            (same.digest.as_str(), same.manifest_digest.as_str(), same.count),
            (sealed.digest.as_str(), sealed.digest.as_str(), 0)
        );

        let tree = &seal_input.tree;
        // Same size, same times.
        let path = tree.join("etc/hello");
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "jello\n").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(tree.join("link")).unwrap();
        fs::write(tree.join("link"), "").unwrap();
        fs::remove_dir(tree.join("etc/with blank")).unwrap();
        fs::write(tree.join("new"), "").unwrap();
        let other = verify(&verify_input).unwrap();
        assert_ne!(other.digest, sealed.digest);
        assert_eq!(other.count, 4);
        let words: Vec<String> = other.differences.iter().map(|(path, what)| format!("{path}: {what}")).collect();
        assert_eq!(words[0], "etc/again: mode was 4755 and is 0755, contents differ");
        assert_eq!(words[1], "etc/with\\x20blank: missing");
        assert_eq!(words[2], "link: kind was symlink and is file");
        assert_eq!(words.len(), 3, "limited");
    }

    #[test]
    fn extended_attributes_count() {
        let dir = tempfile::tempdir().unwrap();
        let tree = sample(dir.path());
        let path = tree.join("etc/hello");
        let set = |name: &str| rustix::fs::setxattr(&path, name, b"v", rustix::fs::XattrFlags::empty());
        if set("user.note").is_err() {
            // Not every file system has them.
            return;
        }
        let text = Manifest::of(&tree).unwrap().text();
        assert!(text.contains(" user.note=76\n"), "{text}");
        set("user.overlay.origin").unwrap();
        assert_eq!(Manifest::of(&tree).unwrap().text(), text);
        set("user.overlay.opaque").unwrap();
        assert_ne!(Manifest::of(&tree).unwrap().text(), text);
    }

    /// The hole of 4 TiB took an hour; what counts is that it is refused before it is read.
    #[test]
    fn a_huge_hole_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let tree = sample(dir.path());
        let (seal_input, verify_input) = inputs(dir.path());
        seal(&seal_input).unwrap();
        fs::create_dir(tree.join("usr")).unwrap();
        let hole = tree.join("usr/hole");
        for (size, words) in [
            (4 << 40, "has more than 68719476736 bytes"),
            (20 << 30, "has too large holes: the files of a tree may have 8 GiB of them in all"),
        ] {
            fs::File::create(&hole).unwrap().set_len(size).unwrap();
            let message = format!("`{}` {words}", hole.display());
            assert_eq!(Manifest::of(&tree).err().unwrap().to_string(), message);
            assert_eq!(verify(&verify_input).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_damaged_manifest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let (_, input) = inputs(dir.path());
        assert_eq!(verify(&input).unwrap_err().to_string(), format!("cannot read `{}`", input.manifest.display()));
        fs::write(&input.manifest, "something else\n").unwrap();
        assert_eq!(verify(&input).unwrap_err().to_string(), format!("`{}` is damaged: line 1", input.manifest.display()));
    }
}
