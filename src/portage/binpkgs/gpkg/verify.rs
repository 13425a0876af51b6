//! Verifies a binary package that somebody else has signed, before a session sees it.
//!
//! It asks for what Portage asks for (see the room above): a clear-signed Manifest, a detached signature of each part, and that each member
//! is what the Manifest says. But it asks it of pinned keys by a library of our own, outside of the session. Nothing of the parts is
//! unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use super::members::{Member, Members, Trouble};
use super::{MANIFEST, MAX_MANIFEST_BYTES, Problem, SIGNATURE, VERSION};
use crate::portage::manifest::Expected;
use crate::stage3::cleartext::CleartextError;
use crate::stage3::keys::KeysFor;
use crate::stage3::{Reason, SignatureError, VerifyError, VerifyOptions, verify_clear_signed, verify_reader};
use crate::terminal_text::sanitize_line;

/// A signature has some hundred bytes.
const MAX_SIGNATURE_BYTES: u64 = 64 * 1024;

/// Why a package of a host is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A package in the format before `gpkg`.
    #[error("it is in the old format (xpak), which has no signatures")]
    OldFormat,
    /// Its Manifest is plain text.
    #[error("it is not signed")]
    Unsigned,
    /// A part has no signature beside it.
    #[error("`{0}` in it is not signed")]
    UnsignedPart(String),
    /// The Manifest is not a clear-signed document as it should be.
    #[error("its Manifest cannot be read")]
    Cleartext(#[source] CleartextError),
    /// A signature does not count.
    #[error("the signature of its `{part}` does not count")]
    Signature {
        /// The member that is signed.
        part: String,
        #[source]
        source: SignatureError,
    },
    /// Its members are not those of a package, or not those of its Manifest.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// It ends within a member.
    #[error("it ends too early: truncated")]
    Truncated,
    /// Something is behind its last member.
    #[error("something follows behind its last part")]
    Behind,
    /// There is no readable archive.
    #[error("it is not a tar archive that can be read")]
    NoArchive,
    /// Reading failed.
    #[error("it cannot be read: {0}")]
    Read(io::ErrorKind),
}

impl Refusal {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        use SignatureError as S;
        let source = if let Self::Signature { source, .. } = self { Some(source) } else { None };
        match source {
            Some(S::Unknown { .. }) => "if that key is right, import it with `gentoomuch keys import --for binpkg FILE`".to_owned(),
            Some(S::Untrusted { signer, .. } | S::OtherPurpose { signer, .. }) => {
                format!("if that key is right, trust it with `gentoomuch keys trust {signer} --for binpkg`")
            }
            Some(S::NoKeyMaterial { signer, .. }) => {
                format!("get the public key with `gentoomuch keys fetch {signer}` or `gentoomuch keys import FILE`")
            }
            Some(S::KeyExpired { .. }) => "import a newer copy of the key with `gentoomuch keys import FILE`".to_owned(),
            _ => "it was not installed; ask the owner of the binhost, or remove the binhost from `binrepos.conf`".to_owned(),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Problem(problem) => problem.into(),
            Trouble::Io(error) => error.into(),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            // The reader of archives has no kinds of its own.
            kind if error.raw_os_error().is_some() => Self::Read(kind),
            _ => Self::NoArchive,
        }
    }
}

/// Whether all of `package` is signed by one of `keys`. `now` is in seconds since 1970.
pub(crate) fn verify(package: &File, keys: KeysFor<'_>, now: i64) -> Result<(), Refusal> {
    let options = VerifyOptions { now, ..VerifyOptions::default() };
    let members = Members::of(package)?;
    let manifest = members.named(MANIFEST).ok_or(Problem::Manifest)?.bytes(package, MAX_MANIFEST_BYTES)?;
    let mut listed = listed(&signed_text(&manifest, keys, &options)?)?;
    // Signatures first: one that is not the Manifest's says nothing about its part.
    let (parts, signatures): (Vec<&Member>, Vec<&Member>) =
        members.all.iter().filter(|member| member.name != MANIFEST).partition(|member| member.is_part());
    for member in signatures.into_iter().chain(parts) {
        let expected = listed.remove(&member.name).filter(|expected| expected.size == member.size);
        let expected = expected.ok_or_else(|| Problem::Differs(member.name.clone()))?;
        let signature = members.named(&format!("{}{SIGNATURE}", member.name));
        check(package, member, signature, &expected, keys, &options)?;
    }
    if let Some(name) = listed.into_keys().next() {
        return Err(Problem::Missing(sanitize_line(name.as_bytes(), 400)).into());
    }
    if members.has_more(package)? { Err(Refusal::Behind) } else { Ok(()) }
}

/// The text of the Manifest, if it is signed.
fn signed_text(manifest: &[u8], keys: KeysFor<'_>, options: &VerifyOptions) -> Result<String, Refusal> {
    let reason = match verify_clear_signed(MANIFEST, manifest, keys, options) {
        Ok((text, _)) => return Ok(text),
        Err(VerifyError::Rejected { reason, .. }) => reason,
        Err(_) => return Err(Problem::Manifest.into()),
    };
    Err(match reason {
        Reason::Cleartext { source: CleartextError::NotSigned, .. } => Refusal::Unsigned,
        Reason::Cleartext { source, .. } => Refusal::Cleartext(source),
        Reason::Signature { source, .. } => Refusal::Signature { part: MANIFEST.to_owned(), source },
        _ => Problem::Manifest.into(),
    })
}

/// What the Manifest says of each member.
fn listed(text: &str) -> Result<BTreeMap<String, Expected>, Problem> {
    let mut listed = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["DATA", name, rest @ ..] = &words[..] else { return Err(Problem::Manifest) };
        let expected = Expected::of(rest).filter(|expected| !expected.hashes.is_empty()).ok_or(Problem::Manifest)?;
        if listed.insert((*name).to_owned(), expected).is_some() {
            return Err(Problem::Manifest);
        }
    }
    Ok(listed)
}

/// Compares a member with the Manifest and verifies its signature.
fn check(
    package: &File,
    member: &Member,
    signature: Option<&Member>,
    expected: &Expected,
    keys: KeysFor<'_>,
    options: &VerifyOptions,
) -> Result<(), Refusal> {
    let differs = || Refusal::from(Problem::Differs(member.name.clone()));
    let Some(signature) = signature.filter(|_| member.is_part()) else {
        // The version file is empty, and a signature vouches for itself.
        if member.is_part() && member.name != VERSION {
            return Err(Refusal::UnsignedPart(member.name.clone()));
        }
        let same = expected.difference(member.reader(package))?.is_none();
        return if same { Ok(()) } else { Err(differs()) };
    };
    let signature = signature.bytes(package, MAX_SIGNATURE_BYTES)?;
    let (hashers, size, outcome) = verify_reader(&signature, member.reader(package), expected.hashers(), keys, options)?;
    if expected.difference_of(&hashers, size).is_some() {
        return Err(differs());
    }
    outcome.map(|_| ()).map_err(|source| Refusal::Signature { part: member.name.clone(), source })
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
