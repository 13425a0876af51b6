//! Signatures over data: who made them, and whether they count.
//!
//! A check has two halves, so that a tarball is read once for all its signatures and digests:
//!
//! ```text
//! signature packets ──prepare──> Pending, or why it can never count (unknown signer, SHA-1, …)
//!                                  │ hash: algorithm and salt the signature wants
//!       file ──one pass (hashing)──┤ state of that hash after the last byte
//!                                  └─finish──> Signer, or why not (bad, expired, revoked, …)
//! ```
//!
//! A signature counts if its primary key's fingerprint is trusted for this kind of file. A signing subkey must be vouched for by that
//! primary key and vouch back. The hash must be SHA-224 or better, RSA must have 2048 bits or more. The signature must be made while key
//! and subkey were valid and before any revocation. Notations are accepted if they are not marked critical.

use std::collections::BTreeSet;
use std::io::Read;
use std::{fmt, io};

use jiff::Timestamp;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureConfig, SignatureType, SignatureVersionSpecific, SubpacketData};
use pgp::types::{SignatureBytes, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::armor;
use super::armor::Block;
use super::certificate::{Certificate, Standing, algorithm_name, is_weak};
use super::fingerprint::Fingerprint;
use super::hashing::{Hasher, hash_all};
use super::keys::{KeysFor, Purpose};
use crate::stage3::certificate::CLOCK_TOLERANCE_SECS;

/// How many signatures of one file are checked. A file with more only wastes our time.
const MAX_SIGNATURES: usize = 16;

/// A calendar day in UTC, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_second(self.0) {
            Ok(time) => f.pad(&time.strftime("%Y-%m-%d").to_string()),
            Err(_) => write!(f, "second {}", self.0),
        }
    }
}

/// Who signed something. The signature was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Signer {
    /// The key that made the signature: the primary key, or a subkey of it.
    pub fingerprint: Fingerprint,
    /// The primary key, which is the trusted one.
    pub primary: Fingerprint,
    /// The primary key's user id.
    pub uid: Option<String>,
    /// When the signature was made, in seconds since 1970, according to the signer.
    pub signed_at: i64,
    /// When the key expired, if that was accepted on request.
    pub expired: Option<i64>,
}

