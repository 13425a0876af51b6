//! `audit`: security advisories and other versions of what is installed, as the trees are now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::context;
use crate::context::Context;
use crate::installed::whose::{Contents, Whose, all, whose};
use crate::installed::{Error, Result, asked, check_count, kept, read};
use crate::portage::atom::Atom;
use crate::portage::vdb::Package;
use crate::query::audit::{Advisories, Audit, Audited, Here, Status, Version};
use crate::store::StateId;
use crate::trees::choose::{PinnedTree, trees_of_state};

/// What was found about one state or artifact.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Finding {
    /// A name that commands take, or the path of an artifact.
    pub name: String,
    pub state: Option<StateId>,
    /// How many packages it has.
    pub package_count: usize,
    /// What it was held against.
    pub trees: Vec<TreeSeen>,
    /// `None`: the tree has none, so nothing is known.
    pub advisories: Option<Advisories>,
    /// Packages that are not the newest version.
    pub versions: Vec<Version>,
    /// Entries of its package database that cannot be read.
    pub unread: Vec<String>,
}

/// A tree snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TreeSeen {
    pub name: String,
    pub digest: String,
    /// Time of its newest file, seconds since the epoch.
    pub newest: i64,
}

/// What `--fail-on` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An advisory is about a package, or nobody knows whether one is.
    Glsa,
    /// A version is gone from its tree, and there is no newer one.
    Removed,
    /// There is a newer version.
    Outdated,
}

impl Finding {
    /// How many things of a kind there are to fail on. What is not known is not clean.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let versions = |status| self.versions.iter().filter(|version| version.status == status).count();
        match kind {
            Kind::Glsa => match &self.advisories {
                Some(known) => known.found.iter().filter(|one| !one.accepted).count() + known.unread.len() + self.unread.len(),
                None => 1,
            },
            Kind::Removed => versions(Status::Removed) + versions(Status::Unknown),
            Kind::Outdated => versions(Status::Outdated),
        }
    }
}

/// Findings by name, and what could not be held against anything.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    pub found: Vec<Finding>,
    pub failed: Vec<(String, Error)>,
}

/// Holds what `words` name against the trees as they are now; without words all stage4s and profiles. Of these one that cannot be asked
/// about keeps no other from it.
pub(crate) fn audit(cx: &Context<'_>, words: Option<&str>) -> Result<Audits> {
    let _shared = context::share_store(cx)?;
    let (subjects, failed) = match words {
        Some(_) => (vec![whose(cx, words)?], Vec::new()),
        None => all(cx)?,
    };
    let mut groups: BTreeMap<StateId, Vec<&Whose>> = BTreeMap::new();
    for subject in &subjects {
        groups.entry(subject.base.id.clone()).or_default().push(subject);
    }
    let mut audits = Audits { found: Vec::new(), failed };
    for group in groups.values() {
        match audit_on_one_base(cx, group) {
            Ok(found) => audits.found.extend(found),
            Err(error) if words.is_some() || is_interrupted(&error) => return Err(error),
            // Of several it may be one, so each has a session of its own.
            Err(_) if group.len() > 1 => {
                for subject in group {
                    match audit_on_one_base(cx, &[*subject]) {
                        Ok(found) => audits.found.extend(found),
                        Err(error) if is_interrupted(&error) => return Err(error),
                        Err(error) => audits.failed.push((subject.name.clone(), error)),
                    }
                }
            }
            Err(error) => audits.failed.extend(group.iter().map(|subject| subject.name.clone()).zip([error])),
        }
    }
    audits.found.sort_by(|a, b| a.name.cmp(&b.name));
    audits.failed.sort_by(|a, b| a.0.cmp(&b.0));
    if let Err(error) = kept::keep(cx, &audits.found) {
        cx.observer.warn(&format!("the result is not kept for reports: {}", crate::causes::in_one_line(&error)));
    }
    Ok(audits)
}

fn is_interrupted(error: &Error) -> bool {
    matches!(error, Error::Context(context::Error::Interrupted { .. }))
}

/// One session answers for all that were built on the same state.
fn audit_on_one_base(cx: &Context<'_>, group: &[&Whose]) -> Result<Vec<Finding>> {
    let Some(first) = group.first() else { return Ok(Vec::new()) };
    let trees = trees_of_state(cx, &first.base)?;
    let mut contents = Vec::new();
    for subject in group {
        contents.push(Listed::of(cx, subject)?);
    }
    let names: Vec<&str> = group.iter().map(|subject| subject.name.as_str()).collect();
    cx.observer.step(&format!("asking Portage about {}", names.join(", ")));
    let here: Vec<Vec<Here<'_>>> = contents.iter().map(|listed| listed.packages.iter().map(here).collect()).collect();
    let questions = here.iter().map(|packages| Audit { packages }).collect();
    let answers = asked(cx, &first.base, &trees, "audit", questions)?;
    let findings = group.iter().zip(contents).zip(answers);
    Ok(findings.map(|((subject, listed), answer)| finding(subject, listed, answer, &trees)).collect())
}

