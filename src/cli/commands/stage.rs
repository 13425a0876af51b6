//! `gentoomuch stage build|ls|show|rm`

mod stage_lines;

use std::process::ExitCode;

use crate::artifact::Artifact;
use crate::config::ArtifactFormat;
use crate::history::stages;
use crate::history::stages::StageRemoval;
use crate::pipeline::pretend;
use crate::pipeline::stage;
use crate::pipeline::stage::StageOptions;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::by_hand::FailureArgs;
use super::store::all_was_readable;
use super::{Outcome, found, pretended};
use crate::cli::ask::agreed;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report;
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, human_bytes, print, print_either, print_json};

/// Build, list, show and remove stage4s and their artifacts
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:\n  gentoomuch stage build web\n  gentoomuch stage ls\n  gentoomuch stage show web")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Build),
    /// List stage4s with their artifacts
    ///
    /// Of each artifact: format, size, the key that signed it, age, and whether it is of the present state. Whether the configuration has changed since the present state was built, `gentoomuch pipeline plan` tells.
    #[command(after_help = "Examples:\n  gentoomuch stage ls\n  gentoomuch stage ls --json")]
    #[command(alias = "list")]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one stage4: its state, base, kernel, packages and artifacts
    #[command(after_help = "Example:\n  gentoomuch stage show web")]
    Show {
        /// A stage4
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    Rm(Rm),
}

/// Remove the artifacts of a stage4, and its state
///
/// The state is what `gentoomuch rm stage4/NAME` removes: it is refused if the stage4 has a definition. `--artifact` removes artifacts alone.
/// Damaged artifacts, and files that are not ours, are named and stay.
#[derive(Debug, clap::Args)]
#[command(alias = "remove")]
#[command(after_help = "Examples:
  gentoomuch stage rm old
  gentoomuch stage rm web --artifact stage4-amd64-web-20261012T184918Z-37c4e9eb789d.tar.xz
  gentoomuch stage rm web --artifact all --dry-run

Without a terminal, nothing is removed unless you give `--yes`.")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
struct Rm {
    /// A stage4
    name: String,
    /// Remove this artifact alone, or `all`, and keep the state; can be given several times
    #[arg(long, value_name = "FILE")]
    artifact: Vec<String>,
    /// Also remove a state that has a definition, or that something was built on; that stays as it is
    #[arg(long, conflicts_with = "artifact")]
    force: bool,
    /// Only show what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Build a stage4 and export it, signed, as a tarball or an image
///
/// First the stage3 definition that it names is built on the profile's stage3; all stage4s that name it share the result. If an input has
/// not changed since the last build, its result is reused.
///
/// A stage4 without packages that `--skip` or `--keep-going` left out is never taken for a whole one: the next build without these options
/// builds it anew. Its `.json` says what it lacks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch stage build web
  gentoomuch stage build --format tar.zst --no-sign web
  gentoomuch stage build --format oci web
  gentoomuch stage build --no-export web
  gentoomuch stage build --pretend web
  gentoomuch stage build --skip app-misc/broken web")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
struct Build {
    /// The stage4 definition
    name: String,
    /// Format of the artifact [default: `format` of the definition, or tar.xz]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Do not sign the artifact
    #[arg(long)]
    no_sign: bool,
    /// Build only the state, without an artifact; `shell` opens it
    #[arg(long, conflicts_with_all = ["format", "no_sign"])]
    no_export: bool,
    /// Packages and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    #[command(flatten)]
    incomplete: Incomplete,
    /// Build nothing: print emerge's own list (`emerge -pv`) of what would be merged
    #[arg(long, conflicts_with_all = ["format", "no_sign", "no_export", "keep_going"])]
    pretend: bool,
    #[command(flatten)]
    failure: FailureArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What a stage may lack.
#[derive(Debug, Clone, Default, clap::Args)]
struct Incomplete {
    /// Leave out this package of the definition; can be given several times
    #[arg(long, value_name = "CATEGORY/PACKAGE")]
    skip: Vec<String>,
    /// Leave out packages of the definition that do not build; the exit code is 6 then
    #[arg(short, long)]
    keep_going: bool,
}

/// Form of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// Smallest
    #[value(name = "tar.xz")]
    TarXz,
    /// Fastest
    #[value(name = "tar.zst")]
    TarZst,
    /// Readable by most programs
    #[value(name = "tar.gz")]
    TarGz,
    /// Not compressed
    Tar,
    /// An image for container engines, in the OCI image layout
    Oci,
    /// A file system image, made by the host's mksquashfs
    Squashfs,
}

impl From<FormatArg> for ArtifactFormat {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::TarXz => Self::TarXz,
            FormatArg::TarZst => Self::TarZst,
            FormatArg::TarGz => Self::TarGz,
            FormatArg::Tar => Self::Tar,
            FormatArg::Oci => Self::Oci,
            FormatArg::Squashfs => Self::Squashfs,
        }
    }
}