/// Why a signature does not count. The most telling reason comes first: of several failures the first in this order is reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SignatureError {
    /// The content or the signature was changed.
    #[error("bad signature: the data is not what {signer} signed")]
    Bad {
        /// The key that is named in the signature.
        signer: Fingerprint,
    },
    /// The key was revoked, and the signature does not count any more.
    #[error("signature good, but its key {key} was revoked on {on} ({reason})")]
    Revoked {
        key: Fingerprint,
        on: Day,
        /// Why, as the key's owner says.
        reason: &'static str,
    },
    /// The key had expired when the signature was made. Accepting expired keys does not excuse this.
    #[error("signature is from {made}, after its key expired on {on} ({key})")]
    MadeAfterExpiry {
        key: Fingerprint,
        on: Day,
        /// When the signature was made, as it says.
        made: Day,
    },
    /// The key has expired since the signature was made.
    #[error("signature good, key expired on {on} ({key})")]
    KeyExpired { key: Fingerprint, on: Day },
    /// The signature's own validity is over.
    #[error("signature by {signer} was valid until {on} only")]
    Expired {
        signer: Fingerprint,
        /// Its last day.
        on: Day,
    },
    #[error("signature by {signer} is from the future ({on}); is this machine's clock right?")]
    Future {
        signer: Fingerprint,
        /// When, as it says.
        on: Day,
    },
    #[error("signature is older ({on}) than the key {signer} that made it")]
    OlderThanKey {
        signer: Fingerprint,
        /// When, as it says.
        on: Day,
    },
    /// The hash algorithm is weak.
    #[error("signature by {signer} uses {hash}, too weak to rely on")]
    WeakHash {
        /// The key that is named in the signature.
        signer: Fingerprint,
        hash: String,
    },
    /// The key is weak.
    #[error("signed by {key}, a key too weak to rely on ({algorithm})")]
    WeakKey {
        key: Fingerprint,
        /// Algorithm and size, as in `dsa1024`.
        algorithm: String,
    },
    /// The subkey has no valid binding or no back-signature.
    #[error("signed by {subkey}, which {primary} does not vouch for as a subkey of its own")]
    NotBound {
        subkey: Fingerprint,
        /// The primary key it is filed under.
        primary: Fingerprint,
    },
    /// The primary key has no self-signature, so nobody knows until when it is valid.
    #[error("signed by {key}, but this copy of the key has no valid self-signature")]
    NoSelfSignature { key: Fingerprint },
    /// The key is for encryption, authentication or certification.
    #[error("signed by {key}, which is not a key for signing data")]
    NotForSigning { key: Fingerprint },
    /// The signature names two different makers.
    #[error("signature names {named} as its maker, but was made by another key, {key}")]
    IssuerMismatch {
        named: Fingerprint,
        /// The key that has the signature's key id.
        key: Fingerprint,
    },
    /// The signer is trusted, but its public key is not here.
    #[error("signed by {signer} ({comment}), which is trusted, but this configuration does not have its public key")]
    NoKeyMaterial {
        /// The trusted primary key.
        signer: Fingerprint,
        /// What is known of it.
        comment: String,
    },
    /// The key is trusted, but not for this kind of file.
    #[error("signed by {signer} ({uid}), which is trusted for {counts_for} only, not for {wanted}")]
    OtherPurpose {
        signer: Fingerprint,
        /// Its user id. Anybody can choose any user id.
        uid: Box<str>,
        /// In words. Not a `String`: then every error that holds this one would be too large to return.
        counts_for: Box<str>,
        wanted: Purpose,
    },
    /// The key is known but not trusted.
    #[error("signed by {signer} ({uid}), which is not a release key this configuration trusts")]
    Untrusted {
        signer: Fingerprint,
        /// Its user id. Anybody can choose any user id.
        uid: String,
    },
    /// We know nothing about the signer.
    #[error("signed by {signer}, which is not a release key this configuration trusts")]
    Unknown {
        /// A fingerprint, or a key id if the signature has nothing more.
        signer: String,
    },
    /// Its maker says that it must not be accepted by a program that does not understand this.
    #[error("signature has a critical {what} that is not understood")]
    Critical {
        /// `notation NAME` or `subpacket NUMBER`.
        what: String,
    },
    /// The signature is over a key or another kind of text.
    #[error("is a signature of type 0x{found:02x}, but should be one over {wanted}")]
    WrongType {
        /// Number of the type (RFC 9580, section 5.2.1).
        found: u8,
        /// `a file` or `text`.
        wanted: &'static str,
    },
    /// We do not implement this version, hash or key algorithm.
    #[error("signature uses {what}, which is not supported")]
    Unsupported { what: String },
    /// The signature has no issuer or no time.
    #[error("signature does not say {what}")]
    Incomplete {
        /// `who made it` or `when it was made`.
        what: &'static str,
    },
    /// The END line is missing.
    #[error("the signature's armour ends before its END line: truncated")]
    Truncated,
    /// Not OpenPGP data, or broken.
    #[error("not an OpenPGP signature")]
    Malformed,
}

impl SignatureError {
    /// Whether the file or its signature is not what was published. The wish to go on without a signature does not excuse this.
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Bad { .. } | Self::Truncated | Self::Malformed)
    }
}

/// What a signature must be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Bytes as they are.
    File,
    /// Text with canonical line ends.
    Text,
}

/// A hash that a signature needs. `salt` comes before the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedHash {
    pub(crate) algorithm: HashAlgorithm,
    pub(crate) salt: Vec<u8>,
}

