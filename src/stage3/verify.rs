//! Verifies a tarball with the files beside it.
//!
//! ```text
//! stage3-….tar.xz               opened once: the file that was verified is the one that is unpacked
//! stage3-….tar.xz.asc           detached signature
//! stage3-….tar.xz.DIGESTS       clear-signed BLAKE2B and SHA512; or unsigned with a signed .DIGESTS.asc
//! stage3-….tar.xz.sha256        clear-signed SHA256
//! stage3-….tar.xz.CONTENTS.gz   listing; usable if the digests cover it
//! ```
//!
//! At least one signature by a trusted key must cover the tarball, directly or through its digest. All files beside it must agree: one
//! bad file is an error even if another one is good. The lists are parsed only after their signature was verified. The tarball is read
//! once, for all hashes in parallel ([`super::hashing`]).

mod error;
mod sidecars;
#[cfg(test)]
mod tests;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digests::{Algorithm, DigestList, DigestsError};
use super::hashing::{Hasher, hash_all};
use super::keys::KeysFor;
use super::name::StageName;
use super::openpgp;
use super::openpgp::{Over, Pending, Policy, SignatureError, Signer, WantedHash};
use crate::progress::{Event, Observer, Unit};
use sidecars::{Sidecar, Sidecars};

pub(crate) use error::Reason;
pub use error::VerifyError;

#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The present time, in seconds since 1970.
    pub now: i64,
    /// Go on without a trusted signature. The reason is recorded. Digests are checked all the same, and a bad signature stays an error.
    pub allow_unsigned: Option<String>,
    /// Accept a signature whose key has expired since it was made.
    pub accept_expired: bool,
}

impl VerifyOptions {
    pub(super) fn policy(&self) -> Policy {
        Policy { now: self.now, accept_expired: self.accept_expired }
    }
}

/// A check that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    pub file: String,
    /// Such as `signature` or `BLAKE2B`.
    pub what: String,
    /// The file that says what is right.
    pub by: String,
}

/// A tarball that was verified, or that the user allowed without.
#[derive(Debug)]
pub struct Verified {
    pub name: String,
    /// According to its name: `amd64`.
    pub arch: Option<String>,
    /// According to its name: `openrc`.
    pub variant: Option<String>,
    /// When the build was started, according to the name: `20260811T083102Z`.
    pub timestamp: Option<String>,
    /// The file itself, at its beginning. Unpack this one and not the path, which may be another file by now.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-512 in hexadecimal.
    pub sha512: String,
    /// BLAKE2b-512 in hexadecimal.
    pub blake2b: String,
    /// The `.CONTENTS.gz`, if the digests cover it.
    pub contents: Option<PathBuf>,
    /// Who signed. `None` only if the user allowed that.
    pub signer: Option<Signer>,
    /// The user's reason for going on without a trusted signature. `None` if there is one.
    pub allow_unsigned: Option<String>,
    /// The checks that passed, in order.
    pub checks: Vec<Check>,
    /// What the user may want to know: signatures that did not count, files beside it that cover nothing.
    pub notes: Vec<String>,
}

/// Verifies `tarball` with the files beside it.
pub fn verify(
    tarball: &Path,
    trusted: KeysFor<'_>,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Verified, VerifyError> {
    let sidecars = Sidecars::beside(tarball)?;
    Verification::new(tarball, trusted, options)?.run(&sidecars, observer)
}

/// Verifies `data` with one detached signature. Upstream publishes these for tree snapshots (`gentoo-YYYYMMDD.tar.xz.gpgsig`).
pub(crate) fn verify_detached(
    data: &Path,
    signature: &Path,
    trusted: KeysFor<'_>,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Verified, VerifyError> {
    let sidecars = Sidecars::only_signature(signature)?;
    Verification::new(data, trusted, options)?.run(&sidecars, observer)
}

