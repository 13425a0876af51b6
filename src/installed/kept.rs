//! The last audit of each state, so that a report can show it: to audit costs a session.
//!
//! ```text
//! data/audits     JSON, a line for each state; the newest last
//! {"state":"01a2…","at":1700000000,"trees":[{"name":"gentoo","digest":"…","newest":1699990000}],"packages":42,
//!  "advisories":[{"id":"202611-01","severity":"high","title":"…","packages":["app-misc/hello-2.10"]}],"unread":0,"outdated":3,"removed":0,"unknown":0}
//! ```
//!
//! A line that is not like this is ignored and dropped by the next write, and so is one about a state that is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::installed::audit::{Finding, Kind, TreeSeen};
use crate::query::audit::Status;
use crate::{clock, context, durable};

/// How much of a file is read, and how many states are remembered: ours has less.
const MOST_BYTES: u64 = 16 << 20;
const MOST_STATES: usize = 2000;
/// How many advisories are remembered of a state.
const MOST_ADVISORIES: usize = 100;
/// The lock of those who write.
const LOCK: &str = "audits";

/// What the last audit of a state found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptAudit {
    state: String,
    /// When, seconds since 1970.
    pub(crate) at: i64,
    pub(crate) trees: Vec<TreeSeen>,
    /// How many packages the state has.
    pub(crate) packages: usize,
    /// Those to act on; `None` if the tree had no advisories, so that nothing is known.
    pub(crate) advisories: Option<Vec<KeptAdvisory>>,
    /// What there is to fail on besides: advisories and packages that could not be read.
    pub(crate) unread: usize,
    pub(crate) outdated: usize,
    pub(crate) removed: usize,
    /// Packages of trees that are not here.
    pub(crate) unknown: usize,
}

/// An advisory, without what is known of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptAdvisory {
    pub(crate) id: String,
    pub(crate) severity: String,
    pub(crate) title: String,
    pub(crate) packages: Vec<String>,
}

impl KeptAudit {
    /// `None` for an artifact whose state is not in the store.
    fn of(finding: &Finding, at: i64) -> Option<Self> {
        let versions = |status| finding.versions.iter().filter(|version| version.status == status).count();
        let advisories = finding.advisories.as_ref().map(|known| {
            let open = known.found.iter().filter(|one| !one.accepted).take(MOST_ADVISORIES);
            let kept = open.map(|one| KeptAdvisory {
                id: one.id.clone(),
                severity: one.severity.clone(),
                title: one.title.clone(),
                packages: one.packages.iter().map(|package| package.cpv.clone()).collect(),
            });
            kept.collect::<Vec<_>>()
        });
        let listed = advisories.as_ref().map_or(0, Vec::len);
        Some(Self {
            state: finding.state.as_ref()?.to_string(),
            at,
            trees: finding.trees.clone(),
            packages: finding.package_count,
            unread: if advisories.is_some() { finding.count(Kind::Glsa).saturating_sub(listed) } else { 0 },
            advisories,
            outdated: versions(Status::Outdated),
            removed: versions(Status::Removed),
            unknown: versions(Status::Unknown),
        })
    }
}

/// Keeps what was found, in place of what was found before.
pub(super) fn keep(cx: &Context<'_>, found: &[Finding]) -> context::Result<()> {
    let new: Vec<KeptAudit> = found.iter().filter_map(|one| KeptAudit::of(one, clock::now().as_second())).collect();
    if new.is_empty() {
        return Ok(());
    }
    let _lock = context::lock(cx, LOCK)?;
    let path = cx.places.audits();
    let is_there = |one: &KeptAudit| one.state.parse().is_ok_and(|id| cx.store.state(&id).is_ok());
    let mut all: Vec<KeptAudit> = read(&path).into_values().filter(is_there).collect();
    all.retain(|old| new.iter().all(|new| new.state != old.state));
    all.extend(new);
    all.sort_by_key(|one| one.at);
    let excess = all.len().saturating_sub(MOST_STATES);
    let lines = all[excess..].iter().filter_map(|one| serde_json::to_string(one).ok());
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    Ok(durable::replace(&path, text.as_bytes(), durable::Mode::Exactly(0o600))?)
}

/// The last audits, by the ids of states.
pub(crate) fn kept(cx: &Context<'_>) -> BTreeMap<String, KeptAudit> {
    read(&cx.places.audits())
}

fn read(path: &Path) -> BTreeMap<String, KeptAudit> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    if let Err(error) = file {
        tracing::debug!(path = %path.display(), %error, "no audits");
    }
    let text = String::from_utf8_lossy(&bytes);
    let all = text.lines().filter_map(|line| serde_json::from_str::<KeptAudit>(line).ok());
    all.map(|one| (one.state.clone(), one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::audit::{Advisories, Advisory, Affected, Version};

    fn finding() -> Finding {
        let version = |status| Version {
            cpv: "a/b-1".to_owned(),
            slot: "0".to_owned(),
            status,
            newest: String::new(),
            repository: String::new(),
        };
        let advisory = |id: &str, accepted| Advisory {
            id: id.to_owned(),
            title: "t".to_owned(),
            severity: "high".to_owned(),
            packages: vec![Affected { cpv: "a/b-1".to_owned(), fixed: String::new() }],
            accepted,
        };
        Finding {
            name: "stage4/web".to_owned(),
            state: Some("0".repeat(32).parse().unwrap()),
            package_count: 7,
            trees: vec![TreeSeen { name: "gentoo".to_owned(), digest: "d".to_owned(), newest: 5 }],
            advisories: Some(Advisories {
                known: 9,
                found: vec![advisory("1", false), advisory("2", true)],
                unread: vec!["x".to_owned()],
            }),
            versions: vec![version(Status::Outdated), version(Status::Outdated), version(Status::Removed)],
            unread: vec!["c/d".to_owned()],
        }
    }

    #[test]
    fn what_is_to_be_acted_on_is_kept() {
        let kept = KeptAudit::of(&finding(), 70).unwrap();
        let ids: Vec<&str> = kept.advisories.iter().flatten().map(|one| one.id.as_str()).collect();
        assert_eq!((ids, kept.unread, kept.outdated, kept.removed, kept.unknown), (vec!["1"], 2, 2, 1, 0));
        let unknown = KeptAudit::of(&Finding { advisories: None, ..finding() }, 70).unwrap();
        assert_eq!((unknown.advisories, unknown.unread), (None, 0));
        assert_eq!(KeptAudit::of(&Finding { state: None, ..finding() }, 70), None);
    }

    #[test]
    fn a_line_that_is_none_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audits");
        assert!(read(&path).is_empty());
        let good = KeptAudit::of(&finding(), 70).unwrap();
        let line = serde_json::to_string(&good).unwrap();
        std::fs::write(&path, format!("{{\n\n{{\"state\":\"x\"}}\n{line}\nrest")).unwrap();
        assert_eq!(read(&path).into_values().collect::<Vec<_>>(), [good]);
    }
}
