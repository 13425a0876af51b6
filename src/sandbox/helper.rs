//! The entry point of our own processes, and what a task sees.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::channel::{Channel, ChannelError};
use super::request::{FromOuter, OUTER, PID1, SESSION};
use super::{outer, pid1, session};
use crate::sys;

/// A function of ours that runs in the helper, inside the id map.
pub type TaskFn = fn(&mut TaskContext) -> Result<serde_json::Value, TaskFailure>;

/// Finds a task by its name.
pub(crate) type Lookup = fn(&str) -> Option<TaskFn>;

/// What a task is given.
#[derive(Debug)]
pub struct TaskContext {
    /// Its name, as it was asked for.
    pub name: String,
    pub input: serde_json::Value,
    /// Descriptors, in the order in which they were passed.
    pub fds: Vec<OwnedFd>,
    /// Where it tells how far it is.
    pub events: EventSink,
}

impl TaskContext {
    /// The input as a type of the task's own.
    pub fn input_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, TaskFailure> {
        T::deserialize(&self.input).map_err(|error| TaskFailure::of("task input", &error))
    }
}

/// Sends events of a task to the process that started it. Cheap to clone; may be used from any thread.
#[derive(Debug, Clone)]
pub struct EventSink {
    channel: Arc<Mutex<Channel>>,
}

impl EventSink {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel: Arc::new(Mutex::new(channel)) }
    }

    pub fn send(&self, event: &impl Serialize) -> Result<(), ChannelError> {
        self.send_raw(&FromOuter::Event(serde_json::to_value(event)?))
    }

    pub(crate) fn send_raw(&self, message: &FromOuter) -> Result<(), ChannelError> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).send(message, &[])
    }
}

/// Why a task failed, in a form that crosses processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.causes.first().map_or(self.kind.as_str(), String::as_str))]
pub struct TaskFailure {
    /// A word for the caller to match on, such as `digest-mismatch`.
    pub kind: String,
    /// The error and its causes, outermost first.
    pub causes: Vec<String>,
}

impl TaskFailure {
    /// Takes an error and the chain of its sources.
    pub fn of(kind: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        Self { kind: kind.to_owned(), causes: chain.map(ToString::to_string).collect() }
    }
}

/// Call this first in `main`, before any thread exists: it returns at once unless this process was started as one of our helpers,
/// and never returns if it was. `lookup` finds the tasks that the program offers.
///
/// A helper is given its socket as standard input and nothing else, so it closes every descriptor from 3 upwards first: a program that
/// starts sessions may have others open that are not close-on-exec, and a link of the root could name one of them (CVE-2024-21626).
///
/// In the program itself it sees to it that children can be waited for, whatever whoever started it does with SIGCHLD.
pub fn enter_if_asked(lookup: Lookup) {
    // It cannot fail for a signal that exists.
    drop(sys::signal::heed_children());
    let Some(name) = std::env::args_os().next() else { return };
    let run: fn(Channel, Lookup) -> i32 = match name.to_str() {
        Some(OUTER) => outer::run,
        Some(PID1) => |channel, _| pid1::run(&channel),
        Some(SESSION) => |channel, _| session::run(&channel),
        _ => return,
    };
    let code = match sys::fd::close_others().and_then(|()| sys::fd::take_stdin()) {
        Ok(control) => run(Channel::from_fd(control), lookup),
        Err(_) => 70,
    };
    sys::process::exit_now(code);
}
