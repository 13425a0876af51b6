//! `gentoomuch tree ls|diff|rm`

use std::process::ExitCode;

use crate::trees::compare::{TreeChange, TreeDifference};
use crate::trees::rows::TreeListRow;
use crate::trees::{compare, rows};
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, human_bytes, print, print_json, short_time};

/// Look at tree snapshots: list, compare, remove
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  gentoomuch tree ls\n  gentoomuch tree diff 'gentoo@{1}' gentoo\n  gentoomuch tree rm 28c4490114"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the snapshots: source, signer, and what was built with them
    #[command(after_help = "Example:\n  gentoomuch tree ls --json")]
    #[command(alias = "list")]
    Ls {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how two snapshots differ: packages, masks, profiles, news
    #[command(after_help = "A snapshot is named by NAME, NAME@{N}, NAME/REV or the beginning of its id or revision.

Example:
  gentoomuch tree diff 'gentoo@{1}' gentoo")]
    Diff {
        /// The first
        from: String,
        /// The second
        to: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove snapshots that no name and no build state needs
    #[command(after_help = "If you give NAME or NAME/REV, the name is removed, too.

Examples:
  gentoomuch tree rm 28c4490114
  gentoomuch tree rm gentoo/20260811")]
    #[command(alias = "remove")]
    Rm {
        /// NAME, NAME/REV, or the beginning of an id or revision
        #[arg(required = true, value_name = "TREE")]
        trees: Vec<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    match &args.command {
        Command::Ls { json } => {
            let rows = rows::tree_rows(&cx)?;
            if *json { print_json(&rows)? } else { print(render_rows(&rows))? }
        }
        Command::Diff { from, to, json } => {
            let difference = compare::compare_trees(&cx, from, to)?;
            if *json { print_json(&difference)? } else { print(render_difference(&difference))? }
        }
        Command::Rm { trees, json } => {
            let removed = rows::remove_trees(&cx, trees)?;
            invocation.progress.clear();
            if *json {
                print_json(&removed)?;
            } else {
                let line = |row: &crate::trees::rows::RemovedTree| match (row.stays, &row.removed_name) {
                    (true, Some(name)) => format!("removed the name {name}; the tree {} stays\n", row.id),
                    (_, Some(name)) => format!("removed {}  {name}\n", row.id),
                    (_, None) => format!("removed {}  {}\n", row.id, row.name),
                };
                print(removed.iter().map(line).collect::<String>())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn short(text: &str) -> String {
    let (prefix, rest) = text.split_once(':').map_or(("", text), |(kind, rest)| (kind, rest));
    let rest: String = rest.chars().take(12).collect();
    if prefix.is_empty() { rest } else { format!("{prefix}:{rest}") }
}

fn render_rows(rows: &[TreeListRow]) -> String {
    if rows.is_empty() {
        return "no trees; `gentoomuch sync` fetches one\n".to_owned();
    }
    let mut table = Table::new(&["ID", "NAME", "BROUGHT", "BY", "REV", "SIGNER", ">FILES", ">SIZE", "USED BY"]);
    for row in rows {
        // A name without revision is the latest one.
        let latest = row.names.contains(&row.name);
        let pinned = row.names.iter().any(|name| name.contains('/'));
        let name = match (latest, pinned) {
            (true, true) => format!("{} (latest, pinned)", row.name),
            (true, false) => format!("{} (latest)", row.name),
            (false, true) => format!("{} (pinned)", row.name),
            (false, false) => row.name.clone(),
        };
        let signer = match (&row.signer, row.vouched.as_str()) {
            (Some(signer), _) => signer.chars().rev().take(16).collect::<Vec<_>>().into_iter().rev().collect(),
            (None, "pin") => "the pin".to_owned(),
            (None, word) => word.to_owned(),
        };
        let used = match row.used_by.as_slice() {
            [] => "-".to_owned(),
            [one] => one.clone(),
            [one, more @ ..] => format!("{one} and {} more", more.len()),
        };
        let size = row.bytes.map_or_else(|| "-".to_owned(), human_bytes);
        let cells = [
            row.id.to_string(),
            name,
            short_time(&row.created),
            row.method.clone(),
            short(&row.rev),
            signer,
            row.files.to_string(),
            size,
            used,
        ];
        table.row(cells);
    }
    table.render()
}

fn render_difference(difference: &TreeDifference) -> String {
    let label = |(id, rev): &(String, String)| if rev.is_empty() { id.clone() } else { format!("{id} ({})", short(rev)) };
    let mut text = format!("from {} to {}\n", label(&difference.from), label(&difference.to));
    if difference.is_empty() {
        return text + "no difference\n";
    }
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n"));
            for line in lines {
                text.push_str(&format!("  {line}\n"));
            }
        }
    };
    let width = difference.packages.iter().map(|change| change.package.len()).max().unwrap_or(0);
    section(
        "packages",
        difference.packages.iter().map(|change| format!("{:width$}  {}", change.package, versions(change))).collect(),
    );
    let marked = |mark: char, lines: &[String]| lines.iter().map(|line| format!("{mark} {line}")).collect::<Vec<_>>();
    section("masks", [marked('+', &difference.masked), marked('-', &difference.unmasked)].concat());
    section("profiles", difference.profiles.clone());
    section("eclasses", difference.eclasses.clone());
    section("news", difference.news.clone());
    if difference.others > 0 {
        section("other files", vec![difference.others.to_string()]);
    }
    text
}

fn versions(change: &TreeChange) -> String {
    let marked = |mark: char, list: &[String]| list.iter().map(|version| format!("{mark}{version}")).collect::<Vec<_>>();
    let mut words = [marked('+', &change.added), marked('-', &change.removed), marked('~', &change.changed)].concat();
    if words.is_empty() && change.files {
        words.push("files only".to_owned());
    }
    words.join(" ")
}
