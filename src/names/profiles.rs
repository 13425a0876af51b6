//! Profiles: the bootstrapped ones, the default one, and the states that one had, `NAME@{N}`.

use std::fs;

use crate::config::{BUILDER, Located};
use crate::context::Context;
use crate::names::refs::ref_name;
use crate::names::{Error, Result, profiles};
use crate::path_error::OfFile as _;
use crate::store::{State, StateId};
use crate::{context, durable, store};

/// Held while the default profile is chosen. Locks are taken by order of name, and this one sorts after a profile's.
pub(crate) const DEFAULT_LOCK: &str = "profiles";

/// Names of the bootstrapped profiles, sorted.
pub(crate) fn profiles(cx: &Context<'_>) -> Result<Vec<String>> {
    let refs = cx.store.refs()?;
    Ok(refs.iter().filter_map(|(name, _)| name.strip_prefix("profile/")?.strip_suffix("/upstream").map(str::to_owned)).collect())
}

/// The profile that commands use when none is named.
pub(crate) fn default_profile(cx: &Context<'_>) -> Result<Option<String>> {
    let path = cx.places.data.join("default-profile");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path)(source)),
    };
    let names: Vec<&str> = text.split_whitespace().collect();
    if names.len() < 2 {
        return Ok(names.first().map(|name| (*name).to_owned()));
    }
    // The file has two names if a renaming was killed: the profile has one of them.
    let known = profiles(cx)?;
    let name = names.iter().find(|name| known.iter().any(|known| known == *name)).or(names.first());
    Ok(name.map(|name| (*name).to_owned()))
}

/// Sets it; the profile must be bootstrapped.
pub(crate) fn set_default_profile(cx: &Context<'_>, name: &str) -> Result<()> {
    let known = profiles(cx)?;
    if !known.iter().any(|profile| profile == name) {
        return Err(Error::NoProfile { profile: name.to_owned(), known, named_in: None });
    }
    let _default = context::lock(cx, DEFAULT_LOCK)?;
    write_default_profile(cx, &[name])
}

/// Writes the default profile: a name, or several of which the first bootstrapped one counts.
pub(crate) fn write_default_profile(cx: &Context<'_>, names: &[&str]) -> Result<()> {
    let path = cx.places.data.join("default-profile");
    Ok(durable::replace(&path, format!("{}\n", names.join(" ")).as_bytes(), durable::Mode::AtMost(0o644))?)
}

/// The bootstrapped profile that a definition names.
pub(crate) fn profile_of(cx: &Context<'_>, named: &Located<String>) -> Result<String> {
    profile_or_default(cx, Some(&named.value)).map_err(|error| match error {
        Error::NoProfile { profile, known, .. } => Error::NoProfile { profile, known, named_in: Some(named.place()) },
        error => error,
    })
}

/// The bootstrapped profile `named`, or the default one.
pub(crate) fn profile_or_default(cx: &Context<'_>, named: Option<&str>) -> Result<String> {
    let name = match named {
        Some(name) => name.to_owned(),
        None => default_profile(cx)?.ok_or(Error::NoDefaultProfile)?,
    };
    // An invalid name cannot be that of a bootstrapped profile.
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

/// `NAME`, or `NAME@{N}`.
pub(crate) fn joined(name: &str, index: usize) -> String {
    if index == 0 { name.to_owned() } else { format!("{name}@{{{index}}}") }
}

/// The profile and position meant by `NAME` or `NAME@{N}`; the default profile if `None`.
pub(crate) fn profile_and_index(cx: &Context<'_>, named: Option<&str>) -> Result<(String, usize)> {
    let (name, index) = named.map_or((None, 0), |text| {
        let (name, index) = crate::store::split_index(text);
        (Some(name), index)
    });
    let name = profiles::profile_or_default(cx, name)?;
    let kept = cx.store.ref_history(&profile_ref(cx, &name)?)?.len();
    if index >= kept {
        return Err(Error::NoProfileState { profile: name, index, kept });
    }
    Ok((name, index))
}

/// The ref whose history is the profile's: the builder's, or the stage3's until there is a builder.
pub(crate) fn profile_ref(cx: &Context<'_>, profile: &str) -> Result<String> {
    let builder = ref_name(profile, BUILDER);
    Ok(if cx.store.ref_get(&builder)?.is_some() { builder } else { ref_name(profile, "upstream") })
}

/// A state of a profile with all its layers.
pub(crate) fn profile_state(cx: &Context<'_>, profile: &str, index: usize) -> Result<State> {
    let name = profile_ref(cx, profile)?;
    let id = match cx.store.ref_get(&joined(&name, index)) {
        Ok(Some(id)) => id,
        Ok(None) => return Err(Error::NoProfile { profile: profile.to_owned(), known: profiles::profiles(cx)?, named_in: None }),
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

/// A state with all its layers.
pub(crate) fn complete_state(cx: &Context<'_>, id: &StateId) -> store::Result<State> {
    let state = cx.store.state(id)?;
    for layer in &state.layers {
        cx.store.layer(layer)?;
    }
    Ok(state)
}

/// A profile's imported stage3.
pub(crate) fn upstream(cx: &Context<'_>, profile: &str) -> Result<State> {
    match cx.store.ref_get(&ref_name(profile, "upstream"))? {
        Some(id) => Ok(cx.store.state(&id)?),
        None => Err(Error::NoProfile { profile: profile.to_owned(), known: profiles::profiles(cx)?, named_in: None }),
    }
}

/// The stage3 that a state was made from.
pub(crate) fn root_of(cx: &Context<'_>, state: &State) -> Result<State> {
    let mut at = state.clone();
    while let Some(parent) = &at.parent {
        at = cx.store.state(parent)?;
    }
    Ok(at)
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
