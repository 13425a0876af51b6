//! `gentoomuch doctor`

use std::io;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::host;
use crate::host::{Candidate, Check, Report, Status, Subject};
use crate::sandbox::{self, HelperSource, IdMap, Launcher, Rung};
use crate::stage3::sign::Gpg;

use super::Outcome;
use crate::cli::failures::sandbox::{id_map_hint, sandbox_words};
use crate::cli::invocation::Invocation;
use crate::cli::invocation::host_arch;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Style, Text};
use crate::cli::table::{Table, print, print_json};

/// Check whether this host can build, by trying each step
///
/// It exits with 0 only if builds can run here. Each failure comes with a hint that says what to do. What could not be tried, since
/// something before it failed, says so. The last table has one line for each kind of isolation, the strongest first: commands take the
/// first that works, and `--isolation` demands one. Nothing is left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch doctor
  gentoomuch doctor --json --data /scratch/me/gentoomuch")]
pub(crate) struct Args {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }
}

/// What is printed if not even the directories could be found out: a reader of JSON gets a report whatever happens.
pub(crate) fn refused(failure: &Failure) -> Outcome {
    let check = Check {
        name: "directories",
        status: Status::Failed,
        found: failure.in_one_line(),
        remedy: Some(failure.remedies().join("; ")).filter(|remedy| !remedy.is_empty()),
    };
    print_json(&Report { ready: false, condition: None, isolation: None, checks: vec![check], rungs: Vec::new() })?;
    Ok(ExitCode::from(failure.kind().code()))
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let remedies = |error: &sandbox::Error| sandbox_words(error).1;
    let subject = Subject {
        launcher: &candidate(None),
        rungs: Rung::ALL.into_iter().map(|rung| (rung, candidate(Some(rung)))).collect(),
        remedies: &remedies,
        search_path: &Invocation::search_path(),
        data: &invocation.places.data,
        signing_key: signing_key(invocation),
    };
    let report = host::examine(&subject);
    if args.json {
        print_json(&report)?;
    } else {
        let color = invocation.global.color.enabled(io::stdout().is_terminal());
        let mut table = Table::new(&["CHECK", "STATUS", "FOUND"]);
        for check in &report.checks {
            table.row([check.name.to_owned(), word(check.status).to_owned(), check.found.clone()]);
        }
        let mut text: Text = table.render().lines().map(|line| painted(line, color)).collect();
        for check in &report.checks {
            if let Some(remedy) = &check.remedy {
                text = text.words(&format!("\n{}: {remedy}\n", check.name));
            }
        }
        let mut rungs = Table::new(&["ISOLATION", "WORKS", "LACKS"]);
        for rung in &report.rungs {
            let works = if rung.works { "yes" } else { "no" };
            rungs.row([rung.rung.to_string(), works.to_owned(), rung.lacks.clone().unwrap_or_default()]);
        }
        text = text.words("\n").words(&rungs.render());
        let ready = match (report.ready, &report.condition) {
            (false, _) => "no".to_owned(),
            (true, None) => "yes".to_owned(),
            (true, Some(condition)) => format!("yes, {condition}"),
        };
        print(text.words(&format!("\nready: {ready}\n")))?;
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::from(Kind::Host.code()) })
}

/// The ids of a rung, or those that commands would use.
fn candidate(rung: Option<Rung>) -> Candidate {
    let (user, search) = (Invocation::user(), Invocation::search_path());
    let ids = IdMap::of_host(Path::new("/"), user.uid, user.gid, &user.name, &search, rung);
    let ids = ids.map_err(|error| (error.to_string(), id_map_hint(&error)))?;
    let launcher = Launcher::new(HelperSource::CurrentExe, ids).search_in(search);
    Ok(if rung == Some(Rung::SharedProc) { launcher.sharing_proc() } else { launcher })
}

/// The key that would sign artifacts: the configuration's, or gpg's default one where there is no configuration. Nobody is asked for a passphrase.
fn signing_key(invocation: &Invocation) -> Result<String, (String, String)> {
    let no_configuration = |failure: Failure| {
        (
            failure.first_words(),
            "see what to correct with `gentoomuch config \
        check`"
                .to_owned(),
        )
    };
    let key = match ConfigDir::open(&invocation.places.config) {
        Ok(config) => config.env(host_arch()).map_err(|error| no_configuration(error.into()))?.sign_key.map(|key| key.value),
        Err(_) => None,
    };
    let gpg = Gpg { key, ..Invocation::gpg() };
    let found = gpg.secret_key_available().and_then(|key| Ok((key, gpg.asks()?)));
    match found {
        Ok((key, asks)) => {
            let uid = key.uid.map_or_else(String::new, |uid| format!("  {uid}"));
            Ok(format!("{}{uid}{}", key.primary, if asks { ", which asks for its passphrase" } else { "" }))
        }
        Err(error) => {
            let found = std::iter::once(error.to_string()).chain(error.last_lines().iter().cloned());
            Err((found.collect::<Vec<_>>().join(": "), error.hint().unwrap_or_default().to_owned()))
        }
    }
}

/// A line of the table, with its status in colour.
fn painted(line: &str, color: bool) -> Text {
    let styles = [(Status::Failed, Style::Red), (Status::Warning, Style::Yellow)].map(|(status, style)| (word(status), style));
    let found = styles.into_iter().find_map(|(word, style)| line.find(&format!("  {word}  ")).map(|at| (at + 2, word, style)));
    match found {
        Some((at, word, style)) => Text::from(&line[..at]).painted(style, word, color).words(&line[at + word.len()..]).words("\n"),
        None => Text::from(line).words("\n"),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "failed",
        Status::NotTried => "not tried",
    }
}
