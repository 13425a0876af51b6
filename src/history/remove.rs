//! `rm`: takes names from build states. The states go with the next `clean`.
//!
//! A plan is made while other commands work, and shown. Then each name is locked, looked at again and removed by one removal of its file: a
//! name is there with its whole history or not at all, wherever the process is killed, and what of the plan is left can be removed by the
//! same words. What others have begun to use in between stays.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::history::{Error, Result};
use crate::names::named;
use crate::names::refs::{UPSTREAM, definition_lock, profile_lock};
use crate::store::{Lock, StateId, split_index};
use crate::{context, uses};

/// What a name may be called without.
const FAMILIES: [&str; 5] = ["tag/", "kept/", "stage4/", "kernel/", "kernel-sources/"];

/// A name that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NameToRemove {
    /// In full.
    pub name: String,
    pub state: StateId,
    /// What the state is, if it is there: `kept session`.
    pub kind: Option<String>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// How many earlier states are forgotten with it.
    pub previous: usize,
    /// What stands on it and stays, in words.
    pub left: Vec<String>,
}

/// What `rm` removes, or has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Removal {
    /// What stands on another one comes before it.
    pub names: Vec<NameToRemove>,
    /// States that have no name then. They stay in the store until `clean`, and a build with the same inputs uses them again.
    pub unnamed_states: usize,
    /// What only those have on the disk, bytes.
    pub unnamed_bytes: u64,
}

/// What `texts` name, and what becomes of it. Fails if one of them must stay.
pub(crate) fn remove_plan(cx: &Context<'_>, texts: &[String], force: bool) -> Result<Removal> {
    let _shared = context::share_store(cx)?;
    let names = texts.iter().map(|text| full_name(cx, text)).collect::<Result<BTreeSet<_>>>()?;
    let mut rows = names.iter().map(|name| removable(cx, name, &names, force)).collect::<Result<Vec<_>>>()?;
    // The younger ones first: they may stand on the others.
    rows.sort_by_cached_key(|row| Reverse((made(row), row.name.clone())));
    let (before, after) = (uses::reachable(cx, &BTreeSet::new())?, uses::reachable(cx, &names)?);
    let (unnamed_states, unnamed_bytes) = uses::unnamed(cx, before, &after)?;
    Ok(Removal { names: rows, unnamed_states, unnamed_bytes })
}

/// When its state was made. As text, times sort wrongly: their fractions have different lengths.
fn made(row: &NameToRemove) -> Option<jiff::Timestamp> {
    row.created.as_ref().and_then(|created| created.parse().ok())
}

/// Removes what is in `plan` and is as it was shown.
pub(crate) fn remove(cx: &Context<'_>, plan: &Removal, force: bool) -> Result<Removal> {
    let _shared = context::share_store(cx)?;
    let all: BTreeSet<String> = plan.names.iter().map(|row| row.name.clone()).collect();
    let before = uses::reachable(cx, &BTreeSet::new())?;
    let mut names = Vec::new();
    for shown in &plan.names {
        match remove_one(cx, shown, &all, force) {
            Ok(row) => names.push(row),
            Err(error) if names.is_empty() => return Err(error),
            Err(error) => {
                let removed = names.into_iter().map(|row: NameToRemove| row.name).collect();
                return Err(Error::Stopped { removed, source: Box::new(error) });
            }
        }
    }
    let (unnamed_states, unnamed_bytes) = uses::unnamed(cx, before, &uses::reachable(cx, &BTreeSet::new())?)?;
    Ok(Removal { names, unnamed_states, unnamed_bytes })
}

/// Removes one name under its locks, if nothing has happened to it since it was shown.
fn remove_one(cx: &Context<'_>, shown: &NameToRemove, all: &BTreeSet<String>, force: bool) -> Result<NameToRemove> {
    context::not_interrupted(cx)?;
    let _locks = locks(cx, &shown.name)?;
    let row = removable(cx, &shown.name, all, force)?;
    if row.state != shown.state || !cx.store.ref_remove(&row.name)? {
        return Err(Error::Moved { name: row.name });
    }
    Ok(row)
}

