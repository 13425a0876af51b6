//! Kinds and hints of keys and verification.

use crate::cli::report::{Failure, Kind};
use crate::stage3::VerifyError;
use crate::stage3::keys::KeysError;

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        let hint = error.hint();
        let kind = match error {
            VerifyError::Rejected { .. } | VerifyError::Changed { .. } => Kind::Verification,
            VerifyError::Open { .. } | VerifyError::NotRegular { .. } => Kind::Usage,
            VerifyError::Read { .. } | VerifyError::TooLarge { .. } => Kind::Other,
        };
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let kind = match error {
            KeysError::NoSuchKey { .. } | KeysError::Comment => Kind::Usage,
            KeysError::Write { .. } => Kind::Other,
            _ => Kind::Config,
        };
        let known =
            matches!(error, KeysError::NoSuchKey { .. }).then(|| "`gentoomuch keys ls` lists those that there are".to_owned());
        Self::new(kind, error).hints(known)
    }
}
