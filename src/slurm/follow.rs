//! Waits for jobs as the driver waits for nodes that it builds itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{Seen, Verdict, verdict};
use super::run_dir::{Jobs, NodeResult, RunDir, Submitted};
use super::submit::{cancel, forget, is_job, submit_node};
use super::told::Listener;
use super::{Error, Result, cluster, place};
use crate::causes;
use crate::context::{self, Context};
use crate::durable::{self, Mode};
use crate::pipeline::elsewhere::{Arrived, Elsewhere};
use crate::pipeline::{self, Node, Pipeline, Reported};
use crate::progress::Observer;

/// How often a node's files are looked at.
const TICK: Duration = Duration::from_millis(300);
/// How often Slurm is asked.
const LOOK: Duration = Duration::from_secs(3);
/// How often the job of a node is submitted again.
const MOST_LOST: u32 = 2;
/// How much of what a job has printed is told.
const LAST_LINES: usize = 8;

/// A run whose jobs are waited for.
#[derive(Debug)]
pub(crate) struct Following<'f> {
    cx: &'f Context<'f>,
    run: RunDir,
    jobs: Mutex<Jobs>,
    queue: Mutex<Queue>,
}

/// What Slurm has said last.
#[derive(Debug, Default)]
struct Queue {
    asked: Option<Instant>,
    /// How often it has answered.
    answers: u64,
    seen: BTreeMap<String, Seen>,
}

/// What is known of one job while it is waited for.
#[derive(Debug, Default)]
struct Watched {
    /// What the user was told of it last.
    told: Option<(String, Seen)>,
    /// The answer by which it had ended, without a result.
    over: Option<u64>,
}

impl<'f> Following<'f> {
    pub(crate) fn new(cx: &'f Context<'_>, run: RunDir) -> Result<Self> {
        let jobs = Mutex::new(run.jobs()?);
        Ok(Self { cx, run, jobs, queue: Mutex::default() })
    }

    /// Fails if something of the pipeline would be built here, since it is not what was submitted.
    pub(crate) fn check(&self, pipeline: &Pipeline<'_, '_>) -> Result<()> {
        let other = pipeline.nodes().find(|node| is_job(node) && !self.takes(node));
        let Some(other) = other else { return Ok(()) };
        let wanted = self.run.node(&other.id)?.key.clone();
        Err(Error::OtherKey { id: other.id.clone(), found: other.key.clone().unwrap_or_default(), wanted })
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, id: &str, observer: &dyn Observer) -> Result<NodeResult> {
        let mut listener = Listener::new(self.run.files(id)?.join("events"));
        let mut watched = Watched::default();
        loop {
            context::not_interrupted(self.cx)?;
            listener.pass_on(observer);
            if let Some(result) = self.run.result(id)? {
                listener.pass_on(observer);
                return Ok(result);
            }
            self.watch(id, &mut watched, observer)?;
            std::thread::sleep(TICK);
        }
    }