/// The full name that `text` means.
fn full_name(cx: &Context<'_>, text: &str) -> Result<String> {
    if split_index(text).0 != text {
        return Err(Error::EarlierState(text.to_owned()));
    }
    let known = cx.store.ref_names()?;
    let bare = text.strip_prefix("profile/").unwrap_or(text);
    if known.iter().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    if known.iter().any(|name| *name == format!("profile/{bare}/{UPSTREAM}")) {
        return Err(Error::OfProfile { name: text.to_owned(), profile: bare.to_owned() });
    }
    if cx.store.tree_refs()?.iter().any(|(name, _)| text.strip_prefix("tree/") == Some(name)) {
        return Err(Error::Tree(text.to_owned()));
    }
    let full = FAMILIES.map(|family| format!("{family}{text}"));
    let mut fits: Vec<String> = full.into_iter().filter(|name| known.contains(name)).collect();
    match fits.len() {
        // It says what was probably meant, and of an id which names it has.
        0 => Err(match named::named_ref(cx, text) {
            Ok(at) => Error::EarlierState(at.to_string()),
            Err(error) => error.into(),
        }),
        1 => Ok(fits.remove(0)),
        _ => Err(Error::SeveralNames { text: text.to_owned(), fits }),
    }
}

/// What there is of `name`, unless something keeps it from being removed together with `all`.
fn removable(cx: &Context<'_>, name: &str, all: &BTreeSet<String>, force: bool) -> Result<NameToRemove> {
    let history = cx.store.ref_history(name)?;
    let Some(present) = history.first() else { return Err(Error::Moved { name: name.to_owned() }) };
    if let Some((profile, UPSTREAM | BUILDER)) = name.strip_prefix("profile/").and_then(|rest| rest.split_once('/')) {
        return Err(Error::OfProfile { name: name.to_owned(), profile: profile.to_owned() });
    }
    if !force && let Some(definition) = defined(cx, name)? {
        return Err(Error::Defined { name: name.to_owned(), definition });
    }
    let mine = uses::states_of(cx, |other| other == name, |other| !all.contains(other))?;
    let running = uses::sessions_on(cx, &mine, true)?;
    if !running.is_empty() {
        return Err(Error::NameInUse { name: name.to_owned(), by: running, may_force: false });
    }
    let mut left = uses::sessions_on(cx, &mine, false)?;
    left.extend(uses::built_on(cx, &mine, all)?);
    if !left.is_empty() && !force {
        return Err(Error::NameInUse { name: name.to_owned(), by: left, may_force: true });
    }
    let state = cx.store.state(&present.value).ok();
    Ok(NameToRemove {
        name: name.to_owned(),
        state: present.value.clone(),
        kind: state.as_ref().and_then(|state| state.origin.kind()).map(str::to_owned),
        created: state.map(|state| state.created),
        previous: history.len() - 1,
        left,
    })
}

/// The definition that a name is of, if the configuration has it. Kept states, tags and kernel sources have none.
fn defined(cx: &Context<'_>, name: &str) -> Result<Option<String>> {
    let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
    if !["stage4", "profile", "kernel"].contains(&kind) {
        return Ok(None);
    }
    let config = ConfigDir::open(&cx.places.config)?;
    let on_profile = rest.split_once('/').map_or("", |(_, name)| name);
    Ok(match kind {
        "stage4" if config.has_stage4(rest)? => Some(format!("stage4.defines/{rest}")),
        "profile" if config.has_stage3(on_profile)? => Some(format!("stage3.defines/{on_profile}")),
        "kernel" if config.has_kernel(on_profile)? => Some(format!("kernel.configs/{on_profile}")),
        _ => None,
    })
}

/// The locks that builds of this name take, in their order.
fn locks(cx: &Context<'_>, name: &str) -> Result<Vec<Lock>> {
    let definition = name.strip_prefix("profile/").and_then(|rest| rest.split_once('/'));
    Ok(match definition {
        Some((profile, definition)) => {
            let shared = context::lock_shared(cx, &profile_lock(profile))?;
            vec![shared, context::lock(cx, &definition_lock(profile, definition))?]
        }
        None => vec![context::lock(cx, name)?],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_whatever_their_fractions() {
        let row = |created: &str| NameToRemove {
            name: String::new(),
            state: "a".repeat(32).parse().unwrap(),
            kind: None,
            created: Some(created.to_owned()),
            previous: 0,
            left: Vec::new(),
        };
        assert!(made(&row("2026-11-29T22:33:42.78Z")) < made(&row("2026-11-29T22:33:42.781Z")));
        assert!(made(&row("2026-11-29T22:33:42Z")) < made(&row("2026-11-29T22:33:42.1Z")));
    }
}
