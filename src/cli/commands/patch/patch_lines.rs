//! What the commands about patches print.

use std::fmt::Write as _;
use std::path::Path;

use crate::patch::attempt::{Attempt, Came as AttemptCame};
use crate::patch::prep::{Prepared, Unpacked};
use crate::patch::refresh::Refreshed;
use crate::patch::rows::{PatchRow, RemovedPatch};
use crate::patch::save::SavedAs;

use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, count};

/// `key  value` lines, aligned.
fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key:<width$}  {value}");
        text
    })
}

fn unpacked(unpacked: &Unpacked) -> String {
    let mut text = String::new();
    let mut list = |title: &str, names: &[String]| {
        if !names.is_empty() {
            let _ = writeln!(text, "\n{title}");
            for name in names {
                let _ = writeln!(text, "  {name}");
            }
        }
    };
    list("left out, since they are git repositories of their own:", &unpacked.nested_repositories);
    list("left out, since they are not files:", &unpacked.special_files);
    list("conflicts, to resolve between the markers:", &unpacked.conflicts);
    list("parts that do not fit:", &unpacked.rejected);
    text
}

pub(super) fn prepared(done: &Prepared) -> String {
    let what = if done.source.prepared { "prepared" } else { "unpacked, not prepared" };
    let mut lines = vec![
        ("patch", done.name.clone()),
        ("package", format!("{}::{}, {what} by {}", done.source.cpv, done.source.repository, done.source.profile)),
        ("work set", done.dir.shown()),
        ("files", done.unpacked.files.to_string()),
    ];
    if !done.unpacked.patches.is_empty() {
        lines.push(("with", format!("the saved {}", done.unpacked.patches.join(", "))));
    }
    if done.unpacked.saved_applied {
        lines.push(("applied", "what was saved of it".to_owned()));
    }
    let name = &done.name;
    lines.push(("next", format!("change it, then `gentoomuch patch try {name}`")));
    rows(&lines) + &unpacked(&done.unpacked)
}

pub(super) fn refreshed(done: &Refreshed) -> String {
    let clean = done.unpacked.conflicts.is_empty() && done.unpacked.rejected.is_empty();
    let from = done.before.clone().unwrap_or_else(|| "what was saved".to_owned());
    let name = &done.name;
    let next = if clean {
        format!("`gentoomuch patch try {name}`, then `gentoomuch patch save {name}`")
    } else {
        format!("resolve the conflicts, then `gentoomuch patch try {name}`")
    };
    let merged = if clean { "merged".to_owned() } else { "merged with conflicts".to_owned() };
    rows(&[
        ("patch", name.clone()),
        ("from", from),
        ("to", format!("{}::{}", done.source.cpv, done.source.repository)),
        ("result", merged),
        ("work set", done.dir.shown()),
        ("next", next),
    ]) + &unpacked(&done.unpacked)
}

pub(super) fn attempted(done: &Attempt) -> String {
    let name = &done.name;
    let lines = done.files.iter().fold((0, 0), |(added, removed), file| (added + file.added, removed + file.removed));
    let changes = format!("{}, +{} -{}", count(done.files.len() as u64, "file"), lines.0, lines.1);
    let mut table = vec![("patch", name.clone()), ("package", done.package.clone()), ("profile", done.profile.clone())];
    table.push(("changes", changes));
    match &done.came {
        AttemptCame::Built => {
            table.push(("result", format!("built in {:.1} s", done.seconds)));
            if !done.files.is_empty() {
                table.push(("next", format!("`gentoomuch patch save {name}`")));
            }
        }
        AttemptCame::NotApplied { log } => {
            table.push(("result", "built without the changes: the ebuild applies no user patches".to_owned()));
            table.push(("log", log.shown()));
        }
        AttemptCame::Failed { reason, log, kept, .. } => {
            table.push(("result", format!("failed: {reason}")));
            table.push(("log", log.shown()));
            if *kept {
                table.push(("look", format!("`gentoomuch patch shell {name}`")));
            }
        }
    }
    rows(&table) + &ignored(&done.ignored)
}

fn ignored(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut text = "\nnot part of it, since git ignores them (`git add --force` adds them):\n".to_owned();
    for name in names.iter().take(8) {
        let _ = writeln!(text, "  {name}");
    }
    if names.len() > 8 {
        let _ = writeln!(text, "  and {} more", names.len() - 8);
    }
    text
}

pub(super) fn saved(done: &SavedAs, config: &Path) -> String {
    let mut lines = vec![
        ("patch", done.name.clone()),
        ("for", done.atom.clone()),
        ("file", config.join(&done.path).shown() + if done.unchanged { "  (unchanged)" } else { "" }),
    ];
    for path in &done.replaced {
        lines.push(("removed", config.join(path).shown()));
    }
    for file in &done.files {
        lines.push(("changes", format!("{}  +{} -{}", file.path, file.added, file.removed)));
    }
    rows(&lines) + &ignored(&done.ignored)
}

pub(super) fn list(patches: &[PatchRow]) -> String {
    if patches.is_empty() {
        return "no patches\n".to_owned();
    }
    let mut table = Table::new(&["PATCH", "SAVED FOR", "WORK SET", "DATE", "PURPOSE"]);
    for patch in patches {
        let work_set = patch.work_set.as_ref().map_or_else(|| "-".to_owned(), |set| set.cpv.clone());
        let work_set = if patch.failed_build { format!("{work_set} (failed)") } else { work_set };
        if patch.saved.is_empty() {
            table.row([patch.name.as_str(), "-", &work_set, "-", "-"]);
        }
        for (index, file) in patch.saved.iter().enumerate() {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            table.row([
                if index == 0 { patch.name.clone() } else { String::new() },
                file.atom.clone(),
                if index == 0 { work_set.clone() } else { String::new() },
                or_dash(&file.date),
                or_dash(&file.purpose),
            ]);
        }
    }
    table.render()
}

pub(super) fn shown(patch: &PatchRow, with_text: bool) -> String {
    let mut text = rows(&[("patch", patch.name.clone())]);
    if let (Some(set), Some(dir)) = (&patch.work_set, &patch.dir) {
        let what = if set.prepared { "prepared" } else { "not prepared" };
        text += "\nwork set\n";
        text += &indented(&rows(&[
            ("package", format!("{}::{}, {what} by {}", set.cpv, set.repository, set.profile)),
            ("made", set.made.clone()),
            ("directory", dir.shown()),
        ]));
        if patch.failed_build {
            text += "  a build of it failed: `gentoomuch patch shell` opens a shell there\n";
        }
    }
    for file in &patch.saved {
        let _ = writeln!(text, "\n{}", file.path.shown());
        let mut lines = vec![("for", file.atom.clone())];
        let said = [("purpose", &file.purpose), ("made from", &file.package), ("date", &file.date), ("bug", &file.bug)];
        lines.extend(said.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
        lines.push(("changes", format!("{}, +{} -{}", count(file.files as u64, "file"), file.added, file.removed)));
        text += &indented(&rows(&lines));
        if with_text {
            let _ = write!(text, "\n{}", file.text);
        }
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}

pub(super) fn removed(done: &RemovedPatch, config: &Path) -> String {
    let mut lines: Vec<(&str, String)> = done.work_set.iter().map(|dir| ("removed", dir.shown())).collect();
    lines.extend(done.saved.iter().map(|path| ("removed", config.join(path).shown())));
    rows(&lines)
}
