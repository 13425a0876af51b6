//! Looks into a binary package, for what would keep Portage from installing it.
//!
//! ```text
//! NAME.gpkg.tar       a tar of:
//!   PF/gpkg-1
//!   PF/metadata.tar.zst
//!   PF/image.tar.zst      the installed files
//!   PF/Manifest
//! ```
//!
//! Portage packs devices and FIFOs but refuses to unpack them (`portage/gpkg.py`, `_check_member`). In a pool such a package would fail
//! every later build that uses it, so it is not published; then the package is compiled each time, which works.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use rustix::fs::Stat;
use tar::{Archive, EntryType};

/// No package unpacks to so much; this stops archive bombs.
const MAX_UNPACKED_BYTES: u64 = 64 << 30;
/// zstd's largest window; `BINPKG_COMPRESS_FLAGS=--long=31` needs it.
const MAX_WINDOW_LOG: u32 = 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing wrong was found, or the format is not one that we look into.
    Fine,
    /// It contains a device or FIFO.
    Devices,
    /// It is damaged or truncated.
    Broken,
}

/// For so long a package is examined even if the user wants to stop: finished packages should not be lost.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// Recognises an unchanged file: device, inode, size, and change time.
type Stamp = (u64, u64, i64, i64, u64);

/// Examines packages, rejected ones only once. Their unpacked size is the session's choice, so repeating it would be a way to keep us
/// busy.
#[derive(Debug)]
pub(crate) struct Examiner {
    refused: RefCell<BTreeSet<Stamp>>,
    stop: fn() -> bool,
}

impl Default for Examiner {
    fn default() -> Self {
        Self::new(|| false)
    }
}

impl Examiner {
    /// `stop`: whether to give up on a package that takes long.
    pub(crate) fn new(stop: fn() -> bool) -> Self {
        Self { refused: RefCell::default(), stop }
    }

    pub(super) fn examine(&self, file: &File, stat: &Stat, path: &str) -> io::Result<Contents> {
        #[expect(clippy::useless_conversion, reason = "their types differ between architectures")]
        let stamp = (stat.st_dev.into(), stat.st_ino.into(), stat.st_size.into(), stat.st_ctime.into(), stat.st_ctime_nsec.into());
        if self.refused.borrow().contains(&stamp) {
            return Ok(Contents::Broken);
        }
        let found = examine(file, path, self.stop)?;
        if found == Contents::Broken && !(self.stop)() {
            self.refused.borrow_mut().insert(stamp);
        }
        Ok(found)
    }
}

/// A reader that fails once it is to stop.
struct Stoppable<R> {
    inner: R,
    since: Instant,
    stop: fn() -> bool,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.elapsed() > UNDISTURBED && (self.stop)() {
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

/// Examines the package `file`, called `path`. Resets its offset to the start.
fn examine(file: &File, path: &str, stop: fn() -> bool) -> io::Result<Contents> {
    if !path.ends_with(".gpkg.tar") {
        return Ok(Contents::Fine);
    }
    let found = examine_gpkg(file, stop);
    let mut file = file;
    file.rewind()?;
    match found {
        Ok(found) => Ok(found),
        // A failed read has an errno; errors of the decoder or the tar reader mean a damaged package.
        Err(e) if e.raw_os_error().is_some() => Err(e),
        Err(error) => {
            tracing::debug!(path, %error, "not a binary package that could be read");
            Ok(Contents::Broken)
        }
    }
}

fn examine_gpkg(file: &File, stop: fn() -> bool) -> io::Result<Contents> {
    let mut outer = Archive::new(file);
    // Raw entries: otherwise the reader would load a hostile extended header into memory.
    for entry in outer.entries()?.raw(true) {
        let entry = entry?;
        let name = entry.path_bytes().into_owned();
        let Some(at) = name.windows(10).position(|w| w == b"/image.tar") else { continue };
        return match unpacked(&name[at + 10..], entry)? {
            Some(image) => examine_image(image, stop),
            None => Ok(Contents::Fine),
        };
    }
    Ok(Contents::Broken)
}

/// A part of a package, by the end of its name after `.tar`. `None`: a compression that our sessions do not use (bzip2, lz4, lzip, lzop).
pub(super) fn unpacked<'r>(extension: &[u8], part: impl Read + 'r) -> io::Result<Option<Box<dyn Read + 'r>>> {
    Ok(Some(match extension {
        b"" => Box::new(part),
        b".zst" => {
            let mut decoder = zstd::stream::read::Decoder::new(part)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
        b".gz" => Box::new(flate2::read::MultiGzDecoder::new(part)),
        b".xz" => Box::new(liblzma::read::XzDecoder::new_multi_decoder(part)),
        _ => return Ok(None),
    }))
}

fn examine_image(image: impl Read, stop: fn() -> bool) -> io::Result<Contents> {
    let image = Stoppable { inner: image, since: Instant::now(), stop };
    let mut archive = Archive::new(image.take(MAX_UNPACKED_BYTES));
    for entry in archive.entries()?.raw(true) {
        if matches!(entry?.header().entry_type(), EntryType::Char | EntryType::Block | EntryType::Fifo) {
            return Ok(Contents::Devices);
        }
    }
    Ok(Contents::Fine)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    fn image(kinds: &[EntryType]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (n, kind) in kinds.iter().enumerate() {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_size(0);
            tar.append_data(&mut header, format!("image/{n}"), io::empty()).expect("append");
        }
        tar.into_inner().expect("tar")
    }

    fn gpkg_with(name: &str, image: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in [("gpkg-1", &b""[..]), ("metadata.tar.zst", b"x"), (name, image), ("Manifest", b"")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, format!("hello-2.10/{name}"), data).expect("append");
        }
        tar.into_inner().expect("tar")
    }

