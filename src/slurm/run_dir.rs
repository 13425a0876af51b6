//! The directory of a run, which this machine and all nodes see.
//!
//! ```text
//! SHARED/                              0700, the user's
//!     trees/DIGEST.tar.zst, .json      ebuild trees, for all runs
//!     RUN/run.json                     a [`Plan`]
//!         jobs.json                    [`Jobs`]; replaced whenever one is submitted
//!         output/NNNN                  what the job of a node has printed
//!         nodes/NNNN-KIND.NAME/events  what is told meanwhile
//!                              result  a [`NodeResult`], in the end
//!                              logs/   what the build has logged
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trees::ShippedTree;
use super::{Error, Result, place};
use crate::beneath::{NAMES_LIMIT, TreeDir};
use crate::config::slurm::Slurm;
use crate::durable::{self, Mode};
use crate::path_error::PathError;
use crate::pipeline::Reported;

/// What the user has asked for: who attaches asks for the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Stage4 definitions; all if empty.
    pub(crate) names: Vec<String>,
    /// Format of the artifacts.
    pub(crate) format: Option<String>,
    pub(crate) no_sign: bool,
    pub(crate) keep_going: bool,
}

/// All that a job is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) asked: Asked,
    /// The digest of the configuration directory.
    pub(crate) configuration: String,
    /// The program with its options, up to the command.
    pub(super) program: Vec<String>,
    /// Jobs of each build.
    pub(super) jobs: Option<u32>,
    /// Options of `sbatch` for each job.
    pub(super) options: Vec<String>,
    /// Where jobs make their data directories.
    pub(super) directory: Option<PathBuf>,
    pub(super) distfiles: Option<PathBuf>,
    pub(super) trees: Vec<ShippedTree>,
    /// Each after those that it needs.
    pub(super) nodes: Vec<PlannedNode>,
}

/// A node that becomes a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedNode {
    pub(super) id: String,
    pub(super) key: String,
    /// Nodes that become jobs as well.
    pub(super) needs: Vec<String>,
    /// Names in the job's store, and the build keys of the states that they lead to, which the remote has.
    pub(super) given: BTreeMap<String, String>,
}

/// Which job builds a node, by the node's id.
pub(super) type Jobs = BTreeMap<String, Submitted>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Submitted {
    pub(super) job: String,
    /// How many jobs before it were lost.
    pub(super) lost: u32,
    /// The jobs before it, lost or cancelled. One may have been taken for lost and still run.
    #[serde(default)]
    pub(super) before: Vec<String>,
}

/// What became of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeResult {
    pub(super) job: String,
    /// False if the remote had it already.
    pub(crate) is_built: bool,
    pub(crate) seconds: f64,
    pub(crate) failure: Option<Reported>,
    /// Where logs were on the node, as messages name them.
    pub(super) logs: PathBuf,
}

/// A run: a directory that its jobs and those who follow them share, readable by the user alone.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    pub(super) dir: PathBuf,
    pub(crate) plan: Plan,
}

impl RunDir {
    /// Writes down a new one.
    pub(super) fn create(shared: &Path, plan: Plan) -> Result<Self> {
        let stamp = crate::clock::now().strftime("%Y%m%d-%H%M%S").to_string();
        let dir = shared.join(format!("{stamp}-{}", std::process::id()));
        fs::create_dir(&dir).map_err(PathError::of("create", &dir))?;
        let run = Self { dir, plan };
        durable::make_dirs(&run.dir.join("output"), Mode::Exactly(0o700))?;
        for node in &run.plan.nodes {
            let files = run.files(&node.id)?;
            durable::make_dirs(&files, Mode::Exactly(0o700))?;
            // A job that is being cancelled must make nothing anew in a directory that goes.
            durable::replace(&files.join("events"), b"", Mode::Exactly(0o600))?;
        }
        write(&run.dir.join("run.json"), &run.plan)?;
        Ok(run)
    }

