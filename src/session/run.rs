//! What every workflow works with, and the one way in which commands are run in a session.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, fs};

use crate::beneath::{Plain, TreeDir};
use crate::binhost::BinhostError;
use crate::causes::in_one_line;
use crate::config::patches::PatchRecord;
use crate::download::Downloader;
use crate::error::{Error, Result};
use crate::jobserver::{JobServer, Share};
use crate::places::Places;
use crate::portage::emerge::observability::Status;
use crate::portage::emerge::output::EmergeLog;
use crate::portage::emerge::request::{Goal, Request};
use crate::portage::emerge::sanitize::{sanitize, sanitize_uncut};
use crate::portage::emerge::{DefaultOpts, Distrust, EmergeStatus, build_logs, output as emerge_output};
use crate::progress::{Event, Observer};
use crate::sandbox::plan::Network;
use crate::sandbox::{Exit, Interrupt, Launcher, Running, SessionOptions, Stdio, terminal};
use crate::session::echo::Echo;
use crate::session::keys::{Keys, record};
use crate::session::output::SessionOutput;
use crate::session::put_back::Kept;
use crate::session::root::{LOG_DIR, Root, Run, UserBind};
use crate::session::supply::Supply;
use crate::session::{binhost, keys, put_back, supply};
use crate::store::{Busy, Lock, Store, Wait};
use crate::threads::NoThread;
use crate::{download, sandbox, threads};

/// How often a running session is looked after.
const TICK: Duration = Duration::from_millis(200);
/// Of a failed command's output so many lines are shown.
const LAST_LINES: usize = 30;
/// Of the log of one package so much is read for that.
const LOG_TAIL_BYTES: u64 = 256 * 1024;

/// What the threads are for that read a session's output.
const READ: &str = "read the output of a session with";

/// How a run of emerge has ended, and whether all of its output was read.
type Watched = (Result<Exit>, std::thread::Result<std::result::Result<(), emerge_output::Error>>);

/// What the program finds out about its surroundings and the library does not.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Packages and make jobs at the same time.
    pub jobs: u32,
    /// Threads for decompression and compression.
    pub processors: u32,
    /// Gentoo's keyword for this machine: `amd64`.
    pub arch: String,
    /// Fail instead of waiting for locks.
    pub no_wait: bool,
    /// Text of the host's `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
    /// Text of `/proc/cpuinfo`.
    pub cpuinfo: String,
    /// Seconds since 1970 that override the newest input as upper bound of times in archives (`SOURCE_DATE_EPOCH`).
    pub source_date_epoch: Option<i64>,
    /// The caller's terminal type, for sessions with a terminal.
    pub term: Option<String>,
    /// What each session may use.
    pub limits: sandbox::Limits,
    /// How to download; proxies and `offline` hold for emerge, too.
    pub download: download::Settings,
}

/// One invocation's tools. Every workflow is a method, in a file of its own.
pub struct Context<'a> {
    /// Directories.
    pub places: &'a Places,
    /// The open store.
    pub store: &'a Store,
    /// Starts sandboxes.
    pub launcher: &'a Launcher,
    /// Is told what happens.
    pub observer: &'a (dyn Observer + 'a),
    /// Counts Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// The budget of make jobs that this and other engines share; `None`: each session has all of `settings.jobs` for itself.
    pub jobserver: Option<&'a JobServer>,
    /// What was told already, by this and the engines that share it.
    pub told: &'a Told,
    /// The rest.
    pub settings: Settings,
}

/// What a run tells only once, although each of its sessions finds it out: a host that cannot be reached, say.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Tells something worth knowing, unless it was told before.
    pub(crate) fn note_once(&self, observer: &dyn Observer, text: &str) {
        if self.is_new(text) {
            observer.note(text);
        }
    }

    /// Whether it is the first time.
    fn is_new(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("places", self.places).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A directory for the logs of one piece of work. One in which nothing was written is removed in the end, however that came.
#[derive(Debug)]
pub(crate) struct LogDir(PathBuf);

impl std::ops::Deref for LogDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        // Logs that are there make both fail, as they should.
        drop(fs::remove_dir(self.0.join("packages")));
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::debug!("kept logs in {}: {error}", self.0.display());
        }
    }
}

