//! `gentoomuch resolve STAGE|ATOM…`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::proposal::Placed;
use crate::config::{BUILDER, ConfigDir, proposal};
use crate::portage::atom::Atom;
use crate::progress::{Event, Observer as _};
use crate::resolve::{PackageCount, ResolveOptions, Resolved};
use crate::{config, resolve};
use serde::Serialize;

use super::{Outcome, pretended};
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Shown as _, Style, Text};
use crate::cli::table::{count, print, print_json};

/// Show, or write, the configuration changes that packages need
///
/// It asks Portage, in a throw-away session, to resolve the dependencies as a build of the stage would. For each USE flag, keyword,
/// licence, mask or `REQUIRED_USE` that prevents it, a line of the configuration is proposed, round by round, until the dependencies
/// resolve.
///
/// You get a unified diff against the configuration directory, for `patch -p1` or `git apply`. Each line goes to the fragment that already
/// has a line for the package, else to the last `portage.local` fragment that only this definition uses. If no change can help, you get an
/// explanation, and exit code 6.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch resolve web
  gentoomuch resolve web --write web
  gentoomuch resolve --check web
  gentoomuch resolve --pretend web
  gentoomuch resolve --stage web app-misc/hello dev-libs/greet[static-libs]

Exit codes: 0 it resolves (perhaps with the change shown), 3 configuration, 6 no change makes it
resolve, 10 `--check`: a change is needed.")]
pub(crate) struct Args {
    /// A stage4 or stage3 definition, or atoms and sets
    #[arg(required = true, value_name = "STAGE|ATOM")]
    targets: Vec<String>,
    /// The stage whose configuration is used for atoms [default: gentoomuch/builder]
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// The profile [default: the one that the stage4 names, or the default one]
    #[arg(short, long)]
    profile: Option<String>,
    /// Write the change to this fragment of `portage.locals`; it is added to the definition's list if needed
    #[arg(long, value_name = "FRAGMENT", conflicts_with = "check")]
    write: Option<String>,
    /// Print emerge's own list (`emerge -pv`) with the configuration as it is, and propose nothing
    #[arg(long, conflicts_with_all = ["write", "check", "rounds"])]
    pretend: bool,
    /// Write nothing; exit with 10 if a change is needed
    #[arg(long)]
    check: bool,
    /// Ask Portage at most this many times; one change can show that another is needed
    #[arg(long, value_name = "N", default_value_t = ResolveOptions::MAX_ROUNDS as u64,
        value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Report<'a> {
    target: String,
    profile: &'a str,
    change_needed: bool,
    rounds: usize,
    changes: &'a [Placed],
    alternatives: &'a [String],
    packages: PackageCount,
    diff: &'a str,
    written: Vec<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let mut options = options(args, &config)?;
    options.into.clone_from(&args.write);
    options.max_rounds = usize::try_from(args.rounds).unwrap_or(usize::MAX);
    let opened = Opened::open(invocation)?.entered()?;
    if args.pretend {
        let color = pretended::color(invocation, args.json);
        let list = resolve::pretend::pretend(&opened.context(None), &config, &options, color)?;
        return pretended::printed(&list, args.json, invocation);
    }
    let resolved = resolve::resolve(&opened.context(None), &config, &options);
    invocation.progress.clear();
    let resolved = match resolved {
        Ok(resolved) => resolved,
        // The answer to the question is yes, whoever has to decide how.
        Err(error @ resolve::Error::Proposal(proposal::Error::Contradiction(_))) if args.check => {
            return Err(Failure::from(error).of_kind(Kind::ChangeNeeded));
        }
        Err(error) => return Err(error.into()),
    };
    let written = match &args.write {
        Some(_) => proposal::write(config.root(), &resolved.edits).map_err(resolve::Error::from)?,
        None => Vec::new(),
    };
    let diff = proposal::unified(&resolved.edits);
    if args.json {
        print_json(&Report {
            target: args.targets.join(" "),
            profile: &resolved.profile,
            change_needed: !diff.is_empty(),
            rounds: resolved.rounds,
            changes: &resolved.placed,
            alternatives: &resolved.alternatives,
            packages: resolved.packages,
            diff: &diff,
            written,
        })?;
    } else {
        show(args, invocation, &resolved, &diff, &written)?;
    }
    let needed = args.check && !diff.is_empty();
    Ok(if needed { ExitCode::from(Kind::ChangeNeeded.code()) } else { ExitCode::SUCCESS })
}

