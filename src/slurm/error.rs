//! What can go wrong with jobs.

use std::path::PathBuf;

use crate::causes::{self, by_way_of};
use crate::path_error::PathError;
use crate::pipeline::Reported;
use crate::{beneath, config, context, pipeline, program, remote, sandbox, store, threads, trees};

/// Why nodes do not become jobs, or a job cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Trees(#[from] trees::Error),
    #[error(transparent)]
    Remote(#[from] remote::Error),
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// Jobs hand states to each other by it.
    #[error("no remote is pushed to")]
    NoRemote,
    #[error("the remote `{place}` cannot be reached")]
    Down { place: String },
    #[error("cannot use `{program}` of Slurm")]
    Program {
        program: &'static str,
        #[source]
        source: program::Error,
    },
    #[error("`{program}` of Slurm has not answered for {seconds} seconds")]
    Silent { program: &'static str, seconds: u64 },
    #[error("`sbatch` has answered `{answer}`, which is no job")]
    NoJob { answer: String },
    /// A file in the shared directory.
    #[error("`{path}` is not what gentoomuch has written")]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{path}` belongs to another user, or others may write to it")]
    Foreign { path: PathBuf },
    #[error("the run `{run}` has no node `{id}`")]
    NoNode { run: String, id: String },
    #[error("there is no run `{run}`")]
    NoRun { run: String, known: Vec<String> },
    #[error("no run goes on")]
    NoRuns,
    #[error("several runs go on")]
    SeveralRuns { known: Vec<String> },
    /// The configuration has changed since, or the node has another one.
    #[error("`{config}` is not the configuration that was planned with: its digest is {found}, not {wanted}")]
    Configuration { config: PathBuf, found: String, wanted: String },
    /// The same configuration, and something else differs: a tree, the program.
    #[error("`{id}` would be something else here: its build key is {found}, not {wanted}")]
    OtherKey { id: String, found: String, wanted: String },
    #[error("the remote does not have `{name}`, which the node needs")]
    Missing { name: String },
    #[error("the ebuild tree `{name}` cannot be packed or unpacked")]
    Tree {
        name: String,
        #[source]
        source: sandbox::Error,
    },
    /// What Slurm says of a job that has left no result.
    #[error("job {job} of `{id}` has ended without a result: {state}")]
    Ended { id: String, job: String, state: String, last_lines: Vec<String>, output: PathBuf },
}

by_way_of!(Error::Context: store::Error, sandbox::Error, PathError, beneath::Error, threads::NoThread);

impl Error {
    /// What there is to do.
    pub(crate) fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoRemote => {
                "write its address and `push` into `env/remote`, such as `dir:/srv/states push`, or use `--remote` and `--push`"
            }
            Self::Down { .. } => "see whether `gentoomuch remote ls` works",
            Self::Program { source: program::Error::NotInstalled { .. }, .. } => {
                "install Slurm's client programs, or submit on a machine that has them"
            }
            Self::Program { .. } | Self::Silent { .. } => {
                "`sinfo` tells whether the cluster answers; `env/slurm` sets partition, time, memory and options"
            }
            Self::NoJob { .. } => "see what `sbatch --parsable` prints on this machine",
            Self::Damaged { .. } => "remove the directory of the run",
            Self::Foreign { .. } => "name a directory of your own in `env/slurm`: `directory` on nodes, `shared` for all machines",
            Self::NoRun { known, .. } | Self::SeveralRuns { known } if !known.is_empty() => {
                return vec![format!("there are: {}", known.join(", "))];
            }
            Self::NoRuns | Self::NoRun { .. } | Self::SeveralRuns { .. } => "submit one with `gentoomuch pipeline --on slurm`",
            Self::NoNode { .. } => "submit again with `gentoomuch pipeline --on slurm`",
            Self::Configuration { .. } => {
                "bring back what was planned with, or end the run with `gentoomuch pipeline attach --cancel`; all machines need the same directory"
            }
            Self::OtherKey { .. } => {
                "all machines need the same version of gentoomuch; a stage3 or a tree that came since needs a new run"
            }
            Self::Missing { .. } => {
                "`gentoomuch remote ls` tells what is there; a state counts if its signer is trusted for remotes"
            }
            Self::Ended { state, output, .. } => {
                let log = format!("what the job has said is in {}", output.display());
                return match remedy(state) {
                    Some(remedy) => vec![remedy.to_owned(), log],
                    None => vec![log],
                };
            }
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }

    /// In words, for another machine.
    pub(super) fn reported(&self) -> Reported {
        Reported::new(1, &causes::all(self), self.last_lines().to_vec(), self.hints())
    }

    /// Lines that say more.
    pub(crate) fn last_lines(&self) -> &[String] {
        match self {
            Self::Program { source: program::Error::Failed { last_lines, .. }, .. } | Self::Ended { last_lines, .. } => last_lines,
            _ => &[],
        }
    }
}

/// What there is to do about how a job has ended.
fn remedy(state: &str) -> Option<&'static str> {
    match state {
        "TIMEOUT" | "DEADLINE" => Some("give jobs more time: `time` in `env/slurm`"),
        "OUT_OF_MEMORY" => Some("give jobs more memory: `memory` in `env/slurm`"),
        "CANCELLED" => Some("somebody has cancelled it: `gentoomuch pipeline --on slurm` submits what is left"),
        _ => None,
    }
}
