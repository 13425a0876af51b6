//! Kinds and hints of what repositories do not give or take.

use crate::registry;

use crate::cli::report::{Failure, Kind};

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        use registry::Error as E;
        let kind = match &error {
            E::Address(_) => Kind::Usage,
            E::WrongDigest { .. } | E::TooLarge { .. } | E::NotAManifest { .. } | E::NotADigest { .. } => Kind::Verification,
            E::Interrupted => Kind::Interrupted,
            E::Credentials(_)
            | E::Refused { .. }
            | E::RefusedElsewhere { .. }
            | E::NoTls { .. }
            | E::NotFound { .. }
            | E::NotAccepted { .. }
            | E::NotARegistry { .. }
            | E::Changed { .. }
            | E::Unreachable { .. }
            | E::Offline { .. }
            | E::NoFolder { .. }
            | E::Beneath(_)
            | E::Io(_) => Kind::Other,
        };
        let hint = error.hint();
        let said = match &error {
            E::Refused { said: Some(said), .. } => Some(format!("the registry says: {said}")),
            _ => None,
        };
        said.into_iter().fold(Self::new(kind, error), Self::detail).hints(hint)
    }
}
