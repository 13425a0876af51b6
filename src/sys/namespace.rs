//! Namespaces and identities.

use std::os::fd::BorrowedFd;

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};

use super::{Error, Result};

/// A kind of namespace that [`unshare`] can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// User and group ids, capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process ids, for the children made from now on.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Network devices, addresses, ports, abstract sockets.
    Network,
    /// The root of the visible cgroup tree.
    Cgroup,
}

impl Namespace {
    fn flag(self) -> (CloneFlags, &'static str) {
        match self {
            Self::User => (CloneFlags::CLONE_NEWUSER, "CLONE_NEWUSER"),
            Self::Mount => (CloneFlags::CLONE_NEWNS, "CLONE_NEWNS"),
            Self::Pid => (CloneFlags::CLONE_NEWPID, "CLONE_NEWPID"),
            Self::Ipc => (CloneFlags::CLONE_NEWIPC, "CLONE_NEWIPC"),
            Self::Uts => (CloneFlags::CLONE_NEWUTS, "CLONE_NEWUTS"),
            Self::Network => (CloneFlags::CLONE_NEWNET, "CLONE_NEWNET"),
            Self::Cgroup => (CloneFlags::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
        }
    }
}

/// Moves this process into new namespaces. `User` needs a process with one thread.
pub fn unshare(namespaces: &[Namespace]) -> Result<()> {
    let flags = namespaces.iter().fold(CloneFlags::empty(), |flags, one| flags | one.flag().0);
    nix::sched::unshare(flags).map_err(|errno| {
        let names: Vec<&str> = namespaces.iter().map(|one| one.flag().1).collect();
        Error::new("unshare", names.join("|"), errno)
    })
}

/// Becomes id 0 with no supplementary groups, in a user namespace whose map is written. Where `setgroups` is denied, as in a
/// namespace that maps one id only, the groups stay.
pub fn become_root() -> Result<()> {
    match nix::unistd::setgroups(&[]) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(errno) => return Err(Error::new("setgroups", "[]", errno)),
    }
    let gid = Gid::from_raw(0);
    nix::unistd::setresgid(gid, gid, gid).map_err(Error::of("setresgid", "0, 0, 0"))?;
    let uid = Uid::from_raw(0);
    nix::unistd::setresuid(uid, uid, uid).map_err(Error::of("setresuid", "0, 0, 0"))
}

/// Lets nobody make a user namespace in this one or below it, for good: only `CAP_SYS_RESOURCE` in this namespace could raise the limit again.
/// Without it, a program gets all capabilities by a user namespace of its own, and the capabilities of a session bound nothing.
///
/// `settings` is `/proc/sys/user`. The kernel shows there the limits of the namespace of whoever opens them.
pub fn forbid_user_namespaces(settings: BorrowedFd<'_>) -> Result<()> {
    const NAME: &str = "user.max_user_namespaces";
    let file = rustix::fs::openat(settings, "max_user_namespaces", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::of("openat", NAME))?;
    rustix::io::write(file, b"0").map(drop).map_err(Error::of("write", format_args!("{NAME}, 0")))
}

/// Sets the host name of this UTS namespace.
pub fn set_host_name(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).map_err(Error::of("sethostname", name))
}
