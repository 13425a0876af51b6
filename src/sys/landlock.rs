//! Landlock scopes: which processes outside a session's programs reach by what is not a file.
//!
//! A network namespace has abstract Unix sockets of its own. A session with the host's network has those of the host, and a PID namespace
//! hides processes only by their numbers. The scopes close both: no connection to an abstract socket that was made outside, and no signal to a
//! process outside. Connections from outside to a socket of the session stay possible; `sandbox::outer` looks for what they may take
//! away. Mounts, `unshare` and `chroot` are not touched, since no access to files is handled.

use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};

use super::{Error, Result};

/// The version of the interface that has scopes: Linux 6.12.
pub const SCOPES_ABI: u32 = 6;

/// Puts this process and its children into a scope of their own, for good. False where the kernel has no scopes. Needs `no_new_privs`.
pub(crate) fn scope() -> Result<bool> {
    let failed = |error: landlock::RulesetError| Error::new("landlock_restrict_self", "scopes", std::io::Error::other(error));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    Ok(status.ruleset == RulesetStatus::FullyEnforced)
}

/// Which version of the interface the kernel has; `None` if it has none, or if it is switched off.
pub fn abi() -> Option<u32> {
    const VERSION: u32 = 1;
    // SAFETY: without attributes the call only answers with a number.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(answer).ok().filter(|version| *version > 0)
}
