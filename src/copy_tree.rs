//! Copies an open file or directory to a new name below another directory, without following links.
//!
//! What makes git recognise a repository is left out: git runs commands that a repository's configuration names, and users type `git
//! status` in a copy, or have a prompt that does.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath::{Budget, FILE_LIMIT_BYTES, NAMES_LIMIT, Plain, TreeDir, extents};
use crate::terminal_text::sanitize_line;

/// At most so many skipped files and links are listed.
const MAX_NAMED: usize = 100;
/// Deeper trees are refused. Each level holds two descriptors, and a process has 1024 by default.
const MAX_DEPTH: usize = 200;
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;
/// Set-id and sticky bits are dropped: they were meant for owners that the copy does not have. Only the owner may write: in a directory
/// of mode 1777 without its sticky bit every user of the machine could replace files.
/// without its sticky bit is one in which every user of the machine replaces what he likes.
const MODE: u32 = 0o755;
/// The text of [`Skipped::what`] for a git repository.
pub(crate) const REPOSITORY: &str = "a git repository";
/// Longer paths are cut in messages.
const MAX_PATH: usize = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Copied {
    /// Regular files.
    pub files: u64,
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
    /// Set-id files, which lost that bit.
    pub set_id: u64,
    /// The first symbolic links that lead out of the copied tree.
    pub outward: Vec<String>,
    /// How many such links there are.
    pub outward_count: u64,
    /// The first files that were left out.
    pub skipped: Vec<Skipped>,
    /// How many were left out.
    pub skipped_count: u64,
}

/// A file that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Skipped {
    /// Relative to the copied tree; safe to print.
    pub path: String,
    /// `a device`
    pub what: String,
}

/// How much of a tree is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Each mode as far as [`MODE`] goes.
    All,
    /// A source tree for the user to work in: the user may change everything, and git reads it.
    Source,
}

impl Keep {
    fn mode(self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & MODE;
        match self {
            Self::All => mode,
            Self::Source => {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let run = if is_directory || mode & 0o111 != 0 { 0o100 } else { 0 };
                mode | 0o600 | run
            }
        }
    }
}

/// Whether git, or a file system that folds names, takes this name for `.git`.
pub(crate) fn names_repository(name: &[u8]) -> bool {
    // NTFS ignores dots and spaces at the end of a name and everything after a colon, and has a short name for `.git`. These are the
    // names of CVE-2014-9390.
    let end = name.iter().position(|byte| *byte == b':').unwrap_or(name.len());
    let plain = name[..end].trim_ascii_end();
    let plain = &plain[..plain.iter().rposition(|byte| *byte != b'.' && *byte != b' ').map_or(0, |last| last + 1)];
    // HFS+ ignores some zero-width characters.
    let text = String::from_utf8_lossy(plain);
    let text: String = text
        .chars()
        .filter(|c| !matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
        .collect();
    text.eq_ignore_ascii_case(".git") || text.eq_ignore_ascii_case("git~1")
}

/// Whether git takes a directory with these entries for a bare repository: `is_git_directory` in git's setup.c wants `HEAD`, `objects`
/// and `refs`; the last two may be elsewhere.
pub(crate) fn is_bare_repository<'n>(names: &(impl Iterator<Item = &'n [u8]> + Clone)) -> bool {
    let has = |wanted: &str| names.clone().any(|name| name.eq_ignore_ascii_case(wanted.as_bytes()));
    has("HEAD") && (has("commondir") || (has("objects") && has("refs")))
}

/// A file that could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        /// Safe to print.
        path: String,
        #[source]
        source: io::Error,
    },
    /// A file that is larger than the limit.
    #[error(transparent)]
    Beneath(#[from] crate::beneath::Error),
    /// Too many directories deep.
    #[error("`{path}` is nested too deep: at most {MAX_DEPTH} levels of directories are copied")]
    Depth {
        /// Safe to print.
        path: String,
    },
}

