//! Checks an ebuild's `LICENSE` against the accepted licences, as Portage does (`_config/LicenseManager.py`).

use std::collections::{BTreeMap, BTreeSet};

use super::atom::is_flag;

/// No `LICENSE` has deeper brackets.
const MAX_DEPTH: usize = 64;

/// Groups of licences, from files called `license_groups`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LicenceGroups(BTreeMap<String, Vec<String>>);

impl LicenceGroups {
    /// Adds a file: each line has a group's name, then its members. If several files have the same group, their members are united.
    pub(crate) fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
            if let Some(name) = words.next() {
                self.0.entry(name.to_owned()).or_default().extend(words.map(str::to_owned));
            }
        }
    }

    /// Words of `ACCEPT_LICENSE` or `package.license` with `@GROUP` and `-@GROUP` replaced by the group's members; an unknown group stays
    /// as it is.
    pub(crate) fn expand<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut expanded = Vec::new();
        for word in words {
            let (minus, name) = word.strip_prefix('-').map_or(("", word), |name| ("-", name));
            match name.strip_prefix('@') {
                Some(group) => {
                    let mut members = Vec::new();
                    self.members(group, &mut BTreeSet::new(), &mut members);
                    expanded.extend(members.into_iter().map(|member| format!("{minus}{member}")));
                }
                None => expanded.push(word.to_owned()),
            }
        }
        expanded
    }

    fn members(&self, group: &str, seen: &mut BTreeSet<String>, into: &mut Vec<String>) {
        let known = self.0.get(group).filter(|members| !members.is_empty());
        let Some(members) = known.filter(|_| seen.len() < MAX_DEPTH && seen.insert(group.to_owned())) else {
            into.push(format!("@{group}"));
            return;
        };
        // A `-` within a group has no effect in Portage.
        for member in members.iter().filter(|member| !member.starts_with('-')) {
            match member.strip_prefix('@') {
                Some(inner) => self.members(inner, seen, into),
                None => into.push(member.clone()),
            }
        }
    }
}

/// Portage's replacement for `|| ( )`, which nothing satisfies.
const EMPTY_ANY_OF: &str = "__const__/empty-any-of";
const ANY_OF: &str = "||";

/// A `LICENSE` without conditions, in the form of `use_reduce(…, opconvert=True)` in `portage/dep/__init__.py`: of a list whose first
/// word is `||` one element has to be satisfied, of other lists all.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'a> {
    Word(&'a str),
    List(Vec<Part<'a>>),
}

impl Part<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if *own == word)
    }
}

fn is_any_of(parts: &[Part<'_>]) -> bool {
    parts.first().is_some_and(|part| part.is(ANY_OF))
}

/// The licences of the `LICENSE` in `text` that are not in `accepted`: expanded words, of which the last one about a licence counts.
/// `is_on` tells whether a USE flag is on. `None` if the text cannot be parsed.
pub(crate) fn missing(text: &str, accepted: &[String], is_on: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    let parts = reduced(text, is_on)?;
    // Of all conditions, met or not.
    let all = text.split_whitespace().filter(|word| !matches!(*word, "(" | ")" | ANY_OF) && !word.ends_with('?'));
    let mut acceptable: BTreeSet<&str> = BTreeSet::new();
    for word in accepted {
        match word.strip_prefix('-') {
            Some("*") => acceptable.clear(),
            Some(name) => drop(acceptable.remove(name)),
            None if word == "*" => acceptable.extend(all.clone()),
            None => drop(acceptable.insert(word)),
        }
    }
    let mut lacking = Vec::new();
    for name in refused(&parts, &acceptable) {
        if !lacking.contains(&name) {
            lacking.push(name);
        }
    }
    Some(lacking)
}

/// Evaluates the conditions, bracket by bracket. The result has Portage's shape, since that decides which licences are named as missing.
fn reduced<'a>(text: &'a str, is_on: &dyn Fn(&str) -> bool) -> Option<Vec<Part<'a>>> {
    let mut stack: Vec<Vec<Part<'a>>> = vec![Vec::new()];
    let mut needs_bracket = false;
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "(" if words.peek() == Some(&")") => return None,
            "(" => {
                needs_bracket = false;
                stack.push(Vec::new());
            }
            _ if needs_bracket => return None,
            ")" => {
                let group = stack.pop().filter(|_| !stack.is_empty())?;
                close(&mut stack, group, is_on)?;
            }
            "->" => return None,
            word => {
                needs_bracket = word == ANY_OF || word.ends_with('?');
                stack.last_mut()?.push(Part::Word(word));
            }
        }
        if stack.len() > MAX_DEPTH {
            return None;
        }
    }
    stack.pop().filter(|_| stack.is_empty() && !needs_bracket)
}

