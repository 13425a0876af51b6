//! Kinds and hints of what is not done with a profile.

use crate::profile;

use crate::cli::report::{Failure, Kind};

impl From<profile::Error> for Failure {
    fn from(error: profile::Error) -> Self {
        use profile::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Recipe(error) => error.into(),
            E::Resolve(error) => error.into(),
            E::NoBuilder { ref profile } | E::OtherStage3 { ref profile } => {
                let hint = format!("build it from the profile's stage3: `gentoomuch bootstrap {profile} STAGE3`");
                Self::new(Kind::Usage, error).hint(hint)
            }
            E::InUse { ref by, may_force, .. } => {
                let by = by.clone();
                let failure = by.into_iter().fold(Self::new(Kind::Usage, error), Self::detail);
                if may_force {
                    failure.hint("remove its names anyway with `--force`; states that were built on it stay")
                } else {
                    failure.hint("end it first")
                }
            }
            E::Exists { .. } => Self::new(Kind::Usage, error).hint("choose another name, or remove that one first"),
        }
    }
}
