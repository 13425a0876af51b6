//! Each library error's kind and hints: the table behind `report.rs`.

mod artifact;
mod binhost;
mod by_hand;
mod context;
mod freshroot;
mod history;
mod installed;
mod kernel;
mod names;
mod patch;
mod pipeline;
mod places;
mod profile;
mod recipe;
mod registry;
mod release;
mod remote;
mod report;
mod resolve;
pub(crate) mod sandbox;
mod session;
mod slurm;
mod stage3;
mod trees;
mod try_it;

use crate::config::explain::ExplainError;
use crate::config::init::InitError;
use crate::did_you_mean::{nearest, question};
use crate::{archive, config};

use crate::cli::report::{Failure, Kind};

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let hint = match &error {
            config::Error::Missing(_) => Some("choose one with `--config DIR`, or make one with `gentoomuch init`".to_owned()),
            config::Error::NoDefinitions(_) => Some("choose your configuration with `--config DIR`".to_owned()),
            config::Error::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            config::Error::Unknown { known, .. } if known.is_empty() => Some("there are none".to_owned()),
            config::Error::Unknown { known, .. } => Some(format!("there are: {}", known.join(", "))),
            _ => None,
        };
        let failure = Self::new(Kind::Config, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let hint = match &error {
            InitError::NotADirectory(_) => "name another directory, or move the file away",
            InitError::Io(error) => match error.source.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    "name a directory that you may write: `gentoomuch init DIR`"
                }
                std::io::ErrorKind::NotADirectory => "a file has the name of a directory: move it away, or name another directory",
                _ => "correct the cause and repeat the command: files that are written already stay",
            },
        };
        Self::new(Kind::Other, error).hint(hint)
    }
}

impl From<archive::Error> for Failure {
    fn from(error: archive::Error) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Self {
        use ExplainError as E;
        let nearest_or = |nearest: &Option<String>, otherwise: Option<String>| match nearest {
            Some(nearest) => Some(format!("did you mean `{nearest}`?")),
            None => otherwise,
        };
        let hint = match &error {
            E::Subject { packages, .. } if !packages.is_empty() => Some(format!("did you mean {}?", packages.join(" or "))),
            E::Subject { word, .. } => Some(format!(
                "write `USE:{word}` for the flag of all packages, or the category before a \
                package"
            )),
            E::Atom { .. } => Some("for example `app-misc/hello`, `app-misc/hello:nls` or `=app-misc/hello-2.10`".to_owned()),
            E::NoVariable { nearest, known, .. } | E::NoEntry { nearest, known, .. } | E::NoFlag { nearest, known, .. } => {
                nearest_or(nearest, there_are(known))
            }
            E::NoPackage { nearest, .. } => nearest_or(nearest, Some("fetch a newer tree with `gentoomuch sync`".to_owned())),
            E::NoVersion { known, .. } => there_are(known),
            E::Repository(_) => Some("fetch the tree again with `gentoomuch sync`".to_owned()),
        };
        Self::new(Kind::Usage, error).hints(hint)
    }
}

/// The keyword that accepts what Portage masks for these reasons: `~amd64 keyword`, but also `missing keyword` and `-amd64 keyword`.
pub(crate) fn accepting(reasons: &[String]) -> &str {
    let words = reasons.iter().filter_map(|reason| reason.strip_suffix(" keyword"));
    words.into_iter().find(|word| word.starts_with('~')).unwrap_or("**")
}

fn proposal(error: config::proposal::Error) -> Failure {
    use config::proposal::Error as E;
    match error {
        E::Contradiction(ref contradiction) => {
            let wanted = contradiction.wanted.clone();
            let reasons = contradiction.because.clone();
            let may_override = contradiction.may_override;
            let failure = reasons.into_iter().fold(Failure::new(Kind::Config, error), Failure::detail);
            let failure = failure.hint("drop that line, or the package that needs the other one");
            if may_override {
                failure
                    .hint(format!("or write `{wanted} # override` in a fragment that is merged later"))
                    .hint("or move both to one fragment")
            } else {
                failure
            }
        }
        E::Foreign { ref known, .. } => {
            let known = there_are(known);
            Failure::new(Kind::Usage, error).hints(known)
        }
        E::Name(_) => Failure::new(Kind::Usage, error).hint("a fragment is a folder of `portage.locals`, such as `web`"),
        E::Changed(_) => Failure::new(Kind::Other, error).hint("repeat the command"),
        E::Outside(_) => Failure::new(Kind::Config, error).hint("write to another fragment, or replace the link with a file"),
        E::Io { .. } => Failure::new(Kind::Other, error),
    }
}

/// The name that was probably meant, and all that there are.
pub(crate) fn meant_and_all(name: &str, known: &[String]) -> impl Iterator<Item = String> {
    nearest(name, known).map(question).into_iter().chain(there_are(known))
}

/// What could have been meant.
pub(crate) fn there_are(known: &[String]) -> Option<String> {
    (!known.is_empty()).then(|| format!("there are: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_that_accepts_a_version() {
        for (reasons, word) in [
            (&["~amd64 keyword"][..], "~amd64"),
            (&["missing keyword"], "**"),
            (&["-amd64 keyword"], "**"),
            (&["package.mask", "~arm64 keyword"], "~arm64"),
            (&["package.mask"], "**"),
        ] {
            let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            assert_eq!(accepting(&reasons), word, "{reasons:?}");
        }
    }
}
