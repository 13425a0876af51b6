//! Tasks: functions of ours that run inside the id map, such as unpacking an archive with its owners.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::channel::{Channel, ChannelError};
use super::request::{Failure, FromOuter};
use crate::sandbox::request::TaskFailure;
use crate::sys::namespace::Namespace;
use crate::sys::{fd, mount, namespace, process};

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) input: serde_json::Value,
    pub(crate) mounts: bool,
    /// How many of `fds` are for the task; the others are locks.
    pub(crate) fd_count: usize,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Runs the task and sends its result.
pub(crate) fn run(control: Channel, lookup: Lookup, mut asked: Asked) {
    let prepared =
        if asked.mounts { namespace::unshare(&[Namespace::Mount]).and_then(|()| mount::make_all_private()) } else { Ok(()) };
    let watched = control.try_clone();
    let events = EventSink::new(control);
    let answer = match (prepared, watched, lookup(&asked.name)) {
        (Err(error), _, _) => FromOuter::Failed(Failure::Namespaces(error.into())),
        (_, Err(error), _) => FromOuter::Failed(Failure::Protocol(error.to_string())),
        (_, _, None) => FromOuter::Failed(Failure::Protocol(format!("no word of a task `{}`", asked.name))),
        (Ok(()), Ok(watched), Some(function)) => {
            let started = crate::threads::builder().spawn(move || end_with(&watched));
            // Its locks stay open in this process until it ends.
            let _locks = asked.fds.split_off(asked.fd_count.min(asked.fds.len()));
            let mut context = TaskContext { name: asked.name, input: asked.input, fds: asked.fds, events: events.clone() };
            match started {
                Ok(_) => FromOuter::TaskDone(call(function, &mut context)),
                Err(error) => {
                    FromOuter::TaskDone(Err(TaskFailure::of("thread", &crate::threads::NoThread::new("watch over a task", error))))
                }
            }
        }
    };
    let _ = events.send_raw(&answer);
}

/// Our panic hook has ended the process by then. This is for a program that set its own hook.
fn call(function: TaskFn, context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    std::panic::catch_unwind(AssertUnwindSafe(|| function(context)))
        .unwrap_or_else(|_| Err(TaskFailure { kind: "panic".to_owned(), causes: vec!["the task panicked".to_owned()] }))
}

/// Ends this process when the one that asked is gone, since nobody wants the result any more.
fn end_with(control: &Channel) {
    loop {
        match fd::wait_readable(&[control.as_fd()], None) {
            Ok(ready) if ready == [false] => {}
            _ => process::exit_now(1),
        }
    }
}

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
    pub(crate) channel: Arc<Mutex<Channel>>,
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
