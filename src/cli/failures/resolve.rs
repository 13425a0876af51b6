//! Kinds and hints of what a configuration lacks.

use crate::portage::emerge::resolution::Problem;
use crate::{config, resolve};

use super::proposal;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;

impl From<resolve::Error> for Failure {
    fn from(error: resolve::Error) -> Self {
        use resolve::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Recipe(error) => error.into(),
            E::Refused { findings, arguments, resolved } => {
                Self::from(config::Error::Invalid(findings)).proposed(&arguments, &resolved)
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
        }
    }
}

impl Failure {
    /// The same with the change that would help, as a diff.
    fn proposed(self, arguments: &str, resolved: &resolve::Resolved) -> Self {
        let diff = config::proposal::unified(&resolved.edits);
        let failure = diff.lines().map(str::to_owned).fold(self, Self::detail);
        failure.hint(format!("write it with `gentoomuch resolve {arguments} --write FRAGMENT`, then repeat the command"))
    }
}
