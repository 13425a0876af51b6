//! Writes a directory tree as a compressed tar. Its bytes depend only on the tree.
//!
//! * Entries are sorted bytewise by the path that is written, `./` first. Directories end with a slash.
//! * Times are whole seconds. Times after the clamp become the clamp, and those before the floor become the floor.
//! * Owners are numbers as this process sees them (inside the id map), with the names of the tree's own user database.
//! * Headers are `ustar`, with the prefix field for longer paths. A PAX header comes first only if it is needed: for paths that do not
//!   fit or are not ASCII (as in GNU tar), large ids and sizes, times before 1970, extended attributes.
//! * The first name of an inode is the file. Later ones are hard links to it.
//! * Holes are written as zeros: file systems keep them differently, so they differ between copies of one tree. [`Budget`] limits how
//!   large files and holes may be.
//! * In a bare layer ([`View::Layer`]) a whiteout becomes an empty file `.wh.NAME`, and an opaque directory gets a file `.wh..wh..opq`
//!   (OCI image specification, `layer.md`). A name that looks like one of these is an error.
//! * In an exact layer ([`View::Exact`]) a whiteout is the device 0:0 that it is, and an opaque directory has its attribute: unpacked as a
//!   layer, it is the same layer again. What no archive can hold is an error, and so is what the importer would refuse.
//! * Sockets and device nodes below `dev/` are left out. A device node elsewhere is an error, and so is a whiteout in a merged tree.
//!
//! ```text
//! walking thread: stat, read, headers --1 MiB chunks, 16 at most--> this thread: progress, compressor (its own threads) --> out
//! ```

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::Header;

use super::contents::{Line, Lines};
use super::decode::CHUNK;
use super::digest::{Algorithm, Digests};
use super::encode::{self, Codec, encode};
use super::error::{Error, Oddity, Result};
use super::exclude::Excludes;
use super::importable;
use super::member::{Kind, Limits};
use super::owners::OwnerNames;
use super::pax::append_record;
use super::shown::EntryName;
use super::walk::{Found, What, glance, walk};
use crate::beneath::Budget;

pub use super::walk::View;

/// How many chunks the walk may be ahead of the compressor.
const AHEAD: usize = 16;
const BLOCK: usize = 512;
/// The length of a tar is a multiple of this, GNU tar's default.
const RECORD: u64 = 20 * BLOCK as u64;
/// OCI's prefix of a name that the layer hides (OCI image specification, `layer.md`).
const HIDDEN: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OCTAL_7: u64 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Format {
    /// tar, compressed with xz.
    #[serde(rename = "tar.xz")]
    TarXz,
    /// tar, compressed with Zstandard.
    #[serde(rename = "tar.zst")]
    TarZst,
    /// tar, compressed with gzip.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// Not compressed, for a program that reads it at once.
    #[serde(rename = "tar")]
    Tar,
}

impl Format {
    /// The level that the format's own program uses by default.
    pub fn default_level(self) -> u32 {
        match self {
            Self::TarXz | Self::TarGz => 6,
            Self::TarZst => 3,
            Self::Tar => 0,
        }
    }

    fn codec(self, level: Option<u32>) -> Codec {
        let level = level.unwrap_or(self.default_level());
        match self {
            Self::TarXz => Codec::Xz(level),
            Self::TarZst => Codec::Zstd(i32::try_from(level).unwrap_or(i32::MAX)),
            Self::TarGz => Codec::Gzip(level),
            Self::Tar => Codec::None,
        }
    }

    /// As many of `threads` as take no more than a quarter of the memory when they compress with the default level, but one at least.
    pub(crate) fn threads_within(self, threads: u32, memory_bytes: Option<u64>) -> u32 {
        encode::threads_within(self.codec(None), threads, memory_bytes)
    }
}

