//! `gentoomuch config diff STAGE STAGE`, `gentoomuch config diff --rev REV STAGE`

use std::io;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config;
use crate::config::{ConfigDir, Diagnostic, Difference, Place, Terms, Topic, differences};
use serde::Serialize;

use super::super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::report::Failure;
use crate::cli::screen::{Style, Text};
use crate::cli::table;
use crate::cli::table::Table;

/// Compare two stages, or a stage with its state at a commit
///
/// It compares flags, keywords, licences, masks, variables, packages, patches, scripts and other files as Portage reads them, and shows the
/// lines that each comes from. The layout and order of files makes no difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch config diff web mail
  gentoomuch config diff --rev HEAD~3 web
  gentoomuch config diff --rev main web --exit-code")]
pub(crate) struct Args {
    /// A stage4 or stage3 definition
    stage: String,
    /// The stage to compare it with
    #[arg(value_name = "OTHER", required_unless_present = "rev", conflicts_with = "rev")]
    other: Option<String>,
    /// Compare with this commit of the configuration directory's git repository
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// Exit with 1 if there is a difference
    #[arg(long)]
    exit_code: bool,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Compared {
    from: Side,
    to: Side,
    differences: Vec<Difference>,
}

/// One of the two that are compared.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Side {
    stage: String,
    revision: Option<String>,
    commit: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let now = Side { stage: args.stage.clone(), revision: None, commit: None };
    let compared = match (&args.rev, &args.other) {
        (Some(revision), _) => {
            let after = terms(&config, &args.stage)?;
            let (commit, before) = terms_at(&config, revision, &args.stage)?;
            let from = Side { stage: args.stage.clone(), revision: Some(revision.clone()), commit: Some(commit) };
            Compared { from, to: now, differences: differences(&before, &after) }
        }
        (None, other) => {
            let to = other.clone().unwrap_or_else(|| args.stage.clone());
            let differences = differences(&terms(&config, &args.stage)?, &terms(&config, &to)?);
            Compared { from: now, to: Side { stage: to, revision: None, commit: None }, differences }
        }
    };
    if args.json {
        table::print_json(&compared)?;
    } else {
        table::print(render(&compared, invocation.global.color.enabled(io::stdout().is_terminal())))?;
    }
    let differ = args.exit_code && !compared.differences.is_empty();
    Ok(if differ { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn terms(config: &ConfigDir, stage: &str) -> Result<Terms, Failure> {
    let (stage, portage) = super::read(config, stage)?;
    Ok(config.terms(&stage, &portage))
}

/// The name of the commit, and the stage as it was then.
fn terms_at(config: &ConfigDir, revision: &str, stage: &str) -> Result<(String, Terms), Failure> {
    let checkout = Invocation::git().checkout(config.root(), revision)?;
    let then = checkout.path();
    let told = |error: config::Error| {
        Failure::from(as_if_here(error, &then, config.root())).about(format!(
            "cannot read the configuration at commit \
            `{revision}`"
        ))
    };
    let before = ConfigDir::open(&then).map_err(told)?;
    let stage = before.stage(stage).map_err(told)?;
    let portage = before.portage_dir(&stage.stage3).map_err(told)?;
    Ok((checkout.commit.clone(), before.terms(&stage, &portage)))
}

/// The error with the names that files have in the configuration directory, instead of those in a directory that is gone at once.
fn as_if_here(error: config::Error, then: &Path, root: &Path) -> config::Error {
    let moved =
        |path: &Path| path.strip_prefix(then).map_or_else(|_| path.to_owned(), |below| root.join(below).components().collect());
    match error {
        config::Error::Invalid(all) => {
            let all = all.as_slice().iter().map(|one| Diagnostic { file: moved(&one.file), ..one.clone() });
            config::Error::Invalid(all.collect::<Vec<_>>().into())
        }
        config::Error::Unknown { what, name, folder, nearest, known } => {
            config::Error::Unknown { what, name, folder: moved(&folder), nearest, known }
        }
        other => other,
    }
}

fn render(compared: &Compared, color: bool) -> Text {
    let name = |side: &Side| match &side.revision {
        Some(revision) => format!("{} at {revision}", side.stage),
        None => side.stage.clone(),
    };
    let (from, to) = (name(&compared.from), name(&compared.to));
    if compared.differences.is_empty() {
        return Text::from(format!("no difference between {from} and {to}\n"));
    }
    let mut table = Table::new(&[&format!("from {from} to {to}")]);
    let mut topic: Option<Topic> = None;
    for difference in &compared.differences {
        if topic != Some(difference.topic) {
            topic = Some(difference.topic);
            table.row([difference.topic.as_str()]);
        }
        let (mark, change) = change(difference);
        let before = difference.before.as_ref().map_or(&[][..], |term| &term.places);
        let after = difference.after.as_ref().map_or(&[][..], |term| &term.places);
        let places = match (places(before), places(after)) {
            (before, after) if before.is_empty() || before == after => after,
            (before, after) if after.is_empty() => before,
            (before, after) => format!("{before} -> {after}"),
        };
        table.row([format!("  {mark} {}", difference.subject), change, places]);
    }
    let text = table.render();
    text.lines().map(|line| painted(line, color)).collect()
}

/// The sign of a difference, and what is said besides that it is there.
fn change(difference: &Difference) -> (char, String) {
    let plain = |value: &str| if value == "on" { String::new() } else { value.to_owned() };
    let is_digest = matches!(difference.topic, Topic::Patches | Topic::Files | Topic::Scripts | Topic::Hooks);
    match (&difference.before, &difference.after) {
        (Some(_), Some(_)) if is_digest => ('~', "other content".to_owned()),
        (Some(before), Some(after)) => ('~', format!("{} -> {}", before.value, after.value)),
        (Some(_), None) if is_digest => ('-', String::new()),
        (None, Some(_)) if is_digest => ('+', String::new()),
        (Some(before), None) => ('-', plain(&before.value)),
        (None, after) => ('+', after.as_ref().map(|after| plain(&after.value)).unwrap_or_default()),
    }
}

fn places(places: &[Place]) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn painted(line: &str, color: bool) -> Text {
    let style = match line.trim_start().chars().next() {
        _ if !line.starts_with("  ") => Style::Strong,
        Some('+') => Style::Green,
        Some('-') => Style::Red,
        _ => Style::Yellow,
    };
    Text::default().painted(style, line, color).words("\n")
}
