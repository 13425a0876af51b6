//! `rollback`: moves a name back to an earlier state.

use serde::Serialize;

use crate::config::ConfigDir;
use crate::context::Context;
use crate::history::{Error, Result, rollback};
use crate::names::named::RefAt;
use crate::names::profiles::{check_profile_name, profile_ref, profile_state, root_of};
use crate::names::refs::{profile_lock, ref_name};
use crate::names::{named, profiles};
use crate::recipe::definition::differs_from;
use crate::store::StateId;
use crate::{context, store};

/// A name that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Moved {
    /// The name in the store.
    pub name: String,
    /// The state before.
    pub from: Option<StateId>,
    /// The state now.
    pub to: StateId,
}

/// The result of [`profile_rollback`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RolledBack {
    pub profile: String,
    /// The names that moved; empty if all had the right state already.
    pub moved: Vec<Moved>,
    /// When the present state was made, RFC 3339.
    pub created: String,
    /// The inputs in which the present configuration differs from the state's: the next build from it moves the name forward again.
    pub differs: Vec<String>,
}

/// Moves a profile back to an earlier state: the previous one, or the `to`th before. This is a step like any other, so doing it twice
/// restores the first state. The name of the stage3 moves along.
pub(crate) fn profile_rollback(
    cx: &Context<'_>,
    named: Option<&str>,
    to: Option<usize>,
    config: Option<&ConfigDir>,
) -> Result<RolledBack> {
    let _shared = context::share_store(cx)?;
    if let Some(name) = named {
        check_profile_name(name)?;
    }
    let profile = profiles::profile_or_default(cx, named)?;
    let _lock = context::lock(cx, &profile_lock(&profile))?;
    let main = profile_ref(cx, &profile)?;
    let state = profile_state(cx, &profile, to.unwrap_or(1))?;
    let stage3 = root_of(cx, &state)?;
    let upstream = ref_name(&profile, "upstream");
    // An update refuses a builder that is not of the profile's stage3, so both names move. If we are stopped in between, the same command
    // has to finish the move. So the stage3 is first: positions are those of the builder's history, which is still as it was.
    let moved = rollback::move_names(cx, &[(&upstream, &stage3.id), (&main, &state.id)])?;
    let differs = config.and_then(|config| differs_from(cx, config, &state, &stage3)).unwrap_or_default();
    Ok(RolledBack { profile, moved, created: state.created, differs })
}

/// A name that moved back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WentBack {
    /// The name in full.
    pub name: String,
    /// The move; `None` if the name had that state already.
    pub moved: Vec<Moved>,
    /// When the present state was made, RFC 3339.
    pub created: String,
}

/// The result of [`rollback()`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum Rollback {
    /// A profile as a whole.
    Profile(RolledBack),
    /// One name.
    Name(WentBack),
}

/// Moves a name back to its previous value, or the `to`th before. A profile's builder takes its stage3 along, see
/// [`crate::history::rollback::profile_rollback`]. This is a step like any other, so doing it twice restores the first value.
pub(crate) fn rollback(cx: &Context<'_>, text: &str, to: Option<usize>, config: Option<&ConfigDir>) -> Result<Rollback> {
    let (bare, position) = store::split_index(text);
    if bare != text && to.is_some() {
        return Err(Error::TwoPositions(text.to_owned()));
    }
    let RefAt { name, kept, .. } = named::named_ref(cx, bare)?;
    let index = to.unwrap_or(if bare == text { 1 } else { position });
    if index >= kept {
        return Err(Error::NoValue { name, index, kept });
    }
    if let Some((profile, definition)) = name.strip_prefix("profile/").and_then(|rest| rest.split_once('/')) {
        if name == profiles::profile_ref(cx, profile)? {
            return Ok(Rollback::Profile(rollback::profile_rollback(cx, Some(profile), Some(index), config)?));
        }
        if definition == "upstream" {
            return Err(Error::Upstream { profile: profile.to_owned(), name });
        }
    }
    let _shared = context::share_store(cx)?;
    let profile = name.strip_prefix("profile/").and_then(|rest| rest.split('/').next()).map(profile_lock);
    let _lock = context::lock(cx, profile.as_deref().unwrap_or(&name))?;
    let target = named::named(cx, &format!("{name}@{{{index}}}"))?.state;
    let moved = move_names(cx, &[(&name, &target.id)])?;
    Ok(Rollback::Name(WentBack { name, moved, created: target.created }))
}

/// Moves names in this order; returns those that moved.
pub(crate) fn move_names(cx: &Context<'_>, targets: &[(&str, &StateId)]) -> Result<Vec<Moved>> {
    let mut moved: Vec<Moved> = Vec::new();
    for (name, target) in targets {
        let from = cx.store.ref_get(name)?;
        if from.as_ref() != Some(target) && !moved.iter().any(|known| known.name == *name) {
            cx.store.ref_set(name, target)?;
            moved.push(Moved { name: (*name).to_owned(), from, to: (*target).clone() });
        }
    }
    Ok(moved)
}
