//! What recipes ask: a state by its key, before it is built, and to publish it afterwards. No failure of a remote is one of the build.

use std::collections::BTreeSet;

use super::document::{is_key, key_of, tag_of};
use super::{Error, Remote, Result, pull, push};
use crate::causes::in_one_line;
use crate::context::{self, Context};
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
        Ok(pushed) if pushed.states.is_empty() => Ok(()),
        Ok(_) => {
            cx.observer.note(&format!("pushed {} to {}", state.id, settings.address));
            Ok(())
        }
        Err(error) => told(cx, error, &format!("build state {} was not pushed", state.id)),
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
}
