//! Brings a state.

use std::sync::PoisonError;

use super::document::{Manifest, Origins, STATE_TYPE, SignedState, Statement, digest_of, tag_of};
use super::{Error, Remote, Result};
use crate::context;
use crate::registry::Blob;
use crate::stage3::keys::Purpose;
use crate::stage3::{Signer, verify_clear_signed};
use crate::store::{Incoming, State};

/// Who holds it fetches layers from the remote with this address.
pub(super) fn lock_of(remote: &Remote<'_>) -> String {
    format!("transfer/{}", remote.mark())
}

/// A state that a remote has, signed by who counts for remotes.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) signed: SignedState,
    pub(super) signer: Signer,
    pub(super) origin: Blob,
}

/// What a user has asked for by a name or a beginning, and when what was found says that it was built. Nobody has signed that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(super) text: String,
    pub(super) made: String,
}

/// A state that was brought.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) state: State,
    pub(crate) signer: Signer,
    /// Layers that were fetched.
    pub(crate) layers: usize,
    /// Bytes of them on the way.
    pub(crate) bytes: u64,
}

impl Remote<'_> {
    /// What tells its address from others, in names.
    pub(super) fn mark(&self) -> String {
        let digest = digest_of(self.shown().as_bytes());
        digest[digest.len() - 16..].to_owned()
    }

    /// What the remote has under a key, once its signature counts. Nothing else is read before.
    pub(super) fn look(&self, key: &str) -> Result<Option<Found>> {
        let Some(bytes) = self.repository.manifest(&tag_of(key))? else { return Ok(None) };
        let (statement, origin) = Manifest::parse(&bytes, STATE_TYPE)?.documents(key)?;
        let (text, signer) = self.signed_text(&statement, "state")?;
        let signed = Statement::of_key(&text, key)?;
        if signed.origin != origin.digest {
            return Err(super::Flaw::Other("origin").into());
        }
        Ok(Some(Found { signed, signer, origin }))
    }

    /// Whether the remote has a state under a key, signed by who counts.
    pub(crate) fn counts(&self, key: &str) -> Result<bool> {
        Ok(self.look(key)?.is_some())
    }

    /// The text of a statement, once its signature counts. It is of a `what`.
    pub(super) fn signed_text(&self, statement: &Blob, what: &'static str) -> Result<(String, Signer)> {
        let document = self.document(statement)?;
        let trusted = self.settings.keys.counting_for(Purpose::Remote);
        verify_clear_signed("the statement", &document, trusted, &Self::verify_options()).map_err(|source| Error::NotTrusted {
            place: self.shown(),
            what,
            source: Box::new(source),
        })
    }
}

/// Brings the state with this key, if the remote has one. It gets no name. A user may have asked for it in other words (`wanted`): only what
/// was signed says whether it is meant.
pub(crate) fn pull(remote: &Remote<'_>, key: &str, wanted: Option<&Wanted>) -> Result<Option<Pulled>> {
    let Some(Found { signed, signer, origin }) = remote.look(key)? else { return Ok(None) };
    if let Some(wanted) = wanted.filter(|wanted| !signed.answers_to(&wanted.text)) {
        return Err(super::Flaw::NotMeant { wanted: wanted.text.clone() }.into());
    }
    // Of several nodes that need the same layers one fetches them, and the others find them here. The lock is for other commands.
    let _turn = remote.settings.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let _lock = context::lock(remote.cx, &lock_of(remote))?;
    let origins = Origins::parse(&remote.document(&origin)?, &signed)?;
    let made = origins.states.last().map(|state| &state.created);
    if let Some(wanted) = wanted.filter(|wanted| Some(&wanted.made) != made) {
        return Err(super::Flaw::NotMeant { wanted: format!("{} of {}", wanted.text, wanted.made) }.into());
    }
    // Nobody's `clean` waits for a slow remote: the store is shared once all is here.
    let lacking: Vec<_> = signed.layers.iter().filter(|layer| remote.cx.store.layer(&layer.id).is_err()).collect();
    remote.fetch(&lacking)?;
    let _sharing = context::share_store(remote.cx)?;
    let mut incoming = remote.cx.store.incoming()?;
    let brought = bring_layers(remote, &signed, &origins, &mut incoming);
    let (layers, bytes) = match brought {
        Ok(brought) => brought,
        Err(error) => {
            if let Err(error) = incoming.discard(remote.cx.launcher) {
                tracing::debug!(%error, "left for the next recovery");
            }
            return Err(error);
        }
    };
    incoming.commit(&origins.states)?;
    // The last one is that of the key: `Origins::parse` has seen it.
    let state = remote.cx.store.state(&signed.state)?;
    Ok(Some(Pulled { state, signer, layers, bytes }))
}

fn bring_layers(remote: &Remote<'_>, signed: &SignedState, origins: &Origins, incoming: &mut Incoming) -> Result<(usize, u64)> {
    let mut missing = Vec::new();
    for layer in &signed.layers {
        if !remote.cx.store.has_layer(&layer.id, &layer.contents, remote.cx.launcher)? {
            missing.push(layer);
        }
    }
    // What was here a moment ago, and is not now.
    remote.fetch(&missing)?;
    let (layers, bytes) = (missing.len(), missing.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size)));
    for layer in &missing {
        context::not_interrupted(remote.cx)?;
        let Some(meta) = origins.layers.iter().find(|meta| meta.id == layer.id) else {
            return Err(super::Flaw::Incomplete.into());
        };
        remote.unpack(layer, incoming)?;
        incoming.seal(meta.clone(), remote.cx.launcher)?;
    }
    remote.forget(&missing)?;
    Ok((layers, bytes))
}
