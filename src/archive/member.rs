//! Reads a tar stream entry by entry.
//!
//! ```text
//! [L name] [K link] [x records]* header  data, padded to 512      … and two zero blocks at the end
//! ```
//!
//! Field layout and the `ustar` prefix come from the `tar` crate's header types. The walk over the stream is ours: the crate's iterator
//! reads extended headers of any size into memory, splits their values at newlines, and expands holes into zeros. Here [`Limits`] bound
//! the memory, every length is checked before it is used, and what readers understand differently (two sizes, data on a link, a lone zero
//! block) is refused.

use std::io;
use std::io::BufRead;

use tar::Header;

use super::error::{Damage, Error, Part, Refusal, Result};
use super::pax::Pax;
use super::shown::EntryName;
use super::sparse::Extent;
use super::{pax, sparse, xattr};
use crate::archive::pax::Time;

const BLOCK: usize = 512;
/// The largest number of eleven octal digits.
const OCTAL_SIZE_MAX: u64 = 0o777_7777_7777;

/// How much one archive may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries, extended headers not counted.
    pub entries: u64,
    /// Bytes of the uncompressed stream.
    pub stream_bytes: u64,
    /// Apparent size of one file, holes counted.
    pub file_bytes: u64,
    /// The holes of all files together, in bytes.
    pub hole_bytes: u64,
    /// Length of a path or link target in bytes.
    pub path_bytes: usize,
    /// Directories above an entry.
    pub depth: usize,
    /// Size of one extended header or long name in bytes.
    pub extension_bytes: u64,
    /// Extended attributes of one entry.
    pub xattrs: usize,
}

impl Default for Limits {
    /// More than a full desktop system needs, and less than what fills a disk of today unnoticed.
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            stream_bytes: 128 << 30,
            // A file that we could not seal and export need not be imported.
            file_bytes: crate::beneath::FILE_LIMIT_BYTES,
            hole_bytes: crate::beneath::HOLES_LIMIT_BYTES,
            path_bytes: 4000,
            depth: 512,
            extension_bytes: 1 << 20,
            xattrs: 128,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// Another name of an earlier entry. The target is as the archive spells it.
    Hardlink(Vec<u8>),
    /// A symbolic link with its text.
    Symlink(Vec<u8>),
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// One entry of an archive with its extended headers applied. Its path is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, set-id and sticky included.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Owner's name, may be empty. It is never used to restore: names mean something else in each system.
    pub user: Vec<u8>,
    /// Group's name, may be empty. Never used either.
    pub group: Vec<u8>,
    /// Time of last modification.
    pub mtime: Time,
    /// Apparent size in bytes, holes counted.
    pub size: u64,
    /// The parts that the archive holds, if it leaves holes out.
    pub extents: Option<Vec<Extent>>,
    /// As the archive has them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream being read.
#[derive(Debug)]
pub(crate) struct Members<R> {
    input: R,
    limits: Limits,
    offset: u64,
    entries: u64,
    /// Bytes of the current entry that are not read yet: data, then padding.
    data_left: u64,
    padding: u64,
    done: bool,
}

/// The extended headers before an entry.
#[derive(Debug, Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.pax.is_none()
    }
}

