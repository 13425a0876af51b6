//! What `gentoomuch profile …` prints for people.

use std::fmt::Write as _;

use crate::history::rollback::RolledBack;
use crate::inventory::Change;
use crate::profile::ProfileRow;
use crate::profile::names::{RemovedProfile, RenamedProfile};
use crate::profile::show::{BuilderShown, HistoryShown, ProfileShown, TreeShown};
use crate::profile::update::UpdatedProfile;

use crate::cli::commands::rm::unnamed;
use crate::cli::table::{Table, count, human_bytes, short_id, short_time};

/// So much of a digest tells it from others.
const SHORT_DIGEST: usize = 16;

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Labels and values in two columns.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, label: &str, value: impl AsRef<str>) {
        let _ = writeln!(self.0, "{label:<17} {}", value.as_ref());
    }

    /// Under the last value.
    fn more(&mut self, value: impl AsRef<str>) {
        self.line("", value);
    }
}

pub(super) fn rows(rows: &[ProfileRow]) -> String {
    if rows.is_empty() {
        return "no profile is bootstrapped; make one with `gentoomuch bootstrap PROFILE STAGE3`\n".to_owned();
    }
    let mut table = Table::new(&["PROFILE", "DEFAULT", "STAGE3", "BUILDER", "TREE", ">BEFORE", "DEFINITIONS"]);
    for row in rows {
        let unsigned = if row.allow_unsigned.is_some() { " (UNSIGNED)" } else { "" };
        table.row([
            row.name.clone(),
            if row.default { "yes".to_owned() } else { String::new() },
            format!("{}{unsigned}", row.stage3.as_deref().unwrap_or("-")),
            row.builder.as_deref().map_or_else(|| "-".to_owned(), short_time),
            or_dash(&row.trees.iter().map(|tree| tree.imported.as_deref().map_or("gone", date)).collect::<Vec<_>>().join(" ")),
            row.previous.to_string(),
            or_dash(&row.definitions.join(" ")),
        ]);
    }
    table.render()
}

/// The day of a time in RFC 3339.
fn date(time: &str) -> &str {
    time.split_once('T').map_or(time, |(date, _)| date)
}

