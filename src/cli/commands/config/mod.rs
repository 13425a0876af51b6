//! `gentoomuch config …`: what the configuration directory says, without building anything.

mod check;
pub(super) mod diff;
pub(super) mod explain;
pub(super) mod findings;
mod graph;
pub(super) mod show;

use crate::config::{ConfigDir, PortageDir, Stage};
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::report::Failure;

/// Check, show, explain and compare the configuration
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Example:\n  gentoomuch config show web")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Show(show::Args),
    Explain(explain::Args),
    Diff(diff::Args),
    Graph(graph::Args),
}

/// Runs one subcommand.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Command::Check(args) => check::run(args, invocation),
        Command::Show(args) => show::run(args, invocation),
        Command::Explain(args) => explain::run(args, invocation),
        Command::Diff(args) => diff::run(args, invocation),
        Command::Graph(args) => graph::run(args, invocation),
    }
}

/// The stage `name` and its merged Portage directory.
fn read(config: &ConfigDir, name: &str) -> Result<(Stage, PortageDir), Failure> {
    let stage = config.stage(name)?;
    let portage = config.portage_dir(&stage.stage3)?;
    Ok((stage, portage))
}
