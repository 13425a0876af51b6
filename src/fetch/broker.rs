//! The broker, as its owner sees it.

use std::fmt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::hosts::Hosts;
use super::inside::{Inside, lock};
use super::layout::Layouts;
use super::places::Mirrors;
use super::servers::Servers;
use super::shelf::Shelf;
use super::trees::Trees;
use super::{AskMetadata, Error, FetchStatus, Missing, Result, Shelves, Sources, Wanted, serve};
use crate::download::{Addresses, Downloader, Settings, Url};
use crate::stage3::keys::TrustedKeys;

/// Fetches files for one session. Dropping it ends what it does.
pub struct Broker {
    inside: Arc<Inside>,
    /// The sockets at which its threads wait.
    bells: Mutex<Vec<UnixListener>>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("trees", &self.inside.trees).finish_non_exhaustive()
    }
}

impl Broker {
    /// Makes no request before somebody wants something. Packages of hosts must be signed by `keys`.
    pub fn new(shelves: &Shelves, sources: Sources, keys: TrustedKeys, downloader: &Downloader, ask: AskMetadata) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let trees = Trees::open(&sources.trees)?;
        let mirrors =
            Mirrors { general: sources.mirrors, custom: sources.custom_mirrors, third_party: trees.third_party_mirrors() };
        let configured = mirrors.general.iter().chain(mirrors.custom.values().flatten());
        let hosts = sources.hosts.iter().filter(|host| host.configured);
        let configured: Vec<Url> =
            configured.chain(hosts.map(|host| &host.sync_uri)).filter_map(|text| text.parse().ok()).collect();
        // Ebuilds may come from anybody, so an address of theirs may not lead into this machine or its network. Servers of the
        // configuration may be there.
        let settings = Settings { addresses: Addresses::public_and(&configured), ..downloader.settings().clone() };
        let (stop, user) = (Arc::clone(&over), Arc::clone(downloader.cancelled()));
        let downloader = Downloader::new(settings, Arc::new(move || stop.load(Ordering::Relaxed) || user()));
        let inside = Inside {
            distfiles: Shelf::open(&shelves.distfiles)?,
            packages: Shelf::open(&shelves.packages)?,
            trees,
            mirrors,
            hosts: Hosts::new(&sources.hosts),
            keys,
            downloader,
            layouts: Layouts::default(),
            servers: Servers::default(),
            ask,
            asked: Mutex::default(),
            board: Mutex::default(),
            changed: Condvar::new(),
            over,
            notes: Mutex::default(),
            threads: Mutex::default(),
        };
        Ok(Self { inside: Arc::new(inside), bells: Mutex::default() })
    }

    /// Starts to fetch what these packages need, in this order. Returns at once.
    pub fn want(&self, packages: Vec<Wanted>) {
        self.inside.board().plan(packages);
        self.inside.engage();
    }

    /// Answers a session's questions until the broker is dropped.
    pub fn serve(&self, listener: UnixListener) -> Result<()> {
        let waiting = serve::Door::new(listener)?;
        lock(&self.bells).push(waiting.bell()?);
        let inside = Arc::clone(&self.inside);
        self.inside.spawn(move || waiting.open(&inside)).map_err(|source| Error::Thread { source })
    }

    /// How far it is.
    pub fn status(&self) -> FetchStatus {
        self.inside.board().status()
    }

    /// Notes for the user since the last call: failed mirrors, obstacles.
    pub fn take_notes(&self) -> Vec<String> {
        lock(&self.inside.notes).new.drain(..).collect()
    }

    /// Waits until every wanted file is here or has failed. Returns the failed ones.
    pub fn settle(&self) -> Result<Vec<Missing>> {
        let mut board = self.inside.board();
        while !board.is_settled() {
            if self.inside.is_over() {
                return Err(Error::Interrupted);
            }
            drop(board);
            self.inside.lend_a_hand();
            board = self.inside.board();
            if !board.is_settled() {
                board = self.inside.wait(board);
            }
        }
        Ok(board.missing())
    }

    /// Whether a host of binary packages failed to answer what it has.
    pub fn a_host_failed(&self) -> bool {
        self.inside.hosts.has_failed()
    }

    /// The files that have failed so far, also those that only the session asked for.
    pub fn missing(&self) -> Vec<Missing> {
        self.inside.board().missing()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.inside.over.store(true, Ordering::Relaxed);
        self.inside.changed.notify_all();
        for bell in lock(&self.bells).drain(..) {
            if let Err(error) = rustix::net::shutdown(&bell, rustix::net::Shutdown::Both) {
                tracing::warn!(%error, "a socket of the broker cannot be closed");
            }
        }
        // A thread may start another one while we wait, so we look again until there are none.
        loop {
            let handles = std::mem::take(&mut lock(&self.inside.threads).handles);
            if handles.is_empty() {
                return;
            }
            for handle in handles {
                // A thread that panicked has already printed that.
                drop(handle.join());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::fixture::TreeDir;
    use super::super::{Files, Reason};
    use super::*;
    use crate::threads::tests::without_any;

    #[test]
    fn whoever_waits_works_where_no_thread_can_be_started() {
        let tree = TreeDir::new("gentoo");
        let hash = "0".repeat(128);
        tree.write("a/one/Manifest", &format!("DIST one.tar 1 BLAKE2B {hash} SHA512 {hash}\n"));
        tree.write("a/one/one-1.ebuild", "");
        tree.write("metadata/md5-cache/a/one-1", "EAPI=8\nSRC_URI=one.tar\n");
        let dir = tempfile::tempdir().unwrap();
        let shelves = Shelves { distfiles: dir.path().join("distfiles"), packages: dir.path().join("packages") };
        std::fs::create_dir(&shelves.distfiles).unwrap();
        std::fs::create_dir(&shelves.packages).unwrap();
        let sources = Sources { trees: vec![tree.tree()], mirrors: Vec::new(), custom_mirrors: BTreeMap::new(), hosts: Vec::new() };
        let downloader = Downloader::new(Settings { offline: true, ..Settings::default() }, Arc::new(|| false));
        let broker = Broker::new(&shelves, sources, TrustedKeys::default(), &downloader, Box::new(|_| Vec::new())).unwrap();
        let wanted = Wanted { cpv: "a/one-1".to_owned(), repository: "gentoo".to_owned(), files: Files::Flags(BTreeSet::new()) };
        let missing = without_any(|| {
            broker.want(vec![wanted]);
            broker.settle().unwrap()
        });
        assert_eq!(
            missing.iter().map(|missing| (missing.name.as_str(), &missing.reason)).collect::<Vec<_>>(),
            [("one.tar", &Reason::Offline)]
        );
        let notes = broker.take_notes();
        assert!(notes[0].starts_with("cannot start a thread for downloads, so files are downloaded one by one: "), "{notes:?}");
    }
}
