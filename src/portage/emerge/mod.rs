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
//! ```

pub mod default_opts;
pub mod failure;
pub mod observability;
pub mod output;
pub mod progress;
pub mod request;
pub mod resolution;
pub mod resume;
mod violation;

pub use default_opts::DefaultOpts;
pub use failure::{Distrust, Failure, FailureKind};
pub use observability::Status;
pub use output::EmergeLog;
pub use request::{Existing, Goal, Mode, Request};
pub use resume::resumable;
