//! Is everything installed that was asked for?

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
    type Answer = Vec<Unmet>;
    const ANSWER_LIMIT_BYTES: usize = 8 << 20;
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
