//! Why a release cannot be fetched.

use crate::download;
use crate::download::Url;
use crate::path_error::PathError;
use crate::stage3::index::IndexError;
use crate::stage3::{Day, Reason, VerifyError};

/// Errors of fetching releases.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Download(#[from] download::Error),
    /// What was downloaded cannot be trusted.
    #[error("cannot trust `{url}`")]
    Untrusted {
        url: Url,
        #[source]
        reason: Reason,
    },
    /// The download could not be verified for another reason.
    #[error(transparent)]
    Verify(VerifyError),
    /// A signed list that we do not understand.
    #[error("cannot read the list `{url}`")]
    Index {
        url: Url,
        #[source]
        source: IndexError,
    },
    /// The list is older than one seen before, by more than mirrors lag.
    #[error("the list `{url}` is from {}, older than one from {} seen before", Day(*made), Day(*seen))]
    Replayed {
        url: Url,
        /// When it was made, seconds since 1970.
        made: i64,
        /// When the newest list seen before was made.
        seen: i64,
    },
    /// A name that no variant can have.
    #[error("`{text}` is not the name of a stage3's variant")]
    Variant { text: String },
    /// An architecture that upstream does not have.
    #[error("`{text}` is not the name of an architecture")]
    Arch { text: String },
    /// The list has no such variant.
    #[error("there is no stage3 `{variant}` in the list of {arch}")]
    NoSuchVariant {
        /// The variant asked for.
        variant: String,
        arch: String,
        known: Vec<String>,
    },
    /// Not a time.
    #[error("`{text}` is not the time of a build")]
    Date { text: String },
    #[error(transparent)]
    Io(#[from] PathError),
}

impl Error {
    /// The error for a file of `url` that does not verify.
    pub(super) fn verifying(url: &Url, error: VerifyError) -> Self {
        match error {
            VerifyError::Rejected { reason, .. } => Self::Untrusted { url: url.clone(), reason },
            other => Self::Verify(other),
        }
    }
}