impl WantedHash {
    /// A new hash that has read the salt. `None` if the algorithm is not implemented.
    pub(crate) fn hasher(&self) -> Option<Hasher> {
        let mut hasher = match self.algorithm {
            HashAlgorithm::Sha224 => Hasher::sha224(),
            HashAlgorithm::Sha256 => Hasher::sha256(),
            HashAlgorithm::Sha384 => Hasher::sha384(),
            HashAlgorithm::Sha512 => Hasher::sha512(),
            _ => return None,
        };
        hasher.update(&self.salt);
        Some(hasher)
    }
}

/// A signature that counts if the hash is right and the key is valid.
#[derive(Debug)]
pub(crate) struct Pending<'k> {
    config: SignatureConfig,
    hash_start: [u8; 2],
    bytes: SignatureBytes,
    made: i64,
    /// Trusted certificates with the signing key, and the index of the subkey.
    candidates: Vec<(&'k Certificate, Option<usize>)>,
}

/// How strict to be about time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Accept a signature whose key has expired since it was made.
    pub(crate) accept_expired: bool,
}

/// Reads all signatures of a detached signature file, or at the end of a clear-signed document.
pub(crate) fn read_signatures(bytes: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    let mut signatures = Vec::new();
    for block in armor::decode(bytes) {
        let packets = match block {
            Block::Signature(packets) | Block::Binary(packets) => packets,
            Block::Truncated => return Err(SignatureError::Truncated),
            Block::Malformed | Block::PublicKey(_) | Block::SecretKey | Block::Other => return Err(SignatureError::Malformed),
        };
        for packet in PacketParser::new(packets.as_slice()) {
            match packet {
                Ok(Packet::Signature(signature)) if signatures.len() < MAX_SIGNATURES => signatures.push(signature),
                Ok(Packet::Signature(_)) => break,
                Ok(Packet::Marker(_) | Packet::Padding(_)) => {}
                Ok(_) => return Err(SignatureError::Malformed),
                Err(error) => {
                    tracing::debug!(%error, "broken signature packet");
                    return Err(SignatureError::Malformed);
                }
            }
        }
    }
    if signatures.is_empty() { Err(SignatureError::Malformed) } else { Ok(signatures) }
}

/// Checks everything that can be checked without the data.
pub(crate) fn prepare<'k>(
    signature: &Signature,
    over: Over,
    trusted: KeysFor<'k>,
    now: i64,
) -> Result<Pending<'k>, SignatureError> {
    let (Some(config), Some(hash_start), Some(bytes)) = (signature.config(), signature.signed_hash_value(), signature.signature())
    else {
        return Err(SignatureError::Unsupported { what: format!("version {}", u8::from(signature.version())) });
    };
    let wanted = match (over, config.typ()) {
        (Over::File, SignatureType::Binary) | (Over::Text, SignatureType::Text) => None,
        (Over::File, _) => Some("a file"),
        (Over::Text, _) => Some("text"),
    };
    if let Some(wanted) = wanted {
        return Err(SignatureError::WrongType { found: config.typ().into(), wanted });
    }
    let candidates = candidates(signature, trusted, now)?;
    let (first, index) = candidates[0];
    let signer = key_fingerprint(first, index);
    if matches!(config.hash_alg, HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160) {
        return Err(SignatureError::WeakHash { signer, hash: config.hash_alg.to_string() });
    }
    check_critical(config)?;
    let made = config.created().ok_or(SignatureError::Incomplete { what: "when it was made" })?.as_secs().into();
    let pending = Pending { config: config.clone(), hash_start, bytes: bytes.clone(), made, candidates };
    if pending.hash().hasher().is_none() {
        return Err(SignatureError::Unsupported { what: format!("hash algorithm {}", u8::from(config.hash_alg)) });
    }
    Ok(pending)
}

