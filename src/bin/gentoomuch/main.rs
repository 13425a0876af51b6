//! The `gentoomuch` program: a thin command line over the library.
//!
//! `main` only finds out what is asked and turns the outcome into an exit code; each command is one file below `commands/`,
//! `report.rs` is the one place where errors become words, kinds and hints.

mod args;
mod commands;
mod context;
mod failures;
mod failures_kernel;
mod failures_patch;
mod limits;
mod progress;
mod report;
mod screen;
mod shop;
#[cfg(test)]
mod shown;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::context::Context;

fn main() -> ExitCode {
    // Before any thread exists: a copy of this very program, started by itself, is the sandbox's helper: that path never returns.
    gentoomuch::sandbox::helper::enter_if_asked(gentoomuch::build::tasks::lookup);
    report::install_panic_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::print_usage(&error),
    };
    let outcome = Context::new(&cli.global, cli.command.keeps_things()).and_then(|context| {
        let outcome = commands::run(cli.command, &context);
        context.progress.clear();
        outcome.map_err(|failure| failure.space_hint(&context.places.data))
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => report::print(&failure, &cli.global),
    }
}
