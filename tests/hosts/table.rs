//! The hosts, and what the program has to do on each.

use std::fmt::{Display, Formatter, Write as _};

/// Where a host is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// For one process of this machine, by `here`.
    Here,
    /// In a virtual machine with that kernel, by `guest`.
    Linux6_1,
    Linux6_12,
}

impl Place {
    /// The kernel of the virtual machine, as `image` names it.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        }
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.kernel())
    }
}

/// What the kernel may do otherwise is tried on both.
const MACHINES: &[Place] = &[Place::Linux6_1, Place::Linux6_12];
const NEWER: &[Place] = &[Place::Linux6_12];
const OLDER: &[Place] = &[Place::Linux6_1];
const HERE: &[Place] = &[Place::Here];

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) places: &'static [Place],
    /// What makes it: the words of `here`, or functions of `guest`.
    pub(crate) made: &'static str,
    pub(crate) expected: Expected,
}

/// The highest owner that a Gentoo system may have.
pub(crate) const NOBODY: u32 = 65534;

#[derive(Debug)]
pub(crate) enum Expected {
    /// The whole ladder, and nothing is left.
    Works,
    /// The same with a stage3 that has no owner above this one, and `doctor` says that it has to be so.
    WorksUpTo(u32),
    /// `doctor` is not ready, or only on a condition, and the import is refused with 5 and a hint before it has unpacked anything.
    Refused {
        /// What `doctor` says would have to be so, if anything.
        condition: Option<&'static str>,
        /// What the import says.
        says: &'static [&'static str],
        /// Advice that neither of them may give: it would not help, or would harm.
        never: &'static [&'static str],
    },
}

impl Expected {
    /// Of the stage3 that is imported.
    pub(crate) fn highest_owner(&self) -> u32 {
        if let Self::WorksUpTo(highest) = self { *highest } else { NOBODY }
    }
}

/// Advice about the file system, where that is not what is wrong.
const MOVE_THE_DATA: &str = "put the data directory on";
/// The kernel says ENOSPC for a limit, too.
const FREE_SPACE: &str = "free some space";