/// The trusted certificates with the key that the signature names. There is at least one.
fn candidates<'k>(
    signature: &Signature,
    trusted: KeysFor<'k>,
    now: i64,
) -> Result<Vec<(&'k Certificate, Option<usize>)>, SignatureError> {
    let named: BTreeSet<Fingerprint> =
        signature.issuer_fingerprint().into_iter().map(|fingerprint| Fingerprint::from_bytes(fingerprint.as_bytes())).collect();
    let ids: BTreeSet<String> = signature.issuer_key_id().into_iter().map(|id| hex::encode_upper(id.as_ref())).collect();
    let Some(name) = named.first().map(ToString::to_string).or_else(|| ids.first().cloned()) else {
        return Err(SignatureError::Incomplete { what: "who made it" });
    };
    let has_id = |fingerprint: &Fingerprint| {
        // Version 4 key ids are the end of the fingerprint, version 6 ids the beginning (RFC 9580, section 5.5.4).
        ids.iter().any(|id| match fingerprint.as_str().len() {
            40 => fingerprint.as_str().ends_with(id.as_str()),
            _ => fingerprint.as_str().starts_with(id.as_str()),
        })
    };
    let mut matching = Vec::new();
    let mut mismatch = None;
    for certificate in trusted.keys.certificates() {
        let components =
            std::iter::once((certificate.fingerprint().clone(), None)).chain(certificate.subkeys().zip((0..).map(Some)));
        for (fingerprint, index) in components {
            if named.contains(&fingerprint) || (named.is_empty() && has_id(&fingerprint)) {
                matching.push((certificate, index));
            } else if let Some(named) = named.first().filter(|_| has_id(&fingerprint)) {
                mismatch = Some(SignatureError::IssuerMismatch { named: named.clone(), key: fingerprint });
            }
        }
    }
    let by_trusted: Vec<_> = matching.iter().copied().filter(|(certificate, _)| trusted.count(certificate.fingerprint())).collect();
    if !by_trusted.is_empty() {
        return Ok(by_trusted);
    }
    if let Some((certificate, _)) = matching.first() {
        let signer = certificate.fingerprint().clone();
        let uid = certificate.user_id(now).unwrap_or_else(|| "no user id".to_owned());
        return Err(match trusted.keys.purposes_of(&signer) {
            Some(purposes) => SignatureError::OtherPurpose {
                signer,
                uid: uid.into(),
                counts_for: purposes.to_string().into(),
                wanted: trusted.purpose,
            },
            None => SignatureError::Untrusted { signer, uid },
        });
    }
    if let Some(mismatch) = mismatch {
        return Err(mismatch);
    }
    let pinned = named
        .iter()
        .find_map(|fingerprint| trusted.keys.pinned_primary_of(fingerprint))
        .or_else(|| named.is_empty().then(|| trusted.keys.pins().find(|(fingerprint, _)| has_id(fingerprint))).flatten());
    Err(match pinned {
        Some((signer, comment)) => SignatureError::NoKeyMaterial { signer: signer.clone(), comment: comment.to_owned() },
        None => SignatureError::Unknown { signer: name },
    })
}

fn check_critical(config: &SignatureConfig) -> Result<(), SignatureError> {
    for subpacket in config.hashed_subpackets().filter(|subpacket| subpacket.is_critical) {
        let what = match &subpacket.data {
            SubpacketData::Notation(notation) => {
                format!("notation `{}`", String::from_utf8_lossy(&notation.name).escape_debug())
            }
            SubpacketData::Other(number, _) | SubpacketData::Experimental(number, _) => format!("subpacket {number}"),
            _ => continue,
        };
        return Err(SignatureError::Critical { what });
    }
    Ok(())
}

