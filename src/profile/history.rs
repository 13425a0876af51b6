//! The states that a profile had: `NAME@{N}`, and going back to one.

use serde::Serialize;

use crate::build_key::Inputs;
use crate::config::{BUILDER, ConfigDir};
use crate::error::{Error, Result};
use crate::history::log;
use crate::profile::check_profile_name;
use crate::recipe::definition;
use crate::recipe::definition::{profile_lock, ref_name};
use crate::session::run;
use crate::session::run::Context;
use crate::store::{State, StateId};
use crate::{profile, store};

/// A name that has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The name in the store.
    pub name: String,
    /// What it named.
    pub from: Option<StateId>,
    /// What it names now.
    pub to: StateId,
}

/// What [`profile_rollback`] has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The profile.
    pub profile: String,
    /// The names that have moved; none where each named the right state already.
    pub moved: Vec<Moved>,
    /// When the state that it has now was made, RFC 3339.
    pub created: String,
    /// The inputs in which the configuration now in force differs from the state's: the next command that builds by it goes forward again.
    pub differs: Vec<String>,
}

/// `NAME`, or `NAME@{N}`.
pub(crate) fn joined(name: &str, index: usize) -> String {
    if index == 0 { name.to_owned() } else { format!("{name}@{{{index}}}") }
}

/// The profile meant by `NAME` or `NAME@{N}` (the default one if `None`), and which of its states.
pub(crate) fn profile_and_index(cx: &Context<'_>, named: Option<&str>) -> Result<(String, usize)> {
    let (name, index) = named.map_or((None, 0), |text| {
        let (name, index) = crate::store::split_index(text);
        (Some(name), index)
    });
    let name = profile::profile_or_default(cx, name)?;
    let kept = cx.store.ref_history(&profile_ref(cx, &name)?)?.len();
    if index >= kept {
        return Err(Error::NoProfileState { profile: name, index, kept });
    }
    Ok((name, index))
}

/// The ref whose history is the profile's: its builder's, or that of its stage3 as long as there is no builder.
pub(crate) fn profile_ref(cx: &Context<'_>, profile: &str) -> Result<String> {
    let builder = ref_name(profile, BUILDER);
    Ok(if cx.store.ref_get(&builder)?.is_some() { builder } else { ref_name(profile, "upstream") })
}

/// A state of a profile, complete: neither it nor a layer of it was removed.
pub(crate) fn profile_state(cx: &Context<'_>, profile: &str, index: usize) -> Result<State> {
    let name = profile_ref(cx, profile)?;
    let id = match cx.store.ref_get(&joined(&name, index)) {
        Ok(Some(id)) => id,
        Ok(None) => return Err(Error::NoProfile { profile: profile.to_owned(), known: profile::profiles(cx)?, named_in: None }),
        Err(store::Error::NoSuchRefEntry { kept, .. }) => {
            return Err(Error::NoProfileState { profile: profile.to_owned(), index, kept });
        }
        Err(error) => return Err(error.into()),
    };
    complete_state(cx, &id).map_err(|source| match source {
        store::Error::NoSuchState(_) | store::Error::NoSuchLayer(_) => Error::StateGone { name: joined(profile, index), source },
        other => other.into(),
    })
}

/// A state with all its layers there.
pub(crate) fn complete_state(cx: &Context<'_>, id: &StateId) -> store::Result<State> {
    let state = cx.store.state(id)?;
    for layer in &state.layers {
        cx.store.layer(layer)?;
    }
    Ok(state)
}

/// The stage3 that a state was made from.
pub(crate) fn root_of(cx: &Context<'_>, state: &State) -> Result<State> {
    let mut at = state.clone();
    while let Some(parent) = &at.parent {
        at = cx.store.state(parent)?;
    }
    Ok(at)
}

/// Goes back to a state that the profile had: its previous one, or the `to`th before. Going back is a step as any other: doing it twice is
/// as not doing it. With the stage3 of a state comes the name of it.
pub fn profile_rollback(
    cx: &Context<'_>,
    named: Option<&str>,
    to: Option<usize>,
    config: Option<&ConfigDir>,
) -> Result<RolledBack> {
    let _shared = profile::share_store(cx)?;
    if let Some(name) = named {
        check_profile_name(name)?;
    }
    let profile = profile::profile_or_default(cx, named)?;
    let _lock = run::lock(cx, &profile_lock(&profile))?;
    let main = profile_ref(cx, &profile)?;
    let state = profile_state(cx, &profile, to.unwrap_or(1))?;
    let stage3 = root_of(cx, &state)?;
    let upstream = ref_name(&profile, "upstream");
    // The stage3 first: a builder without its stage3 is refused by an update, the other way round nothing is amiss.
    let moved = log::move_names(cx, &[(&upstream, &stage3.id), (&main, &state.id)])?;
    let differs = config.and_then(|config| differs_from(cx, config, &state, &stage3)).unwrap_or_default();
    Ok(RolledBack { profile, moved, created: state.created, differs })
}

/// In which inputs the configuration differs from what a builder was built with; `None` where that cannot be told.
pub(crate) fn differs_from(cx: &Context<'_>, config: &ConfigDir, state: &State, stage3: &State) -> Option<Vec<String>> {
    let definition = state.origin["definition"].as_str()?;
    let before: Inputs = serde_json::from_value(state.origin["inputs"].clone()).ok()?;
    // A configuration that is broken now says so when it is used.
    let recipe =
        definition::recipe(cx, config, definition, stage3).inspect_err(|error| tracing::debug!(%error, "not compared")).ok()?;
    Some(recipe.inputs(stage3, definition).changed_since(&before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_in_the_history() {
        for (text, parts) in [
            ("demo", ("demo", 0)),
            ("demo@{1}", ("demo", 1)),
            ("demo@{12}", ("demo", 12)),
            ("demo@{x}", ("demo@{x}", 0)),
            ("demo@1", ("demo@1", 0)),
            ("@{1}", ("", 1)),
        ] {
            assert_eq!(crate::store::split_index(text), parts, "{text}");
        }
        assert_eq!((joined("a", 0).as_str(), joined("a", 3).as_str()), ("a", "a@{3}"));
    }
}
