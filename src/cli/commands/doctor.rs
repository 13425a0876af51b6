//! `gentoomuch doctor`

use std::io;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::host;
use crate::host::{Status, Subject};
use crate::sandbox::{HelperSource, IdMap, Launcher};
use crate::stage3::sign::Gpg;

use super::Outcome;
use crate::cli::failures::sandbox::id_map_hint;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::host_arch;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Shown as _, Style, Text};
use crate::cli::table::{Table, print, print_json};

/// Check whether this host can build, by trying each step
///
/// It exits with 0 only if builds can run here. Each failure comes with a hint that says what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch doctor
  gentoomuch doctor --json --data /scratch/me/gentoomuch")]
pub(crate) struct Args {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let user = Invocation::user();
    let data = &invocation.places.data;
    std::fs::create_dir_all(data).map_err(|error| {
        Failure::new(Kind::Other, error)
            .about(format!("cannot create `{}`", data.shown()))
            .hint("choose another place with `--data`")
    })?;
    let ids = IdMap::of_host(Path::new("/"), user.uid, user.gid, &user.name, &Invocation::search_path());
    let launcher = match &ids {
        Ok(map) => Some(Launcher::new(HelperSource::CurrentExe, map.clone()).search_in(Invocation::search_path())),
        Err(_) => None,
    };
    let subject = Subject {
        id_map: ids.as_ref().map_err(|error| (error.to_string(), id_map_hint(error).replace("USER", &user.name))),
        is_root: user.uid == 0,
        launcher: launcher.as_ref(),
        search_path: &Invocation::search_path(),
        data,
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
        print(text.words(if report.ready { "\nready: yes\n" } else { "\nready: no\n" }))?;
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::from(Kind::Host.code()) })
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
    }
}
