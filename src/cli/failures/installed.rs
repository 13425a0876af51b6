//! Kinds and hints of questions about installed packages.

use crate::did_you_mean::question;
use crate::installed;

use crate::cli::report::{Failure, Kind};

impl From<installed::Error> for Failure {
    fn from(error: installed::Error) -> Self {
        use installed::Error as E;
        let (kind, hint) = match &error {
            E::NothingBuilt => (Kind::Usage, "`gentoomuch bootstrap` makes a profile".to_owned()),
            E::NotBuilt { stage } => (Kind::Usage, format!("build it with `gentoomuch stage build {stage}`")),
            E::NoArtifact { .. } => (Kind::Usage, "name the archive or the image itself; its `.json` lies beside it".to_owned()),
            E::Damaged { .. } => (Kind::Verification, "copy all files of the artifact again".to_owned()),
            E::NoProfileFor { .. } => {
                (Kind::Usage, "make a profile with `gentoomuch bootstrap`, from a stage3 of its kind".to_owned())
            }
            E::TooMany { .. } => (Kind::Other, "look at its `/var/db/pkg`: something has written there".to_owned()),
            E::Word { .. } => (Kind::Usage, "for example `hello`, `app-misc/hello` or `>=app-misc/hello-2`".to_owned()),
            E::Several { packages, .. } => (Kind::Usage, format!("write one of these: {}", packages.join(", "))),
            E::NotInstalled { versions, .. } if !versions.is_empty() => (Kind::Usage, format!("there is: {}", versions.join(", "))),
            E::NotInstalled { nearest: Some(near), .. } => (Kind::Usage, question(near)),
            E::NotInstalled { .. } => (Kind::Usage, "`gentoomuch resolve` says what would install it".to_owned()),
            E::NoDependencies { .. } => {
                (Kind::Usage, "ask about a state: `gentoomuch store ls` lists them, and a build makes this one again".to_owned())
            }
            E::Context(_) | E::Config(_) | E::Names(_) | E::Trees(_) | E::Session(_) => (Kind::Other, String::new()),
        };
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Session(error) => error.into(),
            error => Self::new(kind, error).hint(hint),
        }
    }
}
