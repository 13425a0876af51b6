//! `LICENSE` of an ebuild against what is accepted, weighed as Portage does (`_config/LicenseManager.py`).

use std::collections::{BTreeMap, BTreeSet};

/// Deeper brackets than this are no `LICENSE` of anybody's.
const MAX_DEPTH: usize = 64;

/// Groups of licences, as files called `license_groups` define them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LicenceGroups(BTreeMap<String, Vec<String>>);

impl LicenceGroups {
    /// Adds what one file says: a line for each group, its name first. A group of several files has the members of all.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
            if let Some(name) = words.next() {
                self.0.entry(name.to_owned()).or_default().extend(words.map(str::to_owned));
            }
        }
    }

    /// Words of `ACCEPT_LICENSE` or `package.license` with the members of groups in place of `@GROUP` and `-@GROUP`; a group that
    /// there is not stays as it is.
    pub fn expand<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
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
        // Portage takes no member away from a group.
        for member in members.iter().filter(|member| !member.starts_with('-')) {
            match member.strip_prefix('@') {
                Some(inner) => self.members(inner, seen, into),
                None => into.push(member.clone()),
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Licence(String),
    All(Vec<Part>),
    Any(Vec<Part>),
    If { flag: String, on: bool, parts: Vec<Part> },
}

/// The licences of `text`, a `LICENSE`, that `accepted` lacks: expanded words, the last one about a licence counts. `is_on` says
/// whether a USE flag is. `None` where the text is not understood.
pub fn missing(text: &str, accepted: &[String], is_on: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    let parts = parse(text)?;
    let mut all = BTreeSet::new();
    names(&parts, &mut all);
    let mut acceptable: BTreeSet<&str> = BTreeSet::new();
    for word in accepted {
        match word.strip_prefix('-') {
            Some("*") => acceptable.clear(),
            Some(name) => drop(acceptable.remove(name)),
            None if word == "*" => acceptable.extend(&all),
            None => drop(acceptable.insert(word)),
        }
    }
    let mut lacking = Vec::new();
    for name in refused(&reduced(&parts, is_on), &acceptable) {
        if !lacking.contains(&name) {
            lacking.push(name);
        }
    }
    Some(lacking)
}

fn parse(text: &str) -> Option<Vec<Part>> {
    /// What a bracket that is open will be.
    enum Open {
        All,
        Any,
        If { flag: String, on: bool },
    }
    let mut stack: Vec<(Open, Vec<Part>)> = vec![(Open::All, Vec::new())];
    let mut next: Option<Open> = None;
    for word in text.split_whitespace() {
        match word {
            "(" => stack.push((next.take().unwrap_or(Open::All), Vec::new())),
            ")" => {
                let (open, parts) = stack.pop().filter(|_| !stack.is_empty() && next.is_none())?;
                stack.last_mut()?.1.push(match open {
                    Open::All => Part::All(parts),
                    Open::Any => Part::Any(parts),
                    Open::If { flag, on } => Part::If { flag, on, parts },
                });
            }
            _ if next.is_some() => return None,
            "||" => next = Some(Open::Any),
            word => match word.strip_suffix('?') {
                Some(flag) => {
                    let (flag, on) = flag.strip_prefix('!').map_or((flag, true), |flag| (flag, false));
                    next = Some(Open::If { flag: flag.to_owned(), on });
                }
                None => stack.last_mut()?.1.push(Part::Licence(word.to_owned())),
            },
        }
        if stack.len() > MAX_DEPTH {
            return None;
        }
    }
    let (_, parts) = stack.pop().filter(|_| stack.is_empty() && next.is_none())?;
    Some(parts)
}

fn names<'a>(parts: &'a [Part], into: &mut BTreeSet<&'a str>) {
    for part in parts {
        match part {
            Part::Licence(name) => drop(into.insert(name)),
            Part::All(parts) | Part::Any(parts) | Part::If { parts, .. } => names(parts, into),
        }
    }
}

/// Without conditions: what holds takes its place among its neighbours.
fn reduced(parts: &[Part], is_on: &dyn Fn(&str) -> bool) -> Vec<Part> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            Part::Licence(_) => all.push(part.clone()),
            Part::All(parts) => all.push(Part::All(reduced(parts, is_on))),
            Part::Any(parts) => all.push(Part::Any(reduced(parts, is_on))),
            Part::If { flag, on, parts } if is_on(flag) == *on => all.extend(reduced(parts, is_on)),
            Part::If { .. } => {}
        }
    }
    all
}

fn refused(parts: &[Part], acceptable: &BTreeSet<&str>) -> Vec<String> {
    let one = |part: &Part| match part {
        Part::Licence(name) if acceptable.contains(name.as_str()) => Vec::new(),
        Part::Licence(name) => vec![name.clone()],
        Part::All(parts) | Part::If { parts, .. } => refused(parts, acceptable),
        // All of them are named, since nobody knows which one the user would take.
        Part::Any(choices) => {
            let each: Vec<Vec<String>> = choices.iter().map(|choice| refused(std::slice::from_ref(choice), acceptable)).collect();
            if each.iter().any(Vec::is_empty) { Vec::new() } else { each.concat() }
        }
    };
    parts.iter().flat_map(one).collect()
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
            ("|| ( off? ( EULA ) )", "-*", Some("")),
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
}
