//! What a remote has, and what goes.

use std::time::Duration;

use serde::Serialize;

use super::document::{Manifest, is_beginning, is_key, key_of, tag_of};
use super::pull::Wanted;
use super::{Error, Remote, Result};
use crate::registry::Collected;
use crate::threads;

/// A state in a remote. But for the key nobody has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Row {
    /// Its build key.
    pub(crate) key: String,
    /// What it was called where it was pushed.
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    /// When it was built, RFC 3339.
    pub(crate) made: String,
    pub(crate) layers: usize,
    /// Of all its blobs, also of those that it shares with others.
    pub(crate) size_bytes: u64,
    /// Whether this store has a state with this key.
    pub(crate) here: bool,
    /// Why what is there cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flaw: Option<String>,
}

/// How many questions a list asks at once.
const AT_ONCE: usize = 8;

/// All states that a remote has, by name and key.
pub(crate) fn rows(remote: &Remote<'_>) -> Result<Vec<Row>> {
    let keys: Vec<String> = remote.repository.tags()?.iter().filter_map(|tag| key_of(tag)).collect();
    let wanted: Vec<&str> = keys.iter().map(String::as_str).collect();
    let here = remote.cx.store.states_by_key(&wanted)?;
    let read = |key: &String| match remote.repository.manifest(&tag_of(key)) {
        // One that cannot be read hides no other one.
        Err(error) if error.is_of_one() => Ok(Some(flawed(key, error.to_string(), here.contains_key(key)))),
        manifest => manifest.map(|bytes| bytes.map(|bytes| row(key, &bytes, here.contains_key(key)))),
    };
    let mut rows: Vec<Row> = threads::each(AT_ONCE, &keys, read)?.into_iter().flatten().collect();
    rows.sort_by(|a, b| (&a.name, &a.made, &a.key).cmp(&(&b.name, &b.made, &b.key)));
    Ok(rows)
}

fn row(key: &str, bytes: &[u8], here: bool) -> Row {
    match Manifest::parse(bytes) {
        Ok(manifest) => {
            let shown = manifest.shown();
            Row {
                key: key.to_owned(),
                name: shown.name,
                state: shown.state,
                made: shown.made,
                layers: shown.layers,
                size_bytes: shown.bytes,
                here,
                flaw: None,
            }
        }
        Err(flaw) => flawed(key, flaw.to_string(), here),
    }
}

fn flawed(key: &str, flaw: String, here: bool) -> Row {
    Row {
        key: key.to_owned(),
        name: None,
        state: String::new(),
        made: String::new(),
        layers: 0,
        size_bytes: 0,
        here,
        flaw: Some(flaw),
    }
}

/// The key of what a user calls so: a key or its beginning, the beginning of a state's id, or a name, whose newest state is meant. What is
/// not a whole key was found by what nobody has signed.
pub(crate) fn find(remote: &Remote<'_>, wanted: &str) -> Result<(String, Option<Wanted>)> {
    if is_key(wanted) {
        return Ok((wanted.to_owned(), None));
    }
    let rows = rows(remote)?;
    let found = if is_beginning(wanted) {
        let mut found = rows.iter().filter(|row| row.key.starts_with(wanted) || row.state.starts_with(wanted));
        found.next().filter(|_| found.next().is_none())
    } else {
        rows.iter().filter(|row| row.name.as_deref() == Some(wanted)).max_by(|a, b| a.made.cmp(&b.made))
    };
    let row = found.ok_or_else(|| Error::NotThere { place: remote.shown(), wanted: wanted.to_owned() })?;
    Ok((row.key.clone(), Some(Wanted { text: wanted.to_owned(), made: row.made.clone() })))
}

/// Removes what is there under these keys, and says which were there. Blobs stay until they are collected.
pub(crate) fn remove(remote: &Remote<'_>, keys: &[String]) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for key in keys {
        if remote.repository.remove(&tag_of(key))? {
            removed.push(key.clone());
        }
    }
    Ok(removed)
}

/// Removes blobs that nothing names, or only counts them. `None`: a registry does that itself.
pub(crate) fn collect(remote: &Remote<'_>, least_age: Duration, remove: bool) -> Result<Option<Collected>> {
    Ok(remote.repository.collect(least_age, remove)?)
}
