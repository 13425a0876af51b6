//! Refs: the names of build states and tree snapshots, with their histories.
//!
//! ```text
//! refs/profile/musl/upstream.ref
//!     7c0f… 2026-08-11T10:00:00Z      the present value, `profile/musl/upstream`
//!     1b22… 2026-07-01T09:30:00Z      the one before, `profile/musl/upstream@{1}`
//! ```
//!
//! Value and history are one file, so that one rename changes both. The ending keeps the name `a` apart from the directory of `a/b`.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::{Error, LockMode, NameProblem, Result, StateId, Store, TreeId, durable, make_dir, process};
use crate::threads::share;

/// How many values a ref remembers, the present one included.
const KEPT: usize = 32;
const ENDING: &str = ".ref";
pub(crate) const TREE_PREFIX: &str = "tree/";

/// One value that a ref has, or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefEntry<T = StateId> {
    pub value: T,
    pub since: String,
}

/// Refuses names that could lead out of the store, be hidden in it, or look like an option.
pub(super) fn check_name(name: &str) -> Result<()> {
    let problem = |problem| Error::Name { name: name.to_owned(), problem };
    if name.len() > 200 {
        return Err(problem(NameProblem::Long));
    }
    for part in name.split('/') {
        if part.is_empty() {
            return Err(problem(NameProblem::Empty));
        }
        if let Some(bad) = part.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'))) {
            return Err(problem(NameProblem::Character(bad)));
        }
        if part.contains("..") {
            return Err(problem(NameProblem::Parent));
        }
        if part.starts_with(['.', '-']) {
            return Err(problem(NameProblem::Start));
        }
        if part.ends_with(ENDING) {
            return Err(problem(NameProblem::Ending));
        }
    }
    Ok(())
}

/// Splits `name@{n}` into the name and `n`. A name alone means its present value, 0.
pub(crate) fn split_index(text: &str) -> (&str, usize) {
    text.strip_suffix('}')
        .and_then(|t| t.rsplit_once("@{"))
        .and_then(|(name, index)| Some((name, index.parse().ok()?)))
        .unwrap_or((text, 0))
}

impl Store {
    /// The state that a ref names: `NAME`, or `NAME@{n}` for its `n`th previous value. `None` if there is no such ref.
    pub fn ref_get(&self, text: &str) -> Result<Option<StateId>> {
        self.value(text, false)
    }

    /// The present and all kept previous values of a ref, newest first. Empty if there is no such ref.
    pub fn ref_history(&self, name: &str) -> Result<Vec<RefEntry>> {
        check_kind(name, false)?;
        read(&self.ref_path(name))
    }

    /// Moves a ref to `state`, which must exist. Makes the ref if needed. If it has this value already, nothing is written.
    pub fn ref_set(&self, name: &str, state: &StateId) -> Result<()> {
        check_kind(name, false)?;
        self.state(state)?;
        self.note_use(state);
        self.set(name, state)
    }

    /// Removes a ref with its history. False if there was none. The state stays.
    pub fn ref_remove(&self, name: &str) -> Result<bool> {
        check_name(name)?;
        self.remove_ref_file(name)
    }