/// A session being worked in: its root, and where its output goes.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) root: Root,
    /// Mutable, since each run records who its first process is.
    pub(crate) session: RefCell<&'a mut crate::store::Session>,
    /// `emerge.log` and the logs of single packages go below.
    pub(crate) log_dir: LogDir,
    /// Name of the host inside, and the variables that hooks and scripts get.
    pub(crate) hostname: String,
    pub(crate) env: Vec<(String, String)>,
    /// When the work began: all its runs together have the time of one session.
    pub(crate) began: Instant,
    /// Of a work on behalf of a run: set once that run is over, and nobody wants to know any more.
    pub(crate) over: Option<Arc<AtomicBool>>,
    /// What it has of a shared budget of make jobs.
    pub(crate) jobs: Share,
    /// Who fetches for it.
    pub(crate) supply: Supply,
    /// What the configuration wants of each run of emerge.
    pub(crate) emerge_opts: DefaultOpts,
    /// Patches that are in force, and those that what the session stands on was given.
    pub(crate) patches: Vec<PatchRecord>,
    pub(crate) patches_before: Vec<PatchRecord>,
    /// What its packages are made from.
    pub(crate) keys: Keys,
    /// Its configuration, while packages may change that.
    pub(crate) kept: Kept,
}

impl Work<'_> {
    /// Where the logs of single packages are, once they are taken out of the session.
    pub(crate) fn package_logs(&self) -> PathBuf {
        self.log_dir.join("packages")
    }

    /// What is used of the time that the session has, in milliseconds.
    fn used_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed))
    }

    /// Removes the logs: they are for what went wrong.
    pub(crate) fn forget_logs(&self) {
        if let Err(error) = fs::remove_dir_all(&*self.log_dir) {
            tracing::debug!("kept logs in {}: {error}", self.log_dir.display());
        }
    }
}

/// Asks servers, until the user wants to stop.
pub fn downloader(cx: &Context<'_>) -> Downloader {
    Downloader::new(cx.settings.download.clone(), std::sync::Arc::new(Interrupt::asked))
}

/// An exclusive lock, waited for with a message, or not at all.
pub(crate) fn lock(cx: &Context<'_>, name: &str) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_named(name, wait))
}

/// The same lock, held together with others that share it.
pub(crate) fn lock_shared(cx: &Context<'_>, name: &str) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_named_shared(name, wait))
}

fn lock_by(cx: &Context<'_>, take: impl FnOnce(Wait<'_>) -> crate::store::Result<Lock>) -> Result<Lock> {
    if cx.settings.no_wait {
        return Ok(take(Wait::NoWait)?);
    }
    let mut notify = |busy: &Busy| cx.observer.note(&format!("waiting: {busy}"));
    let cancelled = || cx.interrupt.count() > 0;
    match take(Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled }) {
        Err(crate::store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
        other => Ok(other?),
    }
}

/// A new directory for logs: `logs/WHAT-20261122T083102Z`, with a number where that is taken.
pub(crate) fn log_dir(cx: &Context<'_>, what: &str) -> Result<LogDir> {
    let logs = cx.places.logs();
    fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = format!("{}-{stamp}", what.replace('/', "-"));
    for number in 0.. {
        let dir = logs.join(if number == 0 { name.clone() } else { format!("{name}-{number}") });
        match fs::create_dir(&dir) {
            Ok(()) => {
                let dir = LogDir(dir);
                let packages = dir.join("packages");
                fs::create_dir(&packages).map_err(Error::io("create", &packages))?;
                return Ok(dir);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Io { action: "create", path: dir, source }),
        }
    }
    unreachable!("one of all numbers is free")
}

/// Starts `run`, for which the configuration is as it was before packages were installed; with its output.
fn start(cx: &Context<'_>, work: &Work<'_>, run: &Run) -> Result<(Running, SessionOutput)> {
    put_back::put_back_configuration(cx, work)?;
    launch(cx, work, run)
}

