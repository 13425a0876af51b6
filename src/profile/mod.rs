//! Profiles: which are bootstrapped, which one commands use by default, and what can be done to one as a whole.
//!
//! ```text
//! profile/NAME/upstream               the imported stage3
//! profile/NAME/gentoomuch/builder     the builder: its values, newest first, are `NAME`, `NAME@{1}`, `NAME@{2}`, …
//! profile/NAME/DEFINITION             other stage3 definitions that were built on it
//! data/default-profile                the name that commands use; while a profile is being renamed, its old and its new name
//! ```

pub mod history;
pub mod names;
pub mod show;
pub mod update;

use std::fs;

use serde::Serialize;

use crate::config::{BUILDER, Located};
use crate::durable;
use crate::error::{Error, Result};
use crate::profile::show::TreeShown;
use crate::recipe::definition::ref_name;
use crate::session::run;
use crate::session::run::Context;
use crate::store::{Lock, Wait};

/// Held while it is decided which profile is the default one. Taken after that of a profile, and so named to follow it.
const DEFAULT_LOCK: &str = "profiles";

/// One row of `profile ls`.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileRow {
    /// Its name.
    pub name: String,
    /// Whether commands use it when none is named.
    pub default: bool,
    /// The stage3 it was made from.
    pub stage3: Option<String>,
    /// Why it was taken although nobody had signed it.
    pub allow_unsigned: Option<String>,
    /// When its builder was committed, RFC 3339.
    pub builder: Option<String>,
    /// How many states its builder had before that can be gone back to.
    pub previous: usize,
    /// The tree snapshots that the builder was built with, by their ids where the store still has them.
    pub trees: Vec<TreeShown>,
    /// The other stage3 definitions that were built on it.
    pub definitions: Vec<String>,
}

/// Held by every command that uses the store, so that nothing it relies on is deleted meanwhile.
pub fn share_store(cx: &Context<'_>) -> Result<Lock> {
    let cancelled = || cx.interrupt.count() > 0;
    let mut notify = |busy: &crate::store::Busy| cx.observer.note(&format!("waiting: {busy}"));
    let wait = if cx.settings.no_wait { Wait::NoWait } else { Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled } };
    match cx.store.lock_shared(wait) {
        Err(crate::store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
        other => Ok(other?),
    }
}

/// Names of the bootstrapped profiles, sorted.
pub fn profiles(cx: &Context<'_>) -> Result<Vec<String>> {
    let refs = cx.store.refs()?;
    Ok(refs.iter().filter_map(|(name, _)| name.strip_prefix("profile/")?.strip_suffix("/upstream").map(str::to_owned)).collect())
}

/// Everything `profile ls` shows.
pub fn profile_rows(cx: &Context<'_>) -> Result<Vec<ProfileRow>> {
    let default = default_profile(cx)?;
    let refs = cx.store.refs()?;
    let mut rows = Vec::new();
    for name in profiles(cx)? {
        let prefix = format!("profile/{name}/");
        let mut row = ProfileRow {
            default: default.as_deref() == Some(&name),
            stage3: None,
            allow_unsigned: None,
            builder: None,
            previous: cx.store.ref_history(&ref_name(&name, BUILDER))?.len().saturating_sub(1),
            trees: Vec::new(),
            definitions: Vec::new(),
            name,
        };
        for (definition, id) in refs.iter().filter_map(|(name, id)| Some((name.strip_prefix(&prefix)?, id))) {
            let state = cx.store.state(id)?;
            match definition {
                "upstream" => {
                    row.stage3 = state.origin["name"].as_str().map(str::to_owned);
                    row.allow_unsigned = state.origin["allow_unsigned"].as_str().map(str::to_owned);
                }
                BUILDER => {
                    row.trees = show::trees_of(cx, &state.origin)?;
                    row.builder = Some(state.created);
                }
                other => row.definitions.push(other.to_owned()),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The profile that commands use when none is named.
pub fn default_profile(cx: &Context<'_>) -> Result<Option<String>> {
    let path = cx.places.data.join("default-profile");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    };
    let names: Vec<&str> = text.split_whitespace().collect();
    if names.len() < 2 {
        return Ok(names.first().map(|name| (*name).to_owned()));
    }
    // A renaming was cut off: it has either happened or not.
    let known = profiles(cx)?;
    let name = names.iter().find(|name| known.iter().any(|known| known == *name)).or(names.first());
    Ok(name.map(|name| (*name).to_owned()))
}

/// Sets it; the profile must be bootstrapped.
pub fn set_default_profile(cx: &Context<'_>, name: &str) -> Result<()> {
    let known = profiles(cx)?;
    if !known.iter().any(|profile| profile == name) {
        return Err(Error::NoProfile { profile: name.to_owned(), known, named_in: None });
    }
    let _default = run::lock(cx, DEFAULT_LOCK)?;
    write_default_profile(cx, &[name])
}

/// Writes the name, or the names of which the first that is bootstrapped counts.
pub(crate) fn write_default_profile(cx: &Context<'_>, names: &[&str]) -> Result<()> {
    let path = cx.places.data.join("default-profile");
    Ok(durable::replace(&path, format!("{}\n", names.join(" ")).as_bytes(), durable::Mode::AtMost(0o644))?)
}

/// The profile that a definition names; it must be bootstrapped.
pub(crate) fn profile_of(cx: &Context<'_>, named: &Located<String>) -> Result<String> {
    profile_or_default(cx, Some(&named.value)).map_err(|error| match error {
        Error::NoProfile { profile, known, .. } => Error::NoProfile { profile, known, named_in: Some(named.place()) },
        error => error,
    })
}

/// `named`, or the default one; it must be bootstrapped.
pub(crate) fn profile_or_default(cx: &Context<'_>, named: Option<&str>) -> Result<String> {
    let name = match named {
        Some(name) => name.to_owned(),
        None => default_profile(cx)?.ok_or(Error::NoDefaultProfile)?,
    };
    // What cannot be a name is none that is bootstrapped.
    if check_profile_name(&name).is_err() || cx.store.ref_get(&ref_name(&name, "upstream"))?.is_none() {
        return Err(Error::NoProfile { profile: name, known: profiles(cx)?, named_in: None });
    }
    Ok(name)
}

/// A profile's name is one component of a ref.
pub(crate) fn check_profile_name(name: &str) -> Result<()> {
    let usable = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    if usable { Ok(()) } else { Err(Error::Name { name: name.to_owned(), what: "a profile" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_names_are_one_component() {
        for name in ["musl-hardened", "demo", "a.b+c_d"] {
            assert!(check_profile_name(name).is_ok(), "{name}");
        }
        for name in ["", "..", "a/b", "-x", "ä", "a b", "a..b", "demo@{1}"] {
            assert!(check_profile_name(name).is_err(), "{name}");
        }
    }
}
