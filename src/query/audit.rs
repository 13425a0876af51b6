//! What do the trees say of installed packages? They need not be installed where Portage is asked.

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown, shown};

/// Which security advisories are about these packages, and of which of them do the trees have another version, or none?
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "audit")]
pub struct Audit<'a> {
    pub packages: &'a [Here<'a>],
}

/// What Portage's database says of an installed package, sent along since it is not asked in its own root.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Here<'a> {
    pub cpv: &'a str,
    /// Perhaps with a sub-slot.
    pub slot: &'a str,
    pub repository: &'a str,
}

impl Question for Audit<'_> {
    type Answer = Audited;
    /// A few hundred bytes for each of thirty thousand packages.
    const ANSWER_LIMIT_BYTES: usize = 16 << 20;
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audited {
    /// `None`: the tree has none, so nothing is known.
    pub advisories: Option<Advisories>,
    /// Packages that are not the newest version.
    pub versions: Vec<Version>,
    /// Packages that Portage cannot read.
    #[serde(deserialize_with = "all_shown")]
    pub unread: Vec<String>,
}

/// Security advisories of the main tree, GLSAs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Advisories {
    /// How many the tree has.
    pub known: usize,
    /// Those about one of the packages.
    pub found: Vec<Advisory>,
    /// Files that `portage.glsa` cannot read, and why.
    #[serde(deserialize_with = "all_shown")]
    pub unread: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// `202611-01`
    #[serde(deserialize_with = "shown")]
    pub id: String,
    #[serde(deserialize_with = "shown")]
    pub title: String,
    /// `high`, `normal`, `low`
    #[serde(deserialize_with = "shown")]
    pub severity: String,
    pub packages: Vec<Affected>,
    /// Whether the image says that it was dealt with (`glsa-check --inject`). Portage is not asked for it.
    #[serde(default, skip_deserializing)]
    pub accepted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Affected {
    #[serde(deserialize_with = "shown")]
    pub cpv: String,
    /// The next version that is not affected; empty if none can be installed.
    #[serde(deserialize_with = "shown")]
    pub fixed: String,
}

/// A package that is not the newest version that could be installed in its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Version {
    #[serde(deserialize_with = "shown")]
    pub cpv: String,
    #[serde(deserialize_with = "shown")]
    pub slot: String,
    pub status: Status,
    /// The newest one that could be installed, in its slot if there is one; empty if there is none.
    #[serde(deserialize_with = "shown")]
    pub newest: String,
    /// The tree that it came from, if that is not here.
    #[serde(default, deserialize_with = "shown", skip_serializing_if = "String::is_empty")]
    pub repository: String,
}

/// What became of an installed version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The trees have a newer one in its slot.
    Outdated,
    /// The trees do not have it any more, and no newer one in its slot.
    Removed,
    /// Its tree is not here.
    Unknown,
}
