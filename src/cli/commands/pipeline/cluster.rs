//! `pipeline --on slurm`, `pipeline attach`, and `pipeline node --run`, which is what the jobs run.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::{ArtifactFormat, ConfigDir};
use crate::context::{Context, Tools};
use crate::pipeline::elsewhere::Nowhere;
use crate::pipeline::run::{NodeReport, PassOn};
use crate::pipeline::{self, Pipeline};
use crate::progress::{Event, Observer};
use crate::sandbox::Interrupt;
use crate::slurm::{self, Asked, Following, Job, RunDir, Submitter};
use crate::threads;

use super::{Build, CommandOutcome, How, Wanted, build, options};
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table::print;
use crate::limits::Asked as AskedLimits;

/// How long a session may take to end by itself when Slurm ends its job. The rest of `KillWait`, thirty seconds, is for what is removed then.
const PATIENCE: Duration = Duration::from_secs(8);

/// Submits what has to be built, and follows it.
pub(super) fn submit(
    invocation: &Invocation,
    cx: &Context<'_>,
    opened: &Opened<'_>,
    pipeline: &Pipeline<'_, '_>,
    args: &Build,
    wanted: &Wanted<'_>,
) -> CommandOutcome {
    let how = &args.how;
    if how.limits.asked() != AskedLimits::default() {
        return Err(Failure::message(Kind::Usage, "jobs of a cluster have the limits of the configuration")
            .hint("write them into `env/limits`; `env/slurm` says what a job asks for"));
    }
    let config = ConfigDir::open(&invocation.places.config)?;
    let asked = Asked {
        names: args.names.clone(),
        format: how.format().map(|format| format.to_string()),
        no_sign: how.no_sign,
        keep_going: args.keep_going,
    };
    if !pipeline.is_current() {
        opened.enter()?;
    }
    let how = Submitter { slurm: config.slurm()?, asked, program: program(invocation, cx)?, jobs: how.jobs };
    match slurm::submit(cx, &config, pipeline, how)? {
        None => build(invocation, cx, opened, pipeline, Some(&Nowhere), wanted),
        Some(run) if args.detach => {
            invocation.progress.event(&Event::Note(&format!("follow it with `gentoomuch pipeline attach {}`", run.name())));
            print(format!("{}\n", run.name()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(run) => follow(invocation, cx, opened, pipeline, run, wanted),
    }
}

/// Plans what a run was submitted for, and follows it.
///
/// Who has changed the configuration meanwhile can still end the run, and follow it if what it builds is the same.
pub(super) fn attach(
    invocation: &Invocation,
    config: &ConfigDir,
    run: Option<&str>,
    cancel: bool,
    wanted: &Wanted<'_>,
) -> CommandOutcome {
    let run = slurm::find(&slurm::shared_dir(&invocation.places.data, &config.slurm()?), run)?;
    let asked = run.plan.asked.clone();
    let format = asked.format.as_deref().and_then(|format| format.parse::<ArtifactFormat>().ok());
    let opened = Opened::open(invocation)?.limited(crate::cli::limits::LimitArgs::default())?;
    let cx = opened.context(Invocation::jobs(None, config)?);
    if cancel {
        slurm::end(&cx, &run)?;
        invocation.progress.event(&Event::Note(&format!("cancelled the jobs of {}", run.name())));
        return Ok(ExitCode::SUCCESS);
    }
    let fits = slurm::check_configuration(config.root(), &run.plan.configuration);
    let pipeline = pipeline::pipeline(&cx, config, options(&asked.names, format, asked.no_sign));
    if let Err(error) = fits {
        let is_same =
            pipeline.as_ref().is_ok_and(|pipeline| Following::new(&cx, run.clone()).is_ok_and(|f| f.check(pipeline).is_ok()));
        if !is_same {
            return Err(error.into());
        }
        invocation.progress.event(&Event::Warning(&format!("{error}; jobs that begin now fail")));
    }
    let pipeline = pipeline?;
    follow(invocation, &cx, &opened, &pipeline, run, &Wanted { keep_going: asked.keep_going, ..*wanted })
}

fn follow(
    invocation: &Invocation,
    cx: &Context<'_>,
    opened: &Opened<'_>,
    pipeline: &Pipeline<'_, '_>,
    run: RunDir,
    wanted: &Wanted<'_>,
) -> CommandOutcome {
    let name = run.name();
    let following = Following::new(cx, run)?;
    following.check(pipeline)?;
    let outcome = build(invocation, cx, opened, pipeline, Some(&following), wanted);
    if cx.interrupt.signal() == Some(libc::SIGHUP) {
        // The terminal is gone, not the wish.
        invocation.progress.event(&Event::Note(&format!("the jobs go on: `gentoomuch pipeline attach {name}`")));
        return outcome;
    }
    following.finish();
    outcome
}

/// The program as jobs start it: with the configuration, the remote and the switches of this command.
fn program(invocation: &Invocation, cx: &Context<'_>) -> Result<Vec<String>, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::new(Kind::Other, error).about("cannot find this program"))?;
    let text = |path: &Path| {
        let words = || Failure::message(Kind::Other, format!("the name of `{}` is not UTF-8", path.shown()));
        path.to_str().map(str::to_owned).ok_or_else(words)
    };
    let mut words = vec![text(&own)?, "--config".to_owned(), text(&invocation.places.config)?];
    if let Some(remote) = cx.settings.remote.as_deref() {
        words.extend(["--remote".to_owned(), remote.address.to_string(), "--push".to_owned()]);
    }
    if let Some(rung) = invocation.global.isolation {
        words.extend(["--isolation".to_owned(), rung.to_string()]);
    }
    if invocation.global.offline {
        words.push("--offline".to_owned());
    }
    Ok(words)
}

/// A job tells its own log, and those who follow the run.
struct Both<'o>(&'o dyn Observer, &'o dyn Observer);

impl Observer for Both<'_> {
    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
        self.1.event(event);
    }
}

/// Builds one node of a run, in a place of its own that goes in the end.
pub(super) fn job(
    invocation: &Invocation,
    config: &ConfigDir,
    run: &Path,
    id: &str,
    how: &How,
    fits: Result<(), slurm::Error>,
) -> CommandOutcome {
    // From the beginning: a job that is cancelled at once has made a directory.
    let interrupt = Interrupt::install()?;
    let job = Job::begin(&invocation.path(run), id, &Invocation::cluster_job())?;
    let there = invocation.at(job.places(config.root()));
    let opened = fits.map_err(Failure::from).and_then(|()| Opened::open_interruptible(&there, interrupt));
    let opened = opened.and_then(|opened| opened.limited(how.limits));
    // Whoever wanted that it ends knows what becomes of the node. Slurm's signal reaches all processes of a job, so anything may have failed.
    let told = |failure: Failure| {
        if Interrupt::asked() {
            return failure.of_kind(Kind::Interrupted);
        }
        job.end(Err(failure.reported())).map_or_else(Failure::from, |()| failure)
    };
    let opened = match opened.map_err(told) {
        Ok(opened) => opened,
        Err(failure) => {
            job.give_up();
            return Err(failure);
        }
    };
    let launcher = &opened.tools.launcher;
    let built = in_time(&opened.tools, || {
        job.sweep(launcher);
        built(&there, config, &job, id, how, &opened)
    });
    let outcome = match built {
        Ok(report) => job.end(Ok(&report)).map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        Err(failure) => Err(told(failure)),
    };
    if let Err(error) = job.remove(launcher) {
        invocation.say_all(vec![Failure::from(error).about("the directory of this job stays until the next one")]);
    }
    outcome
}

fn built(
    invocation: &Invocation,
    config: &ConfigDir,
    job: &Job,
    id: &str,
    how: &How,
    opened: &Opened<'_>,
) -> Result<NodeReport, Failure> {
    opened.enter()?;
    let both = Both(job.observer(), invocation.progress.as_ref());
    let cx = Context { observer: &both, ..opened.context(Invocation::jobs(how.jobs, config)?) };
    job.prepare(&cx)?;
    let pipeline = pipeline::pipeline_node(&cx, config, options(&[], None, true), id)?;
    job.check(&pipeline)?;
    let report = pipeline.run(false, &PassOn(&both))?.into_node(id).map_err(slurm::without_session)?;
    job.check_pushed(&cx)?;
    Ok(report)
}

/// Does `work`. When it is to end, the session gets the signal, and is killed if it takes too long.
fn in_time<T>(tools: &Tools, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let watch = || {
        let mut asked: Option<Instant> = None;
        while !over.load(Ordering::Relaxed) {
            if tools.interrupt.count() > 0 && asked.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                return tools.cancel();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    std::thread::scope(|scope| {
        // Without a thread the session may take longer, and what is left goes with the next job.
        let watching = threads::scoped(scope, "end a job in time with", watch);
        if let Err(error) = &watching {
            tracing::warn!("{error}");
        }
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}
