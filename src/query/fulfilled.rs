//! Is everything installed that was asked for? And what else has Portage to tell, now that it is asked?

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown, shown};

/// What differs from what emerge was asked for and from what it had decided?
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename = "fulfilled")]
pub struct Fulfilled<'a> {
    /// Atoms and `@sets`.
    pub targets: Vec<String>,
    /// They must be recorded in world.
    pub world: bool,
    pub decided: Vec<Decided<'a>>,
}

/// A package that emerge was going to merge.
#[derive(Debug, Clone, Serialize)]
pub struct Decided<'a> {
    pub cpv: &'a str,
    pub repository: Option<&'a str>,
    /// USE flags that are on.
    pub on: &'a BTreeSet<String>,
    pub off: &'a BTreeSet<String>,
}

impl Question for Fulfilled<'_> {
    type Answer = Told;
    const ANSWER_LIMIT_BYTES: usize = 8 << 20;
}

/// All that is otherwise, and what a user of this root would be told at the end of a run of emerge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    pub unmet: Vec<Unmet>,
    /// News of the trees, unread and relevant; the newest first.
    pub news: Vec<Item>,
    /// `._cfg0000_NAME` files below `/etc`.
    #[serde(deserialize_with = "all_shown")]
    pub pending_config: Vec<String>,
}

/// A news item (GLEP 42).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    #[serde(deserialize_with = "shown")]
    pub repository: String,
    /// `2026-01-31-profile-upgrade`
    #[serde(deserialize_with = "shown")]
    pub name: String,
    #[serde(deserialize_with = "shown")]
    pub title: String,
}

/// An atom or a package that is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmet {
    pub problem: Problem,
    #[serde(deserialize_with = "shown")]
    pub target: String,
    #[serde(deserialize_with = "all_shown")]
    pub details: Vec<String>,
}

/// In which way it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    NotInstalled,
    NotInWorld,
    NotMerged,
    Flags,
    Repository,
    Unreadable,
}
