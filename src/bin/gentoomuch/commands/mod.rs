//! The commands, one file each: its arguments with their help, and `run`.

mod completions;
mod keys;
mod man;
mod stage3;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;
use crate::report::Failure;

/// What a command returns: the exit code, 0 unless a user's command had another.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Keys(keys::Args),
    Stage3(stage3::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs one command.
pub(crate) fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Keys(args) => keys::run(&args, context),
        Command::Stage3(args) => stage3::run(&args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, context),
    }
}
