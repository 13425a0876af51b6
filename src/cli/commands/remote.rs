//! `gentoomuch remote ls|push|pull|rm|gc`

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
use crate::remote::{self, Remote, Row};
use crate::store::StateId;

/// See and change what a remote has: build states by their keys
///
/// A remote is an OCI registry or a shared folder. Commands that build ask it for each state before they build it, if `--remote` or
/// `env/remote` names one, and publish what they have built with `--push`. Only states count that a key has signed which is trusted for
/// remotes.
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

/// List the states that a remote has
///
/// Nothing of it but the key is verified before a state is pulled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch remote ls --json")]
struct LsArgs {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Publish states, and what they were made from
///
/// Each layer is sent once, whatever states have it. What the remote has already stays as it is.
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

/// Bring a state, with what it was made from
///
/// Without a tag it has no name, and the next `clean` removes it; a build that wants the same finds it until then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch remote pull stage4/web --tag web
  gentoomuch remote pull 3f9c2a7d1b04")]
struct PullArgs {
    /// The name that it had where it was pushed, or the beginning of its key or its id
    #[arg(value_name = "STATE")]
    state: String,
    /// Give it this tag here
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Remove states from a remote; their blobs stay until they are collected
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch remote rm stage4/old --yes")]
struct RmArgs {
    /// Names that they had where they were pushed, or beginnings of keys or ids
    #[arg(required = true, value_name = "STATE")]
    states: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Remove blobs from a shared folder that no state there has
///
/// A registry collects its own blobs: its administrator decides when. Blobs younger than a day stay, since a push puts its state's name
/// last.
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
}

/// What `push --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Published {
    remote: String,
    /// What was published, and what it was made from.
    states: Vec<StateId>,
    /// How many were there already.
    there: usize,
    /// The key that signed, if anything was published.
    signer: Option<String>,
}

/// What `pull --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Brought {
    remote: String,
    state: StateId,
    key: String,
    /// The primary key that has signed it.
    signer: String,
    /// Layers that were fetched; the others are here.
    layers: usize,
    /// Bytes of their blobs.
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
            let listed = Listed { remote: remote.shown(), states: remote::rows(&remote)? };
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
    if listed.states.is_empty() {
        return format!("{} has no states\n", listed.remote);
    }
    let mut table = Table::new(&["KEY", "NAME", "STATE", "MADE", ">LAYERS", ">SIZE", "HERE"]);
    for row in &listed.states {
        let name = row.flaw.as_ref().map_or_else(|| row.name.clone().unwrap_or_else(|| "-".to_owned()), |flaw| format!("({flaw})"));
        table.row([
            row.key.chars().take(12).collect::<String>(),
            name,
            row.state.chars().take(12).collect(),
            short_time(&row.made),
            row.layers.to_string(),
            human_bytes(row.size_bytes),
            if row.here { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.render()
}

fn push(args: &PushArgs, cx: &context::Context<'_>, remote: &Remote<'_>) -> Result<(), crate::cli::report::Failure> {
    let _store = context::share_store(cx)?;
    let mut all = Published { remote: remote.shown(), states: Vec::new(), there: 0, signer: None };
    for text in &args.states {
        let found = named(cx, text)?;
        let name = found.at.as_ref().filter(|at| at.index == 0).map(|at| at.name.as_str());
        let pushed = remote::push(remote, &found.state, name)?;
        all.states.extend(pushed.states);
        all.there += pushed.there;
        all.signer = pushed.signer.or(all.signer);
    }
    Ok(print_either(args.json, &all, |all| {
        let mut text = String::new();
        for state in &all.states {
            let _ = writeln!(text, "pushed   {}", short_id(state));
        }
        if all.there > 0 {
            let _ = writeln!(text, "there    {}", count(all.there as u64, "state"));
        }
        if let Some(signer) = &all.signer {
            let _ = writeln!(text, "signed   by {signer}");
        }
        text
    })?)
}

fn pull(args: &PullArgs, cx: &context::Context<'_>, remote: &Remote<'_>) -> Result<(), crate::cli::report::Failure> {
    let sharing = context::share_store(cx)?;
    let (key, wanted) = remote::find(remote, &args.state)?;
    let pulled = remote::pull(remote, &key, wanted.as_ref())?
        .ok_or_else(|| remote::Error::NotThere { place: remote.shown(), wanted: args.state.clone() })?;
    // Naming it takes the lock again, which somebody may wait for alone.
    drop(sharing);
    if let Some(tag) = &args.tag {
        log::tag(cx, &pulled.state.id.to_string(), tag, true)?;
    }
    let brought = Brought {
        remote: remote.shown(),
        state: pulled.state.id,
        key: pulled.state.key,
        signer: pulled.signer.primary.to_string(),
        layers: pulled.layers,
        size_bytes: pulled.bytes,
        tag: args.tag.as_ref().map(|tag| format!("tag/{tag}")),
    };
    Ok(print_either(args.json, &brought, |brought| {
        let mut text = format!("state    {}\nkey      {}\n", brought.state, brought.key);
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
    let find = |text: &String| remote::find(remote, text).map(|(key, _)| key);
    let keys = args.states.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let question = format!("remove {} from {}", count(keys.len() as u64, "state"), remote.shown());
    if !args.yes && !agreed(&question, opened)? {
        return Ok(ExitCode::SUCCESS);
    }
    let gone = Gone { remote: remote.shown(), keys: remote::remove(remote, &keys)? };
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
