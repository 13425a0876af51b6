//! `gentoomuch kernel prep NAME`

use std::process::ExitCode;

use crate::kernel::prep;
use crate::kernel::prep::{KernelPrepared, PrepOptions as KernelPrepOptions};
use clap::ValueEnum;

use super::{changes, parse_sources};
use crate::cli::commands::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, print, print_json};

/// So many changed options are listed.
const MOST: usize = 40;

/// Make or change a kernel configuration with the kernel's own menus
///
/// The sources are installed on the profile's builder once, and `make` runs there, on this terminal. The saved configuration becomes
/// `kernel.configs/NAME.kconf`, with a header that names sources and version. If the file exists already, `make` starts from it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch kernel prep server
  gentoomuch kernel prep server --target tinyconfig
  gentoomuch kernel prep server --sources '=sys-kernel/gentoo-sources-6.12.4'")]
pub(super) struct Args {
    /// The kernel configuration
    name: String,
    /// The sources: an atom, or `gentoo-sources` [default: those that the configuration names, or gentoo-sources]
    #[arg(long, value_name = "ATOM")]
    sources: Option<String>,
    /// The profile whose builder has the sources [default: the default one]
    #[arg(short, long)]
    profile: Option<String>,
    /// The target of `make`
    #[arg(long, value_enum, default_value_t = Target::Nconfig)]
    target: Target,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A target of the kernel's makefile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Menus
    Nconfig,
    /// Older menus
    Menuconfig,
    /// A question for each new option
    Oldconfig,
    /// No questions: new options get their defaults
    Olddefconfig,
    /// No questions: the architecture's defaults
    Defconfig,
    /// No questions: as few options as possible
    Tinyconfig,
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Runs it.
pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let options = KernelPrepOptions {
        name: args.name.strip_suffix(".kconf").unwrap_or(&args.name).to_owned(),
        profile: args.profile.clone(),
        sources: args.sources.as_deref().map(parse_sources).transpose()?,
        target: args.target.name(),
        asks: matches!(args.target, Target::Nconfig | Target::Menuconfig | Target::Oldconfig),
        continues: !matches!(args.target, Target::Defconfig | Target::Tinyconfig),
        terminal: crate::sandbox::terminal::is_ours(),
    };
    if options.asks && !options.terminal {
        // Needs no sandbox to be found out.
        return Err(crate::kernel::Error::NoTerminal { target: options.target }.into());
    }
    let jobs = Invocation::jobs(None, &config)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let prepared = prep::kernel_prep(&opened.context(jobs), &config, &options)?;
    invocation.progress.clear();
    if args.json {
        print_json(&prepared)?;
    } else {
        print(words(&prepared))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(prepared: &KernelPrepared) -> String {
    let extent = format!("{} built in, {} from {}", prepared.built_in, count(prepared.modules as u64, "module"), prepared.package);
    let path = prepared.path.shown();
    match (prepared.written, prepared.existed) {
        (false, _) => format!("{path} stays as it is: {extent}\n"),
        (true, false) => format!("wrote {path}: {extent}\n"),
        (true, true) => format!("{}wrote {path}: {extent}\n", changes(&prepared.changes, MOST)),
    }
}
