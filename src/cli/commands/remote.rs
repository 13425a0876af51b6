//! `gentoomuch remote ls|push|pull|rm|gc`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::Outcome;
use crate::cli::ask::agreed;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, count, human_bytes, print, print_either, short_id, short_time};
use crate::context;
use crate::history::log;
use crate::names::named::named;
use crate::remote::{self, Found, Listing, PackageRow, Remote, Row};
use crate::store::StateId;

/// See and change what a remote has: states and packages by key
///
/// A remote is an OCI registry or a shared folder. Commands that build ask it for each state before they build it, and for each package before
/// they compile it, if `--remote` or `env/remote` names one, and publish what they have built with `--push`. Only what a key has signed counts
/// that is trusted for remotes.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch --remote dir:/srv/states remote ls
  gentoomuch remote push stage4/web
  gentoomuch remote pull stage4/web --tag web")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: RemoteCommand,
}

#[derive(Debug, Subcommand)]
enum RemoteCommand {
    #[command(alias = "list")]
    Ls(LsArgs),
    Push(PushArgs),
    Pull(PullArgs),
    #[command(alias = "remove")]
    Rm(RmArgs),
    Gc(GcArgs),
}

/// List the states that a remote has, or its packages
///
/// Nothing of it but the key is verified before a state or a package is pulled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch remote ls
  gentoomuch remote ls --packages --json")]
struct LsArgs {
    /// List the binary packages instead of the states
    #[arg(long)]
    packages: bool,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Publish states, what they were made from, and their binary packages
///
/// Each layer is sent once, whatever states have it. Of the packages those are sent that are in the pools of this machine. What the remote has
/// already stays as it is, if it is whole, its signer counts, and no package here is younger.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch remote push stage4/web profile/server")]
struct PushArgs {
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    #[arg(required = true, value_name = "STATE")]
    states: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Bring a state, with what it was made from, or binary packages
///
/// Without a tag a state has no name, and the next `clean` removes it; a build that wants the same finds it until then. Packages come into the
/// pool that they were built for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch remote pull stage4/web --tag web
  gentoomuch remote pull 3f9c2a7d1b04
  gentoomuch remote pull app-misc/hello-2.10")]
struct PullArgs {
    /// The name that it had where it was pushed, a package with its version, or the beginning of a key or of a state's id
    #[arg(value_name = "WHAT")]
    state: String,
    /// Give it this tag here
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Remove states or packages from a remote
///
/// Their blobs stay until they are collected.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch remote rm stage4/old --yes")]
struct RmArgs {
    /// Names that they had where they were pushed, packages with their versions, or beginnings of keys or ids
    #[arg(required = true, value_name = "WHAT")]
    states: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Remove blobs from a shared folder that no state or package there has
///
/// A registry collects its own blobs: its administrator decides when. Blobs younger than a day stay, since a push puts the name of a state or a
/// package last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch remote gc --dry-run")]
struct GcArgs {
    /// Also remove blobs that are younger: `0h` if nobody pushes just now
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = age)]
    older_than: Duration,
    /// Only show what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: a number with m, h or d, such as `24h`");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

/// What `ls --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Listed {
    remote: String,
    states: Vec<Row>,
    /// How many packages it has.
    packages: usize,
    /// These, with `--packages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    package_rows: Option<Vec<PackageRow>>,
}

/// What `push --json` prints.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Published {
    remote: String,
    /// What was published, and what it was made from.
    states: Vec<StateId>,
    /// How many were there already.
    there: usize,
    /// Packages that were published, by name with version.
    packages: Vec<String>,
    /// How many packages were there already.
    packages_there: usize,
    /// The key that signed, if anything was published.
    signer: Option<String>,
}

/// What `pull --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Brought {
    remote: String,
    /// `None`: packages were meant.
    state: Option<StateId>,
    key: Option<String>,
    /// The primary key that has signed it; of packages all of them.
    signer: String,
    /// Layers that were fetched; the others are here.
    layers: usize,
    /// Packages that were fetched, by name with version; the others are here.
    packages: Vec<String>,
    /// Bytes of what was fetched.
    size_bytes: u64,
    tag: Option<String>,
}

/// What `rm --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Gone {
    remote: String,
    /// Keys that are gone.
    keys: Vec<String>,
}

/// What `gc --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Collected {
    remote: String,
    blobs: u64,
    size_bytes: u64,
    /// Whether it was done; else it is what would be.
    removed: bool,
    /// A registry does it itself, and nothing was done.
    by_registry: bool,
}

