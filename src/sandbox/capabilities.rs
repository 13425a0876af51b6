//! The capabilities of a session, in its nested user namespace. A session cannot get more than these: a new user namespace would give it
//! all of them, and it cannot make one ([`crate::sys::namespace::forbid_user_namespaces`]).
//!
//! | kept | because |
//! |---|---|
//! | `CHOWN`, `FOWNER`, `FSETID` | `src_install` and merging set owners, modes and set-id bits |
//! | `DAC_OVERRIDE`, `DAC_READ_SEARCH` | root writes into directories of `portage` and reads what packages close |
//! | `SETUID`, `SETGID`, `KILL` | Portage drops to `portage:portage` and ends what it started there |
//! | `SETPCAP`, `SETFCAP` | `setcap` in `fcaps.eclass`; programs that lower their own bounds |
//! | `SYS_CHROOT` | `chroot` in tests, `mkinitramfs`, package managers for `ROOT=` |
//! | `SYS_ADMIN` | `unshare` and `mount` of Portage's pid-, ipc-, mount- and network-sandbox |
//! | `NET_ADMIN` | loopback up in Portage's network-sandbox, which has a network namespace of its own |
//! | `NET_BIND_SERVICE` | test suites that listen below port 1024 |
//! | `SYS_PTRACE` | `sys-apps/sandbox` traces set-id and static programs |
//!
//! Dropped, among others: `MKNOD` (refused in a user namespace anyway; whiteouts need none), `NET_RAW`, `AUDIT_*`, `SYS_MODULE`,
//! `SYS_RAWIO`, `SYS_BOOT`, `SYS_TIME`, `SYS_RESOURCE`, `SYS_NICE`, `IPC_*`, `MAC_*`, `SYSLOG`, `BPF`, `PERFMON`,
//! `CHECKPOINT_RESTORE`, `LINUX_IMMUTABLE`, and whatever a newer kernel adds.

use caps::{CapSet, Capability, CapsHashSet};

use crate::sys::{self, process};

/// What a session keeps in its bounding, permitted and effective sets; the inheritable and ambient ones are empty.
pub(crate) const KEPT: [Capability; 15] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETFCAP,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_PTRACE,
];

/// [`KEPT`] as the mask that `/proc/PID/status` shows.
pub fn kept_mask() -> u64 {
    KEPT.iter().map(Capability::bitmask).sum()
}

/// Reduces this process's sets for good.
pub(crate) fn reduce() -> sys::Result<()> {
    // Effective before permitted: the kernel refuses a permitted set that lacks an effective capability.
    process::limit_bounding_set(kept_mask())?;
    let kept: CapsHashSet = KEPT.into_iter().collect();
    let failed = |call| move |error: caps::errors::CapsError| sys::Error::new(call, "reduced set", std::io::Error::other(error));
    caps::clear(None, CapSet::Ambient).map_err(failed("prctl"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("capset"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("capset"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("capset"))
}

/// What the kernel wants of a process that maps ids of its own namespace in a new one. The last since Linux 5.12, for id 0.
const FOR_MAPS: [Capability; 3] = [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETFCAP];

/// Capabilities that this process needs and does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking(Vec<Capability>);

/// Which of them this process lacks.
pub(crate) fn lacking_for_maps() -> Lacking {
    let lacks = |capability: &Capability| caps::has_cap(None, CapSet::Effective, *capability).is_ok_and(|has| !has);
    Lacking(FOR_MAPS.into_iter().filter(lacks).collect())
}

impl Lacking {
    /// The end of a sentence; nothing if nothing is lacking.
    pub(crate) fn words(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|capability| format!("`{capability}`")).collect();
        if names.is_empty() { String::new() } else { format!(": this process lacks {}", names.join(", ")) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mask_is_what_proc_shows() {
        assert_eq!(format!("{:016x}", super::kept_mask()), "00000000802c15ff");
    }
}
