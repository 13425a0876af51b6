//! Why a file cannot be trusted.

use std::io;
use std::path::PathBuf;

use crate::stage3::cleartext::CleartextError;
use crate::stage3::digests::{Algorithm, DigestsError};
use crate::stage3::openpgp::SignatureError;

/// Why a verification failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file, or one beside it, cannot be opened.
    #[error("cannot open `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe, …
    #[error("`{path}` is not a regular file")]
    NotRegular { path: PathBuf },
    /// A file of signatures or digests is too large.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: u64 },
    /// Somebody wrote to the file while we read it.
    #[error("`{path}` changed while it was being verified")]
    Changed { path: PathBuf },
    /// The file cannot be trusted.
    #[error("cannot trust `{file}`")]
    Rejected {
        /// Without directories.
        file: String,
        #[source]
        reason: Reason,
    },
}

/// Why a file cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No file beside it is signed.
    #[error("no signature found beside it: neither `{name}.asc` nor a clear-signed `{name}.DIGESTS`")]
    Unsigned { name: String },
    /// The signature does not count.
    #[error("the signature in `{sidecar}` does not count")]
    Signature {
        sidecar: String,
        #[source]
        source: SignatureError,
    },
    /// A document should be clear-signed and is not.
    #[error("cannot read `{sidecar}`")]
    Cleartext {
        sidecar: String,
        #[source]
        source: CleartextError,
    },
    /// A list of digests is of no use.
    #[error("cannot use `{sidecar}`")]
    List {
        sidecar: String,
        #[source]
        source: DigestsError,
    },
    /// The content has another digest than the one listed.
    #[error("its {algorithm} is not the one in `{sidecar}`{}", other(.name, .sidecar))]
    Digest {
        /// The file with the wrong content.
        name: String,
        /// Of the first digest that differs.
        algorithm: Algorithm,
        sidecar: String,
    },
    /// The download was interrupted.
    #[error("it looks truncated: it does not end like an xz file, and `{by}` does not match it")]
    Truncated {
        name: String,
        /// The list that does not match.
        by: String,
    },
}

/// Names the file with the wrong content if it is not the tarball itself.
fn other(name: &str, sidecar: &str) -> String {
    if name.ends_with(".CONTENTS.gz") && !sidecar.starts_with(name) { format!(" (`{name}`)") } else { String::new() }
}

impl VerifyError {
    pub fn hint(&self) -> Option<String> {
        let Self::Rejected { reason, .. } = self else { return None };
        Some(reason.hint())
    }
}

impl Reason {
    /// Whether the files are not what was published, so that downloading them again may help. Otherwise the key or its owner is the
    /// problem.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Digest { .. } | Self::Truncated { .. } | Self::Cleartext { .. } | Self::List { .. } => true,
            Self::Signature { source, .. } => source.is_tampering(),
            Self::Unsigned { .. } => false,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Reason::Unsigned { name } => {
                format!("download `{name}.asc` and `{name}.DIGESTS` from the same place into the same directory")
            }
            Reason::Truncated { .. } => "download it again; an interrupted download can be resumed".to_owned(),
            Reason::Digest { .. } => "download it again, with the files beside it, from another mirror".to_owned(),
            Reason::Cleartext { .. } | Reason::List { .. } => "download the file again, from another mirror".to_owned(),
            Reason::Signature { source, .. } => signature_hint(source),
        }
    }
}

fn signature_hint(error: &SignatureError) -> String {
    match error {
        SignatureError::Unknown { .. } => {
            "add the key with `gentoomuch keys import FILE`, or check where the file came from".to_owned()
        }
        SignatureError::Untrusted { signer, .. } => {
            format!("if you know this key, `gentoomuch keys trust {signer}`; else check where the file came from")
        }
        SignatureError::OtherPurpose { signer, wanted, .. } => {
            format!("if you also trust it for {wanted}: `gentoomuch keys trust {signer} --for {}`", wanted.word())
        }
        SignatureError::MadeAfterExpiry { .. } => {
            "if the owner has extended the key, get a refreshed copy with `gentoomuch keys fetch`; else check where the file came \
             from"
                .to_owned()
        }
        SignatureError::NoKeyMaterial { signer, .. } => {
            format!("get the public key with `gentoomuch keys fetch {signer}` or `gentoomuch keys import FILE`")
        }
        SignatureError::KeyExpired { .. } => {
            "get a refreshed copy of the key with `gentoomuch keys fetch`, or accept it with `--allow-expired`".to_owned()
        }
        SignatureError::NoSelfSignature { .. } | SignatureError::NotBound { .. } => {
            "get a complete copy of the key, and import it with `gentoomuch keys import FILE`".to_owned()
        }
        SignatureError::Future { .. } => "set this machine's clock".to_owned(),
        SignatureError::Truncated | SignatureError::Malformed => "download the signature again".to_owned(),
        SignatureError::Bad { .. } => "download the file and its signature again, from another mirror".to_owned(),
        _ => "check where the file came from".to_owned(),
    }
}