    /// A package that Portage would install, told apart by `mark`.
    pub(in super::super) fn package(mark: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(mark.len() as u64);
        tar.append_data(&mut header, "image/mark", mark.as_bytes()).expect("append");
        gpkg_with("image.tar", &tar.into_inner().expect("tar"))
    }

    fn found(bytes: &[u8]) -> Contents {
        let mut file = tempfile::tempfile().expect("tempfile");
        file.write_all(bytes).expect("write");
        file.rewind().expect("rewind");
        let found = examine(&file, "app-misc/hello/hello-2.10-1.gpkg.tar", || false).expect("readable");
        assert_eq!(file.stream_position().expect("position"), 0);
        found
    }

    #[test]
    fn what_was_refused_is_not_unpacked_again_and_what_takes_long_ends_when_asked() {
        let mut file = tempfile::tempfile().expect("tempfile");
        file.write_all(&gpkg_with("image.tar.gz", b"no gzip")).expect("write");
        let stat = rustix::fs::fstat(&file).expect("stat");
        let examiner = Examiner::default();
        for _ in 0..2 {
            file.rewind().expect("rewind");
            assert_eq!(examiner.examine(&file, &stat, "a/b/b-1-1.gpkg.tar").expect("readable"), Contents::Broken);
            assert_eq!(examiner.refused.borrow().len(), 1);
        }
        let since = Instant::now().checked_sub(2 * UNDISTURBED).expect("a clock that runs");
        let mut endless = Stoppable { inner: io::repeat(0), since, stop: || true };
        assert_eq!(io::copy(&mut endless, &mut io::sink()).expect_err("stopped").to_string(), "stopped");
    }

    #[test]
    fn devices_are_found_whatever_the_compression() {
        let plain = image(&[EntryType::Directory, EntryType::Regular, EntryType::Link]);
        for kind in [EntryType::Fifo, EntryType::Char, EntryType::Block] {
            let devices = image(&[EntryType::Regular, kind]);
            for (bytes, want) in [(&plain, Contents::Fine), (&devices, Contents::Devices)] {
                assert_eq!(found(&gpkg_with("image.tar", bytes)), want);
                assert_eq!(found(&gpkg_with("image.tar.zst", &zstd::encode_all(&bytes[..], 1).expect("zstd"))), want);
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gz.write_all(bytes).expect("gzip");
                assert_eq!(found(&gpkg_with("image.tar.gz", &gz.finish().expect("gzip"))), want);
                let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
                xz.write_all(bytes).expect("xz");
                assert_eq!(found(&gpkg_with("image.tar.xz", &xz.finish().expect("xz"))), want);
            }
        }
    }

    #[test]
    fn what_is_no_package_is_broken() {
        let whole = zstd::encode_all(&image(&[EntryType::Regular; 40])[..], 1).expect("zstd");
        assert_eq!(found(b"no tar at all"), Contents::Broken);
        assert_eq!(found(&gpkg_with("other", b"")), Contents::Broken);
        assert_eq!(found(&gpkg_with("image.tar.zst", b"no zstd")), Contents::Broken);
        assert_eq!(found(&gpkg_with("image.tar.zst", &whole[..whole.len() / 2])), Contents::Broken);
    }
}
