//! `gentoomuch stage3 …`

pub(super) mod fetch;
mod ls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::Outcome;
use crate::cli::invocation::{Invocation, load_keys, now_secs};
use crate::cli::report::Failure;
use crate::cli::table;
use crate::download::{Downloader, Url};
use crate::release::Releases;
use crate::sandbox::Interrupt;
use crate::stage3::keys::{Purpose, TrustedKeys};
use crate::stage3::{Day, Signer, Verified, VerifyOptions, verify};

pub(crate) use fetch::fetch;

/// List, fetch and verify stage3 tarballs
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch stage3 ls
  gentoomuch stage3 fetch amd64-openrc
  gentoomuch stage3 verify stage3-amd64-openrc-20260811T083102Z.tar.xz")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Stage3Command,
}

#[derive(Debug, Subcommand)]
enum Stage3Command {
    #[command(alias = "list")]
    Ls(ls::Args),
    Fetch(fetch::Args),
    Verify(VerifyArgs),
}

/// Check signatures and digests of tarballs against the trusted keys
///
/// FILE is a stage3 or a stage4. The command reads FILE.asc, FILE.DIGESTS, FILE.sha256 and FILE.CONTENTS.gz beside it. At least one
/// signature by a trusted key must cover the tarball, and all files that exist must agree.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch stage3 verify stage3-amd64-openrc-20260811T083102Z.tar.xz
  gentoomuch stage3 verify --allow-expired ~/.local/share/gentoomuch/stages/web/*.tar.zst")]
struct VerifyArgs {
    /// Tarballs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Accept signatures whose key has expired since they were made
    #[arg(long)]
    allow_expired: bool,
}

/// What is printed of one tarball as JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Report<'a> {
    name: &'a str,
    arch: Option<&'a str>,
    variant: Option<&'a str>,
    timestamp: Option<&'a str>,
    size: u64,
    sha512: &'a str,
    blake2b: &'a str,
    contents: Option<&'a PathBuf>,
    signer: Option<&'a Signer>,
    checks: &'a [crate::stage3::Check],
    notes: &'a [String],
}

/// Runs one subcommand.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Stage3Command::Ls(args) => ls::run(args, invocation),
        Stage3Command::Fetch(args) => fetch::run(args, invocation),
        Stage3Command::Verify(args) => run_verify(args, invocation),
    }
}

/// What getting something from mirrors needs.
#[derive(Debug)]
struct Online {
    mirrors: Vec<Url>,
    dir: PathBuf,
    downloader: Downloader,
    trusted: TrustedKeys,
    options: VerifyOptions,
    /// Held, so that Ctrl-C is counted and a download ends tidily.
    _interrupt: Interrupt,
}

impl Online {
    fn new(invocation: &Invocation, mirrors: &[Url], allow_expired: bool) -> Result<Self, Failure> {
        Ok(Self {
            mirrors: invocation.mirrors(mirrors)?,
            dir: invocation.places.stage3(),
            downloader: invocation.downloader(),
            trusted: invocation.trusted_keys()?,
            options: Invocation::verify_options(None, allow_expired)?,
            _interrupt: Interrupt::install()?,
        })
    }

    fn releases<'a>(&'a self, invocation: &'a Invocation) -> Releases<'a> {
        Releases {
            mirrors: &self.mirrors,
            dir: &self.dir,
            downloader: &self.downloader,
            trusted: self.trusted.counting_for(Purpose::Stage3),
            verify: &self.options,
            no_wait: invocation.global.no_wait,
            observer: invocation.progress.as_ref(),
        }
    }
}

fn run_verify(args: &VerifyArgs, invocation: &Invocation) -> Outcome {
    let trusted = load_keys(invocation)?;
    let options = VerifyOptions { now: now_secs(), accept_expired: args.allow_expired, ..VerifyOptions::default() };
    let mut verified = Vec::new();
    for file in &args.files {
        verified.push(verify(
            &invocation.path(file),
            trusted.counting_for(Purpose::Stage3),
            &options,
            invocation.progress.as_ref(),
        )?);
    }
    invocation.progress.clear();
    if args.json {
        let reports: Vec<Report<'_>> = verified.iter().map(report).collect();
        table::print_json(&reports)?;
    } else {
        for one in &verified {
            table::print(render(one))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(verified: &Verified) -> Report<'_> {
    Report {
        name: &verified.name,
        arch: verified.arch.as_deref(),
        variant: verified.variant.as_deref(),
        timestamp: verified.timestamp.as_deref(),
        size: verified.size,
        sha512: &verified.sha512,
        blake2b: &verified.blake2b,
        contents: verified.contents.as_ref(),
        signer: verified.signer.as_ref(),
        checks: &verified.checks,
        notes: &verified.notes,
    }
}

/// ```text
/// stage3-amd64-openrc-20260811T083102Z.tar.xz
///   signed by  13EB… (subkey 534E…)
///              Gentoo Linux Release Engineering
///   on         2026-08-11
///   size       270.3 MiB
///   checked    .DIGESTS: signature, BLAKE2B, SHA512
///              .asc: signature
///              .CONTENTS.gz: BLAKE2B, SHA512 of .DIGESTS
/// ```
fn render(verified: &Verified) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(signer) = &verified.signer {
        let subkey = if signer.fingerprint == signer.primary { String::new() } else { format!(" (subkey {})", signer.fingerprint) };
        rows.push(("signed by", format!("{}{subkey}", signer.primary)));
        rows.extend(signer.uid.iter().map(|uid| ("", uid.clone())));
        let expired = signer.expired.map(|day| format!(", key expired on {}", Day(day))).unwrap_or_default();
        rows.push(("on", format!("{}{expired}", Day(signer.signed_at))));
    }
    rows.push(("size", table::human_bytes(verified.size)));
    for (index, line) in checked(verified).into_iter().enumerate() {
        rows.push((if index == 0 { "checked" } else { "" }, line));
    }
    let lines = rows.into_iter().map(|(label, value)| format!("  {label:<9}  {value}\n"));
    std::iter::once(format!("{}\n", verified.name)).chain(lines).collect()
}

/// One line for each file beside the tarball; their names are given by what they add to the tarball's.
fn checked(verified: &Verified) -> Vec<String> {
    let short = |name: &str| name.strip_prefix(&verified.name).filter(|ending| !ending.is_empty()).unwrap_or(name).to_owned();
    let mut lines: Vec<(String, String, Vec<&str>)> = Vec::new();
    for check in &verified.checks {
        let beside = check.file == verified.name || check.file == check.by;
        let (file, list) = if beside { (&check.by, String::new()) } else { (&check.file, format!(" of {}", short(&check.by))) };
        match lines.iter_mut().find(|(known, of, _)| *known == short(file) && *of == list) {
            Some((.., whats)) => whats.push(&check.what),
            None => lines.push((short(file), list, vec![&check.what])),
        }
    }
    lines.into_iter().map(|(file, list, whats)| format!("{file}: {}{list}", whats.join(", "))).collect()
}
