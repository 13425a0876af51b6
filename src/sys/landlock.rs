//! Landlock scopes: which processes outside of the session its programs can reach other than through files.
//!
//! A network namespace has abstract Unix sockets of its own, but a session with the host's network has the host's. A PID namespace only
//! hides the numbers of processes. The scopes close both gaps: no connection to an abstract socket that was made outside, and no signal
//! to a process outside. Connections from outside to a socket of the session stay possible; `sandbox::outer` checks whether one has taken
//! a descriptor away. Mounts, `unshare` and `chroot` work as before, since we restrict no access to files.

use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};

use super::{Error, Result};

/// The version of the interface that has scopes: Linux 6.12.
pub const SCOPES_ABI: u32 = 6;

/// Puts this process and its children into a scope of their own, for good. False if the kernel has no scopes. Needs `no_new_privs`.
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