impl Pending<'_> {
    /// The hash that must read the data.
    pub(crate) fn hash(&self) -> WantedHash {
        let salt = match &self.config.version_specific {
            SignatureVersionSpecific::V6 { salt } => salt.clone(),
            _ => Vec::new(),
        };
        WantedHash { algorithm: self.config.hash_alg, salt }
    }

    /// Decides with the state of the hash after all data.
    pub(crate) fn finish(&self, hasher: &Hasher, policy: Policy) -> Result<Signer, SignatureError> {
        let mut failure = None;
        for (certificate, index) in &self.candidates {
            match self.finish_with(certificate, *index, hasher.clone(), policy) {
                Ok(signer) => return Ok(signer),
                Err(error) => failure = Some(failure.map_or(error.clone(), |first: SignatureError| first.min(error))),
            }
        }
        Err(failure.unwrap_or(SignatureError::Malformed))
    }

    fn finish_with(
        &self,
        certificate: &Certificate,
        index: Option<usize>,
        hasher: Hasher,
        policy: Policy,
    ) -> Result<Signer, SignatureError> {
        let primary = certificate.standing(policy.now);
        let subkey = index.map(|index| certificate.subkey_standing(index, policy.now));
        let fingerprint = key_fingerprint(certificate, index);
        match index {
            // The arithmetic first: what is said about a key's validity means something only if the key made this signature.
            None => self.check_bytes(certificate.primary(), &fingerprint, hasher)?,
            Some(index) => self.check_bytes(certificate.subkey(index), &fingerprint, hasher)?,
        }
        if !primary.bound {
            return Err(SignatureError::NoSelfSignature { key: certificate.fingerprint().clone() });
        }
        if subkey.as_ref().is_some_and(|subkey| !subkey.bound) {
            return Err(SignatureError::NotBound { subkey: fingerprint, primary: certificate.fingerprint().clone() });
        }
        if !subkey.as_ref().unwrap_or(&primary).signs {
            return Err(SignatureError::NotForSigning { key: fingerprint });
        }
        self.check_time(&fingerprint, policy.now)?;
        let mut expired = self.check_standing(certificate.fingerprint(), &primary, policy)?;
        if let Some(subkey) = &subkey {
            let subkey_expired = self.check_standing(&fingerprint, subkey, policy)?;
            expired = expired.into_iter().chain(subkey_expired).min();
        }
        Ok(Signer {
            fingerprint,
            primary: certificate.fingerprint().clone(),
            uid: certificate.user_id(policy.now),
            signed_at: self.made,
            expired,
        })
    }

    /// Checks the signature itself.
    fn check_bytes(&self, key: &impl VerifyingKey, fingerprint: &Fingerprint, hasher: Hasher) -> Result<(), SignatureError> {
        if is_weak(key) {
            return Err(SignatureError::WeakKey { key: fingerprint.clone(), algorithm: algorithm_name(key) });
        }
        let bad = || SignatureError::Bad { signer: fingerprint.clone() };
        let v6_signature = matches!(self.config.version_specific, SignatureVersionSpecific::V6 { .. });
        if self.config.pub_alg != key.algorithm() || v6_signature != (key.version() == pgp::types::KeyVersion::V6) {
            return Err(bad());
        }
        let broken = |error: pgp::errors::Error| {
            tracing::debug!(%error, "signature does not verify");
            bad()
        };
        let mut hasher = hasher.into_openpgp().ok_or_else(bad)?;
        let len = self.config.hash_signature_data(&mut hasher).map_err(broken)?;
        hasher.update(&self.config.trailer(len).map_err(broken)?);
        let hash = hasher.finalize();
        if hash.get(..2) != Some(self.hash_start.as_slice()) {
            return Err(bad());
        }
        key.verify(self.config.hash_alg, &hash, &self.bytes).map_err(broken)
    }

    fn check_time(&self, signer: &Fingerprint, now: i64) -> Result<(), SignatureError> {
        let on = Day(self.made);
        if self.made > now + CLOCK_TOLERANCE_SECS {
            return Err(SignatureError::Future { signer: signer.clone(), on });
        }
        let validity = self.config.hashed_subpackets().find_map(|subpacket| match subpacket.data {
            SubpacketData::SignatureExpirationTime(validity) if validity.as_secs() != 0 => Some(i64::from(validity.as_secs())),
            _ => None,
        });
        match validity {
            Some(validity) if self.made + validity <= now => {
                Err(SignatureError::Expired { signer: signer.clone(), on: Day(self.made + validity) })
            }
            _ => Ok(()),
        }
    }

    /// Returns when the key expired, if it did and the policy accepts that.
    fn check_standing(&self, key: &Fingerprint, standing: &Standing, policy: Policy) -> Result<Option<i64>, SignatureError> {
        if let Some(revoked) = standing.revoked
            && (revoked.hard || self.made >= revoked.at)
        {
            return Err(SignatureError::Revoked { key: key.clone(), on: Day(revoked.at), reason: revoked.reason });
        }
        if self.made < standing.created {
            return Err(SignatureError::OlderThanKey { signer: key.clone(), on: Day(self.made) });
        }
        match standing.expires {
            Some(expires) if expires <= self.made => {
                Err(SignatureError::MadeAfterExpiry { key: key.clone(), on: Day(expires), made: Day(self.made) })
            }
            Some(expires) if expires <= policy.now && !policy.accept_expired => {
                Err(SignatureError::KeyExpired { key: key.clone(), on: Day(expires) })
            }
            expires => Ok(expires.filter(|expires| *expires <= policy.now)),
        }
    }
}

