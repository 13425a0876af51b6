//! Namespaces and identities.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Error, Result};

/// A kind of namespace that [`unshare`] can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// User and group ids, capabilities.
    User,
    Mount,
    /// Process ids. This process stays where it is: only children that it starts from now on are in the new namespace.
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

/// Moves this process into new namespaces. `User` works only in a process with one thread.
pub(crate) fn unshare(namespaces: &[Namespace]) -> Result<()> {
    let flags = namespaces.iter().fold(CloneFlags::empty(), |flags, one| flags | one.flag().0);
    nix::sched::unshare(flags).map_err(|errno| {
        let names: Vec<&str> = namespaces.iter().map(|one| one.flag().1).collect();
        Error::new("unshare", names.join("|"), errno)
    })
}

/// Fails where [`drop_groups`] would fail later: the namespace above may have given the right away for all below it.
pub(crate) fn may_drop_groups() -> Result<()> {
    match std::fs::read_to_string("/proc/self/setgroups") {
        Ok(text) if text.trim() == "deny" => Err(Error::new("setgroups", "[]", nix::errno::Errno::EPERM)),
        _ => Ok(()),
    }
}

/// Gives up all supplementary groups, which needs a capability in this user namespace.
pub(crate) fn drop_groups() -> Result<()> {
    nix::unistd::setgroups(&[]).map_err(Error::of("setgroups", "[]"))
}

/// Becomes id 0 in a user namespace whose map is written. Supplementary groups stay.
pub(crate) fn become_root() -> Result<()> {
    let gid = Gid::from_raw(0);
    nix::unistd::setresgid(gid, gid, gid).map_err(Error::of("setresgid", "0, 0, 0"))?;
    let uid = Uid::from_raw(0);
    nix::unistd::setresuid(uid, uid, uid).map_err(Error::of("setresuid", "0, 0, 0"))
}

/// The PID namespace in which a PID namespace was made, unless that is above the caller's (`ioctl_nsfs(2)`).
pub(crate) fn above(namespace: &OwnedFd) -> Option<OwnedFd> {
    // `NS_GET_PARENT` of `linux/nsfs.h`, which the libc crate does not have.
    const GET_PARENT: libc::Ioctl = 0xb702;
    // SAFETY: the request takes no argument; the kernel answers with a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::ioctl(namespace.as_raw_fd(), GET_PARENT);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Forbids new user namespaces in this one and below it, for good: only `CAP_SYS_RESOURCE` in this namespace could raise the limit again.
/// In a user namespace of its own a program would get all capabilities, and the bound on a session's capabilities would mean nothing.
///
/// `settings` is `/proc/sys/user`. What the kernel shows there depends on the namespace of whoever opens a file in it. Where a container
/// has made it read-only, only the filter of the session forbids it.
pub(crate) fn forbid_user_namespaces(settings: BorrowedFd<'_>) -> Result<()> {
    limit(settings, "max_user_namespaces", 0)
}

/// Writes a limit of the user namespace of whoever has opened `settings`. Nothing is limited where these files are read-only, as in
/// containers that hide parts of `/proc`.
fn limit(settings: BorrowedFd<'_>, name: &'static str, most: u64) -> Result<()> {
    let file = match rustix::fs::openat(settings, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ROFS) => return Ok(()),
        opened => opened.map_err(Error::of("openat", format_args!("user.{name}")))?,
    };
    rustix::io::write(file, most.to_string().as_bytes()).map(drop).map_err(Error::of("write", format_args!("user.{name}, {most}")))
}

/// Tables of the kernel that are counted for a user and all namespaces of that user together (since Linux 4.13).
const SHARED: [&str; 2] = ["max_inotify_instances", "max_inotify_watches"];

/// How much of them the user may have.
#[derive(Debug)]
pub(crate) struct Shared([Option<u64>; 2]);

impl Shared {
    /// The limits of the user namespace that this process is in.
    pub(crate) fn of_this_namespace() -> Self {
        let read = |name| std::fs::read_to_string(format!("/proc/sys/user/{name}")).ok()?.trim().parse().ok();
        Self(SHARED.map(read))
    }

    /// Lets this new user namespace and all below it use at most half of the user's limit, whatever ids are in use there. Else a session
    /// could use up all that the user's desktop needs.
    pub(crate) fn leave_half(&self) -> Result<()> {
        let settings = rustix::fs::open("/proc/sys/user", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::of("open", "/proc/sys/user"))?;
        for (name, most) in SHARED.into_iter().zip(self.0) {
            most.map_or(Ok(()), |most| limit(settings.as_fd(), name, most / 2))?;
        }
        Ok(())
    }
}

/// Sets the host name of this UTS namespace.
pub(crate) fn set_host_name(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).map_err(Error::of("sethostname", name))
}
