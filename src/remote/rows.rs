//! What a remote has, and what goes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::document::{Manifest, STATE_TYPE, is_beginning, is_key, key_of, tag_of};
use super::package::{self, PACKAGE_TYPE};
use super::package_pull::{Verified, keys_here};
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

/// A package in a remote. But for the key nobody has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageRow {
    /// A hash of its package key and of what all packages of its pool have in common.
    pub(crate) key: String,
    /// Its name with version: `app-misc/hello-2.10`.
    pub(crate) name: Option<String>,
    /// When it was built, RFC 3339.
    pub(crate) made: String,
    pub(crate) size_bytes: u64,
    /// Whether a pool of this machine has it.
    pub(crate) here: bool,
    /// Why what is there cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flaw: Option<String>,
}

/// What a remote has.
#[derive(Debug)]
pub(crate) struct Listing {
    /// By name and key.
    pub(crate) states: Vec<Row>,
    /// How many packages.
    pub(crate) packages: usize,
    /// These, by name and key, if they were asked for.
    pub(crate) package_rows: Option<Vec<PackageRow>>,
}

/// Everything that a remote has.
pub(crate) fn listing(remote: &Remote<'_>, with_packages: bool) -> Result<Listing> {
    let tags = remote.repository.tags()?;
    let packages: Vec<&str> = tags.iter().filter_map(|tag| package::key_of_tag(tag)).collect();
    let package_rows = if with_packages { Some(package_rows(remote, &packages)?) } else { None };
    Ok(Listing { states: rows(remote, &tags)?, packages: packages.len(), package_rows })
}

fn package_rows(remote: &Remote<'_>, keys: &[&str]) -> Result<Vec<PackageRow>> {
    let here = keys_here(remote.cx)?;
    let read = |key: &&str| {
        let bytes = match remote.repository.manifest(&package::tag_of(key)) {
            Err(error) if error.is_of_one() => Err(error.to_string()),
            bytes => Ok(bytes?),
        };
        let manifest = bytes.and_then(|bytes| {
            let parse = |bytes: Vec<u8>| Manifest::parse(&bytes, PACKAGE_TYPE).map(|manifest| manifest.shown());
            bytes.map(parse).transpose().map_err(|flaw| flaw.to_string())
        });
        let row = PackageRow {
            key: (*key).to_owned(),
            name: None,
            made: String::new(),
            size_bytes: 0,
            here: here.contains(*key),
            flaw: None,
        };
        Ok::<_, Error>(match manifest {
            Ok(shown) => shown.map(|it| PackageRow { name: it.name, made: it.made, size_bytes: it.bytes, ..row }),
            Err(flaw) => Some(PackageRow { flaw: Some(flaw), ..row }),
        })
    };
    let mut rows: Vec<PackageRow> = threads::each(AT_ONCE, keys, read)?.into_iter().flatten().collect();
    rows.sort_by(|a, b| (&a.name, &a.made, &a.key).cmp(&(&b.name, &b.made, &b.key)));
    Ok(rows)
}

/// The states with these tags, by name and key.
fn rows(remote: &Remote<'_>, tags: &[String]) -> Result<Vec<Row>> {
    let keys: Vec<String> = tags.iter().filter_map(|tag| key_of(tag)).collect();
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
    match Manifest::parse(bytes, STATE_TYPE) {
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

/// What a user means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A state by its key. What is not asked for by a whole key was found by what nobody has signed.
    State(String, Option<Wanted>),
    /// Packages by their keys, and the name that they were asked for by. Nobody has signed that they have it.
    Packages(BTreeSet<String>, Option<String>),
}

/// What a user calls so: a key or its beginning, the beginning of a state's id, or the name of a state, whose newest is meant, or that of
/// packages, with their version. States go before packages.
pub(crate) fn find(remote: &Remote<'_>, wanted: &str) -> Result<Found> {
    if is_key(wanted) {
        let tags = [tag_of(wanted), package::tag_of(wanted)];
        let there = remote.repository.has(&tags)?;
        let is_package = package::is_key(wanted) && there.contains(&tags[1]) && !there.contains(&tags[0]);
        let key = wanted.to_owned();
        return Ok(if is_package { Found::Packages([key].into(), None) } else { Found::State(key, None) });
    }
    let tags = remote.repository.tags()?;
    match find_state(remote, &tags, wanted) {
        Err(error @ Error::NotThere { .. }) => {
            let keys: Vec<&str> = tags.iter().filter_map(|tag| package::key_of_tag(tag)).collect();
            let found: BTreeSet<String> = if is_beginning(wanted) {
                keys.iter().filter(|key| key.starts_with(wanted)).map(|key| (*key).to_owned()).collect()
            } else {
                let rows = package_rows(remote, &keys)?.into_iter();
                rows.filter(|row| row.name.as_deref() == Some(wanted)).map(|row| row.key).collect()
            };
            let is_clear = if is_beginning(wanted) { found.len() == 1 } else { !found.is_empty() };
            let name = Some(wanted.to_owned()).filter(|_| !is_beginning(wanted));
            if is_clear { Ok(Found::Packages(found, name)) } else { Err(error) }
        }
        found => found.map(|(key, wanted)| Found::State(key, Some(wanted))),
    }
}

fn find_state(remote: &Remote<'_>, tags: &[String], wanted: &str) -> Result<(String, Wanted)> {
    let rows = rows(remote, tags)?;
    let found = if is_beginning(wanted) {
        let mut found = rows.iter().filter(|row| row.key.starts_with(wanted) || row.state.starts_with(wanted));
        found.next().filter(|_| found.next().is_none())
    } else {
        rows.iter().filter(|row| row.name.as_deref() == Some(wanted)).max_by(|a, b| a.made.cmp(&b.made))
    };
    let row = found.ok_or_else(|| Error::NotThere { place: remote.shown(), wanted: wanted.to_owned() })?;
    Ok((row.key.clone(), Wanted { text: wanted.to_owned(), made: row.made.clone() }))
}

/// Removes what was found, and says which keys were there. Blobs stay until they are collected.
pub(crate) fn remove(remote: &Remote<'_>, found: &[Found]) -> Result<Vec<String>> {
    let (mut removed, verified) = (Vec::new(), Verified::default());
    for found in found {
        let (keys, tag): (Vec<&String>, fn(&str) -> String) = match found {
            Found::State(key, _) => (vec![key], tag_of),
            Found::Packages(keys, _) => (keys.iter().collect(), package::tag_of),
        };
        for key in keys {
            if let Found::Packages(_, Some(name)) = found
                && let Some(signed) = remote.other_name(key, name, &verified)?
            {
                remote.cx.observer.warn(&format!("{key} stays: it is not `{name}`, but says so; it is {signed}"));
                continue;
            }
            if remote.repository.remove(&tag(key))? {
                removed.push(key.clone());
            }
        }
    }
    Ok(removed)
}

/// Removes blobs that nothing names, or only counts them. `None`: a registry does that itself.
pub(crate) fn collect(remote: &Remote<'_>, least_age: Duration, remove: bool) -> Result<Option<Collected>> {
    Ok(remote.repository.collect(least_age, remove)?)
}
