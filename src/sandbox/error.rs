//! What can go wrong with a sandbox, by cause.

use std::io;
use std::path::PathBuf;

use super::capabilities::Lacking;
use super::channel::ChannelError;
use super::idmap::IdMapError;
use super::isolation::Proc;
use super::limits::Exceeded;
use super::plan::{Plan, PlanError, Step};
use super::refusal::{Block, Powerless};
use super::request::Failure;
use super::request::TaskFailure;
use crate::sys;
use crate::sys::process::Exit;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    IdMap(#[from] IdMapError),
    /// The plan makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Our own program cannot be opened, or no program in memory be executed.
    #[error("cannot use the program `{path}` as helper")]
    HelperProgram {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    /// A process cannot be started.
    #[error("cannot start `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    /// This machine does not let the user make user namespaces.
    #[error("cannot make a user namespace: {block}")]
    UserNamespace {
        block: Block,
        #[source]
        source: sys::Error,
    },
    /// Something that root of the user namespace may do was refused.
    #[error("cannot use a user namespace: {block}")]
    Namespaces {
        block: Block,
        #[source]
        source: sys::Error,
    },
    /// The user namespace inside the user namespace was refused.
    #[error("cannot make the session's own user namespace: {block}")]
    NestedNamespace {
        block: Block,
        #[source]
        source: sys::Error,
    },
    /// `newuidmap` or `newgidmap` is not installed.
    #[error("`{program}` is not in {searched}")]
    MapToolMissing { program: &'static str, searched: String },
    /// `newuidmap` or `newgidmap` lacks the power that it needs.
    #[error("`{program}` cannot write id maps: {why} (it said: {said})")]
    MapToolPowerless { program: PathBuf, why: Powerless, said: String },
    /// The range is not the user's.
    #[error("`{program}` refuses the ids {ranges}: {said}")]
    MapRefused { program: PathBuf, ranges: String, said: String },
    /// Writing the map failed for a reason that we do not know.
    #[error("`{program}` failed with {exit}: {said}")]
    MapFailed { program: PathBuf, exit: Exit, said: String },
    /// The kernel refused the map that root of this user namespace wrote.
    #[error("root of this user namespace cannot give ids to a new one{}", lacks.words())]
    MapWrite {
        lacks: Lacking,
        #[source]
        source: sys::Error,
    },
    /// The overlay was refused.
    #[error("cannot mount an overlay with `{upper}` on top, which is on {file_system}")]
    Overlay {
        upper: PathBuf,
        /// The type of the file system that holds it.
        file_system: String,
        #[source]
        source: sys::Error,
    },
    /// The kernel refused a new `/proc`. It does so in a container with a masked one.
    #[error("cannot mount a new proc on `{target}`")]
    Proc {
        target: PathBuf,
        #[source]
        source: sys::Error,
    },
    /// Any other step of the plan failed.
    #[error("cannot {step}")]
    Step {
        step: String,
        #[source]
        source: sys::Error,
    },
    /// Something besides the steps of the plan failed.
    #[error("cannot prepare the session")]
    Prepare {
        #[source]
        source: sys::Error,
    },
    /// The command's directory cannot be entered.
    #[error("cannot enter `{path}` in the session")]
    Directory {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    /// There is no such command (a shell's status 127).
    #[error("no command `{command}` in the session")]
    CommandNotFound { command: String },
    /// The command cannot be executed (a shell's status 126).
    #[error("cannot execute `{command}` in the session")]
    CommandNotExecutable {
        command: String,
        #[source]
        source: sys::Error,
    },
    /// One of our processes ended without a message: something killed it, or memory ran out.
    #[error("{who} died unexpectedly")]
    Died { who: String },
    /// One of our processes has a bug.
    #[error("a helper process panicked: {message}")]
    Panic { message: String },
    /// One of our processes got a message that it did not expect.
    #[error("a helper process sent {what}")]
    Protocol { what: String },
    /// Talking to a helper failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the task `{name}` failed")]
    Task {
        name: String,
        /// What the task sent. Callers match on its kind.
        failure: TaskFailure,
        /// The same failure as a chain of errors, for reports.
        #[source]
        cause: Option<Box<TaskCause>>,
    },
    /// The user stopped the task.
    #[error("the task `{name}` was cancelled")]
    Cancelled { name: String },
    /// The session is over, but a directory of its own could not be removed.
    #[error("cannot remove what the session left")]
    Removal {
        #[source]
        source: sys::Error,
    },
    /// A directory was to be the command's standard input, output or error.
    #[error("{name} is a directory")]
    StandardDirectory { name: &'static str },
    /// No process of the session lives, but somebody outside has files of it open.
    #[error("a process outside the session has files of `{upper}` open")]
    Held { upper: PathBuf },
    /// We could not find out whether somebody outside has files of the session open.
    #[error("cannot tell whether a process outside the session has its files open")]
    Unsure {
        #[source]
        source: sys::Error,
    },
    /// No thread could be started to copy the command's input or output.
    #[error(transparent)]
    Thread(#[from] crate::threads::NoThread),
    /// The session exceeded a limit and was ended.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The session was ended because it has limits and we can no longer measure what it uses.
    #[error("the session was ended, since its use of memory and processes can no longer be measured")]
    Unseen {
        #[source]
        source: sys::Error,
    },
    /// A system call on our own side failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

impl Error {
    /// A failure of the task `name`, with its causes as a chain of sources.
    pub fn task(name: impl Into<String>, failure: TaskFailure) -> Self {
        let chain =
            failure.causes.iter().rev().fold(None, |source, words| Some(Box::new(TaskCause { words: words.clone(), source })));
        Self::Task { name: name.into(), failure, cause: chain }
    }

    pub(crate) fn spawn(program: &str, source: io::Error) -> Self {
        Self::Spawn { program: program.to_owned(), source }
    }

    /// The error for the failure that a helper sent. `plan` is what the helper was given.
    pub(crate) fn from_failure(failure: Failure, plan: Option<&Plan>) -> Self {
        let command = || plan.and_then(|plan| plan.command.argv.first()).cloned().unwrap_or_default();
        match failure {
            Failure::UserNamespace(wire) => {
                let source = sys::Error::from(wire);
                Self::UserNamespace { block: Block::find(&source), source }
            }
            Failure::Namespaces(wire) => {
                let source = sys::Error::from(wire);
                Self::Namespaces { block: Block::find(&source), source }
            }
            Failure::Nested(wire) => {
                let source = sys::Error::from(wire);
                Self::NestedNamespace { block: Block::find(&source), source }
            }
            Failure::Prepare(wire) => Self::Prepare { source: wire.into() },
            Failure::Directory(wire) => {
                Self::Directory { path: plan.map(|plan| plan.command.cwd.clone()).unwrap_or_default(), source: wire.into() }
            }
            Failure::CommandNotFound => Self::CommandNotFound { command: command() },
            Failure::CommandNotExecutable(wire) => Self::CommandNotExecutable { command: command(), source: wire.into() },
            Failure::Died { who } => Self::Died { who },
            Failure::Exceeded(exceeded) => Self::Exceeded(exceeded),
            Failure::Held(upper) => Self::Held { upper },
            Failure::Unseen(wire) => Self::Unseen { source: wire.into() },
            Failure::Panic(message) => Self::Panic { message },
            Failure::Protocol(what) => Self::Protocol { what },
            Failure::Step { index, error } => Self::from_step(plan.and_then(|plan| plan.steps.get(index)), error.into()),
        }
    }

    fn from_step(step: Option<&Step>, source: sys::Error) -> Self {
        match step {
            Some(Step::Overlay { upper, .. }) => {
                let file_system = sys::mount::file_system_name(upper).unwrap_or_else(|_| "an unknown file system".to_owned());
                Self::Overlay { upper: upper.clone(), file_system, source }
            }
            Some(Step::Proc { target, proc }) if proc != &Proc::Shared => Self::Proc { target: target.clone(), source },
            Some(step) => Self::Step { step: step.to_string(), source },
            None => Self::Prepare { source },
        }
    }
}

/// One error of the chain that a task met with, in another process.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct TaskCause {
    words: String,
    source: Option<Box<TaskCause>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_become_errors_that_name_their_object() {
        let wire = || sys::Error::new("fsmount", "proc", io::Error::from_raw_os_error(libc::EPERM)).into();
        let plan = Plan {
            hostname: "x".to_owned(),
            network: super::super::plan::Network::None,
            steps: vec![Step::Proc { target: "/proc".into(), proc: Proc::New }, Step::PivotRoot],
            command: super::super::plan::CommandLine {
                argv: vec!["emerge".to_owned()],
                env: Vec::new(),
                login: false,
                cwd: "/x".into(),
            },
            terminal: false,
        };
        let words = |failure: Failure| Error::from_failure(failure, Some(&plan)).to_string();
        assert_eq!(words(Failure::Step { index: 0, error: wire() }), "cannot mount a new proc on `/proc`");
        assert_eq!(words(Failure::Step { index: 1, error: wire() }), "cannot enter the new root");
        assert_eq!(
            words(Failure::Unseen(wire())),
            "the session was ended, since its use of memory and processes can no longer be \
            measured"
        );
        assert_eq!(words(Failure::CommandNotFound), "no command `emerge` in the session");
        assert_eq!(words(Failure::CommandNotExecutable(wire())), "cannot execute `emerge` in the session");
        assert_eq!(words(Failure::Directory(wire())), "cannot enter `/x` in the session");
        let error = Error::from_failure(Failure::Prepare(wire()), Some(&plan));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "`fsmount(proc)` failed");
        assert_eq!(source.source().unwrap().to_string(), "Operation not permitted (os error 1)");
    }
}
