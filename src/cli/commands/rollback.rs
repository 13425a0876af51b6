//! `gentoomuch rollback REF [N]`

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::history::rollback;
use crate::history::rollback::{Rollback, WentBack};

use super::Outcome;
use super::profile::rolled_back;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{print, print_json, short_id, short_time};

/// Set a name back to an earlier state
///
/// A rollback is a step like any other: a second rollback undoes the first. If it is a profile, its stage3 goes back together with its
/// builder. Configuration and trees do not change: the next build goes forward again. Artifacts do not change either; `export` makes a new
/// one of the earlier state.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch rollback stage4/web
  gentoomuch rollback stage4/web 3
  gentoomuch rollback profile/server")]
pub(crate) struct Args {
    /// A name as `gentoomuch log` lists them
    #[arg(value_name = "REF")]
    name: String,
    /// How many steps back, as `log` counts them [default: 1]
    #[arg(value_name = "N")]
    to: Option<usize>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    // A configuration that cannot be read is no reason not to go back.
    let config = ConfigDir::open(&invocation.places.config).ok();
    let done = rollback::rollback(&opened.context(None), &args.name, args.to, config.as_ref())?;
    if args.json {
        print_json(&done)?;
    } else {
        print(&match &done {
            Rollback::Profile(done) => rolled_back(done),
            Rollback::Name(done) => words(done),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(done: &WentBack) -> String {
    let mut text = format!("name     {}, as of {}\n", done.name, short_time(&done.created));
    if done.moved.is_empty() {
        text.push_str("nothing has changed: it is at that state already\n");
    }
    for moved in &done.moved {
        let from = moved.from.as_ref().map_or_else(|| "nothing".to_owned(), short_id);
        let _ = writeln!(text, "moved    {from} -> {}", short_id(&moved.to));
    }
    text
}
