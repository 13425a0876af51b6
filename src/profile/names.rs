//! Removes and renames profiles. Only names change, never states.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::context;
use crate::context::Context;
use crate::names::profiles;
use crate::names::profiles::{DEFAULT_LOCK, check_profile_name};
use crate::names::refs::{kernel_prefixes, profile_lock};
use crate::path_error::OfFile as _;
use crate::profile::{Error, Result};
use crate::uses;

/// The result of [`profile_remove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemovedProfile {
    pub profile: String,
    /// The removed names, each with its history.
    pub refs: Vec<String>,
    /// Whether it was the default profile; then there is none now.
    pub was_default: bool,
    /// What was built on it and stays: `stage4 web`, `kept with-hello`.
    pub left: Vec<String>,
    /// How many states have no name any more. They stay in the store, and a build with the same inputs reuses them.
    pub unnamed_states: usize,
    /// Size on disk of layers that only those states have, bytes.
    pub unnamed_bytes: u64,
}

/// The result of [`profile_rename`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RenamedProfile {
    /// Its former name.
    pub from: String,
    /// Its name.
    pub to: String,
    /// Its names in the store now.
    pub refs: Vec<String>,
    /// Whether it is the default profile.
    pub is_default: bool,
    /// Where stage4 definitions still use the old name: `stage4.defines/web/profile:1`.
    pub named_at: Vec<String>,
}

/// Removes a profile's names. Fails if something uses it or was built on it, unless `force`.
pub(crate) fn profile_remove(cx: &Context<'_>, profile: &str, force: bool) -> Result<RemovedProfile> {
    let _shared = context::share_store(cx)?;
    let profile = profiles::profile_or_default(cx, Some(profile))?;
    let _lock = context::lock(cx, &profile_lock(&profile))?;
    let prefix = format!("profile/{profile}/");
    // Profiles from one stage3 share its state.
    let mine = uses::states_of(cx, |name| name.starts_with(&prefix), |name| name.starts_with("profile/"))?;
    let running = uses::sessions_on(cx, &mine, true)?;
    if !running.is_empty() {
        return Err(Error::InUse { profile, by: running, may_force: false });
    }
    let left = uses::built_on(cx, &mine, &BTreeSet::new())?;
    let by: Vec<String> = uses::sessions_on(cx, &mine, false)?.into_iter().chain(left.clone()).collect();
    if !by.is_empty() && !force {
        return Err(Error::InUse { profile, by, may_force: true });
    }
    let _default = context::lock(cx, DEFAULT_LOCK)?;
    let was_default = profiles::default_profile(cx)?.as_deref() == Some(&profile);
    if was_default {
        let path = cx.places.data.join("default-profile");
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let before = uses::reachable(cx, &BTreeSet::new())?;
    let mut refs = cx.store.ref_names()?;
    let kernels = kernel_prefixes(&profile).map(|prefix| format!("{prefix}/"));
    refs.retain(|name| name.starts_with(&prefix) || kernels.iter().any(|prefix| name.starts_with(prefix)));
    // The stage3 goes last: as long as it is there the profile exists, and a killed run can be repeated.
    refs.sort_by_key(|name| (*name == format!("{prefix}upstream"), name.clone()));
    for name in &refs {
        cx.store.ref_remove(name)?;
    }
    let (unnamed_states, unnamed_bytes) = uses::unnamed(cx, before, &uses::reachable(cx, &BTreeSet::new())?)?;
    Ok(RemovedProfile { profile, refs, was_default, left, unnamed_states, unnamed_bytes })
}

/// Renames a profile with all names below it, by one rename. Definitions that use the old name are only reported.
pub(crate) fn profile_rename(cx: &Context<'_>, old: &str, new: &str, config: Option<&ConfigDir>) -> Result<RenamedProfile> {
    let _shared = context::share_store(cx)?;
    check_profile_name(new)?;
    let profile = profiles::profile_or_default(cx, Some(old))?;
    // Locks are taken in the order of their names.
    let mut both = [profile.as_str(), new];
    both.sort_unstable();
    let _first = context::lock(cx, &profile_lock(both[0]))?;
    // Taking the same lock twice would wait for ourselves.
    let _second = if both[0] == both[1] { None } else { Some(context::lock(cx, &profile_lock(both[1]))?) };
    if profiles::profiles(cx)?.iter().any(|known| known == new) {
        return Err(Error::Exists { profile: new.to_owned() });
    }
    let _default = context::lock(cx, DEFAULT_LOCK)?;
    let is_default = profiles::default_profile(cx)?.as_deref() == Some(old);
    if is_default {
        // With both names in the file, the one that exists counts, so this may be killed at any point.
        profiles::write_default_profile(cx, &[old, new])?;
    }
    cx.store.refs_rename(&format!("profile/{old}"), &format!("profile/{new}"))?;
    for (old, new) in kernel_prefixes(old).into_iter().zip(kernel_prefixes(new)) {
        // Kernels are found by their keys. If this is killed in between, they lose only their names.
        if cx.store.ref_names()?.iter().any(|name| name.starts_with(&format!("{old}/"))) {
            cx.store.refs_rename(&old, &new)?;
        }
    }
    if is_default {
        profiles::write_default_profile(cx, &[new])?;
    }
    let prefix = format!("profile/{new}/");
    let refs = cx.store.ref_names()?.into_iter().filter(|name| name.starts_with(&prefix)).collect();
    let named_at = config.map(|config| config.stage4s_on(old)).unwrap_or_default();
    let named_at = named_at.into_iter().map(|place| place.to_string()).collect();
    Ok(RenamedProfile { from: old.to_owned(), to: new.to_owned(), refs, is_default, named_at })
}
