//! `gentoomuch diff STATE STATE`

mod diff_lines;

use std::process::ExitCode;

use crate::history::diff;
use crate::history::diff::DiffOptions;
use crate::progress::{Event, Observer as _, Unit};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table::{print, print_json};

/// Exit code of `--exit-code` if there is a difference, as diff(1) has it.
const DIFFERENT: u8 = 1;

/// Compare two build states: packages, USE flags and files
///
/// Packages are compared by name and slot; files by type, size, content, owner, mode, capabilities and link target. Times are not compared.
/// Without options, files are only counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch diff 'stage4/web@{1}' stage4/web
  gentoomuch diff profile/server stage4/web --packages
  gentoomuch diff stage4/web stage4/db --files /etc
  gentoomuch diff --exit-code release-1 stage4/web")]
pub(crate) struct Args {
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    #[arg(value_name = "STATE")]
    before: String,
    /// The state to compare it with, named in the same way
    #[arg(value_name = "STATE")]
    after: String,
    /// List files: all of them, or PATH and the files below it
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/")]
    files: Option<String>,
    /// Only compare packages
    #[arg(long, conflicts_with = "files")]
    packages: bool,
    /// Exit with 1 if there is a difference
    #[arg(long)]
    exit_code: bool,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    if let Some(path) = args.files.as_deref().filter(|path| !path.starts_with('/') || path.split('/').any(|part| part == "..")) {
        return Err(Failure::message(Kind::Usage, format!("`{path}` is not an absolute path without `..`")).hint(
            "for example `--files \
                /etc`",
        ));
    }
    let opened = Opened::open(invocation)?;
    let below = args.files.as_deref().filter(|path| *path != "/");
    let options = DiffOptions {
        before: args.before.clone(),
        after: args.after.clone(),
        // Of a part of the tree, packages are not the question.
        packages: below.is_none(),
        files: !args.packages,
        below: below.map(str::to_owned),
    };
    invocation.progress.event(&Event::Begin { what: "comparing", total: None, unit: Unit::Bytes });
    let diff = diff::diff(&opened.context(None), &options);
    invocation.progress.event(&Event::End);
    invocation.progress.clear();
    let diff = diff?;
    if args.json {
        print_json(&diff)?;
    } else {
        print(diff_lines::words(&diff, args.files.is_some()))?;
    }
    Ok(if args.exit_code && !diff.is_empty() { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}
