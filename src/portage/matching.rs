//! Which atoms of `package.*` files match a package, and their order.
//!
//! In Portage more specific atoms override less specific ones, whatever their order in the files
//! (`portage/package/ebuild/_config/helper.py`, `ordered_by_atom_specificity`; `portage/dep/__init__.py`, `match_from_list` and
//! `best_match_to_list`, 3.0.83).

use std::cmp::Ordering;

use super::atom::{Atom, Operator};
use super::cpv::split_revision;
use super::version::compare;
use crate::patterns::stars;

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Version {
    pub category: String,
    pub package: String,
    /// Version with revision; empty for any version.
    pub version: String,
    /// Slot, with `/` and sub-slot if there is one; `None` if unknown.
    pub slot: Option<String>,
    /// Its repository; `None` if unknown.
    pub repository: Option<String>,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.category, self.package)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, "-{}", self.version) }
    }
}

impl Atom {
    /// Whether the atom matches `version`.
    pub fn matches(&self, version: &Version) -> bool {
        stars(&self.category, &version.category)
            && stars(&self.package, &version.package)
            && self.matches_version(&version.version)
            && self.matches_slot(version.slot.as_deref())
            && (self.repository.is_none() || version.repository.is_none() || self.repository == version.repository)
    }

    /// Whether the atom can match some version of `category/package`.
    pub fn can_mean(&self, category: &str, package: &str) -> bool {
        stars(&self.category, category) && stars(&self.package, package)
    }

    fn matches_version(&self, other: &str) -> bool {
        let (Some(operator), Some(version)) = (self.operator, self.version.as_deref()) else { return true };
        if other.is_empty() {
            return true;
        }
        match operator {
            Operator::Equal => match version.strip_suffix('*') {
                Some(middle) if middle.starts_with('*') => other.contains(&middle[1..]),
                Some(beginning) => begins(beginning, other),
                None => compare(other, version) == Ordering::Equal,
            },
            Operator::AnyRevision => split_revision(other).0 == split_revision(version).0,
            Operator::Less => compare(other, version) == Ordering::Less,
            Operator::LessOrEqual => compare(other, version) != Ordering::Greater,
            Operator::Greater => compare(other, version) == Ordering::Greater,
            Operator::GreaterOrEqual => compare(other, version) != Ordering::Less,
        }
    }

    fn matches_slot(&self, other: Option<&str>) -> bool {
        let (Some(slot), Some(other)) = (self.slot.as_deref(), other) else { return true };
        let slot = slot.trim_end_matches(['=', '*']);
        let (main, sub) = slot.split_once('/').map_or((slot, None), |(main, sub)| (main, Some(sub)));
        let (other, other_sub) = other.split_once('/').map_or((other, other), |(main, sub)| (main, sub));
        main.is_empty() || (main == other && sub.is_none_or(|sub| sub == other_sub))
    }

    /// Portage's specificity; a greater number is more specific.
    fn specificity(&self) -> [i32; 2] {
        if self.is_wildcard() {
            let value = match (self.operator, &self.slot) {
                (Some(_), _) => 0,
                (None, Some(_)) => -1,
                (None, None) => -2,
            };
            return [value, value];
        }
        let operator = match (self.operator, self.version.as_deref()) {
            (Some(Operator::Equal), Some(version)) if version.ends_with('*') => 4,
            (Some(Operator::Equal), _) => 6,
            (Some(Operator::AnyRevision), _) => 5,
            (Some(_), _) => 2,
            (None, _) => 1,
        };
        [if self.slot.is_some() { 3 } else { -99 }, operator]
    }
}

/// `=cat/pkg-1.2*` compares the beginning of the text, but only up to the end of a version's part: `1*` matches `1.5` and not `10`.
fn begins(beginning: &str, version: &str) -> bool {
    let plain = |text: &str| {
        let stripped = text.trim_start_matches('0');
        if stripped.starts_with(|c: char| c.is_ascii_digit()) { stripped.to_owned() } else { format!("0{stripped}") }
    };
    let (beginning, version) = (plain(beginning), plain(version));
    let Some(rest) = version.strip_prefix(&beginning) else { return false };
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    match rest.chars().next() {
        None | Some('.' | '_' | '-') => true,
        next => digit(beginning.chars().next_back()) != digit(next),
    }
}

