//! What emerge says about dependencies, typed: the changes it proposes, and what no change of the configuration mends.
//!
//! ```text
//! [ebuild  N    ~] app-misc/newcomer-0.1::gentoo  0 KiB             how many packages are built or taken from binary packages
//! The following keyword changes are necessary to proceed:           a Change for each line, with who needs it
//! # required by app-misc/newcomer (argument)
//! =app-misc/newcomer-0.1 ~amd64
//! !!! The ebuild selected to satisfy … has unmet requirements.      RequiredUse
//! !!! Multiple package instances within a single package slot …     Conflict: who pulls what
//!  * Error: circular dependencies:                                  Circle
//! emerge: there are no ebuilds to satisfy "…"                       Unsatisfied
//! ```
//!
//! The wording is Portage's own (`_emerge/depgraph.py`, `_emerge/resolver/`, 3.0.83). The output is hostile: it is made plain first, and all
//! that is kept of it is bounded.

mod conflicts;
mod explained;
mod merge_list;
mod problems;
mod proposals;
pub(crate) mod required_use;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::portage::atom::Atom;
use crate::terminal_text::{sanitize, sanitize_uncut};
use required_use::Flags;

pub(crate) use merge_list::Merge;

/// Which of Portage's files a change belongs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// `package.accept_keywords`
    Keywords,
    /// `package.unmask`
    Unmask,
    /// `package.use`
    Use,
    /// `package.license`
    License,
}

/// A line of the configuration that emerge proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it belongs.
    pub kind: ChangeKind,
    /// Which packages, as emerge writes it: with a version.
    pub atom: Atom,
    /// Flags, keywords or licences; none for a mask.
    pub words: Vec<String>,
    /// Who needs it: the package that depends on it first, the one that was asked for last.
    pub required_by: Vec<String>,
    /// What the tree says about a mask.
    pub comments: Vec<String>,
    /// The file with the mask, inside the root.
    pub masked_in: Option<String>,
}

/// A package in emerge's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// `category/name-version`
    pub package: String,
    /// Whether it is there already.
    pub installed: bool,
    /// Who wants it: the atom, and the package that says so (none: it was asked for).
    pub by: Vec<(String, Option<String>)>,
}

/// Why there is no list of packages to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A package's flags contradict its own `REQUIRED_USE`.
    RequiredUse {
        /// What it was to satisfy.
        wanted: String,
        /// `category/name-version`
        package: String,
        /// Its flags as they are.
        flags: Flags,
        /// What does not hold.
        unsatisfied: String,
        /// All of it.
        expression: String,
        /// Who needs it.
        required_by: Vec<String>,
    },
    /// Two packages for one slot.
    SlotConflict {
        /// `category/name:slot`
        slot: String,
        instances: Vec<Pulled>,
    },
    /// Packages that do not bear each other.
    Blocked {
        /// What the ebuilds say: the atom, and the package that blocks it.
        blocks: Vec<(String, String)>,
        instances: Vec<Pulled>,
    },
    /// Packages that each need the other first.
    Circle {
        /// `category/name-version`, each needs the next, the last the first.
        packages: Vec<String>,
        /// USE changes that would break it: package and flags.
        ways_out: Vec<(String, Vec<String>)>,
    },
    /// Nothing fits, and emerge proposes nothing.
    Unsatisfied {
        /// Atom or set.
        wanted: String,
        /// What there is: package and why it will not do.
        candidates: Vec<(String, String)>,
        /// Names that are alike.
        similar: Vec<String>,
        /// Who needs it.
        required_by: Vec<String>,
    },
}

/// What a run of `emerge --pretend` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What would be merged: `category/name-version`, and whether a binary package would be taken.
    pub merges: BTreeMap<String, bool>,
    /// The same in emerge's order, with all that is said about each.
    pub list: Vec<Merge>,
    /// What emerge proposes.
    pub changes: Vec<Change>,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

/// More output than this has nothing that concerns us.
const MAX_LINES: usize = 20_000;
/// Of each kind of thing so many are kept.
const MAX_KEPT: usize = 256;
/// A word of a package, longer than any.
const MAX_WORD_CHARS: usize = 200;

impl Resolution {
    /// Reads emerge's output, both streams.
    pub fn parse(output: &[u8]) -> Self {
        let text = sanitize(output);
        let lines: Vec<&str> = text.lines().map(str::trim_end).take(MAX_LINES).collect();
        let mut problems = problems::read(&lines);
        problems.extend(conflicts::read(&lines));
        problems.truncate(MAX_KEPT);
        // A package with hundreds of flags has a longer line than one that is shown.
        let list: Vec<Merge> = sanitize_uncut(output).lines().take(MAX_LINES).filter_map(Merge::parse).collect();
        let merges = list.iter().map(|merge| (merge.cpv.clone(), merge.binary)).collect();
        Self { merges, list, changes: proposals::read(&lines), problems }
    }
}

/// `category/name-version` without what emerge appends: `:slot/sub-slot::repository`, the build number of an installed binary package.
fn cpv(text: &str) -> String {
    let text = text.trim_matches(['"', '(', ')', ',']);
    let end = text.find(':').unwrap_or(text.len());
    text[..end].chars().take(MAX_WORD_CHARS).collect()
}

/// `(dependency required by "app-misc/a-1.0::gentoo" [ebuild])`, in the lines that follow a problem.
fn dependency_chain(lines: &[&str]) -> Vec<String> {
    let chain = lines.iter().map_while(|line| line.strip_prefix("(dependency required by \"")?.split('"').next());
    chain.map(cpv_or_atom).take(16).collect()
}

/// A package without its repository; an argument as it is.
fn cpv_or_atom(text: &str) -> String {
    let end = text.find("::").unwrap_or(text.len());
    text[..end].chars().take(MAX_WORD_CHARS).collect()
}

#[cfg(test)]
mod tests;
