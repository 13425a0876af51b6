//! The broker itself.

use std::os::unix::net::UnixListener;

use super::{AskMetadata, FetchStatus, Missing, Result, Shelves, Sources, Wanted};
use crate::download::Downloader;

/// Fetches for one session. What goes on ends when it is dropped.
pub struct Broker {
    shelves: Shelves,
    sources: Sources,
    downloader: Downloader,
    ask_metadata: AskMetadata,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Nothing is asked for before somebody wants something.
    pub fn new(shelves: Shelves, sources: Sources, downloader: &Downloader, ask_metadata: AskMetadata) -> Result<Self> {
        Ok(Self { shelves, sources, downloader: downloader.clone(), ask_metadata })
    }

    /// Begins to bring what these packages need, in this order; returns at once.
    pub fn want(&self, packages: Vec<Wanted>) {
        tracing::debug!(?packages, sources = ?self.sources, shelves = ?self.shelves, downloader = ?self.downloader, "wanted");
        (self.ask_metadata)(&[]);
    }

    /// Answers a session's questions until the broker is dropped.
    pub fn serve(&self, listener: UnixListener) -> Result<()> {
        drop(listener);
        Ok(())
    }

    /// How far it is.
    pub fn status(&self) -> FetchStatus {
        FetchStatus::default()
    }

    /// What the user may want to know since the last call: mirrors that failed, obstacles.
    pub fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Waits until of everything wanted it is known whether it can be had; says what cannot.
    pub fn settle(&self) -> Result<Vec<Missing>> {
        Ok(self.missing())
    }

    /// What cannot be had, as far as is known by now, also of what was only asked for.
    pub fn missing(&self) -> Vec<Missing> {
        Vec::new()
    }
}
