//! `gentoomuch log [REF]`

use std::process::ExitCode;

use crate::history::log;
use crate::history::log::LogEntry;

use super::Outcome;
use super::store::all_was_readable;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, print, print_json, short_id, short_time};

/// Show the earlier states of a name, and what changed between them
///
/// A name is one of `gentoomuch store ls`: `stage4/web`, `profile/server` for its builder, `kept/with-hello`, a tag. For each state you see
/// when the name got it, what it was made from, and which inputs differ from the state before. You can give the first column to every
/// command that takes a state.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch log stage4/web
  gentoomuch log --json profile/server
  gentoomuch log")]
pub(crate) struct Args {
    /// A name [default: all of them, the newest change first]
    #[arg(value_name = "REF")]
    name: Option<String>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let entries = log::log(&opened.context(None), args.name.as_deref())?;
    if args.json {
        print_json(&entries)?;
    } else {
        print(words(&entries))?;
    }
    if args.name.is_none() {
        all_was_readable(&opened)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(entries: &[LogEntry]) -> String {
    if entries.is_empty() {
        return "nothing has been built yet\n".to_owned();
    }
    let mut table = Table::new(&["NAME", "STATE", "SINCE", "FROM", "CHANGED"]);
    for entry in entries {
        let id = if entry.tags.is_empty() || entry.name.starts_with("tag/") {
            short_id(&entry.state)
        } else {
            format!("{} ({})", short_id(&entry.state), entry.tags.join(", "))
        };
        table.row([
            entry.name.clone(),
            id,
            short_time(&entry.since),
            entry.from.clone().unwrap_or_else(|| "-".to_owned()),
            changed(entry),
        ]);
    }
    table.render()
}

fn changed(entry: &LogEntry) -> String {
    if !entry.complete {
        return "gone from the store".to_owned();
    }
    let Some(changed) = &entry.changed else { return "-".to_owned() };
    if changed.is_empty() {
        return "nothing".to_owned();
    }
    let words = changed.iter().map(|name| match (name.as_str(), entry.changed_below.is_empty()) {
        ("parent", false) => format!("parent ({})", entry.changed_below.join(", ")),
        _ => name.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_in_words() {
        let mut new = LogEntry {
            name: "stage4/web".to_owned(),
            index: 0,
            state: "407a5c90314cded027f4a1c99334f7fd".parse().unwrap(),
            since: "2026-11-22T12:15:52.1Z".to_owned(),
            created: Some("2026-11-22T12:15:51Z".to_owned()),
            complete: true,
            kind: Some("stage4 definition".to_owned()),
            from: Some("profile/demo/gentoomuch/builder".to_owned()),
            changed: Some(vec!["packages".to_owned(), "parent".to_owned()]),
            changed_below: vec!["trees".to_owned()],
            tags: vec!["v1".to_owned()],
        };
        let old = LogEntry { name: "stage4/web@{1}".to_owned(), complete: false, changed: None, tags: vec![], ..new.clone() };
        assert_eq!(
            words(&[new.clone(), old]),
            "NAME            STATE              SINCE                FROM                             CHANGED\n\
             stage4/web      407a5c90314c (v1)  2026-11-22 12:15:52  profile/demo/gentoomuch/builder  packages, parent (trees)\n\
             stage4/web@{1}  407a5c90314c       2026-11-22 12:15:52  profile/demo/gentoomuch/builder  gone from the store\n"
        );
        new.changed = Some(Vec::new());
        assert!(words(&[new]).ends_with("nothing\n"));
        assert_eq!(words(&[]), "nothing has been built yet\n");
    }
}
