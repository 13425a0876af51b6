//! `gentoomuch config check [NAME…]`

use std::io;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::config::{ConfigDir, Diagnostic, Diagnostics, NO_SET, Severity};
use crate::recipe::consult;
use crate::recipe::consult::Consulted;
use crate::stage3::keys::{GENTOO, KeysError, TrustedKeys};
use clap::ValueEnum;

use super::super::Outcome;
use super::findings;
use super::findings::Report;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::host_arch;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table;

/// Report everything that is wrong with the configuration directory
///
/// It reads the whole directory, including files that no stage uses, and reports everything in one run: errors, then warnings, then notes,
/// each sorted by file and line. If you give names, it reads only those stages and the files that they use. The exit code is 3 if there is
/// an error.
///
/// If a profile is bootstrapped, it also asks Portage, in throw-away sessions, whether the packages, flags, licences, keywords and sets
/// exist, and whether packages to install are masked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch config check
  gentoomuch config check web stage3:gentoomuch/builder
  gentoomuch config check --strict --format github")]
pub(crate) struct Args {
    /// Stage4 or stage3 definitions [default: the whole directory]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Treat warnings as errors for the exit code
    #[arg(long)]
    strict: bool,
    /// Read only the directory; do not ask Portage
    #[arg(long)]
    no_portage: bool,
    /// Print the result as JSON, as `--format json` does
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Format of the result; `github`: annotations of a workflow run
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// As the library says it of a store without profiles.
const NOT_BOOTSTRAPPED: &str = "make one with `gentoomuch bootstrap PROFILE STAGE3`, or use `--no-portage` to skip this check";

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Github,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let mut all = if args.names.is_empty() {
        let mut all = config.check(host_arch());
        all.extend(TrustedKeys::load(&invocation.places.keys(), GENTOO).err().map(|error| of_keys(&error)));
        all
    } else {
        config.check_stages(&args.names, host_arch())?
    };
    let asked = if args.no_portage { Ok(Consulted::default()) } else { ask_portage(args, invocation, &config) };
    let (mut said, failed) = match asked {
        Ok(said) => (said, None),
        // What was found without Portage is said in any case.
        Err(failure) => (Consulted::default(), Some(failure)),
    };
    settle(&mut all, &mut said);
    all.extend(said.findings);
    let all = Diagnostics::from(all);
    let report = Report::new(config.root(), all.as_slice());
    invocation.progress.clear();
    print(args, invocation, &report)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let counts = report.errors > 0 || (args.strict && report.warnings > 0);
    Ok(if counts { ExitCode::from(Kind::Config.code()) } else { ExitCode::SUCCESS })
}

/// Whether a set exists is supposed without Portage. Where Portage has been asked, its answer counts, and only the hint stays.
fn settle(supposed: &mut Vec<Diagnostic>, said: &mut Consulted) {
    supposed.retain(|guess| {
        let place = (guess.file.clone(), guess.line);
        let is_settled = guess.message.starts_with(NO_SET) && said.sets.contains(&place);
        let refused = |sure: &&mut Diagnostic| sure.severity == Severity::Error && (sure.file.clone(), sure.line) == place;
        if is_settled && let Some(sure) = said.findings.iter_mut().find(refused) {
            sure.hint = sure.hint.take().or_else(|| guess.hint.clone());
        }
        !is_settled
    });
}

fn print(args: &Args, invocation: &Invocation, report: &Report) -> io::Result<()> {
    match if args.json { Format::Json } else { args.format } {
        Format::Text => {
            let color = invocation.global.color.enabled(io::stdout().is_terminal());
            table::print(findings::text(report, &invocation.cwd, color))
        }
        Format::Json => table::print_json(report),
        Format::Github => table::print(findings::github(report)),
    }
}

/// What Portage has to say, or why it was not asked.
fn ask_portage(args: &Args, invocation: &Invocation, config: &ConfigDir) -> Result<Consulted, Failure> {
    let note = |why: String, hint: &str| {
        let (file, message) = (config.root().to_owned(), format!("Portage did not check packages, flags and other names: {why}"));
        let finding = Diagnostic { file, line: 0, severity: Severity::Note, message, hint: Some(hint.to_owned()) };
        Consulted { findings: vec![finding], ..Consulted::default() }
    };
    // A checkout on a machine that builds nothing needs neither a store nor a sandbox.
    if !invocation.places.store().exists() {
        return Ok(note("no profile is bootstrapped".to_owned(), NOT_BOOTSTRAPPED));
    }
    let opened = match Opened::open(invocation) {
        Err(failure) if failure.is(Kind::Host) => {
            return Ok(note(
                failure.first_words(),
                "find the cause with `gentoomuch doctor`, or use `--no-portage` to skip this check",
            ));
        }
        other => other?,
    };
    Ok(consult::consult(&opened.context(None), config, &args.names)?)
}

/// What is wrong with `keys/`, which only those read who verify.
fn of_keys(error: &KeysError) -> Diagnostic {
    let (file, line) = match error {
        KeysError::Read { path, .. }
        | KeysError::Write { path, .. }
        | KeysError::Material { path, .. }
        | KeysError::TooLarge { path, .. } => (path.clone(), 0),
        KeysError::Trusted { path, line, .. } | KeysError::Purpose { path, line, .. } => {
            (path.clone(), u32::try_from(*line).unwrap_or(u32::MAX))
        }
        KeysError::NoSuchKey { dir, .. } => (dir.clone(), 0),
        KeysError::Comment => (std::path::PathBuf::new(), 0),
    };
    let words = match (error, std::error::Error::source(error)) {
        (KeysError::Trusted { .. } | KeysError::Purpose { .. }, Some(source)) => source.to_string(),
        (_, Some(source)) => format!("{error}: {source}"),
        (_, None) => error.to_string(),
    };
    let hint = "`gentoomuch keys import` and `gentoomuch keys trust` write these files for you";
    Diagnostic { file, line, severity: Severity::Error, message: words, hint: Some(hint.to_owned()) }
}
