//! OpenPGP certificates (public keys with the signatures that bind their parts together): reading, merging, and what they are worth at a
//! given time.
//!
//! ```text
//! primary key ── its fingerprint is what a configuration trusts
//!   ├─ revocation, direct-key signature        by the primary key: revoked when and why, expiry, use
//!   ├─ user id ── certification                by the primary key: expiry, use
//!   └─ subkey ── binding                       by the primary key: expiry, use
//!                 └─ back-signature            by the subkey, inside the binding: "I belong to that primary key"
//! ```
//!
//! We believe nothing in key material that the primary key did not sign; signatures of third parties are skipped. The newest
//! self-signature counts. So if a refreshed copy of a key is merged with an older one, the refreshed expiry counts.
//!
//! Self-signatures may use SHA-1, since those of keys made before about 2014 do. The implementation detects the known collision attacks
//! and then computes another hash, so that such a signature fails. MD5 and RIPEMD-160 count for revocations only. Revocation by a key
//! other than the primary ("designated revoker") is not supported.

use pgp::composed::{ArmorOptions, Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Packet, PacketParser, RevocationCode, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, PublicParams, Tag};

use super::armor;
use super::armor::Block;
use super::fingerprint::Fingerprint;
use crate::terminal_text::blotted;

/// Why key material is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Neither armoured nor binary OpenPGP data, or broken.
    #[error("not an OpenPGP public key")]
    Malformed,
    /// Armour without its last line.
    #[error("the key's armour ends before its END line: truncated")]
    Truncated,
    /// It holds a secret key.
    #[error("holds a secret key; only public keys belong here")]
    Secret,
    /// It is well-formed but has no key in it.
    #[error("holds no public key")]
    Empty,
}

/// A public key and its parts.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: SignedPublicKey,
    fingerprint: Fingerprint,
}

/// A revocation, and what it means for signatures made before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Seconds since 1970.
    pub(crate) at: i64,
    /// Earlier signatures are void, too: the key was compromised, or no reason is given. If it was only retired or superseded (RFC 9580,
    /// section 5.2.3.31), earlier signatures count.
    pub(crate) hard: bool,
    pub(crate) reason: &'static str,
}

/// What a key (primary or subkey) is worth at a given time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The primary key vouches for it: by a valid self-signature, or by a valid binding with its back-signature.
    pub(crate) bound: bool,
    /// It may sign data.
    pub(crate) signs: bool,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Seconds since 1970; `None` for never.
    pub(crate) expires: Option<i64>,
    pub(crate) revoked: Option<Revocation>,
}

