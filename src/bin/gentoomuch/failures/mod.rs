//! Each library error's kind and hints: the table behind `report.rs`.

mod artifact;
mod binhost;
mod context;
mod kernel;
mod names;
mod patch;
mod places;
mod release;
pub(crate) mod sandbox;
mod session;
mod trees;

use gentoomuch::config::explain::ExplainError;
use gentoomuch::config::init::InitError;
use gentoomuch::history::{cp, log};
use gentoomuch::pipeline::PipelineError;
use gentoomuch::portage::emerge::resolution::Problem;
use gentoomuch::{archive, config, error as build, resolve, try_it};

use crate::report::{Failure, Kind};
use crate::screen::Shown as _;

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let hint = match &error {
            config::Error::Missing(_) => Some("choose one with `--config DIR`, or make one with `gentoomuch init`".to_owned()),
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
                _ => "correct the cause and repeat the command: what is there by now stays",
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

impl Failure {
    /// The same with the change that would help, as a diff.
    fn proposed(self, arguments: &str, resolved: &resolve::Resolved) -> Self {
        let diff = config::proposal::unified(&resolved.edits);
        let failure = diff.lines().map(str::to_owned).fold(self, Self::detail);
        failure.hint(format!("`gentoomuch resolve {arguments} --write FRAGMENT` writes it; then repeat the command"))
    }
}

impl From<build::Error> for Failure {
    fn from(error: build::Error) -> Self {
        use build::Error as E;
        match error {
            E::Config(error) => error.into(),
            E::Context(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Artifact(error) => error.into(),
            E::Binhost(error) => error.into(),
            E::Untrusted(error) => crate::commands::verify_failure(error),
            E::Refused { findings, proposal } => {
                let failure = Self::from(config::Error::Invalid(findings));
                proposal.iter().fold(failure, |failure, (arguments, resolved)| failure.proposed(arguments, resolved))
            }
            E::Unconfigured { stage: _, ref arguments, ref resolved, ref log } => {
                let (log, arguments, resolved) = (log.shown(), arguments.clone(), resolved.clone());
                Self::new(Kind::Emerge, error).proposed(&arguments, &resolved).hint(format!("the whole output is in {log}"))
            }
            E::Unresolvable { ref problems, ref contradiction, ref last_lines, ref log, .. } => {
                let mut lines: Vec<String> = contradiction.iter().cloned().collect();
                lines.extend(problems.iter().flat_map(Problem::explained));
                if lines.is_empty() {
                    lines.clone_from(last_lines);
                }
                let mut hints: Vec<String> = problems.iter().filter_map(Problem::way_out).collect();
                hints.dedup();
                let log = format!("the whole output is in {}", log.shown());
                lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail).hints(hints).hint(log)
            }
            E::Proposal(error) => proposal(error),
            E::Kernel(error) => error.into(),
            E::History(error) => history(error),
            E::Copy(error) => copy(error),
            E::Experiment(error) => experiment(error),
            E::DoesNotApply(misfit) => {
                let hints = [
                    format!("the whole output is in {}", misfit.log.shown()),
                    format!("`gentoomuch patch refresh {}` brings it to the version that is built now", misfit.name),
                ];
                let lines = misfit.last_lines.clone();
                lines.into_iter().fold(Self::new(Kind::Config, *misfit), Self::detail).hints(hints.to_vec())
            }
            E::Patch(error) => patch::patch(error),
            E::Suspended(error) => suspended(*error),
            E::NoBuilder { ref profile } | E::OtherStage3 { ref profile } => {
                let hint = format!("build it from the profile's stage3: `gentoomuch bootstrap {profile} STAGE3`");
                Self::new(Kind::Usage, error).hint(hint)
            }
            E::ProfileInUse { ref by, may_force, .. } => {
                let by = by.clone();
                let failure = by.into_iter().fold(Self::new(Kind::Usage, error), Self::detail);
                if may_force {
                    failure.hint("`--force` removes its names nevertheless; what was built on it stays")
                } else {
                    failure.hint("end it first")
                }
            }
            E::ProfileExists { .. } => Self::new(Kind::Usage, error).hint("choose another name, or remove that one first"),
            E::NoPortageProfile { .. } => Self::new(Kind::Config, error).hint("`profiles/profiles.desc` of the tree lists them"),
            E::Cpu { ref reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let failure = reasons.into_iter().fold(Self::new(Kind::Config, error), Self::detail);
                failure.hint("build it on a machine that has them, or choose another `cpu` for the definition")
            }
            E::NoKept { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("keep a session with `gentoomuch freshroot --keep NAME`")
            }
            E::Pipeline(PipelineError::UnknownNode { ref known, .. }) => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint)
            }
            E::Pipeline(PipelineError::Unbuilt { ref needs, .. }) => {
                let needs: Vec<String> = needs.iter().map(|id| format!("`gentoomuch pipeline node {id}` first")).collect();
                Self::new(Kind::Usage, error).hints(needs)
            }
            E::KeptExists { .. } => Self::new(Kind::Usage, error).hint("choose another name"),
        }
    }
}

