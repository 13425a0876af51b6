//! Kinds and hints of what tools and surroundings do not give.

use std::error::Error as _;

use crate::context::OpenError;
use crate::host::HostProblem;
use crate::threads::NoThread;
use crate::{context, sandbox, store};

use super::sandbox::{doctor_hint, sandbox_words};
use crate::cli::report::{Failure, Kind};

impl From<context::Error> for Failure {
    fn from(error: context::Error) -> Self {
        use context::Error as E;
        match error {
            E::Store(error) => error.into(),
            E::Sandbox(error) => error.into(),
            E::Thread(error) => error.into(),
            E::Interrupted { resumable } => {
                let failure = Self::new(Kind::Interrupted, error);
                if resumable { failure.hint("repeat the command to go on where it stopped") } else { failure }
            }
            E::RootFile(error) => Self::new(Kind::Other, error).hint("check the store with `gentoomuch store verify`"),
            E::Io(error) => Self::new(Kind::Other, error),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Host(HostProblem::Sandbox(error)) => (*error).into(),
            OpenError::Host(problem) => {
                let hint = problem.remedy();
                Self::new(Kind::Host, problem).about("this host cannot sandbox").hint(hint).hint(doctor_hint())
            }
            OpenError::Places(error) => error.into(),
            OpenError::Ids(error) => error.into(),
            OpenError::Store(error) => error.into(),
            OpenError::Sandbox(error) => error.into(),
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        if matches!(error, E::InMap { .. })
            && let Some(sandbox) = error.source().and_then(|source| source.downcast_ref::<sandbox::Error>())
        {
            let (kind, hints) = sandbox_words(sandbox);
            return hints.into_iter().fold(Self::new(kind, error), Self::hint);
        }
        let (kind, hint) = match &error {
            E::NoSuchRef { name } if name.len() < 4 && name.bytes().all(|b| b.is_ascii_hexdigit()) => {
                (Kind::Usage, Some("give at least 4 digits of an id; `gentoomuch store ls` lists names and ids"))
            }
            E::NoSuchRef { .. }
            | E::NoSuchRefEntry { .. }
            | E::NoSuchState(_)
            | E::NoSuchLayer(_)
            | E::NoSuchTree(_)
            | E::Ambiguous { .. } => (Kind::Usage, Some("`gentoomuch store ls` lists names and ids")),
            E::Name { .. } | E::Id { .. } => (Kind::Usage, None),
            E::Busy(_) => (Kind::Other, Some("leave out `--no-wait` to wait for it")),
            E::Cancelled { .. } => (Kind::Interrupted, None),
            E::IdMapChanged { .. } => (
                Kind::Host,
                Some(
                    "ask the administrator to restore the range in `/etc/subuid` and `/etc/subgid`, or use another `--data` directory",
                ),
            ),
            E::TooManyLayers { .. } => (
                Kind::Usage,
                Some("start from an earlier state, which has fewer layers, and run the commands of several sessions in one"),
            ),
            E::NotOwner { .. } => (Kind::Other, Some("choose a directory of your own with `--data`")),
            E::WriteBack { .. } => (Kind::Other, Some("free some space, check the disk, and repeat the command")),
            E::Damaged { .. } | E::DamagedRef { .. } | E::Doubt { .. } => {
                (Kind::Other, Some("see what is affected with `gentoomuch store verify`"))
            }
            E::Version { .. } => (Kind::Other, Some("use the gentoomuch version that made it, or another `--data` directory")),
            E::ByHand { .. } => (Kind::Other, Some("build it anew: what was done by hand stays out of states")),
            _ => (Kind::Other, None),
        };
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<NoThread> for Failure {
    fn from(error: NoThread) -> Self {
        Self::new(Kind::Other, error)
    }
}