fn launch(cx: &Context<'_>, work: &Work<'_>, run: &Run) -> Result<(Running, SessionOutput)> {
    let pipe = || -> std::io::Result<(PipeReader, PipeWriter, PipeWriter)> {
        let (reader, writer) = std::io::pipe()?;
        let second = writer.try_clone()?;
        Ok((reader, writer, second))
    };
    let (reader, stdout, stderr) = pipe().map_err(Error::io("create a pipe for", &*work.log_dir))?;
    let options = SessionOptions {
        hold: vec![work.session.borrow().lock_fd()?],
        limits: cx.settings.limits,
        used_ms: work.used_ms(),
        shows_host: work.root.shows_host(run),
        ..SessionOptions::new(Stdio::Pipes {
            stdin: crate::sys::fd::null().map_err(sandbox::Error::from)?,
            stdout: stdout.into(),
            stderr: stderr.into(),
        })
    };
    let running = cx.launcher.session(&work.root.plan(run), options)?;
    work.session.borrow_mut().record_pid1(running.pid1())?;
    let ended = running.finished_fd().try_clone_to_owned().map_err(Error::io("duplicate a descriptor for", &*work.log_dir))?;
    Ok((running, SessionOutput::new(reader, ended)))
}

/// Waits for the end of a session; passes Ctrl-C on: once politely, twice at once.
fn supervise(cx: &Context<'_>, work: &Work<'_>, running: &mut Running, mut tick: impl FnMut()) -> Result<Exit> {
    let mut told = 0;
    loop {
        if let Some(exit) = running.wait_timeout(TICK)? {
            return Ok(exit);
        }
        let count = cx.interrupt.count();
        if count > told {
            if told == 0 {
                cx.observer.note("interrupted: waiting for the build to stop (once more to stop it at once)");
                running.signal(libc::SIGINT)?;
            }
            if count > 1 {
                running.kill()?;
            }
            told = count;
        }
        if work.is_over() {
            running.kill()?;
        }
        tick();
    }
}

/// Runs a command with the caller's own standard streams, on a terminal of its own if it is to have one; how it ended.
pub(crate) fn attend(cx: &Context<'_>, work: &Work<'_>, run: &Run) -> Result<Exit> {
    put_back::put_back_configuration(cx, work)?;
    let options = SessionOptions {
        hold: vec![work.session.borrow().lock_fd()?],
        limits: cx.settings.limits,
        used_ms: work.used_ms(),
        shows_host: work.root.shows_host(run),
        terminal_size: if run.terminal { crate::sys::pty::size(std::io::stdin()) } else { None },
        ..SessionOptions::new(Stdio::Inherit)
    };
    let mut running = cx.launcher.session(&work.root.plan(run), options)?;
    work.session.borrow_mut().record_pid1(running.pid1())?;
    supply::answering(cx, &work.supply, || {
        if run.terminal {
            Ok(terminal::proxy(&mut running, cx.interrupt, std::io::stdin().as_fd(), std::io::stdout().as_fd())?)
        } else {
            Ok(cx.interrupt.wait(&mut running)?)
        }
    })
}

fn run_of(work: &Work<'_>, argv: Vec<String>, network: Network) -> Run {
    Run { argv, env: work.env.clone(), network, terminal: false, hostname: work.hostname.clone(), shown: None }
}

/// Runs a command of ours: its output goes to the log, and is only shown when it fails.
pub(crate) fn command(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, network: Network) -> Result<()> {
    command_with(cx, work, argv, network, None)
}

/// As [`command`], for one that sees a directory besides.
pub(crate) fn command_with(
    cx: &Context<'_>,
    work: &Work<'_>,
    argv: Vec<String>,
    network: Network,
    shown: Option<UserBind>,
) -> Result<()> {
    let log = work.log_dir.join("commands.log");
    let command = argv.join(" ");
    let mut run = Run { shown, ..run_of(work, argv, network) };
    run.network = connect(cx, network, &mut run.env);
    let (mut running, output) = start(cx, work, &run)?;
    let (exit, said) = supply::answering(cx, &work.supply, || {
        std::thread::scope(|scope| {
            let reader = threads::scoped(scope, READ, || append_log(&log, &command, output))?;
            let exit = supervise(cx, work, &mut running, || {});
            Ok::<_, NoThread>((exit, reader.join()))
        })
    })?;
    let (exit, said) = (exit?, said.unwrap_or_default());
    not_interrupted(cx)?;
    if let Some(error) = said.unwritten {
        cx.observer.warn(&format!("cannot write `{}`: {error}", log.display()));
    }
    if exit == Exit::Code(0) {
        return Ok(());
    }
    Err(Error::Command { command, exit, log, last_lines: said.last_lines })
}

