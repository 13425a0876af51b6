//! Whether what was asked for is installed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown, shown};

/// What of what emerge was asked for, and had decided, is otherwise?
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename = "fulfilled")]
pub struct Fulfilled<'a> {
    /// Atoms and `@sets`.
    pub targets: Vec<String>,
    /// Whether they are to be recorded in world.
    pub world: bool,
    pub decided: Vec<Decided<'a>>,
}

/// A package that emerge was to merge.
#[derive(Debug, Clone, Serialize)]
pub struct Decided<'a> {
    pub cpv: &'a str,
    pub repository: Option<&'a str>,
    /// USE flags that are on, and those that are off.
    pub on: &'a BTreeSet<String>,
    pub off: &'a BTreeSet<String>,
}

impl Question for Fulfilled<'_> {
    type Answer = Vec<Unmet>;
    const ANSWER_LIMIT_BYTES: usize = 8 << 20;
}

/// An atom or a package that is not there as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmet {
    pub problem: Problem,
    #[serde(deserialize_with = "shown")]
    pub target: String,
    #[serde(deserialize_with = "all_shown")]
    pub details: Vec<String>,
}

/// What is otherwise than it was asked for.
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
