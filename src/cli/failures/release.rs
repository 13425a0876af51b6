//! Kinds and hints of what cannot be fetched, or not be trusted.

use crate::{download, release};

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<download::Error> for Failure {
    fn from(error: download::Error) -> Self {
        use download::Error as E;
        let (kind, lines) = match &error {
            E::Interrupted => (Kind::Interrupted, Vec::new()),
            E::Url(_) | E::NoUrls { .. } => (Kind::Usage, Vec::new()),
            E::Failed { tried, .. } => (Kind::Other, tried.iter().map(|tried| format!("{}: {}", tried.url, tried.cause)).collect()),
            E::Offline { .. } | E::NothingHere { .. } | E::Io { .. } | E::Busy { .. } => (Kind::Other, Vec::new()),
        };
        let hint = error.hint();
        lines.into_iter().fold(Self::new(kind, error), Self::detail).hints(hint)
    }
}

impl From<release::Error> for Failure {
    fn from(error: release::Error) -> Self {
        use release::Error as E;
        let (kind, hint) = match &error {
            E::Untrusted { reason, .. } => (Kind::Verification, Some(reason.hint())),
            E::Index { .. } => (Kind::Other, Some("name another mirror with `--mirror`".to_owned())),
            E::Replayed { .. } => (
                Kind::Verification,
                Some(
                    "somebody may be hiding newer builds: name another mirror with `--mirror`, or a build with `--date`".to_owned(),
                ),
            ),
            E::NoSuchVariant { known, .. } => (Kind::Usage, there_are(known)),
            E::Variant { .. } => (Kind::Usage, Some("`gentoomuch stage3 ls` lists the variants".to_owned())),
            E::Arch { .. } => (Kind::Usage, Some("such as amd64, arm64, riscv, x86".to_owned())),
            E::Date { .. } => (Kind::Usage, Some("it is in the file's name, such as 20260811T083102Z".to_owned())),
            E::Download(_) | E::Verify(_) | E::Io { .. } => (Kind::Other, None),
        };
        match error {
            E::Download(error) => error.into(),
            E::Verify(error) => error.into(),
            error => Self::new(kind, error).hints(hint),
        }
    }
}

impl From<release::keys::Error> for Failure {
    fn from(error: release::keys::Error) -> Self {
        use release::keys::Error as E;
        match error {
            E::Download(error) => error.into(),
            E::Keys(error) => error.into(),
            E::NotPinned(ref fingerprint) => {
                let hint = format!("if you know that it is the right key, trust it: `gentoomuch keys trust {fingerprint}`");
                Self::new(Kind::Verification, error).hint(hint)
            }
            E::Nowhere { ref tried, .. } => {
                let lines: Vec<String> = tried.iter().map(|(url, unusable)| format!("{url}: {unusable}")).collect();
                let failure = lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail);
                failure.hint(
                    "say where it is with `--wkd ADDRESS` or `--hkps SERVER`, or get its file and run `gentoomuch keys import \
                     FILE`",
                )
            }
        }
    }
}
