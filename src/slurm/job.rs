//! A job on its node: an empty data directory that is given what the run has planned with, and goes in the end.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::place::{JobDir, Machine, Mark};
use super::run_dir::{NodeResult, RunDir};
use super::told::Teller;
use super::{Error, Result, place};
use crate::context::{self, Context};
use crate::durable::{self, Mode};
use crate::path_error::PathError;
use crate::pipeline::run::{NodeReport, Outcome};
use crate::pipeline::{self, Pipeline, Reported};
use crate::places::Places;
use crate::progress::Observer;
use crate::remote::{self, Remote};
use crate::store::InMap;
use crate::{recipe, session};

/// Where a job finds itself.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    /// Slurm's number of it.
    pub(crate) job: String,
    /// Where data directories are made if the configuration does not say.
    pub(crate) tmp: PathBuf,
}

/// One node of a run that is built here.
#[derive(Debug)]
pub(crate) struct Job {
    run: RunDir,
    id: String,
    job: String,
    /// Where this machine has the directories of jobs.
    parent: PathBuf,
    machine: Machine,
    place: JobDir,
    teller: Teller,
}

impl Job {
    /// Makes its directories. Who follows the run is told why that is not possible.
    pub(crate) fn begin(run: &Path, id: &str, here: &Here) -> Result<Self> {
        let run = RunDir::open(run)?;
        run.node(id)?;
        Self::made(&run, id, here).inspect_err(|error| {
            let failure = Some(error.reported());
            let told = run.set_result(id, &NodeResult { job: here.job.clone(), failure, ..NodeResult::default() });
            tracing::debug!(?told, "who follows the run");
        })
    }

    fn made(run: &RunDir, id: &str, here: &Here) -> Result<Self> {
        let parent = run.plan.directory.as_ref().unwrap_or(&here.tmp).clone();
        let base = place::base(&parent, rustix::process::geteuid().as_raw())?;
        let machine = Machine::this()?;
        let mark = Mark { job: here.job.clone(), run: run.dir.clone(), node: id.to_owned(), machine: machine.clone() };
        let place = JobDir::new(&base, &mark)?;
        if let Some(shared) = &run.plan.distfiles {
            let cache = place.dir.join("cache");
            place::own(&cache)?;
            durable::make_dirs(shared, Mode::Exactly(0o755))?;
            let link = cache.join("distfiles");
            symlink(shared, &link).map_err(PathError::of("link", &link))?;
        }
        let teller = Teller::new(run.files(id)?.join("events"));
        Ok(Self { id: id.to_owned(), job: here.job.clone(), parent, machine, place, teller, run: run.clone() })
    }

    /// Its data and cache.
    pub(crate) fn places(&self, config: &Path) -> Places {
        Places { config: config.to_owned(), data: self.place.dir.join("data"), cache: self.place.dir.join("cache") }
    }

    /// Tells those who follow the run.
    pub(crate) fn observer(&self) -> &dyn Observer {
        &self.teller
    }

    /// Removes what killed jobs of this user have left on this node.
    pub(crate) fn sweep(&self, in_map: &impl InMap) {
        match JobDir::sweep(&self.parent, rustix::process::geteuid().as_raw(), &self.machine, in_map) {
            Ok(swept) if swept.is_empty() => {}
            Ok(swept) => self.observer().note(&format!("removed what killed jobs have left here: {}", swept.join(", "))),
            Err(error) => {
                self.observer().warn(&format!("what killed jobs have left here stays: {}", crate::causes::in_one_line(&error)));
            }
        }
    }

    /// Gives its store the trees and states that the run was planned with.
    pub(crate) fn prepare(&self, cx: &Context<'_>) -> Result<()> {
        let _shared = context::share_store(cx)?;
        for tree in &self.run.plan.trees {
            tree.unpack(cx)?;
        }
        let remote = Remote::open(cx)?;
        for (name, key) in &self.run.node(&self.id)?.given {
            context::not_interrupted(cx)?;
            cx.observer.step(&format!("fetching {name}"));
            let pulled = remote::pull(&remote, key, None)?.ok_or_else(|| Error::Missing { name: name.clone() })?;
            cx.store.ref_set(name, &pulled.state.id)?;
        }
        Ok(())
    }

    /// Fails unless the node would become here what it was planned to be.
    pub(crate) fn check(&self, pipeline: &Pipeline<'_, '_>) -> Result<()> {
        let wanted = &self.run.node(&self.id)?.key;
        let found = pipeline.nodes().find(|node| node.id == self.id).and_then(|node| node.key.clone()).unwrap_or_default();
        if found == *wanted { Ok(()) } else { Err(Error::OtherKey { id: self.id.clone(), found, wanted: wanted.clone() }) }
    }

    /// Fails unless others can fetch what was built: whoever publishes it only warns.
    pub(crate) fn check_pushed(&self, cx: &Context<'_>) -> Result<()> {
        let key = self.run.node(&self.id)?.key.as_str();
        if Remote::open(cx)?.counts(key)? { Ok(()) } else { Err(Error::Missing { name: self.id.clone() }) }
    }

    /// Writes down what became of the node, with its logs.
    pub(crate) fn end(&self, outcome: std::result::Result<&NodeReport, Reported>) -> Result<()> {
        let logs = self.place.dir.join("data/logs");
        let kept = self.run.files(&self.id)?.join("logs");
        place::copy_logs(&logs, &kept)?;
        self.teller.flush();
        let mut result = NodeResult { job: self.job.clone(), logs, ..NodeResult::default() };
        match outcome {
            Ok(report) => (result.is_built, result.seconds) = (report.outcome == Outcome::Built, report.seconds),
            Err(failure) => result.failure = Some(failure),
        }
        self.run.set_result(&self.id, &result)
    }

    /// Removes what it has made here before it could build anything. What another id owns stays until the next job.
    pub(crate) fn give_up(self) {
        self.teller.flush();
        self.place.remove_own();
    }

    /// Removes all that it has made here.
    pub(crate) fn remove(self, in_map: &impl InMap) -> Result<()> {
        self.teller.flush();
        self.place.remove(in_map)
    }
}

/// A failure as it is where its session is gone.
pub(crate) fn without_session(error: pipeline::Error) -> pipeline::Error {
    match error {
        pipeline::Error::Session(session::Error::Emerge { failure, log, .. }) => {
            pipeline::Error::Session(session::Error::Emerge { failure, log, resumable: false, enter: None })
        }
        pipeline::Error::Recipe(recipe::Error::Suspended(error)) => without_session((*error).into()),
        error => error,
    }
}
