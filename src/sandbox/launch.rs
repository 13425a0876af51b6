//! Starting sessions and tasks, from the side of the program that wants them.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::channel::Channel;
use super::error::{Error, Result};
use super::idmap::{IdMap, IdRange};
use super::isolation::Isolation;
use super::limits::Limits;
use super::plan::Plan;
use super::refusal::Powerless;
use super::request::{FromOuter, FromPid1, OUTER, Request, SessionRequest, ToPid1};
use super::stdio::{Copies, Inherited};
use super::{capabilities, idmap, refusal, stdio};
use crate::priority::Priority;
use crate::sandbox::plan::MountCalls;
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::pty::TerminalSize;

/// Where the helper's program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperSource {
    /// The running program, whose `main` begins with [`crate::enter_if_asked`].
    CurrentExe,
    /// Another program whose `main` does. A program that embeds us and has no such line names `gentoomuch` itself.
    Path(PathBuf),
}

/// The command's standard descriptors, where it has no terminal of its own. None may be a directory.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes or `/dev/null` in place of our own descriptors, which the command never gets: `sandbox/stdio.rs` has the table.
    Inherit,
    /// `/dev/null`.
    Null,
    /// The command's ends of three pipes.
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
}

/// What a session is given besides its plan.
#[derive(Debug)]
pub struct SessionOptions {
    /// Has no effect if the plan has a terminal.
    pub stdio: Stdio,
    /// Lock descriptors. Our own processes hold them until PID 1 is reaped; the command never gets them.
    pub hold: Vec<OwnedFd>,
    /// Directory trees that are removed inside the id map once PID 1 is reaped, even if this process is gone by then.
    pub remove_after: Vec<PathBuf>,
    pub limits: Limits,
    pub priority: Priority,
    /// The time that earlier runs of the same session have used, in milliseconds.
    pub used_ms: u64,
    /// The first size of the terminal.
    pub terminal_size: Option<TerminalSize>,
    /// Whether the session sees directories of the host in which other users can meet it. After its end we then check that nobody has
    /// files of it open.
    pub shows_host: bool,
    /// For tests.
    pub mount_calls: MountCalls,
}

impl SessionOptions {
    /// Only standard descriptors; no locks and no limits.
    pub fn new(stdio: Stdio) -> Self {
        Self {
            stdio,
            hold: Vec::new(),
            remove_after: Vec::new(),
            terminal_size: None,
            limits: Limits::default(),
            priority: Priority::default(),
            used_ms: 0,
            shows_host: false,
            mount_calls: MountCalls::default(),
        }
    }
}

#[derive(Debug, Default)]
pub struct TaskOptions {
    /// Descriptors for the task.
    pub fds: Vec<OwnedFd>,
    /// Whether it gets a mount namespace of its own, from which nothing propagates.
    pub mounts: bool,
    /// Lock descriptors that its process holds until it ends.
    pub hold: Vec<OwnedFd>,
    /// Ends the task as soon as this is readable: [`Error::Cancelled`]. Without it we wait for the task even if the user asks to stop.
    pub cancel: Option<OwnedFd>,
}

/// Starts helpers with one id map.
#[derive(Debug)]
pub struct Launcher {
    maker: Arc<Maker>,
    isolation: Isolation,
    ready: Mutex<Ready>,
}

/// Makes helpers. A thread may have a share of it.
#[derive(Debug)]
struct Maker {
    source: HelperSource,
    map: IdMap,
    /// `map` as it is written.
    pieces: IdMap,
    search: Vec<PathBuf>,
    /// Opened once: a new version may replace the file while we work, and our processes must understand each other.
    program: OnceLock<OwnedFd>,
}

/// A helper that has nothing to do yet.
#[derive(Debug, Default)]
enum Ready {
    #[default]
    Nothing,
    /// It has entered its namespace.
    Entered(Helper),
    /// A thread makes it.
    Coming(JoinHandle<Result<Helper>>),
}

/// Where `newuidmap` is looked for unless [`Launcher::search_in`] says otherwise. The user's `PATH` is not asked: the library reads no
/// environment.
const MAP_TOOL_PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

