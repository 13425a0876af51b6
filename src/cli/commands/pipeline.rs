//! `gentoomuch pipeline [NAME…]`, `pipeline plan`, `pipeline node`, `pipeline attach`

mod cluster;
mod pipeline_lines;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{ArtifactFormat, ConfigDir};
use crate::context::Context;
use crate::pipeline;
use crate::pipeline::elsewhere::Elsewhere;
use crate::pipeline::formats::Drawing;
use crate::pipeline::run::{Outcome, Report as PipelineReport};
use crate::pipeline::{Node, Pipeline, PipelineOptions};
use crate::slurm;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

pub(super) use self::pipeline_lines::seconds;
use self::view::View;
use super::Outcome as CommandOutcome;
use super::stage::FormatArg;
use crate::cli::args::Global;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table::{print, print_json};

/// Build all stage4s, and everything that they need, in parallel
///
/// The stage4 definitions (all, or those that you name) and the stage3 definitions that they use form a graph. A node that several stages
/// need is built once. Nodes that do not need each other are built at the same time. A node that has not changed is reused. `--jobs` is the
/// budget of all builds together.
///
/// After a failure, running nodes finish and no new ones start. After an interruption, the same command goes on where it stopped.
///
/// With `--on slurm`, the nodes are jobs of a cluster, which hand their states to each other by the remote. `env/slurm` says what they ask for.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  gentoomuch pipeline
  gentoomuch pipeline --dry-run
  gentoomuch pipeline --keep-going --jobs 8 web mail
  gentoomuch pipeline --report report.html
  gentoomuch pipeline --on slurm --detach
  gentoomuch pipeline plan --format dot")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    build: Build,
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Stage4 definitions [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    how: How,
    /// After a failure, go on with the nodes that do not need the failed one
    #[arg(short, long)]
    keep_going: bool,
    /// Show what would be built, and why, but build nothing
    #[arg(short = 'n', long, visible_alias = "why")]
    dry_run: bool,
    /// Write a page about the run to FILE, also if it fails; see `gentoomuch report`
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    report: Option<PathBuf>,
    /// Build the nodes as jobs of a cluster, each on the machine that it chooses
    #[arg(long, value_enum, value_name = "CLUSTER")]
    on: Option<Cluster>,
    /// Do not wait for the jobs; `gentoomuch pipeline attach` does
    #[arg(long, requires = "on", conflicts_with_all = ["json", "report", "dry_run"])]
    detach: bool,
}

/// Who runs nodes on other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cluster {
    Slurm,
}