impl<R: BufRead> Members<R> {
    /// Starts at the beginning of a tar stream.
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, offset: 0, entries: 0, data_left: 0, padding: 0, done: false }
    }

    /// Bytes of the stream read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to the next entry and skips the rest of the current one. `None` after the end marker.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        if self.done {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let at = self.offset;
            let Some(header) = self.header()? else {
                if !extensions.is_empty() {
                    return Err(Error::Header { offset: at, what: Damage::Orphan });
                }
                self.done = true;
                return Ok(None);
            };
            let damage = |what| Error::Header { offset: at, what };
            let size = unsigned(&header.as_old().size).ok_or(damage(Damage::Number("size")))?;
            match header.as_bytes()[156] {
                b'L' => once(&mut extensions.long_name, self.long_name(size, at)?).map_err(damage)?,
                b'K' => once(&mut extensions.long_link, self.long_name(size, at)?).map_err(damage)?,
                b'x' => {
                    let records = self.extension(size, at)?;
                    once(&mut extensions.pax, Pax::parse(&records).map_err(damage)?).map_err(damage)?;
                }
                b'g' => global(&self.extension(size, at)?).map_err(damage)?,
                // A volume label is the name of the tape. It says nothing about an entry.
                b'V' => self.open_data(size, at)?,
                _ => return self.member(&header, size, extensions, at).map(Some),
            }
            self.skip_rest()?;
        }
    }

    /// Gives the current entry's stored bytes to `sink`, in pieces as they come.
    pub(crate) fn copy_data(&mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.data_left > 0 {
            let want = usize::try_from(self.data_left).unwrap_or(usize::MAX);
            let piece = fill(&mut self.input, self.offset)?;
            if piece.is_empty() {
                return Err(Error::Truncated { offset: self.offset, during: Part::Data });
            }
            let n = piece.len().min(want);
            sink(&piece[..n])?;
            self.consume(n);
            self.data_left -= n as u64;
        }
        Ok(())
    }

    /// Reads the rest of the stream after the end marker: padding to a record, or the file index that pixz appends. It counts towards the
    /// limit.
    pub(crate) fn drain(&mut self) -> Result<()> {
        loop {
            let n = fill(&mut self.input, self.offset)?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
            self.check_stream(0)?;
        }
    }

    fn member(&mut self, header: &Header, header_size: u64, extensions: Extensions, at: u64) -> Result<Member> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::TooManyEntries { limit: self.limits.entries });
        }
        let pax = extensions.pax.unwrap_or_default();
        let path = pax
            .sparse
            .name
            .clone()
            .or(pax.path.clone())
            .or(extensions.long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let refused = |cause| Error::Refused { entry: EntryName::new(&path), cause };
        let stored = stored_size(pax.size, header_size).map_err(refused)?;
        let link = || {
            let short = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            pax.link_path.clone().or(extensions.long_link).or_else(short).unwrap_or_default()
        };
        if !header.as_bytes()[257..].starts_with(b"ustar") {
            return Err(refused(Refusal::V7));
        }
        let byte = header.as_bytes()[156];
        let kind = match byte {
            b'0' | b'7' if path.ends_with(b"/") => return Err(refused(Refusal::FileNamedLikeDirectory)),
            b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' | b'4' => device(header, byte == b'3', at)?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(refused(Refusal::Type(other))),
        };
        if kind != Kind::File && stored > 0 {
            return Err(refused(Refusal::UnexpectedData(stored)));
        }
        let number = |field: &[u8], name| unsigned(field).ok_or(Error::Header { offset: at, what: Damage::Number(name) });
        let old = header.as_old();
        let id = |pax: Option<u64>, field: &[u8], name: &'static str| -> Result<u32> {
            let wide = pax.map_or_else(|| number(field, name), Ok)?;
            // `chown` takes the highest value for "do not change".
            u32::try_from(wide).ok().filter(|id| *id != u32::MAX).ok_or_else(|| refused(Refusal::OutOfRange("owner")))
        };
        let mode = u32::try_from(number(&old.mode, "mode")? & 0o7777).unwrap_or(0);
        let (uid, gid) = (id(pax.uid, &old.uid, "uid")?, id(pax.gid, &old.gid, "gid")?);
        let mtime = match pax.mtime {
            Some(time) => time,
            None => {
                let secs = signed(&old.mtime).ok_or(Error::Header { offset: at, what: Damage::Number("mtime") })?;
                Time { secs, nanos: 0 }
            }
        };
        let user = pax.user.clone().unwrap_or_else(|| header.username_bytes().unwrap_or_default().to_vec());
        let group = pax.group.clone().unwrap_or_else(|| header.groupname_bytes().unwrap_or_default().to_vec());
        let xattrs = xattr::gather(&pax, self.limits.xattrs).map_err(refused)?;
        self.open_data(stored, at)?;
        let (size, extents) = self.extents(header, &pax, stored, &path, at)?;
        if size > self.limits.file_bytes {
            return Err(refused(Refusal::FileTooLarge { size, limit: self.limits.file_bytes }));
        }
        Ok(Member { path, kind, mode, uid, gid, user, group, mtime, size, extents, xattrs })
    }

    /// Apparent size and map of a file with holes. Of any other file the stored size.
    fn extents(&mut self, header: &Header, pax: &Pax, stored: u64, path: &[u8], at: u64) -> Result<(u64, Option<Vec<Extent>>)> {
        let refused = |cause| Error::Refused { entry: EntryName::new(path), cause };
        let real_size = || pax.sparse.real_size.ok_or_else(|| refused(Refusal::SparseMap));
        let (size, extents) = if header.as_bytes()[156] == b'S' {
            self.old_gnu_map(header, at).and_then(|map| map.ok_or_else(|| refused(Refusal::SparseMap)))?
        } else if pax.sparse.major == Some(1) && pax.sparse.minor == Some(0) {
            (real_size()?, self.leading_map(path, at)?)
        } else if pax.sparse.mentioned {
            return Err(refused(Refusal::SparseVersion));
        } else {
            return Ok((stored, None));
        };
        sparse::check(&extents, size, self.data_left).map_err(refused)?;
        Ok((size, Some(extents)))
    }

    /// The map of an old GNU sparse file: four runs in the header, then 21 in each block that follows.
    fn old_gnu_map(&mut self, header: &Header, at: u64) -> Result<Option<(u64, Vec<Extent>)>> {
        let damage = || Error::Header { offset: at, what: Damage::Number("sparse map") };
        let Some(gnu) = header.as_gnu() else { return Ok(None) };
        let mut extents = Vec::new();
        let mut take = |entries: &[tar::GnuSparseHeader]| -> Result<()> {
            for entry in entries.iter().filter(|entry| !entry.is_empty()) {
                let offset = unsigned(&entry.offset).ok_or_else(damage)?;
                extents.push(Extent { offset, len: unsigned(&entry.numbytes).ok_or_else(damage)? });
            }
            if extents.len() > sparse::EXTENTS_MAX {
                return Err(Error::Header { offset: at, what: Damage::ExtensionTooLarge { limit: sparse::EXTENTS_MAX as u64 } });
            }
            Ok(())
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.exact(block.as_mut_bytes(), Part::Extension)?;
            take(&block.sparse)?;
            more = block.is_extended();
        }
        Ok(unsigned(&gnu.realsize).map(|size| (size, extents)))
    }

    /// The map of a version 1.0 sparse file: decimal lines at the start of its data, padded to a block.
    fn leading_map(&mut self, path: &[u8], at: u64) -> Result<Vec<Extent>> {
        let refused = |cause| Error::Refused { entry: EntryName::new(path), cause };
        let mut block = [0; BLOCK];
        let mut used = BLOCK;
        let mut line = Vec::with_capacity(20);
        let mut next = |this: &mut Self| -> Result<u64> {
            line.clear();
            loop {
                if used == BLOCK {
                    if this.data_left < BLOCK as u64 {
                        return Err(refused(Refusal::SparseMap));
                    }
                    this.exact(&mut block, Part::Extension)?;
                    this.data_left -= BLOCK as u64;
                    used = 0;
                }
                let byte = block[used];
                used += 1;
                match byte {
                    b'\n' => return pax::number(&line).ok_or_else(|| refused(Refusal::SparseMap)),
                    _ if line.len() == 20 => return Err(refused(Refusal::SparseMap)),
                    _ => line.push(byte),
                }
            }
        };
        let count = next(self)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= sparse::EXTENTS_MAX);
        let count = count.ok_or_else(|| refused(Refusal::SparseMapTooLarge { limit: sparse::EXTENTS_MAX }))?;
        let mut extents = Vec::new();
        for _ in 0..count {
            extents.push(Extent { offset: next(self)?, len: next(self)? });
        }
        tracing::trace!(at, count, "sparse map before the data");
        Ok(extents)
    }

    /// A header block with a valid checksum. `None` at the end marker.
    fn header(&mut self) -> Result<Option<Header>> {
        self.check_stream(0)?;
        let at = self.offset;
        let mut header = Header::new_old();
        if fill(&mut self.input, at)?.is_empty() {
            return Err(Error::Truncated { offset: at, during: Part::End });
        }
        self.exact(header.as_mut_bytes(), Part::Header)?;
        if is_zero(header.as_bytes()) {
            // The marker is two blocks. A stream that ends after the first has lost nothing.
            if !fill(&mut self.input, self.offset)?.is_empty() {
                let mut second = [0; BLOCK];
                self.exact(&mut second, Part::Header)?;
                if !is_zero(&second) {
                    return Err(Error::Header { offset: at, what: Damage::LoneZeroBlock });
                }
            }
            return Ok(None);
        }
        if !checksum_matches(header.as_bytes()) {
            return Err(Error::Header { offset: at, what: Damage::Checksum });
        }
        Ok(Some(header))
    }

    /// Reads a whole extended header.
    fn extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>> {
        let limit = self.limits.extension_bytes;
        let len = usize::try_from(size).ok().filter(|_| size <= limit);
        let len = len.ok_or(Error::Header { offset: at, what: Damage::ExtensionTooLarge { limit } })?;
        self.open_data(size, at)?;
        // The length was checked against the limit, so it can be allocated at once.
        let mut bytes = vec![0; len];
        self.exact(&mut bytes, Part::Extension)?;
        self.data_left = 0;
        Ok(bytes)
    }

    /// A GNU long name, which ends with a NUL.
    fn long_name(&mut self, size: u64, at: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size, at)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn open_data(&mut self, size: u64, at: u64) -> Result<()> {
        self.check_stream(size)?;
        self.data_left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        tracing::trace!(at, size, "entry");
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<()> {
        self.copy_data(|_| Ok(()))?;
        // Less than a block. It must be there, but need not be zeros.
        let mut padding = [0; BLOCK];
        let len = usize::try_from(self.padding).unwrap_or(0);
        self.exact(&mut padding[..len], Part::Data)?;
        self.padding = 0;
        Ok(())
    }

    fn check_stream(&self, ahead: u64) -> Result<()> {
        let limit = self.limits.stream_bytes;
        if self.offset.saturating_add(ahead) > limit { Err(Error::TooManyBytes { limit }) } else { Ok(()) }
    }

    fn exact(&mut self, mut into: &mut [u8], during: Part) -> Result<()> {
        while !into.is_empty() {
            let piece = fill(&mut self.input, self.offset)?;
            if piece.is_empty() {
                return Err(Error::Truncated { offset: self.offset, during });
            }
            let n = piece.len().min(into.len());
            into[..n].copy_from_slice(&piece[..n]);
            into = &mut into[n..];
            self.consume(n);
        }
        Ok(())
    }

    fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.offset += n as u64;
    }
}

