//! `gentoomuch report [RUN] [-o FILE]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, count, print, print_json};
use crate::context::Context;
use crate::progress::{Event, Observer as _};
use crate::record::{Outcome as Came, Run};
use crate::{context, durable, record, report};

/// Make a page about a run: what was built, when, and why
///
/// The page is one HTML file for a browser, without scripts: when each node and package ran, why something was built, the sizes of layers and
/// packages, what changed since the artifact before, what packages said, and where the logs are.
///
/// Runs of `pipeline`, `stage build`, `kernel build` and `bootstrap` that build something are recorded, also those that fail. RUN is a stage,
/// a profile, a node of a pipeline, or a name of the list; you get the newest run that has built it. Without RUN and without `--output` you
/// get the list.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch report
  gentoomuch report -o report.html
  gentoomuch report web -o web.html
  gentoomuch report stage3/demo/plain --json")]
pub(crate) struct Args {
    /// What was built [default: with `--output` the newest run, else list all runs]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Where to write the page [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the list, or what is recorded of the run, as JSON
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Row<'a> {
    run: &'a str,
    /// RFC 3339
    began: String,
    /// Seconds; `None`: it goes on, or was killed.
    seconds: Option<f64>,
    nodes: usize,
    built: usize,
    failed: usize,
    wanted: &'a [String],
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    if args.run.is_none() && args.output.is_none() {
        let runs = record::runs(&cx).map_err(report::Error::from)?;
        let rows: Vec<Row<'_>> = runs.iter().map(row).collect();
        if args.json {
            print_json(&rows)?;
        } else {
            print(list(&rows))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.output.as_deref().map(|file| target(file, invocation)).transpose()?;
    let run = report::find(&cx, args.run.as_deref())?;
    match file {
        _ if args.json => print_json(&run)?,
        None => print(report::page(&cx, &run))?,
        Some(file) => write(&cx, &run, &file, invocation)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn row(run: &Run) -> Row<'_> {
    #[expect(clippy::cast_precision_loss, reason = "no run takes so many milliseconds")]
    let seconds = run.ended.map(|ended| (ended - run.began) as f64 / 1000.0);
    Row {
        run: run.name().unwrap_or_default(),
        began: jiff::Timestamp::from_millisecond(run.began).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
        seconds,
        nodes: run.nodes.len(),
        built: run.count(Came::Built),
        failed: run.count(Came::Failed),
        wanted: &run.wanted,
    }
}

fn list(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return "no run has been recorded yet\n".to_owned();
    }
    let mut table = Table::new(&["RUN", ">TIME", "RESULT", "OF"]);
    for row in rows {
        let time = row.seconds.map_or_else(|| "unfinished".to_owned(), super::pipeline::seconds);
        let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
        let result = format!("{} of {} built{failed}", row.built, count(row.nodes as u64, "node"));
        table.row([row.run.to_owned(), time, result, row.wanted.join(" ")]);
    }
    table.render()
}

/// The file that is meant. That it cannot be written because of its directory is said before an hour of building.
pub(super) fn target(file: &Path, invocation: &Invocation) -> Result<PathBuf, Failure> {
    let file = invocation.path(file);
    let dir = file.parent().unwrap_or(&file);
    if !dir.is_dir() {
        return Err(Failure::message(Kind::Usage, format!("there is no directory `{}`", dir.shown())).hint("create it first"));
    }
    if file.is_dir() {
        let words = format!("`{}` is a directory", file.shown());
        return Err(Failure::message(Kind::Usage, words).hint("name the file to write, for example `report.html`"));
    }
    Ok(file)
}

/// Writes the page.
pub(super) fn write(cx: &Context<'_>, run: &Run, file: &Path, invocation: &Invocation) -> Result<(), Failure> {
    let page = report::page(cx, run);
    durable::replace(file, page.as_bytes(), durable::Mode::AtMost(0o666)).map_err(context::Error::from)?;
    invocation.progress.event(&Event::Note(&format!("report: {}", file.shown())));
    Ok(())
}