impl Launcher {
    pub fn new(source: HelperSource, map: IdMap) -> Self {
        let search = MAP_TOOL_PLACES.iter().map(PathBuf::from).collect();
        let pieces = map.in_pieces();
        let isolation = Isolation::of(&map);
        let maker = Arc::new(Maker { source, map, pieces, search, program: OnceLock::new() });
        Self { maker, isolation, ready: Mutex::default() }
    }

    /// Sessions get the `/proc` that is there.
    #[must_use]
    pub fn sharing_proc(mut self) -> Self {
        self.isolation = self.isolation.sharing_proc();
        self
    }

    /// What its sessions have.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Looks for `newuidmap` and `newgidmap` in these directories.
    #[must_use]
    pub fn search_in(mut self, directories: Vec<PathBuf>) -> Self {
        // A launcher that is still being made has started no thread, so it is the only one who has this.
        if let Some(maker) = Arc::get_mut(&mut self.maker) {
            maker.search = directories;
        }
        self
    }

    /// Enters the user namespace with its map, before there is anything to do in it: so a host that does not allow it is told at once, and
    /// not after an hour of work. The next task or session goes on from there.
    pub fn enter(&self) -> Result<()> {
        let helper = self.helper()?;
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Ready::Entered(helper);
        Ok(())
    }

    /// Does the same in a thread, while the caller prepares what is to be done in there. The next task or session waits for it, and gets
    /// its error.
    pub fn prepare(&self) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*ready, Ready::Nothing) {
            let maker = Arc::clone(&self.maker);
            // If there is no thread, the first task or session enters.
            *ready = crate::threads::builder().spawn(move || maker.helper()).map_or(Ready::Nothing, Ready::Coming);
        }
    }

    /// Makes the namespaces of a session, without one. The limit of a host may allow the first user namespace and not the one in it.
    pub(crate) fn try_namespaces(&self) -> Result<()> {
        let helper = self.helper()?;
        helper.control.send(&Request::Namespaces, &[])?;
        match helper.receive()? {
            FromOuter::Entered => Ok(()),
            FromOuter::Failed(failure) => Err(Error::from_failure(failure, None)),
            other => Err(Error::Protocol { what: format!("{other:?} instead of namespaces") }),
        }
    }

    /// The map that helpers are given.
    pub fn id_map(&self) -> &IdMap {
        &self.maker.map
    }

    /// Makes the session that `plan` describes. Returns when its command runs.
    pub fn session(&self, plan: &Plan, options: SessionOptions) -> Result<Running> {
        plan.check()?;
        for step in &plan.steps {
            tracing::debug!("{step}");
        }
        let helper = self.helper()?;
        let (stdio, copies) = match options.stdio {
            // A command with a terminal of its own gets nothing of ours.
            _ if plan.terminal => (null_stdio()?, Copies::default()),
            Stdio::Inherit => {
                let Inherited { fds, copies } = stdio::inherit()?;
                (fds, copies)
            }
            Stdio::Null => (null_stdio()?, Copies::default()),
            Stdio::Pipes { stdin, stdout, stderr } => ([stdin, stdout, stderr], Copies::default()),
        };
        stdio::refuse_directories_among([stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd()])?;
        let (pid1, theirs) = Channel::pair().map_err(super::channel::ChannelError::from)?;
        let (nested, watcher) = self.maker.pieces.nested();
        let request = Request::Session {
            session: Box::new(SessionRequest {
                plan: plan.clone(),
                nested,
                watcher,
                mount_calls: options.mount_calls,
                terminal_size: options.terminal_size,
                limits: options.limits,
                priority: options.priority,
                used_ms: options.used_ms,
                counted: false,
                shows_host: options.shows_host,
            }),
            remove_after: options.remove_after,
        };
        let mut fds = vec![theirs];
        fds.extend(stdio);
        fds.extend(options.hold);
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        helper.control.send(&request, &borrowed)?;
        let hold = fds.split_off(super::request::PASSED_ON);
        drop(fds);
        let mut running = Running::await_start(helper, pid1, plan, hold)?;
        running.copies = copies;
        Ok(running)
    }

    /// Runs the task `name` of the helper's program inside the id map, and waits for it.
    pub fn task(
        &self,
        name: &str,
        input: &impl Serialize,
        options: TaskOptions,
        on_event: &mut dyn FnMut(serde_json::Value),
    ) -> Result<serde_json::Value> {
        tracing::debug!(name, mounts = options.mounts, "task in the id map");
        let helper = self.helper()?;
        let input = serde_json::to_value(input).map_err(super::channel::ChannelError::from)?;
        let TaskOptions { mut fds, mounts, hold, cancel } = options;
        let request = Request::Task { name: name.to_owned(), input, mounts, fd_count: fds.len() };
        fds.extend(hold);
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        helper.control.send(&request, &borrowed)?;
        drop(fds);
        loop {
            if let Some(cancel) = &cancel
                && !helper.receives_before(cancel)?
            {
                return Err(Error::Cancelled { name: name.to_owned() });
            }
            match helper.receive()? {
                FromOuter::Event(event) => on_event(event),
                FromOuter::TaskDone(Ok(value)) => return Ok(value),
                FromOuter::TaskDone(Err(failure)) => return Err(Error::task(name, failure)),
                FromOuter::Failed(failure) => return Err(Error::from_failure(failure, None)),
                other => return Err(Error::Protocol { what: format!("{other:?} while a task runs") }),
            }
        }
    }

    /// An outer helper that is root of its namespace.
    fn helper(&self) -> Result<Helper> {
        let ready = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        let mut helper = match ready {
            Ready::Nothing => return self.maker.helper(),
            Ready::Entered(helper) => helper,
            Ready::Coming(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
        };
        // Somebody may have killed it while it waited.
        if helper.child.try_wait().is_ok_and(|ended| ended.is_none()) { Ok(helper) } else { self.maker.helper() }
    }
}

