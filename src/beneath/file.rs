//! Regular files: reading with a limit, and copies that keep holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::error::{Error, Result};

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Plain {
    /// The file, at its beginning.
    pub file: File,
    /// Its status when it was opened. The size may change while it is read.
    pub stat: Stat,
    shown: PathBuf,
}

impl Plain {
    /// From an open file. Everything but a regular file is refused. `shown` is its name in messages.
    pub fn new(fd: OwnedFd, shown: impl Into<PathBuf>) -> Result<Self> {
        let shown = shown.into();
        let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::io("examine", &shown, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotRegular { path: shown });
        }
        Ok(Self { file: File::from(fd), stat, shown })
    }

    /// Its size when it was opened, bytes.
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// All of it, at most `limit_bytes`. The size in `stat` is checked first, so that a hole of terabytes costs nothing.
    pub fn read(mut self, limit_bytes: u64) -> Result<Vec<u8>> {
        self.check_size(limit_bytes)?;
        let mut contents = Vec::new();
        // Read up to the limit and not up to that size: the file may grow while it is read.
        (&mut self.file).take(limit_bytes + 1).read_to_end(&mut contents).map_err(|error| Error::io("read", &self.shown, error))?;
        if contents.len() as u64 > limit_bytes {
            return Err(Error::TooBig { path: self.shown, limit_bytes });
        }
        Ok(contents)
    }

    /// Fails if it is larger than `limit_bytes`.
    pub fn check_size(&self, limit_bytes: u64) -> Result<()> {
        if self.size() > limit_bytes { Err(Error::TooBig { path: self.shown.clone(), limit_bytes }) } else { Ok(()) }
    }

    pub fn shown(&self) -> &Path {
        &self.shown
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// How large a single file of a layer or tree may be, bytes.
pub(crate) const FILE_LIMIT_BYTES: u64 = 64 << 30;
/// How much of the files of one layer or tree may be holes, bytes.
pub(crate) const HOLES_LIMIT_BYTES: u64 = 8 << 30;
/// If a file occupies this much less than its size, we look for holes. Compression of the file system makes smaller differences.
const WORTH_ASKING_BYTES: u64 = 1 << 20;

/// Limits what reading a whole tree may cost. A hole costs nothing to make, but hashing or packing it takes as long as data: an hour for
/// one of 4 TiB. The disk limits real data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    holes_left_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { holes_left_bytes: HOLES_LIMIT_BYTES }
    }
}

impl Budget {
    /// Refuses a file that is too large, or whose holes are too much for the tree. Called before the file is read.
    pub(crate) fn admit(&mut self, file: &Plain) -> Result<()> {
        file.check_size(FILE_LIMIT_BYTES)?;
        let size = file.size();
        if !may_have_holes(&file.stat) {
            return Ok(());
        }
        let failed = |error: io::Error| Error::io("read", &file.shown, error);
        let mut holes = size;
        for extent in extents(file.as_fd(), size) {
            let Range { start, end } = extent.map_err(failed)?;
            holes -= end - start;
        }
        (&file.file).rewind().map_err(failed)?;
        self.holes_left_bytes = self
            .holes_left_bytes
            .checked_sub(holes)
            .ok_or_else(|| Error::Holes { path: file.shown.clone(), limit_bytes: HOLES_LIMIT_BYTES })?;
        Ok(())
    }
}

/// Whether a file occupies so much less than its size that we have to look for holes.
pub(crate) fn may_have_holes(stat: &Stat) -> bool {
    // `st_blocks` counts 512 bytes, whatever the file system's block size, see `stat(3type)`.
    let occupied = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    occupied.saturating_add(WORTH_ASKING_BYTES) < u64::try_from(stat.st_size).unwrap_or(0)
}

/// The parts of the first `size` bytes of a file that hold data. Between them are holes, which read as zeros. A file system without holes
/// reports one part.
pub(crate) fn extents(file: BorrowedFd<'_>, size: u64) -> impl Iterator<Item = io::Result<Range<u64>>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= size {
            return None;
        }
        match next_extent(file, at, size) {
            Ok(Some(found)) => {
                at = found.end;
                Some(Ok(found))
            }
            Ok(None) => {
                at = size;
                None
            }
            Err(errno) => {
                at = size;
                Some(Err(errno.into()))
            }
        }
    })
}

fn next_extent(file: BorrowedFd<'_>, at: u64, size: u64) -> std::result::Result<Option<Range<u64>>, Errno> {
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) => start,
        // There is only a hole up to the end.
        Err(Errno::NXIO) => return Ok(None),
        // The file system does not implement SEEK_DATA. Then everything counts as data.
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok(Some(at..size)),
        Err(errno) => return Err(errno),
    };
    if start >= size {
        return Ok(None);
    }
    let end = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        // The file became shorter meanwhile.
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // An empty part means that the file changes under us. Without this check the loop would never end.
    Ok((end > start).then_some(start..end))
}

/// Bytes that are compared at once.
const BLOCK_BYTES: usize = 128 << 10;

/// Whether two files hold the same bytes. Parts that are holes in both are not read.
pub(crate) fn same_contents(one: &Plain, other: &Plain) -> Result<bool> {
    let size = one.size();
    if size != other.size() {
        return Ok(false);
    }
    let (mut here, mut there) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut at = 0;
    loop {
        let next = |file: &Plain| next_extent(file.as_fd(), at, size).map_err(|errno| Error::io("read", &file.shown, errno));
        let Range { start, end } = match (next(one)?, next(other)?) {
            (None, None) => return Ok(true),
            (Some(extent), None) | (None, Some(extent)) => extent,
            // The later part may begin before this one ends. The next round continues inside it.
            (Some(first), Some(second)) => {
                if first.start <= second.start {
                    first
                } else {
                    second
                }
            }
        };
        at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let (n, m) = (read_at(one, &mut here[..wanted], at)?, read_at(other, &mut there[..wanted], at)?);
            if n != m || here[..n] != there[..m] {
                return Ok(false);
            }
            if n < wanted {
                // Both files became shorter meanwhile.
                return Ok(true);
            }
            at += n as u64;
        }
    }
}

/// Fills `buffer` from a position. Stops early at the end of the file.
fn read_at(file: &Plain, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", &file.shown, error)),
        }
    }
    Ok(filled)
}

/// Copies the contents of `from` into the empty file `to` and keeps the holes. It copies the size that the file had when it was opened.
pub(crate) fn copy_plain(from: &Plain, to: &File) -> Result<()> {
    let failed = |error: io::Error| Error::io("copy", &from.shown, error);
    let mut out = to;
    for extent in extents(from.as_fd(), from.size()) {
        let Range { start, end } = extent.map_err(failed)?;
        let mut data = &from.file;
        data.seek(SeekFrom::Start(start)).map_err(failed)?;
        out.seek(SeekFrom::Start(start)).map_err(failed)?;
        io::copy(&mut data.take(end - start), &mut out).map_err(failed)?;
    }
    to.set_len(from.size()).map_err(failed)
}
