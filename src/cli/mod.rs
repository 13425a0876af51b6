//! The command line: a thin layer over the rest, which is the only one that prints, exits and reads the environment.
//!
//! [`main`] only finds out what is asked and turns the outcome into an exit code; each command is one file below `commands/`,
//! `report.rs` is the one place where errors become words, kinds and hints.

mod args;
mod ask;
mod commands;
mod complete;
mod failures;
mod forecast;
mod invocation;
mod limits;
mod opened;
mod progress;
mod report;
mod room;
mod screen;
#[cfg(test)]
mod shown;
mod table;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::cli::args::Global;
use crate::cli::commands::Command;
use crate::cli::invocation::Invocation;
use crate::cli::report::Failure;
use crate::sandbox;

/// Runs the program: what `src/main.rs` calls.
pub fn main() -> ExitCode {
    // Before any thread exists: a copy of this very program, started by itself, is the sandbox's helper: that path never returns.
    crate::enter_if_asked();
    report::install_panic_hook();
    // Writes beyond `RLIMIT_FSIZE` fail with words then, instead of killing us.
    let no_signal = crate::sys::signal::ignore_file_size();
    // What whoever started us left open is for nobody that we start: a descriptor of a directory is a way into it (CVE-2024-21626).
    let closed = crate::sys::fd::close_others_on_exec();
    if complete::answered() {
        return ExitCode::SUCCESS;
    }
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.global.note_given(&matches);
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return report::print_usage(&error),
    };
    let begun =
        closed.and(no_signal).map_err(sandbox::Error::from).and_then(|()| sandbox::refuse_directories()).map_err(Failure::from);
    let begun = if cli.command.shares_work() { begun.and_then(|()| crate::threads::pool().map_err(Failure::from)) } else { begun };
    let around_command = cli.command.is_around_another();
    let invocation = begun.and_then(|()| Invocation::new(&cli.global, cli.command.keeps_things()));
    // Where nothing is kept yet, whoever fails has to name the place.
    let invocation = invocation.map_err(|failure| failure.space_hint(Path::new("/")));
    if let (Err(failure), Command::Doctor(args)) = (&invocation, &cli.command)
        && args.is_json()
    {
        return commands::doctor::refused(failure).unwrap_or_else(|failure| report::print(failure, &cli.global));
    }
    let outcome = invocation.and_then(|invocation| {
        let outcome = commands::run(cli.command, &invocation);
        invocation.progress.clear();
        outcome.map_err(|failure| failure.space_hint(&invocation.places.data))
    });
    // Whose status is passed on must not be mistaken for ours, however early we fail.
    let outcome = outcome.map_err(|failure| if around_command { failure.around_command() } else { failure });
    match outcome {
        Ok(code) => code,
        Err(failure) => report::print(failure, &cli.global),
    }
}

/// Daemonless, rootless builder of Gentoo systems: verified stage3 in, signed stage4 out.
#[derive(Debug, Parser)]
#[command(name = "gentoomuch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch doctor
  gentoomuch keys fetch --gentoo
  gentoomuch sync
  gentoomuch bootstrap server amd64-openrc
  gentoomuch freshroot -- emerge app-misc/hello
  gentoomuch stage build web

Exit codes: 0 done, 1 other failure, 2 command line, 3 configuration, 4 verification,
5 this host cannot sandbox, 6 emerge failed, 7 signing failed, 10 `--check`: a change is
needed, 70 bug, 125 gentoomuch itself failed around your command, 130 interrupted.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}
