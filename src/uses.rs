//! What build states are for: which names lead to them, what stands on them, and what loses its last name when names go.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::context::{Context, Result};
use crate::inventory::bytes_of;
use crate::names::profiles::joined;
use crate::origin::Origin;
use crate::store;
use crate::store::{SessionStatus, State, StateId};

/// One reason why a state is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "use", rename_all = "kebab-case")]
pub(crate) enum Use {
    /// A name stands for it now.
    Named { name: String },
    /// What a name stands for was made from it.
    BaseOf { name: String },
    /// A session works on it.
    Session { session: String, of: String },
    /// A suspended session on it can go on.
    ResumeOf { session: String, of: String },
    /// A name stood for it before: `stage4/web@{1}`.
    Earlier { name: String },
}

/// The state that `state` was built on, as users know it. If that is a base with a kernel, it is the base.
pub(crate) fn built_from(cx: &Context<'_>, state: &State) -> Result<Option<StateId>> {
    let Some(id) = &state.parent else { return Ok(None) };
    let parent = match cx.store.state(id) {
        // It may come back from a backup.
        Err(store::Error::NoSuchState(_)) => return Ok(Some(id.clone())),
        parent => parent?,
    };
    Ok(if matches!(*parent.origin, Origin::BaseWithKernel(_)) { parent.parent } else { Some(parent.id) })
}

/// The states that names of `mine` have or had, and no name of `others`.
pub(crate) fn states_of(cx: &Context<'_>, mine: impl Fn(&str) -> bool, others: impl Fn(&str) -> bool) -> Result<BTreeSet<StateId>> {
    let (mut own, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for (name, values) in cx.store.readable_histories()? {
        let values = values.into_iter().map(|entry| entry.value);
        if mine(&name) {
            own.extend(values);
        } else if others(&name) {
            shared.extend(values);
        }
    }
    Ok(own.difference(&shared).cloned().collect())
}

/// Sessions on one of `states`, in words: the active or the suspended ones.
pub(crate) fn sessions_on(cx: &Context<'_>, states: &BTreeSet<StateId>, active: bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for session in cx.store.sessions()? {
        let base = session.base.as_ref();
        // A stage4 with a kernel is built on a state that has no name of its own.
        let below =
            base.and_then(|base| cx.store.state(base).ok()).filter(|base| matches!(*base.origin, Origin::BaseWithKernel(_)));
        let on = |id: &StateId| states.contains(id);
        if base.is_some_and(on) || below.and_then(|below| below.parent).as_ref().is_some_and(on) {
            match &session.status {
                SessionStatus::Active if active => found.push(format!("a {} session is running in it", session.purpose)),
                SessionStatus::Suspended { note, .. } if !active => {
                    found.push(format!("a {} session on it is suspended: {note}", session.purpose));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What was built on one of `states`, in words. What `without` names does not count.
pub(crate) fn built_on(cx: &Context<'_>, states: &BTreeSet<StateId>, without: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, id) in cx.store.refs()?.into_iter().filter(|(name, _)| !without.contains(name)) {
        let Some((kind, rest)) = name.split_once('/').filter(|(kind, _)| ["stage4", "kept"].contains(kind)) else { continue };
        let state = match cx.store.state(&id) {
            Err(store::Error::NoSuchState(_)) => continue,
            state => state?,
        };
        let parent = built_from(cx, &state)?;
        if parent.is_some_and(|parent| states.contains(&parent)) {
            found.push(format!("{kind} `{rest}` was built on it"));
        }
    }
    Ok(found)
}

/// All states that a name has or had or that a session uses, with those below them. What `without` names does not count.
pub(crate) fn reachable(cx: &Context<'_>, without: &BTreeSet<String>) -> Result<Vec<State>> {
    let mut waiting: Vec<StateId> = Vec::new();
    for (_, values) in cx.store.readable_histories()?.into_iter().filter(|(name, _)| !without.contains(name)) {
        waiting.extend(values.into_iter().map(|entry| entry.value));
    }
    waiting.extend(cx.store.sessions()?.into_iter().filter_map(|session| session.base));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        // A name's history may contain removed states.
        let Ok(state) = cx.store.state(&id) else { continue };
        waiting.extend(state.parent.clone());
        found.push(state);
    }
    Ok(found)
}

/// How many states of `before` are not in `after`, and how many bytes only those have on disk.
pub(crate) fn unnamed(cx: &Context<'_>, before: Vec<State>, after: &[State]) -> Result<(usize, u64)> {
    let kept: BTreeSet<&StateId> = after.iter().map(|state| &state.id).collect();
    let lost: Vec<State> = before.into_iter().filter(|state| !kept.contains(&state.id)).collect();
    Ok((lost.len(), bytes_of(cx, &lost, after)?))
}

/// What each state is for. A state that is not in it is for nothing.
pub(crate) fn uses(cx: &Context<'_>) -> Result<BTreeMap<StateId, BTreeSet<Use>>> {
    let states: BTreeMap<StateId, State> = cx.store.states()?.into_iter().map(|state| (state.id.clone(), state)).collect();
    let mut named = Vec::new();
    for (name, values) in cx.store.readable_histories()? {
        named.extend(values.into_iter().enumerate().map(|(at, entry)| (name.clone(), at, entry.value)));
    }
    let present: BTreeSet<&StateId> = named.iter().filter(|(_, at, _)| *at == 0).map(|(_, _, id)| id).collect();
    let mut found: BTreeMap<StateId, BTreeSet<Use>> = BTreeMap::new();
    // A base without a name, such as that with a kernel, is there for the same as what stands on it.
    let below = |id: &StateId| {
        let mut bases = Vec::new();
        let mut next = states.get(id).and_then(|state| state.parent.clone());
        while let Some(base) = next.filter(|base| !bases.contains(base)) {
            next = if present.contains(&base) { None } else { states.get(&base).and_then(|state| state.parent.clone()) };
            bases.push(base);
        }
        bases
    };
    for (name, at, id) in &named {
        let shown = joined(name, *at);
        let own = if *at == 0 { Use::Named { name: shown.clone() } } else { Use::Earlier { name: shown.clone() } };
        found.entry(id.clone()).or_default().insert(own);
        for base in below(id) {
            found.entry(base).or_default().insert(Use::BaseOf { name: shown.clone() });
        }
    }
    for record in cx.store.sessions()? {
        let Some(base) = record.base else { continue };
        // After the name comes where its definition is.
        let subject = record.subject.as_ref().and_then(|subject| subject.split(' ').next());
        let (session, of) = (record.id.to_string(), subject.map_or_else(|| record.purpose.to_string(), str::to_owned));
        found.entry(base).or_default().insert(match record.status {
            SessionStatus::Active => Use::Session { session, of },
            SessionStatus::Suspended { .. } => Use::ResumeOf { session, of },
        });
    }
    found.retain(|id, _| states.contains_key(id));
    Ok(found)
}
