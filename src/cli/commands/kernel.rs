//! `gentoomuch kernel prep|build|update|diff|ls`

mod build;
pub(super) mod diff;
mod ls;
mod prep;
mod update;

use std::fmt::Write as _;

use crate::config::kconfig::SymbolChange;
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::report::{Failure, Kind};

/// Configure and build kernels for stage4s
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch kernel prep server --target defconfig
  gentoomuch kernel build server
  gentoomuch kernel ls")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Prep(prep::Args),
    Build(build::Args),
    Update(update::Args),
    Diff(diff::Args),
    #[command(alias = "list")]
    Ls(ls::Args),
}

/// Runs one subcommand.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Command::Prep(args) => prep::run(args, invocation),
        Command::Build(args) => build::run(args, invocation),
        Command::Update(args) => update::run(args, invocation),
        Command::Diff(args) => diff::run(args, invocation),
        Command::Ls(args) => ls::run(args, invocation),
    }
}

/// Lines for changes, each ended: all, or so many.
fn changes(changes: &[SymbolChange], most: usize) -> String {
    let mut text = String::new();
    for change in changes.iter().take(most) {
        let _ = writeln!(text, "{change}");
    }
    if changes.len() > most {
        text.push_str(&format!("and {} more\n", changes.len() - most));
    }
    text
}

/// Sources on the command line: as an atom, or without `sys-kernel/`.
fn parse_sources(text: &str) -> Result<crate::portage::atom::Atom, Failure> {
    crate::config::parse_kernel_sources(text).map_err(|error| {
        Failure::new(Kind::Usage, error)
            .about(format!("`{text}` names no kernel sources"))
            .hint("for example `gentoo-sources` or `=sys-kernel/gentoo-sources-6.12.4`")
    })
}
