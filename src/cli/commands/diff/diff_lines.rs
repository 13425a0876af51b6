//! What `gentoomuch diff` prints for people.

use std::fmt::Write as _;

use crate::history::diff::{FileChange, FileNode, PackageDiff, StateDiff};
use crate::inventory::Change;

use crate::cli::table::{Table, count, human_bytes};

pub(super) fn words(diff: &StateDiff, list_files: bool) -> String {
    if diff.is_empty() {
        return "no difference\n".to_owned();
    }
    let mut text = String::new();
    if let Some(packages) = &diff.packages {
        text.push_str(&package_words(packages));
    }
    if let Some(files) = &diff.files {
        if diff.packages.is_some() {
            text.push('\n');
        }
        if list_files {
            text.push_str(&file_words(files));
        } else if !files.is_empty() {
            let _ = writeln!(text, "{} (`--files` lists them)", summary(files));
        } else {
            text.push_str("no file differs\n");
        }
    }
    text
}

fn package_words(packages: &[PackageDiff]) -> String {
    if packages.is_empty() {
        return "no package differs\n".to_owned();
    }
    let mut table = Table::new(&["PACKAGE", "SLOT", "BEFORE", "AFTER", "USE"]);
    for package in packages {
        let or_dash = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
        let slot = match &package.subslot {
            Some((old, new)) => format!("{}/{old} -> {new}", package.slot),
            None => package.slot.clone(),
        };
        let enabled =
            package.use_enabled.iter().map(|flag| if package.change == Change::Added { flag.clone() } else { format!("+{flag}") });
        let disabled = package.use_disabled.iter().map(|flag| format!("-{flag}"));
        let mut flags = enabled.chain(disabled).collect::<Vec<_>>().join(" ");
        if package.change == Change::Rebuilt && flags.is_empty() {
            flags.push_str("(built anew)");
        }
        table.row([package.name.clone(), slot, or_dash(&package.before), or_dash(&package.after), flags]);
    }
    table.render()
}

/// How many files there are of each change, and by how much they grow.
fn summary(files: &[FileChange]) -> String {
    let of = |wanted: fn(&FileChange) -> bool| files.iter().filter(|file| wanted(file)).count() as u64;
    let added = of(|file| file.before.is_none());
    let removed = of(|file| file.after.is_none());
    let changed = files.len() as u64 - added - removed;
    let bytes =
        |side: fn(&FileChange) -> Option<&FileNode>| -> u64 { files.iter().filter_map(side).filter_map(|node| node.size).sum() };
    let (before, after) = (bytes(|file| file.before.as_ref()), bytes(|file| file.after.as_ref()));
    let grown =
        if after >= before { format!("+{}", human_bytes(after - before)) } else { format!("-{}", human_bytes(before - after)) };
    format!("{}: {added} added, {changed} changed, {removed} removed, {grown}", count(files.len() as u64, "path"))
}

fn file_words(files: &[FileChange]) -> String {
    let mut text = String::new();
    let width = files.iter().map(|file| file.path.chars().count()).max().unwrap_or(0).min(64);
    for file in files {
        let (letter, what) = match (&file.before, &file.after) {
            (None, Some(node)) => ('A', described(node)),
            (Some(node), None) => ('D', described(node)),
            (Some(before), Some(after)) => ('M', changed(before, after, file.content)),
            (None, None) => continue,
        };
        let _ = writeln!(text, "{letter} {:<width$}  {what}", file.path);
    }
    let _ = writeln!(text, "{}", summary(files));
    text
}

fn described(node: &FileNode) -> String {
    let size = node.size.map_or_else(String::new, |size| format!(" {}", human_bytes(size)));
    let target = node.target.as_ref().map_or_else(String::new, |target| format!(" -> {target}"));
    format!("{} {:04o} {}{size}{target}", node.kind, node.mode, node.owner)
}

fn changed(before: &FileNode, after: &FileNode, content: bool) -> String {
    let mut parts = Vec::new();
    if before.kind != after.kind {
        return format!("{}, was {}", described(after), described(before));
    }
    if content {
        parts.push(format!("content, {}", human_bytes(after.size.unwrap_or(0))));
    } else if let (Some(old), Some(new)) = (before.size, after.size)
        && old != new
    {
        parts.push(format!("size {} -> {}", human_bytes(old), human_bytes(new)));
    }
    if before.mode != after.mode {
        parts.push(format!("mode {:04o} -> {:04o}", before.mode, after.mode));
    }
    if (before.uid, before.gid) != (after.uid, after.gid) {
        parts.push(format!("owner {} -> {}", before.owner, after.owner));
    }
    if let (Some(old), Some(new)) = (&before.target, &after.target)
        && old != new
    {
        parts.push(format!("link {old} -> {new}"));
    }
    if before.capabilities != after.capabilities {
        parts.push("capabilities".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(mode: u32, size: u64) -> FileNode {
        FileNode {
            kind: "file".to_owned(),
            mode,
            uid: 0,
            gid: 0,
            owner: "root:root".to_owned(),
            size: Some(size),
            target: None,
            capabilities: None,
        }
    }

    fn change(path: &str, before: Option<FileNode>, after: Option<FileNode>) -> FileChange {
        FileChange { path: path.to_owned(), before, after, content: false }
    }

    #[test]
    fn files_in_words() {
        let owned = FileNode { uid: 1, owner: "bin:root".to_owned(), ..node(0o600, 2048) };
        let link = FileNode { kind: "link".to_owned(), size: None, target: Some("x".to_owned()), ..node(0o777, 0) };
        let files = [
            change("/new", None, Some(node(0o4755, 1536))),
            change("/gone", Some(node(0o644, 1)), None),
            change("/etc/changed", Some(node(0o644, 1024)), Some(owned)),
            change("/kind", Some(node(0o644, 1)), Some(link)),
            FileChange { content: true, ..change("/inside", Some(node(0o644, 7)), Some(node(0o644, 7))) },
        ];
        assert_eq!(
            file_words(&files),
            "A /new          file 4755 root:root 1.5 KiB\n\
             D /gone         file 0644 root:root 1 B\n\
             M /etc/changed  size 1.0 KiB -> 2.0 KiB, mode 0644 -> 0600, owner root:root -> bin:root\n\
             M /kind         link 0777 root:root -> x, was file 0644 root:root 1 B\n\
             M /inside       content, 7 B\n\
             5 paths: 1 added, 3 changed, 1 removed, +2.5 KiB\n"
        );
    }

    #[test]
    fn packages_in_words() {
        let package = |name: &str, change, before: Option<&str>, after: Option<&str>| PackageDiff {
            name: name.to_owned(),
            slot: "0".to_owned(),
            change,
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            use_enabled: vec!["nls".to_owned()],
            use_disabled: Vec::new(),
            subslot: None,
        };
        let mut updated = package("a/b", Change::Updated, Some("1"), Some("2"));
        updated.subslot = Some(("1".to_owned(), "2".to_owned()));
        updated.use_disabled.push("ssl".to_owned());
        let mut rebuilt = package("a/c", Change::Rebuilt, Some("1"), Some("1"));
        rebuilt.use_enabled.clear();
        assert_eq!(
            package_words(&[updated, rebuilt, package("a/d", Change::Added, None, Some("3"))]),
            "PACKAGE  SLOT      BEFORE  AFTER  USE\n\
             a/b      0/1 -> 2  1       2      +nls -ssl\n\
             a/c      0         1       1      (built anew)\n\
             a/d      0         -       3      nls\n"
        );
    }
}
