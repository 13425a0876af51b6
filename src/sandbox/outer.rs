//! The outer helper: enters the user namespace, then supervises PID 1 or runs a task.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::channel::Channel;
use super::plan::{Network, Plan, Step};
use super::request::{Failure, FromOuter, PID1, Request, SessionRequest, WireError};
use super::task::Lookup;
use super::{pid1, task};
use crate::beneath::{TreeDir, remove_tree};
use crate::sandbox::request::PASSED_ON;
use crate::sys;
use crate::sys::cgroup::{Allowance, Group};
use crate::sys::namespace::Namespace;
use crate::sys::{fd, mount, namespace, overlay, process, signal};

/// Runs as the outer helper; the result is the exit status, which nobody reads.
pub(crate) fn run(control: Channel, lookup: Lookup) -> i32 {
    if let Ok(clone) = control.try_clone() {
        report_panics(clone, FromOuter::Failed);
    }
    match begin(&control) {
        Err(failure) => {
            let _ = control.send(&FromOuter::Failed(failure), &[]);
            1
        }
        Ok(None | Some((Request::Enter, _))) => 0,
        Ok(Some((Request::Namespaces, _))) => {
            let _ = control.send(&try_namespaces().map_or_else(FromOuter::Failed, |()| FromOuter::Entered), &[]);
            0
        }
        Ok(Some((Request::Session { session, remove_after }, fds))) => {
            let last = match supervise(&control, &session, fds, &remove_after) {
                Ok(done) => done,
                Err(failure) => FromOuter::Failed(failure),
            };
            let _ = control.send(&last, &[]);
            0
        }
        Ok(Some((Request::Task { name, input, mounts, fd_count }, fds))) => {
            task::run(control, lookup, task::Asked { name, input, mounts, fd_count, fds });
            0
        }
    }
}

/// Sends the message of a panic instead of printing it: our standard error is `/dev/null`.
pub(crate) fn report_panics<M: serde::Serialize + 'static>(channel: Channel, wrap: fn(Failure) -> M) {
    std::panic::set_hook(Box::new(move |info| {
        let _ = channel.send(&wrap(Failure::Panic(info.to_string())), &[]);
        process::exit_now(70);
    }));
}

/// Enters the user namespace, becomes root of it once its map is written, and waits for the request. `None` if the other side is gone.
fn begin(control: &Channel) -> Result<Option<(Request, Vec<OwnedFd>)>, Failure> {
    let refused = |error: sys::Error| Failure::UserNamespace(error.into());
    signal::reset_all().map_err(refused)?;
    signal::ignore_file_size().map_err(refused)?;
    // After this, Ctrl-C on the terminal reaches only the program that started us, and that one decides what becomes of the session.
    process::new_session().map_err(refused)?;
    // `newuidmap` wants `/proc/PID` to belong to the user. The kernel gives it to root if the process is not dumpable.
    process::set_dumpable(true).map_err(refused)?;
    let shared = namespace::Shared::of_this_namespace();
    namespace::unshare(&[Namespace::User]).map_err(refused)?;
    control.send(&FromOuter::Unshared, &[]).map_err(|error| Failure::Protocol(error.to_string()))?;
    let protocol = |error: super::channel::ChannelError| Failure::Protocol(error.to_string());
    if control.receive::<Request>().map_err(protocol)?.is_none() {
        return Ok(None);
    }
    // This process and PID 1 keep the user's groups: a directory above the data directory may let only one of them in.
    // The limits are written only now, since the files below `/proc/sys/user` belong to id 0 of the namespace. On Ubuntu this is the first
    // call that AppArmor refuses: it lets everybody make a user namespace and takes the capabilities away in it.
    let prepared = namespace::may_drop_groups()
        .and_then(|()| namespace::become_root())
        .and_then(|()| shared.leave_half())
        .and_then(|()| process::set_dumpable(false));
    prepared.map_err(|error| Failure::Namespaces(error.into()))?;
    control.send(&FromOuter::Entered, &[]).map_err(protocol)?;
    control.receive::<Request>().map_err(protocol)
}

/// Makes the namespaces that PID 1 and the session's process will make.
fn try_namespaces() -> Result<(), Failure> {
    namespace::unshare(&[Namespace::Pid])
        .and_then(|()| namespace::unshare(&[Namespace::Mount, Namespace::Ipc, Namespace::Uts, Namespace::Network]))
        .map_err(|error| Failure::Namespaces(error.into()))?;
    namespace::unshare(&[Namespace::User, Namespace::Mount]).map_err(|error| Failure::Nested(error.into()))
}