/// Verifies a clear-signed document in memory and returns the signed text.
pub(crate) fn verify_clear_signed(
    name: &str,
    document: &[u8],
    trusted: KeysFor<'_>,
    options: &VerifyOptions,
) -> Result<(String, Signer), VerifyError> {
    let rejected = |reason| VerifyError::Rejected { file: name.to_owned(), reason };
    let cleartext = super::cleartext::Cleartext::parse(document)
        .map_err(|source| rejected(Reason::Cleartext { sidecar: name.to_owned(), source }))?;
    let (signer, _) = openpgp::check_text(cleartext.signature.as_bytes(), &cleartext.signed_bytes(), trusted, options.policy())
        .map_err(|source| rejected(Reason::Signature { sidecar: name.to_owned(), source }))?;
    Ok((cleartext.text, signer))
}

/// Verifies what `reader` has with detached signatures. The same pass feeds `others`, which are returned with the number of bytes.
pub(crate) fn verify_reader(
    signatures: &[u8],
    reader: impl Read,
    others: Vec<Hasher>,
    trusted: KeysFor<'_>,
    options: &VerifyOptions,
) -> io::Result<(Vec<Hasher>, u64, Result<Signer, SignatureError>)> {
    openpgp::check_reader(signatures, reader, others, trusted, options.policy())
}

/// A verification that has begun.
struct Verification<'a> {
    path: &'a Path,
    name: String,
    file: File,
    before: Metadata,
    trusted: KeysFor<'a>,
    options: &'a VerifyOptions,
    signer: Option<Signer>,
    checks: Vec<Check>,
    notes: Vec<String>,
}

/// The signatures in a detached signature file, each with the result so far.
type Detached<'k> = Vec<Result<Pending<'k>, SignatureError>>;

/// A list of digests and the name of the file it is from.
struct Listed {
    sidecar: String,
    list: DigestList,
}