impl Certificate {
    /// Reads every certificate in `bytes`: binary, or any number of armoured blocks with text around them.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let mut certificates: Vec<Self> = Vec::new();
        for block in armor::decode(bytes) {
            let packets = match block {
                Block::PublicKey(packets) | Block::Binary(packets) => packets,
                Block::SecretKey => return Err(CertificateError::Secret),
                Block::Truncated => return Err(CertificateError::Truncated),
                Block::Malformed => return Err(CertificateError::Malformed),
                Block::Signature(_) | Block::Other => continue,
            };
            if has_secret(&packets) {
                return Err(CertificateError::Secret);
            }
            let keys = SignedPublicKey::from_bytes_many(packets.as_slice()).map_err(malformed)?;
            for key in keys {
                let key = key.map_err(malformed)?;
                let new = Self { fingerprint: Fingerprint::of(&key), key };
                match certificates.iter_mut().find(|known| known.fingerprint == new.fingerprint) {
                    Some(known) => known.merge(new),
                    None => certificates.push(new),
                }
            }
        }
        if certificates.is_empty() { Err(CertificateError::Empty) } else { Ok(certificates) }
    }

    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// When the primary key was made, seconds since 1970.
    pub fn created(&self) -> i64 {
        self.key.primary_key.created_at().as_secs().into()
    }

    /// Unites two copies of one certificate. The result has everything that either copy has.
    pub(crate) fn merge(&mut self, other: Self) {
        debug_assert_eq!(self.fingerprint, other.fingerprint);
        let (mine, theirs) = (&mut self.key.details, other.key.details);
        unite(&mut mine.revocation_signatures, theirs.revocation_signatures);
        unite(&mut mine.direct_signatures, theirs.direct_signatures);
        for user in theirs.users {
            match mine.users.iter_mut().find(|known| known.id.id() == user.id.id()) {
                Some(known) => unite(&mut known.signatures, user.signatures),
                None => mine.users.push(user),
            }
        }
        unite(&mut mine.user_attributes, theirs.user_attributes);
        for subkey in other.key.public_subkeys {
            let same = |known: &&mut SignedPublicSubKey| known.key.fingerprint() == subkey.key.fingerprint();
            match self.key.public_subkeys.iter_mut().find(same) {
                Some(known) => unite(&mut known.signatures, subkey.signatures),
                None => self.key.public_subkeys.push(subkey),
            }
        }
    }

    pub(crate) fn to_armored(&self) -> Result<String, CertificateError> {
        self.key.to_armored_string(ArmorOptions::default()).map_err(malformed)
    }

    /// The user id to show for the key: the one marked as primary, else the first one that the key itself certified.
    pub fn user_id(&self, now: i64) -> Option<String> {
        let valid: Vec<_> = self.key.details.users.iter().filter(|user| self.user_self_signature(user, now).is_some()).collect();
        let user = valid.iter().find(|user| user.is_primary()).or(valid.first())?;
        // Somebody else wrote this text. It must not control the terminal.
        let text = String::from_utf8_lossy(user.id.id()).into_owned();
        Some(text.chars().map(blotted).collect())
    }

    pub(crate) fn standing(&self, now: i64) -> Standing {
        let primary = &self.key.primary_key;
        let created = self.created();
        let direct = self.key.details.direct_signatures.iter().filter(|signature| {
            signature.typ() == Some(SignatureType::Key) && usable(signature, now) && signature.verify_key(primary).is_ok()
        });
        let users = self.key.details.users.iter().filter_map(|user| self.user_self_signature(user, now));
        let newest = direct.chain(users).max_by_key(|signature| made(signature));
        let revocations = self
            .key
            .details
            .revocation_signatures
            .iter()
            .filter(|signature| signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok());
        Standing {
            bound: newest.is_some(),
            signs: newest.is_some_and(|signature| may_sign(signature).unwrap_or(true)),
            created,
            expires: newest.and_then(|signature| expiry(signature, created)),
            revoked: worst(revocations.map(revocation)),
        }
    }

    /// What the subkey at `index` is worth at `now`, without regard to the primary key.
    pub(crate) fn subkey_standing(&self, index: usize, now: i64) -> Standing {
        let primary = &self.key.primary_key;
        let subkey = &self.key.public_subkeys[index];
        let created = i64::from(subkey.key.created_at().as_secs());
        let binding = subkey
            .signatures
            .iter()
            .filter(|signature| {
                signature.typ() == Some(SignatureType::SubkeyBinding)
                    && usable(signature, now)
                    && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
            })
            .max_by_key(|signature| made(signature));
        let signs = binding.is_some_and(|signature| may_sign(signature) == Some(true));
        // Without the back-signature anybody could bind a foreign signing subkey to their own primary key (RFC 9580, section 5.2.1.8).
        let back = binding.and_then(Signature::embedded_signature);
        let back = back.is_some_and(|back| usable(back, now) && back.verify_primary_key_binding(&subkey.key, primary).is_ok());
        let revocations = subkey.signatures.iter().filter(|signature| {
            signature.typ() == Some(SignatureType::SubkeyRevocation)
                && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        });
        Standing {
            bound: binding.is_some() && (back || !signs),
            signs,
            created,
            expires: binding.and_then(|signature| expiry(signature, created)),
            revoked: worst(revocations.map(revocation)),
        }
    }

    pub(crate) fn subkeys(&self) -> impl Iterator<Item = Fingerprint> {
        self.key.public_subkeys.iter().map(|subkey| Fingerprint::of(&subkey.key))
    }

    pub(crate) fn primary(&self) -> &pgp::packet::PublicKey {
        &self.key.primary_key
    }

    pub(crate) fn subkey(&self, index: usize) -> &pgp::packet::PublicSubkey {
        &self.key.public_subkeys[index].key
    }

    /// The newest certification that the key made for `user`. `None` if that is a revocation.
    fn user_self_signature<'a>(&'a self, user: &'a pgp::types::SignedUser, now: i64) -> Option<&'a Signature> {
        let primary = &self.key.primary_key;
        let newest = user
            .signatures
            .iter()
            .filter(|signature| {
                by(signature, primary)
                    && usable(signature, now)
                    && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            })
            .max_by_key(|signature| made(signature))?;
        (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
    }
}

/// A key's algorithm and size in words: `rsa4096`, `ed25519`, `nistp256`, `dsa1024`.
pub(crate) fn algorithm_name(key: &impl KeyDetails) -> String {
    match key.public_params() {
        PublicParams::RSA(params) => format!("rsa{}", rsa_bits(params)),
        PublicParams::DSA(params) => format!("dsa{}", dsa_bits(params).0),
        PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) => "ed25519".to_owned(),
        PublicParams::Ed448(_) => "ed448".to_owned(),
        PublicParams::ECDSA(params) => format!("ecdsa-{}", params.curve()).to_ascii_lowercase().replace(' ', ""),
        _ => format!("{:?}", key.algorithm()).to_ascii_lowercase(),
    }
}