pub(crate) const HOSTS: &[Host] = &[
    host("ordinary user", HERE, "", Expected::Works),
    host("ordinary user, HOME unset", HERE, "no_home", Expected::Works),
    host("parent ignores SIGCHLD", HERE, "ignore_chld", Expected::Works),
    host("root of a namespace with 65537 ids", HERE, "ids 65537", Expected::Works),
    host("root of a namespace with 65536 ids", HERE, "ids 65536", Expected::Works),
    // A session has one user less: the last one watches it.
    host("root of a namespace with 1000 ids", HERE, "ids 1000", Expected::WorksUpTo(998)),
    // Before anything is unpacked, with the highest owner that the stage3 has.
    host(
        "root of a namespace with 1000 ids, stage3 with files of user 65534",
        HERE,
        "ids 1000",
        Expected::Refused {
            condition: Some("if no file belongs to a user or group above 998"),
            says: &["65534", "65536 ids"],
            never: &["chmod u+s"],
        },
    ),
    // One for each of our two; the session's own is the second.
    host(
        "root of a namespace, max_user_namespaces=1",
        HERE,
        "ids 65537 limit max_user_namespaces=1",
        refused(&["user.max_user_namespaces"], &[MOVE_THE_DATA, FREE_SPACE]),
    ),
    host(
        "root of a namespace, max_net_namespaces=0",
        HERE,
        "ids 65537 limit max_net_namespaces=0",
        refused(&["`user.max_net_namespaces` is 0"], &[MOVE_THE_DATA, FREE_SPACE]),
    ),
    // Only its name is imitated.
    host("gVisor", HERE, "ids 65537 gvisor", refused(&["this is gVisor, not Linux", "`runc`"], &[MOVE_THE_DATA])),
    host("container with masked /proc", HERE, "ids 65537 masked", Expected::Works),
    host(
        "container, docker's seccomp filter",
        HERE,
        "ids 65537 masked filter caps -sys_admin",
        refused(&["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"], &["chmod u+s", MOVE_THE_DATA]),
    ),
    host(
        "container without capabilities",
        HERE,
        "ids 65537 masked caps -all",
        refused(&["SETUID", "SETGID"], &["chmod u+s", MOVE_THE_DATA]),
    ),
    host("ordinary user, seccomp filter", HERE, "filter", refused(&["seccomp"], &[MOVE_THE_DATA])),
    host("no_new_privs", HERE, "no_new_privs", refused(&["no_new_privs"], &[MOVE_THE_DATA])),
    host("ext4", MACHINES, "on ext4", Expected::Works),
    host("xfs", MACHINES, "on xfs", Expected::Works),
    host("btrfs", MACHINES, "on btrfs", Expected::Works),
    host("tmpfs", NEWER, "on tmpfs", Expected::Works),
    // Its files have no attributes of the user's there, and no layer can lie in memory.
    host("tmpfs before Linux 6.6", OLDER, "on tmpfs", refused(&["tmpfs"], &["in memory"])),
    host("vfat", NEWER, "on vfat", refused(&["vfat", "/var/tmp"], &[])),
    host("NFS home", NEWER, "on nfs", refused(&["nfs", "/var/tmp"], &[])),
    // The rest of that machine is in memory.
    host("NFS home, and no disk", OLDER, "on nfs", refused(&["nfs", "ask the administrator"], &["/var/tmp"])),
    host("NFS home, data directory on a disk", MACHINES, "on nfs && data_on_disk", Expected::Works),
    host(
        "userns_clone=0",
        MACHINES,
        "limit kernel.unprivileged_userns_clone=0",
        refused(&["kernel.unprivileged_userns_clone"], &[MOVE_THE_DATA]),
    ),
    host(
        "max_user_namespaces=0",
        MACHINES,
        "limit user.max_user_namespaces=0",
        refused(&["user.max_user_namespaces"], &[MOVE_THE_DATA]),
    ),
    host(
        "max_user_namespaces=1",
        NEWER,
        "limit user.max_user_namespaces=1",
        refused(&["user.max_user_namespaces"], &[MOVE_THE_DATA, FREE_SPACE]),
    ),
    host("kernel without overlayfs", MACHINES, "no_overlay", refused(&["`modprobe overlay`"], &["--data", MOVE_THE_DATA])),
    host("no newuidmap", NEWER, "no_newuidmap", refused(&["uidmap"], &[MOVE_THE_DATA])),
    host("newuidmap without privileges", NEWER, "plain_newuidmap", refused(&["newuidmap"], &[MOVE_THE_DATA])),
    // The ids of the other users of this host are no advice.
    host("no subordinate ids", NEWER, "as remote", refused(&["--add-subuids"], &["100000-165535", "165536-231071", MOVE_THE_DATA])),
    host("ids of a directory service", NEWER, "directory && as remote", Expected::Works),
    host("ids in two lines", NEWER, "two_lines", Expected::Works),
    host("directory above for a group only", NEWER, "as member && group_only", Expected::Works),
    host("second user", NEWER, "as other", Expected::Works),
];

const fn host(name: &'static str, places: &'static [Place], made: &'static str, expected: Expected) -> Host {
    Host { name, places, made, expected }
}

const fn refused(says: &'static [&'static str], never: &'static [&'static str]) -> Expected {
    Expected::Refused { condition: None, says, never }
}

/// What the document says of a host.
fn words(host: &Host) -> String {
    match &host.expected {
        Expected::Works => "works".to_owned(),
        Expected::WorksUpTo(highest) => format!("works, if no file of the stage3 belongs to a user or group above {highest}"),
        Expected::Refused { .. } => "refuses".to_owned(),
    }
}

/// The table of the document.
fn document() -> String {
    let mut text = "| host | where | gentoomuch |\n|---|---|---|\n".to_owned();
    for host in HOSTS {
        let kernels: Vec<&str> = host.places.iter().map(|place| place.kernel()).collect();
        let place = if host.places == HERE { "one process".to_owned() } else { format!("Linux {}", kernels.join(", ")) };
        let _ = writeln!(text, "| {} | {place} | {} |", host.name, words(host));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `INSTA_UPDATE=always` writes it.
    #[test]
    fn the_document_has_this_table() {
        const BEGIN: &str = "<!-- written by tests/hosts -->\n";
        const END: &str = "<!-- end -->\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference/hosts.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
            std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", document())).unwrap();
        } else {
            assert_eq!(found, document(), "in {}; INSTA_UPDATE=always writes it", path.display());
        }
    }
}