impl<'a> Verification<'a> {
    fn new(path: &'a Path, trusted: KeysFor<'a>, options: &'a VerifyOptions) -> Result<Self, VerifyError> {
        let open = |source| VerifyError::Open { path: path.to_owned(), source };
        // Without O_NONBLOCK, opening a FIFO would wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(open)?;
        let before = file.metadata().map_err(open)?;
        if !before.is_file() {
            return Err(VerifyError::NotRegular { path: path.to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { path, name, file, before, trusted, options, signer: None, checks: Vec::new(), notes: Vec::new() })
    }

    fn run(mut self, sidecars: &Sidecars, observer: &dyn Observer) -> Result<Verified, VerifyError> {
        let trusted = self.trusted;
        // Lists first: if no trusted key signed anything, the tarball need not be read at all.
        let mut lists = Vec::new();
        for sidecar in &sidecars.lists {
            lists.push(self.read_list(sidecar)?);
        }
        let detached = match &sidecars.signature {
            Some(sidecar) => self.read_detached(sidecar, trusted)?,
            None => Vec::new(),
        };
        let pending_good = detached.iter().any(Result::is_ok);
        if self.signer.is_none() && !pending_good && self.options.allow_unsigned.is_none() {
            return Err(self.rejected(Reason::Unsigned { name: self.name.clone() }));
        }

        let (hashers, wanted) = self.hash(&detached, &lists, observer)?;
        self.check_digests(&lists, &hashers)?;
        if let Some(sidecar) = &sidecars.signature {
            self.finish_detached(sidecar, &detached, &wanted, &hashers)?;
        }
        // After the last read of the tarball and before anybody uses it. A writer could have changed it while we hashed.
        self.check_unchanged()?;
        let contents = self.check_contents(sidecars.contents.as_deref(), &lists)?;
        self.finish(&hashers, contents, observer)
    }

    fn finish(mut self, hashers: &[Hasher], contents: Option<PathBuf>, observer: &dyn Observer) -> Result<Verified, VerifyError> {
        if self.signer.is_none() && self.options.allow_unsigned.is_none() {
            return Err(self.rejected(Reason::Unsigned { name: self.name.clone() }));
        }
        self.file.seek(SeekFrom::Start(0)).map_err(|source| VerifyError::Read { path: self.path.to_owned(), source })?;
        for note in &self.notes {
            observer.event(&Event::Note(note));
        }
        if let Some(expired) = self.signer.as_ref().and_then(|signer| signer.expired) {
            let text = format!("signature good, key expired on {}; accepted because of `--allow-expired`", openpgp::Day(expired));
            observer.event(&Event::Warning(&text));
        }
        let parts = StageName::parse(&self.name).ok();
        let allow_unsigned = self.options.allow_unsigned.clone().filter(|_| self.signer.is_none());
        Ok(Verified {
            arch: parts.as_ref().and_then(|parts| parts.arch.clone()),
            variant: parts.as_ref().and_then(|parts| parts.variant.clone()),
            timestamp: parts.and_then(|parts| parts.timestamp),
            name: self.name,
            file: self.file,
            size: self.before.size(),
            sha512: hashers[0].hex(),
            blake2b: hashers[1].hex(),
            contents,
            signer: self.signer,
            allow_unsigned,
            checks: self.checks,
            notes: self.notes,
        })
    }

    /// Verifies the signature of a list of digests, then reads it.
    fn read_list(&mut self, sidecar: &Sidecar) -> Result<Listed, VerifyError> {
        let signed =
            sidecar.signed_text().map_err(|source| self.rejected(Reason::Cleartext { sidecar: sidecar.name.clone(), source }))?;
        let text = if let Some(signed) = signed {
            let policy = self.options.policy();
            let outcome = openpgp::check_bytes(&signed.signature, &signed.bytes, signed.over, self.trusted, policy);
            self.take_signer(&sidecar.name, &sidecar.name, outcome)?;
            signed.text
        } else {
            self.notes.push(format!("`{}` is not signed: its digests are compared, but prove nothing", sidecar.name));
            sidecar.plain_text().map_err(|source| self.rejected(Reason::Cleartext { sidecar: sidecar.name.clone(), source }))?
        };
        let unmarked = sidecar.name.ends_with(".sha256").then_some(Algorithm::Sha256);
        let list = DigestList::parse(&text, unmarked).map_err(|source| self.bad_list(&sidecar.name, source))?;
        Ok(Listed { sidecar: sidecar.name.clone(), list })
    }

    /// Reads a detached signature and checks what can be checked without the data.
    fn read_detached<'k>(&mut self, sidecar: &Sidecar, trusted: KeysFor<'k>) -> Result<Detached<'k>, VerifyError> {
        let signatures = openpgp::read_signatures(&sidecar.bytes)
            .map_err(|source| self.rejected(Reason::Signature { sidecar: sidecar.name.clone(), source }))?;
        let detached: Detached<'k> =
            signatures.iter().map(|signature| openpgp::prepare(signature, Over::File, trusted, self.options.now)).collect();
        if !detached.iter().any(Result::is_ok) {
            let failures = detached.iter().filter_map(|outcome| outcome.as_ref().err().cloned()).map(Err);
            self.take_signer(&sidecar.name, &self.name.clone(), openpgp::best(failures))?;
        }
        Ok(detached)
    }

    fn finish_detached(
        &mut self,
        sidecar: &Sidecar,
        detached: &Detached<'_>,
        wanted: &[WantedHash],
        hashers: &[Hasher],
    ) -> Result<(), VerifyError> {
        if !detached.iter().any(Result::is_ok) {
            return Ok(());
        }
        let policy = self.options.policy();
        let outcomes = detached.iter().map(|outcome| {
            let pending = outcome.as_ref().map_err(Clone::clone)?;
            let index = wanted.iter().position(|wanted| *wanted == pending.hash()).ok_or(SignatureError::Malformed)?;
            pending.finish(&hashers[index], policy)
        });
        let outcome = openpgp::best(outcomes);
        if matches!(outcome, Err(SignatureError::Bad { .. })) && self.looks_truncated()? {
            return Err(self.rejected(Reason::Truncated { name: self.name.clone(), by: sidecar.name.clone() }));
        }
        self.take_signer(&sidecar.name, &self.name.clone(), outcome)
    }

