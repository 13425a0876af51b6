//! The history of names: `log`, `rollback` and `tag`.
//!
//! A name of a build state remembers its earlier values (`store::refs`), and a state the inputs that it was built from
//! ([`crate::build_key::Inputs`]). So for two consecutive states we can tell which inputs changed.

use std::collections::HashMap;

use serde::Serialize;

use crate::context::Context;
use crate::history::{Error, Result};
use crate::names::named;
use crate::names::named::{RefAt, TAGS};
use crate::origin::Origin;
use crate::store::{RefEntry, State, StateId};
use crate::threads::share;
use crate::{context, store};

/// A present or earlier value of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LogEntry {
    /// The name in full, with its position: `stage4/web@{1}`.
    pub name: String,
    /// 0 is the present value.
    pub index: usize,
    pub state: StateId,
    /// When the name got this value, RFC 3339.
    pub since: String,
    /// When the state was made, RFC 3339; `None` if it was removed.
    pub created: Option<String>,
    /// Whether the state and all its layers exist.
    pub complete: bool,
    /// What it is: `stage3`, `stage3 definition`, `stage4 definition`, `kept session`.
    pub kind: Option<String>,
    /// What it was made from: a name of the state below, else its id, or the stage3.
    pub from: Option<String>,
    /// Inputs that differ from those of the value before; `None` if that is unknown or there was none.
    pub changed: Option<Vec<String>>,
    /// If the state below changed, which of its own inputs differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_below: Vec<String>,
    /// Tags of the state.
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tag {
    /// Its name, without `tag/`.
    pub name: String,
    /// The state.
    pub state: StateId,
    /// When it was set, RFC 3339.
    pub since: String,
    /// The state's kind, if it still exists.
    pub kind: Option<String>,
    /// The tag's value before, if it was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<StateId>,
}

/// The first parts of full names. A tag with such a name could never be addressed.
const FULL_NAMES: [&str; 6] = ["kept", "kernel", "kernel-sources", "profile", "stage4", "tree"];

/// The values of a name, newest first; of all names if none is given.
pub(crate) fn log(cx: &Context<'_>, name: Option<&str>) -> Result<Vec<LogEntry>> {
    let histories = cx.store.readable_histories()?;
    let standing = Standing::of(&histories);
    let Some(text) = name else {
        let of = |(name, values): &(String, Vec<RefEntry>)| Ok::<_, Error>(log_of(cx, name, values, &standing));
        let mut entries: Vec<LogEntry> = share(histories.iter().collect(), of)?.into_iter().flatten().collect();
        entries.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.name.cmp(&b.name)));
        return Ok(entries);
    };
    let RefAt { name, index, .. } = named::named_ref(cx, text)?;
    Ok(log_of(cx, &name, &cx.store.ref_history(&name)?, &standing).into_iter().skip(index).collect())
}

/// Under which names states are known.
#[derive(Debug, Default)]
pub(crate) struct Standing<'a> {
    /// For each state the name that had it last, as its position and the name. A tag is the least informative, so it comes last.
    named: HashMap<&'a StateId, (usize, bool, &'a str)>,
    /// For each state its tags.
    tags: HashMap<&'a StateId, Vec<&'a str>>,
}

impl<'a> Standing<'a> {
    pub(crate) fn of(histories: &'a [(String, Vec<RefEntry>)]) -> Self {
        let mut standing = Self::default();
        for (name, values) in histories {
            let tag = name.strip_prefix(TAGS);
            for (index, entry) in values.iter().enumerate() {
                let known = (index, tag.is_some(), name.as_str());
                standing.named.entry(&entry.value).and_modify(|best| *best = known.min(*best)).or_insert(known);
            }
            if let (Some(tag), Some(entry)) = (tag, values.first()) {
                standing.tags.entry(&entry.value).or_default().push(tag);
            }
        }
        standing
    }
}

fn log_of(cx: &Context<'_>, name: &str, history: &[RefEntry], standing: &Standing<'_>) -> Vec<LogEntry> {
    let states: Vec<Option<State>> = history.iter().map(|entry| cx.store.state(&entry.value).ok()).collect();
    let mut entries = Vec::new();
    for (index, entry) in history.iter().enumerate() {
        let state = states[index].as_ref();
        let older = states.get(index + 1).and_then(Option::as_ref);
        let (changed, changed_below) = match (state, older) {
            (Some(state), Some(older)) => changes(&state.origin, &older.origin),
            _ => (None, Vec::new()),
        };
        entries.push(LogEntry {
            name: RefAt { name: name.to_owned(), index, value: entry.value.clone(), kept: 0 }.to_string(),
            index,
            since: entry.since.clone(),
            created: state.map(|state| state.created.clone()),
            complete: state.is_some_and(|state| state.layers.iter().all(|layer| cx.store.layer(layer).is_ok())),
            kind: state.and_then(|state| state.origin.kind()).map(str::to_owned),
            from: state.and_then(|state| from(state, standing)),
            changed,
            changed_below,
            tags: standing.tags.get(&entry.value).into_iter().flatten().map(|tag| (*tag).to_owned()).collect(),
            state: entry.value.clone(),
        });
    }
    entries
}