impl Maker {
    fn helper(&self) -> Result<Helper> {
        let (control, theirs) = Channel::pair().map_err(super::channel::ChannelError::from)?;
        let program = format!("/proc/self/fd/{}", self.program()?.as_raw_fd());
        let child = Command::new(&program)
            .arg0(OUTER)
            .env_clear()
            .stdin(theirs)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(|source| Error::spawn(OUTER, source))?;
        let helper = Helper { child, control };
        match helper.receive()? {
            FromOuter::Unshared => {}
            FromOuter::Failed(failure) => return Err(Error::from_failure(failure, None)),
            other => return Err(Error::Protocol { what: format!("{other:?} before its id map") }),
        }
        self.write_map(helper.child.id())?;
        helper.control.send(&Request::Enter, &[])?;
        match helper.receive()? {
            FromOuter::Entered => Ok(helper),
            FromOuter::Failed(failure) => Err(Error::from_failure(failure, None)),
            other => Err(Error::Protocol { what: format!("{other:?} before it has its ids") }),
        }
    }

    /// The helper's program, opened when it is first needed.
    fn program(&self) -> Result<BorrowedFd<'_>> {
        if let Some(program) = self.program.get() {
            return Ok(program.as_fd());
        }
        let path = self.program_path();
        let opened = sys::fd::name(path).and_then(|program| {
            // A session begins with a program in memory. Where that is forbidden, whoever asks is told now.
            sys::memfd::executable("command").map(|_| program)
        });
        let opened = opened.map_err(|source| Error::HelperProgram { path: path.to_owned(), source })?;
        // Another thread may have opened it first; then ours is dropped.
        Ok(self.program.get_or_init(|| opened).as_fd())
    }

    fn program_path(&self) -> &Path {
        match &self.source {
            HelperSource::CurrentExe => Path::new("/proc/self/exe"),
            HelperSource::Path(path) => path,
        }
    }

    fn write_map(&self, pid: u32) -> Result<()> {
        // Root writes the map itself: a container has no `newuidmap`, or one whose file capabilities were lost with the image.
        if rustix::process::geteuid().is_root() {
            let proc = idmap::process_directory(pid)?;
            return idmap::write(&proc, &self.pieces)
                .map_err(|source| Error::MapWrite { lacks: capabilities::lacking_for_maps(), source });
        }
        let uids = self.start_map_tool("newuidmap", pid, &self.pieces.uids)?;
        let gids = self.start_map_tool("newgidmap", pid, &self.pieces.gids);
        // Wait for both before looking at either result, so that no child is left unreaped.
        let uids = uids.finish();
        let gids = gids.and_then(MapTool::finish);
        uids.and(gids)
    }

    fn start_map_tool(&self, name: &'static str, pid: u32, ranges: &[IdRange]) -> Result<MapTool> {
        let program = refusal::find_program(name, &self.search).ok_or_else(|| {
            let searched: Vec<String> = self.search.iter().map(|directory| directory.display().to_string()).collect();
            Error::MapToolMissing { program: name, searched: searched.join(":") }
        })?;
        let arguments = idmap::map_arguments(ranges);
        tracing::debug!(program = %program.display(), pid, map = arguments.join(" "), "writing the id map");
        let child = Command::new(&program)
            .arg(pid.to_string())
            .args(&arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|source| Error::spawn(&program.display().to_string(), source))?;
        Ok(MapTool { program, child, arguments })
    }
}

