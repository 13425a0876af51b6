//! Why a release cannot be had.

use crate::download;
use crate::download::Url;
use crate::path_error::PathError;
use crate::stage3::index::IndexError;
use crate::stage3::{Day, Reason, VerifyError};

/// What can go wrong with releases.
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
    /// What was downloaded could not be verified for another reason.
    #[error(transparent)]
    Verify(VerifyError),
    /// A list that is signed and makes no sense.
    #[error("cannot read the list `{url}`")]
    Index {
        url: Url,
        #[source]
        source: IndexError,
    },
    /// A list that is older than one seen before, by more than a mirror may lag.
    #[error("the list `{url}` is of {}, older than one of {} seen before", Day(*made), Day(*seen))]
    Replayed {
        url: Url,
        /// When it was made, seconds since 1970.
        made: i64,
        /// When the newest one that was seen was made.
        seen: i64,
    },
    /// A name that no variant can have.
    #[error("`{text}` is not the name of a stage3's variant")]
    Variant { text: String },
    /// An architecture that upstream has not.
    #[error("`{text}` is not the name of an architecture")]
    Arch { text: String },
    /// Not in the list.
    #[error("there is no stage3 `{variant}` in the list of {arch}")]
    NoSuchVariant {
        /// What was asked for.
        variant: String,
        arch: String,
        known: Vec<String>,
    },
    /// A time that is none.
    #[error("`{text}` is not a build's time")]
    Date { text: String },
    #[error(transparent)]
    Io(#[from] PathError),
}

impl Error {
    /// What came of verifying what is from `url`.
    pub(super) fn verifying(url: &Url, error: VerifyError) -> Self {
        match error {
            VerifyError::Rejected { reason, .. } => Self::Untrusted { url: url.clone(), reason },
            other => Self::Verify(other),
        }
    }
}