/// Gives a state a tag, which keeps it when names move on. A tag of another state is only moved if asked for.
pub(crate) fn tag(cx: &Context<'_>, state: &str, name: &str, force: bool) -> Result<Tag> {
    let bare = name.strip_prefix(TAGS).unwrap_or(name);
    if bare.split_once('/').is_some_and(|(first, _)| FULL_NAMES.contains(&first)) {
        return Err(Error::TagTaken(bare.to_owned()));
    }
    let full = format!("{TAGS}{bare}");
    let _shared = context::share_store(cx)?;
    let state = named::named(cx, state)?.state;
    let before = match cx.store.ref_get(&full) {
        Ok(before) if !full.contains('@') => before,
        Ok(_) => None,
        Err(source @ store::Error::Name { .. }) => {
            return Err(Error::TagName { name: bare.to_owned(), source });
        }
        Err(error) => return Err(error.into()),
    };
    let before = before.filter(|before| *before != state.id);
    if let Some(before) = before.clone().filter(|_| !force) {
        return Err(Error::Tagged { name: bare.to_owned(), state: before });
    }
    match cx.store.ref_set(&full, &state.id) {
        Err(source @ store::Error::Name { .. }) => {
            return Err(Error::TagName { name: bare.to_owned(), source });
        }
        set => set?,
    }
    let since = cx.store.ref_history(&full)?.into_iter().next().map(|entry| entry.since).unwrap_or_default();
    let kind = state.origin.kind().map(str::to_owned);
    Ok(Tag { name: bare.to_owned(), state: state.id, since, kind, before })
}

/// All tags, by name.
pub(crate) fn tags(cx: &Context<'_>) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    for (name, history) in cx.store.readable_histories()? {
        let (Some(bare), Some(state)) = (name.strip_prefix(TAGS), history.first().map(|entry| entry.value.clone())) else {
            continue;
        };
        let kind = cx.store.state(&state).ok().and_then(|state| state.origin.kind().map(str::to_owned));
        let since = history.first().map(|entry| entry.since.clone()).unwrap_or_default();
        let before = history.into_iter().nth(1).map(|entry| entry.value);
        tags.push(Tag { name: bare.to_owned(), state, since, kind, before });
    }
    Ok(tags)
}

/// Removes a tag with its history. `clean` may remove the state later.
pub(crate) fn tag_remove(cx: &Context<'_>, name: &str) -> Result<Tag> {
    let bare = name.strip_prefix(TAGS).unwrap_or(name);
    let tags = tags(cx)?;
    let Some(tag) = tags.iter().find(|tag| tag.name == bare) else {
        return Err(Error::NoTag { name: bare.to_owned(), known: tags.into_iter().map(|tag| tag.name).collect() });
    };
    cx.store.ref_remove(&format!("{TAGS}{bare}"))?;
    Ok(tag.clone())
}

/// Names of the inputs that differ; if the state below differs, with those of its own.
fn changes(new: &Origin, old: &Origin) -> (Option<Vec<String>>, Vec<String>) {
    let changed = |new: &Origin, old: &Origin| Some(new.inputs()?.changed_since(old.inputs()?));
    let all = changed(new, old);
    let below = if all.iter().flatten().any(|name| name == "parent") {
        new.below().zip(old.below()).and_then(|(new, old)| changed(new, old)).unwrap_or_default()
    } else {
        Vec::new()
    };
    (all, below)
}

/// What a state was made from, as a name that commands accept if there is one.
pub(crate) fn from(state: &State, standing: &Standing<'_>) -> Option<String> {
    let Some(parent) = &state.parent else { return state.origin.name().map(str::to_owned) };
    Some(match standing.named.get(parent) {
        Some((index, _, name)) => crate::names::profiles::joined(name, *index),
        None => parent.as_str().chars().take(12).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build_key::Inputs;
    use crate::origin::Recorded;
    use serde_json::json;

    #[test]
    fn what_changed_is_named_also_below() {
        let origin = |packages: &str, below: &str| {
            Recorded::from(json!({
                "kind": "stage4 definition",
                "inputs": Inputs::new("stage4").with("packages", packages).with("parent", below),
                "base": { "kind": "stage3 definition", "inputs": Inputs::new("stage3").with("configuration", below) },
            }))
        };
        assert_eq!(changes(&origin("a", "1"), &origin("b", "1")), (Some(vec!["packages".to_owned()]), Vec::new()));
        let (all, below) = changes(&origin("a", "1"), &origin("b", "2"));
        assert_eq!(all.unwrap(), ["packages", "parent"]);
        assert_eq!(below, ["configuration"]);
        assert_eq!(changes(&Recorded::from(json!({})), &origin("b", "2")), (None, Vec::new()));
    }
}