impl TreeError {
    /// What a task says that fails with it: the program has a hint for some.
    pub(crate) fn task_kind(&self) -> &'static str {
        if matches!(self, Self::Depth { .. }) { "too-deep" } else { "copy" }
    }
}

/// The kind of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Special(&'static str),
}

pub(crate) fn kind(file: BorrowedFd<'_>) -> Result<Kind, TreeError> {
    let stat = rustix::fs::fstat(file).map_err(|errno| failure("inspect", Path::new(""), errno))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        other => Kind::Special(special(other)),
    })
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

/// Copies the open `from` to the new entry `name` of `to`. `tell` gets the number of bytes as they are copied.
pub(crate) fn copy(
    from: OwnedFd,
    to: BorrowedFd<'_>,
    name: &[u8],
    keep: Keep,
    tell: &mut dyn FnMut(u64),
) -> Result<Copied, TreeError> {
    let mut copier = Copier { copied: Copied::default(), path: PathBuf::new(), depth: 0, keep, budget: Budget::default(), tell };
    let stat = rustix::fs::fstat(&from).map_err(|errno| copier.failure("inspect", errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => copier.directory(&TreeDir::from_fd(from, ""), &stat, to, name)?,
        FileType::RegularFile => copier.file(&Plain::new(from, shown(Path::new("")))?, &stat, to, name)?,
        other => copier.skip(special(other)),
    }
    Ok(copier.copied)
}

/// Writes the contents of an open file to a stream.
pub(crate) fn stream(from: OwnedFd, to: OwnedFd, tell: &mut dyn FnMut(u64)) -> Result<Copied, TreeError> {
    let from = Plain::new(from, "the file")?;
    Budget::default().admit(&from)?;
    let (from, mut to) = (from.file, File::from(to));
    let io = |action| move |source| TreeError::Io { action, path: "the file".to_owned(), source };
    let mut copied = Copied { files: 1, ..Copied::default() };
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read_at(&mut buffer, copied.bytes).map_err(io("read"))?;
        if count == 0 {
            return Ok(copied);
        }
        match to.write_all(&buffer[..count]) {
            Ok(()) => {}
            // The reader closed the pipe early, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(copied),
            Err(error) => return Err(io("pass on")(error)),
        }
        copied.bytes += count as u64;
        tell(count as u64);
    }
}

fn failure(action: &'static str, path: &Path, errno: Errno) -> TreeError {
    TreeError::Io { action, path: shown(path), source: errno.into() }
}

fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { "what was asked for".to_owned() } else { printable(path) }
}

fn printable(path: &Path) -> String {
    sanitize_line(path.as_os_str().as_encoded_bytes(), MAX_PATH)
}

struct Copier<'a> {
    copied: Copied,
    /// Relative to the copied tree.
    path: PathBuf,
    /// How many directories are open.
    depth: usize,
    keep: Keep,
    budget: Budget,
    tell: &'a mut dyn FnMut(u64),
}

