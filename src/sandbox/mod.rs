//! Namespaces of our own: the plan, id maps, the helper process, PID 1 and the terminal.
//!
//! ```text
//! gentoomuch                       many threads, the user's own ids, the host's namespaces
//!  |  control socket               request, `mapped`, results; end of file on either side = the other died
//!  |- newuidmap, newgidmap         write the map while the outer helper waits
//!  `- outer helper                 our program once more; user namespace with the whole id range
//!      |                           a task (archive, store) runs right here, inside the map
//!      |                           a session's locks are held here until PID 1 is reaped
//!      `- PID 1                    own PID, mount, IPC, UTS (and network) namespaces; not dumpable; executes the plan
//!          |                       second socket to gentoomuch: signals in, `started`, `exited` and the terminal out
//!          `- session -> command   nested user and mount namespace, fewer capabilities, no_new_privs, Landlock scopes, seccomp
//! ```
//!
//! The outer helper is an execution of this program ([`helper::enter_if_asked`]). It has one thread, so it may fork PID 1, and that one
//! the session's process, which executes the command from a file in memory ([`crate::sys::springboard`]). When one of them
//! dies, the next one down sees the end of its socket and ends, PID 1 takes its whole PID namespace with it, and the kernel drops the
//! mounts with the last process. The outer namespace owns the mounts that the session sees. So what is read-only stays so, and mounts
//! that the session makes itself (Portage's sandboxes do) work. The session cannot make a further user namespace, in which it would have
//! all capabilities again: `unshare` and `clone` answer ENOSPC.

pub(crate) mod capabilities;
mod channel;
mod error;
pub(crate) mod helper;
pub(crate) mod idmap;
pub(crate) mod interrupt;
pub(crate) mod isolation;
pub(crate) mod launch;
pub(crate) mod limits;
mod outer;
mod pid1;
pub(crate) mod plan;
mod profile_env;
pub(crate) mod refusal;
mod request;
mod session;
mod stdio;
mod steps;
mod task;
pub(crate) mod terminal;

pub use crate::sys::process::Exit;
pub use error::{Error, Result};
pub use idmap::IdMap;
pub use interrupt::Interrupt;
pub use isolation::{Isolation, Proc, Rung};
pub use launch::{HelperSource, Launcher, Running, SessionOptions, Stdio, TaskOptions};
pub use limits::Limits;
pub use plan::Network;
pub use request::TaskFailure;
pub(crate) use stdio::refuse_directories;
pub(crate) use task::EventSink;
pub use task::{TaskContext, TaskFn};
