//! `gentoomuch config explain STAGE ATOM-or-VAR[:FLAG]`

use std::process::ExitCode;

use crate::config::explain::{
    Explainer, FlagExplained, Origin, PackageExplained, PackageNote, Step, Subject, VariableExplained, VersionExplained,
};
use crate::config::{Place, Stage};
use crate::names;
use crate::portage::effective_use::Outcome;
use crate::progress::{Event, Observer as _};
use crate::resolve::surroundings;
use crate::resolve::surroundings::Around;
use serde::Serialize;

use super::super::Outcome as Ended;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;
use crate::cli::table;
use crate::cli::table::Table;

/// Explain where a stage gets a variable, a flag or a package from
///
/// It lists the fragments that set it, in the order in which Portage reads them, and the default of the Portage profile that they override;
/// `>` marks the line that decides. Nothing is built or run. If no ebuild tree is imported or the profile is not bootstrapped, the answer
/// comes from the configuration directory alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch config explain web USE:ssl
  gentoomuch config explain web CFLAGS
  gentoomuch config explain web VIDEO_CARDS:amdgpu
  gentoomuch config explain web app-misc/hello
  gentoomuch config explain web app-misc/hello:nls")]
pub(crate) struct Args {
    /// A stage4 or stage3 definition
    stage: String,
    /// A variable or a package; add a colon and a flag to ask about that flag
    #[arg(value_name = "ATOM-or-VAR[:FLAG]")]
    subject: String,
    /// The profile [default: the one that the stage4 definition names, or the default one]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Told<'a> {
    stage: &'a str,
    portage_profile: Option<&'a str>,
    missing: &'a [String],
    #[serde(flatten)]
    explained: Explained,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Explained {
    Variable(VariableExplained),
    Flag(FlagExplained),
    Package(PackageExplained),
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Ended {
    let (stage, portage) = super::read(&invocation.config()?, &args.stage)?;
    let around = around(args, invocation, &stage)?;
    let explainer = Explainer::new(&portage, &around.surroundings);
    let explained = match explainer.subject(&args.subject)? {
        Subject::Variable(name) => Explained::Variable(explainer.variable(&name)?),
        Subject::Entry(name, entry) => Explained::Variable(explainer.entry(&name, &entry)?),
        Subject::Flag(flag) => Explained::Flag(explainer.flag(&flag)?),
        Subject::Package(atom) => Explained::Package(explainer.package(&atom)?),
        Subject::PackageFlag(atom, flag) => Explained::Flag(explainer.package_flag(&atom, &flag)?),
    };
    for missing in &around.missing {
        invocation.progress.event(&Event::Note(missing));
    }
    if args.json {
        let portage_profile = around.portage_profile.as_deref();
        table::print_json(&Told { stage: stage.name(), portage_profile, missing: &around.missing, explained })?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match &explained {
        Explained::Variable(variable) => variable_text(variable),
        Explained::Flag(flag) => flag_text(flag, stage.name()),
        Explained::Package(package) => package_text(package),
    };
    table::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What the store knows. Without one, or on a host where it cannot be opened, nothing: asking a question makes no store.
fn around(args: &Args, invocation: &Invocation, stage: &Stage) -> Result<Around, Failure> {
    if !invocation.places.store().is_dir() {
        if let Some(profile) = &args.profile {
            return Err(names::Error::NoProfile { profile: profile.clone(), known: Vec::new(), named_in: None }.into());
        }
        let missing = vec!["nothing is imported or bootstrapped: the answer comes from the configuration alone".to_owned()];
        return Ok(Around { missing, ..Around::default() });
    }
    let opened = Opened::open(invocation)?;
    Ok(surroundings::surroundings(&opened.context(None), stage, args.profile.as_deref())?)
}

fn variable_text(variable: &VariableExplained) -> String {
    let mut text = format!("{} is {}\n{}", variable.name, shown(&variable.value), steps_text(&variable.steps));
    for reference in &variable.refers_to {
        text.push('\n');
        text.push_str(&variable_text(reference));
    }
    text
}

fn shown(value: &str) -> String {
    match value {
        "on" | "off" => value.to_owned(),
        value => format!("\"{value}\""),
    }
}

fn flag_text(flag: &FlagExplained, stage: &str) -> String {
    let value = if flag.enabled { "on" } else { "off" };
    let whom = flag.version.as_ref().map_or_else(|| format!("all packages of {stage}"), Clone::clone);
    let exists = match flag.exists {
        Some(false) => ", which does not have it",
        _ => "",
    };
    let mut text = format!("{} is {value} for {whom}{exists}\n", flag.flag);
    if flag.steps.is_empty() {
        text.push_str("nothing sets it\n");
    } else {
        text.push_str(&steps_text(&flag.steps));
    }
    if !flag.elsewhere.is_empty() {
        text.push_str("\nfor single packages\n");
        text.push_str(&notes_text(&flag.elsewhere));
    }
    text
}

fn steps_text(steps: &[Step]) -> String {
    let mut table = Table::new(&["", "SAYS", "IN", "WHERE", ""]);
    for step in steps {
        let mark = if step.outcome == Outcome::Decides { ">" } else { "" };
        let outcome = match step.outcome {
            Outcome::Decides | Outcome::Agrees => "",
            Outcome::Overridden => "overridden",
            Outcome::TakesBack => "takes back",
        };
        table.row([mark, &step.said, &step.about, &origin(&step.origin), outcome]);
    }
    table.render()
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Fragment { place, overrides: true, .. } => format!("{place} # override"),
        Origin::Stage3 { .. } => format!("{origin} (stage3)"),
        other => other.to_string(),
    }
}

fn package_text(package: &PackageExplained) -> String {
    let mut text = format!("{}\n", package.package);
    if !package.versions.is_empty() {
        let mut table = Table::new(&["", "VERSION", "SLOT", "REPOSITORY", "INSTALLABLE"]);
        for version in &package.versions {
            let mark = if package.version.as_deref() == Some(&version.version.version) { ">" } else { "" };
            let own = &version.version;
            table.row([
                mark,
                &own.version,
                own.slot.as_deref().unwrap_or("?"),
                own.repository.as_deref().unwrap_or_default(),
                &visibility(version),
            ]);
        }
        text.push_str(&table.render());
    }
    if let (Some(version), false) = (&package.version, package.flags.is_empty()) {
        text.push_str(&format!("\nflags of {}-{version}\n", package.package));
        let mut table = Table::new(&["FLAG", "", "DECIDED BY", "IN", "WHERE"]);
        for flag in &package.flags {
            let value = if flag.enabled { "on" } else { "off" };
            let row = match &flag.decided_by {
                Some(step) => [flag.flag.clone(), value.to_owned(), step.said.clone(), step.about.clone(), origin(&step.origin)],
                None => [flag.flag.clone(), value.to_owned(), "nobody".to_owned(), String::new(), String::new()],
            };
            table.row(row);
        }
        text.push_str(&table.render());
    }
    if package.lines.is_empty() {
        text.push_str("\nno line of the configuration is about it\n");
    } else {
        text.push_str("\nlines of the configuration\n");
        text.push_str(&notes_text(&package.lines));
    }
    text
}

fn visibility(version: &VersionExplained) -> String {
    let mut reasons = Vec::new();
    if let Some(mask) = &version.masked_by {
        reasons.push(format!("masked by {} in {}", mask.atom, origin(&mask.origin)));
    }
    if let Some(keywords) = &version.missing_keywords {
        let keywords = if keywords.is_empty() { "it has no keywords".to_owned() } else { format!("only {}", keywords.join(" ")) };
        reasons.push(format!("keywords not accepted: {keywords}"));
    }
    if let Some(licences) = &version.missing_licences {
        reasons.push(format!("licences not accepted: {}", licences.join(" ")));
    }
    if let Some(unmasked) = &version.unmasked {
        reasons.push(format!("unmasked by {} in {}", unmasked.atom, origin(&unmasked.origin)));
    }
    if reasons.is_empty() { "yes".to_owned() } else { reasons.join("; ") }
}

fn notes_text(notes: &[PackageNote]) -> String {
    let mut table = Table::new(&["FILE", "ATOM", "SAYS", "WHERE"]);
    for note in notes {
        let places: Vec<String> = note.places.iter().map(Place::to_string).collect();
        table.row([note.file, &note.atom, &note.said, &places.join(", ")]);
    }
    table.render()
}
