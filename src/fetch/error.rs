//! Why nothing can be fetched at all. Why a single file does not come is a [`Reason`](super::Reason).

use std::io;

use crate::path_error::PathError;

/// A broker that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("cannot read the ebuild tree `{name}`")]
    Tree {
        name: String,
        #[source]
        source: crate::beneath::Error,
    },
    #[error("cannot start a thread to answer with")]
    Thread {
        #[source]
        source: io::Error,
    },
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}