/// The numbers of those `atoms` that match `version`, the least specific first: the last word counts.
pub(crate) fn by_specificity(atoms: &[&Atom], version: &Version) -> Vec<usize> {
    let mut left: Vec<usize> = (0..atoms.len()).filter(|index| atoms[*index].matches(version)).collect();
    // Portage sorts atoms with a wildcard after the others, and keeps those with the same name together.
    let name = |index: usize| (&atoms[index].category, &atoms[index].package);
    left.sort_by_key(|index| {
        let wild = atoms[*index].category.contains('*') || atoms[*index].package.contains('*');
        if wild { (0..atoms.len()).position(|other| name(other) == name(*index)).map(|first| first + 1) } else { None }
    });
    let mut order = Vec::new();
    while let Some(best) = best(atoms, &left, version) {
        left.retain(|index| *index != best);
        order.push(best);
    }
    order.reverse();
    order
}

fn best(atoms: &[&Atom], among: &[usize], version: &Version) -> Option<usize> {
    let (mut highest, mut best) = (-99, None::<usize>);
    for &index in among {
        let atom = atoms[index];
        for value in atom.specificity() {
            if value > highest {
                (highest, best) = (value, Some(index));
            } else if value == 2 && highest == 2 && best.is_some_and(|best| closer(atom, atoms[best], version)) {
                best = Some(index);
            }
        }
    }
    best
}

/// Whether the version of `atom` lies between that of `other` and `version`.
fn closer(atom: &Atom, other: &Atom, version: &Version) -> bool {
    let (Some(own), Some(other)) = (atom.version.as_deref(), other.version.as_deref()) else { return false };
    let (to_own, to_other) = (compare(own, &version.version), compare(other, &version.version));
    if to_other == Ordering::Equal || compare(own, other) == Ordering::Equal {
        return false;
    }
    to_own == Ordering::Equal || (to_own == to_other && compare(own, other) == to_own.reverse())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: &str) -> Version {
        Version {
            category: "app-misc".to_owned(),
            package: "hello".to_owned(),
            version: version.to_owned(),
            slot: Some("0/2".to_owned()),
            repository: Some("gentoo".to_owned()),
        }
    }

    #[test]
    fn tells_which_atoms_mean_a_version() {
        for (atom, yes, no) in [
            ("app-misc/hello", "1", ""),
            ("=app-misc/hello-2.10", "2.10 2.10-r0", "2.10-r1 2.1"),
            ("~app-misc/hello-2.10", "2.10 2.10-r3", "2.10.1"),
            ("=app-misc/hello-2*", "2 2.10 2-r1 2_p1 2b", "20 1.2"),
            ("=app-misc/hello-2.1*", "2.1 2.1.5", "2.10"),
            (">=app-misc/hello-2.1", "2.1 2.10", "2.0.9"),
            ("<app-misc/hello-2.1", "2.0", "2.1 2.1-r1"),
            ("<=app-misc/hello-2.1", "2.1", "2.1-r1"),
            (">app-misc/hello-2.1", "2.1-r1", "2.1"),
            ("app-misc/hello:0", "1", ""),
            ("app-misc/hello:0/2", "1", ""),
            ("app-misc/hello:1", "", "1"),
            ("app-misc/hello:0/3", "", "1"),
            ("app-misc/hello::gentoo", "1", ""),
            ("app-misc/hello::guru", "", "1"),
            ("*/*", "1", ""),
            ("app-*/h*o", "1", ""),
            ("app-misc/*x*", "", "1"),
            ("=app-misc/*-*99*", "9999 1.99", "1"),
        ] {
            let atom: Atom = atom.parse().unwrap();
            for text in yes.split_whitespace() {
                assert!(atom.matches(&version(text)), "{atom} means {text}");
            }
            for text in no.split_whitespace() {
                assert!(!atom.matches(&version(text)), "{atom} does not mean {text}");
            }
        }
    }

    #[test]
    fn the_most_specific_comes_last() {
        let atoms: Vec<Atom> = [
            "=app-misc/hello-2.10",
            "app-misc/hello:0",
            ">=app-misc/hello-2",
            ">=app-misc/hello-2.5",
            "<app-misc/hello-3",
            "app-misc/hello",
            "*/*:0",
            "app-misc/*",
            "=app-misc/*-*10*",
            "~app-misc/hello-2.10",
            "=app-misc/hello-2*",
            "other/thing",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let atoms: Vec<&Atom> = atoms.iter().collect();
        let order = by_specificity(&atoms, &version("2.10"));
        let order: Vec<String> = order.into_iter().map(|index| atoms[index].to_string()).collect();
        assert_eq!(
            order,
            [
                "app-misc/*",
                "*/*:0",
                "=app-misc/*-*10*",
                "app-misc/hello",
                "<app-misc/hello-3",
                ">=app-misc/hello-2",
                ">=app-misc/hello-2.5",
                "app-misc/hello:0",
                "=app-misc/hello-2*",
                "~app-misc/hello-2.10",
                "=app-misc/hello-2.10",
            ]
        );
    }
}
