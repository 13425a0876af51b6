//! `gentoomuch kernel update NAME`

use std::process::ExitCode;

use crate::kernel::update;
use crate::kernel::update::KernelNews;

use crate::cli::commands::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, count, print, print_json};

/// Fetch newer sources of a kernel, and show which options are new
///
/// It installs the newest version that the builder's configuration accepts, beside the installed ones. To get newer versions, run
/// `gentoomuch sync` first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch kernel update server
  gentoomuch kernel update server --write
  gentoomuch kernel update")]
pub(super) struct Args {
    /// The kernel configuration [default: all of them]
    name: Option<String>,
    /// The profile whose builder has the sources [default: the default one]
    #[arg(short, long)]
    profile: Option<String>,
    /// Write the version into the header of the configuration, so that this version is built from now on
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => config.kernel_names(),
    };
    // What is wrong with one of them is said before anything is fetched.
    for name in &names {
        config.kernel(name)?;
    }
    let jobs = Invocation::jobs(None, &config)?;
    let mut all = Vec::new();
    if !names.is_empty() {
        let opened = Opened::for_sessions(invocation, args.limits)?;
        let cx = opened.context(jobs);
        for name in &names {
            let news = update::kernel_update(&cx, &config, name, args.profile.as_deref(), args.write)?;
            invocation.progress.clear();
            if !args.json {
                let title = if args.name.is_none() { format!("{name}\n") } else { String::new() };
                print(title + &words(&news))?;
            }
            all.push(news);
        }
    }
    match (args.json, &args.name) {
        (true, Some(_)) => all.iter().try_for_each(print_json)?,
        (true, None) => print_json(&all)?,
        (false, _) if names.is_empty() => {
            print("no kernel configurations; `gentoomuch kernel prep NAME` makes one\n".to_owned())?;
        }
        (false, _) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn words(news: &KernelNews) -> String {
    let mut text = String::new();
    if !news.new.is_empty() {
        let mut table = Table::new(&["OPTION", "DEFAULT", "WHAT"]);
        for symbol in &news.new {
            table.row([symbol.symbol.as_str(), &symbol.default, symbol.prompt.as_deref().unwrap_or_default()]);
        }
        text.push_str(&table.render());
    }
    let new = count(news.new.len() as u64, "option");
    match &news.from {
        Some(from) if *from == news.to => {
            text.push_str(&format!("{} is the newest; {new} not in the configuration\n", news.package));
        }
        Some(from) => text.push_str(&format!("{} instead of {from}: {new} not in the configuration\n", news.package)),
        None => text.push_str(&format!("{}: {new} not in the configuration\n", news.package)),
    }
    if news.written {
        text.push_str(&format!("wrote {}\n", news.path.shown()));
    } else if news.from.as_ref().is_some_and(|from| *from != news.to) {
        text.push_str("use `--write` to build this version from now on\n");
    }
    text
}