/// A build that has ended early and can go on.
fn suspended(error: build::Error) -> Failure {
    // Whoever was killed in the middle of an emerge has it failed.
    let died = matches!(error, build::Error::Context(gentoomuch::context::Error::Sandbox(gentoomuch::sandbox::Error::Died { .. })));
    let failure = Failure::from(error);
    let failure = if died { failure.of_kind(Kind::Emerge) } else { failure };
    failure.hint("what was built so far is kept: repeat the command to go on where it stopped")
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
            E::Subject { word, .. } => Some(format!("a flag for all packages is `USE:{word}`, a package has a category before it")),
            E::Atom { .. } => Some("for example `app-misc/hello`, `app-misc/hello:nls` or `=app-misc/hello-2.10`".to_owned()),
            E::NoVariable { nearest, known, .. } | E::NoEntry { nearest, known, .. } | E::NoFlag { nearest, known, .. } => {
                nearest_or(nearest, there_are(known))
            }
            E::NoPackage { nearest, .. } => nearest_or(nearest, Some("`gentoomuch sync` imports a newer tree".to_owned())),
            E::NoVersion { known, .. } => there_are(known),
            E::Repository(_) => Some("import the tree again with `gentoomuch sync`".to_owned()),
        };
        Self::new(Kind::Usage, error).hints(hint)
    }
}

fn experiment(error: try_it::ExperimentError) -> Failure {
    use gentoomuch::session::visible::NotVisible as N;
    use try_it::ExperimentError as E;
    let did_you_mean = |near: &[String]| (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
    let (mut details, mut kind) = (Vec::new(), Kind::Usage);
    let hints: Vec<String> = match &error {
        E::Word { .. } => vec!["for example `--matrix \"ipv6 ssl dev-libs/openssl:ktls\"`".to_owned()],
        E::Cflags(_) => vec![
            "write them as a compiler takes them, without quotes; one that begins with `+` is added to those configured".to_owned(),
        ],
        E::NotVisible(N::NoPackage { near, .. }) => {
            did_you_mean(near).into_iter().chain(["`gentoomuch sync` imports a newer tree".to_owned()]).collect()
        }
        E::NotVisible(N::Masked { reasons, .. }) if reasons.iter().any(|reason| reason.contains("keyword")) => {
            vec![format!("`--keyword '{}'` accepts it for this experiment", accepting(reasons))]
        }
        E::NotVisible(N::Masked { atom, .. }) => {
            vec![format!("`gentoomuch resolve {atom}` shows what the configuration would have to say")]
        }
        E::NoFlag { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
        E::NoFlag { known, packages, .. } if known.is_empty() => vec![format!("{} has no flags", packages.join(", "))],
        E::NoFlag { known, .. } => there_are(known).into_iter().collect(),
        E::TooMany { .. } => vec!["each flag doubles them: try fewer at a time".to_owned()],
        E::AllLeftOut { reasons, ways } => {
            details.clone_from(reasons);
            ways.iter().map(|way| format!("`--use \"{way}\"` satisfies it")).collect()
        }
        E::Answer(_) => {
            kind = Kind::Other;
            vec!["see whether `gentoomuch freshroot -- emerge --info` works".to_owned()]
        }
    };
    details.into_iter().fold(Failure::new(kind, error), Failure::detail).hints(hints)
}

/// The keyword that accepts what Portage masks for these reasons: `~amd64 keyword`, but also `missing keyword` and `-amd64 keyword`.
pub(crate) fn accepting(reasons: &[String]) -> &str {
    let words = reasons.iter().filter_map(|reason| reason.strip_suffix(" keyword"));
    words.into_iter().find(|word| word.starts_with('~')).unwrap_or("**")
}

fn history(error: log::HistoryError) -> Failure {
    use log::HistoryError as E;
    let hint = match &error {
        E::NoValue { kept: 1, .. } => "it has its present value only".to_owned(),
        E::NoValue { name, kept, .. } => {
            format!("`gentoomuch log {name}` lists what there is: 1, the one before, to {}", kept - 1)
        }
        E::TwoPositions(_) => "leave one of them out".to_owned(),
        E::Upstream { profile, .. } => format!("`gentoomuch rollback profile/{profile}` takes both back"),
        E::Tagged { .. } => "`--force` moves it; `gentoomuch log` remembers what it was".to_owned(),
        E::NoTag { known, .. } => there_are(known).unwrap_or_else(|| "there are none".to_owned()),
        E::TagTaken(_) => "any other name: `gentoomuch tag STATE release-1`".to_owned(),
        E::TagName { .. } => "letters, digits and `._+-`, with `/` between parts".to_owned(),
    };
    Failure::new(Kind::Usage, error).hint(hint)
}

fn copy(error: cp::CopyError) -> Failure {
    use cp::CopyError as E;
    let hint = match &error {
        E::Missing { state, .. } => Some(format!("`gentoomuch shell {state}` looks around in it")),
        E::Special { .. } => None,
        E::Directory { .. } => Some("name a directory to copy it to".to_owned()),
        E::NoName { .. } => Some("name a path that is not there yet, which becomes the copy".to_owned()),
        E::Exists(_) => Some("move it away, or name another directory".to_owned()),
        E::NoDirectory(_) => Some("make it first".to_owned()),
    };
    Failure::new(Kind::Usage, error).hints(hint)
}

fn proposal(error: config::proposal::Error) -> Failure {
    use config::proposal::Error as E;
    match error {
        E::Contradiction(ref contradiction) => {
            let wanted = contradiction.wanted.clone();
            let reasons = contradiction.because.clone();
            let may_override = contradiction.may_override;
            let failure = reasons.into_iter().fold(Failure::new(Kind::Config, error), Failure::detail);
            let failure = failure.hint("drop that line, or what needs the other");
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
        E::Outside(_) => Failure::new(Kind::Config, error).hint("write to another fragment, or make it a file of its own"),
        E::Io { .. } => Failure::new(Kind::Other, error),
    }
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
