//! `gentoomuch kernel diff A B`

use std::process::ExitCode;

use crate::config::kconfig::SymbolChange;
use serde::Serialize;

use super::changes;
use crate::cli::commands::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::table::{print, print_json};

/// Show the options in which two kernel configurations differ
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line begins with `-` for an option that only the first has, `+` for one that only the second has, `~` for
another value; `n` is an option that is not set.

Examples:
  gentoomuch kernel diff server desktop
  gentoomuch kernel diff server desktop --json"
)]
pub(super) struct Args {
    /// The first kernel configuration
    from: String,
    /// The second
    to: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Report<'a> {
    from: &'a str,
    to: &'a str,
    changes: &'a [SymbolChange],
}

/// Runs it.
pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let (from, to) = (config.kernel(&args.from)?, config.kernel(&args.to)?);
    let found = from.symbols.changes(&to.symbols);
    if args.json {
        print_json(&Report { from: &from.name, to: &to.name, changes: &found })?;
    } else {
        print(changes(&found, usize::MAX))?;
    }
    Ok(ExitCode::SUCCESS)
}
