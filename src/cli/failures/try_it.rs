//! Kinds and hints of why nothing is tried.

use crate::query::versions::NotVisible as N;
use crate::try_it;

use super::{accepting, there_are};
use crate::cli::report::{Failure, Kind};

impl From<try_it::Error> for Failure {
    fn from(error: try_it::Error) -> Self {
        use try_it::Error as E;
        let did_you_mean = |near: &[String]| (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
        let mut details = Vec::new();
        let hints: Vec<String> = match &error {
            E::Word { .. } => vec!["for example `--matrix \"ipv6 ssl dev-libs/openssl:ktls\"`".to_owned()],
            E::Cflags(_) => vec![
                "write them as a compiler takes them, without quotes; a leading `+` adds them to the configured ones".to_owned(),
            ],
            E::NotVisible(N::NoPackage { near, .. }) => {
                did_you_mean(near).into_iter().chain(["fetch a newer tree with `gentoomuch sync`".to_owned()]).collect()
            }
            E::NotVisible(N::Masked { reasons, .. }) if reasons.iter().any(|reason| reason.contains("keyword")) => {
                vec![format!("accept it for this experiment with `--keyword '{}'`", accepting(reasons))]
            }
            E::NotVisible(N::Masked { atom, .. }) => {
                vec![format!("see the lines that the configuration needs with `gentoomuch resolve {atom}`")]
            }
            E::NoFlag { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
            E::NoFlag { known, packages, .. } if known.is_empty() => vec![format!("{} has no flags", packages.join(", "))],
            E::NoFlag { known, .. } => there_are(known).into_iter().collect(),
            E::TooMany { .. } => vec!["each flag doubles the number: try fewer flags at a time".to_owned()],
            E::AllLeftOut { reasons, ways } => {
                details.clone_from(reasons);
                ways.iter().map(|way| format!("satisfy it with `--use \"{way}\"`")).collect()
            }
            E::Context(_) | E::Config(_) | E::Names(_) | E::Session(_) | E::Recipe(_) => Vec::new(),
        };
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Recipe(error) => error.into(),
            error => details.into_iter().fold(Self::new(Kind::Usage, error), Self::detail).hints(hints),
        }
    }
}
