//! Stage3 tarballs: names, digests, signatures and trusted keys.
//!
//! ```text
//! name         what a file name says, for display
//! armor        text armour -> packets
//! cleartext    clear-signed document -> the text that was signed
//! fingerprint  the one name of a key that counts
//! certificate  public keys: merging, expiry, revocation, subkey bindings
//! openpgp      signatures over data: who, and does it count
//! digests      lists of digests; index: lists of the latest builds
//! hashing      all hashes of a file in one parallel pass
//! keys         config/keys: what is trusted
//! commit       a git commit that its maker has signed
//! verify       a tarball and the files beside it -> Verified, still open
//! publish      the lists that we write ourselves; sign: the user's gpg
//! ```
//!
//! We verify with a library of our own, because the answer must be *which key*, compared with a pinned fingerprint. `gpg` answers with an
//! exit code about a keyring of unknown content. Signing is left to the user's `gpg`, which knows agents and smartcards.

mod armor;
mod certificate;
pub(crate) mod cleartext;
mod commit;
pub(crate) mod digests;
mod fingerprint;
pub(crate) mod hashing;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod name;
mod openpgp;
pub(crate) mod publish;
pub(crate) mod sign;
#[cfg(test)]
pub(crate) mod test_gpg;
mod verify;

pub(crate) use certificate::{Certificate, CertificateError};
pub(crate) use commit::verify_commit;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use name::StageName;
pub use openpgp::Signer;
pub(crate) use openpgp::{Day, SignatureError};
pub use verify::{Check, Verified, VerifyError, VerifyOptions, verify};
pub(crate) use verify::{Reason, verify_clear_signed, verify_detached, verify_reader};
