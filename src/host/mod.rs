//! What this machine allows: `doctor`, which tries everything, and what commands try before they keep anything.
//!
//! ```text
//! facts      read from /proc: pure functions over its text
//! probe      tries the sandbox: id map, mounts, a new proc, overlayfs in the data directory, seccomp
//! place      whether a directory can hold layers, and where else there is room
//! report     the checks in order, and what each rung of isolation lacks
//! ```

mod facts;
mod place;
mod probe;
mod report;

use std::path::{Path, PathBuf};

use crate::sandbox::refusal::Block;
use crate::sandbox::{self, Launcher, Rung};

pub(crate) use probe::lookup;
pub(crate) use report::{Candidate, Check, Report, Status, Subject, examine};

use facts::Facts;

/// Why nothing can be built on this host as it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum HostProblem {
    /// The data directory is on a file system that overlayfs cannot use.
    #[error("the layers of a store cannot lie at `{path}`, which is on {file_system}")]
    Place {
        path: PathBuf,
        file_system: String,
        /// Places that would do, in words.
        better: Vec<String>,
        #[source]
        source: Option<Box<sandbox::Error>>,
    },
    /// The kernel mounts no overlay for users, wherever it lies: not even on a file system in memory, which was tried.
    #[error("this kernel mounts no overlay in a user namespace")]
    NoOverlay(#[source] Box<sandbox::Error>),
    /// Its `/proc/version` says so.
    #[error("this is gVisor, not Linux")]
    Gvisor,
    /// Another isolation was demanded than there is.
    #[error("the isolation is `{allowed}` here, and `{demanded}` was demanded")]
    Isolation { demanded: Rung, allowed: Rung },
    #[error(transparent)]
    Sandbox(Box<sandbox::Error>),
}

impl HostProblem {
    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Place { better, file_system, .. } => {
                let volume = if file_system == "overlay" { "; in a container, a volume (`-v`) would do" } else { "" };
                let places = if better.is_empty() {
                    "no usual place on this host would do: ask the administrator for a directory on ext4, xfs or btrfs, or for one in a \
                     file that is mounted (`mount -o loop`)"
                        .to_owned()
                } else {
                    format!("these would do: {}", better.join(", "))
                };
                format!("choose a directory on a local disk with `--data` or `GENTOOMUCH_DATA`; {places}{volume}")
            }
            Self::NoOverlay(error) => no_overlay_remedy(error),
            Self::Gvisor => Block::Gvisor.remedy(),
            Self::Isolation { .. } => {
                "leave out `--isolation`, or see what each kind lacks with `gentoomuch doctor`; a store keeps the ids that it was made \
                 with"
                    .to_owned()
            }
            Self::Sandbox(_) => "`gentoomuch doctor` checks everything".to_owned(),
        }
    }
}

/// By what the kernel answered to an overlay in memory with `userxattr`.
fn no_overlay_remedy(error: &sandbox::Error) -> String {
    let kind = match error {
        sandbox::Error::Task { failure, .. } => failure.kind.as_str(),
        _ => "",
    };
    match kind {
        probe::MISSING => {
            "as the administrator: `modprobe overlay`, and a line `overlay` in `/etc/modules-load.d/overlay.conf`; or boot a kernel with \
             `CONFIG_OVERLAY_FS`"
        }
        probe::NOT_FOR_USERS => {
            "boot a kernel that lets ordinary users mount overlays: Linux does so since 5.11, and some older kernels of distributions do"
        }
        _ => "boot a kernel whose overlayfs has the option `userxattr`: Linux has it since 5.11, and some older kernels of distributions do",
    }
    .to_owned()
}

/// Refuses what is not Linux: there calls fail in ways that do not tell why.
pub(crate) fn check_kernel() -> Result<(), HostProblem> {
    if Facts::read(Path::new("/")).gvisor { Err(HostProblem::Gvisor) } else { Ok(()) }
}

/// Refuses a host, before a store is made there, that could import a stage3 and would fail at the first session.
pub(crate) fn check_new(launcher: &Launcher, directory: &Path) -> Result<(), HostProblem> {
    place::check(launcher, directory)?;
    launcher.try_namespaces().map_err(|error| HostProblem::Sandbox(Box::new(error)))
}

/// Chooses the isolation of sessions. Where the host hides parts of `/proc` a session is tried; if the kernel refuses a new `/proc` there,
/// sessions get the one that is there.
pub(crate) fn isolated(launcher: Launcher, demanded: Option<Rung>) -> Result<Launcher, HostProblem> {
    let share = demanded == Some(Rung::SharedProc) || Facts::read(Path::new("/")).proc_masked && refuses_proc(&launcher);
    let launcher = if share { launcher.sharing_proc() } else { launcher };
    match (launcher.isolation().rung(), demanded) {
        (allowed, Some(demanded)) if allowed != demanded => Err(HostProblem::Isolation { demanded, allowed }),
        _ => Ok(launcher),
    }
}

/// Whether a session fails since there may be no new `/proc`. Other failures are reported where a session is needed.
fn refuses_proc(launcher: &Launcher) -> bool {
    matches!(probe::session(launcher), Err(probe::SessionError::Sandbox(sandbox::Error::Proc { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_overlays_is_not_answered_with_another_directory() {
        let failure =
            crate::sandbox::TaskFailure { kind: "overlay".to_owned(), causes: vec!["cannot mount an overlay".to_owned()] };
        let problem = HostProblem::NoOverlay(Box::new(sandbox::Error::task("host.overlay", failure)));
        assert_eq!(problem.to_string(), "this kernel mounts no overlay in a user namespace");
        for (kind, remedy) in [
            ("overlay-missing", "as the administrator: `modprobe overlay`"),
            ("overlay-not-for-users", "boot a kernel that lets ordinary users mount overlays"),
            ("overlay", "boot a kernel whose overlayfs has the option `userxattr`"),
        ] {
            let failure = crate::sandbox::TaskFailure { kind: kind.to_owned(), causes: Vec::new() };
            let said = HostProblem::NoOverlay(Box::new(sandbox::Error::task("host.overlay", failure))).remedy();
            assert!(said.starts_with(remedy) && !said.contains("--data"), "{said}");
        }
    }
}
