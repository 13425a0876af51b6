//! `gentoomuch kernel build NAME`

use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::pipeline::kernel;

use crate::cli::commands::by_hand::FailureArgs;
use crate::cli::commands::{Outcome, found};
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::table::{count, print, print_json};

/// Build a kernel and its modules, once for all stage4s that use it
///
/// `stage build` and `pipeline` also build the kernels that their stage4s need. The result is kept as a layer with `/boot` and
/// `/usr/lib/modules`, and reused as long as sources, configuration and toolchain are the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch kernel build server
  gentoomuch kernel build server --profile musl-hardened --jobs 8")]
pub(super) struct Args {
    /// The kernel configuration
    name: String,
    /// The profile whose builder compiles [default: the default one]
    #[arg(short, long)]
    profile: Option<String>,
    /// Packages and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    #[command(flatten)]
    failure: FailureArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    // What is wrong with the words given needs no sandbox to be found out.
    config.kernel(&args.name)?;
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let cx = opened.context(jobs);
    let build = |config: &ConfigDir| kernel::kernel_build(&cx, config, &args.name, args.profile.as_deref());
    let built = match args.failure.build(args.json, invocation, &opened, build)? {
        Ok(built) => built,
        Err(code) => return Ok(code),
    };
    invocation.progress.clear();
    if args.json {
        print_json(&built)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "kernel     {}\nrelease    {}\nsources    {}\nprofile    {}\nstate      {}{}\noptions    {} built in, {}\n",
        built.name,
        built.release,
        built.package,
        built.profile,
        built.state,
        found(&cx, &built.state, built.reused),
        built.built_in,
        count(built.modules, "module"),
    );
    if built.initramfs {
        text.push_str(&format!("initramfs  /boot/initramfs-{}.img\n", built.release));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