/// Starts PID 1 and waits until it is reaped. This process holds the locks among `fds` until it ends.
fn supervise(
    control: &Channel,
    session: &SessionRequest,
    fds: Vec<OwnedFd>,
    remove_after: &[PathBuf],
) -> Result<FromOuter, Failure> {
    // If the helper of an earlier run was killed, nobody has checked whether somebody outside has files of that run open.
    if let Some(upper) =
        held(overlays(&session.plan).filter(|(upper, _)| is_used(upper))).map_err(|error| Failure::Prepare(error.into()))?
    {
        return Err(Failure::Held(upper));
    }
    // Only children enter the new PID namespace; this process stays outside and sees its PID 1 by its number out here.
    namespace::unshare(&[Namespace::Pid]).map_err(|error| Failure::Namespaces(error.into()))?;
    let protocol = |error: super::channel::ChannelError| Failure::Protocol(error.to_string());
    let (channel, theirs) = Channel::pair().map_err(|error| Failure::Protocol(error.to_string()))?;
    let pid1 = fork_self(PID1, theirs, pid1::run).map_err(|error| Failure::Namespaces(error.into()))?;
    // PID 1 waits for its request, so it has no children yet that could be outside of the group.
    let group = Group::around(pid1, Allowance { nice: session.priority.nice, ..Allowance::from(&session.limits) });
    let session = SessionRequest { counted: group.is_some(), ..session.clone() };
    control.send(&FromOuter::Spawned { pid1 }, &[]).map_err(protocol)?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    // PID 1 may be dead already. Then its own message and its status matter, not that we could not write.
    let _ = channel.send(&session, &borrowed);
    // Keep only the locks. If we held the command's pipes open, whoever reads them would never see the end.
    let _locks: Vec<OwnedFd> = fds.into_iter().skip(PASSED_ON).collect();
    let exit = wait(control, pid1, group.as_ref()).map_err(|error| Failure::Prepare(error.into()))?;
    let refused = group.as_ref().and_then(Group::refused);
    drop(group);
    // A session that could not be made has no overlay to check; the error to report is its own.
    let reachable = session.plan.network == Network::Host || session.shows_host;
    let looked = if reachable { held(overlays(&session.plan)) } else { Ok(None) };
    let (held, unsure) = looked.map_or_else(|error| (None, Some(error.into())), |held| (held, None));
    let mut removal = None;
    for path in remove_after {
        removal = remove_tree(path).err().map(|error| WireError::from(sys::Error::from(error))).or(removal);
    }
    let exceeded = refused.and_then(|refused| session.limits.exceeded(refused));
    match exceeded {
        // A layer that somebody outside can change matters more: a session that exceeded a limit may be continued.
        Some(exceeded) if held.is_none() && unsure.is_none() => Err(Failure::Exceeded(exceeded)),
        _ => Ok(FromOuter::Done { pid1: exit, removal, held, unsure }),
    }
}

/// How often and at which interval we check whether an overlay is gone. The kernel unmounts it in the background, after the last process
/// has ended.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The upper and work directories of a plan's overlays.
fn overlays(plan: &Plan) -> impl Iterator<Item = (&Path, &Path)> {
    plan.steps.iter().filter_map(|step| match step {
        Step::Overlay { upper, work, .. } | Step::OverlayAt { upper, work, .. } => Some((upper.as_path(), work.as_path())),
        _ => None,
    })
}

/// Whether a session has run on it before: `entries(0)` fails if there is more than nothing. If it cannot be opened the answer is no, and
/// mounting it reports why.
fn is_used(upper: &Path) -> bool {
    TreeDir::open(upper).is_ok_and(|upper| upper.entries(0).is_err())
}

/// The upper directory of an overlay that still lives although no process of the session does.
///
/// A session can listen on a socket, and another user of the machine can connect to it and receive a descriptor: with the host's network
/// through an abstract socket, else through one in a directory that the host shows. With that descriptor the other user could change the
/// layer after its commit (the class of CVE-2024-27297). Landlock stops only connections that the session begins.
fn held<'a>(overlays: impl Iterator<Item = (&'a Path, &'a Path)>) -> sys::Result<Option<PathBuf>> {
    let mut overlays = overlays.peekable();
    if overlays.peek().is_none() {
        return Ok(None);
    }
    // The kernel lets only the owner of a mount namespace make mounts, and ours is the host's so far.
    namespace::unshare(&[Namespace::Mount]).and_then(|()| mount::make_all_private())?;
    for (upper, work) in overlays {
        let mut looks = 0;
        while overlay::is_alive(upper, work)? {
            looks += 1;
            if looks == LOOKS {
                return Ok(Some(upper.to_owned()));
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
    Ok(None)
}

/// How often the control group is asked, in milliseconds.
const ASK_GROUP_MS: u64 = 250;

/// Waits for the end of PID 1. Ends it when the other side is gone, or when its control group refused something.
fn wait(control: &Channel, pid1: i32, group: Option<&Group>) -> sys::Result<process::Exit> {
    // A pidfd and not the number: the number may belong to another process once PID 1 is reaped.
    let pidfd = process::open_pidfd(pid1)?;
    let mut watched = vec![pidfd.as_fd(), control.as_fd()];
    loop {
        let ready = fd::wait_readable(&watched, group.map(|_| ASK_GROUP_MS))?;
        if ready.first() == Some(&true) {
            return process::wait_for(pid1);
        }
        if let Some(group) = group.filter(|group| group.refused().is_some()) {
            group.kill();
            process::kill_pidfd(&pidfd)?;
        }
        if ready.get(1) == Some(&true) {
            // Nobody sends us anything any more, so readable means the end of the stream.
            process::kill_pidfd(&pidfd)?;
            watched.truncate(1);
        }
    }
}

/// Starts a copy of this process under another name, which has nothing of it but `socket` and runs `child`. Returns the process id.
///
/// Only helpers are copied, which have one thread. They need not execute themselves for it: that would load and link a large program.
pub(crate) fn fork_self(name: &str, socket: OwnedFd, child: fn(&Channel) -> i32) -> sys::Result<i32> {
    process::fork(name, || {
        // What it owns is closed below, by number.
        std::mem::forget(std::panic::take_hook());
        fd::keep_only(socket).map_or(70, |socket| child(&Channel::from_fd(socket)))
    })
}
