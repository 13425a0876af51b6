//! What one run of a pipeline did, and when: a small file beside the logs, which is all that `report` needs of the run itself.
//!
//! ```text
//! logs/pipeline-20261122T083102Z[-N]/run.json    a [`Run`]; the directory is locked as long as the run goes on
//! ```
//!
//! It is written when nodes begin and end, and now and then in between, so that a run that was killed has left one, too. A run that has
//! nothing to do leaves none. What is in it comes from builds as often as not: it is bounded here, and made safe by whoever shows it.

mod recorder;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::beneath::{Entry, TreeDir};
use crate::context::Context;
use crate::portage::messages::Messages;
use crate::session::logs::is_written_to;

pub(crate) use self::recorder::{Ended, Recorder};

/// How directories of runs begin. No build logs to such a name.
pub(crate) const WHAT: &str = "pipeline";
/// The file in such a directory.
pub(crate) const FILE: &str = "run.json";
/// Raise it when a field means something else than before.
const VERSION: u32 = 1;
/// A longer file is nobody's.
const FILE_LIMIT_BYTES: u64 = 64 << 20;
const MOST_RUNS: usize = 1_000_000;

/// One run. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Run {
    pub version: u32,
    /// The version of gentoomuch.
    pub program: String,
    pub began: i64,
    /// `None`: it goes on, or was killed.
    pub ended: Option<i64>,
    /// The budget of jobs.
    pub jobs: u32,
    /// Ids of the nodes that were asked for: all others are there because these need them.
    pub wanted: Vec<String>,
    /// Each after those that it needs.
    pub nodes: Vec<NodeRun>,
    /// There were more packages than a record keeps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_packages: bool,
    /// Its directory, unless nothing is kept of it.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
}

/// What became of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeRun {
    pub id: String,
    /// `stage3`, `kernel`, `stage4`, `artifact`.
    pub kind: String,
    pub profile: String,
    pub name: String,
    pub needs: Vec<String>,
    pub result: Outcome,
    /// Which node failed, if it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Whether it went on with a suspended session.
    pub resumed: bool,
    /// Why it had to be built.
    pub why: Vec<Why>,
    /// Which of the places for nodes that are built at the same time it had, from 0.
    pub slot: Option<usize>,
    pub began: Option<i64>,
    pub ended: Option<i64>,
    /// The error, then its causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error: Vec<String>,
    pub state: Option<String>,
    /// The state that had the name before.
    pub before: Option<String>,
    /// Bytes of the layer that was built.
    pub layer_bytes: Option<u64>,
    pub artifact: Option<ArtifactRun>,
    /// The newest artifact of the same form before.
    pub artifact_before: Option<ArtifactRun>,
    /// In the order in which they began.
    pub packages: Vec<PackageRun>,
    /// Positions of those that go on.
    #[serde(skip)]
    pub open: Vec<usize>,
    #[serde(default)]
    pub messages: Messages,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What became of a node, as far as it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It waits, or did when the run was killed.
    #[default]
    Waiting,
    /// It is being built, or was when the run was killed.
    Begun,
    Reused,
    Fetched,
    Built,
    Failed,
    Skipped,
    Interrupted,
    NotBegun,
}

/// One reason to build a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Why {
    pub words: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
}

/// The archive or image that a node stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ArtifactRun {
    pub path: PathBuf,
    pub format: String,
    pub size_bytes: u64,
    pub signed_by: Option<String>,
    pub state: Option<String>,
}

/// One package that emerge worked on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageRun {
    /// `category/name-version`
    pub package: String,
    /// Which of the node's places for packages at the same time it had, from 0.
    pub lane: usize,
    pub began: i64,
    /// When it was merged into the root.
    pub merged: Option<i64>,
    pub ended: Option<i64>,
    /// Whether it was a binary package.
    pub binary: bool,
    pub failed: bool,
}

impl Run {
    /// What its directory is called.
    pub(crate) fn name(&self) -> Option<&str> {
        self.dir.as_ref()?.file_name()?.to_str()
    }

    /// Whether it goes on. One that has no end and does not go on was killed.
    pub(crate) fn goes_on(&self) -> bool {
        let dir = self.dir.as_ref().filter(|_| self.ended.is_none());
        dir.and_then(|dir| TreeDir::open(dir).ok()).is_some_and(|dir| is_written_to(&dir))
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.nodes.iter().filter(|node| node.result == outcome).count()
    }
}

impl NodeRun {
    /// How long it took, as far as it has come; 0 if nothing was done.
    pub(crate) fn millis(&self, run: &Run) -> i64 {
        let end = self.ended.or(run.ended).unwrap_or(run.began);
        self.began.map_or(0, |began| (end - began).max(0))
    }

    /// Whether something was done for it.
    pub(crate) fn was_begun(&self) -> bool {
        self.began.is_some()
    }
}

/// All runs that have left a record, the newest first. A record that cannot be read is none.
pub(crate) fn runs(cx: &Context<'_>) -> crate::beneath::Result<Vec<Run>> {
    let dir = cx.places.logs();
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let logs = TreeDir::open(&dir)?;
    let begin = format!("{WHAT}-");
    let mut found = Vec::new();
    for entry in logs.entries(MOST_RUNS)?.into_iter().filter(Entry::is_dir) {
        if entry.text().is_some_and(|name| name.starts_with(&begin)) {
            found.extend(read(&dir.join(entry.os())));
        }
    }
    found.sort_by(|a, b| (b.began, &b.dir).cmp(&(a.began, &a.dir)));
    Ok(found)
}

fn read(dir: &Path) -> Option<Run> {
    use std::io::Read as _;
    let plain = TreeDir::open(dir).ok()?.open_file(FILE).ok().filter(|plain| plain.size() <= FILE_LIMIT_BYTES)?;
    let mut bytes = Vec::new();
    plain.file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
    let run: Run = serde_json::from_slice(&bytes).ok()?;
    (run.version <= VERSION).then(|| Run { dir: Some(dir.to_owned()), ..run })
}