impl Copier<'_> {
    fn failure(&self, action: &'static str, errno: Errno) -> TreeError {
        failure(action, &self.path, errno)
    }

    fn skip(&mut self, what: &str) {
        self.copied.skipped_count += 1;
        if self.copied.skipped.len() < MAX_NAMED {
            self.copied.skipped.push(Skipped { path: printable(&self.path), what: what.to_owned() });
        }
    }

    fn directory(&mut self, from: &TreeDir, stat: &Stat, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
        if self.depth == MAX_DEPTH {
            return Err(TreeError::Depth { path: printable(&self.path) });
        }
        self.depth += 1;
        rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(|errno| self.failure("create", errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(to, name, flags, Mode::empty()).map_err(|errno| self.failure("open", errno))?;
        self.copied.directories += 1;
        let entries = from.entries(NAMES_LIMIT)?;
        let bare = is_bare_repository(&entries.iter().map(|entry| entry.name.to_bytes()));
        for entry in &entries {
            let name = entry.name.to_bytes();
            self.path.push(OsStr::from_bytes(name));
            if names_repository(name) || (bare && name.eq_ignore_ascii_case(b"HEAD")) {
                self.skip(REPOSITORY);
            } else {
                self.entry(from, &entry.name, made.as_fd())?;
            }
            self.path.pop();
        }
        self.depth -= 1;
        self.finish(made.as_fd(), stat)
    }

    fn entry(&mut self, from: &TreeDir, name: &CStr, to: BorrowedFd<'_>) -> Result<(), TreeError> {
        let gone = || self.failure("inspect", Errno::NOENT);
        let stat = from.stat_name(name)?.ok_or_else(gone)?;
        let (path, name) = (OsStr::from_bytes(name.to_bytes()), name.to_bytes());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(&from.open_dir(path)?, &stat, to, name),
            FileType::RegularFile => self.file(&from.open_file(path)?, &stat, to, name),
            FileType::Symlink => self.link(from, &stat, to, name),
            other => {
                self.skip(special(other));
                Ok(())
            }
        }
    }

    fn link(&mut self, from: &TreeDir, stat: &Stat, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
        let target = from.read_link(OsStr::from_bytes(name))?;
        rustix::fs::symlinkat(&target, to, name).map_err(|errno| self.failure("create", errno))?;
        rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failure("set the time of", errno))?;
        self.copied.links += 1;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if leads_out(&self.path, target) {
            self.copied.outward_count += 1;
            if self.copied.outward.len() < MAX_NAMED {
                self.copied.outward.push(format!("{} -> {}", printable(&self.path), printable(target)));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Plain, stat: &Stat, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
        match self.keep {
            // A sparse file stays sparse, so only each file's size is limited.
            Keep::All => from.check_size(FILE_LIMIT_BYTES)?,
            // git reads holes as well, so these bytes count.
            Keep::Source => self.budget.admit(from)?,
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| self.failure("create", errno))?;
        let made = File::from(made);
        self.contents(from, &made).map_err(|source| TreeError::Io { action: "copy", path: shown(&self.path), source })?;
        self.copied.files += 1;
        self.copied.bytes += from.size();
        self.copied.set_id += u64::from(stat.st_mode & 0o6000 != 0);
        self.finish(made.as_fd(), stat)
    }

    /// Copies the data and skips the holes.
    fn contents(&mut self, from: &Plain, to: &File) -> io::Result<()> {
        let size = from.size();
        let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK)).max(1)];
        for extent in extents(from.as_fd(), size) {
            let Range { start: mut at, end } = extent?;
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(buffer.len());
                let count = from.file.read_at(&mut buffer[..wanted], at)?;
                if count == 0 {
                    return to.set_len(size);
                }
                to.write_all_at(&buffer[..count], at)?;
                at += count as u64;
                (self.tell)(count as u64);
            }
        }
        to.set_len(size)
    }

    /// Sets mode and times. Last, since writing changes the times.
    fn finish(&self, made: BorrowedFd<'_>, stat: &Stat) -> Result<(), TreeError> {
        rustix::fs::fchmod(made, Mode::from_raw_mode(self.keep.mode(stat)))
            .map_err(|errno| self.failure("change the mode of", errno))?;
        rustix::fs::futimens(made, &times(stat)).map_err(|errno| self.failure("set the time of", errno))
    }
}

fn times(stat: &Stat) -> Timestamps {
    let changed = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
    Timestamps { last_access: changed, last_modification: changed }
}

