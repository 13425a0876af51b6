//! `gentoomuch patch prep|try|shell|save|compile|refresh|ls|show|rm`

mod compile;
mod patch_lines;
mod shell;

use std::process::ExitCode;

use crate::patch::attempt::{AttemptOptions, Came as AttemptCame};
use crate::patch::prep::PrepOptions;
use crate::patch::refresh::RefreshOptions;
use crate::patch::save::{SaveOptions, Span};
use crate::patch::{attempt, prep, refresh, rows, save};
use crate::portage::atom::Atom;
use clap::{Subcommand, ValueEnum};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table::{print, print_either, print_json};

/// Change the source of packages, and keep the changes as patches
///
/// `prep` unpacks the source that emerge would build into a git repository, in which you make your changes. `try` builds the package with
/// them. `save` writes them to the configuration as a patch, which every stage gets from then on.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch patch prep quiet-hello app-misc/hello
  gentoomuch patch try quiet-hello
  gentoomuch patch save quiet-hello --purpose 'say less'
  gentoomuch patch ls")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

impl Args {
    /// Whether it is the shell where a package failed.
    pub(super) fn is_shell(&self) -> bool {
        matches!(self.command, Command::Shell(_))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Prep(Prep),
    Try(Try),
    Shell(shell::Args),
    Save(Save),
    Compile(compile::Args),
    Refresh(Refresh),
    #[command(alias = "list")]
    Ls(Ls),
    Show(Show),
    #[command(alias = "remove")]
    Rm(Rm),
}

/// Unpack the source of a package to change it
///
/// You get the source that emerge would build: fetched, verified, unpacked and by default prepared, so it has the ebuild's own patches, and
/// the saved patches that Portage applies before this one. It becomes a git repository whose first commit is that source. Change any file
/// in it, with or without commits. If the patch was saved before, it is applied on top.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch prep quiet-hello app-misc/hello
  gentoomuch patch prep fix '=sys-apps/sed-4.9' --profile musl-hardened
  gentoomuch patch prep fix sys-apps/sed 4.9
  gentoomuch patch prep fix dev-libs/foo --repo guru")]
struct Prep {
    /// The name of the patch
    name: String,
    /// The package, as emerge takes it
    atom: String,
    /// The version, if ATOM has none
    version: Option<String>,
    /// The profile whose builder unpacks it [default: the one set with `gentoomuch profile set`]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    /// The ebuild repository [default: as emerge chooses]
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// Only unpack it, without the ebuild's own patches
    #[arg(long)]
    no_prepare: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Build a package with the changes in its work set
///
/// The package is built in a throw-away session with the present configuration. Dependencies come from binary packages if there are any.
/// You see the compiler's output. If the build fails, the session is kept for `gentoomuch patch shell` until the next attempt.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch try quiet-hello
  gentoomuch patch try quiet-hello --profile musl-hardened --jobs 4

Exit codes: 0 it was built with the changes, 6 it was not.")]
struct Try {
    /// The patch
    name: String,
    /// The profile to build it with [default: the one that unpacked it]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    /// Make jobs at the same time [default: `env/jobs` of the configuration, or one for each processor]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON, and no build log
    #[arg(long)]
    json: bool,
}

/// Save the changes in a work set as a patch
///
/// The patch is written to `user.patches/NAME/CATEGORY/PACKAGE-VERSION/NAME.patch` in the configuration. Its header says the purpose, the
/// package and the date. New files are part of it. Files that git ignores are part of it only after `git add --force`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch save quiet-hello --purpose 'say less'
  gentoomuch patch save fix --bug https://bugs.gentoo.org/917047 --for any")]
struct Save {
    /// The patch
    name: String,
    /// The purpose of the patch, in one line [default: the one that it has, or its name]
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// The address of the bug report upstream or at the distribution
    #[arg(long, value_name = "URL")]
    bug: Option<String>,
    /// For which versions of the package [default: as it was saved before, or `version`]
    #[arg(long = "for", value_enum, value_name = "WHICH")]
    span: Option<SpanArg>,
    /// Keep the patch as it was saved for other versions
    #[arg(long)]
    keep: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// For which versions of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpanArg {
    /// Every version
    Any,
    /// Every version in its slot
    Slot,
    /// Every revision of its version
    Version,
    /// Only its revision
    Revision,
}

/// Move a patch to a newer version of the package
///
/// The newer version is unpacked, and your changes to the old one are merged into it (three-way). If a change cannot be merged, the file
/// gets conflict markers, and you are told. Without a work set, the saved patch is applied as far as it fits. The saved patch does not
/// change until `gentoomuch patch save`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch refresh quiet-hello
  gentoomuch patch refresh quiet-hello --to '=app-misc/hello-2.12'

Exit codes: 0 it was merged, 1 there are conflicts.")]
struct Refresh {
    /// The patch
    name: String,
    /// The version to go to [default: the newest that emerge would take]
    #[arg(long, value_name = "ATOM")]
    to: Option<String>,
    /// The profile whose builder unpacks it [default: the one that unpacked it before]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// List patches, saved or being worked on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gentoomuch patch ls --json")]
struct Ls {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Show the purpose of a patch and its changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch show quiet-hello
  gentoomuch patch show quiet-hello --diff
  gentoomuch patch show quiet-hello --changes")]
struct Show {
    /// The patch
    name: String,
    /// Also print the saved patch itself
    #[arg(long, conflicts_with = "json")]
    diff: bool,
    /// Print the present changes in the work set instead, as a patch
    #[arg(long, conflicts_with_all = ["json", "diff"])]
    changes: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Remove a work set, or a whole patch
///
/// It refuses if the work set has changes that are not saved.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch rm quiet-hello
  gentoomuch patch rm quiet-hello --saved --force")]
struct Rm {
    /// The patch
    name: String,
    /// Also remove the saved patch from the configuration
    #[arg(long)]
    saved: bool,
    /// Remove it even if changes would be lost
    #[arg(long)]
    force: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

impl From<SpanArg> for Span {
    fn from(arg: SpanArg) -> Self {
        match arg {
            SpanArg::Any => Self::Any,
            SpanArg::Slot => Self::Slot,
            SpanArg::Version => Self::Version,
            SpanArg::Revision => Self::Revision,
        }
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Command::Prep(args) => prep(args, invocation),
        Command::Try(args) => attempt(args, invocation),
        Command::Shell(args) => shell::run(args, invocation),
        Command::Save(args) => save(args, invocation),
        Command::Compile(args) => compile::run(args, invocation),
        Command::Refresh(args) => refresh(args, invocation),
        Command::Ls(args) => ls(args, invocation),
        Command::Show(args) => show(args, invocation),
        Command::Rm(args) => rm(args, invocation),
    }
}

/// An atom of one package, without flags: those are the configuration's.
fn checked(atom: &str) -> Result<(), Failure> {
    let parsed = Atom::parse_target(atom).map_err(|error| Failure::new(Kind::Usage, error))?;
    if parsed.is_wildcard() || !parsed.use_dependencies.is_empty() {
        let failure = Failure::message(Kind::Usage, format!("`{atom}` does not name one package"));
        return Err(failure.hint("for example `app-misc/hello`, `=app-misc/hello-2.10` or `app-misc/hello:0`"));
    }
    Ok(())
}

fn prep(args: &Prep, invocation: &Invocation) -> Outcome {
    checked(&args.atom)?;
    let atom = with_version(&args.atom, args.version.as_deref())?;
    let config = invocation.config()?;
    let options = PrepOptions {
        name: args.name.clone(),
        atom,
        repository: args.repo.clone(),
        profile: args.profile.clone(),
        prepare: !args.no_prepare,
    };
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let done = prep::patch_prep(&opened.context(Invocation::jobs(None, &config)?), &config, &options)?;
    invocation.progress.clear();
    print_either(args.json, &done, patch_lines::prepared)?;
    Ok(conflicts(&done.unpacked.conflicts, &done.unpacked.rejected))
}

/// The atom of a package and its version, as the original tool had them.
fn with_version(package: &str, version: Option<&str>) -> Result<String, Failure> {
    let Some(version) = version else { return Ok(package.to_owned()) };
    let atom = format!("={package}-{version}");
    let is_plain = package.parse::<Atom>().is_ok_and(|atom| atom.operator.is_none() && atom.slot.is_none());
    if is_plain && atom.parse::<Atom>().is_ok() {
        return Ok(atom);
    }
    Err(Failure::message(Kind::Usage, format!("`{package}` and `{version}` are no package and its version"))
        .hint("for example `sys-apps/sed 4.9`, or `'=sys-apps/sed-4.9'` alone"))
}

fn attempt(args: &Try, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let options = AttemptOptions { name: args.name.clone(), profile: args.profile.clone(), show_log: !args.json };
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let done = attempt::patch_try(&opened.context(jobs), &config, &options)?;
    invocation.progress.clear();
    print_either(args.json, &done, patch_lines::attempted)?;
    Ok(if done.came == AttemptCame::Built { ExitCode::SUCCESS } else { ExitCode::from(Kind::Emerge.code()) })
}

fn save(args: &Save, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let options = SaveOptions {
        name: args.name.clone(),
        span: args.span.map(Span::from),
        purpose: args.purpose.clone(),
        bug: args.bug.clone(),
        keep: args.keep,
    };
    let opened = Opened::open(invocation)?;
    let done = save::patch_save(&opened.context(None), &config, &options)?;
    invocation.progress.clear();
    print_either(args.json, &done, |done| patch_lines::saved(done, &invocation.places.config))?;
    Ok(ExitCode::SUCCESS)
}

fn refresh(args: &Refresh, invocation: &Invocation) -> Outcome {
    if let Some(atom) = &args.to {
        checked(atom)?;
    }
    let config = invocation.config()?;
    let options = RefreshOptions { name: args.name.clone(), to: args.to.clone(), profile: args.profile.clone() };
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let done = refresh::patch_refresh(&opened.context(Invocation::jobs(None, &config)?), &config, &options)?;
    invocation.progress.clear();
    print_either(args.json, &done, patch_lines::refreshed)?;
    Ok(conflicts(&done.unpacked.conflicts, &done.unpacked.rejected))
}

fn conflicts(markers: &[String], rejected: &[String]) -> ExitCode {
    if markers.is_empty() && rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Kind::Other.code()) }
}

fn ls(args: &Ls, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let opened = Opened::open(invocation)?;
    let rows = rows::patch_rows(&opened.context(None), &config)?;
    print_either(args.json, &rows, |rows| patch_lines::list(rows))?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Show, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    let row = rows::patch_row(&cx, &config, &args.name)?;
    if args.changes {
        let changes = rows::patch_changes(&cx, &args.name)?;
        invocation.progress.clear();
        print(&changes)?;
    } else if args.json {
        print_json(&row)?;
    } else {
        print(patch_lines::shown(&row, args.diff))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rm(args: &Rm, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let opened = Opened::open(invocation)?;
    let done = rows::patch_remove(&opened.context(None), &config, &args.name, args.saved, args.force)?;
    invocation.progress.clear();
    print_either(args.json, &done, |done| patch_lines::removed(done, &invocation.places.config))?;
    Ok(ExitCode::SUCCESS)
}

/// What is printed of a saved patch.
pub(super) fn saved_lines(done: &save::SavedAs, config: &std::path::Path) -> String {
    patch_lines::saved(done, config)
}

/// Whether both ends are a terminal.
fn has_terminal() -> bool {
    crate::sandbox::terminal::is_ours()
}
