//! Why there is no report.

use crate::beneath;

/// No run to report of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No run has left a record.
    #[error("no run has been recorded yet")]
    NoRuns,
    /// No record is of what is called so.
    #[error("there is no record of a run that has built `{name}`")]
    NoRun { name: String, known: Vec<String> },
    /// The directory of logs.
    #[error(transparent)]
    Logs(#[from] beneath::Error),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
