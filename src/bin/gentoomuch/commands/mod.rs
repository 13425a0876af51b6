//! The commands, one file each: its arguments with their help, and `run`.

mod binhost;
mod bootstrap;
mod clean;
mod completions;
mod config;
mod cp;
mod diff;
mod doctor;
mod experiment;
mod export;
mod freshroot;
mod init;
mod kernel;
mod keys;
mod live;
mod log;
mod man;
mod patch;
mod pipeline;
mod profile;
mod resolve;
mod rollback;
mod shell;
mod stage;
mod stage3;
mod store;
mod sync;
mod tag;
mod tree;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use self::stage3::{keys_failure, load_keys, now_secs, verify_failure};
use crate::context::Context;
use crate::report::Failure;

/// What a command returns: the exit code, 0 unless a user's command had another.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Doctor(doctor::Args),
    Init(init::Args),
    Config(config::Args),
    Keys(keys::Args),
    Sync(sync::Args),
    Tree(tree::Args),
    Stage3(stage3::Args),
    Bootstrap(bootstrap::Args),
    Profile(profile::Args),
    Resolve(resolve::Args),
    Try(experiment::Args),
    Patch(patch::Args),
    Kernel(kernel::Args),
    Freshroot(freshroot::Args),
    Shell(shell::Args),
    Cp(cp::Args),
    Stage(stage::Args),
    Pipeline(pipeline::Args),
    Export(export::Args),
    Log(log::Args),
    Diff(diff::Args),
    Rollback(rollback::Args),
    Tag(tag::Args),
    Store(store::Args),
    Binhost(binhost::Args),
    Clean(clean::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Whether it runs a command of the user's, whose exit code it has.
    pub(crate) fn is_around_another(&self) -> bool {
        match self {
            Self::Freshroot(args) => !args.prints_plan(),
            Self::Shell(args) => !args.prints_plan(),
            Self::Patch(args) => args.is_shell(),
            _ => false,
        }
    }

    /// Whether it may put something into the data or cache directory. Those that read or write the configuration alone make none.
    pub(crate) fn keeps_things(&self) -> bool {
        !matches!(self, Self::Init(_) | Self::Config(_) | Self::Keys(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// Runs one command.
pub(crate) fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Init(args) => init::run(&args, context),
        Command::Config(args) => config::run(&args, context),
        Command::Keys(args) => keys::run(&args, context),
        Command::Sync(args) => sync::run(&args, context),
        Command::Tree(args) => tree::run(&args, context),
        Command::Stage3(args) => stage3::run(&args, context),
        Command::Bootstrap(args) => bootstrap::run(&args, context),
        Command::Profile(args) => profile::run(&args, context),
        Command::Resolve(args) => resolve::run(&args, context),
        Command::Try(args) => experiment::run(&args, context),
        Command::Patch(args) => patch::run(&args, context),
        Command::Kernel(args) => kernel::run(&args, context),
        Command::Freshroot(args) => freshroot::run(&args, context),
        Command::Shell(args) => shell::run(&args, context),
        Command::Cp(args) => cp::run(&args, context),
        Command::Stage(args) => stage::run(&args, context),
        Command::Pipeline(args) => pipeline::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Log(args) => log::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Rollback(args) => rollback::run(&args, context),
        Command::Tag(args) => tag::run(&args, context),
        Command::Store(args) => store::run(&args, context),
        Command::Binhost(args) => binhost::run(&args, context),
        Command::Clean(args) => clean::run(&args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, context),
    }
}
