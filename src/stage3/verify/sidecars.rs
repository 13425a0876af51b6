//! The files beside a tarball: finds and reads them, with limits.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::VerifyError;
use crate::stage3::cleartext::{Cleartext, CleartextError, is_clear_signed};
use crate::stage3::openpgp::Over;

/// Real signatures and lists of digests have a few kilobytes.
const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// A listing of 100,000 files has about two megabytes.
pub(super) const MAX_CONTENTS_BYTES: u64 = 256 << 20;

/// A file beside the tarball.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// Its name, without directories.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// A detached signature of this same file (`.DIGESTS.asc` in older releases).
    signature: Option<Vec<u8>>,
}

/// Text with a signature that is not verified yet.
#[derive(Debug)]
pub(super) struct SignedText {
    pub(super) text: String,
    /// What the signature covers.
    pub(super) bytes: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) over: Over,
}

/// All files beside a tarball.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    /// The detached signature of the tarball.
    pub(super) signature: Option<Sidecar>,
    /// Lists of digests.
    pub(super) lists: Vec<Sidecar>,
    /// The listing, not yet read.
    pub(super) contents: Option<PathBuf>,
}

impl Sidecars {
    /// Looks beside `tarball` for `NAME.tar.xz.ENDING`, and for `NAME.ENDING`, which upstream used for a while.
    pub(super) fn beside(tarball: &Path) -> Result<Self, VerifyError> {
        let mut found = Self { signature: read(&with_ending(tarball, ".asc"))?, ..Self::default() };
        for ending in [".DIGESTS", ".sha256"] {
            for base in bases(tarball) {
                let mut list = read(&with_ending(&base, ending))?;
                let apart = read(&with_ending(&base, &format!("{ending}.asc")))?;
                match (&mut list, apart) {
                    // In older releases `.DIGESTS.asc` is a clear-signed copy of `.DIGESTS`. The two must agree like all lists.
                    (_, Some(copy)) if is_clear_signed(&copy.bytes) => found.lists.push(copy),
                    (Some(list), Some(signature)) => list.signature = Some(signature.bytes),
                    _ => {}
                }
                found.lists.extend(list);
            }
        }
        found.contents =
            bases(tarball).into_iter().map(|base| with_ending(&base, ".CONTENTS.gz")).find(|path| path.symlink_metadata().is_ok());
        Ok(found)
    }

    /// Only one detached signature.
    pub(super) fn only_signature(path: &Path) -> Result<Self, VerifyError> {
        let signature =
            read(path)?.ok_or_else(|| VerifyError::Open { path: path.to_owned(), source: ErrorKind::NotFound.into() })?;
        Ok(Self { signature: Some(signature), ..Self::default() })
    }
}

impl Sidecar {
    /// The text and its signature. `None` if it has no signature.
    pub(super) fn signed_text(&self) -> Result<Option<SignedText>, CleartextError> {
        if is_clear_signed(&self.bytes) {
            let cleartext = Cleartext::parse(&self.bytes)?;
            let bytes = cleartext.signed_bytes();
            let signature = cleartext.signature.into_bytes();
            return Ok(Some(SignedText { text: cleartext.text, bytes, signature, over: Over::Text }));
        }
        let Some(signature) = self.signature.clone() else { return Ok(None) };
        Ok(Some(SignedText { text: self.plain_text()?, bytes: self.bytes.clone(), signature, over: Over::File }))
    }

    /// The text without any signature.
    pub(super) fn plain_text(&self) -> Result<String, CleartextError> {
        String::from_utf8(self.bytes.clone()).map_err(|_| CleartextError::Encoding)
    }
}

/// The tarball's path, and the same without `.tar.*`.
fn bases(tarball: &Path) -> Vec<PathBuf> {
    let mut bases = vec![tarball.to_owned()];
    let name = tarball.file_name().unwrap_or_default().to_string_lossy();
    if let Some((stem, _)) = name.rsplit_once(".tar.") {
        bases.push(tarball.with_file_name(stem));
    }
    bases
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<Option<Sidecar>, VerifyError> {
    match read_limited(path, MAX_SIDECAR_BYTES) {
        Ok(bytes) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Some(Sidecar { name, bytes, signature: None }))
        }
        Err(VerifyError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a regular file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, VerifyError> {
    let open = |source| VerifyError::Open { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(VerifyError::NotRegular { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| VerifyError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(VerifyError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
