//! Kinds and hints of a binary package host of ours.

use crate::binhost;
use crate::portage::binpkgs::gpkg;

use crate::cli::report::{Failure, Kind};

impl From<binhost::Error> for Failure {
    fn from(error: binhost::Error) -> Self {
        use binhost::Error as E;
        let (kind, hint) = match error {
            E::Context(error) => return error.into(),
            E::Names(error) => return error.into(),
            E::Config(error) => return error.into(),
            E::NoPool { ref profile } => {
                (Kind::Usage, Some(format!("build its builder with `gentoomuch bootstrap {profile} STAGE3`: that fills the pool")))
            }
            E::NotOurs(_) => (Kind::Usage, Some("name a new directory, or one that was exported before".to_owned())),
            E::OtherProfile { ref profile, .. } => {
                (Kind::Usage, Some(format!("name another directory, or export `{profile}` with `--profile {profile}`")))
            }
            E::Sign(ref sign) | E::Package(gpkg::Error::Sign { source: ref sign, .. }) => {
                let lines = sign.last_lines().to_vec();
                let failure = lines.into_iter().fold(Self::new(Kind::Signing, error), Self::detail);
                return failure.hint("put the fingerprint of a key that can sign into `env/sign_key`");
            }
            E::Package(_) | E::Damaged { .. } | E::Binpkgs(_) => (Kind::Other, None),
        };
        Self::new(kind, error).hints(hint)
    }
}
