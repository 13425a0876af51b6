//! What a context borrows. Opened once for all contexts of a program.

use std::path::{Path, PathBuf};

use super::{Context, Settings, Told};
use crate::host::{self, HostProblem};
use crate::places::{Closed, Owner, Places, Unsafe, unknown_id};
use crate::progress::Observer;
use crate::sandbox::idmap::IdMapError;
use crate::sandbox::{self, HelperSource, IdMap, Interrupt, Launcher, Rung};
use crate::store::{self, Store};

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// As `/etc/subuid` has it: the login name, or the number in digits.
    pub name: String,
    /// Whether nobody else is in the user's group: then a directory that the group may write to is as good as the user's own.
    pub alone_in_group: bool,
}

impl User {
    /// Whose directories are safe to keep things in.
    pub(crate) fn owner(&self) -> Owner {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let overflow: Option<u32> = read("/proc/sys/kernel/overflowuid").trim().parse().ok();
        let unknown_uid = unknown_id(&read("/proc/self/uid_map"), overflow);
        Owner { uid: self.uid, private_gid: self.alone_in_group.then_some(self.gid), unknown_uid }
    }
}

/// The store, the launcher of sandboxes, and the counter of Ctrl-C.
#[derive(Debug)]
pub struct Tools {
    places: Places,
    pub(crate) store: Store,
    pub(crate) launcher: Launcher,
    pub(crate) interrupt: Interrupt,
    told: Told,
}

/// Why no store could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host lacks something; the problem knows its remedy.
    #[error(transparent)]
    Host(#[from] HostProblem),
    /// The data or cache directory is not safe from other users.
    #[error(transparent)]
    Places(#[from] Unsafe),
    /// The user has no subordinate ids.
    #[error(transparent)]
    Ids(#[from] IdMapError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

impl Tools {
    /// Closes data and cache to other users; opens the store, or creates it where the host and the place can hold one, which is tried;
    /// removes what killed runs left.
    ///
    /// `newuidmap` and other programs of the host are looked up in `search_path`. `command` is shown to others who wait for a lock of
    /// ours. With an `isolation`, another one than that is an error.
    ///
    /// # Errors
    ///
    /// The host cannot run sandboxes, other users could replace the directories, the store cannot be used, or there is another `Tools` in
    /// this process: both would count the same signals.
    pub fn open(
        places: &Places,
        user: &User,
        helper: HelperSource,
        search_path: Vec<PathBuf>,
        command: &str,
        isolation: Option<Rung>,
    ) -> Result<Self, OpenError> {
        Self::open_interruptible(Interrupt::install()?, places, user, helper, search_path, command, isolation)
    }

    /// The same for somebody who has begun earlier to heed Ctrl-C and SIGTERM.
    pub(crate) fn open_interruptible(
        interrupt: Interrupt,
        places: &Places,
        user: &User,
        helper: HelperSource,
        search_path: Vec<PathBuf>,
        command: &str,
        isolation: Option<Rung>,
    ) -> Result<Self, OpenError> {
        for Closed { path, mode } in places.close(user.owner(), true)? {
            tracing::warn!(path = %path.display(), "closed to other users: its mode was {mode:04o}");
        }
        host::check_kernel()?;
        let idmap = IdMap::of_host(Path::new("/"), user.uid, user.gid, &user.name, &search_path, isolation)?;
        let mut launcher = Launcher::new(helper.clone(), idmap.clone()).search_in(search_path.clone());
        if !places.store().join("store.json").exists() {
            host::check_new(&launcher, &places.data)?;
        }
        let store = Store::open_as(&places.store(), &idmap, command)?;
        if *store.idmap() != idmap {
            launcher = Launcher::new(helper, store.idmap().clone()).search_in(search_path);
        }
        let launcher = host::isolated(launcher, isolation)?;
        // First what takes no room: a disk may be full of what killed runs have left.
        places.sweep();
        let recovered = store.recover(&launcher)?;
        if !recovered.is_nothing() {
            tracing::info!(?recovered, "removed files that killed runs left");
        }
        Ok(Self { places: places.clone(), store, launcher, interrupt, told: Told::default() })
    }

    /// Enters the sandbox, before there is work in it: if the host does not allow it, that is said now.
    pub(crate) fn enter(&self) -> Result<(), OpenError> {
        self.store.require_idmap()?;
        Ok(self.launcher.enter()?)
    }

    /// Begins to enter it while the caller prepares its one session, which then gets the error of a host that does not allow it.
    pub(crate) fn prepare(&self) -> Result<(), OpenError> {
        self.store.require_idmap()?;
        self.launcher.prepare();
        Ok(())
    }

    /// What workflows are called with.
    pub fn context<'a>(&'a self, observer: &'a (dyn Observer + 'a), settings: Settings) -> Context<'a> {
        Context {
            places: &self.places,
            store: &self.store,
            launcher: &self.launcher,
            observer,
            interrupt: &self.interrupt,
            jobserver: None,
            told: &self.told,
            settings,
        }
    }

    /// Asks the running work to stop, as Ctrl-C does, from any thread. A build is suspended and resumes at the next call; a second
    /// `cancel` kills the sessions.
    pub fn cancel(&self) {
        self.interrupt.ask();
    }
}
