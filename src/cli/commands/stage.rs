//! `gentoomuch stage build NAME`

use std::process::ExitCode;

use crate::artifact::Artifact;
use crate::config::ArtifactFormat;
use crate::pipeline::stage;
use crate::pipeline::stage::StageOptions;
use clap::{Subcommand, ValueEnum};

use super::Outcome;
use super::by_hand::FailureArgs;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report;
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, human_bytes};

/// Build stage4s
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Example:\n  gentoomuch stage build web")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Build),
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
  gentoomuch stage build --skip app-misc/broken web")]
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
    let Command::Build(args) = &args.command;
    build(args, invocation)
}

/// `stage build NAME`, for a build that was entered by hand.
pub(super) fn build_anew(name: &str, limits: LimitArgs, invocation: &Invocation) -> Outcome {
    let name = name.to_owned();
    let (format, no_sign, no_export, jobs, json) = (None, false, false, None, false);
    let (incomplete, failure) = (Incomplete::default(), FailureArgs::default());
    build(&Build { name, format, no_sign, no_export, jobs, incomplete, failure, limits, json }, invocation)
}

fn build(args: &Build, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    // What is wrong with the words given needs no sandbox to be found out.
    config.stage4(&args.name)?;
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
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
    let reused = |yes| if yes { "  (unchanged)" } else { "" };
    crate::cli::table::print(format!("stage4    {}\nstate     {}{}\n", built.name, built.state, reused(built.state_reused)))?;
    if !built.skipped.is_empty() {
        crate::cli::table::print(format!("lacks     {}\n", built.skipped.join(" ")))?;
    }
    let Some(artifact) = &built.artifact else { return Ok(code) };
    crate::cli::table::print(format!(
        "artifact  {}{}\nformat    {}\nsize      {}\nsigned    {}\n",
        artifact.path.shown(),
        reused(artifact.reused),
        artifact.format,
        extent(artifact),
        artifact.signed_by.as_deref().unwrap_or("no"),
    ))?;
    Ok(code)
}