fn null_stdio() -> Result<[OwnedFd; 3]> {
    Ok([sys::fd::null()?, sys::fd::null()?, sys::fd::null()?])
}

/// `newuidmap` or `newgidmap` at work.
#[derive(Debug)]
struct MapTool {
    program: PathBuf,
    child: Child,
    arguments: Vec<String>,
}

impl MapTool {
    fn finish(mut self) -> Result<()> {
        let mut said = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            // This text is used only if the tool fails.
            let _ = pipe.read_to_string(&mut said);
        }
        let status = self.child.wait().map_err(|source| Error::spawn(&self.program.display().to_string(), source))?;
        if status.success() {
            return Ok(());
        }
        let said = said.trim().to_owned();
        let program = self.program;
        // newuidmap: "uid range [0-1) -> [5-6) not allowed"; "write to uid_map failed: Operation not permitted";
        // "Could not set caps" and "open of uid_map failed: Permission denied" without its set-id bit or capability.
        Err(if said.contains("not allowed") || said.contains("is not permitted") {
            Error::MapRefused { program, ranges: self.arguments.join(" "), said }
        } else if said.contains("failed: Operation not permitted")
            || said.contains("failed: Permission denied")
            || said.contains("set caps")
        {
            Error::MapToolPowerless { why: Powerless::find(&program), program, said }
        // The exit code is 1 for every failure, so we can tell them apart by the words only (`LC_ALL=C` keeps them English).
        } else {
            let exit = status.code().map_or_else(
                || Exit::Signal(std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()),
                Exit::Code,
            );
            Error::MapFailed { program, exit, said }
        })
    }
}

/// An outer helper. Dropping it ends it and all below it.
#[derive(Debug)]
struct Helper {
    child: Child,
    control: Channel,
}

impl Helper {
    /// Waits for a message. `false` if `cancel` becomes readable first.
    fn receives_before(&self, cancel: &OwnedFd) -> Result<bool> {
        loop {
            let readable = sys::fd::wait_readable(&[self.control.as_fd(), cancel.as_fd()], None)?;
            if readable[1] {
                return Ok(false);
            }
            if readable[0] {
                return Ok(true);
            }
        }
    }

    fn receive(&self) -> Result<FromOuter> {
        match self.control.receive::<FromOuter>()? {
            Some((message, _)) => Ok(message),
            None => Err(Error::Died { who: "the outer helper".to_owned() }),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The helper sees the end of the stream, ends what is below it and removes what it has to. A signal would leave that undone.
        let _ = self.control.finish();
        let _ = self.child.wait();
    }
}

/// A session whose command runs. Dropping it kills the session and waits for its end.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
    control: Channel,
    pid1: i32,
    terminal: Option<OwnedFd>,
    _hold: Vec<OwnedFd>,
    /// Dropped after `helper` (fields are dropped in order), so that the session is over before we wait for the rest of its output.
    copies: Copies,
    killed: bool,
    exit: Option<Exit>,
}

