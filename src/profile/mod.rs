//! Profiles: their list, the default one, and operations on a whole profile.
//!
//! ```text
//! profile/NAME/upstream               the imported stage3
//! profile/NAME/gentoomuch/builder     the builder; its values, newest first, are `NAME`, `NAME@{1}`, `NAME@{2}`, …
//! profile/NAME/DEFINITION             other stage3 definitions built on it
//! data/default-profile                the default name; while a profile is renamed, its old and its new name
//! ```

pub(crate) mod adopt;
mod error;
pub(crate) mod names;
pub(crate) mod show;
pub(crate) mod update;

use serde::Serialize;

use crate::config::BUILDER;
use crate::context::Context;
use crate::names::profiles::{default_profile, profiles};
use crate::names::refs::ref_name;
use crate::profile::show::TreeShown;

pub(crate) use error::{Error, Result};

/// One row of `profile ls`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ProfileRow {
    pub name: String,
    /// Whether commands use it when none is named.
    pub default: bool,
    /// The stage3 it was made from.
    pub stage3: Option<String>,
    /// The user's reason for taking an unsigned stage3.
    pub allow_unsigned: Option<String>,
    /// When its builder was committed, RFC 3339.
    pub builder: Option<String>,
    /// How many earlier states of the builder exist.
    pub previous: usize,
    /// The tree snapshots that the builder was built with; with ids where the store still has them.
    pub trees: Vec<TreeShown>,
    /// The other stage3 definitions that were built on it.
    pub definitions: Vec<String>,
}

/// The rows of `profile ls`.
pub(crate) fn profile_rows(cx: &Context<'_>) -> Result<Vec<ProfileRow>> {
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
                    row.stage3 = state.origin.name().map(str::to_owned);
                    row.allow_unsigned = state.origin.stage3().and_then(|stage3| stage3.allow_unsigned.clone());
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
