//! What every workflow is given: places, the open store, the launcher of sandboxes, who is told, who interrupts, and settings.

mod tools;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::download::Downloader;
use crate::jobserver::JobServer;
use crate::path_error::OfFile as _;
use crate::places::Places;
use crate::progress::Observer;
use crate::sandbox::{Interrupt, Launcher};
use crate::store::{Busy, Lock, Store, Wait};
use crate::threads::NoThread;
use crate::{beneath, download, sandbox, store};

pub use tools::{OpenError, Tools, User};

/// What tools and surroundings do not give.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Files of ours, outside of the store.
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
        /// Whether repeating the command goes on from here.
        resumable: bool,
    },
}

/// What functions on a context return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

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

impl Settings {
    /// The least that has to be known: `arch` is Gentoo's keyword for this machine (`amd64`), `jobs` how much is done at the same time.
    /// Sessions have no limits, and downloads take neither proxies nor certificates of authorities.
    pub fn new(arch: &str, jobs: u32) -> Self {
        Self {
            jobs,
            processors: jobs,
            arch: arch.to_owned(),
            no_wait: false,
            resolv_conf: None,
            cpuinfo: String::new(),
            source_date_epoch: None,
            term: None,
            limits: sandbox::Limits::default(),
            download: download::Settings::default(),
        }
    }
}

/// What each workflow is called with: one invocation's tools and settings.
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
    pub(crate) fn is_new(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("places", self.places).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Asks servers, until the user wants to stop.
pub(crate) fn downloader(cx: &Context<'_>) -> Downloader {
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

/// Held by every command that uses the store, so that nothing it relies on is deleted meanwhile.
pub(crate) fn share_store(cx: &Context<'_>) -> Result<Lock> {
    let cancelled = || cx.interrupt.count() > 0;
    let mut notify = |busy: &store::Busy| cx.observer.note(&format!("waiting: {busy}"));
    let wait = if cx.settings.no_wait { Wait::NoWait } else { Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled } };
    match cx.store.lock_shared(wait) {
        Err(store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
        other => Ok(other?),
    }
}

/// The store for this process alone: waited for with a message, or not at all.
pub(crate) fn lock_store(cx: &Context<'_>) -> Result<Lock> {
    let cancelled = || cx.interrupt.count() > 0;
    let mut notify = |busy: &Busy| cx.observer.note(&format!("waiting: {busy}"));
    let wait = if cx.settings.no_wait { Wait::NoWait } else { Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled } };
    match cx.store.lock_exclusive(wait) {
        Err(store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
        other => Ok(other?),
    }
}
