//! Kinds and hints of a sandbox that could not be made, or that was ended.

use crate::cli::invocation::Invocation;
use crate::sandbox;
use crate::sandbox::idmap::IdMapError;
use crate::sandbox::refusal::{Block, forbids_memfd, range_advice};

use crate::cli::report::{Failure, Kind};

/// Kind and hints of a sandbox that could not be made.
pub(crate) fn sandbox_words(error: &sandbox::Error) -> (Kind, Vec<String>) {
    use sandbox::Error as E;
    let one = |hint: &str| vec![hint.to_owned()];
    match error {
        E::IdMap(error) => (Kind::Host, vec![id_map_hint(error)]),
        E::UserNamespace { block: block @ Block::Processes, .. }
        | E::Namespaces { block: block @ Block::Processes, .. }
        | E::NestedNamespace { block: block @ Block::Processes, .. } => (Kind::Other, vec![block.remedy()]),
        E::UserNamespace { block, .. } | E::Namespaces { block, .. } | E::NestedNamespace { block, .. } => {
            (Kind::Host, vec![block.remedy(), doctor_hint()])
        }
        E::HelperProgram { .. } if forbids_memfd() => (
            Kind::Host,
            one("`vm.memfd_noexec` is 2, which forbids programs in memory; as the administrator: `sysctl -w vm.memfd_noexec=1`"),
        ),
        E::MapToolMissing { .. } => (
            Kind::Host,
            one(
                "as the administrator: install `uidmap` (Debian, Ubuntu), `shadow-utils` (Fedora), `shadow` (openSUSE, Arch) or `sys-apps/shadow` (Gentoo)",
            ),
        ),
        E::MapToolPowerless { program, why, .. } => (Kind::Host, vec![why.remedy(program)]),
        E::MapWrite { lacks, .. } if lacks.is_empty() => (Kind::Host, vec![doctor_hint()]),
        E::MapWrite { .. } => (
            Kind::Host,
            one("start the container with `--cap-add SETUID --cap-add SETGID --cap-add SETFCAP` (in Kubernetes: \
                 `securityContext.capabilities.add`), or work as an ordinary user with subordinate ids"),
        ),
        E::MapRefused { .. } => (Kind::Host, one("compare the range with your lines in `/etc/subuid` and `/etc/subgid`")),
        E::Overlay { .. } => (
            Kind::Host,
            vec![
                "put the data directory on a local ext4, xfs, btrfs or tmpfs with `--data` or `GENTOOMUCH_DATA`".to_owned(),
                doctor_hint(),
            ],
        ),
        E::MapFailed { said, .. } if said.contains("user name") => (
            Kind::Host,
            one(
                "this user id has no entry in the user database, which `newuidmap` wants: ask the administrator for one; in a container, \
                 add it to `/etc/passwd`, or start gentoomuch as root",
            ),
        ),
        E::Proc { .. } | E::MapFailed { .. } => (Kind::Host, vec![doctor_hint()]),
        E::CommandNotFound { .. } => (Kind::Usage, one("the `PATH` of the session is searched, not that of this host")),
        E::CommandNotExecutable { .. } => {
            (Kind::Usage, one("make it executable with `chmod +x`, or start its interpreter: `sh FILE`"))
        }
        E::StandardDirectory { .. } => {
            (Kind::Usage, one("redirect it: from a file or `/dev/null`, or to a file or a pipe (`DIR/NAME` instead of `DIR`)"))
        }
        E::Held { .. } => (
            Kind::Other,
            one("nothing of the session was kept, since that process could change it later; find the process with `fuser`, then \
                 repeat the command"),
        ),
        E::Exceeded(exceeded) => {
            let name = exceeded.name();
            (Kind::Emerge, vec![format!("set another limit, or `none`, with `--{name}` or a line `{name}` in `env/limits`")])
        }
        E::Died { .. } => (Kind::Other, one("somebody killed it, or the machine ran out of memory")),
        E::Task { failure, .. } => task_words(&failure.kind),
        _ => (Kind::Other, Vec::new()),
    }
}

/// The same of a task that failed in the id map, by what it says has failed.
fn task_words(kind: &str) -> (Kind, Vec<String>) {
    match kind {
        "archive-changed" | "archive-refused" => (Kind::Verification, Vec::new()),
        "edits" => (
            Kind::Other,
            vec!["the source is not as the package had it: edit its files in place, without links to others".to_owned()],
        ),
        "too-deep" => (Kind::Other, vec!["name a directory in it, and leave out the rest".to_owned()]),
        "archive-damaged" => (Kind::Verification, vec!["fetch the file again".to_owned()]),
        "archive-unmapped-owner" => (
            Kind::Host,
            vec!["ask the administrator for 65536 subordinate ids; in a container, start it with 65536 ids".to_owned()],
        ),
        _ => (Kind::Other, Vec::new()),
    }
}

pub(super) fn doctor_hint() -> String {
    "`gentoomuch doctor` checks everything".to_owned()
}

/// What to do about missing ids.
pub(crate) fn id_map_hint(error: &IdMapError) -> String {
    match error {
        IdMapError::NoRange { user, .. } => range_advice(user),
        IdMapError::Read { .. } => range_advice(&Invocation::user().name),
        IdMapError::TooFew { .. } => {
            "give the container a range of 65536 ids (`podman run --userns=auto:size=65536`, `unshare --map-auto --map-root-user`, \
             `hostUsers: false` in Kubernetes)"
                .to_owned()
        }
        IdMapError::NotHere { .. } | IdMapError::NotRoot => "leave out `--isolation`".to_owned(),
        IdMapError::Line { .. } => "as the administrator: correct that line; see subuid(5)".to_owned(),
    }
}

impl From<IdMapError> for Failure {
    fn from(error: IdMapError) -> Self {
        let hint = id_map_hint(&error);
        Self::new(Kind::Host, error).about("this host cannot sandbox").hint(hint).hint(doctor_hint())
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        let (kind, hints) = sandbox_words(&error);
        hints.into_iter().fold(Self::new(kind, error), Self::hint)
    }
}
