//! Kinds and hints of what is not done with what was built.

use crate::history;

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<history::Error> for Failure {
    fn from(error: history::Error) -> Self {
        use history::Error as E;
        let hint = match &error {
            E::NoValue { kept: 1, .. } => Some("it has its present value only".to_owned()),
            E::NoValue { name, kept, .. } => {
                Some(format!("`gentoomuch log {name}` lists what there is: 1, the one before, to {}", kept - 1))
            }
            E::TwoPositions(_) => Some("leave one of them out".to_owned()),
            E::Upstream { profile, .. } => Some(format!("`gentoomuch rollback profile/{profile}` takes both back")),
            E::Tagged { .. } => Some("`--force` moves it; `gentoomuch log` remembers what it was".to_owned()),
            E::NoTag { known, .. } => there_are(known).or_else(|| Some("there are none".to_owned())),
            E::TagTaken(_) => Some("any other name: `gentoomuch tag STATE release-1`".to_owned()),
            E::TagName { .. } => Some("letters, digits and `._+-`, with `/` between parts".to_owned()),
            E::Missing { state, .. } => Some(format!("`gentoomuch shell {state}` looks around in it")),
            E::Directory { .. } => Some("name a directory to copy it to".to_owned()),
            E::NoName { .. } => Some("name a path that is not there yet, which becomes the copy".to_owned()),
            E::Exists(_) => Some("move it away, or name another directory".to_owned()),
            E::NoDirectory(_) => Some("make it first".to_owned()),
            E::Special { .. } | E::Context(_) | E::Config(_) | E::Names(_) | E::Binpkgs(_) => None,
        };
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Binpkgs(_) => Self::new(Kind::Other, error),
            error => Self::new(Kind::Usage, error).hints(hint),
        }
    }
}
