//! emerge's words about dependencies as types: the changes that it proposes, and problems that no change of the configuration solves.
//!
//! ```text
//! [ebuild  N    ~] app-misc/newcomer-0.1::gentoo  0 KiB             packages to build or to take from binary packages
//! The following keyword changes are necessary to proceed:           a Change for each line, with who needs it
//! # required by app-misc/newcomer (argument)
//! =app-misc/newcomer-0.1 ~amd64
//! !!! The ebuild selected to satisfy … has unmet requirements.      RequiredUse
//! !!! Multiple package instances within a single package slot …     Conflict: who requires what
//!  * Error: circular dependencies:                                  Circle
//! emerge: there are no ebuilds to satisfy "…"                       Unsatisfied
//! ```
//!
//! The wording is Portage's (`_emerge/depgraph.py`, `_emerge/resolver/`, 3.0.83). The output is hostile: it is sanitised first, and what
//! is kept of it is bounded.

mod conflicts;
mod explained;
pub(crate) mod listed;
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
    /// Atom with a version, as emerge writes it.
    pub atom: Atom,
    /// Flags, keywords or licences; none for a mask.
    pub words: Vec<String>,
    /// Who needs it, from the package that depends on it to the argument of emerge.
    pub required_by: Vec<String>,
    /// The comment of the mask in the tree.
    pub comments: Vec<String>,
    /// The file with the mask, inside the root.
    pub masked_in: Option<String>,
}

/// A package as emerge names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// `category/name-version`
    pub package: String,
    /// Whether it is installed.
    pub installed: bool,
    /// Who requires it: the atom and the package; no package for an argument of emerge.
    pub by: Vec<(String, Option<String>)>,
}

/// Why there is no merge list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A package's flags contradict its own `REQUIRED_USE`.
    RequiredUse {
        /// The dependency that it should satisfy.
        wanted: String,
        /// `category/name-version`
        package: String,
        /// Its present flags.
        flags: Flags,
        /// The part that fails.
        unsatisfied: String,
        /// The whole expression.
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
    /// Packages that block each other.
    Blocked {
        /// The blocker atom and the package that has it.
        blocks: Vec<(String, String)>,
        instances: Vec<Pulled>,
    },
    /// Packages that need each other to be built.
    Circle {
        /// `category/name-version`; each needs the next one, the last one the first.
        packages: Vec<String>,
        /// USE changes that would break the circle: package and flags.
        ways_out: Vec<(String, Vec<String>)>,
    },
    /// No package matches, and emerge proposes nothing.
    Unsatisfied {
        /// Atom or set.
        wanted: String,
        /// Existing packages, and why each does not match.
        candidates: Vec<(String, String)>,
        /// Similar names.
        similar: Vec<String>,
        /// Who needs it.
        required_by: Vec<String>,
    },
}

/// The result of `emerge --pretend`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The merge list: `category/name-version`, and whether a binary package is used.
    pub merges: BTreeMap<String, bool>,
    /// The merge list with details, in emerge's order.
    pub list: Vec<Merge>,
    /// What emerge proposes.
    pub changes: Vec<Change>,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// More output is not read.
const MAX_LINES: usize = 20_000;
/// How many entries of each kind are kept.
const MAX_KEPT: usize = 256;
/// No name of a package is longer.
const MAX_WORD_CHARS: usize = 200;

impl Resolution {
    /// Reads emerge's output, both streams.
    pub fn parse(output: &[u8]) -> Self {
        let text = sanitize(output);
        let lines: Vec<&str> = text.lines().map(str::trim_end).take(MAX_LINES).collect();
        let mut problems = problems::read(&lines);
        problems.extend(conflicts::read(&lines));
        problems.truncate(MAX_KEPT);
        // With hundreds of flags a package's line is longer than those that we show.
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