    /// Notes what became of a signature. With `allow_unsigned`, only proof of tampering stops.
    fn take_signer(
        &mut self,
        sidecar: &str,
        file: &str,
        outcome: Result<(Signer, Vec<SignatureError>), SignatureError>,
    ) -> Result<(), VerifyError> {
        match outcome {
            Ok((signer, others)) => {
                tracing::debug!(sidecar, signer = %signer.primary, "good signature");
                self.checks.push(Check { file: file.to_owned(), what: "signature".to_owned(), by: sidecar.to_owned() });
                self.notes.extend(others.iter().map(|other| format!("another signature in `{sidecar}` does not count: {other}")));
                self.signer = self.signer.take().or(Some(signer));
                Ok(())
            }
            Err(source) => {
                if self.options.allow_unsigned.is_none() || source.is_tampering() {
                    return Err(self.rejected(Reason::Signature { sidecar: sidecar.to_owned(), source }));
                }
                self.notes.push(format!("the signature in `{sidecar}` does not count: {source}"));
                Ok(())
            }
        }
    }

    /// Reads the file once. The first two hashes are SHA-512 and BLAKE2b; the second list says which is which.
    fn hash(
        &self,
        detached: &Detached<'_>,
        lists: &[Listed],
        observer: &dyn Observer,
    ) -> Result<(Vec<Hasher>, Vec<WantedHash>), VerifyError> {
        use pgp::crypto::hash::HashAlgorithm;
        let plain = |algorithm| WantedHash { algorithm, salt: Vec::new() };
        // BLAKE2b is no OpenPGP hash: its place is taken by a value that no signature can want.
        let mut wanted = vec![plain(HashAlgorithm::Sha512), plain(HashAlgorithm::None)];
        let mut hashers = vec![Hasher::sha512(), Hasher::blake2b()];
        let of_list = |listed: &Listed| listed.list.of(&self.name).is_ok_and(|digests| digests.contains_key(&Algorithm::Sha256));
        let sha256 = lists.iter().any(of_list).then(|| plain(HashAlgorithm::Sha256));
        for hash in sha256.into_iter().chain(detached.iter().flatten().map(Pending::hash)) {
            if let Some(hasher) = hash.hasher().filter(|_| !wanted.contains(&hash)) {
                wanted.push(hash);
                hashers.push(hasher);
            }
        }
        observer.event(&Event::Begin { what: "verifying", total: Some(self.before.size()), unit: Unit::Bytes });
        let outcome = hash_all(&self.file, hashers, |bytes| observer.event(&Event::Advance(bytes)));
        observer.event(&Event::End);
        let (hashers, size) = outcome.map_err(|source| VerifyError::Read { path: self.path.to_owned(), source })?;
        if size != self.before.size() {
            return Err(VerifyError::Changed { path: self.path.to_owned() });
        }
        Ok((hashers, wanted))
    }

    /// Compares the tarball with the lists. One that does not cover it is an error, so whoever signed a list signed the tarball.
    fn check_digests(&mut self, lists: &[Listed], hashers: &[Hasher]) -> Result<(), VerifyError> {
        for listed in lists {
            let digests = listed.list.of(&self.name).map_err(|source| self.bad_list(&listed.sidecar, source))?;
            for (algorithm, expected) in digests {
                let actual = hashers.iter().find(|hasher| kind(hasher) == Some(*algorithm)).map(Hasher::hex).unwrap_or_default();
                if actual != *expected {
                    return Err(self.digest_mismatch(&self.name.clone(), *algorithm, &listed.sidecar, true)?);
                }
                self.passed(&self.name.clone(), algorithm.name(), &listed.sidecar);
            }
        }
        Ok(())
    }