fn key_fingerprint(certificate: &Certificate, index: Option<usize>) -> Fingerprint {
    match index {
        None => certificate.fingerprint().clone(),
        Some(index) => Fingerprint::of(certificate.subkey(index)),
    }
}

/// From several outcomes: the first that counts with what is wrong with the others, or the most telling failure.
pub(crate) fn best(
    outcomes: impl IntoIterator<Item = Result<Signer, SignatureError>>,
) -> Result<(Signer, Vec<SignatureError>), SignatureError> {
    let mut good = None;
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(signer) => good = good.or(Some(signer)),
            Err(error) => failures.push(error),
        }
    }
    match good {
        Some(signer) => Ok((signer, failures)),
        None => Err(failures.into_iter().min().unwrap_or(SignatureError::Malformed)),
    }
}

/// Checks the signatures over a text in memory.
pub(crate) fn check_text(
    signatures: &[u8],
    text: &[u8],
    trusted: KeysFor<'_>,
    policy: Policy,
) -> Result<(Signer, Vec<SignatureError>), SignatureError> {
    check_bytes(signatures, text, Over::Text, trusted, policy)
}

/// Checks the signatures over data in memory.
pub(crate) fn check_bytes(
    signatures: &[u8],
    data: &[u8],
    over: Over,
    trusted: KeysFor<'_>,
    policy: Policy,
) -> Result<(Signer, Vec<SignatureError>), SignatureError> {
    best(read_signatures(signatures)?.iter().map(|signature| {
        let pending = prepare(signature, over, trusted, policy.now)?;
        let mut hasher = pending.hash().hasher().ok_or(SignatureError::Malformed)?;
        hasher.update(data);
        pending.finish(&hasher, policy)
    }))
}

/// Checks detached signatures over what `reader` has, which feeds `others`, too. Returns these with the number of bytes and the signer.
pub(crate) fn check_reader(
    signatures: &[u8],
    reader: impl Read,
    others: Vec<Hasher>,
    trusted: KeysFor<'_>,
    policy: Policy,
) -> io::Result<(Vec<Hasher>, u64, Result<Signer, SignatureError>)> {
    let pending: Vec<Result<Pending<'_>, SignatureError>> = match read_signatures(signatures) {
        Ok(found) => found.iter().map(|signature| prepare(signature, Over::File, trusted, policy.now)).collect(),
        Err(error) => vec![Err(error)],
    };
    let count = others.len();
    // Each has a hasher: `prepare` has made sure of it.
    let own = pending.iter().flatten().filter_map(|pending| pending.hash().hasher());
    let (mut others, size) = hash_all(reader, others.into_iter().chain(own).collect(), |_| {})?;
    let mut own = others.split_off(count).into_iter();
    let outcomes = pending.iter().map(|pending| {
        let pending = pending.as_ref().map_err(Clone::clone)?;
        pending.finish(&own.next().ok_or(SignatureError::Malformed)?, policy)
    });
    let outcome = best(outcomes).map(|(signer, _)| signer);
    Ok((others, size, outcome))
}
