//! Running `emerge`: its arguments, its live status, and what its logs say when it fails.
//!
//! ```text
//! request        our request            -> argv, environment
//! default_opts   EMERGE_DEFAULT_OPTS   -> what a request takes over, and what has no place there
//! observability  /run/portage/*.json   -> EmergeStatus, where Portage publishes it
//! progress       output, emerge.log    -> EmergeStatus, everywhere else
//! output         the output stream      -> log file, verbatim, and input of the others, in bounded memory
//! failure        output, build logs    -> Failure: package, phase, kind, last lines, what emerge proposes
//! resolution     output of --pretend    -> Resolution: proposed changes and conflicts, typed; REQUIRED_USE solved
//! build_logs     Portage's own logs     -> made readable and deletable for the user
//! resume         mtimedb               -> whether `--resume` has something to go on with
//! ```

pub(crate) mod default_opts;
pub(crate) mod failure;
pub(crate) mod observability;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod request;
pub(crate) mod resolution;
pub(crate) mod resume;
mod violation;

pub(crate) use default_opts::DefaultOpts;
pub(crate) use failure::{Distrust, Failure, FailureKind};
