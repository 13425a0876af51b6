//! Reading directories, text files and lists, with each line known by its number.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::diagnostic::{Findings, Located, Place};
use crate::beneath::TreeDir;
use crate::portage::package_files::split_comment;

/// One entry of a directory; links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

/// Directories of old version control systems (`portage/const.py`, `VCS_DIRS`); those of newer ones are hidden.
const VERSION_CONTROL: [&str; 3] = ["CVS", "RCS", "SCCS"];

/// The entries of `dir`, sorted. Left out are `README.md`, the `PLACEHOLDER` of older layouts' empty folders, and what Portage skips in
/// its own directories: hidden files, editors' `*~` backups and directories of version control systems (`portage/util/__init__.py`,
/// `_recursive_file_list`).
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| io::Error::new(io::ErrorKind::InvalidData, format!("the name `{}` is not UTF-8", name.display())))?;
        let is_dir = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => entry.path().is_dir(),
        };
        if !counts(&name, is_dir) {
            continue;
        }
        entries.push(Entry { name, is_dir });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether an entry of this name is a part of the configuration.
pub(crate) fn counts(name: &str, is_dir: bool) -> bool {
    let is_aside = name.starts_with('.') || name.ends_with('~') || name == "README.md" || name == "PLACEHOLDER";
    let is_others = is_dir && VERSION_CONTROL.contains(&name);
    !is_aside && !is_others
}

/// As [`entries`], for `dir` relative to the configuration directory; what cannot be read is reported and counts as empty.
pub(crate) fn entries_of(findings: &mut Findings<'_>, dir: &Path) -> Vec<Entry> {
    match entries(&findings.root().join(dir)) {
        Ok(entries) => entries,
        Err(error) => {
            findings.error(&Place::whole(dir), format!("cannot list the directory: {error}"));
            Vec::new()
        }
    }
}

/// All regular files below `path` (or `path` itself) in Portage's order, relative to the configuration directory.
pub(crate) fn files_below(findings: &mut Findings<'_>, path: &Path) -> Vec<PathBuf> {
    if !findings.root().join(path).is_dir() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in entries_of(findings, path) {
        files.extend(files_below(findings, &path.join(&entry.name)));
    }
    files
}

/// The bytes of a file and whether it is executable. Refuses what is no regular file and links that lead out of the directory.
pub(crate) fn bytes(findings: &mut Findings<'_>, file: &Path) -> Option<(Vec<u8>, bool)> {
    match read_bytes(findings, file) {
        Ok(read) => Some(read),
        Err(error) => {
            findings.error(&Place::whole(file), format!("cannot read: {error}"));
            None
        }
    }
}

fn read_bytes(findings: &Findings<'_>, file: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut opened = open(findings, file)?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    opened.read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode() & 0o111 != 0))
}

/// Opens a file in the configuration directory, possibly through links. Does not block on a FIFO.
fn open(findings: &Findings<'_>, file: &Path) -> io::Result<fs::File> {
    let root = findings.real_root()?;
    let path = root.join(file);
    // The fast way works if no link is on the path. Any error is reported by the slow way below.
    let is_below = file.components().all(|component| matches!(component, Component::Normal(_)));
    if is_below && let Ok(opened) = TreeDir::open(root).and_then(|root| root.open_file(file)) {
        return Ok(opened.file);
    }
    let real = path.canonicalize()?;
    if !real.starts_with(root) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the link leads out of the configuration directory"));
    }
    // `real` has no links, so `NOFOLLOW` only refuses one that replaced the file since.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(&real, flags | OFlags::NOFOLLOW, Mode::empty())?.into())
}

/// The text of a file. What is not UTF-8 is reported with its line.
pub(crate) fn text(findings: &mut Findings<'_>, file: &Path) -> Option<String> {
    let (bytes, _) = bytes(findings, file)?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let line = line_of(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            findings.error(&Place::new(file, line), "this is not UTF-8");
            None
        }
    }
}

/// The line of the character after `before`.
pub(crate) fn line_of(before: &[u8]) -> u32 {
    u32::try_from(before.split(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// The entries of a list: one a line, without comments, blank lines and surrounding space. `None` if there is no such file.
pub(crate) fn list(findings: &mut Findings<'_>, file: &Path) -> Option<Vec<Located<String>>> {
    if !findings.root().join(file).exists() {
        return None;
    }
    let text = text(findings, file)?;
    let mut entries = Vec::new();
    let file: Arc<Path> = file.into();
    for (line, raw) in (1..).zip(text.lines()) {
        let (content, _) = split_comment(raw);
        let value = content.trim();
        if !value.is_empty() {
            entries.push(Located { value: value.to_owned(), file: Arc::clone(&file), line });
        }
    }
    Some(entries)
}

/// The only entry of a list. More than one is an error; an empty list counts as no file.
pub(crate) fn single(findings: &mut Findings<'_>, file: &Path) -> Option<Located<String>> {
    let mut entries = list(findings, file)?.into_iter();
    let first = entries.next();
    if let (Some(first), Some(second)) = (&first, entries.next()) {
        findings.error_with_hint(
            &second.place(),
            format!("the file holds one value, and `{}` is another one", second.value),
            format!("the first value is `{}` on line {}", first.value, first.line),
        );
    }
    first
}