/// Runs a command without network; how it ended, and the beginning of its output, which is hostile.
pub(crate) fn exit_and_output(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<(Exit, Vec<u8>)> {
    let (mut running, output) = start(cx, work, &run_of(work, argv, Network::None))?;
    let (exit, text) = supply::answering(cx, &work.supply, || {
        std::thread::scope(|scope| {
            let reader = threads::scoped(scope, READ, || read_bounded(output, limit_bytes))?;
            Ok::<_, NoThread>((supervise(cx, work, &mut running, || {}), reader.join()))
        })
    })?;
    let exit = exit?;
    not_interrupted(cx)?;
    let text = text.unwrap_or_else(|_| Ok(Vec::new())).map_err(Error::io("read the output in", &*work.log_dir))?;
    Ok((exit, text))
}

/// Runs a command and returns the beginning of its output, without anything that a terminal obeys. Its lines may be of any length.
pub(crate) fn output_of(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>, limit_bytes: u64) -> Result<String> {
    let command = argv.join(" ");
    let (exit, text) = exit_and_output(cx, work, argv, limit_bytes)?;
    if exit == Exit::Code(0) {
        return Ok(sanitize_uncut(&text));
    }
    let text = sanitize(&text);
    let log = work.log_dir.join("commands.log");
    let lines: Vec<&str> = text.lines().collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    Err(Error::Command { command, exit, log, last_lines })
}

/// Which network a run gets that is to have `network`, and what else it has to know of it.
fn connect(cx: &Context<'_>, network: Network, env: &mut Vec<(String, String)>) -> Network {
    match (&cx.settings.download, network) {
        (download, _) if download.offline => Network::None,
        (download, Network::Host) => {
            env.extend(download.proxies.variables());
            network
        }
        _ => network,
    }
}

/// The command for a request, as the session's hosts of binary packages want it.
pub(crate) fn emerge_argv(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Vec<String>> {
    let mut argv = Request { opts: work.emerge_opts.clone(), ..request.clone() }.argv()?;
    if let Some(binhost) = work.root.binhost.as_ref().filter(|_| request.goal != Goal::Depclean) {
        if binhost.can_be_asked(cx.settings.download.offline) {
            binhost::make_keyring(cx, work)?;
            argv.insert(1, "--getbinpkg=y".to_owned());
        } else {
            cx.told.note_once(cx.observer, "downloads are switched off: binary package hosts are not asked");
        }
    }
    Ok(argv)
}

/// Runs `emerge`, showing how far it is.
pub(crate) fn emerge_with(cx: &Context<'_>, work: &Work<'_>, request: &Request, network: Network, path: &Path) -> Result<()> {
    let argv = emerge_argv(cx, work, request)?;
    put_back::keep_configuration(cx, work)?;
    let mut log = EmergeLog::create(path)?;
    // Held until all of the run is gone, whatever it held itself.
    let _turn = work.jobs.turn()?;
    let mut run = run_of(work, argv, network);
    run.network = connect(cx, network, &mut run.env);
    record::close_keys(work)?;
    work.session.borrow_mut().mark_worth_keeping();
    let (mut running, output) = launch(cx, work, &run)?;
    let output: Box<dyn std::io::Read + Send> =
        if request.show_log { Box::new(Echo::new(output, cx.observer)) } else { Box::new(output) };
    let supply = &work.supply;
    let watched = supply::answering(cx, supply, || watch(cx, &mut running, work, request, &mut log, output));
    supply::tell_notes(cx, supply);
    cx.observer.event(&Event::End);
    let (exit, tee) = watched?;
    let exit = exit?;
    if let Err(error) = adopt_logs(cx, work) {
        // Whatever has filled the disk or is in the way there: how the run ended is what counts.
        cx.observer.warn(&format!("the logs of single packages are not kept: {}", in_one_line(&error)));
    }
    // Whatever came of it: what is complete need not be compiled again.
    let published = keys::publish_rest(cx, work);
    not_interrupted(cx)?;
    if exit == Exit::Code(0) {
        published?;
        if let Ok(result) = tee {
            result?;
        }
        let binhost = work.root.binhost.as_ref().filter(|binhost| binhost.can_be_asked(cx.settings.download.offline));
        let unasked = request.goal != Goal::Depclean && binhost.is_some_and(|binhost| !binhost.has_index());
        // Of hosts that did not answer it is said already.
        if unasked && !supply.a_host_failed() && cx.told.is_new("no host was asked") {
            cx.observer.warn(&format!("emerge asked no binary package host: building from source (see {})", path.display()));
        }
        if let Err(error) = log.finish() {
            cx.observer.warn(&in_one_line(&error));
        }
        return Ok(());
    }
    if let Err(error) = published {
        cx.observer.warn(&format!("what was built so far is not published: {}", in_one_line(&error)));
    }
    let logs = work.package_logs();
    let mut failure = log.into_failure(|inside| read_package_log(&logs, inside));
    let of_portage = |file: &str| {
        let package = file.strip_prefix(crate::session::binhost::PACKAGES).unwrap_or(file).trim_start_matches('/');
        package.trim_end_matches(".partial").to_owned()
    };
    let distrust = failure.distrust.map(|why| (of_portage(failure.file.as_deref().unwrap_or_default()), why));
    if let Some((package, why)) = distrust.or_else(|| Some((supply.damaged_package()?, Distrust::Damaged))) {
        // Nothing to go on with: the package would be found again, as it is.
        return Err(BinhostError::Untrusted { package, why, log: path.to_owned() }.into());
    }
    supply.explain(&mut failure);
    Err(Error::Emerge { failure: Box::new(failure), log: path.to_owned(), resumable: false })
}

/// Waits for a run of emerge, telling where it and its downloads are.
fn watch(
    cx: &Context<'_>,
    running: &mut Running,
    work: &Work<'_>,
    request: &Request,
    log: &mut EmergeLog,
    output: Box<dyn std::io::Read + Send + '_>,
) -> std::result::Result<Watched, NoThread> {
    // A Portage that does not publish its status leaves the directory empty; then the output has to do.
    let status = Status::open(&work.root.status).ok();
    let shown = std::sync::atomic::AtomicBool::new(false);
    let supply = &work.supply;
    let tell = |now: &EmergeStatus| {
        if !request.show_log {
            cx.observer.event(&Event::Emerge(&EmergeStatus { fetching: supply.status(), ..now.clone() }));
        }
    };
    std::thread::scope(|scope| {
        let reader = threads::scoped(scope, READ, || {
            log.tee(output, &mut |now| {
                if !shown.load(std::sync::atomic::Ordering::Relaxed) {
                    tell(now);
                }
            })
        })?;
        let exit = supervise(cx, work, running, || {
            supply::tell_notes(cx, supply);
            keys::publish_meanwhile(cx, work);
            if let Some(now) = status.as_ref().and_then(Status::poll) {
                shown.store(true, std::sync::atomic::Ordering::Relaxed);
                tell(&now);
            }
        });
        Ok((exit, reader.join()))
    })
}

/// Takes the logs of single packages out of the session, as plain files of the user's.
pub(crate) fn adopt_logs(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    let input = build_logs::AdoptInput { dir: work.root.logs.clone() };
    let to = work.package_logs();
    // Whoever runs something after the logs were forgotten.
    fs::create_dir_all(&to).map_err(Error::io("create", &to))?;
    let target = fs::File::open(&to).map_err(Error::io("open", &to))?;
    let hold = vec![work.session.borrow().lock_fd()?];
    let options = sandbox::TaskOptions { fds: vec![target.into()], hold, ..Default::default() };
    cx.launcher.task(build_logs::ADOPT, &input, options, &mut |_| {})?;
    Ok(())
}

/// Runs a task inside the id map; Ctrl-C while it ran makes it an interruption.
pub(crate) fn task(
    cx: &Context<'_>,
    name: &str,
    input: &impl serde::Serialize,
    options: sandbox::TaskOptions,
    on_event: &mut dyn FnMut(serde_json::Value),
) -> Result<serde_json::Value> {
    let result = cx.launcher.task(name, input, options, on_event);
    not_interrupted(cx)?;
    Ok(result?)
}

/// Readable once the user has asked to stop: ends a long task at once.
pub(crate) fn cancel(cx: &Context<'_>) -> Result<std::os::fd::OwnedFd> {
    cx.interrupt.fd().try_clone_to_owned().map_err(Error::io("duplicate a descriptor for", cx.store.root()))
}

pub(crate) fn not_interrupted(cx: &Context<'_>) -> Result<()> {
    if cx.interrupt.count() > 0 { Err(Error::Interrupted { resumable: false }) } else { Ok(()) }
}

/// What a command has said.
#[derive(Debug, Default)]
struct Said {
    /// The end of it, safe to print.
    last_lines: Vec<String>,
    /// Why the log does not have all of it.
    unwritten: Option<std::io::Error>,
}

/// Appends a command and its output to a log. A log that cannot be written stops no command.
fn append_log(path: &Path, command: &str, mut output: impl std::io::Read) -> Said {
    use std::io::Write as _;
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    let mut log = opened.and_then(|mut file| writeln!(file, "$ {command}").map(|()| file));
    let mut write = |bytes: &[u8]| {
        if let Ok(file) = &mut log
            && let Err(error) = file.write_all(bytes)
        {
            log = Err(error);
        }
    };
    let mut tail = std::collections::VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let since = Instant::now();
    let broken = loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => break Some(error),
        };
        write(&buffer[..count]);
        tail.extend(buffer[..count].iter().copied());
        while tail.len() > 64 * 1024 {
            tail.pop_front();
        }
    };
    write(format!("# {:.1} s\n", since.elapsed().as_secs_f64()).as_bytes());
    let text = sanitize(tail.make_contiguous());
    let lines: Vec<&str> = text.lines().collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    Said { last_lines, unwritten: log.err().or(broken) }
}

