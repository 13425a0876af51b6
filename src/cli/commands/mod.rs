//! The commands, one file each: its arguments with their help, and `run`.

mod audit;
mod binhost;
mod bootstrap;
mod by_hand;
mod clean;
mod completions;
mod config;
mod cp;
mod diff;
pub(crate) mod doctor;
mod experiment;
mod export;
mod freshroot;
mod init;
mod kernel;
mod keys;
mod live;
mod log;
mod logs;
mod man;
mod patch;
mod pipeline;
mod pretended;
mod profile;
mod remote;
mod report;
mod resolve;
mod rm;
mod rollback;
#[cfg(test)]
mod schema_tests;
mod shell;
mod stage;
mod stage3;
mod store;
mod sync;
mod tag;
mod tree;
mod why;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::invocation::Invocation;
use crate::cli::report::Failure;
use crate::context::Context;

pub(crate) use crate::cli::invocation::now_secs;

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
    Report(report::Args),
    Logs(logs::Args),
    Log(log::Args),
    Diff(diff::Args),
    Why(why::Args),
    Audit(audit::Args),
    Rollback(rollback::Args),
    Tag(tag::Args),
    Rm(rm::Args),
    Store(store::Args),
    Remote(remote::Args),
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

    /// Whether it has work for all processors. Threads for it cost as much as the start of a session where there are many processors.
    pub(crate) fn shares_work(&self) -> bool {
        !matches!(self, Self::Freshroot(_) | Self::Shell(_))
    }

    /// Whether it may put something into the data or cache directory. Those that read or write the configuration alone make none.
    pub(crate) fn keeps_things(&self) -> bool {
        !matches!(self, Self::Doctor(_) | Self::Init(_) | Self::Config(_) | Self::Keys(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// Runs one command.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Outcome {
    match command {
        Command::Doctor(args) => doctor::run(&args, invocation),
        Command::Init(args) => init::run(&args, invocation),
        Command::Config(args) => config::run(&args, invocation),
        Command::Keys(args) => keys::run(&args, invocation),
        Command::Sync(args) => sync::run(&args, invocation),
        Command::Tree(args) => tree::run(&args, invocation),
        Command::Stage3(args) => stage3::run(&args, invocation),
        Command::Bootstrap(args) => bootstrap::run(&args, invocation),
        Command::Profile(args) => profile::run(&args, invocation),
        Command::Resolve(args) => resolve::run(&args, invocation),
        Command::Try(args) => experiment::run(&args, invocation),
        Command::Patch(args) => patch::run(&args, invocation),
        Command::Kernel(args) => kernel::run(&args, invocation),
        Command::Freshroot(args) => freshroot::run(&args, invocation),
        Command::Shell(args) => shell::run(&args, invocation),
        Command::Cp(args) => cp::run(&args, invocation),
        Command::Stage(args) => stage::run(&args, invocation),
        Command::Pipeline(args) => pipeline::run(&args, invocation),
        Command::Export(args) => export::run(&args, invocation),
        Command::Report(args) => report::run(&args, invocation),
        Command::Logs(args) => logs::run(&args, invocation),
        Command::Log(args) => log::run(&args, invocation),
        Command::Diff(args) => diff::run(&args, invocation),
        Command::Why(args) => why::run(&args, invocation),
        Command::Audit(args) => audit::run(&args, invocation),
        Command::Rollback(args) => rollback::run(&args, invocation),
        Command::Tag(args) => tag::run(&args, invocation),
        Command::Rm(args) => rm::run(&args, invocation),
        Command::Store(args) => store::run(&args, invocation),
        Command::Remote(args) => remote::run(&args, invocation),
        Command::Binhost(args) => binhost::run(&args, invocation),
        Command::Clean(args) => clean::run(&args, invocation),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, invocation),
    }
}

/// What is printed behind a state that was not built.
fn found(cx: &Context<'_>, state: &str, reused: bool) -> &'static str {
    match cx.settings.remote.as_deref() {
        Some(remote) if remote.has_fetched(state) => "  (fetched)",
        _ if reused => "  (unchanged)",
        _ => "",
    }
}
