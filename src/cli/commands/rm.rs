//! `gentoomuch rm NAME…`

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::history::remove;
use crate::history::remove::Removal;
use serde::Serialize;

use super::Outcome;
use crate::cli::ask::agreed;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, count, human_bytes, print, print_json, short_id, short_time};

/// Remove names of states: kept ones, tags, old stages
///
/// That is: what `freshroot --keep` has kept, tags, kernel sources, kernels, and stages whose definition is gone. It shows what each name
/// stands for, and asks. A name is refused if something runs in its state or was built on it, or if the configuration has a definition for
/// it. The states stay in the store until `clean`.
#[derive(Debug, clap::Args)]
#[command(alias = "remove")]
#[command(after_help = "Examples:
  gentoomuch rm with-hello
  gentoomuch rm --dry-run kept/with-hello tag/v1 stage4/old
  gentoomuch rm --yes kernel-sources/server/gentoo-sources

For a whole profile there is `gentoomuch profile rm`, for a tree snapshot `gentoomuch tree rm`.
Without a terminal, nothing is removed unless you give `--yes`.")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub(crate) struct Args {
    /// A name in full, or a tag, a kept state, a stage4 or a kernel without `tag/`, `kept/`, …
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also remove a name that has a definition, or whose state something was built on; that stays as it is
    #[arg(long)]
    force: bool,
    /// Only show what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Removed<'a> {
    #[serde(flatten)]
    removal: &'a Removal,
    /// Whether it was done; else it is what would be.
    removed: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    let plan = remove::remove_plan(&cx, &args.names, args.force)?;
    if args.dry_run {
        return shown(args, &plan, false);
    }
    if !args.json {
        print(planned(&plan))?;
    }
    if !args.yes && !agreed(&format!("remove {}", count(plan.names.len() as u64, "name")), &opened)? {
        return Ok(ExitCode::SUCCESS);
    }
    let done = remove::remove(&cx, &plan, args.force)?;
    invocation.progress.clear();
    shown(args, &done, true)
}

fn shown(args: &Args, removal: &Removal, removed: bool) -> Outcome {
    if args.json {
        print_json(&Removed { removal, removed })?;
    } else {
        print(if removed { done(removal) } else { planned(removal) })?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn planned(plan: &Removal) -> String {
    let mut table = Table::new(&["NAME", "STATE", "MADE", "WHAT"]);
    for row in &plan.names {
        let kind = row.kind.as_deref().unwrap_or("gone from the store");
        let earlier =
            if row.previous == 0 { String::new() } else { format!(", and {}", count(row.previous as u64, "earlier state")) };
        let made = row.created.as_deref().map_or_else(|| "-".to_owned(), short_time);
        table.row([row.name.clone(), short_id(&row.state), made, format!("{kind}{earlier}")]);
    }
    let mut text = table.render();
    text.push('\n');
    text.push_str(&left(plan));
    if plan.unnamed_states > 0 {
        let (states, has) = (count(plan.unnamed_states as u64, "state"), if plan.unnamed_states == 1 { "has" } else { "have" });
        let _ = writeln!(
            text,
            "then     {states} {has} no name any more: `gentoomuch clean` frees {}",
            human_bytes(plan.unnamed_bytes)
        );
    }
    text
}

pub(super) fn done(removal: &Removal) -> String {
    let mut text = String::new();
    for row in &removal.names {
        let _ = writeln!(text, "removed  {}", row.name);
    }
    text.push_str(&left(removal));
    // A build finds its state by its inputs. What was kept or tagged has none.
    let is_built = removal.names.iter().all(|row| !row.name.starts_with("kept/") && !row.name.starts_with("tag/"));
    text.push_str(&unnamed(removal.unnamed_states, removal.unnamed_bytes, is_built.then_some("build")));
    text
}

fn left(removal: &Removal) -> String {
    let mut text = String::new();
    for left in removal.names.iter().flat_map(|row| &row.left) {
        let _ = writeln!(text, "left     {left}");
    }
    text
}

/// What has no name any more, after names were removed. `again` is what finds it by its inputs, if anything does.
pub(super) fn unnamed(states: usize, bytes: u64, again: Option<&str>) -> String {
    if states == 0 {
        return String::new();
    }
    let it = if states == 1 { "it" } else { "them" };
    let again = again.map_or_else(String::new, |again| format!("; until then the same {again} uses {it} again"));
    let (states, bytes) = (count(states as u64, "state"), human_bytes(bytes));
    format!("{states} without a name now: {bytes} of the store's space. `gentoomuch clean` frees it{again}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::remove::NameToRemove;

    #[test]
    fn a_removal_in_words() {
        let removal = Removal {
            names: vec![NameToRemove {
                name: "kept/with-hello".to_owned(),
                state: "407a5c90314cded027f4a1c99334f7fd".parse().unwrap(),
                kind: Some("kept session".to_owned()),
                created: Some("2026-11-22T12:15:52.1Z".to_owned()),
                previous: 1,
                left: vec!["kept `other` was built on it".to_owned()],
            }],
            unnamed_states: 2,
            unnamed_bytes: 3 << 20,
        };
        assert_eq!(
            planned(&removal),
            "NAME             STATE         MADE                 WHAT\n\
             kept/with-hello  407a5c90314c  2026-11-22 12:15:52  kept session, and 1 earlier state\n\n\
             left     kept `other` was built on it\n\
             then     2 states have no name any more: `gentoomuch clean` frees 3.0 MiB\n"
        );
        assert_eq!(
            done(&removal),
            "removed  kept/with-hello\nleft     kept `other` was built on it\n\
             2 states without a name now: 3.0 MiB of the store's space. `gentoomuch clean` frees it.\n"
        );
        assert_eq!(unnamed(0, 0, Some("build")), "");
        assert!(unnamed(2, 0, Some("build")).ends_with("frees it; until then the same build uses them again.\n"));
    }
}
