//! Kinds and hints of jobs of a cluster.

use crate::slurm;

use crate::cli::report::{Failure, Kind};

impl From<slurm::Error> for Failure {
    fn from(error: slurm::Error) -> Self {
        use slurm::Error as E;
        let kind = match error {
            E::Context(error) => return error.into(),
            E::Config(error) => return error.into(),
            E::Trees(error) => return error.into(),
            E::Remote(error) => return error.into(),
            E::Pipeline(error) => return error.into(),
            E::NoRemote | E::NoRun { .. } | E::NoRuns | E::SeveralRuns { .. } | E::NoNode { .. } => Kind::Usage,
            E::Configuration { .. } | E::OtherKey { .. } => Kind::Config,
            _ => Kind::Other,
        };
        let (detail, hints) = (error.last_lines().to_vec(), error.hints());
        detail.into_iter().fold(Self::new(kind, error), Self::detail).hints(hints)
    }
}
