//! What changed since the artifact before: packages, USE flags, files, sizes.

use crate::history::diff::{FileChange, PackageDiff, StateDiff};
use crate::inventory::Change;
use crate::report::facts::{Changed, Facts, StageFacts};
use crate::report::html::Html;
use crate::report::sizes::{bytes, count, difference};

/// Rows of a table.
const MOST_PACKAGES: usize = 500;
const MOST_FILES: usize = 40;
/// Files of Portage's own: of each package that changes they change, too.
const DATABASES: [&str; 2] = ["/var/db/pkg/", "/var/cache/edb/"];

/// How many files are new, gone and different, and by how many bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    added: usize,
    removed: usize,
    changed: usize,
    before_bytes: u64,
    now_bytes: u64,
}

/// The section; empty if nothing can have changed.
pub(super) fn section(facts: &Facts) -> Html {
    let mut out = Html::new();
    let changed: Vec<(&StageFacts, &Changed)> =
        facts.stages.iter().filter_map(|stage| Some((stage, stage.change.as_ref()?))).collect();
    if changed.is_empty() {
        return out;
    }
    out.raw("<section id=\"changes\"><h2>What changed</h2>");
    for (at, (stage, changed)) in changed.into_iter().enumerate() {
        out.raw(if at == 0 { "<details class=\"card\" open>" } else { "<details class=\"card\">" });
        out.raw("<summary><code>").text(&stage.name).raw("</code> <span class=\"soft\">since ");
        out.text(&changed.before.chars().take(12).collect::<String>()).raw("</span></summary>");
        one(&mut out, changed);
        out.raw("</details>");
    }
    out.raw("</section>");
    out
}

fn one(out: &mut Html, changed: &Changed) {
    if let Some((before, now)) = changed.artifact {
        out.raw("<p>Artifact: ").text(&bytes(before)).raw(" → ").text(&bytes(now)).raw(" <span class=\"soft\">(");
        out.text(&difference(before, now)).raw(")</span></p>");
    }
    match &changed.diff {
        Ok(diff) if diff.is_empty() => drop(out.raw("<p class=\"soft\">The same packages and the same files.</p>")),
        Ok(diff) => differences(out, diff),
        Err(why) => drop(out.raw("<p class=\"soft\">It cannot be compared: ").text(why).raw("</p>")),
    }
}

fn differences(out: &mut Html, diff: &StateDiff) {
    let packages = diff.packages.as_deref().unwrap_or_default();
    if packages.is_empty() {
        out.raw("<p class=\"soft\">The same packages.</p>");
    } else {
        self::packages(out, packages);
    }
    let files = diff.files.as_deref().unwrap_or_default();
    let counted = counted(files);
    out.raw("<p>Files: ").text(&count(counted.added, "new file")).raw(", ").number(counted.changed as u64).raw(" changed, ");
    out.number(counted.removed as u64).raw(" removed <span class=\"soft\">(");
    out.text(&difference(counted.before_bytes, counted.now_bytes)).raw(")</span></p>");
    self::files(out, files);
}