#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Whether the tree is a merged view or a bare layer.
    pub view: View,
    pub format: Format,
    /// The compressor's level; `None` means its default.
    pub level: Option<u32>,
    /// Threads for compression. They do not change the output.
    pub threads: u32,
    pub exclude: Excludes,
    /// Seconds since 1970. Later modification times are written as this one.
    pub mtime_clamp: i64,
    /// Seconds since 1970. Earlier modification times are written as this one.
    pub mtime_floor: i64,
    pub names: OwnerNames,
    pub digests: Vec<Algorithm>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries written.
    pub entries: u64,
    /// Bytes of the uncompressed tar.
    pub bytes_tar: u64,
    /// SHA-256 of the uncompressed tar, hexadecimal, if it is of a layer. An image calls it the layer's diff id.
    pub tar_sha256: String,
    /// Size and digests of the output.
    pub digests: Digests,
    /// The listing, one line for each entry, as `tar tvf` prints it in UTC.
    pub contents: Vec<u8>,
}

/// Packs the tree at `root` into `out`. `on_progress` gets how many bytes of the tar went to the compressor since its last call.
pub fn pack(
    root: BorrowedFd<'_>,
    out: impl Write + Send,
    options: &PackOptions,
    on_progress: &mut dyn FnMut(u64),
) -> Result<Packed> {
    let codec = options.format.codec(options.level);
    tracing::debug!(?codec, threads = options.threads, clamp = options.mtime_clamp, "packing");
    std::thread::scope(|scope| {
        let (chunks, received) = sync_channel(AHEAD);
        let walker = crate::threads::builder()
            .name("walk".into())
            .spawn_scoped(scope, move || Writer::new(options, chunks).run(root))
            .map_err(Error::Thread)?;
        let mut tar_sha256 = (options.view == View::Layer).then(Sha256::new);
        let counted = received.into_iter().inspect(|chunk: &Vec<u8>| {
            if let Some(hash) = &mut tar_sha256 {
                hash.update(chunk);
            }
            on_progress(chunk.len() as u64);
        });
        let encoded = encode(counted, out, codec, options.threads, &options.digests);
        let walked = walker.join().unwrap_or_else(|_| Err(Error::Write(std::io::Error::other("the walking thread died"))));
        // If the compressor failed, the walk's error is only that nobody receives its chunks.
        let digests = encoded?;
        let tar_sha256 = tar_sha256.map(|hash| hex::encode(hash.finalize())).unwrap_or_default();
        Ok(Packed { tar_sha256, digests, ..walked? })
    })
}

/// How long the tar of the tree at `root` will be, but for the headers of long paths and attributes; `None` if `over` becomes true before
/// that is known, or if the tree cannot be read, which is for [`pack`] to say.
pub(super) fn measure(root: BorrowedFd<'_>, options: &PackOptions, over: &AtomicBool) -> Option<u64> {
    let (mut bytes, mut first) = (BLOCK as u64, HashSet::new());
    let walked = glance(root, &options.exclude, over, &mut |stat| {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_written = is_file && (stat.st_nlink < 2 || first.insert((stat.st_dev, stat.st_ino)));
        let size = if is_written { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        bytes = bytes.saturating_add(BLOCK as u64).saturating_add(size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64));
    });
    let is_whole = walked.is_ok() && !over.load(Ordering::Relaxed);
    is_whole.then(|| bytes.saturating_add(2 * BLOCK as u64).div_ceil(RECORD).saturating_mul(RECORD))
}

struct Writer<'a> {
    options: &'a PackOptions,
    chunks: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    written: u64,
    lines: Lines,
    packed: Packed,
    /// First path, as it was written, of each inode with several names.
    first: HashMap<(u64, u64), Vec<u8>>,
    budget: Budget,
    limits: Limits,
}

impl<'a> Writer<'a> {
    fn new(options: &'a PackOptions, chunks: SyncSender<Vec<u8>>) -> Self {
        Self {
            options,
            chunks,
            buffer: Vec::with_capacity(CHUNK),
            written: 0,
            lines: Lines::new(),
            packed: Packed::default(),
            first: HashMap::new(),
            budget: Budget::default(),
            limits: Limits::default(),
        }
    }

