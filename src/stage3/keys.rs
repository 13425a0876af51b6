//! Which keys count: pinned fingerprints and public keys.
//!
//! ```text
//! config/keys/trusted        FINGERPRINT [PURPOSE…]: a primary key and what it counts for, all if nothing is said; `#` begins a comment
//! config/keys/*.asc, *.gpg   public keys, armoured or binary, any number in a file; being here does not make one trusted
//! ```
//!
//! Gentoo's own keys are pinned without being listed, each for what Gentoo uses it for. So their public keys count as soon as they are
//! imported. A line in `trusted` can add purposes to them, but takes none away. All files here are written atomically, and each function
//! that writes returns what it wrote.

mod purpose;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::certificate::{Certificate, CertificateError, algorithm_name};
use super::fingerprint::{Fingerprint, NotAFingerprint};

pub use purpose::{KeysFor, Purpose};
pub(crate) use purpose::{NotAPurpose, Purposes};
pub(crate) use store::{Change, Trust, import, remove, trust};

pub(crate) use store::store_certificates;

/// A larger key file is refused. The keys of all Gentoo developers have a third of this.
const MAX_KEY_FILE_BYTES: u64 = 16 << 20;

/// A fingerprint that is trusted without being listed in `trusted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinKey {
    pub fingerprint: &'static str,
    /// The signing subkey in use. With it a signature can be attributed before the public key is imported.
    pub subkey: Option<&'static str>,
    /// The address whose web key directory has the public key. `None` if the key is no longer in use.
    pub address: Option<&'static str>,
    /// What its signatures count for.
    pub purposes: &'static [Purpose],
    /// Whose it is.
    pub comment: &'static str,
}

/// Gentoo's keys, as published on <https://www.gentoo.org/downloads/signatures/>. The key of weekly releases signs binary packages, too.
pub const GENTOO: &[BuiltinKey] = &[
    BuiltinKey {
        fingerprint: "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910",
        subkey: Some("534E4209AB49EEE1C19D96162C44695DB9F6043D"),
        address: Some("releng@gentoo.org"),
        purposes: &[Purpose::Stage3, Purpose::Binpkg],
        comment: "Gentoo weekly releases",
    },
    BuiltinKey {
        fingerprint: "DCD05B71EAB94199527F44ACDB6B8C1F96D8BF6D",
        subkey: Some("E1D6ABB63BFCFB4BA02FDF1CEC590EEAC9189250"),
        address: Some("infrastructure@gentoo.org"),
        purposes: &[Purpose::Tree],
        comment: "Gentoo tree snapshots",
    },
    BuiltinKey {
        fingerprint: "EF9538C9E8E64311A52CDEDFA13D0EF1914E7A72",
        subkey: None,
        address: Some("repomirrorci@gentoo.org"),
        purposes: &[Purpose::Tree],
        comment: "Gentoo git mirror",
    },
    BuiltinKey {
        fingerprint: "D99EAC7379A850BCE47DA5F29E6438C817072058",
        subkey: None,
        address: None,
        purposes: &[Purpose::Stage3],
        comment: "Gentoo releases, old (dsa1024: its signatures are refused as weak)",
    },
];

/// Why the directory of keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Reading failed.
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is not key material.
    #[error("cannot use `{path}`")]
    Material {
        path: PathBuf,
        #[source]
        source: CertificateError,
    },
    /// The file is too large for key material.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: u64 },
    /// A line of `trusted` does not begin with a fingerprint.
    #[error("{path}:{line}: not a fingerprint")]
    Trusted {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        #[source]
        source: NotAFingerprint,
    },
    /// In a line of `trusted` a word after the fingerprint is not a purpose.
    #[error("{path}:{line}: not a purpose")]
    Purpose {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        #[source]
        source: NotAPurpose,
    },
    /// Nothing is known about a fingerprint.
    #[error("no key `{fingerprint}` in `{dir}`")]
    NoSuchKey { fingerprint: Fingerprint, dir: PathBuf },
    /// A comment with a line break would add a line to `trusted`.
    #[error("a comment must be one line without control characters")]
    Comment,
}

/// Where a pinned fingerprint comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PinSource {
    /// Compiled in.
    Builtin,
    /// A line of `trusted`.
    Trusted {
        /// Counted from 1.
        line: usize,
    },
}

/// Why a fingerprint is trusted, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pin {
    pub source: PinSource,
    /// What its signatures count for.
    pub purposes: Purposes,
    /// Whose it is; may be empty.
    pub comment: String,
}

/// The public keys of a configuration and which of them are trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    certificates: Vec<Certificate>,
    files: BTreeMap<Fingerprint, Vec<PathBuf>>,
    pins: BTreeMap<Fingerprint, Pin>,
    subkeys_of_pins: BTreeMap<Fingerprint, Fingerprint>,
}

/// One key, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeyInfo {
    pub fingerprint: Fingerprint,
    /// Its user id, if the public key is here.
    pub uid: Option<String>,
    /// Its algorithm and size, if the public key is here.
    pub algorithm: Option<String>,
    /// Seconds since 1970, if the public key is here.
    pub created: Option<i64>,
    /// Seconds since 1970. `None` for never, or if the public key is not here.
    pub expires: Option<i64>,
    /// When it was revoked, seconds since 1970.
    pub revoked: Option<i64>,
    /// Its signatures count.
    pub trusted: bool,
    /// Why it is trusted.
    pub pin: Option<Pin>,
    /// The files that hold its public key.
    pub files: Vec<PathBuf>,
}

