//! PID 1 of a session: makes its mounts, starts its command, reaps, forwards signals, and ends everything else when it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::fs::{Mode, OFlags};

use super::channel::{Channel, ChannelError};
use super::isolation::Proc;
use super::limits::{Watch, Watched};
use super::outer::{fork_self, report_panics};
use super::plan::{Network, Plan, Step};
use super::request::PASSED_ON;
use super::request::{Failure, FromPid1, FromSession, SESSION, SessionRequest, ToPid1, ToSession};
use super::steps::Building;
use super::{idmap, session};
use crate::beneath::RootDir;
use crate::sys::namespace::{self, Namespace};
use crate::sys::process::Exit;
use crate::sys::usage::{Budget, Found, Unseen, Usage, Worth};
use crate::sys::{self, fd, mount, network, process, pty, signal};

/// Runs as PID 1. `above` is the outer helper's socket.
pub(crate) fn run(above: &Channel) -> i32 {
    let Ok(Some((request, mut fds))) = above.receive::<SessionRequest>() else { return 1 };
    if fds.len() < PASSED_ON {
        return 1;
    }
    let locks = fds.split_off(PASSED_ON);
    let stdio = fds.split_off(1);
    let Some(socket) = fds.pop() else { return 1 };
    let control = Channel::from_fd(socket);
    if let Ok(clone) = control.try_clone() {
        report_panics(clone, FromPid1::Failed);
    }
    let mut watch = Watch::new(request.limits, request.used_ms, request.counted);
    let outcome = start(&request, &control, stdio, watch.counts()).and_then(|session| session.serve(&control, above, &mut watch));
    // No process of the session may live once this process drops the locks.
    let _ = signal::send_to_all_others(Signal::SIGKILL);
    while let Ok(Some(_)) = process::wait_any() {}
    let last = match outcome {
        Ok(Some(exit)) => FromPid1::Exited(exit),
        Ok(None) => return 1,
        Err(failure) => FromPid1::Failed(failure),
    };
    let _ = control.send(&last, &[]);
    drop(locks);
    0
}

/// The session's process and what is needed to serve it.
#[derive(Debug)]
struct Running {
    command: i32,
    terminal: Option<OwnedFd>,
    children: SignalFd,
    usage: Option<Usage>,
}

fn protocol(error: &ChannelError) -> Failure {
    Failure::Protocol(error.to_string())
}

fn prepare(error: sys::Error) -> Failure {
    Failure::Prepare(error.into())
}

fn start(request: &SessionRequest, control: &Channel, stdio: Vec<OwnedFd>, counts: bool) -> Result<Running, Failure> {
    let plan = &request.plan;
    process::set_dumpable(false).map_err(prepare)?;
    unshare(plan.network).map_err(|error| Failure::Namespaces(error.into()))?;
    // The caller's umask must not decide the modes of files that a build creates.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let children = signal::as_descriptor(&[Signal::SIGCHLD]).map_err(prepare)?;
    let (session, theirs) = Channel::pair().map_err(|error| Failure::Protocol(error.to_string()))?;
    let command = fork_self(SESSION, theirs, session::run).map_err(prepare)?;
    let mut own_proc = None;
    let root = Building::new(plan, request.mount_calls)
        .execute(|| {
            own_proc = wait_until_ready(&session);
            own_proc.as_ref().map(drop).ok_or_else(|| sys::Error::new("execve", SESSION, rustix::io::Errno::CHILD))
        })
        .map_err(|(index, error)| Failure::Step { index, error: error.into() })?;
    if counts {
        process::run_briefly_and_soon();
    }
    let usage = if counts { Some(usage(plan, &root).map_err(prepare)?) } else { None };
    // `execute` calls its function exactly once, so `own_proc` is set; the error is for a plan without `PivotRoot`.
    let own_proc = own_proc.ok_or_else(|| Failure::Died { who: "the session's process".to_owned() })?;
    namespace::set_host_name(&plan.hostname).map_err(prepare)?;
    if plan.network == Network::None {
        network::loopback_up().map_err(prepare)?;
    }
    let (master, stdio) = if plan.terminal {
        let (master, other) = terminal(&root, request.terminal_size).map_err(prepare)?;
        (Some(master), vec![other])
    } else {
        (None, stdio)
    };
    enter(&session, &own_proc, request, &stdio)?;
    drop(stdio);
    let passed: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
    control.send(&FromPid1::Started, &passed).map_err(|error| protocol(&error))?;
    Ok(Running { command, terminal: master, children, usage })
}

/// Measures what the session uses, including its file systems in memory.
fn usage(plan: &Plan, root: &RootDir) -> sys::Result<Usage> {
    let shared = |step: &Step| match step {
        Step::Proc { target, proc: Proc::Shared } => Some(target.clone()),
        _ => None,
    };
    let mut usage = match plan.steps.iter().find_map(shared) {
        Some(target) => Usage::by_shared(root.place(&target)?.as_fd())?,
        None => Usage::of_this_namespace()?,
    };
    let made = |step: &Step| match step {
        Step::Tmpfs { target, .. } => vec![target.clone()],
        Step::Dev { target } => vec![target.clone(), target.join("shm")],
        _ => Vec::new(),
    };
    for place in plan.steps.iter().flat_map(made) {
        usage.count_files_of(root.place(&place)?)?;
    }
    Ok(usage)
}

