//! The `gentoomuch` program: a thin command line over the library.
//!
//! `main` only finds out what is asked and turns the outcome into an exit code; each command is one file below `commands/`,
//! `report.rs` is the one place where errors become words, kinds and hints.

mod args;
mod commands;
mod context;
mod progress;
mod report;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::context::Context;

fn main() -> ExitCode {
    // Before any thread exists: this may be one of our own helper processes.
    gentoomuch::sandbox::helper::enter_if_asked(|name| {
        gentoomuch::archive::tasks::lookup(name).or_else(|| gentoomuch::store::tasks::lookup(name))
    });
    report::install_panic_hook();
    let cli = Cli::parse();
    let outcome = Context::new(&cli.global).and_then(|context| {
        let outcome = commands::run(cli.command, &context);
        context.progress.clear();
        outcome
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => report::print(&failure, cli.global.color),
    }
}
