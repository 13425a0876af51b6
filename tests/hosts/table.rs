//! The hosts, what the program has to do on each, and what it does otherwise today.

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

#[derive(Debug)]
pub(crate) enum Expected {
    /// The whole ladder, and nothing is left.
    Works,
    /// `doctor` is not ready, and the import is refused with 5 and a hint before it has unpacked anything.
    Refused {
        /// What the import says.
        says: &'static [&'static str],
        /// Advice that neither of them may give: it would not help, or would harm.
        never: &'static [&'static str],
    },
}

/// A host on which the program does not do yet what it has to do. The test fails as soon as it does: then the row goes.
#[derive(Debug)]
pub(crate) struct KnownWrong {
    pub(crate) host: &'static str,
    pub(crate) places: &'static [Place],
    /// The first step that fails today, and its exit code; none if nothing fails.
    pub(crate) step: Option<(&'static str, i32)>,
    /// What that step prints, among others.
    pub(crate) says: &'static str,
}

/// Advice about the file system, where that is not what is wrong.
const MOVE_THE_DATA: &str = "put the data directory on";

pub(crate) const HOSTS: &[Host] = &[
    host("ordinary user", HERE, "", Expected::Works),
    host("ordinary user, HOME unset", HERE, "no_home", Expected::Works),
    host("parent ignores SIGCHLD", HERE, "ignore_chld", Expected::Works),
    host("root of a namespace with 65537 ids", HERE, "ids 65537", Expected::Works),
    host("root of a namespace with 65536 ids", HERE, "ids 65536", Expected::Works),
    // Before anything is unpacked, with the highest owner that the stage3 has.
    host("root of a namespace with 1000 ids", HERE, "ids 1000", refused(&["65534"], &["chmod u+s"])),
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
    host("NFS home", MACHINES, "on nfs", refused(&["nfs", "/var/tmp"], &[])),
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
    // One for each of our two; the session's own is the second.
    host(
        "max_user_namespaces=1",
        NEWER,
        "limit user.max_user_namespaces=1",
        refused(&["user.max_user_namespaces"], &[MOVE_THE_DATA]),
    ),
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
    Expected::Refused { says, never }
}

pub(crate) const KNOWN_WRONG: &[KnownWrong] = &[
    // Doctor says that it is ready, since it does not know which owners a stage3 will have.
    wrong("root of a namespace with 1000 ids", HERE, Some(("import", 5)), "there are only 1000 ids here"),
    // The store is made, and what cannot be unpacked there fails.
    wrong("vfat", NEWER, Some(("import", 1)), "cannot create `./bin`"),
    wrong("no newuidmap", NEWER, Some(("import", 5)), "`newuidmap` is not installed"),
    wrong("newuidmap without privileges", NEWER, Some(("import", 5)), "`chmod u+s /usr/bin/newuidmap`"),
    // ENOSPC is taken for a full disk.
    wrong("max_user_namespaces=1", NEWER, Some(("session", 125)), "free some space on the file system"),
    // The range in the advice is another user's.
    wrong("no subordinate ids", NEWER, Some(("import", 5)), "--add-subuids 100000-165535"),
    wrong("ids of a directory service", NEWER, Some(("import", 5)), "`remote` has no range of ids in `/etc/subuid`"),
    wrong("directory above for a group only", NEWER, Some(("import", 1)), "Permission denied"),
];

const fn wrong(host: &'static str, places: &'static [Place], step: Option<(&'static str, i32)>, says: &'static str) -> KnownWrong {
    KnownWrong { host, places, step, says }
}

/// What the document says of a host.
fn words(host: &Host) -> &'static str {
    let known = KNOWN_WRONG.iter().find(|known| known.host == host.name);
    match (&host.expected, known) {
        (Expected::Works, None) => "works",
        (Expected::Refused { .. }, None) => "refuses",
        (Expected::Works, Some(_)) => "does not work yet",
        (Expected::Refused { .. }, Some(KnownWrong { step: Some((_, 5)), .. })) => "refuses; the hint is not right yet",
        (Expected::Refused { .. }, Some(_)) => "should refuse",
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

    #[test]
    fn what_is_wrong_is_in_the_table() {
        for known in KNOWN_WRONG {
            let host = HOSTS.iter().find(|host| host.name == known.host).unwrap_or_else(|| panic!("no host `{}`", known.host));
            assert!(known.places.iter().all(|place| host.places.contains(place)), "`{}` is not there", known.host);
        }
    }

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
