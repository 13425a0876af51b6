//! What this machine allows: `doctor`, which tries everything, and its cheap part, which every command runs first.
//!
//! ```text
//! facts      read from /proc, /sys and /etc: pure functions over their text, with the remedy for each
//! probe      tries the sandbox: id map, mounts, a new proc, overlayfs in the data directory, seccomp
//! report     the checks in order, and the resulting isolation rung
//! ```
//!
//! There is only one rung: a host that allows less is refused with what to do about it, and never used with weaker isolation. [`rung`] is
//! the name that is recorded; it also says whether the kernel has Landlock scopes.

mod facts;
mod probe;
mod report;

use crate::sys;

pub(crate) use facts::{HostProblem, precheck};
pub(crate) use probe::lookup;
pub(crate) use report::{Status, Subject, examine};

/// The isolation that every session has: two user namespaces with the user's subordinate ids, own mount, PID, IPC, UTS and (unless
/// the network was asked for) network namespace, reduced capabilities, `no_new_privs`, a seccomp filter, and kernel overlayfs.
const RUNG: &str = "subordinate-ids+nested-userns+seccomp+overlayfs";

/// [`RUNG`] with Landlock scopes, where the kernel has them (Linux 6.12).
const RUNG_WITH_SCOPES: &str = "subordinate-ids+nested-userns+seccomp+landlock-scopes+overlayfs";

/// The isolation of sessions on this kernel, as it is recorded.
pub(crate) fn rung() -> &'static str {
    if sys::landlock::abi().is_some_and(|abi| abi >= sys::landlock::SCOPES_ABI) { RUNG_WITH_SCOPES } else { RUNG }
}