    pub(super) fn open(dir: &Path) -> Result<Self> {
        place::is_own(dir)?;
        let path = dir.join("run.json");
        let plan = read(&path)?.ok_or_else(|| PathError::new("read", path, io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(Self { dir: dir.to_owned(), plan })
    }

    pub(crate) fn name(&self) -> String {
        name_of(&self.dir)
    }

    pub(super) fn node(&self, id: &str) -> Result<&PlannedNode> {
        let found = self.plan.nodes.iter().find(|node| node.id == id);
        found.ok_or_else(|| Error::NoNode { run: self.name(), id: id.to_owned() })
    }

    /// Which of the nodes it is, from 0.
    pub(super) fn index(&self, id: &str) -> Result<usize> {
        let at = self.plan.nodes.iter().position(|node| node.id == id);
        at.ok_or_else(|| Error::NoNode { run: self.name(), id: id.to_owned() })
    }

    /// The directory of a node.
    pub(super) fn files(&self, id: &str) -> Result<PathBuf> {
        Ok(self.dir.join("nodes").join(format!("{:04}-{}", self.index(id)?, id.replace('/', "."))))
    }

    /// What the job of a node has printed.
    pub(super) fn output(&self, id: &str) -> Result<PathBuf> {
        Ok(self.dir.join("output").join(format!("{:04}", self.index(id)?)))
    }

    pub(super) fn result(&self, id: &str) -> Result<Option<NodeResult>> {
        read(&self.files(id)?.join("result"))
    }

    pub(super) fn set_result(&self, id: &str, result: &NodeResult) -> Result<()> {
        write(&self.files(id)?.join("result"), result)
    }

    pub(super) fn jobs(&self) -> Result<Jobs> {
        Ok(read(&self.dir.join("jobs.json"))?.unwrap_or_default())
    }

    pub(super) fn set_jobs(&self, jobs: &Jobs) -> Result<()> {
        write(&self.dir.join("jobs.json"), jobs)
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(durable::replace(path, &serde_json::to_vec_pretty(value).unwrap_or_default(), Mode::Exactly(0o600))?)
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PathError::new("read", path, source).into()),
    }
}

/// The directory that all machines see.
pub(crate) fn shared_dir(data: &Path, slurm: &Slurm) -> PathBuf {
    slurm.shared.clone().unwrap_or_else(|| data.join("slurm"))
}

/// The runs in a shared directory, oldest first.
pub(super) fn runs(shared: &Path) -> Result<Vec<PathBuf>> {
    if !shared.is_dir() {
        return Ok(Vec::new());
    }
    let entries = TreeDir::open(shared)?.entries(NAMES_LIMIT)?;
    let is_run = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let names = entries.iter().filter(|entry| entry.is_dir()).filter_map(|entry| entry.text().filter(is_run));
    Ok(names.map(|name| shared.join(name)).filter(|dir| dir.join("run.json").exists()).collect())
}

/// The names of the user's runs in a shared directory, oldest first.
pub(crate) fn names(shared: &Path) -> Vec<String> {
    let runs = place::is_own(shared).and_then(|()| runs(shared)).unwrap_or_default();
    runs.iter().filter(|dir| place::is_own(dir).is_ok()).map(|dir| name_of(dir)).collect()
}

/// The run that is called so, or the only one.
pub(crate) fn find(shared: &Path, name: Option<&str>) -> Result<RunDir> {
    let runs = runs(shared)?;
    let known = || runs.iter().map(|dir| name_of(dir)).collect::<Vec<_>>();
    match (name, runs.as_slice()) {
        (Some(name), _) => {
            let dir = runs.iter().find(|dir| name_of(dir) == name);
            RunDir::open(dir.ok_or_else(|| Error::NoRun { run: name.to_owned(), known: known() })?)
        }
        (None, [only]) => RunDir::open(only),
        (None, []) => Err(Error::NoRuns),
        (None, _) => Err(Error::SeveralRuns { known: known() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_its_name_or_because_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        assert!(matches!(find(&shared, None), Err(Error::NoRuns)));
        place::own(&shared).unwrap();
        let node = PlannedNode { id: "stage3/demo/plain".to_owned(), ..PlannedNode::default() };
        let plan = Plan { nodes: vec![node], ..Plan::default() };
        let run = RunDir::create(&shared, plan.clone()).unwrap();
        assert_eq!(find(&shared, None).unwrap().plan, plan);
        assert_eq!(find(&shared, Some(&run.name())).unwrap().dir, run.dir);
        assert!(matches!(find(&shared, Some("other")), Err(Error::NoRun { .. })));
        assert!(run.files("stage3/demo/plain").unwrap().ends_with("nodes/0000-stage3.demo.plain"));
        assert_eq!(run.result("stage3/demo/plain").unwrap(), None);
        let result = NodeResult { job: "12".to_owned(), is_built: true, ..NodeResult::default() };
        run.set_result("stage3/demo/plain", &result).unwrap();
        assert_eq!(run.result("stage3/demo/plain").unwrap(), Some(result));
        fs::rename(&run.dir, shared.join("20200101-000000-1")).unwrap();
        RunDir::create(&shared, plan).unwrap();
        assert!(matches!(find(&shared, None), Err(Error::SeveralRuns { .. })));
        // What another user could have made is not offered.
        durable::make_dirs(&shared.join("20200101-000000-$(id)"), Mode::Exactly(0o700)).unwrap();
        fs::write(shared.join("20200101-000000-$(id)/run.json"), "{}").unwrap();
        assert_eq!(names(&shared).len(), 2);
        let open_to_all = |dir: &Path| fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        open_to_all(&shared.join("20200101-000000-1"));
        assert_eq!(names(&shared).len(), 1);
        open_to_all(&shared);
        assert_eq!(names(&shared), [""; 0]);
    }
}
