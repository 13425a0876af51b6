//! Where states are asked for before they are built, and published afterwards: what the program has found out about it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::registry::Address;
use crate::stage3::keys::TrustedKeys;
use crate::stage3::sign::{Gpg, SignError};
use crate::store::StateId;

/// The remote of one invocation.
#[derive(Debug)]
pub struct RemoteSettings {
    pub(crate) address: Address,
    /// Publish what was built.
    pub(crate) push: bool,
    /// It is asked for packages, too, and gets them.
    pub(crate) packages: bool,
    /// Signs what is published.
    pub(crate) gpg: Gpg,
    /// Whose signatures count.
    pub(crate) keys: TrustedKeys,
    /// Whether we can sign, once that was tried.
    signs: OnceLock<bool>,
    /// It could not be reached: it is not asked again.
    down: AtomicBool,
    /// States that came from it.
    fetched: Mutex<BTreeSet<String>>,
    /// Held by the node of this command that fetches layers. Others need some of them, too, and would wait for their own process's lock.
    pub(crate) turn: Mutex<()>,
}

impl RemoteSettings {
    pub(crate) fn new(address: Address, push: bool, packages: bool, gpg: Gpg, keys: TrustedKeys) -> Self {
        Self {
            address,
            push,
            packages,
            gpg,
            keys,
            signs: OnceLock::new(),
            down: AtomicBool::new(false),
            fetched: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    /// Whether a signature was tried and made.
    pub(crate) fn signs(&self) -> bool {
        self.signs.get() == Some(&true)
    }

    /// Tries whether we can sign, unless that is known. Of several threads one hears the error.
    pub(crate) fn try_signer(&self) -> Result<(), SignError> {
        let mut tried = Ok(());
        self.signs.get_or_init(|| {
            tried = self.gpg.try_out();
            tried.is_ok()
        });
        tried
    }

    pub(crate) fn note_fetched(&self, state: &StateId) {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(state.to_string());
    }

    /// Whether this invocation has fetched the state with this id.
    pub(crate) fn has_fetched(&self, state: &str) -> bool {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).contains(state)
    }

    /// Whether what is built is published.
    pub(crate) fn publishes(&self) -> bool {
        self.push && !self.is_down() && self.signs.get() != Some(&false)
    }
}
