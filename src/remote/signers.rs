//! Who has signed the packages that came from remotes, and whether that still counts.
//!
//! A package that was taken lies in its pool as those that were built here, and its signature is gone. So the pool's index says who has made
//! it, and whoever takes a package out of a pool asks here first: what somebody has signed who is not trusted for remotes any more is not
//! merged, not pushed and not exported.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use crate::context::Context;
use crate::portage::binpkgs::SIGNER;
use crate::portage::binpkgs::index::Stanza;
use crate::stage3::Fingerprint;
use crate::stage3::keys::{GENTOO, Purpose, TrustedKeys};

/// Whose packages count, asked of the present configuration. It is read once, and only if some package came from a remote.
pub(crate) struct Signers<'a> {
    cx: &'a Context<'a>,
    keys: OnceCell<Option<TrustedKeys>>,
    /// Who was found not to count.
    left_out: RefCell<BTreeSet<String>>,
}

impl<'a> Signers<'a> {
    pub(crate) fn new(cx: &'a Context<'_>) -> Self {
        Self { cx, keys: OnceCell::new(), left_out: RefCell::default() }
    }

    /// Whether a package of a pool may be used, by its entry in the index.
    pub(crate) fn count(&self, entry: &Stanza) -> bool {
        let Some(signer) = entry.get(SIGNER) else { return true };
        let load = || TrustedKeys::load(&self.cx.places.keys(), GENTOO).ok();
        // Without readable keys nobody counts.
        let counts = self.keys.get_or_init(load).as_ref().is_some_and(|keys| does_count(keys, signer));
        if !counts && self.left_out.borrow_mut().insert(signer.clone()) {
            let words = format!(
                "packages of the pools that `{}` has signed are not used: it does not count for remotes any more",
                crate::terminal_text::sanitize_line(signer.as_bytes(), 100)
            );
            if self.cx.told.is_new(&words) {
                self.cx.observer.warn(&words);
            }
        }
        counts
    }
}

fn does_count(keys: &TrustedKeys, signer: &str) -> bool {
    signer.parse::<Fingerprint>().is_ok_and(|signer| keys.counting_for(Purpose::Remote).count(&signer))
}
