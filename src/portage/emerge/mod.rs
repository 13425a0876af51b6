//! Running `emerge`: its arguments, its live status, and what its logs say when it fails.
//!
//! ```text
//! request        what we ask           -> argv, environment
//! default_opts   EMERGE_DEFAULT_OPTS   -> what a request takes over, and what has no place there
//! observability  /run/portage/*.json   -> EmergeStatus, where Portage publishes it
//! progress       output, emerge.log    -> EmergeStatus, everywhere else
//! output         the output stream     -> log file, verbatim, and what the others need, in bounded memory
//! failure        output, build logs    -> Failure: package, phase, kind, last lines, what emerge proposes
//! resolution     output of --pretend    -> Resolution: proposed changes and conflicts, typed; REQUIRED_USE solved
//! build_logs     Portage's own logs     -> the user's to read and to delete
//! resume         mtimedb               -> whether `--resume` has something to go on with
//! sanitize       hostile bytes         -> text that is safe to print
//! ```

pub mod build_logs;
pub mod default_opts;
pub mod failure;
pub mod observability;
pub mod output;
pub mod progress;
pub mod request;
pub mod resolution;
pub mod resume;
pub mod sanitize;
mod violation;

pub use default_opts::DefaultOpts;
pub use failure::{Distrust, Failure, FailureKind};
pub use observability::Status;
pub use output::EmergeLog;
pub use request::{Existing, Goal, Mode, Request};
pub use resume::resumable;
pub use sanitize::sanitize;

/// Where a running `emerge` stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmergeStatus {
    /// Packages finished so far.
    pub done: usize,
    /// Packages in this run.
    pub total: usize,
    /// What is being worked on.
    pub running: Vec<EmergeTask>,
    /// What is brought for it meanwhile, if it needs anything.
    pub fetching: Option<Fetching>,
}

/// Where fetching for a run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetching {
    /// Files that are here.
    pub done: usize,
    /// Files that cannot be had.
    pub failed: usize,
    /// Files in all.
    pub total: usize,
    /// Bytes that are here.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Files that the run waits for.
    pub awaited: Vec<String>,
}

impl Fetching {
    /// Whether there is something to wait for.
    pub fn goes_on(&self) -> bool {
        self.done + self.failed < self.total
    }
}

/// One package that `emerge` is working on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergeTask {
    /// `category/name-version`.
    pub cpv: String,
    /// The phase, in ebuild terms (`compile`), or `merge`, `fetch`.
    pub phase: String,
    /// Seconds since the package was started.
    pub elapsed_secs: u64,
}
