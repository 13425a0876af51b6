//! Kinds and hints of a session that is not opened.

use crate::freshroot;

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<freshroot::Error> for Failure {
    fn from(error: freshroot::Error) -> Self {
        use freshroot::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::NoKept { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("keep a session with `gentoomuch freshroot --keep NAME`")
            }
            E::KeptExists { .. } => Self::new(Kind::Usage, error).hint("choose another name, or replace it with `--force`"),
        }
    }
}