fn fill<R: BufRead>(input: &mut R, offset: u64) -> Result<&[u8]> {
    // The borrow checker does not accept a loop that returns the borrow. The second call costs nothing, since the buffer is filled.
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Read { offset, source }),
        }
    }
    input.fill_buf().map_err(|source| Error::Read { offset, source })
}

fn once<T>(slot: &mut Option<T>, value: T) -> std::result::Result<(), Damage> {
    if slot.replace(value).is_some() { Err(Damage::Repeated) } else { Ok(()) }
}

/// A global header may have a comment (git writes the commit there). Anything else would change the entries after it, so it is refused.
fn global(mut records: &[u8]) -> std::result::Result<(), Damage> {
    while !records.is_empty() {
        let (key, _, rest) = pax::record(records)?;
        if !matches!(key, b"comment" | b"charset" | b"hdrcharset") {
            return Err(Damage::PaxGlobal);
        }
        records = rest;
    }
    Ok(())
}

/// POSIX says that the size in the extended header counts. If the plain header has another size, that is only accepted where writers put
/// a placeholder: zero, or the largest octal number.
fn stored_size(pax: Option<u64>, header: u64) -> std::result::Result<u64, Refusal> {
    match pax {
        Some(pax) if pax != header && header != 0 && header != OCTAL_SIZE_MAX => Err(Refusal::SizeLie { pax, header }),
        Some(pax) => Ok(pax),
        None => Ok(header),
    }
}

