//! What `gentoomuch stage ls|show|rm` prints for people.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::commands::rm;
use crate::cli::screen;
use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, age, count, human_bytes, short_id, short_time};
use crate::history::stages::{ArtifactRow, Condition, StageRemoval, StageRow, StageShown};

/// So much of a fingerprint tells a key from others.
const KEY_DIGITS: usize = 16;

pub(super) fn rows(rows: &[StageRow], now: i64) -> String {
    if rows.is_empty() {
        return "there are no stage4s; `stage4.defines/` of the configuration defines them\n".to_owned();
    }
    let mut table = Table::new(&["STAGE", "STATE", "FORMAT", ">SIZE", "SIGNED BY", ">AGE", "CURRENT", "NOTE"]);
    for row in rows {
        let state = row.state.as_ref().map_or_else(|| "-".to_owned(), short_id);
        let about = if row.defined == Some(false) { "no definition" } else { "" };
        if row.artifacts.is_empty() {
            table.row([row.name.as_str(), &state, "-", "-", "-", "-", "-", about]);
        }
        for artifact in &row.artifacts {
            let note =
                [about.to_owned(), note(artifact)].into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
            let [format, size, signer, age, current] = cells(artifact, now);
            table.row([row.name.clone(), state.clone(), format, size, signer, age, current, note]);
        }
        for path in &row.foreign {
            table.row([
                row.name.clone(),
                state.clone(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                foreign(path),
            ]);
        }
    }
    table.render()
}

fn cells(artifact: &ArtifactRow, now: i64) -> [String; 5] {
    let age_of = |made: &str| made.parse::<jiff::Timestamp>().map_or_else(|_| "-".to_owned(), |made| age(now - made.as_second()));
    if artifact.condition != Condition::Complete {
        return [artifact.format.clone(), "-".to_owned(), "-".to_owned(), age_of(&artifact.made), "no".to_owned()];
    }
    let digits = |key: &str| key.chars().skip(key.chars().count().saturating_sub(KEY_DIGITS)).collect();
    let signer = artifact.signed_by.as_deref().map_or_else(|| "nobody".to_owned(), digits);
    let current = if artifact.current { "yes" } else { "no" };
    [artifact.format.clone(), human_bytes(artifact.size_bytes), signer, age_of(&artifact.made), current.to_owned()]
}

fn file(path: &Path) -> String {
    Path::new(path.file_name().unwrap_or_default()).shown()
}

fn foreign(path: &Path) -> String {
    format!("`{}` is not ours", file(path))
}

fn note(artifact: &ArtifactRow) -> String {
    match &artifact.condition {
        Condition::Complete => String::new(),
        Condition::Unfinished => format!("`{}` is the rest of a killed run", file(&artifact.path)),
        Condition::Damaged { why } => format!("damaged: {why}"),
    }
}

pub(super) fn shown(shown: &StageShown, now: i64) -> String {
    let row = &shown.row;
    let mut text = format!("stage4    {}\n", row.name);
    let mut line = |label: &str, value: &str| text.push_str(&format!("{label:<9} {}\n", screen::line(value)));
    if row.defined == Some(false) {
        line("note", "it has no definition");
    }
    match (&row.state, &row.built) {
        (None, _) => line("state", "not built yet"),
        (Some(state), None) => line("state", &format!("{state}, which is gone from the store")),
        (Some(state), Some(built)) => line("state", &format!("{state} of {}", short_time(built))),
    }
    for (label, value) in [("profile", &row.profile), ("base", &shown.base)] {
        if let Some(value) = value {
            line(label, value);
        }
    }
    if let Some(kernel) = &shown.kernel {
        line("kernel", &format!("{}, {} of {}", kernel.name, kernel.release, kernel.package));
    }
    if let (Some(packages), Some(bytes)) = (shown.package_count, shown.total_bytes) {
        line("packages", &packages.to_string());
        line("size", &human_bytes(bytes));
    }
    for artifact in &row.artifacts {
        let [format, size, _, age, current] = cells(artifact, now);
        line("artifact", &artifact.path.shown());
        let signer = artifact.signed_by.as_deref().map_or_else(|| "not signed".to_owned(), |key| format!("signed by {key}"));
        let is = if current == "yes" { "of the present state" } else { "of an earlier state" };
        match &artifact.condition {
            Condition::Complete => line("", &format!("{format}, {size}, {age} old, {is}, {signer}")),
            _ => line("", &note(artifact)),
        }
    }
    for path in &row.foreign {
        line("foreign", &path.shown());
    }
    text
}

pub(super) fn removal(removal: &StageRemoval, removed: bool, now: i64) -> String {
    let mut text = String::new();
    if removal.artifacts.is_empty() && removal.names.names.is_empty() {
        text.push_str("there is nothing to remove\n");
    }
    for artifact in &removal.artifacts {
        let [_, size, _, age, _] = cells(artifact, now);
        let path = artifact.path.shown();
        text.push_str(&if removed { format!("removed  {path}\n") } else { format!("artifact {path}  {size}, {age} old\n") });
    }
    for artifact in &removal.damaged {
        let _ = writeln!(text, "stays    {}: {}", artifact.path.shown(), screen::line(&note(artifact)));
    }
    for path in &removal.foreign {
        let _ = writeln!(text, "stays    {}", foreign(path));
    }
    if !removal.names.names.is_empty() {
        text.push_str(&if removed { rm::done(&removal.names) } else { rm::planned(&removal.names) });
    } else if removed && removal.artifacts.len() > 1 {
        let _ = writeln!(text, "{} removed", count(removal.artifacts.len() as u64, "artifact"));
    }
    text
}
