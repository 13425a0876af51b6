//! `gentoomuch logs [RUN] [LOG]`, `gentoomuch logs elog NAME`

use std::io::{self, BufRead as _, BufReader, IsTerminal as _};
use std::process::ExitCode;

use flate2::read::MultiGzDecoder;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::progress::said_line;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{self, Shown as _, Style, Text};
use crate::cli::table::{Table, count, human_bytes, print, print_json, short_time};
use crate::context::Context;
use crate::history::logs::{Log, Run};
use crate::history::messages::Told;
use crate::history::{follow, logs, messages};
use crate::portage::messages::NewsItem;
use crate::progress::{Event, Observer as _};
use crate::{context, history};

/// Longer lines are printed in pieces.
const PIECE_BYTES: u64 = 64 * 1024;
/// What emerge prints.
const EMERGE: &str = "emerge";
/// In the place of a run: what packages said when a state was made.
const ELOG: &str = "elog";

/// List what builds have logged, and print a log
///
/// RUN is a stage, a profile, a node of a pipeline, or a name of the list; you get its newest run. LOG is a package, with or without
/// category and version, or another name of the second list. A log is printed in the colours that it was written in, if the output is a
/// terminal.
///
/// `-f` follows a build that goes on, to its end: what emerge prints, or the log of a package that is being built. Without `-f`, logs of
/// packages are there once emerge has ended.
///
/// `logs elog NAME` prints what ebuilds said (`elog`, `ewarn`, `eerror`) when a state was made, and those below it, with unread news of the
/// trees and configuration files that wait for `dispatch-conf`. NAME is a stage or any name of a state; the state may have been found and
/// not built.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch logs
  gentoomuch logs web
  gentoomuch logs web app-misc/hello | less
  gentoomuch logs stage4/web emerge
  gentoomuch logs -f
  gentoomuch logs -f web app-misc/hello
  gentoomuch logs elog web")]
pub(crate) struct Args {
    /// What was built, or `elog` [default: list all runs]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The log to print [default: list the logs of the run]; after `elog`, the name of a state
    #[arg(value_name = "LOG")]
    log: Option<String>,
    /// Follow a build that goes on [default: the newest one, and what emerge prints]
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
    /// Print the list as JSON; of a single log, what and where it is
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    let color = invocation.global.color.enabled(io::stdout().is_terminal());
    match (&args.run, &args.log) {
        (run, log) if args.follow => follow(&cx, run.as_deref(), log.as_deref(), invocation, color)?,
        // A stage of this name has other names, too.
        (Some(elog), Some(name)) if elog == ELOG => {
            let told = messages::told(&cx, name)?;
            if args.json { print_json(&told)? } else { print(all_told(name, &told, color))? }
        }
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
            if args.json {
                print_json(log)?;
            } else {
                tell_path(&run, log, invocation);
                copy(&run, log, color)?;
            }
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

/// Prints a log while it is written.
fn follow(cx: &Context<'_>, run: Option<&str>, log: Option<&str>, invocation: &Invocation, color: bool) -> Result<(), Failure> {
    let run = match run {
        Some(name) => logs::newest(cx, Some(name))?,
        None => logs::runs(cx)?.into_iter().find(follow::goes_on).ok_or(history::Error::NothingGoesOn)?,
    };
    let name = log.unwrap_or(EMERGE);
    let mut print = |piece: &[u8]| screen::out(&Text::of_program(piece, color));
    if !follow::goes_on(&run) {
        invocation.progress.event(&Event::Note(&format!("{} is over", run.what)));
    } else if is_ours(name) {
        let log = ours(cx, &run, name)?;
        tell_path(&run, &log, invocation);
        follow::follow(cx, &run, &log, &mut print)?;
        return end_colors(color);
    } else if run.log(name).is_err() {
        let text = format!("waiting for {name}; what emerge prints is in {}", run.dir.join("emerge.log").shown());
        invocation.progress.event(&Event::Note(&text));
        if follow::follow_package(cx, &run, name, &mut print)? {
            end_colors(color)?;
            // It has its place by now, unless the build was killed.
            if let Ok(log) = again(cx, &run)?.log(name) {
                tell_path(&run, log, invocation);
            }
            return Ok(());
        }
    }
    let run = again(cx, &run)?;
    let log = run.log(name)?;
    tell_path(&run, log, invocation);
    copy(&run, log, color)
}

/// Whether a log is one of the run and not of a package.
fn is_ours(name: &str) -> bool {
    [EMERGE, "commands"].contains(&name)
}

/// A log of the run, as soon as something is in it.
fn ours(cx: &Context<'_>, run: &Run, name: &str) -> Result<Log, Failure> {
    loop {
        let goes_on = follow::goes_on(run);
        match again(cx, run)?.log(name) {
            Err(_) if goes_on => std::thread::sleep(std::time::Duration::from_millis(100)),
            found => return Ok(found?.clone()),
        }
        context::not_interrupted(cx)?;
    }
}

/// The run as it is now.
fn again(cx: &Context<'_>, run: &Run) -> Result<Run, Failure> {
    let name = run.dir.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(logs::newest(cx, name.as_deref())?)
}

/// Not among what is printed: that may go to a file.
fn tell_path(run: &Run, log: &Log, invocation: &Invocation) {
    invocation.progress.event(&Event::Note(&format!("log: {}", run.dir.join(&log.file).shown())));
}

fn end_colors(color: bool) -> Result<(), Failure> {
    if color {
        screen::out(&Text::default().code("\x1b[0m"))?;
    }
    Ok(())
}

fn all_told(name: &str, told: &[Told], color: bool) -> Text {
    if told.is_empty() {
        return format!("nothing was said when {} was made\n", screen::line(name)).into();
    }
    told.iter().enumerate().map(|(at, told)| Text::from(if at == 0 { "" } else { "\n" }).text(&one_told(told, color))).collect()
}

/// What one build had to tell, grouped by package.
fn one_told(told: &Told, color: bool) -> Text {
    let Told { kind, name, messages } = told;
    let mut text = Text::default().painted(Style::Strong, &screen::line(&format!("{kind} {name}")), color).words("\n");
    for said in &messages.packages {
        text = text.words("\n").text(&Text::line(&said.package)).words("\n");
        for message in &said.messages {
            let lines = message.lines.iter().map(|line| said_line(message.class.word(), line, color));
            text = text.text(&lines.collect());
        }
        if said.more {
            text = text.words("    … and more, which is in its log only\n");
        }
    }
    if !messages.news.is_empty() {
        text = text.words("\nunread news\n");
        for NewsItem { repository, name, title } in &messages.news {
            text = text.text(&Text::line(&format!("    {name} ({repository}): {title}"))).words("\n");
        }
    }
    if !messages.pending_config.is_empty() {
        text = text.words("\nconfiguration files that wait for `dispatch-conf`\n");
        for file in &messages.pending_config {
            text = text.text(&Text::line(&format!("    {file}"))).words("\n");
        }
    }
    text
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
    end_colors(color)
}
