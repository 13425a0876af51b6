//! How far a session is kept from the host: what this host allows, chosen by trying, recorded in what is built, and demanded by
//! `--isolation`.
//!
//! ```text
//! subordinate-ids    the user's own range of ids, written by newuidmap or by root; a new /proc
//! own-ids            every id of this user namespace as itself; a new /proc
//! shared-proc        the /proc that is there, since the host refuses a new one: it shows the processes of the container
//! ```
//!
//! Everything else is the same on each rung: two user namespaces, own mount, PID, IPC, UTS and (unless the network was asked for) network
//! namespace, reduced capabilities, `no_new_privs`, a seccomp filter, Landlock scopes where the kernel has them, and kernel overlayfs.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::IdMap;
use crate::sys;

/// A kind of isolation, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Ids that nobody else has, and a `/proc` of the session's own.
    SubordinateIds,
    /// The ids of this user namespace: a session's root has the user id of whoever started it, its other users have the ids of others here.
    OwnIds,
    /// The `/proc` of the container: a session sees its processes, but cannot touch them.
    SharedProc,
}

impl Rung {
    pub const ALL: [Self; 3] = [Self::SubordinateIds, Self::OwnIds, Self::SharedProc];

    /// As it is demanded and recorded.
    pub fn name(self) -> &'static str {
        match self {
            Self::SubordinateIds => "subordinate-ids",
            Self::OwnIds => "own-ids",
            Self::SharedProc => "shared-proc",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// No rung has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no isolation `{0}`: it is one of `subordinate-ids`, `own-ids` and `shared-proc`")]
pub struct NoSuchRung(String);

impl FromStr for Rung {
    type Err = NoSuchRung;

    fn from_str(name: &str) -> Result<Self, NoSuchRung> {
        Self::ALL.into_iter().find(|rung| rung.name() == name).ok_or_else(|| NoSuchRung(name.to_owned()))
    }
}

/// The `/proc` of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Proc {
    /// Of its own PID namespace.
    #[default]
    New,
    /// The same, read-only. The kernel lets the user id 0 of the first user namespace write most files in `/proc/sys`, whatever
    /// capabilities it lacks: a session with that id could name the program that the host starts for each core dump.
    NewReadOnly,
    /// The host's, read-only.
    Shared,
}

impl Proc {
    /// Whether Portage can mount a `/proc` of its own: the kernel demands that one is there which can be written and hides nothing.
    pub(crate) fn allows_another(self) -> bool {
        self == Self::New
    }
}

/// The isolation of sessions with one id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    own_ids: bool,
    proc: Proc,
    scopes: bool,
}

impl Isolation {
    /// With a new `/proc`.
    pub(crate) fn of(map: &IdMap) -> Self {
        let scopes = sys::landlock::abi().is_some_and(|abi| abi >= sys::landlock::SCOPES_ABI);
        let proc = if has_first_root(map) { Proc::NewReadOnly } else { Proc::New };
        Self { own_ids: map.is_own(), proc, scopes }
    }

    /// With the `/proc` that is there.
    pub(crate) fn sharing_proc(self) -> Self {
        Self { proc: Proc::Shared, ..self }
    }

    pub(crate) fn proc(self) -> Proc {
        self.proc
    }

    /// What a session has less than on the first rung, in words for the user.
    pub(crate) fn weakness(self) -> Option<&'static str> {
        match self {
            Self { proc: Proc::Shared, .. } => {
                Some("sessions have the /proc that is there, so they see the processes outside, and Portage's pid-sandbox is off")
            }
            Self { own_ids: true, proc: Proc::NewReadOnly, .. } => Some(
                "the users of a session have the ids of this host's users; /proc is read-only, so Portage's pid-sandbox is off",
            ),
            Self { own_ids: true, .. } => Some("the users of a session have the ids of this user namespace's users"),
            Self { proc: Proc::NewReadOnly, .. } => {
                Some("root of a session has the id of this host's root; /proc is read-only, so Portage's pid-sandbox is off")
            }
            _ => None,
        }
    }

    pub fn rung(self) -> Rung {
        match self {
            Self { proc: Proc::Shared, .. } => Rung::SharedProc,
            Self { own_ids: true, .. } => Rung::OwnIds,
            _ => Rung::SubordinateIds,
        }
    }
}

/// As it is recorded.
impl fmt::Display for Isolation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.own_ids { "own-ids" } else { "subordinate-ids" })?;
        out.write_str(match self.proc {
            Proc::New => "",
            Proc::NewReadOnly => "+read-only-proc",
            Proc::Shared => "+shared-proc",
        })?;
        out.write_str(if self.scopes {
            "+nested-userns+seccomp+landlock-scopes+overlayfs"
        } else {
            "+nested-userns+seccomp+overlayfs"
        })
    }
}

/// It is none that this program records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no isolation that is known here")]
pub struct UnknownIsolation(String);

/// As it was recorded.
impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(text: &str) -> Result<Self, UnknownIsolation> {
        let all = [false, true].into_iter().flat_map(|own_ids| {
            [Proc::New, Proc::NewReadOnly, Proc::Shared]
                .into_iter()
                .flat_map(move |proc| [false, true].map(|scopes| Self { own_ids, proc, scopes }))
        });
        all.into_iter().find(|one| one.to_string() == text).ok_or_else(|| UnknownIsolation(text.to_owned()))
    }
}

/// Whether the user id 0 of the first user namespace is among those of a session, whatever it is called here. It owns the files in
/// `/proc/sys`; where it is not mapped, they seem to belong to the overflow id. If we cannot tell, root counts as that one.
fn has_first_root(map: &IdMap) -> bool {
    let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    match std::fs::symlink_metadata("/proc/sys/kernel/core_pattern") {
        Ok(file) => file.uid() != overflow.unwrap_or(65534) && map.has_user(file.uid()),
        Err(_) => rustix::process::geteuid().is_root(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_names_what_is_weaker() {
        let isolation = |own_ids, proc, scopes| Isolation { own_ids, proc, scopes };
        for (isolation, rung, recorded) in [
            (
                isolation(false, Proc::New, true),
                Rung::SubordinateIds,
                "subordinate-ids+nested-userns+seccomp+landlock-scopes+overlayfs",
            ),
            (isolation(false, Proc::New, false), Rung::SubordinateIds, "subordinate-ids+nested-userns+seccomp+overlayfs"),
            (isolation(true, Proc::New, false), Rung::OwnIds, "own-ids+nested-userns+seccomp+overlayfs"),
            (isolation(true, Proc::NewReadOnly, false), Rung::OwnIds, "own-ids+read-only-proc+nested-userns+seccomp+overlayfs"),
            (isolation(true, Proc::Shared, false), Rung::SharedProc, "own-ids+shared-proc+nested-userns+seccomp+overlayfs"),
            (
                isolation(false, Proc::New, false).sharing_proc(),
                Rung::SharedProc,
                "subordinate-ids+shared-proc+nested-userns+seccomp+overlayfs",
            ),
        ] {
            assert_eq!((isolation.rung(), isolation.to_string().as_str()), (rung, recorded));
            assert_eq!(recorded.parse(), Ok(isolation));
        }
    }

    #[test]
    fn rungs_are_read_as_they_are_written() {
        for rung in Rung::ALL {
            assert_eq!(rung.to_string().parse(), Ok(rung));
        }
        assert!("all".parse::<Isolation>().is_err());
        let error = "own".parse::<Rung>().unwrap_err().to_string();
        assert_eq!(error, "there is no isolation `own`: it is one of `subordinate-ids`, `own-ids` and `shared-proc`");
    }
}