/// Closes a bracket: adds it to the one around it, the last of `stack`.
fn close<'a>(stack: &mut [Vec<Part<'a>>], mut group: Vec<Part<'a>>, is_on: &dyn Fn(&str) -> bool) -> Option<()> {
    let (outer, around) = stack.split_last_mut()?;
    let is_single = group.len() == 1 || is_any_of(&group);
    match outer.last() {
        Some(Part::Word(ANY_OF)) if group.is_empty() => {
            group.push(Part::Word(EMPTY_ANY_OF));
            outer.pop();
        }
        Some(Part::Word(word)) if word.ends_with('?') => {
            let flag = word.strip_suffix('?')?;
            let (flag, wanted) = flag.strip_prefix('!').map_or((flag, true), |flag| (flag, false));
            if !is_flag(flag) {
                return None;
            }
            outer.pop();
            if is_on(flag) != wanted {
                return Some(());
            }
        }
        _ => {}
    }
    if group.is_empty() {
        return Some(());
    }
    let ends_in_any_of = |parts: &[Part<'_>]| parts.last().is_some_and(|part| part.is(ANY_OF));
    let chooses = ends_in_any_of(outer);
    let chooses_around = around.last().is_some_and(|parts| ends_in_any_of(parts));
    match (chooses, chooses_around) {
        (false, false) => outer.extend(group),
        (false, true) => append(outer, around, group, is_single),
        (true, _) if is_single => {
            outer.pop();
            append(outer, around, group, true);
        }
        (true, true) => {
            outer.pop();
            outer.extend(group);
        }
        (true, false) => {
            outer.pop();
            group.insert(0, Part::Word(ANY_OF));
            outer.push(Part::List(group));
        }
    }
    Some(())
}

/// Drops redundant brackets within `||` (`special_append`).
fn append<'a>(outer: &mut Vec<Part<'a>>, around: &[Vec<Part<'a>>], mut group: Vec<Part<'a>>, is_single: bool) {
    if !is_single {
        outer.push(Part::List(group));
    } else if is_any_of(&group) && around.last().and_then(|parts| parts.last()).is_some_and(|part| part.is(ANY_OF)) {
        outer.extend(group.into_iter().skip(1));
    } else if let [Part::List(only)] = group.as_mut_slice() {
        let only = std::mem::take(only);
        match (is_any_of(&only), among_choices(around)) {
            (true, true) => outer.extend(only.into_iter().skip(1)),
            (false, false) => outer.extend(only),
            _ => outer.push(Part::List(only)),
        }
    } else {
        outer.extend(group);
    }
}