    /// Renames `old/…` to `new/…`: all refs below it, with their histories, by one rename. There must be nothing below `new`.
    pub fn refs_rename(&self, old: &str, new: &str) -> Result<()> {
        check_kind(old, false)?;
        check_kind(new, false)?;
        let _refs = self.lock("refs", LockMode::Exclusive, super::Wait::Quietly)?;
        let (from, to) = (self.path("refs").join(old), self.path("refs").join(new));
        self.make_ref_parents(new)?;
        // Removing the last ref below a name also removes the directory. An empty one may still be left over from `make_ref_parents`; it
        // would stop the rename.
        if to.is_dir() && fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_none()) {
            fs::remove_dir(&to).map_err(|e| Error::io("remove", &to, e))?;
        }
        rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, rustix::fs::RenameFlags::NOREPLACE)
            .map_err(|e| Error::io("rename", &from, e.into()))?;
        let parents = [from.parent(), to.parent()];
        parents.into_iter().flatten().try_for_each(durable::sync_dir)
    }

    /// All refs of build states, sorted by name, without damaged ones, see [`Store::damaged`].
    pub fn refs(&self) -> Result<Vec<(String, StateId)>> {
        Ok(self.readable_histories()?.into_iter().filter_map(first).collect())
    }

    /// As [`Self::refs`], with the previous values, newest first.
    pub fn readable_histories(&self) -> Result<Vec<(String, Vec<RefEntry>)>> {
        self.readable(false)
    }

    /// The tree snapshot called `NAME` or `NAME@{n}` (the ref `tree/NAME`).
    pub fn tree_ref_get(&self, name: &str) -> Result<Option<TreeId>> {
        self.value(&format!("{TREE_PREFIX}{name}"), true)
    }

    /// Moves the name of a tree snapshot.
    pub fn tree_ref_set(&self, name: &str, tree: &TreeId) -> Result<()> {
        let name = format!("{TREE_PREFIX}{name}");
        check_kind(&name, true)?;
        self.tree(tree)?;
        self.set(&name, tree)
    }

    /// The names of all refs of build states, sorted; damaged ones as well.
    pub fn ref_names(&self) -> Result<Vec<String>> {
        Ok(self.ref_files()?.into_iter().map(|(name, _)| name).filter(|name| !name.starts_with(TREE_PREFIX)).collect())
    }

    /// All names of tree snapshots, without `tree/`, sorted, without damaged ones, see [`Store::damaged`].
    pub fn tree_refs(&self) -> Result<Vec<(String, TreeId)>> {
        Ok(self.readable_tree_histories()?.into_iter().filter_map(first).collect())
    }

    /// As [`Self::tree_refs`], with the previous values, newest first.
    pub fn readable_tree_histories(&self) -> Result<Vec<(String, Vec<RefEntry<TreeId>>)>> {
        let bare = |(name, values): (String, _)| (name[TREE_PREFIX.len()..].to_owned(), values);
        Ok(self.readable(true)?.into_iter().map(bare).collect())
    }

    /// The state that `text` means: a ref, `ref@{n}`, or an id or its beginning (at least 4 digits).
    pub fn resolve(&self, text: &str) -> Result<StateId> {
        if check_name(split_index(text).0).is_ok()
            && !text.starts_with(TREE_PREFIX)
            && let Some(id) = self.ref_get(text)?
        {
            return Ok(id);
        }
        if text.len() >= 4 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut fits = self.ids::<StateId>("states", ".json")?;
            fits.retain(|id| id.as_str().starts_with(text));
            match fits.len() {
                0 => {}
                1 => return Ok(fits.remove(0)),
                count => return Err(Error::Ambiguous { text: text.to_owned(), count }),
            }
        }
        Err(Error::NoSuchRef { name: text.to_owned() })
    }

    pub(super) fn ref_path(&self, name: &str) -> PathBuf {
        self.path("refs").join(format!("{name}{ENDING}"))
    }

    fn value<T: FromStr>(&self, text: &str, tree: bool) -> Result<Option<T>> {
        let (name, index) = split_index(text);
        check_kind(name, tree)?;
        let mut entries = read::<T>(&self.ref_path(name))?;
        if entries.is_empty() {
            return Ok(None);
        }
        if index >= entries.len() {
            return Err(Error::NoSuchRefEntry { name: name.to_owned(), index, kept: entries.len() });
        }
        Ok(Some(entries.swap_remove(index).value))
    }

    fn set<T: FromStr + std::fmt::Display + PartialEq>(&self, name: &str, value: &T) -> Result<()> {
        let _refs = self.lock("refs", LockMode::Exclusive, super::Wait::Quietly)?;
        let path = self.ref_path(name);
        let previous = read::<T>(&path)?;
        if previous.first().is_some_and(|e| e.value == *value) {
            return Ok(());
        }
        let mut text = format!("{value} {}\n", process::now());
        for entry in previous.iter().take(KEPT - 1) {
            let _ = writeln!(text, "{} {}", entry.value, entry.since);
        }
        self.make_ref_parents(name)?;
        let _structure = self.structure(LockMode::Shared)?;
        durable::replace(&self.path("tmp"), &path, text.as_bytes())
    }

    /// Makes the directories for a ref's file, and syncs each.
    fn make_ref_parents(&self, name: &str) -> Result<()> {
        let mut directory = self.path("refs");
        let parts: Vec<&str> = name.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            let parent = directory.clone();
            directory.push(part);
            if !directory.is_dir() {
                make_dir(&directory, 0o700)?;
                durable::sync_dir(&parent)?;
            }
        }
        Ok(())
    }

    fn remove_ref_file(&self, name: &str) -> Result<bool> {
        let _refs = self.lock("refs", LockMode::Exclusive, super::Wait::Quietly)?;
        let path = self.ref_path(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
            Err(e) => return Err(Error::io("remove", &path, e)),
        }
        let top = self.path("refs");
        let mut parent = path.parent();
        if let Some(directory) = parent {
            durable::sync_dir(directory)?;
        }
        // Directories that are empty now go, too. The first one with something in it ends the loop.
        while let Some(directory) = parent.filter(|d| *d != top) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
            parent = directory.parent();
        }
        Ok(true)
    }

    /// All refs of one kind, sorted. Reads each file once, several at a time.
    fn readable<T: FromStr + Send>(&self, tree: bool) -> Result<Vec<(String, Vec<RefEntry<T>>)>> {
        let mut files = self.ref_files()?;
        files.retain(|(name, _)| name.starts_with(TREE_PREFIX) == tree);
        let read = |(name, path): (String, PathBuf)| -> Result<_> {
            // One that is removed between listing and reading has no values.
            let values = self.unless_damaged(&path, read::<T>(&path))?;
            Ok(values.filter(|values| !values.is_empty()).map(|values| (name, values)))
        };
        Ok(share(files, read)?.into_iter().flatten().collect())
    }

    /// Name and path of each file whose name ends like a ref's.
    pub(super) fn ref_files(&self) -> Result<Vec<(String, PathBuf)>> {
        files_in(self.path("refs"))
    }
}

