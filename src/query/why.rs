//! Which installed packages need which others? They need not be installed where Portage is asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown, shown};

/// What needs the packages that match `atom`?
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "why")]
pub struct Why<'a> {
    pub packages: &'a [Built<'a>],
    /// Lines of the files `world` and `world_sets`.
    pub world: &'a [String],
    pub atom: &'a str,
}

/// What Portage's database says of an installed package, sent along since it is not asked in its own root.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Built<'a> {
    pub cpv: &'a str,
    pub slot: &'a str,
    pub repository: &'a str,
    /// By the names of files of Portage's database: `EAPI`, `USE`, `IUSE`, `RDEPEND`, …
    pub values: &'a BTreeMap<String, String>,
}

impl Question for Why<'_> {
    type Answer = Graph;
    /// A hundred bytes for each of thirty needs of ten thousand packages.
    const ANSWER_LIMIT_BYTES: usize = 32 << 20;
}

/// Packages are numbers in the question's list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// What matches the atom.
    pub targets: Vec<usize>,
    pub roots: Vec<Root>,
    pub needs: Vec<Need>,
    /// What Portage cannot read, and why.
    #[serde(deserialize_with = "all_shown")]
    pub unread: Vec<String>,
}

/// A package that is asked for by its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// `system`, `profile`, `selected` for an atom of world, or another set that is in world.
    #[serde(deserialize_with = "shown")]
    pub set: String,
    #[serde(deserialize_with = "shown")]
    pub atom: String,
    /// `TREE:PATH:LINE` in the Portage profile, or empty.
    #[serde(deserialize_with = "shown")]
    pub place: String,
    pub package: usize,
}

/// A package needs another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    pub from: usize,
    pub to: usize,
    #[serde(deserialize_with = "shown")]
    pub atom: String,
    /// Not just to be built.
    pub run: bool,
}

impl Graph {
    /// Whether all packages in it are among the first `count`.
    pub fn is_within(&self, count: usize) -> bool {
        let needs = self.needs.iter().flat_map(|need| [need.from, need.to]);
        self.targets.iter().copied().chain(self.roots.iter().map(|root| root.package)).chain(needs).all(|package| package < count)
    }
}