/// `size` and what is in it, in words.
pub(super) fn extent(artifact: &Artifact) -> String {
    let layers = artifact.layers.map_or_else(String::new, |layers| {
        let reused = if layers.reused > 0 { format!(" ({} packed before)", layers.reused) } else { String::new() };
        format!(" in {}{reused}", count(layers.count as u64, "layer"))
    });
    format!("{}, {} entries{layers}", human_bytes(artifact.size_bytes), artifact.entries)
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Command::Build(args) => build(args, invocation),
        Command::Ls { json } => {
            let opened = Opened::open(invocation)?;
            print_either(*json, &stages::stage_rows(&opened.context(None))?, |rows| stage_lines::rows(rows, super::now_secs()))?;
            all_was_readable(&opened)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { name, json } => {
            let opened = Opened::open(invocation)?;
            let shown = stages::stage_show(&opened.context(None), name)?;
            print_either(*json, &shown, |shown| stage_lines::shown(shown, super::now_secs()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Rm(args) => remove(args, invocation),
    }
}

/// What `rm --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Removed<'a> {
    #[serde(flatten)]
    removal: &'a StageRemoval,
    /// Whether it was done; else it is what would be.
    removed: bool,
}

fn remove(args: &Rm, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    let plan = stages::stage_remove_plan(&cx, &args.name, &args.artifact, args.force)?;
    let shown = |removal: &StageRemoval, removed: bool| {
        if args.json {
            print_json(&Removed { removal, removed })
        } else {
            print(stage_lines::removal(removal, removed, super::now_secs()))
        }
    };
    if args.dry_run || plan.artifacts.is_empty() && plan.names.names.is_empty() {
        shown(&plan, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        shown(&plan, false)?;
    }
    let names = if plan.names.names.is_empty() { "" } else { " and the state" };
    let question = format!("remove {}{names}", count(plan.artifacts.len() as u64, "artifact"));
    if !args.yes && !agreed(&question, &opened)? {
        return Ok(ExitCode::SUCCESS);
    }
    let done = stages::stage_remove(&cx, plan, args.force)?;
    invocation.progress.clear();
    shown(&done, true)?;
    Ok(ExitCode::SUCCESS)
}

/// `stage build NAME`, for a build that was entered by hand.
pub(super) fn build_anew(name: &str, limits: LimitArgs, invocation: &Invocation) -> Outcome {
    let name = name.to_owned();
    let (format, no_sign, no_export, jobs, pretend, json) = (None, false, false, None, false, false);
    let (incomplete, failure) = (Incomplete::default(), FailureArgs::default());
    build(&Build { name, format, no_sign, no_export, jobs, incomplete, pretend, failure, limits, json }, invocation)
}

fn build(args: &Build, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    // What is wrong with the words given needs no sandbox to be found out.
    config.stage4(&args.name)?;
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
    if args.pretend {
        let color = pretended::color(invocation, args.json);
        let list = pretend::stage_pretend(&opened.context(jobs), &config, &args.name, &args.incomplete.skip, color)?;
        return pretended::printed(&list, args.json, invocation);
    }
    let options = StageOptions {
        name: args.name.clone(),
        format: args.format.map(Into::into),
        gpg: if args.no_sign { None } else { Some(Invocation::gpg()) },
        export: !args.no_export,
        skip: args.incomplete.skip.clone(),
        keep_going: args.incomplete.keep_going,
    };
    let cx = opened.context(jobs);
    let built = args.failure.build(args.json, invocation, &opened, |config| stage::stage_build(&cx, config, &options))?;
    let built = match built {
        Ok(built) => built,
        Err(code) => return Ok(code),
    };
    invocation.progress.clear();
    // What was left out by name is what the user wanted.
    let is_whole = built.skipped.iter().all(|package| args.incomplete.skip.contains(package));
    let code = if is_whole { ExitCode::SUCCESS } else { ExitCode::from(report::Kind::Emerge.code()) };
    if args.json {
        crate::cli::table::print_json(&built)?;
        return Ok(code);
    }
    let came = found(&cx, &built.state, built.state_reused);
    crate::cli::table::print(format!("stage4    {}\nstate     {}{came}\n", built.name, built.state))?;
    if !built.skipped.is_empty() {
        crate::cli::table::print(format!("lacks     {}\n", built.skipped.join(" ")))?;
    }
    let Some(artifact) = &built.artifact else { return Ok(code) };
    crate::cli::table::print(format!(
        "artifact  {}{}\nformat    {}\nsize      {}\nsigned    {}\n",
        artifact.path.shown(),
        if artifact.reused { "  (unchanged)" } else { "" },
        artifact.format,
        extent(artifact),
        artifact.signed_by.as_deref().unwrap_or("no"),
    ))?;
    Ok(code)
}