    /// Tells where a job is, and sees to one that has ended without a result.
    fn watch(&self, id: &str, watched: &mut Watched, observer: &dyn Observer) -> Result<()> {
        let Some(submitted) = self.jobs().get(id).cloned() else {
            return Err(Error::NoNode { run: self.run.name(), id: id.to_owned() });
        };
        let Some((answer, seen)) = self.seen(&submitted.job, observer) else { return Ok(()) };
        let state = match seen {
            Some(seen @ (Seen::Waiting | Seen::Running(_))) => {
                watched.over = None;
                let told = Some((submitted.job.clone(), seen.clone()));
                if watched.told != told {
                    match &seen {
                        Seen::Running(host) => observer.note(&format!("job {} runs on {host}", submitted.job)),
                        _ => observer.step(&format!("waiting in the queue as job {}", submitted.job)),
                    }
                    watched.told = told;
                }
                return Ok(());
            }
            Some(Seen::Ended(state)) => Some(state),
            None => None,
        };
        // Its result may have come after we have looked for it; and what Slurm puts back into the queue is over for a moment.
        match watched.over {
            None => watched.over = Some(answer),
            Some(first) if answer > first + 1 => {
                watched.over = None;
                let ran = matches!(&watched.told, Some((job, Seen::Running(_))) if *job == submitted.job);
                self.over(id, &submitted, (state.as_deref(), ran), observer)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// What Slurm says of a job, with the number of its answer; `None` as long as it does not answer.
    fn seen(&self, job: &str, observer: &dyn Observer) -> Option<(u64, Option<Seen>)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.asked.is_none_or(|asked| asked.elapsed() >= LOOK) {
            match cluster::look(self.cx) {
                Ok(seen) => {
                    queue.seen = seen;
                    queue.answers += 1;
                }
                // Jobs go on without the controller.
                Err(error) if self.cx.interrupt.count() == 0 => {
                    let words = format!("Slurm does not answer: {}", causes::in_one_line(&error));
                    self.cx.told.note_once(observer, &words);
                }
                Err(_) => {}
            }
            queue.asked = Some(Instant::now());
        }
        (queue.answers > 0).then(|| (queue.answers, queue.seen.get(job).cloned()))
    }

    /// A job has ended without a result: it is submitted again, with all that waits for it, or that is the end of its node.
    fn over(&self, id: &str, ended: &Submitted, (state, ran): (Option<&str>, bool), observer: &dyn Observer) -> Result<()> {
        let mut jobs = self.jobs();
        if jobs.get(id) != Some(ended) || self.run.result(id)?.is_some() {
            return Ok(());
        }
        let word = state.unwrap_or("Slurm does not know it any more");
        if verdict(state, !ran && self.has_needs(id)?) == Verdict::Failed || ended.lost >= MOST_LOST {
            let output = self.run.output(id)?;
            let last_lines = last_lines(&output);
            let output = self.keep_output(id, &output);
            return Err(Error::Ended { id: id.to_owned(), job: ended.job.clone(), state: word.to_owned(), last_lines, output });
        }
        observer.warn(&format!(
            "job {} has ended without a result ({word}): it is submitted again, time {} of {MOST_LOST}",
            ended.job,
            ended.lost + 1
        ));
        let again = self.waits_for(id)?;
        // The first of them as well: it may be that only Slurm does not know it any more.
        let old: Vec<String> = again.iter().filter_map(|id| Some(jobs.get(id)?.job.clone())).collect();
        cluster::cancel(self.cx, &old)?;
        for other in &again {
            let node = self.run.node(other)?;
            let is_done = |id: &String| self.run.result(id).is_ok_and(|result| result.is_some());
            let needed = node.needs.iter().filter(|id| !is_done(id));
            let after: Vec<String> = needed.filter_map(|id| Some(jobs.get(id)?.job.clone())).collect();
            let job = submit_node(self.cx, &self.run, node, &after)?;
            let old = jobs.remove(other).unwrap_or_default();
            let before = old.before.into_iter().chain(Some(old.job).filter(|job| !job.is_empty())).collect();
            jobs.insert(other.clone(), Submitted { job, lost: old.lost + u32::from(other == id), before });
            self.run.set_jobs(&jobs)?;
        }
        Ok(())
    }

    /// Whether a node needs others, and all of them are made.
    fn has_needs(&self, id: &str) -> Result<bool> {
        let needs = &self.run.node(id)?.needs;
        let is_made = |id: &String| self.run.result(id).is_ok_and(|result| result.is_some_and(|result| result.failure.is_none()));
        Ok(!needs.is_empty() && needs.iter().all(is_made))
    }

    /// A node and those that need it, directly or indirectly, as far as they have no result.
    fn waits_for(&self, id: &str) -> Result<Vec<String>> {
        let mut found = vec![id.to_owned()];
        for node in &self.run.plan.nodes {
            if node.needs.iter().any(|need| found.contains(need)) && self.run.result(&node.id)?.is_none() {
                found.push(node.id.clone());
            }
        }
        Ok(found)
    }

    /// Keeps what a job has printed among the logs, since the directory of the run goes.
    fn keep_output(&self, id: &str, output: &Path) -> PathBuf {
        let kept = self.cx.places.logs().join(format!("slurm-{}-{}", self.run.name(), id.replace('/', ".")));
        let text = std::fs::read(output).unwrap_or_default();
        let written = durable::make_dirs(&kept, Mode::Exactly(0o700))
            .and_then(|()| durable::replace(&kept.join("output.log"), &text, Mode::Exactly(0o600)));
        if written.is_ok() { kept.join("output.log") } else { output.to_owned() }
    }

    /// Takes what the build has logged, and has a failure name it where it is now.
    fn settled(&self, id: &str, mut result: NodeResult) -> Result<NodeResult> {
        let (from, to) = (self.run.files(id)?.join("logs"), self.cx.places.logs());
        place::copy_logs(&from, &to)?;
        if let Some(failure) = &mut result.failure {
            renamed(failure, &result.logs.display().to_string(), &to.display().to_string());
        }
        Ok(result)
    }

    /// Ends what still runs or waits, and forgets the run.
    pub(crate) fn finish(self) {
        cancel(self.cx, &self.run, &self.jobs());
        forget(self.cx, &self.run);
    }
}

impl Elsewhere for Following<'_> {
    fn takes(&self, node: &Node) -> bool {
        // Also if the remote has something by its key: it may be what nobody has signed, for which the job was submitted.
        node.key.is_some() && self.run.node(&node.id).is_ok_and(|planned| Some(&planned.key) == node.key.as_ref())
    }

    fn wait(&self, node: &Node, observer: &dyn Observer) -> pipeline::Result<Arrived> {
        let result = self.follow(&node.id, observer).and_then(|result| self.settled(&node.id, result)).map_err(in_words)?;
        match result.failure {
            Some(failure) => Err(pipeline::Error::Elsewhere(Box::new(failure))),
            None => Ok(Arrived { is_built: result.is_built, seconds: result.seconds }),
        }
    }
}

/// As the driver knows it.
fn in_words(error: Error) -> pipeline::Error {
    match error {
        Error::Context(error) => error.into(),
        Error::Pipeline(error) => error,
        error => pipeline::Error::Elsewhere(Box::new(error.reported())),
    }
}

/// Has words name files below `to` that were below `from`.
fn renamed(failure: &mut Reported, from: &str, to: &str) {
    if from.is_empty() {
        return;
    }
    failure.words = failure.words.replace(from, to);
    failure.detail.iter_mut().chain(&mut failure.hints).for_each(|line| *line = line.replace(from, to));
    if let Some(cause) = &mut failure.cause {
        renamed(cause, from, to);
    }
}

fn last_lines(output: &Path) -> Vec<String> {
    let text = std::fs::read(output).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_logs_where_they_are_now() {
        let words = ["cannot read `/scratch/job-12/data/logs/a/emerge.log`".to_owned(), "gone".to_owned()];
        let hint = "the whole output is in /scratch/job-12/data/logs/a/emerge.log".to_owned();
        let mut failure = Reported::new(6, &words, Vec::new(), vec![hint]);
        renamed(&mut failure, "/scratch/job-12/data/logs", "/home/me/logs");
        assert_eq!(failure.words, "cannot read `/home/me/logs/a/emerge.log`");
        assert_eq!(failure.hints, ["the whole output is in /home/me/logs/a/emerge.log"]);
        assert_eq!(causes::all(&failure), ["cannot read `/home/me/logs/a/emerge.log`", "gone"]);
    }
}
