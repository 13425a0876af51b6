//! What every workflow gets: places, the open store, the launcher of sandboxes, an observer, the interrupt, and settings.

mod remote;
mod tools;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::resources::Tmpfs;
use crate::download::Downloader;
use crate::jobserver::JobServer;
use crate::path_error::OfFile as _;
use crate::places::Places;
use crate::portage::session_conf::PackageJobs;
use crate::priority::Priority;
use crate::progress::Observer;
use crate::sandbox::{Interrupt, Launcher};
use crate::store::{Busy, Lock, Store, Wait};
use crate::threads::NoThread;
use crate::{beneath, ccache, download, registry, sandbox, store};

pub(crate) use remote::RemoteSettings;
pub use tools::{OpenError, Tools, User};

/// Errors of the functions on a context.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file of ours outside of the store.
    #[error(transparent)]
    Io(#[from] crate::path_error::PathError),
    /// A file of a root or a tree.
    #[error(transparent)]
    RootFile(#[from] beneath::Error),
    /// No thread can be started.
    #[error(transparent)]
    Thread(#[from] NoThread),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted {
        /// Whether the same command resumes the work.
        resumable: bool,
    },
}

impl From<ccache::Error> for Error {
    fn from(error: ccache::Error) -> Self {
        match error {
            ccache::Error::Io(error) => error.into(),
            ccache::Error::Beneath(error) => error.into(),
        }
    }
}

/// What functions on a context return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What the program finds out about its surroundings and passes to the library.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Packages and make jobs at the same time.
    pub jobs: u32,
    /// Threads for decompression and compression.
    pub processors: u32,
    /// Memory of the machine, or of the container if it may have less; `None` if that is not known. Compressors take a quarter.
    pub memory_bytes: Option<u64>,
    /// Gentoo's keyword for this machine: `amd64`.
    pub arch: String,
    /// Fail instead of waiting for locks.
    pub no_wait: bool,
    /// Text of the host's `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
    /// Text of `/proc/cpuinfo`.
    pub cpuinfo: String,
    /// `SOURCE_DATE_EPOCH`: an upper bound of times in archives, in place of that of the newest input.
    pub source_date_epoch: Option<i64>,
    /// The caller's terminal type, for sessions with a terminal.
    pub term: Option<String>,
    /// The caller's environment. Slurm's programs get the part of it that they need; sessions get nothing of it.
    pub environment: Vec<(OsString, OsString)>,
    /// Limits of each session.
    pub limits: sandbox::Limits,
    /// How sessions stand back for others.
    pub priority: Priority,
    /// Packages of which each has jobs of its own number.
    pub package_jobs: Vec<PackageJobs>,
    /// How large the compiler cache of a profile may become, bytes; `None`: compilers run without one.
    pub ccache: Option<u64>,
    /// Where packages are compiled; `None`: on the disk.
    pub tmpfs: Option<Tmpfs>,
    /// How to download; emerge gets the same proxies and `offline`.
    pub download: download::Settings,
    /// Where states are asked for before they are built; `None`: nowhere.
    pub remote: Option<Arc<RemoteSettings>>,
    /// Who we are to registries.
    pub registries: registry::Sources,
}

impl Settings {
    /// Settings with defaults: `arch` is Gentoo's keyword for this machine (`amd64`), `jobs` the number of parallel jobs. Sessions have
    /// no limits; there are no proxies and no certificates of authorities for downloads.
    pub fn new(arch: &str, jobs: u32) -> Self {
        Self {
            jobs,
            processors: jobs,
            memory_bytes: None,
            arch: arch.to_owned(),
            no_wait: false,
            resolv_conf: None,
            cpuinfo: String::new(),
            source_date_epoch: None,
            term: None,
            environment: Vec::new(),
            limits: sandbox::Limits::default(),
            priority: Priority::default(),
            package_jobs: Vec::new(),
            ccache: None,
            tmpfs: None,
            download: download::Settings::default(),
            remote: None,
            registries: registry::Sources::default(),
        }
    }
}

/// The tools and settings of one invocation, which each workflow gets.
pub struct Context<'a> {
    /// Directories.
    pub places: &'a Places,
    /// The open store.
    pub store: &'a Store,
    /// Starts sandboxes.
    pub launcher: &'a Launcher,
    /// Receives events.
    pub observer: &'a (dyn Observer + 'a),
    /// Counts Ctrl-C and SIGTERM.
    pub interrupt: &'a Interrupt,
    /// The budget of make jobs that this and other contexts share; `None`: each session has all of `settings.jobs` for itself.
    pub jobserver: Option<&'a JobServer>,
    /// What this and the contexts that share it have told already.
    pub told: &'a Told,
    /// The program's settings.
    pub settings: Settings,
}

/// Messages that a run prints once although each of its sessions finds them, such as a host that cannot be reached.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Prints a note, unless it was printed before.
    pub(crate) fn note_once(&self, observer: &dyn Observer, text: &str) {
        if self.is_new(text) {
            observer.note(text);
        }
    }

    /// Whether the text was not told before.
    pub(crate) fn is_new(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("places", self.places).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A downloader that stops when the user wants to.
pub(crate) fn downloader(cx: &Context<'_>) -> Downloader {
    Downloader::new(cx.settings.download.clone(), Arc::new(Interrupt::asked))
}

/// An exclusive lock. If it is taken, waits with a message, or fails with `no_wait`.
pub(crate) fn lock(cx: &Context<'_>, name: &str) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_named(name, wait))
}

/// As [`lock`], but shared.
pub(crate) fn lock_shared(cx: &Context<'_>, name: &str) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_named_shared(name, wait))
}

pub(crate) fn lock_by(cx: &Context<'_>, take: impl FnOnce(Wait<'_>) -> store::Result<Lock>) -> Result<Lock> {
    if cx.settings.no_wait {
        return Ok(take(Wait::NoWait)?);
    }
    let mut notify = |busy: &Busy| cx.observer.note(&format!("waiting: {busy}"));
    let cancelled = || cx.interrupt.count() > 0;
    match take(Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled }) {
        Err(store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
        other => Ok(other?),
    }
}

/// Runs a task inside the id map. If Ctrl-C came meanwhile, the error is an interruption.
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

/// A descriptor that becomes readable once the user asks to stop: ends a long task at once.
pub(crate) fn cancel(cx: &Context<'_>) -> Result<std::os::fd::OwnedFd> {
    cx.interrupt.fd().try_clone_to_owned().map_err(Error::io("duplicate a descriptor for", cx.store.root()))
}

pub(crate) fn not_interrupted(cx: &Context<'_>) -> Result<()> {
    if cx.interrupt.count() > 0 { Err(Error::Interrupted { resumable: false }) } else { Ok(()) }
}

/// A shared lock on the store, held by every command that uses it, so that `clean` deletes nothing that it relies on.
pub(crate) fn share_store(cx: &Context<'_>) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_shared(wait))
}

/// An exclusive lock on the store. If it is taken, waits with a message, or fails with `no_wait`.
pub(crate) fn lock_store(cx: &Context<'_>) -> Result<Lock> {
    lock_by(cx, |wait| cx.store.lock_exclusive(wait))
}
