//! `gentoomuch tag STATE NAME`, `gentoomuch tag ls|rm`

use std::process::ExitCode;

use crate::history::log;
use crate::history::log::Tag;
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, print_either, short_id, short_time};

/// Give a build state a name that keeps it
///
/// A tag stays at its state when the names of stages and profiles move on, and `clean` keeps the state. Wherever you name a state, you can
/// write `NAME` instead of `tag/NAME`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch tag stage4/web release-1
  gentoomuch tag 'stage4/web@{2}' last-good
  gentoomuch tag ls
  gentoomuch tag rm release-1")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    #[arg(required = true)]
    state: Option<String>,
    /// The tag: letters, digits and `._+-`, with `/` between parts
    #[arg(required = true)]
    name: Option<String>,
    /// Move a tag that is at another state
    #[arg(long)]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tags
    #[command(after_help = "Example:\n  gentoomuch tag ls --json")]
    #[command(alias = "list")]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a tag; the state stays until `clean`
    #[command(after_help = "Example:\n  gentoomuch tag rm release-1")]
    #[command(alias = "remove")]
    Rm {
        /// The tag
        name: String,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    match (&args.command, &args.state, &args.name) {
        (Some(Command::Ls { json }), ..) => printed(*json, &log::tags(&cx)?, |tags| listed(tags)),
        (Some(Command::Rm { name, json }), ..) => {
            printed(*json, &log::tag_remove(&cx, name)?, |tag| format!("removed  {} ({})\n", tag.name, short_id(&tag.state)))
        }
        (None, Some(state), Some(name)) => printed(args.json, &log::tag(&cx, state, name, args.force)?, tagged),
        // The parser asks for both.
        (None, ..) => Ok(ExitCode::SUCCESS),
    }
}

fn printed<T: serde::Serialize>(json: bool, value: &T, words: impl Fn(&T) -> String) -> Outcome {
    print_either(json, value, words)?;
    Ok(ExitCode::SUCCESS)
}

fn tagged(tag: &Tag) -> String {
    let before = tag.before.as_ref().map_or_else(String::new, |before| format!("  (was {})", short_id(before)));
    format!("tag      {}\nstate    {}{before}\n", tag.name, short_id(&tag.state))
}

fn listed(tags: &[Tag]) -> String {
    if tags.is_empty() {
        return "there are no tags; make one with `gentoomuch tag STATE NAME`\n".to_owned();
    }
    let mut table = Table::new(&["TAG", "STATE", "SINCE", "WHAT"]);
    for tag in tags {
        let kind = tag.kind.clone().unwrap_or_else(|| "gone from the store".to_owned());
        table.row([tag.name.clone(), short_id(&tag.state), short_time(&tag.since), kind]);
    }
    table.render()
}