/// Runs one subcommand.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::for_remote(invocation)?;
    let cx = opened.context(None);
    let remote = Remote::open(&cx)?;
    match &args.command {
        RemoteCommand::Ls(args) => {
            let Listing { states, packages, package_rows } = remote::listing(&remote, args.packages)?;
            let listed = Listed { remote: remote.shown(), states, packages, package_rows };
            print_either(args.json, &listed, table)?;
        }
        RemoteCommand::Push(args) => push(args, &cx, &remote)?,
        RemoteCommand::Pull(args) => pull(args, &cx, &remote)?,
        RemoteCommand::Rm(args) => return rm(args, &opened, &remote),
        RemoteCommand::Gc(args) => gc(args, &remote)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(listed: &Listed) -> String {
    if let Some(rows) = &listed.package_rows {
        return package_table(&listed.remote, rows);
    }
    let packages = match listed.packages {
        0 => String::new(),
        packages => format!("{}: `--packages` lists them\n", count(packages as u64, "package")),
    };
    if listed.states.is_empty() {
        return format!("{} has no states\n{packages}", listed.remote);
    }
    let mut table = Table::new(&["KEY", "NAME", "STATE", "MADE", ">LAYERS", ">SIZE", "HERE"]);
    for row in &listed.states {
        table.row([
            row.key.chars().take(12).collect::<String>(),
            name_or(row.flaw.as_deref(), row.name.as_deref()),
            row.state.chars().take(12).collect(),
            short_time(&row.made),
            row.layers.to_string(),
            human_bytes(row.size_bytes),
            if row.here { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.render() + &packages
}

fn package_table(remote: &str, rows: &[PackageRow]) -> String {
    if rows.is_empty() {
        return format!("{remote} has no packages\n");
    }
    let mut table = Table::new(&["KEY", "PACKAGE", "MADE", ">SIZE", "HERE"]);
    for row in rows {
        table.row([
            row.key.chars().take(12).collect::<String>(),
            name_or(row.flaw.as_deref(), row.name.as_deref()),
            short_time(&row.made),
            human_bytes(row.size_bytes),
            if row.here { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.render()
}

fn name_or(flaw: Option<&str>, name: Option<&str>) -> String {
    flaw.map_or_else(|| name.unwrap_or("-").to_owned(), |flaw| format!("({flaw})"))
}

fn push(args: &PushArgs, cx: &context::Context<'_>, remote: &Remote<'_>) -> Result<(), crate::cli::report::Failure> {
    let mut all = Published { remote: remote.shown(), ..Published::default() };
    // A name that leads nowhere is told before anything is pushed. What `clean` removes while a remote answers is an error, and not waited
    // for.
    let all_found: Vec<_> = {
        let _sharing = context::share_store(cx)?;
        args.states.iter().map(|text| named(cx, text)).collect::<std::result::Result<_, _>>()?
    };
    let mut states = Vec::new();
    for found in all_found {
        let name = found.at.as_ref().filter(|at| at.index == 0).map(|at| at.name.as_str());
        let pushed = remote::push(remote, &found.state, name)?;
        all.states.extend(pushed.states);
        all.there += pushed.there;
        all.signer = pushed.signer.or(all.signer);
        states.push(found.state);
    }
    let packages = remote::push_packages(remote, &states, true)?;
    (all.packages, all.packages_there) = (packages.packages, packages.there);
    all.signer = packages.signer.or(all.signer);
    Ok(print_either(args.json, &all, |all| {
        let mut text = String::new();
        for state in &all.states {
            let _ = writeln!(text, "pushed   {}", short_id(state));
        }
        if all.there > 0 {
            let _ = writeln!(text, "there    {}", count(all.there as u64, "state"));
        }
        for (done, packages) in [("pushed", all.packages.len()), ("there", all.packages_there)] {
            if packages > 0 {
                let _ = writeln!(text, "{done:<8} {}", count(packages as u64, "package"));
            }
        }
        if let Some(signer) = &all.signer {
            let _ = writeln!(text, "signed   by {signer}");
        }
        text
    })?)
}

fn pull(args: &PullArgs, cx: &context::Context<'_>, remote: &Remote<'_>) -> Result<(), crate::cli::report::Failure> {
    let (key, wanted) = match remote::find(remote, &args.state)? {
        Found::State(key, wanted) => (key, wanted),
        Found::Packages(keys, name) => return pull_packages(args, &keys, name.as_deref(), remote),
    };
    let pulled = remote::pull(remote, &key, wanted.as_ref())?
        .ok_or_else(|| remote::Error::NotThere { place: remote.shown(), wanted: args.state.clone() })?;
    if let Some(tag) = &args.tag {
        log::tag(cx, &pulled.state.id.to_string(), tag, true)?;
    }
    let brought = Brought {
        remote: remote.shown(),
        state: Some(pulled.state.id),
        key: Some(pulled.state.key),
        signer: pulled.signer.primary.to_string(),
        layers: pulled.layers,
        packages: Vec::new(),
        size_bytes: pulled.bytes,
        tag: args.tag.as_ref().map(|tag| format!("tag/{tag}")),
    };
    tell(args, &brought)
}

fn pull_packages(
    args: &PullArgs,
    keys: &BTreeSet<String>,
    name: Option<&str>,
    remote: &Remote<'_>,
) -> Result<(), crate::cli::report::Failure> {
    if args.tag.is_some() {
        return Err(remote::Error::NoTag { wanted: args.state.clone() }.into());
    }
    let came = remote::pull_packages(remote, keys, name)?;
    if let Some((_, error)) = came.refused.into_iter().next() {
        return Err(error.into());
    }
    let brought = Brought {
        remote: remote.shown(),
        state: None,
        key: None,
        signer: came.signers.into_iter().collect::<Vec<_>>().join(", "),
        layers: 0,
        packages: came.packages,
        size_bytes: came.bytes,
        tag: None,
    };
    tell(args, &brought)
}

fn tell(args: &PullArgs, brought: &Brought) -> Result<(), crate::cli::report::Failure> {
    Ok(print_either(args.json, brought, |brought| {
        let mut text = String::new();
        let (Some(state), Some(key)) = (&brought.state, &brought.key) else {
            for package in &brought.packages {
                let _ = writeln!(text, "package  {package}");
            }
            if !brought.signer.is_empty() {
                let _ = writeln!(text, "signed   by {}", brought.signer);
            }
            let _ =
                writeln!(text, "fetched  {}, {}", count(brought.packages.len() as u64, "package"), human_bytes(brought.size_bytes));
            return text;
        };
        let _ = writeln!(text, "state    {state}\nkey      {key}");
        let _ = writeln!(text, "signed   by {}", brought.signer);
        let _ = writeln!(text, "fetched  {}, {}", count(brought.layers as u64, "layer"), human_bytes(brought.size_bytes));
        let _ = match &brought.tag {
            Some(tag) => writeln!(text, "name     {tag}"),
            None => writeln!(text, "name     none: `gentoomuch clean` removes it"),
        };
        text
    })?)
}

fn rm(args: &RmArgs, opened: &Opened<'_>, remote: &Remote<'_>) -> Outcome {
    let found = args.states.iter().map(|text| remote::find(remote, text)).collect::<Result<Vec<_>, _>>()?;
    let packages: usize = found.iter().map(|found| if let Found::Packages(keys, _) = found { keys.len() } else { 0 }).sum();
    let states = found.iter().filter(|found| matches!(found, Found::State(..))).count();
    let parts = [(states, "state"), (packages, "package")].into_iter().filter(|(number, _)| *number > 0);
    let what: Vec<String> = parts.map(|(number, noun)| count(number as u64, noun)).collect();
    let question = format!("remove {} from {}", what.join(" and "), remote.shown());
    if !args.yes && !agreed(&question, opened)? {
        return Ok(ExitCode::SUCCESS);
    }
    let gone = Gone { remote: remote.shown(), keys: remote::remove(remote, &found)? };
    print_either(args.json, &gone, |gone| gone.keys.iter().fold(String::new(), |text, key| text + "removed  " + key + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn gc(args: &GcArgs, remote: &Remote<'_>) -> Result<(), crate::cli::report::Failure> {
    let collected = remote::collect(remote, args.older_than, !args.dry_run)?;
    let found = collected.unwrap_or_default();
    let collected = Collected {
        remote: remote.shown(),
        blobs: found.blobs,
        size_bytes: found.bytes,
        removed: collected.is_some() && !args.dry_run,
        by_registry: collected.is_none(),
    };
    if collected.by_registry && !args.json {
        return Ok(print(format!("{} collects its own blobs\n", collected.remote))?);
    }
    Ok(print_either(args.json, &collected, |done| {
        let verb = if done.removed { "removed " } else { "unused  " };
        format!("{verb} {}, {}\n", count(done.blobs, "blob"), human_bytes(done.size_bytes))
    })?)
}