/// What all forms of the command take.
#[derive(Debug, clap::Args)]
struct How {
    /// Packages and make jobs to run at the same time, in all builds together [default: `env/jobs` of the configuration, or the number of
    /// processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    /// Format of the artifacts [default: `format` of each definition, or tar.xz]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Do not sign the artifacts
    #[arg(long)]
    no_sign: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the graph, so that another engine can run its nodes
    ///
    /// `gentoomuch pipeline node ID` builds one node, once the nodes that it needs are built.
    #[command(after_help = "Examples:
  gentoomuch pipeline plan --format dot | dot -Tsvg >pipeline.svg
  gentoomuch pipeline plan --format make >pipeline.mk
  gentoomuch pipeline plan --format gitlab >pipeline.yml")]
    Plan {
        /// Stage4 definitions [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// JSON with keys and reasons, a graph for Graphviz, a makefile, a child pipeline for GitLab, lists for the matrices of GitHub, or a
        /// Snakefile
        #[arg(long, value_enum, default_value_t = PlanFormat::Json)]
        format: PlanFormat,
        /// Do not sign the artifacts
        #[arg(long)]
        no_sign: bool,
        /// Jobs of each node, where the format has commands [default: `env/jobs` of the configuration, or the number of processors]
        #[arg(short, long, value_name = "N")]
        jobs: Option<u32>,
    },
    /// Build one node of the graph
    #[command(after_help = "Examples:
  gentoomuch pipeline node stage3/demo/plain
  gentoomuch pipeline node artifact/web")]
    Node {
        /// A node of `pipeline plan`: `stage3/PROFILE/DEFINITION`, `kernel/PROFILE/NAME`, `stage4/NAME`, `artifact/NAME`
        #[arg(value_name = "ID")]
        id: String,
        /// Refuse another configuration than the one with this digest
        #[arg(long, value_name = "DIGEST")]
        configuration_digest: Option<String>,
        /// Build a node of a run on a cluster, in a data directory that is made for it and removed in the end
        #[arg(long, value_name = "DIR")]
        run: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Wait for a run on a cluster, as the command does that has submitted it
    ///
    /// Ctrl-C cancels the jobs.
    #[command(after_help = "Examples:
  gentoomuch pipeline attach
  gentoomuch pipeline attach 20261130-101500-4711
  gentoomuch pipeline attach --cancel")]
    Attach {
        /// The run [default: the only one]
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Cancel its jobs and forget it, whatever the configuration says meanwhile
        #[arg(long, conflicts_with_all = ["report", "json"])]
        cancel: bool,
        /// Write a page about the run to FILE, also if it fails; see `gentoomuch report`
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// How a graph is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    Json,
    Dot,
    Make,
    Gitlab,
    Github,
    Snakemake,
}

/// The options of each node in a plan: those on the command line of this one. Nodes read the environment themselves, which may be another
/// one where they run.
fn flags(global: &Global, jobs: u32, no_sign: bool) -> Result<String, Failure> {
    let mut words = vec![format!("--jobs {jobs}")];
    words.extend(no_sign.then(|| "--no-sign".to_owned()));
    for (option, value) in global.given() {
        // Shells, make and YAML each take other characters for their own.
        if !value.chars().all(|c| c.is_alphanumeric() || "/:._-+@,=".contains(c)) {
            let fact = format!("a plan cannot hold `--{option} {}`", value.escape_debug());
            let hint = format!("set `GENTOOMUCH_{}` instead, here and where the nodes run", option.to_uppercase());
            return Err(Failure::message(Kind::Usage, fact).hint(hint));
        }
        words.push(format!("--{option}={value}"));
    }
    words.extend(global.push.then(|| "--push".to_owned()));
    words.extend(global.offline.then(|| "--offline".to_owned()));
    Ok(words.join(" "))
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> CommandOutcome {
    let config = invocation.config()?;
    match &args.command {
        Some(Command::Plan { names, format, no_sign, jobs }) => {
            let jobs = Invocation::jobs(*jobs, &config)?;
            let opened = Opened::open(invocation)?;
            let cx = opened.context(jobs);
            let pipeline = pipeline::pipeline(&cx, &config, options(names, None, *no_sign))?;
            let drawing = || Drawing::new(pipeline.nodes());
            let flags = || flags(&invocation.global, cx.settings.jobs, *no_sign);
            match format {
                PlanFormat::Json => print_json(&Planned { nodes: pipeline.nodes().collect() })?,
                PlanFormat::Dot => print(drawing().dot())?,
                PlanFormat::Make => print(drawing().make(&flags()?))?,
                PlanFormat::Gitlab => print(drawing().gitlab(&flags()?))?,
                PlanFormat::Github => print(drawing().github())?,
                PlanFormat::Snakemake => print(drawing().snakemake(&flags()?))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Attach { run, cancel, report, json }) => {
            let report = report.as_deref().map(|file| super::report::target(file, invocation)).transpose()?;
            cluster::attach(
                invocation,
                &config,
                run.as_deref(),
                *cancel,
                &Wanted { keep_going: false, json: *json, report: report.as_deref() },
            )
        }
        Some(Command::Node { id, how, configuration_digest, run }) => {
            let digest = configuration_digest.as_deref();
            let fits = digest.map_or(Ok(()), |digest| slurm::check_configuration(config.root(), digest));
            if let Some(run) = run {
                return cluster::job(invocation, &config, run, id, how, fits);
            }
            fits?;
            let jobs = Invocation::jobs(how.jobs, &config)?;
            let opened = Opened::open(invocation)?.limited(how.limits)?;
            let cx = opened.context(jobs);
            let pipeline = pipeline::pipeline_node(&cx, &config, options(&[], how.format(), how.no_sign), id)?;
            build(invocation, &cx, &opened, &pipeline, None, &Wanted { keep_going: false, json: how.json, report: None })
        }
        None => run_all(&args.build, invocation, &config),
    }
}

fn run_all(args: &Build, invocation: &Invocation, config: &ConfigDir) -> CommandOutcome {
    // What is wrong with the words given needs no sandbox to be found out.
    for name in &args.names {
        config.stage4(name)?;
    }
    let how = &args.how;
    let report = args.report.as_deref().map(|file| super::report::target(file, invocation)).transpose()?;
    let jobs = Invocation::jobs(how.jobs, config)?;
    let opened = Opened::open(invocation)?.limited(how.limits)?;
    let cx = opened.context(jobs);
    let pipeline = pipeline::pipeline(&cx, config, options(&args.names, how.format(), how.no_sign))?;
    if args.dry_run {
        return planned(&pipeline, how.json);
    }
    let wanted = Wanted { keep_going: args.keep_going, json: how.json, report: report.as_deref() };
    match args.on {
        Some(Cluster::Slurm) => cluster::submit(invocation, &cx, &opened, &pipeline, args, &wanted),
        None => build(invocation, &cx, &opened, &pipeline, None, &wanted),
    }
}

impl How {
    fn format(&self) -> Option<ArtifactFormat> {
        self.format.map(Into::into)
    }
}

/// What `plan` and `--dry-run --json` print.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Planned<'a> {
    nodes: Vec<&'a Node>,
}

fn options(names: &[String], format: Option<ArtifactFormat>, no_sign: bool) -> PipelineOptions {
    PipelineOptions {
        names: names.to_vec(),
        format,
        gpg: if no_sign { None } else { Some(Invocation::gpg()) },
        ..PipelineOptions::default()
    }
}

fn planned(pipeline: &Pipeline<'_, '_>, json: bool) -> CommandOutcome {
    if json {
        print_json(&Planned { nodes: pipeline.nodes().collect() })?;
    } else {
        print(pipeline_lines::planned(&pipeline.nodes().collect::<Vec<_>>(), pipeline.expected().left()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How a graph is run, and what is told of that.
struct Wanted<'w> {
    keep_going: bool,
    json: bool,
    report: Option<&'w Path>,
}

fn build(
    invocation: &Invocation,
    cx: &Context<'_>,
    opened: &Opened<'_>,
    pipeline: &Pipeline<'_, '_>,
    elsewhere: Option<&dyn Elsewhere>,
    wanted: &Wanted<'_>,
) -> CommandOutcome {
    if !pipeline.is_current() {
        opened.enter()?;
    }
    let view = View::new(&invocation.progress, pipeline);
    let result = pipeline.run_on(elsewhere, wanted.keep_going, &view);
    view.close();
    let mut report = result?;
    invocation.progress.clear();
    if wanted.json {
        print_json(&report)?;
    } else {
        print(pipeline_lines::summary(&report))?;
    }
    let written = wanted.report.map_or(Ok(()), |file| super::report::write(cx, &report.record, file, invocation));
    let outcome = outcome(invocation, &mut report);
    match written {
        // What went wrong in the run matters more.
        Err(failure) if outcome.is_err() => invocation.say_all(vec![failure]),
        written => written?,
    }
    outcome
}

/// Says what went wrong in each node, and which exit code that makes.
fn outcome(invocation: &Invocation, report: &mut PipelineReport) -> CommandOutcome {
    let failed = report.count(|outcome| *outcome == Outcome::Failed);
    let skipped = report.count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let not_begun = report.count(|outcome| *outcome == Outcome::NotBegun);
    let interrupted = report.count(|outcome| *outcome == Outcome::Interrupted) > 0 || (failed == 0 && not_begun > 0);
    let all = report.nodes.len();
    let failures = report.failures().into_iter().filter(|(_, error)| !error.is_interrupted());
    let mut failures: Vec<Failure> =
        failures.map(|(id, error)| Failure::from(error).about(format!("cannot build `{id}`"))).collect();
    if interrupted {
        invocation.say_all(failures);
        return Err(Failure::message(Kind::Interrupted, "interrupted").hint("repeat the command to go on where it stopped"));
    }
    if failures.len() < 2 && skipped + not_begun == 0 {
        return failures.pop().map_or(Ok(ExitCode::SUCCESS), Err);
    }
    let kind = if failures.iter().any(|failure| failure.is(Kind::Emerge)) { Kind::Emerge } else { failures[0].kind() };
    invocation.say_all(failures);
    let mut words = vec![format!("{failed} of {all} nodes failed")];
    words.extend((skipped > 0).then(|| format!("{skipped} that need them were skipped")));
    words.extend((not_begun > 0).then(|| format!("{not_begun} did not start")));
    let failure = Failure::message(kind, words.join(", ")).hint(
        "correct the cause and repeat the command: finished nodes are \
        kept",
    );
    Err(if not_begun > 0 { failure.hint("use `--keep-going` to build the nodes that do not need a failed one") } else { failure })
}