/// Reads all of `output`, keeping only the first bytes.
fn read_bounded(mut output: SessionOutput, limit_bytes: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut kept = Vec::new();
    std::io::Read::by_ref(&mut output).take(limit_bytes).read_to_end(&mut kept)?;
    std::io::copy(&mut output, &mut std::io::sink())?;
    Ok(kept)
}

/// A package's log, given by its path inside the session, and its size. Both path and file are hostile.
fn open_package_log(logs: &Path, inside: &Path) -> Option<Plain> {
    let relative = inside.strip_prefix(LOG_DIR).ok()?;
    TreeDir::open(logs).and_then(|logs| logs.open_file(relative)).ok()
}

/// Where a package's log is on the host, if it came along. `inside` is what a session has said: neither `..` nor a link is followed.
pub(crate) fn package_log(logs: &Path, inside: &Path) -> Option<PathBuf> {
    open_package_log(logs, inside)?;
    Some(logs.join(inside.strip_prefix(LOG_DIR).ok()?))
}

/// The end of a package's log.
pub(crate) fn read_package_log(logs: &Path, inside: &Path) -> Option<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut log = open_package_log(logs, inside)?;
    log.file.seek(SeekFrom::Start(log.size().saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    log.file.take(LOG_TAIL_BYTES).read_to_end(&mut tail).ok()?;
    Some(tail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_loses_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commands.log");
        let output = "first\n".repeat(100_000) + "last\n";
        let said = append_log(&path, "make", output.as_bytes());
        assert!(said.unwritten.is_none() && said.last_lines.last().unwrap() == "last", "{said:?}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("$ make\nfirst\n") && text.contains("last\n# "), "{}", text.len());
        for (path, words) in [("/dev/full", "No space left on device"), ("/nowhere/commands.log", "No such file")] {
            let mut output = output.as_bytes();
            let said = append_log(Path::new(path), "make", &mut output);
            assert!(output.is_empty(), "the command would have been stopped");
            assert_eq!(said.last_lines.last().unwrap(), "last");
            assert!(said.unwritten.unwrap().to_string().starts_with(words));
        }
    }

    #[test]
    fn a_log_is_named_only_if_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir_all(logs.join("build/a")).unwrap();
        fs::create_dir_all(logs.join("tmp")).unwrap();
        for path in ["secret", "logs/build/a/x.log", "logs/secret", "logs/tmp/x.log"] {
            fs::write(dir.path().join(path), "text").unwrap();
        }
        // Within the logs it leads to `logs/tmp`, on the host to another directory.
        symlink("/tmp", logs.join("elsewhere")).unwrap();
        symlink("../secret", logs.join("link.log")).unwrap();
        for (inside, named) in [
            ("/run/gentoomuch/logs/build/a/x.log", Some("build/a/x.log")),
            ("/run/gentoomuch/logs/../secret", None),
            ("/run/gentoomuch/logs/build/../build/a/x.log", None),
            ("/run/gentoomuch/logs/elsewhere/x.log", None),
            ("/run/gentoomuch/logs/link.log", None),
            ("/run/gentoomuch/logs/build", None),
            ("/run/gentoomuch/logs/none.log", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(package_log(&logs, Path::new(inside)), named.map(|name| logs.join(name)), "{inside}");
        }
    }
}
