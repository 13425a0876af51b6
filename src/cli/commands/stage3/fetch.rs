//! `gentoomuch stage3 fetch`

use std::path::Path;
use std::process::ExitCode;

use crate::download::Url;
use crate::release::{Fetched, Variant, Which};
use serde::Serialize;

use super::super::Outcome;
use super::{Online, Report};
use crate::cli::invocation::Invocation;
use crate::cli::report::Failure;
use crate::cli::screen::Shown as _;
use crate::cli::table;

/// Download a stage3, verify it, and keep it
///
/// The tarball and its signature files go to `stage3/` in the cache directory, and its path is printed. An interrupted download is resumed
/// by the next one. It uses the mirrors given with `--mirror`, else `GENTOO_MIRRORS` of the configuration's `portage.global/make.conf`,
/// else <https://distfiles.gentoo.org>.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch stage3 fetch amd64-openrc
  gentoomuch stage3 fetch amd64-openrc --mirror https://mirror.example/gentoo
  gentoomuch stage3 fetch amd64-musl-hardened --date 20260811T083102Z")]
pub(super) struct Args {
    /// Variant, as `gentoomuch stage3 ls` shows it; without an architecture, this machine's is used
    variant: String,
    /// Get the latest build; this is the default
    #[arg(long, conflicts_with = "date")]
    latest: bool,
    /// Get the build that was started at this time; mirrors keep the builds of a few weeks
    #[arg(long, value_name = "TIME")]
    date: Option<String>,
    /// Ask this mirror; can be given several times, the best first
    #[arg(long, value_name = "URL")]
    mirror: Vec<Url>,
    /// Accept a good signature even if its key has expired since then
    #[arg(long)]
    allow_expired: bool,
    /// Print what was fetched as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON: what `stage3 verify` prints, and where it is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct FetchReport<'a> {
    path: &'a Path,
    /// Missing if it was here already.
    url: Option<&'a Url>,
    resumed_bytes: u64,
    #[serde(flatten)]
    verified: Report<'a>,
}

pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let which = args.date.clone().map_or(Which::Latest, Which::Of);
    let fetched = fetch(invocation, &args.variant, &which, &args.mirror, args.allow_expired)?;
    invocation.progress.clear();
    if args.json {
        let verified = super::report(&fetched.verified);
        let resumed_bytes = fetched.resumed;
        table::print_json(&FetchReport { path: &fetched.path, url: fetched.url.as_ref(), resumed_bytes, verified })?;
    } else {
        table::print(format!("{}\n", fetched.path.shown()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches a variant for a command of any kind.
pub(crate) fn fetch(
    invocation: &Invocation,
    variant: &str,
    which: &Which,
    mirrors: &[Url],
    allow_expired: bool,
) -> Result<Fetched, Failure> {
    let variant = Variant::parse(variant, crate::cli::invocation::host_arch())?;
    let online = Online::new(invocation, mirrors, allow_expired)?;
    Ok(online.releases(invocation).fetch(&variant, which)?)
}
