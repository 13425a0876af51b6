//! Publishes a state with all that it was made from.

use std::collections::BTreeMap;

use super::document::{MANIFEST_TYPE, Manifest, Origins, SignedLayer, SignedState, Statement, is_key, tag_of};
use super::{Error, Remote, Result};
use crate::context::{self, Context};
use crate::registry::Blob;
use crate::store::{LayerId, State, StateId};

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// What was published: the state, and those that it was made from.
    pub(crate) states: Vec<StateId>,
    /// Keys that were there already.
    pub(crate) there: usize,
    /// Who signed.
    pub(crate) signer: Option<String>,
}

/// A state that is ready but for its signature.
struct Ready {
    state: State,
    origin: Blob,
    signed: SignedState,
}

/// Publishes `state`, and what it was made from, under their keys, signed with its `name`. What is there and whole stays as it is.
pub(crate) fn push(remote: &Remote<'_>, state: &State, name: Option<&str>) -> Result<Pushed> {
    let chain = made_from(remote.cx, state)?;
    let tags: Vec<String> = chain.iter().map(|state| tag_of(&state.key)).collect();
    let there = remote.repository.has(&tags)?;
    let mut pushed = Pushed { states: Vec::new(), there: 0, signer: None };
    let (mut layers, mut ready) = (BTreeMap::new(), Vec::new());
    for (at, state) in chain.iter().enumerate() {
        if !is_key(&state.key) {
            continue;
        }
        if there.contains(&tags[at]) && is_whole(remote, &state.key)? {
            pushed.there += 1;
        } else {
            if ready.is_empty() && !remote.settings.signs() {
                // Packing takes long.
                remote.settings.gpg.try_out().map_err(|source| Error::Sign { place: remote.shown(), source })?;
            }
            let own = name.filter(|_| at + 1 == chain.len()).map(str::to_owned);
            let name = own.or_else(|| name_of(remote.cx, &state.id));
            ready.push(prepared(remote, &chain[..=at], name, &mut layers)?);
        }
    }
    if ready.is_empty() {
        return Ok(pushed);
    }
    let text = Statement::new(ready.iter().map(|ready| ready.signed.clone()).collect()).text();
    let signed = remote.settings.gpg.clear_sign(&text).map_err(|source| Error::Sign { place: remote.shown(), source })?;
    context::not_interrupted(remote.cx)?;
    let statement = remote.put(&signed.bytes)?;
    for Ready { state: of, origin, signed } in ready {
        // What somebody has collected meanwhile, the manifest must not name.
        for blob in signed.layers.iter().map(SignedLayer::blob).chain([origin.clone(), statement.clone()]) {
            if !remote.repository.has_blob(&blob)? {
                return Err(Error::Collected { place: remote.shown(), digest: blob.digest });
            }
        }
        let manifest = Manifest::new(&of, signed.name.as_deref(), &origin, &statement, &signed.layers);
        remote.repository.put_manifest(&tag_of(&of.key), MANIFEST_TYPE, &manifest.bytes())?;
        pushed.states.push(of.id);
    }
    pushed.signer = Some(signed.fingerprint.to_string());
    Ok(pushed)
}

/// A state and all that it was made from, which comes first.
pub(super) fn made_from(cx: &Context<'_>, state: &State) -> Result<Vec<State>> {
    let mut chain = vec![state.clone()];
    if !is_key(&state.key) {
        return Err(Error::NoKey { state: state.id.clone() });
    }
    while let Some(parent) = chain.last().and_then(|state| state.parent.clone()) {
        chain.push(cx.store.state(&parent)?);
    }
    chain.reverse();
    // What has no key goes with those that were made from it.
    Ok(chain)
}

/// Puts the layers and the origin of the last of `states`.
fn prepared(
    remote: &Remote<'_>,
    states: &[State],
    name: Option<String>,
    layers: &mut BTreeMap<LayerId, SignedLayer>,
) -> Result<Ready> {
    let Some(state) = states.last() else { return Err(Error::None) };
    let mut wanted: Vec<&LayerId> = states.iter().flat_map(|state| &state.layers).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let (mut signed, mut described) = (Vec::new(), Vec::new());
    for id in wanted {
        context::not_interrupted(remote.cx)?;
        if !layers.contains_key(id) {
            layers.insert(id.clone(), remote.put_layer(id)?);
        }
        signed.extend(layers.get(id).cloned());
        described.push(remote.cx.store.layer(id)?.meta);
    }
    let origins = Origins { states: states.to_vec(), layers: described };
    let origin = remote.put(&origins.bytes()?)?;
    let (key, id) = (state.key.clone(), state.id.clone());
    let signed = SignedState { key, state: id, name, origin: origin.digest.clone(), layers: signed };
    Ok(Ready { state: state.clone(), origin, signed })
}

/// Whether what is there counts here and has all its blobs. Else it is replaced.
fn is_whole(remote: &Remote<'_>, key: &str) -> Result<bool> {
    let found = match remote.look(key) {
        Ok(found) => found,
        Err(error @ (Error::NotTrusted { .. } | Error::Flaw(_) | Error::Registry(_))) if !error.is_of_the_way() => {
            remote.cx.observer.warn(&format!("replacing what is there for {}: {}", key, crate::causes::in_one_line(&error)));
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let Some(found) = found else { return Ok(false) };
    for blob in found.signed.layers.iter().map(SignedLayer::blob).chain([found.origin]) {
        if !remote.repository.has_blob(&blob)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name that leads to the state.
fn name_of(cx: &Context<'_>, id: &StateId) -> Option<String> {
    cx.store.refs().ok()?.into_iter().find(|(_, value)| value == id).map(|(name, _)| name)
}
