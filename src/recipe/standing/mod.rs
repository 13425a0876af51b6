//! A build key has two levels: what holds for all packages, and what holds for one package. If the configuration says something new about
//! a package that a state does not have and cannot get, the state stays valid.
//!
//! ```text
//! the key is that of a state                           it is reused
//! else the state that the name stands for:
//!   another input that holds for all                   it is built anew
//!   only packages are concerned (parts, trees):        one of them is in it, could come into it, or nobody knows: built anew
//!                                                      none of them: it is reused, and that is noted in the cache
//! ```
//!
//! Such a state still has the `/etc/portage` that it was built with. What is built on it gets the present one first: see
//! `Parts::changes_since` and [`crate::recipe::stage4`].

pub(crate) mod parts;
pub(crate) mod reach;

use std::collections::{BTreeMap, BTreeSet};

use crate::build_key::Inputs;
use crate::context::Context;
use crate::durable;
use crate::durable::Mode;
use crate::recipe::Result;
use crate::recipe::standing::parts::Parts;
use crate::store::{State, StateId};
use crate::trees::choose;
use crate::trees::choose::PinnedTree;

/// The input of a stage4 that says what has changed about packages since its base was made.
pub(crate) const SINCE_BASE: &str = "configuration of packages";

/// A state that is wanted but has no state under its key.
pub(crate) struct Asked<'a> {
    /// The name whose state may still be valid.
    pub(crate) name: &'a str,
    pub(crate) inputs: &'a Inputs,
    /// The parts of the configuration, if the state is made from one.
    pub(crate) parts: Option<&'a Parts>,
    pub(crate) packages: &'a [String],
    pub(crate) trees: &'a [PinnedTree],
}

/// What the state with this name is worth.
pub(crate) enum Standing {
    /// It is what would be built.
    Same(State),
    /// It is not what would be built, or there is none.
    Other,
    /// It is not what would be built, because of some packages. Why, one line each.
    Concerned(Vec<String>),
}

/// Whether the state of a name is what would be built although it has another key.
pub(crate) fn standing(cx: &Context<'_>, asked: &Asked<'_>) -> Result<Standing> {
    let key = asked.inputs.key();
    if let Some(state) = noted_standing(cx, &key) {
        return Ok(Standing::Same(state));
    }
    let Some(id) = cx.store.ref_get(asked.name)? else { return Ok(Standing::Other) };
    let Ok(state) = cx.store.state(&id) else { return Ok(Standing::Other) };
    let Some(old) = state.origin.inputs() else { return Ok(Standing::Other) };
    let Some(changed) = changed_packages(cx, asked, old, &state)? else { return Ok(Standing::Other) };
    if !changed.is_empty() {
        let names = changed.iter().map(String::as_str).collect();
        let concerned = reach::concerned(cx, &state, &names, asked.packages, asked.trees)?;
        if !concerned.is_empty() {
            return Ok(Standing::Concerned(concerned));
        }
    }
    tracing::debug!(name = asked.name, state = %state.id, ?changed, "the changes do not affect it");
    note_standing(cx, &key, &state.id);
    Ok(Standing::Same(state))
}

/// The packages about which something else is said than when `state` was made. `None` if something else holds for all packages.
fn changed_packages(cx: &Context<'_>, asked: &Asked<'_>, old: &Inputs, state: &State) -> Result<Option<BTreeSet<String>>> {
    let mut changed = BTreeSet::new();
    for input in asked.inputs.changed_since(old) {
        let list = |inputs: &Inputs| inputs.list(&input);
        let names: Option<BTreeSet<String>> = match input.as_str() {
            "configuration" => {
                let both = asked.parts.zip(state.origin.parts());
                both.and_then(|(now, before)| now.changes_since(before)).map(|changes| changes.into_keys().collect())
            }
            SINCE_BASE => Some(differing(&list(old), &list(asked.inputs))),
            "trees" => changed_in_trees(cx, &list(old), &list(asked.inputs), asked.trees)?,
            _ => None,
        };
        let Some(names) = names else { return Ok(None) };
        changed.extend(names);
    }
    Ok(Some(changed))
}

/// The packages in which overlays differ. `None` if there are other differences, or if an old tree is no longer here.
fn changed_in_trees(
    cx: &Context<'_>,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    trees: &[PinnedTree],
) -> Result<Option<BTreeSet<String>>> {
    if !old.keys().eq(new.keys()) {
        return Ok(None);
    }
    let mut changed = BTreeSet::new();
    for name in differing(old, new) {
        // The main tree comes first. A newer one also differs in what holds for all packages, such as eclasses and profiles.
        let tree = trees.iter().skip(1).find(|tree| tree.name == name);
        let before = choose::tree_with_digest(cx, &name, &old[&name])?;
        let Some((tree, before)) = tree.zip(before) else { return Ok(None) };
        let Some(packages) = crate::trees::compare::changed_packages(&before.path, &tree.path)? else { return Ok(None) };
        changed.extend(packages);
    }
    Ok(Some(changed))
}

fn noted_standing(cx: &Context<'_>, key: &str) -> Option<State> {
    let id: StateId = std::fs::read_to_string(cx.places.standing().join(key)).ok()?.trim().parse().ok()?;
    cx.store.state(&id).ok()
}

/// Notes the result, so that a pipeline of many stages need not look at each of them again. If it cannot be noted, we look again.
fn note_standing(cx: &Context<'_>, key: &str, state: &StateId) {
    let dir = cx.places.standing();
    let noted = std::fs::create_dir_all(&dir).map_err(|error| error.to_string()).and_then(|()| {
        let text = format!("{state}\n");
        durable::replace(&dir.join(key), text.as_bytes(), Mode::AtMost(0o600)).map_err(|error| error.to_string())
    });
    if let Err(error) = noted {
        tracing::debug!("cannot note that {state} stands: {error}");
    }
}

/// The names for which two lists of digests differ.
fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> BTreeSet<String> {
    old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}