fn device(header: &Header, character: bool, at: u64) -> Result<Kind> {
    let damage = || Error::Header { offset: at, what: Damage::Number("device number") };
    let half = |field: &[u8]| unsigned(field).and_then(|n| u32::try_from(n).ok()).ok_or_else(damage);
    let bytes = header.as_bytes();
    let (major, minor) = (half(&bytes[329..337])?, half(&bytes[337..345])?);
    Ok(if character { Kind::CharDevice(major, minor) } else { Kind::BlockDevice(major, minor) })
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|b| *b == 0)
}

/// The sum of all bytes, with spaces in place of the checksum. Some old writers summed signed bytes.
fn checksum_matches(block: &[u8; BLOCK]) -> bool {
    let Some(stored) = signed(&block[148..156]) else { return false };
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned_sum: i64 = others().map(|b| i64::from(*b)).sum();
    let signed_sum: i64 = others().map(|b| i64::from(b.cast_signed())).sum();
    stored == unsigned_sum + 256 || stored == signed_sum + 256
}

fn unsigned(field: &[u8]) -> Option<u64> {
    signed(field).and_then(|n| u64::try_from(n).ok())
}

/// A numeric field: octal digits between blanks, or GNU's base 256 (big-endian two's complement with the top bit set).
fn signed(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // 0x80 begins a positive number, 0xff a negative one. The bit below the flag is the sign.
        let mut value = if first & 0x40 != 0 { i128::from((first | 0x80).cast_signed()) } else { i128::from(first & 0x3f) };
        for byte in &field[1..] {
            value = value.checked_mul(256)? + i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
    if !digits[end..].iter().all(|b| matches!(b, 0 | b' ')) {
        return None;
    }
    digits[..end].iter().try_fold(0_i64, |n, digit| match digit {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_read_goes_on() {
        struct Interrupted(bool);
        impl io::Read for Interrupted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = !self.0;
                if self.0 { Err(io::ErrorKind::Interrupted.into()) } else { b"abc".as_slice().read(buffer) }
            }
        }
        assert_eq!(fill(&mut io::BufReader::new(Interrupted(false)), 0).unwrap(), b"abc");
    }

    #[test]
    fn numbers_in_every_notation() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o777_7777_7777)),
            (b"0000008\0", None),
            (b"12 34\0\0\0", None),
            (b"-0000001", None),
            (&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], Some(8 << 30)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(-1)),
            (&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(signed(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_and_with_fractions() {
        let t = |secs, nanos| Some(Time { secs, nanos });
        for (text, time) in [
            ("0", t(0, 0)),
            ("1700000000.123456789", t(1_700_000_000, 123_456_789)),
            ("1.5", t(1, 500_000_000)),
            ("1.0000000019", t(1, 1)),
            ("-1", t(-1, 0)),
            ("-1.25", t(-2, 750_000_000)),
            ("1.", t(1, 0)),
            ("", None),
            ("1.x", None),
            ("--1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Time::parse(text.as_bytes()), time, "{text}");
        }
    }

    #[test]
    fn two_sizes_must_agree_unless_one_is_a_placeholder() {
        assert_eq!(stored_size(None, 7), Ok(7));
        assert_eq!(stored_size(Some(7), 7), Ok(7));
        assert_eq!(stored_size(Some(7), 0), Ok(7));
        assert_eq!(stored_size(Some(9 << 30), OCTAL_SIZE_MAX), Ok(9 << 30));
        assert_eq!(stored_size(Some(7), 9).unwrap_err().to_string(), "its extended header says 7 bytes and its header 9");
    }
}