    fn run(mut self, root: BorrowedFd<'_>) -> Result<Packed> {
        walk(root, self.options.view, &self.options.exclude, &mut |found| self.entry(found))?;
        // Two zero blocks, then zeros to the end of the record.
        let end = (self.written + 2 * BLOCK as u64).next_multiple_of(RECORD);
        let padding = usize::try_from(end - self.written).unwrap_or(0);
        self.put(&vec![0; padding])?;
        self.packed.bytes_tar = self.written;
        let last = std::mem::take(&mut self.buffer);
        self.send(last)?;
        Ok(self.packed)
    }

    fn entry(&mut self, found: Found<'_>) -> Result<()> {
        let Found { path, stat, what, xattrs } = found;
        let mut name = b"./".to_vec();
        name.extend_from_slice(path);
        if self.options.view == View::Layer && path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(HIDDEN)) {
            return Err(Error::Unpackable { entry: EntryName::new(path), what: Oddity::RemovalMark });
        }
        if matches!(what, What::Whiteout | What::Opaque) && self.options.view != View::Exact {
            return self.hidden(path, &what, &stat);
        }
        let mut xattrs = xattrs;
        let inode = (stat.st_dev, stat.st_ino);
        let mut size = 0;
        let mut data = None;
        let kind = match what {
            What::Directory => {
                if !path.is_empty() {
                    name.push(b'/');
                }
                Kind::Directory
            }
            // The kernel links all whiteouts to one inode.
            What::Whiteout => Kind::CharDevice(0, 0),
            _ if stat.st_nlink > 1 && self.first.contains_key(&inode) => {
                xattrs.clear();
                Kind::Hardlink(self.first[&inode].clone())
            }
            What::File(file) => {
                self.budget.admit(&file)?;
                size = u64::try_from(stat.st_size).unwrap_or(0);
                data = Some(file);
                Kind::File
            }
            What::Symlink(target) => Kind::Symlink(target),
            What::Fifo => Kind::Fifo,
            // An exact layer has it as an attribute, and `hidden` has written it for another one.
            What::Opaque => return Ok(()),
        };
        if stat.st_nlink > 1 && !matches!(kind, Kind::Directory | Kind::Hardlink(_) | Kind::CharDevice(..)) {
            self.first.insert(inode, name.clone());
        }
        let (user, group) = (self.options.names.user(stat.st_uid), self.options.names.group(stat.st_gid));
        let line = Line {
            kind: &kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: user.as_bytes(),
            group: group.as_bytes(),
            size,
            mtime_secs: self.time(&stat),
            path: &name,
        };
        self.lines.append(&mut self.packed.contents, &line);
        let headers = headers(&line, &xattrs);
        if self.options.view == View::Exact {
            importable::check(&self.limits, &name, &kind, &xattrs, headers.len())
                .map_err(|cause| Error::Refused { entry: EntryName::new(path), cause })?;
        }
        self.put(&headers)?;
        if let Some(file) = data {
            self.file(file.as_fd(), size, path)?;
        }
        self.fits()?;
        self.packed.entries += 1;
        Ok(())
    }

    /// Whether an importer would still go on.
    fn fits(&self) -> Result<()> {
        let Limits { entries, stream_bytes, .. } = self.limits;
        match self.options.view {
            View::Exact if self.packed.entries >= entries => Err(Error::TooManyEntries { limit: entries }),
            View::Exact if self.written > stream_bytes => Err(Error::TooManyBytes { limit: stream_bytes }),
            _ => Ok(()),
        }
    }

    fn time(&self, stat: &Stat) -> i64 {
        stat.st_mtime.min(self.options.mtime_clamp).max(self.options.mtime_floor)
    }

    /// Writes what a layer hides. Owner and mode are fixed, so that the bytes do not depend on who removed it.
    fn hidden(&mut self, path: &[u8], what: &What, stat: &Stat) -> Result<()> {
        let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        let name = match what {
            What::Opaque if path.is_empty() => [b"./", OPAQUE].concat(),
            What::Opaque => [b"./", path, b"/", OPAQUE].concat(),
            _ => [b"./", &path[..cut], HIDDEN, &path[cut..]].concat(),
        };
        let line = Line {
            kind: &Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            user: b"",
            group: b"",
            size: 0,
            mtime_secs: self.time(stat),
            path: &name,
        };
        self.lines.append(&mut self.packed.contents, &line);
        self.put(&headers(&line, &[]))?;
        self.packed.entries += 1;
        Ok(())
    }

    /// Copies exactly `size` bytes and pads them to a block.
    fn file(&mut self, fd: BorrowedFd<'_>, size: u64, path: &[u8]) -> Result<()> {
        let fail = |source: Errno| Error::Entry { action: "read", entry: EntryName::new(path), source: source.into() };
        let mut left = size;
        while left > 0 {
            let room = (CHUNK - self.buffer.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
            let at = self.buffer.len();
            loop {
                match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut self.buffer)) {
                    Err(Errno::INTR) => {}
                    result => break result.map(drop).map_err(fail)?,
                }
            }
            // A file that grew has more than its header says.
            self.buffer.truncate(at + room);
            let n = self.buffer.len() - at;
            if n == 0 {
                // The header with the size is written already, so a file that became shorter cannot be packed.
                return Err(Error::Unpackable { entry: EntryName::new(path), what: Oddity::Changed });
            }
            self.written += n as u64;
            left -= n as u64;
            self.send_if_full()?;
        }
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.put(&[0; BLOCK][..padding])
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let n = bytes.len().min(CHUNK - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.send_if_full()?;
        }
        Ok(())
    }

    fn send_if_full(&mut self) -> Result<()> {
        if self.buffer.len() < CHUNK {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.send(full)
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<()> {
        self.chunks.send(chunk).map_err(|_| Error::Write(std::io::ErrorKind::BrokenPipe.into()))
    }
}

/// The header of one entry. A PAX header comes before it if one is needed.
fn headers(line: &Line<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    let (typeflag, link): (u8, &[u8]) = match line.kind {
        Kind::File => (b'0', b""),
        Kind::Hardlink(target) => (b'1', target),
        Kind::Symlink(target) => (b'2', target),
        Kind::CharDevice(..) => (b'3', b""),
        Kind::BlockDevice(..) => (b'4', b""),
        Kind::Directory => (b'5', b""),
        Kind::Fifo => (b'6', b""),
    };
    if let Some(ustar) = header.as_ustar_mut() {
        let split = split_path(line.path);
        // Readers disagree about the encoding of a name in the plain header. In a PAX header it is UTF-8.
        if split.is_none() || needs_encoding(line.path) {
            append_record(&mut records, b"path", line.path);
        }
        let (prefix, name) = split.unwrap_or((b"", line.path));
        put_text(&mut ustar.prefix, prefix);
        put_text(&mut ustar.name, name);
        if link.len() > ustar.linkname.len() || needs_encoding(link) {
            append_record(&mut records, b"linkpath", link);
        }
        put_text(&mut ustar.linkname, link);
        put_text(&mut ustar.uname, line.user);
        put_text(&mut ustar.gname, line.group);
        ustar.typeflag = [typeflag];
        octal(&mut ustar.mode, u64::from(line.mode));
        for (field, value, key) in [(&mut ustar.uid, line.uid, &b"uid"[..]), (&mut ustar.gid, line.gid, b"gid")] {
            octal(field, number_or_record(u64::from(value), OCTAL_7, key, &mut records));
        }
        octal(&mut ustar.size, number_or_record(line.size, OCTAL_11, b"size", &mut records));
        match u64::try_from(line.mtime_secs) {
            Ok(secs) => octal(&mut ustar.mtime, number_or_record(secs, OCTAL_11, b"mtime", &mut records)),
            Err(_) => {
                append_record(&mut records, b"mtime", line.mtime_secs.to_string().as_bytes());
                octal(&mut ustar.mtime, 0);
            }
        }
        octal(&mut ustar.dev_major, 0);
        octal(&mut ustar.dev_minor, 0);
    }
    header.set_cksum();
    for (name, value) in xattrs {
        append_record(&mut records, &[b"SCHILY.xattr.", encode_key(name).as_slice()].concat(), value);
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        out.extend_from_slice(&pax_header(&header, line.path, records.len() as u64));
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(header.as_bytes());
    out
}

/// The header of a PAX header. Its name is seen only by readers that do not know PAX.
fn pax_header(entry: &Header, path: &[u8], size: u64) -> [u8; BLOCK] {
    let mut header = Header::new_ustar();
    if let (Some(ustar), Some(of)) = (header.as_ustar_mut(), entry.as_ustar()) {
        let base = path.strip_suffix(b"/").unwrap_or(path).rsplit(|b| *b == b'/').next().unwrap_or_default();
        put_text(&mut ustar.name, &[b"./PaxHeaders/", base].concat());
        ustar.typeflag = [b'x'];
        ustar.mtime = of.mtime;
        octal(&mut ustar.mode, 0o644);
        octal(&mut ustar.uid, 0);
        octal(&mut ustar.gid, 0);
        octal(&mut ustar.size, size);
        octal(&mut ustar.dev_major, 0);
        octal(&mut ustar.dev_minor, 0);
    }
    header.set_cksum();
    *header.as_bytes()
}

/// Prefix and name fields for a path. `None` if it does not fit.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash between the two is not stored, and the name must not be empty.
    let last = path.len() - 1;
    let slash = path[..last].iter().enumerate().filter(|(i, b)| **b == b'/' && *i <= 155).map(|(i, _)| i).next_back()?;
    (path.len() - slash - 1 <= 100 && slash > 0).then(|| (&path[..slash], &path[slash + 1..]))
}

/// The same decision as GNU tar's. PAX cannot hold a name that is not UTF-8, so such a name stays in the plain header.
fn needs_encoding(text: &[u8]) -> bool {
    !text.is_ascii() && std::str::from_utf8(text).is_ok()
}

fn number_or_record(value: u64, max: u64, key: &[u8], records: &mut Vec<u8>) -> u64 {
    if value <= max {
        return value;
    }
    append_record(records, key, value.to_string().as_bytes());
    0
}

/// GNU tar's escapes in keywords.
fn encode_key(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            byte => out.push(*byte),
        }
    }
    out
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// Octal digits that fill the field, and a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    put_text(field, text.as_bytes());
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_where_both_fields_have_room() {
        let of = |parts: &[(char, usize)]| parts.iter().map(|(c, times)| c.to_string().repeat(*times)).collect::<String>();
        let slash = ('/', 1);
        for (path, expected) in [
            (of(&[('n', 100)]), Some((0, 100))),
            (of(&[('n', 101)]), None),
            (of(&[('d', 155), slash, ('n', 100)]), Some((155, 100))),
            (of(&[('d', 156), slash, ('n', 1)]), None),
            (of(&[('d', 50), slash, ('n', 101)]), None),
            (of(&[('d', 1), slash, ('e', 150), slash, ('n', 100)]), Some((152, 100))),
            // A directory's own slash parts nothing.
            (of(&[('n', 100), slash]), None),
            (of(&[('d', 1), slash, ('n', 99), slash]), Some((1, 100))),
        ] {
            let found = split_path(path.as_bytes());
            assert_eq!(found.map(|(prefix, name)| (prefix.len(), name.len())), expected, "{path}");
            let joined = found.map(|(prefix, name)| [prefix, if prefix.is_empty() { b"" } else { b"/" }, name].concat());
            assert!(joined.is_none_or(|joined| joined == path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn names_beyond_ascii_are_said_in_pax_if_they_can_be() {
        assert!(needs_encoding("ä".as_bytes()) && !needs_encoding(b"a") && !needs_encoding(b"\xff"));
    }
}