/// Whether the link at `path` leads out of the copied tree.
fn leads_out(path: &Path, target: &Path) -> bool {
    if target.is_absolute() {
        return true;
    }
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn copied(from: &Path, to: &Path) -> Result<Copied, TreeError> {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        copy(open(from), open(to).as_fd(), b"copy", Keep::All, &mut |_| {})
    }

    #[test]
    fn a_single_file_that_cannot_be_copied_has_words() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let unreadable = File::options().write(true).open(dir.path().join("file")).unwrap();
        let to = File::open(dir.path()).unwrap();
        let error = copy(unreadable.into(), to.as_fd(), b"copy", Keep::All, &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "cannot copy `what was asked for`");
    }

    #[test]
    fn a_tree_becomes_a_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/closed")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("sub/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(from.join("sub/closed/f"), "x").unwrap();
        fs::set_permissions(from.join("sub/closed"), fs::Permissions::from_mode(0o555)).unwrap();
        for (name, mode) in [("open/set-gid", 0o2775), ("open", 0o1777)] {
            fs::create_dir_all(from.join(name)).unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(from.join("open/file"), "x").unwrap();
        fs::set_permissions(from.join("open/file"), fs::Permissions::from_mode(0o666)).unwrap();
        symlink("tool", from.join("sub/inward")).unwrap();
        symlink("../../etc/passwd", from.join("sub/outward")).unwrap();
        symlink("/etc/passwd", from.join("absolute")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, from.join("pipe"), Mode::RWXU).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"end", 8 << 20).unwrap();
        sparse.set_len((8 << 20) + 4096).unwrap();
        let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
        rustix::fs::utimensat(
            rustix::fs::CWD,
            from.join("sub"),
            &Timestamps { last_access: old, last_modification: old },
            AtFlags::empty(),
        )
        .unwrap();

        let report = copied(&from, &to).unwrap();
        let copy = to.join("copy");
        assert_eq!((report.files, report.directories, report.links, report.set_id), (4, 5, 3, 1));
        assert_eq!(report.skipped, [Skipped { path: "pipe".to_owned(), what: "a pipe".to_owned() }]);
        assert_eq!(report.outward, ["absolute -> /etc/passwd", "sub/outward -> ../../etc/passwd"]);
        assert_eq!((report.outward_count, report.skipped_count), (2, 1));
        let mode = |name: &str| fs::metadata(copy.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("sub/tool"), mode("sub/closed")), (0o755, 0o555));
        // Nobody else of this machine writes where the session let everybody.
        assert_eq!((mode("open"), mode("open/file"), mode("open/set-gid")), (0o755, 0o644, 0o755));
        assert_eq!(fs::metadata(copy.join("sub")).unwrap().mtime(), 1_000_000_000);
        assert_eq!(fs::read(copy.join("sparse")).unwrap(), fs::read(from.join("sparse")).unwrap());
        assert!(fs::metadata(copy.join("sparse")).unwrap().blocks() < 8 << 10, "the hole was filled");
        assert_eq!(fs::read_link(copy.join("absolute")).unwrap(), Path::new("/etc/passwd"));
        // The tempdir has to be removable.
        for dir in [from, copy] {
            fs::set_permissions(dir.join("sub/closed"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_source_tree_is_content_and_no_repository() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&to).unwrap();
        for repository in [".git", "sub/.GIT", "git~1", "bare"] {
            for part in ["objects", "refs"] {
                fs::create_dir_all(from.join(repository).join(part)).unwrap();
            }
            fs::write(from.join(repository).join("HEAD"), "ref: refs/heads/x\n").unwrap();
        }
        for (file, mode) in [("sub/tool", 0o6711), ("closed", 0o000), (".gitmodules", 0o666), ("HEAD", 0o644)] {
            fs::write(from.join(file), "x").unwrap();
            fs::set_permissions(from.join(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(from.join("common")).unwrap();
        fs::write(from.join("common/HEAD"), "").unwrap();
        symlink("../bare", from.join("common/commondir")).unwrap();
        fs::create_dir(from.join("linked")).unwrap();
        symlink("../bare", from.join("linked/.git")).unwrap();
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        // Root reads it anyhow, as the task does.
        if File::open(from.join("closed")).is_err() {
            fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o400)).unwrap();
        }
        let report = copy(open(&from), open(&to).as_fd(), b"copy", Keep::Source, &mut |_| {}).unwrap();
        let left: Vec<&str> = report.skipped.iter().map(|skipped| skipped.path.as_str()).collect();
        assert_eq!(left, [".git", "bare/HEAD", "common/HEAD", "git~1", "linked/.git", "sub/.GIT"]);
        assert!(report.skipped.iter().all(|skipped| skipped.what == REPOSITORY));
        let whole = copy(open(&from), open(&to).as_fd(), b"whole", Keep::All, &mut |_| {}).unwrap();
        assert_eq!(whole.skipped, report.skipped);
        let mode = |name: &str| fs::metadata(to.join("copy").join(name)).unwrap().mode() & 0o7777;
        assert_eq!(
            [mode("sub/tool"), mode("closed"), mode(".gitmodules"), mode("sub")].map(|mode| mode & !0o055),
            [0o700, 0o600, 0o600, 0o700]
        );
        assert_eq!((mode("sub/tool"), mode(".gitmodules") & 0o022), (0o711, 0));
        assert!(to.join("copy/bare/refs").is_dir() && to.join("copy/HEAD").exists());

        // git would read all of it.
        File::create(from.join("hole")).unwrap().set_len(60 << 30).unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        let error = copy(open(&from), open(&dir.path().join("other")).as_fd(), b"copy", Keep::Source, &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("`hole` has too large holes"), "{error}");
    }

    #[test]
    fn a_file_that_no_system_has_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        File::create(dir.path().join("hole")).unwrap().set_len(4 << 40).unwrap();
        let error = copied(&dir.path().join("hole"), &dir.path().join("to")).unwrap_err();
        assert!(error.to_string().ends_with("has more than 68719476736 bytes"), "{error}");
        let out = File::create(dir.path().join("out")).unwrap();
        let error = stream(File::open(dir.path().join("hole")).unwrap().into(), out.into(), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "`the file` has more than 68719476736 bytes");
    }

    #[test]
    fn names_that_lead_git_to_a_repository() {
        for (name, is) in [
            (&b".git"[..], true),
            (b".GiT", true),
            (b".git ", true),
            (b".git. .", true),
            (b".git::$INDEX_ALLOCATION", true),
            (b"GIT~1", true),
            (".g\u{200c}it".as_bytes(), true),
            (b".gitignore", false),
            (b".gitmodules", false),
            (b"git", false),
            (b"git~10", false),
            (b"x.git", false),
            (b"", false),
            (b"\xff.git", false),
        ] {
            assert_eq!(names_repository(name), is, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_written_through_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
        for path in [&from, &to, &outside] {
            fs::create_dir(path).unwrap();
        }
        fs::write(from.join("f"), "theirs").unwrap();
        symlink(&outside, to.join("copy")).unwrap();
        let error = copied(&from, &to).unwrap_err();
        assert_eq!(error.to_string(), "cannot create `what was asked for`");
        let file = copied(&from.join("f"), &to).unwrap_err();
        assert_eq!(file.to_string(), "cannot create `what was asked for`");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let deep = |levels| {
            fs::create_dir_all(from.join("d/".repeat(levels))).unwrap();
            fs::create_dir_all(&to).unwrap();
            copied(&from, &to)
        };
        // `from` is one of them.
        assert_eq!(deep(MAX_DEPTH - 1).unwrap().directories, MAX_DEPTH as u64);
        fs::remove_dir_all(&to).unwrap();
        let error = deep(MAX_DEPTH).unwrap_err().to_string();
        assert!(error.ends_with("d/d` is nested too deep: at most 200 levels of directories are copied"), "{error}");
    }

    #[test]
    fn links_that_lead_out_are_told_from_those_that_do_not() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a", "../b", true),
            ("d/a", "../b", false),
            ("d/a", "../../b", true),
            ("d/a", "x/../../y", false),
            ("d/a", "./../b/../../c", true),
            ("a", "/b", true),
        ] {
            assert_eq!(leads_out(Path::new(path), Path::new(target)), out, "{path} -> {target}");
        }
    }

    #[test]
    fn a_stream_is_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "contents").unwrap();
        let (from, to) = (File::open(dir.path().join("f")).unwrap(), File::create(dir.path().join("t")).unwrap());
        assert_eq!(stream(from.into(), to.into(), &mut |_| {}).unwrap().bytes, 8);
        assert_eq!(fs::read(dir.path().join("t")).unwrap(), b"contents");
    }
}
