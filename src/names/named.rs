//! Finds the build state that a user names. All commands that take a state use it.
//!
//! ```text
//! profile/demo/gentoomuch/builder   a name in full: also stage4/web, kept/with-hello, tag/v1
//! stage4/web@{1}                    what that name stood for before; @{0} is the present
//! v1, v1@{1}                        a tag without `tag/`
//! profile/demo, profile/demo@{1}    the profile's builder, or its stage3 as long as there is no builder
//! 41aa1be94f4f                      an id, or its beginning: at least 4 digits that fit no other state
//! ```
//!
//! A full name comes before a tag, and a name before an id. Tree snapshots (`tree/…`) are no build states.

use crate::config::BUILDER;
use crate::context::Context;
use crate::did_you_mean::nearest;
use crate::names::refs::ref_name;
use crate::names::{Error, Result, profiles};
use crate::store;
use crate::store::{RefEntry, State, StateId};

/// The prefix of tags.
pub(crate) const TAGS: &str = "tag/";
/// An id may be shortened to so many digits.
const SHORTEST_ID: usize = 4;

/// A position in a name's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefAt {
    /// The name in full.
    pub name: String,
    /// 0 is the present value.
    pub index: usize,
    /// The state at that position.
    pub value: StateId,
    /// How many values the history has, the present one included.
    pub kept: usize,
}

impl std::fmt::Display for RefAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&crate::names::profiles::joined(&self.name, self.index))
    }
}

/// A build state that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name by which it was found; `None` if it was an id.
    pub at: Option<RefAt>,
    /// The state. It and all its layers exist.
    pub state: State,
}

/// The state that `text` names, with all its layers. A caller that is going to use it holds `share_store`'s lock.
pub(crate) fn named(cx: &Context<'_>, text: &str) -> Result<Named> {
    let (at, id) = match ref_at(cx, text)? {
        Some(at) => (Some(at.clone()), at.value),
        None => (None, id_at(cx, text)?),
    };
    match profiles::complete_state(cx, &id) {
        Ok(state) => Ok(Named { at, state }),
        Err(source @ (store::Error::NoSuchState(_) | store::Error::NoSuchLayer(_))) => {
            Err(Error::Gone { text: text.to_owned(), source })
        }
        Err(error) => Err(error.into()),
    }
}

/// The id of the state that `text` names; the state may have been removed.
pub(crate) fn named_id(cx: &Context<'_>, text: &str) -> Result<StateId> {
    match ref_at(cx, text)? {
        Some(at) => Ok(at.value),
        None => id_at(cx, text),
    }
}

/// The full name and position that `text` means, for commands that move or list names. The state behind it may have been removed.
pub(crate) fn named_ref(cx: &Context<'_>, text: &str) -> Result<RefAt> {
    if let Some(at) = ref_at(cx, text)? {
        return Ok(at);
    }
    let id = id_at(cx, text)?;
    let names = cx.store.refs()?.into_iter().filter(|(_, value)| *value == id).map(|(name, _)| name).collect();
    Err(Error::NotAName { text: text.to_owned(), names })
}

/// The name `text`, or the full name that it abbreviates.
fn ref_at(cx: &Context<'_>, text: &str) -> Result<Option<RefAt>> {
    let (name, index) = store::split_index(text);
    let mut candidates = vec![name.to_owned(), format!("{TAGS}{name}")];
    if let Some(profile) = name.strip_prefix("profile/") {
        candidates.extend([BUILDER, "upstream"].map(|definition| ref_name(profile, definition)));
    }
    for name in candidates {
        let history: Vec<RefEntry> = match cx.store.ref_history(&name) {
            Ok(history) => history,
            // Not valid as a name of a state, so none has it.
            Err(store::Error::Name { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let kept = history.len();
        match history.into_iter().nth(index) {
            Some(entry) => return Ok(Some(RefAt { name, index, value: entry.value, kept })),
            None if kept > 0 => return Err(Error::NoEntry { name, index, kept }),
            None => {}
        }
    }
    Ok(None)
}

/// The id that `text` is, or begins.
fn id_at(cx: &Context<'_>, text: &str) -> Result<StateId> {
    if text.len() >= SHORTEST_ID && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        let mut fits = cx.store.state_ids()?;
        fits.retain(|id| id.as_str().starts_with(text));
        match fits.len() {
            0 => {}
            1 => return Ok(fits.remove(0)),
            _ => return Err(Error::Ambiguous { text: text.to_owned(), fits }),
        }
    }
    let known: Vec<String> = cx.store.refs()?.into_iter().map(|(name, _)| name).collect();
    Err(Error::Unknown { text: text.to_owned(), nearest: likely(text, &known), known })
}

/// What `text` probably means, written in full.
fn likely(text: &str, known: &[String]) -> Option<String> {
    let (name, index) = store::split_index(text);
    let tags = known.iter().filter_map(|name| name.strip_prefix(TAGS));
    let profiles = known.iter().filter_map(|name| name.strip_suffix("/upstream"));
    let near = nearest(name, known.iter().map(String::as_str).chain(tags).chain(profiles))?;
    Some(if index == 0 { near.to_owned() } else { format!("{near}@{{{index}}}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant() {
        let known: Vec<String> =
            ["kept/with-hello", "profile/demo/gentoomuch/builder", "profile/demo/upstream", "stage4/web", "tag/release-1"]
                .map(str::to_owned)
                .into();
        for (text, meant) in [
            ("web", Some("stage4/web")),
            ("web@{2}", Some("stage4/web@{2}")),
            ("demo", Some("profile/demo")),
            ("with-hello", Some("kept/with-hello")),
            ("stage4/wbe", Some("stage4/web")),
            ("relaese-1", Some("release-1")),
            ("profile/demo/gentomuch/builder", Some("profile/demo/gentoomuch/builder")),
            ("profile/dmeo", Some("profile/demo")),
            ("something-else", None),
        ] {
            assert_eq!(likely(text, &known).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn a_position_is_written_as_it_is_read() {
        let id: StateId = "a".repeat(32).parse().unwrap();
        for text in ["stage4/web", "stage4/web@{3}"] {
            let (name, index) = store::split_index(text);
            let at = RefAt { name: name.to_owned(), index, value: id.clone(), kept: 4 };
            assert_eq!(at.to_string(), text);
        }
    }
}