impl Running {
    fn await_start(helper: Helper, control: Channel, plan: &Plan, hold: Vec<OwnedFd>) -> Result<Self> {
        let pid1 = match helper.receive()? {
            FromOuter::Spawned { pid1 } => pid1,
            FromOuter::Failed(failure) => return Err(Error::from_failure(failure, Some(plan))),
            other => return Err(Error::Protocol { what: format!("{other:?} before its PID 1") }),
        };
        tracing::debug!(pid1, helper = helper.child.id(), command = ?plan.command.argv, "session");
        let failed = match control.receive::<FromPid1>() {
            Ok(Some((FromPid1::Started, mut fds))) => {
                let terminal = fds.pop();
                let copies = Copies::default();
                return Ok(Self { helper, control, pid1, terminal, _hold: hold, copies, killed: false, exit: None });
            }
            Ok(Some((FromPid1::Failed(failure), _))) => Error::from_failure(failure, Some(plan)),
            Ok(Some((FromPid1::Exited(_), _))) => Error::Protocol { what: "an end before the start".to_owned() },
            Ok(None) => Error::Died { who: "the session's PID 1".to_owned() },
            Err(error) => error.into(),
        };
        // The helper's last message comes when PID 1 is reaped and `remove_after` is removed.
        match helper.receive() {
            Ok(FromOuter::Failed(failure)) => Err(Error::from_failure(failure, Some(plan))),
            _ => Err(failed),
        }
    }

    /// PID 1's number in the host's PID namespace.
    pub fn pid1(&self) -> i32 {
        self.pid1
    }

    /// The master side of the session's terminal, if it has one.
    pub fn pty(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Becomes readable when the session is over; for poll loops. [`Running::wait`] then returns at once.
    pub fn finished_fd(&self) -> BorrowedFd<'_> {
        self.helper.control.as_fd()
    }

    /// Sends a signal to the command's process group, or to the foreground process group of its terminal. If the session is over, nothing
    /// happens.
    pub fn signal(&self, number: i32) -> Result<()> {
        match self.control.send(&ToPid1::Signal(number), &[]) {
            Err(super::channel::ChannelError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            answer => Ok(answer?),
        }
    }

    /// Ends the session at once, with all its processes. [`Running::wait`] then answers signal 9.
    pub fn kill(&mut self) -> Result<()> {
        self.killed = true;
        self.helper.control.finish().map_err(|error| super::channel::ChannelError::from(error).into())
    }

    /// Waits until the command has ended, every process of the session is gone, PID 1 is reaped, and `remove_after` is removed.
    pub fn wait(&mut self) -> Result<Exit> {
        loop {
            if let Some(exit) = self.wait_timeout(Duration::MAX)? {
                return Ok(exit);
            }
        }
    }

    /// As [`Running::wait`], but returns `None` after `timeout`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Exit>> {
        if let Some(exit) = self.exit {
            return Ok(Some(exit));
        }
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left_ms = left.map(|left| u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
            if sys::fd::wait_readable(&[self.helper.control.as_fd()], left_ms)? == [true] {
                break;
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
        let exit = self.last_words()?;
        self.exit = Some(exit);
        Ok(Some(exit))
    }

    fn last_words(&mut self) -> Result<Exit> {
        let (removal, held, unsure) = match self.helper.receive()? {
            FromOuter::Done { removal, held, unsure, .. } => (removal, held, unsure),
            FromOuter::Failed(failure) => return Err(Error::from_failure(failure, None)),
            other => return Err(Error::Protocol { what: format!("{other:?} at its end") }),
        };
        // The rest of the output is printed before the caller goes on.
        drop(std::mem::take(&mut self.copies));
        if let Some(upper) = held {
            return Err(Error::Held { upper });
        }
        if let Some(wire) = unsure {
            return Err(Error::Unsure { source: wire.into() });
        }
        // PID 1 is gone, so its last message is in the socket.
        let said = self.control.receive::<FromPid1>();
        if let Some(wire) = removal {
            return Err(Error::Removal { source: wire.into() });
        }
        match said {
            Ok(Some((FromPid1::Exited(exit), _))) => Ok(exit),
            Ok(Some((FromPid1::Failed(failure), _))) => Err(Error::from_failure(failure, None)),
            _ if self.killed => Ok(Exit::Signal(libc::SIGKILL)),
            _ => Err(Error::Died { who: "the session's PID 1".to_owned() }),
        }
    }
}
