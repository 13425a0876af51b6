//! What recipes ask: a state by its key, before it is built, and to publish it afterwards. No failure of a remote is one of the build.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{is_key, key_of, tag_of};
use super::{Error, Remote, Result, package, pull, pull_packages, push, push_packages};
use crate::causes::in_one_line;
use crate::context::{self, Context};
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::store::State;

/// The state with this key, if there is a remote that has it, signed by who counts.
///
/// # Errors
///
/// The user has interrupted it. Everything else is a note or a warning, and the state is built.
pub(crate) fn bring(cx: &Context<'_>, key: &str, words: &str) -> context::Result<Option<State>> {
    let Some(settings) = cx.settings.remote.as_deref().filter(|settings| !settings.is_down()) else { return Ok(None) };
    match Remote::open(cx).and_then(|remote| pull(&remote, key, None)) {
        Ok(None) => Ok(None),
        Ok(Some(pulled)) => {
            let whose = pulled.signer.primary.to_string();
            settings.note_fetched(&pulled.state.id);
            cx.observer.note(&format!("{words} came from {}, signed by {whose}", settings.address));
            Ok(Some(pulled.state))
        }
        Err(error) => told(cx, error, &format!("{words} is built here")).map(|()| None),
    }
}

/// Those of `keys` that the remote has, all of them asked for at once. Whether what it has counts is seen when it is brought.
///
/// # Errors
///
/// The user has interrupted it.
pub(crate) fn known(cx: &Context<'_>, keys: &[&str]) -> context::Result<BTreeSet<String>> {
    let there = cx.settings.remote.as_deref().is_some_and(|settings| !settings.is_down());
    let tags: Vec<String> = keys.iter().filter(|key| there && is_key(key)).map(|key| tag_of(key)).collect();
    if tags.is_empty() {
        return Ok(BTreeSet::new());
    }
    let has = |remote: Remote<'_>| -> Result<BTreeSet<String>> { Ok(remote.repository.has(&tags)?) };
    match Remote::open(cx).and_then(has) {
        Ok(tags) => Ok(tags.iter().filter_map(|tag| key_of(tag)).collect()),
        Err(error) => told(cx, error, "all is built here").map(|()| BTreeSet::new()),
    }
}

/// Says before anything is built if it cannot be published, since nobody can sign it.
///
/// # Errors
///
/// The user has interrupted it.
pub(crate) fn foresee(cx: &Context<'_>) -> context::Result<()> {
    let Some(settings) = cx.settings.remote.as_deref().filter(|settings| settings.publishes()) else { return Ok(()) };
    let Err(source) = settings.try_signer() else { return Ok(()) };
    told(cx, Error::Sign { place: settings.address.to_string(), source }, "what is built is not pushed")
}

/// Publishes what was built, if the user wants that.
///
/// # Errors
///
/// The user has interrupted it.
pub(crate) fn publish(cx: &Context<'_>, state: &State, name: Option<&str>) -> context::Result<()> {
    let Some(settings) = cx.settings.remote.as_deref().filter(|settings| settings.publishes()) else {
        return Ok(());
    };
    match Remote::open(cx).and_then(|remote| push(&remote, state, name)) {
        Ok(pushed) if pushed.states.is_empty() => {}
        Ok(_) => cx.observer.note(&format!("pushed {} to {}", state.id, settings.address)),
        Err(error) => return told(cx, error, &format!("build state {} was not pushed", state.id)),
    }
    match Remote::open(cx).and_then(|remote| push_packages(&remote, std::slice::from_ref(state), false)) {
        Ok(pushed) if pushed.packages.is_empty() => Ok(()),
        Ok(pushed) => {
            cx.observer.note(&format!("pushed {} to {}", binary_packages(pushed.packages.len()), settings.address));
            Ok(())
        }
        Err(error) => told(cx, error, &format!("packages of build state {} were not pushed", state.id)),
    }
}

/// Brings those of `wanted`, by package key, that the remote has, into the pool with these inputs, if they were
/// built against this `libc`. Returns whether any came.
///
/// # Errors
///
/// The user has interrupted it. Everything else is a note or a warning, and the packages are compiled.
pub(crate) fn bring_packages(
    cx: &Context<'_>,
    pool: &PoolInputs,
    libc: &str,
    wanted: &BTreeMap<PackageKey, String>,
) -> context::Result<bool> {
    let asks = |settings: &&context::RemoteSettings| settings.packages && !settings.is_down();
    let Some(settings) = cx.settings.remote.as_deref().filter(asks) else { return Ok(false) };
    let names: BTreeMap<String, &String> = wanted.iter().map(|(key, name)| (package::key_of(pool, libc, key), name)).collect();
    let keys = names.keys().cloned().collect();
    let came = match Remote::open(cx).and_then(|remote| pull_packages(&remote, &keys, None)) {
        Ok(came) => came,
        Err(error) => return told(cx, error, "packages are compiled here").map(|()| false),
    };
    let mut refused: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (key, error) in &came.refused {
        refused.entry(in_one_line(error)).or_default().push(names.get(key).copied().unwrap_or(key));
    }
    for (why, packages) in refused {
        cx.observer.warn(&format!("{} compiled here: {why}", these(&packages)));
    }
    if !came.packages.is_empty() {
        let signers: Vec<&str> = came.signers.iter().map(String::as_str).collect();
        let count = binary_packages(came.packages.len());
        cx.observer.note(&format!("{count} came from {}, signed by {}", settings.address, signers.join(", ")));
    }
    Ok(!came.packages.is_empty())
}

fn binary_packages(count: usize) -> String {
    format!("{count} binary {}", if count == 1 { "package" } else { "packages" })
}

/// `A is`, `A and 2 more packages are`.
fn these(packages: &[&str]) -> String {
    match packages {
        [] => String::new(),
        [one] => format!("{one} is"),
        [one, _] => format!("{one} and 1 more package are"),
        [one, more @ ..] => format!("{one} and {} more packages are", more.len()),
    }
}

fn told(cx: &Context<'_>, error: Error, consequence: &str) -> context::Result<()> {
    context::not_interrupted(cx)?;
    let words = in_one_line(&error);
    match (error, cx.settings.remote.as_deref()) {
        (Error::Context(error @ context::Error::Interrupted { .. }), _) => return Err(error),
        (error, Some(settings)) if error.is_of_the_way() => {
            settings.set_down();
            cx.told.note_once(cx.observer, &format!("the remote is not used: {words}"));
        }
        _ => cx.observer.warn(&format!("{consequence}: {words}")),
    }
    Ok(())
}

impl Error {
    /// Whether the remote cannot be reached, whatever it has.
    pub(crate) fn is_of_the_way(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_unreachable())
    }

    /// Whether it concerns nothing but what was asked for: others in the same place may be sound.
    pub(super) fn is_of_one(&self) -> bool {
        match self {
            Self::NotTrusted { .. } | Self::Flaw(_) => true,
            Self::Registry(error) => error.is_of_one(),
            _ => false,
        }
    }
}
