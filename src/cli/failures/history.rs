//! Kinds and hints of what is not done with what was built.

use crate::did_you_mean::{nearest, question};
use crate::history;

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<history::Error> for Failure {
    fn from(error: history::Error) -> Self {
        use history::Error as E;
        let hint = match &error {
            E::NoValue { kept: 1, .. } => Some("it has only its present value".to_owned()),
            E::NoValue { name, kept, .. } => {
                Some(format!("the oldest one is number {}: `gentoomuch log {name}` lists them", kept - 1))
            }
            E::TwoPositions(_) => Some("leave out one of the two".to_owned()),
            E::Upstream { profile, .. } => Some(format!("`gentoomuch rollback profile/{profile}` rolls both back")),
            E::Tagged { .. } => Some("move it with `--force`; `gentoomuch log` keeps the earlier state".to_owned()),
            E::NoTag { known, .. } => there_are(known).or_else(|| Some("there are none".to_owned())),
            E::EarlierState(_) => Some("`gentoomuch clean --keep N` removes earlier states".to_owned()),
            E::SeveralNames { fits, .. } => Some(format!("write one of these: {}", fits.join(", "))),
            E::OfProfile { profile, .. } => Some(format!("`gentoomuch profile rm {profile}` removes the whole profile")),
            E::Tree(name) => Some(format!("`gentoomuch tree rm {}` removes it", name.trim_start_matches("tree/"))),
            E::Defined { definition, .. } => Some(format!(
                "remove `{definition}` from the configuration first; with `--force` the name goes, and the next build makes it again"
            )),
            E::NameInUse { may_force: true, .. } => {
                Some("remove the name anyway with `--force`; what stands on it stays".to_owned())
            }
            E::NameInUse { .. } => Some("end it first".to_owned()),
            E::NoStage { name, known } => nearest(name, known).map(question).or_else(|| {
                there_are(known).or_else(|| Some("`gentoomuch stage build NAME` builds one, once it has a definition".to_owned()))
            }),
            E::NoArtifact { stage, known, .. } => {
                there_are(known).or_else(|| Some(format!("`gentoomuch stage build {stage}` makes one")))
            }
            E::DamagedArtifact { .. } => Some("it is left as it is: look at it, and remove it by hand".to_owned()),
            E::Moved { .. } => Some("repeat the command to see what there is now".to_owned()),
            E::NothingLogged => Some("a build logs what it does: `gentoomuch stage build NAME`".to_owned()),
            E::NothingGoesOn => Some("`gentoomuch logs` lists what was built".to_owned()),
            E::NoRun { name, known } => {
                let meant = nearest(name, known).map(question);
                meant.or_else(|| Some("`gentoomuch logs` lists the builds that have logged something".to_owned()))
            }
            E::NoLog { what, name, known } => {
                nearest(name, known).map(question).or_else(|| Some(format!("`gentoomuch logs {what}` lists them")))
            }
            E::TagTaken(_) => Some("choose another name, for example `gentoomuch tag STATE release-1`".to_owned()),
            E::TagName { .. } => Some("letters, digits and `._+-`, with `/` between parts".to_owned()),
            E::Missing { state, .. } => Some(format!("look into it with `gentoomuch shell {state}`")),
            E::Directory { .. } => Some("name a directory to copy it to".to_owned()),
            E::NoName { .. } => Some("give the copy a name that does not exist yet".to_owned()),
            E::Exists(_) => Some("move it away, or name another directory".to_owned()),
            E::NoDirectory(_) => Some("create it first".to_owned()),
            E::Stopped { .. } | E::Special { .. } | E::Context(_) | E::Config(_) | E::Names(_) | E::Binpkgs(_) => None,
        };
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Binpkgs(_) => Self::new(Kind::Other, error),
            E::Stopped { removed, source } => {
                removed.iter().fold(Self::from(*source), |failure, name| failure.detail(format!("removed before: {name}")))
            }
            E::NameInUse { ref by, .. } => {
                let by = by.clone();
                by.into_iter().fold(Self::new(Kind::Usage, error), Self::detail).hints(hint)
            }
            error => Self::new(Kind::Usage, error).hints(hint),
        }
    }
}
