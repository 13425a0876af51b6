//! Kinds and hints of a graph of stages.

use crate::pipeline;

use super::there_are;
use crate::cli::report::{Failure, Kind};

impl From<pipeline::Error> for Failure {
    fn from(error: pipeline::Error) -> Self {
        use pipeline::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Artifact(error) => error.into(),
            E::Recipe(error) => error.into(),
            E::Resolve(error) => error.into(),
            E::UnknownNode { ref known, .. } | E::NotSkippable { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint)
            }
            E::Elsewhere(reported) => {
                let (kind, detail, hints) = (Kind::of(reported.exit_code), reported.detail.clone(), reported.hints.clone());
                detail.into_iter().fold(Self::new(kind, *reported), Self::detail).hints(hints)
            }
            E::NotArrived { .. } => {
                Self::new(Kind::Other, error).hint("see what `gentoomuch remote ls` lists, and repeat the command")
            }
            E::Unbuilt { ref needs, .. } => {
                let needs: Vec<String> = needs.iter().map(|id| format!("run `gentoomuch pipeline node {id}` first")).collect();
                Self::new(Kind::Usage, error).hints(needs)
            }
        }
    }
}
