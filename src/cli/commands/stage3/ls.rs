//! `gentoomuch stage3 ls`

use std::process::ExitCode;

use crate::download::Url;
use crate::release::{Listing, Variant};

use super::super::Outcome;
use super::Online;
use crate::cli::invocation::Invocation;
use crate::cli::table;
use crate::cli::table::Table;

/// List upstream's latest stage3s
///
/// It reads the signed list of an architecture from the first mirror that has a trusted one. It uses the mirrors given with `--mirror`,
/// else `GENTOO_MIRRORS` of the configuration's `portage.global/make.conf`, else <https://distfiles.gentoo.org>.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch stage3 ls
  gentoomuch stage3 ls arm64 --mirror https://mirror.example/gentoo")]
pub(super) struct Args {
    /// Architecture, as in the names of upstream's directories [default: this machine's]
    arch: Option<String>,
    /// Ask this mirror; can be given several times, the best first
    #[arg(long, value_name = "URL")]
    mirror: Vec<Url>,
    /// Accept a good signature even if its key has expired since then
    #[arg(long)]
    allow_expired: bool,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let arch = Variant::directory(args.arch.as_deref().unwrap_or(crate::cli::invocation::host_arch()))?;
    let online = Online::new(invocation, &args.mirror, args.allow_expired)?;
    let listing = online.releases(invocation).listing(arch)?;
    invocation.progress.clear();
    if args.json {
        table::print_json(&listing)?;
    } else {
        table::print(render(&listing))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(listing: &Listing) -> String {
    let mut rows = Table::new(&["VARIANT", "BUILT", ">SIZE", "HERE"]);
    for build in &listing.builds {
        let size = build.size.map_or_else(|| "-".to_owned(), table::human_bytes);
        let here = if build.fetched { "yes" } else { "" };
        rows.row([build.variant.clone(), built(&build.timestamp), size, here.to_owned()]);
    }
    rows.render()
}

/// `2026-08-11 08:31` of `20260811T083102Z`.
fn built(timestamp: &str) -> String {
    match (timestamp.get(..4), timestamp.get(4..6), timestamp.get(6..8), timestamp.get(9..11), timestamp.get(11..13)) {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute)) => format!("{year}-{month}-{day} {hour}:{minute}"),
        (Some(year), Some(month), Some(day), ..) => format!("{year}-{month}-{day}"),
        _ => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::built;

    #[test]
    fn times_of_builds() {
        assert_eq!(built("20260811T083102Z"), "2026-08-11 08:31");
        assert_eq!(built("20160811"), "2016-08-11");
    }
}