/// The packages of a state or an artifact, as far as they have names of packages.
struct Listed {
    packages: Vec<Package>,
    unread: Vec<String>,
    /// Ids of advisories that were dealt with.
    accepted: BTreeSet<String>,
}

impl Listed {
    fn of(cx: &Context<'_>, subject: &Whose) -> Result<Self> {
        let (packages, accepted) = match &subject.contents {
            Contents::State(state) => {
                let read = read(cx, &subject.name, state, false)?;
                (read.packages, read.accepted)
            }
            Contents::Listed { packages, .. } => (packages.clone(), Vec::new()),
        };
        check_count(&subject.name, packages.len())?;
        let (packages, unread): (Vec<_>, Vec<_>) = packages.into_iter().partition(is_package);
        let unread = unread.into_iter().map(|package| crate::terminal_text::visible_line(&package.cpv)).take(MAX_UNREAD).collect();
        Ok(Self { packages, unread, accepted: accepted.into_iter().collect() })
    }
}

/// More of what cannot be read says nothing new.
const MAX_UNREAD: usize = 100;

/// Whether a package has a name, a version and a slot. An image can have anything in its database.
pub(super) fn is_package(package: &Package) -> bool {
    let atom = Atom::parse_target(&format!("={}", package.cpv));
    let is_bare = |atom: Atom| {
        let rest = (&atom.slot, &atom.repository, &atom.build_id, atom.use_dependencies.as_slice());
        rest == (&None, &None, &None, &[]) && !package.cpv.ends_with('*')
    };
    !package.slot.is_empty() && atom.is_ok_and(is_bare)
}

fn here(package: &Package) -> Here<'_> {
    Here { cpv: &package.cpv, slot: &package.slot, repository: &package.repo }
}

fn finding(subject: &Whose, listed: Listed, answer: Audited, trees: &[PinnedTree]) -> Finding {
    let Audited { mut advisories, versions, unread } = answer;
    for one in advisories.iter_mut().flat_map(|known| &mut known.found) {
        one.accepted = listed.accepted.contains(&one.id);
    }
    let tree = |tree: &PinnedTree| TreeSeen { name: tree.name.clone(), digest: tree.digest.clone(), newest: tree.newest };
    Finding {
        name: subject.name.clone(),
        state: subject.state().cloned(),
        package_count: listed.packages.len(),
        trees: trees.iter().map(tree).collect(),
        advisories,
        versions,
        unread: listed.unread.into_iter().chain(unread).take(MAX_UNREAD).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::audit::Advisory;

    fn advisory(accepted: bool) -> Advisory {
        let [id, title, severity] = ["202611-01", "x", "high"].map(str::to_owned);
        Advisory { id, title, severity, packages: Vec::new(), accepted }
    }

    fn version(status: Status) -> Version {
        let [cpv, slot, newest, repository] = ["a/b-1", "0", "", ""].map(str::to_owned);
        Version { cpv, slot, status, newest, repository }
    }

    fn finding(advisories: Option<Advisories>, versions: Vec<Version>) -> Finding {
        let (name, trees, unread) = ("stage4/x".to_owned(), Vec::new(), Vec::new());
        Finding { name, state: None, package_count: 1, trees, advisories, versions, unread }
    }

    #[test]
    fn what_is_unknown_is_not_clean() {
        let advisories = |found, unread: &[&str]| {
            Some(Advisories { known: 9, found, unread: unread.iter().map(|text| (*text).to_owned()).collect() })
        };
        for (count, advisories) in [
            (0, advisories(vec![], &[])),
            (1, None),
            (1, advisories(vec![advisory(false), advisory(true)], &[])),
            (1, advisories(vec![], &["glsa-1: broken"])),
        ] {
            assert_eq!(finding(advisories.clone(), vec![]).count(Kind::Glsa), count, "{advisories:?}");
        }
        let mut half_read = finding(advisories(vec![], &[]), vec![]);
        half_read.unread.push("a/b".to_owned());
        assert_eq!(half_read.count(Kind::Glsa), 1);
        let versions = vec![version(Status::Outdated), version(Status::Removed), version(Status::Unknown)];
        let all = finding(None, versions);
        assert_eq!((all.count(Kind::Outdated), all.count(Kind::Removed)), (1, 2));
    }

    #[test]
    fn only_what_has_the_name_of_a_package_is_asked_about() {
        let package = |cpv: &str, slot: &str| Package { cpv: cpv.to_owned(), slot: slot.to_owned(), ..Package::default() };
        for (cpv, slot, good) in [
            ("app-misc/hello-2.10-r1", "0/1", true),
            ("app-misc/hello-2.10", "", false),
            ("app-misc/hello", "0", false),
            ("app-misc/hello-1[x]", "0", false),
            ("app-misc/hello-1:0", "0", false),
            ("app-misc/hello-1*", "0", false),
            ("../../etc-1", "0", false),
            ("a/b-1 c/d-1", "0", false),
        ] {
            assert_eq!(is_package(&package(cpv, slot)), good, "{cpv}");
        }
    }
}