/// Whether a key is too small to rely on: RSA below 2048 bits, DSA below 2048/224 bits (NIST SP 800-131A).
///
/// This refuses Gentoo's old release key: a DSA key of 1024 bits, whose signatures cover only 160 bits of a hash.
pub(crate) fn is_weak(key: &impl KeyDetails) -> bool {
    match key.public_params() {
        PublicParams::RSA(params) => rsa_bits(params) < 2048,
        PublicParams::DSA(params) => {
            let (p, q) = dsa_bits(params);
            p < 2048 || q < 224
        }
        PublicParams::Elgamal(_) => true,
        _ => key.algorithm() == PublicKeyAlgorithm::Elgamal,
    }
}

fn rsa_bits(params: &pgp::types::RsaPublicParams) -> usize {
    use pgp::ser::Serialize as _;
    // Modulus, then exponent (RFC 9580, section 5.5.5.1). Writing into a vector cannot fail. If it did, the key would count as weak.
    let mut bytes = Vec::new();
    drop(params.to_writer(&mut bytes));
    mpi_bits(&bytes).unwrap_or(0)
}

fn dsa_bits(params: &pgp::types::DsaPublicParams) -> (usize, usize) {
    use pgp::ser::Serialize as _;
    let mut bytes = Vec::new();
    drop(params.to_writer(&mut bytes));
    let p = mpi_bits(&bytes).unwrap_or(0);
    let q = bytes.get(2 + p.div_ceil(8)..).and_then(mpi_bits).unwrap_or(0);
    (p, q)
}

/// The bit count of the first multiprecision integer in `bytes` (RFC 9580, section 3.2).
fn mpi_bits(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?])))
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of `map_err`")]
fn malformed(error: pgp::errors::Error) -> CertificateError {
    tracing::debug!(%error, "broken key material");
    CertificateError::Malformed
}

fn has_secret(packets: &[u8]) -> bool {
    PacketParser::new(packets).any(|packet| matches!(packet, Ok(Packet::SecretKey(_) | Packet::SecretSubkey(_))))
}

fn unite<T: PartialEq>(mine: &mut Vec<T>, theirs: Vec<T>) {
    for one in theirs {
        if !mine.contains(&one) {
            mine.push(one);
        }
    }
}

/// Whether a signature claims to be by `key`. Checking signatures of other keys would only take time.
fn by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_key_id().iter().any(|id| **id == key.legacy_key_id())
        || signature.issuer_fingerprint().iter().any(|fingerprint| **fingerprint == key.fingerprint())
}

/// Whether a self-signature counts at `now`: it is not from the future, not expired, and has no broken hash.
fn usable(signature: &Signature, now: i64) -> bool {
    let expired = signature
        .signature_expiration_time()
        .is_some_and(|validity| validity.as_secs() != 0 && made(signature) + i64::from(validity.as_secs()) <= now);
    signature.created().is_some()
        && made(signature) <= now + CLOCK_TOLERANCE_SECS
        && !expired
        && !matches!(signature.hash_alg(), Some(HashAlgorithm::Md5 | HashAlgorithm::Ripemd160) | None)
}

fn made(signature: &Signature) -> i64 {
    signature.created().map_or(0, |time| time.as_secs().into())
}

/// Whether the key flags allow signing data. `None` if there are no flags.
fn may_sign(signature: &Signature) -> Option<bool> {
    signature.config()?.hashed_subpackets().find_map(|subpacket| match &subpacket.data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    })
}

fn expiry(signature: &Signature, created: i64) -> Option<i64> {
    let validity = signature.key_expiration_time()?.as_secs();
    (validity != 0).then(|| created + i64::from(validity))
}

fn revocation(signature: &Signature) -> Revocation {
    let (hard, reason) = match signature.revocation_reason_code() {
        Some(RevocationCode::KeySuperseded) => (false, "superseded"),
        Some(RevocationCode::KeyRetired) => (false, "no longer used"),
        Some(RevocationCode::KeyCompromised) => (true, "compromised"),
        Some(_) | None => (true, "no reason given"),
    };
    Revocation { at: made(signature), hard, reason }
}

/// The worst of several revocations: a hard one, else the earliest.
fn worst(revocations: impl Iterator<Item = Revocation>) -> Option<Revocation> {
    revocations.min_by_key(|revocation| (!revocation.hard, revocation.at))
}

