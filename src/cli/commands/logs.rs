//! `gentoomuch logs [RUN] [LOG]`

use std::io::{self, BufRead as _, BufReader, IsTerminal as _};
use std::process::ExitCode;

use flate2::read::MultiGzDecoder;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{self, Shown as _, Text};
use crate::cli::table::{Table, count, human_bytes, print, print_json, short_time};
use crate::history::logs;
use crate::history::logs::{Log, Run};

/// Longer lines are printed in pieces.
const PIECE_BYTES: u64 = 64 * 1024;

/// List what builds have logged, and print a log
///
/// RUN is a stage, a profile, a node of a pipeline, or a name of the list; you get its newest run. LOG is a package, with or without
/// category and version, or another name of the second list. A log is printed in the colours that it was written in, if the output is a
/// terminal. The logs of a session that is still running come when emerge ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch logs
  gentoomuch logs web
  gentoomuch logs web app-misc/hello | less
  gentoomuch logs stage4/web emerge")]
pub(crate) struct Args {
    /// What was built [default: list all runs]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The log to print [default: list the logs of the run]
    #[arg(value_name = "LOG")]
    log: Option<String>,
    /// Print the list as JSON
    #[arg(long, conflicts_with = "log")]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    match (&args.run, &args.log) {
        (None, _) => {
            let runs = logs::runs(&cx)?;
            if args.json { print_json(&runs)? } else { print(all(&runs))? }
        }
        (Some(name), None) => {
            let run = logs::newest(&cx, Some(name))?;
            if args.json { print_json(&run)? } else { print(one(&run))? }
        }
        (Some(name), Some(log)) => {
            let run = logs::newest(&cx, Some(name))?;
            let log = run.log(log)?;
            copy(&run, log, invocation.global.color.enabled(io::stdout().is_terminal()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "nothing has been logged yet\n".to_owned();
    }
    let mut table = Table::new(&["RUN", "BEGAN", "PACKAGES", "SIZE"]);
    for run in runs {
        table.row([run.what.clone(), short_time(&run.began), run.packages().to_string(), human_bytes(run.bytes())]);
    }
    table.render()
}

fn one(run: &Run) -> String {
    let mut table = Table::new(&["LOG", "SIZE", "FILE"]);
    for log in &run.logs {
        table.row([log.name.clone(), human_bytes(log.bytes), log.file.shown()]);
    }
    let packages = count(run.packages() as u64, "package");
    format!(
        "{}\nrun    {}, began {}, {packages}\nfiles  in {}\n",
        table.render(),
        run.what,
        short_time(&run.began),
        run.dir.shown()
    )
}

/// Prints what a session has written, without anything that a terminal obeys but colours.
fn copy(run: &Run, log: &Log, color: bool) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(Kind::Other, error).about(format!("cannot read `{}`", run.dir.join(&log.file).shown()));
    let file = run.open(log)?.file;
    // As `FEATURES=compress-build-logs` has it.
    let packed = log.file.extension().is_some_and(|extension| extension == "gz");
    let plain: Box<dyn io::Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut file = BufReader::new(plain);
    let mut piece = Vec::new();
    while io::Read::take(&mut file, PIECE_BYTES).read_until(b'\n', &mut piece).map_err(failed)? > 0 {
        screen::out(&Text::of_program(&piece, color))?;
        piece.clear();
    }
    if color {
        screen::out(&Text::default().code("\x1b[0m"))?;
    }
    Ok(())
}
