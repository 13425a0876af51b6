//! A build state that is open for work.
//!
//! ```text
//! open, work, given             the session and its directories; what is given to it
//! root             those directories as a plan for the sandbox, and what has to go before commit
//! launch, run, emerge           commands and emerge in it; output, echo and logs are what they say
//! messages         what its packages say to the user
//! emerge_argv, foreseen         how emerge is called, and what it would do
//! in_memory        where it compiles
//! forecast         how long that takes, by earlier builds
//! keys, supply     what its packages are made from, and who fetches their sources
//! binhost, keyring packages of other hosts, and the keys that they are verified with
//! hooks, script    what the configuration runs in it
//! ccache           what compilers have made before, and what they make now
//! ask, inspect, fulfilled       questions to its Portage
//! put_back, relink, tidy        what is taken back before a layer is made of it
//! ```

pub(crate) mod ask;
pub(crate) mod binhost;
pub(crate) mod build_logs;
pub(crate) mod ccache;
pub(crate) mod echo;
pub(crate) mod emerge;
pub(crate) mod emerge_argv;
mod error;
pub(crate) mod forecast;
pub(crate) mod foreseen;
pub(crate) mod fulfilled;
pub(crate) mod given;
pub(crate) mod hooks;
pub(crate) mod in_memory;
pub(crate) mod inspect;
pub(crate) mod jobs;
pub(crate) mod keyring;
pub(crate) mod keys;
mod launch;
pub(crate) mod logs;
pub(crate) mod messages;
pub(crate) mod open;
pub(crate) mod output;
pub(crate) mod put_back;
pub(crate) mod readable_files;
pub(crate) mod relink;
pub(crate) mod root;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod supply;
pub(crate) mod tidy;
pub(crate) mod work;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::config::patches::PatchRecord;
use crate::jobserver::Share;
use crate::portage::emerge::DefaultOpts;
use crate::session::forecast::Coming;
use crate::session::in_memory::TooLarge;
use crate::session::keys::Keys;
use crate::session::logs::LogDir;
use crate::session::put_back::Kept;
use crate::session::root::Root;
use crate::session::supply::Supply;

pub(crate) use error::{Error, Result};

/// A session in use: its root, and where its output goes.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) root: Root,
    pub(crate) profile: String,
    /// Its part in the compiler cache, if it has one.
    pub(crate) ccache: Option<ccache::Cached>,
    /// Mutable, since each run records its first process.
    pub(crate) session: RefCell<&'a mut crate::store::Session>,
    /// For `emerge.log` and the logs of single packages.
    pub(crate) log_dir: LogDir,
    /// The host name inside.
    pub(crate) hostname: String,
    pub(crate) env: Vec<(String, String)>,
    /// When the work began. All its runs together have the time of one session.
    pub(crate) began: Instant,
    /// If this work is on behalf of a run: set once that run is over and nobody needs the result.
    pub(crate) over: Option<Arc<AtomicBool>>,
    /// Its share of a budget of make jobs.
    pub(crate) jobs: Share,
    pub(crate) supply: Supply,
    /// Options of the configuration for each run of emerge.
    pub(crate) emerge_opts: DefaultOpts,
    /// The patches in force now.
    pub(crate) patches: Vec<PatchRecord>,
    pub(crate) patches_before: Vec<PatchRecord>,
    /// The keys of its packages.
    pub(crate) keys: Keys,
    /// Its configuration, while packages may change it.
    pub(crate) kept: Kept,
    /// What the next run of emerge is going to merge, as far as anybody has asked.
    pub(crate) foreseen: RefCell<Vec<Coming>>,
    /// What cannot be compiled in memory.
    pub(crate) too_large: RefCell<TooLarge>,
}

impl Work<'_> {
    /// Where the logs of single packages are after they were taken out of the session.
    pub(crate) fn package_logs(&self) -> PathBuf {
        self.log_dir.join("packages")
    }

    /// How much of the session's time is used, in milliseconds.
    fn used_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed))
    }

    /// Removes the logs. They are only of use after a failure.
    pub(crate) fn forget_logs(&self) {
        if let Err(error) = fs::remove_dir_all(&*self.log_dir) {
            tracing::debug!("kept logs in {}: {error}", self.log_dir.display());
        }
    }
}