impl TrustedKeys {
    /// Reads `dir` (`config/keys`). A directory that does not exist has no keys. `builtin` is [`GENTOO`], except in tests and in programs
    /// that trust nobody by default.
    pub fn load(dir: &Path, builtin: &[BuiltinKey]) -> Result<Self, KeysError> {
        let mut keys = Self::default();
        for key in builtin {
            let Ok(fingerprint) = key.fingerprint.parse::<Fingerprint>() else { continue };
            let purposes = Purposes::of(key.purposes);
            let pin = Pin { source: PinSource::Builtin, purposes, comment: key.comment.to_owned() };
            if let Some(Ok(subkey)) = key.subkey.map(str::parse) {
                keys.subkeys_of_pins.insert(subkey, fingerprint.clone());
            }
            keys.pins.insert(fingerprint, pin);
        }
        for store::TrustedLine { line, fingerprint, purposes, comment } in store::read_trusted(dir)? {
            match keys.pins.get_mut(&fingerprint) {
                // For a key that is trusted already, a line without purposes changes nothing.
                Some(pin) if !purposes.is_empty() => pin.purposes = pin.purposes.with(&Purposes::of(&purposes)),
                Some(_) => {}
                None => {
                    let pin = Pin { source: PinSource::Trusted { line }, purposes: Purposes::of(&purposes), comment };
                    keys.pins.insert(fingerprint, pin);
                }
            }
        }
        for path in store::key_files(dir)? {
            for certificate in read_key_file(&path)? {
                keys.add(certificate, Some(path.clone()));
            }
        }
        tracing::debug!(dir = %dir.display(), keys = keys.certificates.len(), pins = keys.pins.len(), "keys loaded");
        Ok(keys)
    }

    /// Adds a certificate. If it is known, the two copies are merged.
    pub fn add(&mut self, certificate: Certificate, file: Option<PathBuf>) {
        self.files.entry(certificate.fingerprint().clone()).or_default().extend(file);
        match self.certificates.iter_mut().find(|known| known.fingerprint() == certificate.fingerprint()) {
            Some(known) => known.merge(certificate),
            None => self.certificates.push(certificate),
        }
    }

    /// Trusts a fingerprint for these purposes (for all if there are none), as long as this value lives.
    #[cfg(test)]
    pub(crate) fn pin(&mut self, fingerprint: Fingerprint, purposes: &[Purpose], comment: &str) {
        let pin = Pin { source: PinSource::Trusted { line: 0 }, purposes: Purposes::of(purposes), comment: comment.to_owned() };
        self.pins.entry(fingerprint).or_insert(pin);
    }

    /// Whether signatures of the primary key `fingerprint` count for anything. To verify something use [`KeysFor`].
    pub fn is_trusted(&self, fingerprint: &Fingerprint) -> bool {
        self.pins.contains_key(fingerprint)
    }

    /// What signatures of the primary key `fingerprint` count for. `None` if they do not count.
    pub fn purposes_of(&self, fingerprint: &Fingerprint) -> Option<&Purposes> {
        self.pins.get(fingerprint).map(|pin| &pin.purposes)
    }

    /// All known public keys, trusted or not.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter()
    }

    /// The trusted fingerprints with their comments.
    pub fn pins(&self) -> impl Iterator<Item = (&Fingerprint, &str)> {
        self.pins.iter().map(|(fingerprint, pin)| (fingerprint, pin.comment.as_str()))
    }

    /// The trusted primary key that `fingerprint` (a primary key or a subkey) belongs to, as far as we know, with its comment.
    pub(crate) fn pinned_primary_of(&self, fingerprint: &Fingerprint) -> Option<(&Fingerprint, &str)> {
        let primary = self.subkeys_of_pins.get(fingerprint).unwrap_or(fingerprint);
        self.pins.get_key_value(primary).map(|(fingerprint, pin)| (fingerprint, pin.comment.as_str()))
    }

    /// Everything known, by fingerprint: public keys with or without trust, and trusted fingerprints without public key.
    pub fn list(&self, now: i64) -> Vec<KeyInfo> {
        let mut list: BTreeMap<&Fingerprint, KeyInfo> = BTreeMap::new();
        for certificate in &self.certificates {
            let fingerprint = certificate.fingerprint();
            let standing = certificate.standing(now);
            let info = KeyInfo {
                fingerprint: fingerprint.clone(),
                uid: certificate.user_id(now),
                algorithm: Some(algorithm_name(certificate.primary())),
                created: Some(standing.created),
                expires: standing.expires,
                revoked: standing.revoked.map(|revocation| revocation.at),
                trusted: self.is_trusted(fingerprint),
                pin: self.pins.get(fingerprint).cloned(),
                files: self.files.get(fingerprint).cloned().unwrap_or_default(),
            };
            list.insert(fingerprint, info);
        }
        for (fingerprint, pin) in &self.pins {
            list.entry(fingerprint).or_insert_with(|| KeyInfo {
                fingerprint: fingerprint.clone(),
                uid: None,
                algorithm: None,
                created: None,
                expires: None,
                revoked: None,
                trusted: true,
                pin: Some(pin.clone()),
                files: Vec::new(),
            });
        }
        list.into_values().collect()
    }
}

pub(crate) fn read_key_file(path: &Path) -> Result<Vec<Certificate>, KeysError> {
    let read = |source| KeysError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(read)?.len();
    if size > MAX_KEY_FILE_BYTES {
        return Err(KeysError::TooLarge { path: path.to_owned(), limit: MAX_KEY_FILE_BYTES });
    }
    let bytes = fs::read(path).map_err(read)?;
    Certificate::parse_all(&bytes).map_err(|source| KeysError::Material { path: path.to_owned(), source })
}
