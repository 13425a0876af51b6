//! `gentoomuch keys …`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::release;
use crate::release::keys::{Address, Keyserver, Source};
use crate::sandbox::Interrupt;
use crate::stage3::keys::{Change, KeyInfo, KeysError, PinSource, Purpose, Trust};
use crate::stage3::{Day, Fingerprint, keys};
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::{load_keys, now_secs};
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table;
use crate::cli::table::Table;

/// List and change the OpenPGP keys that are trusted
///
/// Keys are files in the configuration's `keys/`. A key is trusted if its fingerprint is in `keys/trusted`, for the purposes that the line
/// names. Gentoo's own keys are trusted without a line there, each for what Gentoo uses it for, but you have to fetch or import their
/// public keys.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch keys ls
  gentoomuch keys fetch --gentoo
  gentoomuch keys import service-keys.gpg")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    #[command(alias = "list")]
    Ls(LsArgs),
    Fetch(FetchArgs),
    Import(ImportArgs),
    #[command(alias = "remove")]
    Rm(RmArgs),
    Trust(TrustArgs),
}

/// List keys: fingerprint, trust, purposes, validity, name
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch keys ls --json")]
struct LsArgs {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Get public keys from web key directories and keyservers
///
/// It gets only keys whose fingerprint is trusted: Gentoo's, and those in `keys/trusted`. A key that you have already is refreshed, so an
/// expired copy becomes valid again if the owner has extended it. Without `--wkd` or `--hkps` it asks the web key directory of the key's
/// mail address, then keys.gentoo.org, then keys.openpgp.org.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch keys fetch --gentoo
  gentoomuch keys fetch --hkps keys.example.org 0123456789ABCDEF0123456789ABCDEF01234567")]
struct FetchArgs {
    /// Fingerprints of primary keys
    #[arg(required_unless_present = "gentoo")]
    fingerprint: Vec<Fingerprint>,
    /// Gentoo's release keys
    #[arg(long, conflicts_with = "fingerprint")]
    gentoo: bool,
    /// Ask the web key directory of this mail address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "gentoo")]
    wkd: Option<Address>,
    /// Ask this keyserver: `HOST`, `hkps://HOST:PORT`, or `hkp://HOST` without TLS
    #[arg(long, value_name = "SERVER")]
    hkps: Option<Keyserver>,
    /// Print what was changed as JSON
    #[arg(long)]
    json: bool,
}

/// Store the public keys from a file; a newer copy refreshes an older one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch keys import service-keys.gpg
  gentoomuch keys import --trust --comment 'our own builds' team.asc
  gentoomuch keys import --for binpkg --comment 'packages of the lab' lab.asc")]
struct ImportArgs {
    /// Public keys, armoured or binary
    file: PathBuf,
    /// Also trust them (Gentoo's own keys do not need this)
    #[arg(long)]
    trust: bool,
    /// Trust them for these purposes only: `stage3` (and stage4s), `tree`, `binpkg`, `remote`
    #[arg(long = "for", value_name = "PURPOSE", value_delimiter = ',')]
    purposes: Vec<Purpose>,
    /// Whose keys they are
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    /// Print what was changed as JSON
    #[arg(long)]
    json: bool,
}

/// Remove a public key, and its line in `keys/trusted`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch keys rm D99EAC7379A850BCE47DA5F29E6438C817072058")]
struct RmArgs {
    /// Fingerprint of the primary key
    fingerprint: Fingerprint,
    /// Print what was changed as JSON
    #[arg(long)]
    json: bool,
}

/// Trust the signatures of a key, by its fingerprint
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch keys trust 0123456789ABCDEF0123456789ABCDEF01234567 --comment 'our own builds'
  gentoomuch keys trust 0123456789ABCDEF0123456789ABCDEF01234567 --for tree,binpkg")]
struct TrustArgs {
    /// Fingerprint of the primary key
    fingerprint: Fingerprint,
    /// What its signatures count for: `stage3` (and stage4s), `tree`, `binpkg`, `remote` [default: all but remote]
    #[arg(long = "for", value_name = "PURPOSE", value_delimiter = ',')]
    purposes: Vec<Purpose>,
    /// Whose key it is
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    /// Print what was changed as JSON
    #[arg(long)]
    json: bool,
}

/// Runs one subcommand.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let dir = invocation.places.keys();
    match &args.command {
        KeysCommand::Ls(args) => return list(args, invocation),
        KeysCommand::Fetch(args) => return fetch(args, invocation),
        KeysCommand::Import(args) => {
            let trusted = args.trust || !args.purposes.is_empty();
            if !trusted && !args.comment.is_empty() {
                return Err(Failure::message(Kind::Usage, "`--comment` needs `--trust` or `--for`"));
            }
            let comment = trusted.then_some(Trust { purposes: &args.purposes, comment: &args.comment });
            let file = invocation.path(&args.file);
            Invocation::given_file(&file)?;
            let changes = keys::import(&dir, &file, comment).map_err(|error| {
                let given = matches!(&error, KeysError::Read { path, .. } | KeysError::Material { path, .. } | KeysError::TooLarge { path, .. } if *path == file);
                if given { Failure::new(Kind::Usage, error) } else { Failure::from(error) }
            })?;
            if args.json {
                table::print_json(&changes)?;
                return Ok(ExitCode::SUCCESS);
            }
            let trusted = load_keys(invocation)?;
            let untrusted = changes.iter().filter_map(|change| match change {
                Change::Stored { fingerprint, .. } if !trusted.is_trusted(fingerprint) => {
                    Some(format!("not trusted yet: `gentoomuch keys trust {fingerprint}`\n"))
                }
                _ => None,
            });
            let text: String = std::iter::once(render_changes(&changes)).chain(untrusted).collect();
            table::print(&text)?;
        }
        KeysCommand::Rm(args) => {
            let changes = keys::remove(&dir, &args.fingerprint)?;
            if args.json {
                table::print_json(&changes)?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut text = render_changes(&changes);
            if load_keys(invocation)?.is_trusted(&args.fingerprint) {
                text.push_str("it is one of Gentoo's release keys: if you import it again, it is trusted again\n");
            }
            table::print(&text)?;
        }
        KeysCommand::Trust(args) => {
            let known = load_keys(invocation)?.list(now_secs()).into_iter().find(|key| key.fingerprint == args.fingerprint);
            let pin = known.and_then(|key| key.pin).filter(|pin| pin.source == PinSource::Builtin && args.purposes.is_empty());
            if let Some(pin) = pin {
                let counts = pin.purposes;
                return Err(Failure::message(
                    Kind::Usage,
                    format!("{} is Gentoo's own key and counts for {counts} already", args.fingerprint),
                )
                .hint("name other purposes with `--for`"));
            }
            let how = Trust { purposes: &args.purposes, comment: &args.comment };
            let change = keys::trust(&dir, &args.fingerprint, how)?;
            if args.json {
                table::print_json(&change.into_iter().collect::<Vec<_>>())?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut text = match change {
                Some(change) => render_changes(&[change]),
                None => format!("`{}` trusts {} already\n", dir.join("trusted").shown(), args.fingerprint),
            };
            if load_keys(invocation)?.certificates().all(|certificate| *certificate.fingerprint() != args.fingerprint) {
                let fingerprint = &args.fingerprint;
                text.push_str(&format!(
                    "its public key is missing: get it with `gentoomuch keys fetch {fingerprint}` or `gentoomuch keys import \
                     FILE`\n"
                ));
            }
            table::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets as many as there are; failures are told at the end.
fn fetch(args: &FetchArgs, invocation: &Invocation) -> Outcome {
    let dir = invocation.places.keys();
    let trusted = load_keys(invocation)?;
    let _interrupt = Interrupt::install()?;
    let downloader = invocation.downloader();
    let wanted = if args.gentoo { release::keys::gentoo() } else { args.fingerprint.clone() };
    let mut changes = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for fingerprint in &wanted {
        let said = args.wkd.iter().cloned().map(Source::Wkd).chain(args.hkps.iter().cloned().map(Source::Keyserver));
        let mut sources: Vec<Source> = said.collect();
        if sources.is_empty() {
            sources = release::keys::usual_sources(fingerprint, &trusted, now_secs());
        }
        match release::keys::fetch(&downloader, fingerprint, &sources, &trusted, &dir, invocation.progress.as_ref()) {
            Ok(more) => changes.extend(more),
            Err(error @ (release::keys::Error::Nowhere { .. } | release::keys::Error::NotPinned(_))) => {
                failures.push(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    invocation.progress.clear();
    if args.json {
        table::print_json(&changes)?;
    } else {
        let now = now_secs();
        let known = load_keys(invocation)?.list(now);
        let mut text = render_changes(&changes);
        for key in known.iter().filter(|key| changes.iter().any(|change| stores(change, &key.fingerprint))) {
            text.push_str(&format!("{}  {}  {}\n", key.fingerprint, validity(key, now), name(key)));
        }
        table::print(&text)?;
    }
    let last = failures.pop();
    invocation.say_all(failures);
    last.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn stores(change: &Change, key: &Fingerprint) -> bool {
    matches!(change, Change::Stored { fingerprint, .. } if fingerprint == key)
}

fn list(args: &LsArgs, invocation: &Invocation) -> Outcome {
    let now = now_secs();
    let list = load_keys(invocation)?.list(now);
    if args.json {
        table::print_json(&list)?;
    } else {
        let mut rows = Table::new(&["FINGERPRINT", "TRUST", "FOR", "VALIDITY", "NAME"]);
        for key in &list {
            rows.row([key.fingerprint.to_string(), trust(key), purposes(key), validity(key, now), name(key)]);
        }
        table::print(rows.render())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn trust(key: &KeyInfo) -> String {
    match &key.pin {
        None => "no",
        Some(pin) if pin.source == PinSource::Builtin => "builtin",
        Some(_) => "yes",
    }
    .to_owned()
}

fn purposes(key: &KeyInfo) -> String {
    match &key.pin {
        None => "-".to_owned(),
        Some(pin) => pin.purposes.to_string(),
    }
}

fn validity(key: &KeyInfo, now: i64) -> String {
    match (key.files.is_empty(), key.revoked, key.expires) {
        (true, ..) => "not imported".to_owned(),
        (_, Some(day), _) => format!("revoked {}", Day(day)),
        (_, _, Some(day)) if day <= now => format!("expired {}", Day(day)),
        (_, _, Some(day)) => format!("until {}", Day(day)),
        _ => "unlimited".to_owned(),
    }
}

fn name(key: &KeyInfo) -> String {
    let comment = key.pin.as_ref().map(|pin| pin.comment.as_str()).filter(|comment| !comment.is_empty());
    match (&key.uid, comment) {
        (Some(uid), Some(comment)) => format!("{uid} ({comment})"),
        (Some(uid), None) => uid.clone(),
        (None, Some(comment)) => comment.to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn render_changes(changes: &[Change]) -> String {
    let line = |change: &Change| match change {
        Change::Stored { fingerprint, path, refreshed: false } => format!("stored {fingerprint} in `{}`\n", path.shown()),
        Change::Stored { fingerprint, path, refreshed: true } => format!("refreshed {fingerprint} in `{}`\n", path.shown()),
        Change::Trusted { fingerprint, purposes, path } => {
            let only = if purposes.is_usual() { String::new() } else { format!(" for {purposes}") };
            format!("trusted {fingerprint}{only} in `{}`\n", path.shown())
        }
        Change::Distrusted { fingerprint, path } => format!("removed {fingerprint} from `{}`\n", path.shown()),
        Change::Rewritten { fingerprint, path } => {
            format!("removed {fingerprint} from `{}`, which holds other keys\n", path.shown())
        }
        Change::Removed { fingerprint, path } => format!("removed {fingerprint} with `{}`\n", path.shown()),
    };
    changes.iter().map(line).collect()
}