pub(super) fn shown(shown: &ProfileShown, packages: bool) -> String {
    let mut lines = Lines::default();
    let default = if shown.default { "  (default)" } else { "" };
    lines.line("profile", format!("{}{default}", shown.name));
    let stage3 = &shown.stage3;
    lines.line("stage3", &stage3.name);
    lines.line("  sha512", format!("{}…", stage3.sha512.chars().take(SHORT_DIGEST).collect::<String>()));
    match (&stage3.allow_unsigned, &stage3.signer) {
        (Some(reason), _) => lines.line("  NOT SIGNED", format!("without a trusted signature; accepted because: {reason}")),
        (None, Some(signer)) => {
            lines.line("  signed by", signer);
            if let Some(name) = &stage3.signer_name {
                lines.more(name);
            }
        }
        (None, None) => lines.line("  signed by", "-"),
    }
    lines.line("  imported", short_time(&stage3.imported));
    match &shown.builder {
        Some(builder) => builder_lines(&mut lines, builder),
        None => lines.line("builder", "none yet"),
    }
    lines.line("packages", shown.package_count.to_string());
    let own = if shown.own_bytes == shown.total_bytes {
        "no other profile shares any of it".to_owned()
    } else {
        format!("{} of it in no other profile", human_bytes(shown.own_bytes))
    };
    lines.line("size", format!("{} in {}, {own}", human_bytes(shown.total_bytes), count(shown.layers as u64, "layer")));
    let names: Vec<&str> = shown.definitions.iter().map(|definition| definition.name.as_str()).collect();
    lines.line("definitions", or_dash(&names.join(" ")));
    lines.line("stages", or_dash(&shown.stages.join(" ")));
    let mut text = lines.0;
    let _ = write!(text, "\n{}", history(&shown.history));
    if packages {
        let mut table = Table::new(&["PACKAGE", "SLOT", "REPOSITORY", "USE"]);
        for package in &shown.packages {
            table.row([package.cpv.clone(), package.slot.clone(), package.repo.clone(), package.use_flags.join(" ")]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    text
}

fn builder_lines(lines: &mut Lines, builder: &BuilderShown) {
    lines.line("builder", short_id(&builder.state));
    lines.line("  bootstrapped", short_time(&builder.bootstrapped));
    if builder.updates > 0 {
        lines.line("  updated", format!("{} ({})", short_time(&builder.created), count(builder.updates as u64, "update")));
    }
    lines.line("  Portage profile", or_dash(&builder.portage_profile));
    for (number, tree) in builder.trees.iter().enumerate() {
        let tree = tree_words(tree);
        if number == 0 { lines.line("  trees", tree) } else { lines.more(tree) }
    }
    lines.line("  isolation", or_dash(&builder.isolation));
    match builder.differs.as_deref() {
        None => {}
        Some([]) => lines.line("  up to date", "yes"),
        Some(differs) => {
            lines.line("  up to date", format!("no, changed since: {} (`gentoomuch profile update`)", differs.join(", ")));
        }
    }
}

fn tree_words(tree: &TreeShown) -> String {
    match (&tree.id, &tree.imported) {
        (Some(id), Some(imported)) => format!("{}, snapshot {id} of {}", tree.name, short_time(imported)),
        _ => format!("{}, a snapshot that is gone", tree.name),
    }
}

fn history(history: &[HistoryShown]) -> String {
    let mut table = Table::new(&["STATE", "ID", "MADE", "SINCE", "STAGE3"]);
    for entry in history {
        let made = entry.created.as_deref().map_or_else(|| "-".to_owned(), short_time);
        let stage3 =
            if entry.complete { entry.stage3.clone().unwrap_or_else(|| "-".to_owned()) } else { "gone from the store".to_owned() };
        table.row([entry.name.clone(), short_id(&entry.state), made, short_time(&entry.since), stage3]);
    }
    table.render()
}

pub(super) fn updated(done: &UpdatedProfile) -> String {
    let mut text = String::new();
    for change in &done.packages {
        let word = match change.change {
            Change::Added => "added",
            Change::Updated => "updated",
            Change::Rebuilt => "rebuilt",
            Change::Removed => "removed",
        };
        let before = change.before.as_ref().map_or_else(String::new, |before| format!("  (was {before})"));
        let _ = writeln!(text, "{word:<8} {}{before}", change.package);
    }
    let _ = writeln!(text, "profile  {}", done.profile);
    let _ = writeln!(text, "builder  {}{}", done.state, if done.previous.is_none() { "  (unchanged)" } else { "" });
    if let Some(previous) = &done.previous {
        let reused = if done.reused { ", which was there already" } else { "" };
        let _ = writeln!(text, "before   {previous}  ({}@{{1}}){reused}", done.profile);
    }
    text
}

pub(in crate::cli::commands) fn rolled_back(done: &RolledBack) -> String {
    let mut text = format!("profile  {}, as of {}\n", done.profile, short_time(&done.created));
    if done.moved.is_empty() {
        text.push_str("nothing has changed: it is in that state already\n");
    }
    for moved in &done.moved {
        let from = moved.from.as_ref().map_or_else(|| "nothing".to_owned(), short_id);
        let _ = writeln!(text, "moved    {}: {from} -> {}", moved.name, short_id(&moved.to));
    }
    if !done.differs.is_empty() {
        let _ = writeln!(
            text,
            "The configuration has changed since ({}): `gentoomuch profile update`, `gentoomuch bootstrap` and stages \
             on\ngentoomuch/builder use it, and so go forward again. To stay here, take the configuration back as well.",
            done.differs.join(", ")
        );
    }
    text
}

pub(super) fn renamed(done: &RenamedProfile) -> String {
    let mut text = format!("profile  {}, formerly {}{}\n", done.to, done.from, if done.is_default { "  (default)" } else { "" });
    for name in &done.refs {
        let _ = writeln!(text, "name     {name}");
    }
    for place in &done.named_at {
        let _ = writeln!(text, "stale    {place} names `{}`: change it to `{}`", done.from, done.to);
    }
    text
}

pub(super) fn removed(done: &RemovedProfile) -> String {
    let mut text = String::new();
    for name in &done.refs {
        let _ = writeln!(text, "removed  {name}");
    }
    if done.was_default {
        text.push_str("There is no default profile now: choose one with `gentoomuch profile set NAME`.\n");
    }
    for left in &done.left {
        let _ = writeln!(text, "left     {left}");
    }
    text.push_str(&unnamed(done.unnamed_states, done.unnamed_bytes, Some("bootstrap")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::rollback::Moved;
    use crate::inventory::PackageChange;

    const OLD: &str = "c2c6b3278ad9cfa061f566104843cff5";
    const NEW: &str = "407a5c90314cded027f4a1c99334f7fd";

    #[test]
    fn an_update_in_words() {
        let change = |package: &str, change, before: Option<&str>| PackageChange {
            package: package.to_owned(),
            change,
            before: before.map(str::to_owned),
        };
        let mut done = UpdatedProfile {
            profile: "demo".to_owned(),
            state: NEW.parse().unwrap(),
            previous: Some(OLD.parse().unwrap()),
            reused: false,
            patched: serde_json::Value::Null,
            messages: serde_json::Value::Null,
            packages: vec![
                change("app-arch/lz4-1.9.4", Change::Added, None),
                change("dev-libs/greet-1.1", Change::Updated, Some("dev-libs/greet-1.0")),
            ],
        };
        let text = format!(
            "added    app-arch/lz4-1.9.4\nupdated  dev-libs/greet-1.1  (was dev-libs/greet-1.0)\nprofile  demo\nbuilder  {NEW}\n\
             before   {OLD}  (demo@{{1}})\n"
        );
        assert_eq!(updated(&done), text);
        (done.previous, done.packages) = (None, Vec::new());
        assert_eq!(updated(&done), format!("profile  demo\nbuilder  {NEW}  (unchanged)\n"));
    }

    #[test]
    fn going_back_in_words() {
        let mut done = RolledBack {
            profile: "demo".to_owned(),
            moved: vec![Moved {
                name: "profile/demo/gentoomuch/builder".to_owned(),
                from: Some(NEW.parse().unwrap()),
                to: OLD.parse().unwrap(),
            }],
            created: "2026-11-22T12:15:52.1Z".to_owned(),
            differs: Vec::new(),
        };
        assert_eq!(
            rolled_back(&done),
            "profile  demo, as of 2026-11-22 12:15:52\nmoved    profile/demo/gentoomuch/builder: 407a5c90314c -> c2c6b3278ad9\n"
        );
        done.differs = vec!["configuration".to_owned(), "trees".to_owned()];
        assert!(rolled_back(&done).contains("The configuration has changed since (configuration, trees): "));
        done.moved.clear();
        assert!(rolled_back(&done).contains("nothing has changed"));
    }

    #[test]
    fn a_removed_profile_in_words() {
        let done = RemovedProfile {
            profile: "demo".to_owned(),
            refs: vec!["profile/demo/upstream".to_owned()],
            was_default: true,
            left: vec!["stage4 `web` was built on it".to_owned()],
            unnamed_states: 1,
            unnamed_bytes: 3 << 20,
        };
        assert_eq!(
            removed(&done),
            "removed  profile/demo/upstream\nThere is no default profile now: choose one with `gentoomuch profile set NAME`.\n\
             left     stage4 `web` was built on it\n\
             1 state without a name now: 3.0 MiB of the store's space. `gentoomuch clean` frees it; until then the same bootstrap uses it again.\n"
        );
    }
}
