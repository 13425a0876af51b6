//! Why nothing can be brought at all. Why a single file does not come is a [`Reason`](super::Reason).

use std::io;
use std::path::PathBuf;

/// A broker that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `create`, `write`, …
        action: &'static str,
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An ebuild tree.
    #[error("cannot read the ebuild tree `{name}`")]
    Tree {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: crate::beneath::Error,
    },
    /// No thread can be started.
    #[error("cannot start a thread to answer with")]
    Thread {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