fn show(args: &Args, invocation: &Invocation, resolved: &Resolved, diff: &str, written: &[PathBuf]) -> Result<(), Failure> {
    let note = |text: &str| invocation.progress.event(&Event::Note(text));
    let PackageCount { build, binary } = resolved.packages;
    let target = args.targets.join(" ");
    let resolves = format!("{} to build, {} to install from binary packages", count(build as u64, "package"), binary);
    if diff.is_empty() {
        print(format!("{target} resolves: {resolves}\n"))?;
        return Ok(());
    }
    let mut reasons: Vec<&String> = resolved.placed.iter().filter_map(|placed| placed.chosen.as_ref()).collect();
    reasons.dedup();
    for text in reasons.into_iter().chain(&resolved.alternatives) {
        note(text);
    }
    if written.is_empty() {
        print(colored(diff, invocation.global.color.enabled(std::io::stdout().is_terminal())))?;
        note(&format!("with this {target} resolves: {resolves}"));
    } else {
        let files: Vec<String> = written.iter().map(|path| format!("wrote {}\n", path.shown())).collect();
        print(format!("{}{target} resolves: {resolves}\n", files.concat()))?;
    }
    Ok(())
}

fn colored(diff: &str, color: bool) -> Text {
    let paint = |line: &str| match line.chars().next() {
        Some('+') if !line.starts_with("+++") => Text::default().painted(Style::Green, line, color),
        Some('-') if !line.starts_with("---") => Text::default().painted(Style::Red, line, color),
        Some('@') => Text::default().painted(Style::Cyan, line, color),
        _ => Text::from(line),
    };
    diff.lines().map(|line| paint(line).words("\n")).collect()
}

/// A stage by itself, or atoms on a stage's configuration.
fn options(args: &Args, config: &ConfigDir) -> Result<ResolveOptions, Failure> {
    let options = |stage: &str, atoms| ResolveOptions { profile: args.profile.clone(), ..ResolveOptions::new(stage, atoms) };
    if let (None, [only]) = (&args.stage, args.targets.as_slice()) {
        match config.stage(only) {
            Ok(_) => return Ok(options(only, Vec::new())),
            // What cannot be an atom was meant to be a stage.
            Err(error @ config::Error::Unknown { .. }) if !only.contains('/') && !only.starts_with('@') => {
                return Err(Failure::from(error).hint("an atom has a category: `app-misc/hello`"));
            }
            Err(config::Error::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let stage = args.stage.as_deref().unwrap_or(BUILDER);
    config.stage(stage)?;
    let mut atoms = Vec::new();
    for target in &args.targets {
        atoms.extend(atoms_of(target, config)?);
    }
    Ok(options(stage, atoms))
}

fn atoms_of(target: &str, config: &ConfigDir) -> Result<Vec<String>, Failure> {
    if let Some(name) = target.strip_prefix('@') {
        // Sets of the configuration are known to us alone.
        let packages = config.set(name)?.map(|packages| packages.iter().map(|package| package.value.to_string()).collect());
        return Ok(packages.unwrap_or_else(|| vec![target.to_owned()]));
    }
    match Atom::parse_target(target) {
        Ok(_) => Ok(vec![target.to_owned()]),
        Err(error) => {
            let failure = Failure::new(Kind::Usage, error);
            let is_stage = config.stage(target).is_ok();
            Err(if is_stage { failure.hint("give one stage alone, or atoms with `--stage STAGE`") } else { failure })
        }
    }
}