fn first<T>((name, values): (String, Vec<RefEntry<T>>)) -> Option<(String, T)> {
    Some((name, values.into_iter().next()?.value))
}

/// All refs below the directory `top`, with their files, sorted by name.
fn files_in(top: PathBuf) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), top)];
    while let Some((prefix, directory)) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Another process may just have removed the last ref in it, and with it the directory.
            Err(e) if e.kind() == ErrorKind::NotFound && !prefix.is_empty() => continue,
            Err(e) => return Err(Error::io("list", &directory, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &directory, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                waiting.push((format!("{prefix}{name}/"), entry.path()));
            } else if let Some(stem) = name.strip_suffix(ENDING) {
                found.push((format!("{prefix}{stem}"), entry.path()));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The names of all refs in the store at `root`, as far as they can be read. Nothing is locked or made.
pub(crate) fn names_in(root: &Path) -> Vec<String> {
    files_in(root.join("refs")).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

/// The same for the tree snapshots that have names, each with the directory of its files.
pub(crate) fn trees_in(root: &Path) -> Vec<(String, PathBuf)> {
    let files = files_in(root.join("refs")).unwrap_or_default().into_iter();
    let of = |(name, path): (String, PathBuf)| {
        let newest = read::<TreeId>(&path).ok()?.into_iter().next()?.value;
        Some((name.strip_prefix(TREE_PREFIX)?.to_owned(), root.join("trees").join(newest.as_str()).join("fs")))
    };
    files.filter_map(of).collect()
}

fn check_kind(name: &str, tree: bool) -> Result<()> {
    check_name(name)?;
    if (name.starts_with(TREE_PREFIX) || name == "tree") == tree {
        Ok(())
    } else {
        Err(Error::Name { name: name.to_owned(), problem: NameProblem::Kind })
    }
}

/// The values in a ref's file, newest first. None if there is no file.
pub(super) fn read<T: FromStr>(path: &Path) -> Result<Vec<RefEntry<T>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let damaged = |line| Error::DamagedRef { path: path.to_owned(), line };
    let mut entries = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let (value, since) = line.split_once(' ').ok_or_else(|| damaged(i + 1))?;
        let value = value.parse().map_err(|_| damaged(i + 1))?;
        entries.push(RefEntry { value, since: since.to_owned() });
    }
    if entries.is_empty() { Err(damaged(1)) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["profile/musl-hardened/upstream", "kept/a+b_c.d", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let cases = [
            ("", "`` cannot be a name in the store: it is empty, or a part of it is"),
            ("a//b", "`a//b` cannot be a name in the store: it is empty, or a part of it is"),
            ("/a", "`/a` cannot be a name in the store: it is empty, or a part of it is"),
            ("../a", "`../a` cannot be a name in the store: it contains `..`"),
            ("a/b..c", "`a/b..c` cannot be a name in the store: it contains `..`"),
            ("a/.git", "`a/.git` cannot be a name in the store: no part of it may begin with `.` or `-`"),
            ("-rf", "`-rf` cannot be a name in the store: no part of it may begin with `.` or `-`"),
            ("a b", "`a b` cannot be a name in the store: it contains ' ', but only letters, digits and `._+-` are allowed"),
            (
                "a\u{1b}",
                "`a\u{1b}` cannot be a name in the store: it contains '\\u{1b}', but only letters, digits and `._+-` are allowed",
            ),
            ("a.ref/b", "`a.ref/b` cannot be a name in the store: no part of it may end with `.ref`"),
        ];
        for (bad, message) in cases {
            assert_eq!(check_name(bad).unwrap_err().to_string(), message);
        }
        assert!(check_name(&"a".repeat(200)).is_ok());
        assert!(check_name(&"a".repeat(201)).is_err());
    }

    #[test]
    fn indices() {
        assert_eq!(split_index("a/b@{3}"), ("a/b", 3));
        assert_eq!(split_index("a/b"), ("a/b", 0));
        assert_eq!(split_index("a@{x}"), ("a@{x}", 0));
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ref");
        fs::write(&path, format!("{} 2026-01-01T00:00:00Z\nnonsense\n", "a".repeat(32))).unwrap();
        let error = read::<StateId>(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is damaged: line 2 is not an id and a time", path.display()));
        fs::write(&path, "").unwrap();
        assert!(read::<StateId>(&path).is_err());
    }
}
