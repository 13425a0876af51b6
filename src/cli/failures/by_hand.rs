//! Kinds and hints of a failed build that is not entered.

use crate::by_hand;

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<by_hand::Error> for Failure {
    fn from(error: by_hand::Error) -> Self {
        use by_hand::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Recipe(error) => error.into(),
            E::Patch(error) => error.into(),
            E::NothingFailed { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error)
                    .hints(hint)
                    .hint("a build whose package fails is kept until it goes on, or the machine boots: repeat the build")
            }
            E::Busy { .. } => Self::new(Kind::Other, error).hint("wait until it is done: `gentoomuch store ls` lists sessions"),
            E::NotRepeatable { .. } => Self::new(Kind::Usage, error).hint("open a shell there instead: leave out `--again`"),
            E::Untouched { ref what } => {
                let hint = format!("change files of the source in `gentoomuch shell --failed {what}`");
                Self::new(Kind::Usage, error).hint(hint)
            }
        }
    }
}