fn packages(out: &mut Html, packages: &[PackageDiff]) {
    out.raw("<div class=\"scroll\"><table class=\"changes\"><thead><tr><th>Package</th><th>Change</th><th>Version</th><th>USE</th></tr></thead><tbody>");
    for package in packages.iter().take(MOST_PACKAGES) {
        let (class, word) = match package.change {
            Change::Added => ("<span class=\"tag new\">", "added"),
            Change::Updated => ("<span class=\"tag built\">", "updated"),
            Change::Rebuilt => ("<span class=\"tag\">", "rebuilt"),
            Change::Removed => ("<span class=\"tag failed\">", "removed"),
        };
        out.raw("<tr><td><code>").text(&package.name).raw("</code>");
        if package.slot != "0" {
            out.raw("<span class=\"soft\">:").text(&package.slot).raw("</span>");
        }
        out.raw("</td><td>").raw(class).raw(word).raw("</span></td><td class=\"plain\">");
        match (&package.before, &package.after) {
            (Some(before), Some(after)) if before != after => out.text(before).raw(" → ").text(after),
            (before, after) => out.text(after.as_deref().or(before.as_deref()).unwrap_or_default()),
        };
        out.raw("</td><td class=\"use\">");
        // A new package has no flags before.
        let sign = if package.change == Change::Added { "" } else { "+" };
        for flag in &package.use_enabled {
            out.raw("<span class=\"on\">").text(sign).text(flag).raw("</span> ");
        }
        for flag in &package.use_disabled {
            out.raw("<span class=\"off\">−").text(flag).raw("</span> ");
        }
        out.raw("</td></tr>");
    }
    out.raw("</tbody></table></div>");
    if packages.len() > MOST_PACKAGES {
        out.raw("<p class=\"soft\">and ").text(&count(packages.len() - MOST_PACKAGES, "more package")).raw("</p>");
    }
}

fn size(file: &FileChange) -> (u64, u64) {
    let bytes = |node: &Option<crate::history::diff::FileNode>| node.as_ref().and_then(|node| node.size).unwrap_or_default();
    (bytes(&file.before), bytes(&file.after))
}

fn counted(files: &[FileChange]) -> Counted {
    let mut counted = Counted::default();
    for file in files {
        match (&file.before, &file.after) {
            (None, _) => counted.added += 1,
            (_, None) => counted.removed += 1,
            _ => counted.changed += 1,
        }
        let (before, now) = size(file);
        counted.before_bytes += before;
        counted.now_bytes += now;
    }
    counted
}

/// Those whose size differs most.
fn files(out: &mut Html, files: &[FileChange]) {
    let mut most: Vec<&FileChange> =
        files.iter().filter(|file| !DATABASES.iter().any(|database| file.path.starts_with(database))).collect();
    most.sort_by_key(|file| {
        let (before, now) = size(file);
        std::cmp::Reverse(before.abs_diff(now))
    });
    most.truncate(MOST_FILES);
    if most.is_empty() {
        return;
    }
    out.raw("<details class=\"inner\"><summary>Files that changed most</summary><div class=\"scroll\"><table><tbody>");
    for file in most {
        let (before, now) = size(file);
        let sign = match (&file.before, &file.after) {
            (None, _) => "+",
            (_, None) => "−",
            _ => "~",
        };
        out.raw("<tr><td class=\"sign\">").raw(sign).raw("</td><td><code>").text(&file.path).raw("</code></td><td class=\"num\">");
        out.text(&difference(before, now)).raw("</td></tr>");
    }
    out.raw("</tbody></table></div></details>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::diff::FileNode;

    fn node(size: u64) -> FileNode {
        let text = |text: &str| text.to_owned();
        FileNode {
            kind: text("file"),
            mode: 0o644,
            uid: 0,
            gid: 0,
            owner: text("root:root"),
            size: Some(size),
            target: None,
            capabilities: None,
        }
    }

    #[test]
    fn files_are_counted_and_the_largest_difference_comes_first() {
        let change = |path: &str, before, after| FileChange { path: path.to_owned(), before, after, content: true };
        let files = [
            change("/a", None, Some(node(10))),
            change("/b<i>", Some(node(10)), Some(node(4000))),
            change("/c", Some(node(700)), None),
            change("/var/db/pkg/x/y-1/CONTENTS", None, Some(node(1 << 40))),
        ];
        let want = Counted { added: 2, removed: 1, changed: 1, before_bytes: 710, now_bytes: 4010 + (1 << 40) };
        assert_eq!(counted(&files), want);
        let mut out = Html::new();
        super::files(&mut out, &files);
        let text = out.into_string();
        let at = |word: &str| text.find(word).unwrap();
        assert!(at("/b&lt;i&gt;") < at("/c") && at("/c") < at("/a") && !text.contains("CONTENTS"), "{text}");
    }
}
