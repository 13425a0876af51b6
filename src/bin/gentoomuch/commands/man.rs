//! `gentoomuch man DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;

use super::Outcome;
use crate::args::Cli;
use crate::invocation::Invocation;
use crate::report::{Failure, Kind};
use crate::screen::{Shown as _, Text};

/// Write the man pages, one for each command, into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Where to write; made if missing
    dir: PathBuf,
}

/// Writes `gentoomuch.1`, `gentoomuch-bootstrap.1`, … and prints each path.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let dir = invocation.path(&args.dir);
    let failed =
        |error: std::io::Error| Failure::new(Kind::Other, error).about(format!("cannot write man pages to `{}`", dir.shown()));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command().flatten_help(false), &dir).map_err(failed)?;
    let mut pages: Vec<_> = std::fs::read_dir(&dir)
        .map_err(failed)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("gentoomuch") && name.ends_with(".1"))
        .collect();
    pages.sort();
    let line = |name: &String| Text::line(&dir.join(name).shown()).words("\n");
    crate::table::print(pages.iter().map(line).collect::<Text>())?;
    Ok(ExitCode::SUCCESS)
}