fn unshare(wanted: Network) -> sys::Result<()> {
    let mut namespaces = vec![Namespace::Mount, Namespace::Ipc, Namespace::Uts];
    if wanted == Network::None {
        namespaces.push(Namespace::Network);
    }
    namespace::unshare(&namespaces)?;
    // A cgroup namespace only hides names. If it is refused, the session works as well without.
    let _ = namespace::unshare(&[Namespace::Cgroup]);
    mount::make_all_private()?;
    rustix::process::chdir("/").map_err(sys::Error::of("chdir", "/"))
}

/// Waits until the session's process has opened what it needs of the host's `/proc`. The root changes next.
fn wait_until_ready(session: &Channel) -> Option<OwnedFd> {
    match session.receive::<FromSession>() {
        Ok(Some((FromSession::Ready, mut fds))) => fds.pop(),
        _ => None,
    }
}

fn terminal(root: &RootDir, size: Option<pty::TerminalSize>) -> sys::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let pts = root.place("/dev/pts")?;
    let master = rustix::fs::openat(&pts, "ptmx", flags, Mode::empty()).map_err(sys::Error::of("openat", "/dev/pts/ptmx"))?;
    let other = pty::open_other_side(&master)?;
    size.map_or(Ok(()), |size| pty::set_size(&master, size))?;
    Ok((master, other))
}

/// Leads the session's process into its nested namespace. Returns when it has become the command.
fn enter(session: &Channel, own_proc: &OwnedFd, request: &SessionRequest, stdio: &[OwnedFd]) -> Result<(), Failure> {
    let died = || Failure::Died { who: "the session's process".to_owned() };
    let borrowed: Vec<BorrowedFd<'_>> = stdio.iter().map(AsFd::as_fd).collect();
    let message = ToSession::Enter {
        command: request.plan.command.clone(),
        terminal: request.plan.terminal,
        calls: request.mount_calls,
        limits: request.limits,
        priority: request.priority,
        watched_by_own: request.watcher.is_none(),
    };
    session.send(&message, &borrowed).map_err(|error| protocol(&error))?;
    match session.receive::<FromSession>().map_err(|error| protocol(&error))? {
        Some((FromSession::Unshared, _)) => {}
        Some((FromSession::Failed(failure), _)) => return Err(failure),
        Some((FromSession::Ready, _)) => return Err(Failure::Protocol("`ready` twice".to_owned())),
        None => return Err(died()),
    }
    idmap::write(own_proc, &request.nested).map_err(|error| Failure::Nested(error.into()))?;
    // Before anything of the root runs, and not earlier: only the owner of the namespace may write its map.
    request.watcher.map_or(Ok(()), process::become_user).map_err(prepare)?;
    session.send(&ToSession::Mapped, &[]).map_err(|error| protocol(&error))?;
    // The socket is close-on-exec: its end means that the command was executed.
    let Some((last, _)) = session.receive_frame().map_err(|error| protocol(&error))? else { return Ok(()) };
    if let Some(failure) = session::not_executed(&last) {
        return Err(failure);
    }
    match serde_json::from_slice(&last) {
        Ok(FromSession::Failed(failure)) => Err(failure),
        _ => Err(Failure::Protocol("an answer out of turn".to_owned())),
    }
}

impl Watched for Running {
    fn look(&self, worth: &Worth, budget: &Budget) -> Result<Found, Unseen> {
        self.usage.as_ref().map_or(Ok(Found::default()), |usage| usage.look(worth, budget))
    }

    fn hold(&self, held: bool) -> sys::Result<()> {
        signal::send_to_all_others(if held { Signal::SIGSTOP } else { Signal::SIGCONT })
    }
}

impl Running {
    /// Reaps and forwards signals until the command has ended. `None` if the other side is gone.
    fn serve(self, control: &Channel, above: &Channel, watch: &mut Watch) -> Result<Option<Exit>, Failure> {
        loop {
            // Rounded up, or the loop would spin for the last part of a millisecond.
            let patience = watch.patience().map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX) + 1);
            let ready = fd::wait_readable(&[self.children.as_fd(), control.as_fd(), above.as_fd()], patience).map_err(prepare)?;
            let unseen = |error: sys::Error| Failure::Unseen(error.into());
            if let Some(exceeded) = watch.check(&self).map_err(unseen)? {
                return Err(Failure::Exceeded(exceeded));
            }
            if ready.first() == Some(&true) {
                // SIGCHLDs merge: one signal may stand for many children, so every child that is there is reaped.
                while let Ok(Some(_)) = self.children.read_signal() {}
                while let Some((pid, exit)) = process::reap_any().map_err(prepare)? {
                    if pid == self.command {
                        // A command that succeeded is done, whatever it used.
                        let exceeded = if exit.success() { None } else { watch.check_now(&self).map_err(unseen)? };
                        return exceeded.map_or(Ok(Some(exit)), |exceeded| Err(Failure::Exceeded(exceeded)));
                    }
                }
            }
            if ready.get(2) == Some(&true) {
                return Ok(None);
            }
            if ready.get(1) == Some(&true) {
                match control.receive::<ToPid1>() {
                    Ok(Some((ToPid1::Signal(number), _))) => self.forward(number).map_err(prepare)?,
                    Ok(None) | Err(_) => return Ok(None),
                }
            }
        }
    }

    fn forward(&self, number: i32) -> sys::Result<()> {
        // On Ctrl-C the kernel signals the terminal's foreground group, which a shell sets for each job. So do we.
        let group = self.terminal.as_ref().and_then(pty::foreground_group).filter(|group| *group > 1).unwrap_or(self.command);
        signal::send_to_group(group, number)
    }
}