    /// Compares the listing with the lists that mention it.
    fn check_contents(&mut self, contents: Option<&Path>, lists: &[Listed]) -> Result<Option<PathBuf>, VerifyError> {
        let Some(path) = contents else { return Ok(None) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut covered = false;
        for listed in lists {
            let Ok(digests) = listed.list.of(&name) else { continue };
            let bytes = sidecars::read_limited(path, sidecars::MAX_CONTENTS_BYTES)?;
            for (algorithm, expected) in digests {
                let mut hasher = match algorithm {
                    Algorithm::Blake2b => Hasher::blake2b(),
                    Algorithm::Sha512 => Hasher::sha512(),
                    Algorithm::Sha256 => Hasher::sha256(),
                };
                hasher.update(&bytes);
                if hasher.hex() != *expected {
                    return Err(self.digest_mismatch(&name, *algorithm, &listed.sidecar, false)?);
                }
                self.passed(&name, algorithm.name(), &listed.sidecar);
                covered = true;
            }
        }
        if !covered {
            self.notes.push(format!("`{name}` is ignored: no list of digests covers it"));
        }
        Ok(covered.then(|| path.to_owned()))
    }

    fn passed(&mut self, file: &str, what: &str, by: &str) {
        self.checks.push(Check { file: file.to_owned(), what: what.to_owned(), by: by.to_owned() });
    }

    fn digest_mismatch(&self, file: &str, algorithm: Algorithm, sidecar: &str, tarball: bool) -> Result<VerifyError, VerifyError> {
        if tarball && self.looks_truncated()? {
            return Ok(self.rejected(Reason::Truncated { name: file.to_owned(), by: sidecar.to_owned() }));
        }
        Ok(self.rejected(Reason::Digest { name: file.to_owned(), algorithm, sidecar: sidecar.to_owned() }))
    }

    /// Whether the file is named `.xz` but does not end like an xz stream (`YZ`). Then the download was interrupted.
    fn looks_truncated(&self) -> Result<bool, VerifyError> {
        if Path::new(&self.name).extension().is_none_or(|ending| ending != "xz") {
            return Ok(false);
        }
        let read = |source| VerifyError::Read { path: self.path.to_owned(), source };
        if self.before.size() < 2 {
            return Ok(true);
        }
        let mut end = [0; 2];
        let mut file = &self.file;
        file.seek(SeekFrom::End(-2)).map_err(read)?;
        file.read_exact(&mut end).map_err(read)?;
        Ok(end != *b"YZ")
    }

    fn check_unchanged(&self) -> Result<(), VerifyError> {
        let after = self.file.metadata().map_err(|source| VerifyError::Read { path: self.path.to_owned(), source })?;
        let state = |metadata: &Metadata| {
            (metadata.size(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
        };
        if state(&self.before) == state(&after) { Ok(()) } else { Err(VerifyError::Changed { path: self.path.to_owned() }) }
    }

    fn bad_list(&self, sidecar: &str, source: DigestsError) -> VerifyError {
        self.rejected(Reason::List { sidecar: sidecar.to_owned(), source })
    }

    fn rejected(&self, reason: Reason) -> VerifyError {
        VerifyError::Rejected { file: self.name.clone(), reason }
    }
}

fn kind(hasher: &Hasher) -> Option<Algorithm> {
    match hasher {
        Hasher::Blake2b(_) => Some(Algorithm::Blake2b),
        Hasher::Sha512(_) => Some(Algorithm::Sha512),
        Hasher::Sha256(_) => Some(Algorithm::Sha256),
        Hasher::Sha224(_) | Hasher::Sha384(_) | Hasher::Md5(_) | Hasher::Sha1(_) => None,
    }
}