/// By how many seconds the clocks of signer and verifier may differ.
pub(crate) const CLOCK_TOLERANCE_SECS: i64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage3::test_gpg::TestGpg;

    #[test]
    fn a_revocation_by_another_key_revokes_nothing() {
        let Some(gpg) = TestGpg::new() else { return };
        let (key, other) = (gpg.key("Key <k@x>", "ed25519", "sign", "1y"), gpg.key("Other <o@x>", "ed25519", "sign", "1y"));
        let revocation = gpg.run(&["--no-batch", "--command-fd", "0", "--gen-revoke", &other], b"y\n1\n\ny\n");
        gpg.run(&["--import"], &revocation);
        let certificate = |key: &String| gpg.keys(&[key], &[key]).certificates().next().unwrap().clone();
        let (mut mine, theirs, now) = (certificate(&key), certificate(&other), jiff::Timestamp::now().as_second());
        assert!(theirs.standing(now).revoked.is_some());
        mine.key.details.revocation_signatures.extend(theirs.key.details.revocation_signatures);
        assert_eq!(mine.standing(now).revoked, None);
    }

    #[test]
    fn self_signatures_count_for_their_time() {
        use pgp::packet::{SignatureConfig, Subpacket};
        use pgp::types::{Duration, Timestamp};
        let Some(gpg) = TestGpg::new() else { return };
        let key = gpg.key("Key <k@x>", "rsa2048", "sign", "1y");
        let secret = gpg.secret_key(&key).primary_key;
        let signature = |at: Option<u32>, seconds_valid: Option<u32>, hash| {
            let created = at.map(|at| SubpacketData::SignatureCreationTime(Timestamp::from_secs(at)));
            let validity = seconds_valid.map(|valid| SubpacketData::SignatureExpirationTime(Duration::from_secs(valid)));
            let mut config = SignatureConfig::v4(SignatureType::CertPositive, secret.algorithm(), hash);
            let issuer = Some(SubpacketData::IssuerKeyId(secret.legacy_key_id()));
            config.hashed_subpackets =
                [created, validity, issuer].into_iter().flatten().map(|data| Subpacket::regular(data).unwrap()).collect();
            config
        };
        let now = 2_000_000_000;
        let mut certificate = gpg.keys(&[&key], &[&key]).certificates().next().unwrap().clone();
        let public = certificate.key.primary_key.clone();
        let mut counts = |at, valid, hash| {
            let user = &mut certificate.key.details.users[0];
            let signed = signature(at, valid, hash).sign_certification(&secret, &public, &"".into(), Tag::UserId, &user.id);
            user.signatures = vec![signed.unwrap()];
            certificate.standing(now.into()).bound
        };
        let strong = HashAlgorithm::Sha256;
        for (at, seconds_valid) in [(now - 10, None), (now + 300, None), (now - 10, Some(0)), (now - 10, Some(11))] {
            assert!(counts(Some(at), seconds_valid, strong), "{at} {seconds_valid:?}");
        }
        for (at, seconds_valid) in [(Some(now + 301), None), (Some(now - 10), Some(10)), (None, None)] {
            assert!(!counts(at, seconds_valid, strong), "{at:?} {seconds_valid:?}");
        }
        for weak in [HashAlgorithm::Md5, HashAlgorithm::Ripemd160] {
            assert!(!counts(Some(now - 10), None, weak), "{weak}");
        }
    }

    #[test]
    fn sizes_of_a_dsa_key() {
        let Some(gpg) = TestGpg::new() else { return };
        let key = gpg.key("Old <o@x>", "dsa1024", "sign", "1y");
        let certificate = gpg.keys(&[&key], &[&key]).certificates().next().unwrap().clone();
        let PublicParams::DSA(params) = certificate.key.primary_key.public_params() else { panic!() };
        assert_eq!(dsa_bits(params), (1024, 160));
    }

    #[test]
    fn two_copies_of_one_key_are_one() {
        let Some(gpg) = TestGpg::new() else { return };
        let key = gpg.key("Key <k@x>", "ed25519", "sign", "1y");
        let mut certificate = gpg.keys(&[&key], &[&key]).certificates().next().unwrap().clone();
        let before = certificate.to_armored().unwrap();
        certificate.merge(certificate.clone());
        assert_eq!(certificate.to_armored().unwrap(), before);
    }

    #[test]
    fn a_key_that_was_compromised_is_void_whatever_else_was_said_of_it() {
        let revocation = |at, hard| Revocation { at, hard, reason: "" };
        let (retired, later, compromised) = (revocation(1, false), revocation(2, false), revocation(3, true));
        assert_eq!(worst([later, retired].into_iter()), Some(retired));
        assert_eq!(worst([retired, compromised, later].into_iter()), Some(compromised));
        assert_eq!(worst([revocation(4, true), compromised].into_iter()), Some(compromised));
    }
}