/// Whether the innermost enclosing bracket with an operator is an `||`; conditions are skipped.
fn among_choices(around: &[Vec<Part<'_>>]) -> bool {
    for parts in around.iter().rev() {
        match parts.last() {
            Some(Part::Word(ANY_OF)) => return true,
            Some(Part::Word(word)) if !word.ends_with('?') => return false,
            _ => {}
        }
    }
    false
}

/// `LicenseManager._getMaskedLicenses`.
fn refused(parts: &[Part<'_>], acceptable: &BTreeSet<&str>) -> Vec<String> {
    let one = |part: &Part<'_>| match part {
        Part::Word(name) if acceptable.contains(name) => Vec::new(),
        Part::Word(name) => vec![(*name).to_owned()],
        Part::List(parts) => refused(parts, acceptable),
    };
    if !is_any_of(parts) {
        return parts.iter().flat_map(one).collect();
    }
    // All are named, since we do not know which one the user would accept.
    let each: Vec<Vec<String>> = parts.iter().skip(1).map(one).collect();
    if each.iter().any(Vec::is_empty) { Vec::new() } else { each.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> LicenceGroups {
        let mut groups = LicenceGroups::default();
        groups.add("# all of them\nGPL GPL-2 GPL-3 # and later\nFREE @GPL MIT -EULA\nEMPTY\nROUND @CIRCLE x\nCIRCLE @ROUND y\n");
        groups.add("FREE BSD\n");
        groups
    }

    #[test]
    fn groups_are_expanded_as_far_as_they_are_known() {
        for (words, expanded) in [
            ("* -@GPL", "* -GPL-2 -GPL-3"),
            ("@FREE", "GPL-2 GPL-3 MIT BSD"),
            ("@NONE -@EMPTY", "@NONE -@EMPTY"),
            ("@ROUND", "@ROUND y x"),
        ] {
            assert_eq!(groups().expand(words.split(' ')).join(" "), expanded, "{words}");
        }
    }

    #[test]
    fn what_is_missing_is_what_portage_says() {
        for (licence, accepted, missing) in [
            ("GPL-2", "* -@GPL", Some("GPL-2")),
            ("GPL-2 MIT", "@FREE", Some("")),
            ("EULA", "-* @FREE", Some("EULA")),
            ("EULA", "-* @FREE EULA", Some("")),
            ("EULA", "* -EULA *", Some("")),
            ("|| ( EULA MIT )", "@FREE", Some("")),
            ("|| ( EULA ( MIT OTHER ) )", "@FREE", Some("EULA OTHER")),
            ("on? ( EULA ) off? ( OTHER ) !off? ( MIT )", "-*", Some("EULA MIT")),
            ("|| ( off? ( EULA ) )", "-*", Some("__const__/empty-any-of")),
            ("( EULA EULA )", "-*", Some("EULA")),
            ("", "-*", Some("")),
            ("( EULA", "*", None),
            ("EULA )", "*", None),
            ("|| EULA", "*", None),
            ("on?", "*", None),
        ] {
            let accepted = groups().expand(accepted.split(' '));
            let lacking = super::missing(licence, &accepted, &|flag| flag == "on");
            assert_eq!(lacking.map(|names| names.join(" ")).as_deref(), missing, "{licence} {accepted:?}");
        }
        let deep = format!("{}EULA{}", "( ".repeat(100_000), " )".repeat(100_000));
        assert_eq!(super::missing(&deep, &[], &|_| true), None);
    }

    /// What `LicenseManager.getMissingLicenses` of Portage 3.0.83 answers.
    #[test]
    fn brackets_count_as_portage_counts_them() {
        for (licence, accepted, missing) in [
            ("|| ( on? ( A B ) C )", "A", Some("B C")),
            ("|| ( on? ( A B ) C )", "C", Some("")),
            ("|| ( on? ( A B ) C )", "A B", Some("")),
            ("|| ( off? ( A B ) C )", "A", Some("C")),
            ("|| ( off? ( EULA ) off? ( B ) )", "-*", Some("__const__/empty-any-of")),
            ("|| ( off? ( EULA ) ) A", "-*", Some("__const__/empty-any-of A")),
            ("|| ( A off? ( B ) )", "-*", Some("A")),
            ("|| ( ( off? ( A ) ) C )", "-*", Some("C")),
            ("|| ( ( off? ( A ) ) C )", "C", Some("")),
            ("( off? ( A ) ) C", "-*", Some("C")),
            ("on? ( A B ) C", "A", Some("B C")),
            ("on? ( || ( A B ) ) C", "B", Some("C")),
            ("|| ( on? ( A ) C )", "A", Some("")),
            ("|| ( on? ( on? ( A B ) ) C )", "A", Some("B C")),
            ("|| ( || ( A B ) C )", "B", Some("")),
            ("|| ( ( || ( A B ) D ) C )", "B", Some("D C")),
            ("|| ( ( || ( A B ) ) C )", "B", Some("")),
            ("|| ( on? ( || ( A B ) ) C )", "B", Some("")),
            ("|| ( on? ( || ( A B ) D ) C )", "B", Some("D C")),
            ("|| ( ( A B ) )", "A", Some("B")),
            ("|| ( ( ( A B ) ) C )", "A", Some("B C")),
            ("|| ( on? ( A B ) )", "A", Some("B")),
            ("|| ( || ( off? ( A ) ) C )", "-*", Some("__const__/empty-any-of C")),
            ("|| ( || ( off? ( A ) ) C )", "C", Some("")),
            ("|| ( || ( on? ( A B ) ) C )", "A", Some("B C")),
            ("|| ( ( A || ( B D ) ) C )", "A", Some("B D C")),
            ("|| ( A ( B on? ( D ) ) )", "B", Some("A D")),
            ("on? ( || ( off? ( A ) B ) )", "-*", Some("B")),
            ("on? ( || ( off? ( A ) ) )", "-*", Some("__const__/empty-any-of")),
            ("( A ( B ) )", "-*", Some("A B")),
            ("|| ( ( ) C )", "*", None),
            ("!? ( A )", "-*", None),
            ("A -> B", "*", None),
            ("!!on? ( A )", "-*", None),
            ("|| ( off? ( A ) )", "*", Some("__const__/empty-any-of")),
        ] {
            let accepted: Vec<String> = accepted.split(' ').map(str::to_owned).collect();
            let lacking = super::missing(licence, &accepted, &|flag| flag == "on");
            assert_eq!(lacking.map(|names| names.join(" ")).as_deref(), missing, "{licence} {accepted:?}");
        }
    }
}
