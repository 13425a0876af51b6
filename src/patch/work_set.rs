//! Work sets: the source of a package in the user's own git repository.
//!
//! ```text
//! data/patches/              0700
//!   NAME/                    the source tree, the user's to change
//!     .git/                  first commit, refs/gentoomuch/pristine: the unpacked tree
//!       gentoomuch.json      which package it is the source of: [`WorkSet`]
//!   .NAME.new/               unfinished; the holder of the patch's lock may remove it
//! ```
//!
//! A repository that a session wrote could make git run any command once the user calls git in there. So after the session everything
//! that controls git is written anew, and nothing else that git takes for a repository is left (`harden`). From then on the work set
//! belongs to the user. Before a session reads it, it is checked again (`check`), so that no FIFO in it blocks us and no link leads us
//! elsewhere.

use std::ffi::CStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::beneath::{Budget, Entry, TreeDir, Walk};
use crate::copy_tree::names_repository;
use crate::patch::PatchError;
use crate::places::Places;

/// The whole configuration of a work set's repository. The user's own configuration applies as well, and may name programs by relative
/// paths, as `hooksPath = .githooks` does: those would be the package's. So these settings are overridden here.
pub(crate) const CONFIG: &str = "[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tsymlinks = true
\tautocrlf = false
\tsafecrlf = false
\tprotectNTFS = false
\tprotectHFS = false
\tfsmonitor = false
\thooksPath = /dev/null
[commit]
\tgpgSign = false
[submodule]
\trecurse = false
[status]
\tsubmoduleSummary = false
";
const HEAD: &str = "ref: refs/heads/work\n";

/// Takes all files as they are, whatever the source's own attributes say.
pub(crate) const ATTRIBUTES: &str = "* -text !eol -filter -ident !working-tree-encoding !diff !merge !whitespace !export-subst\n";
const RECORD: &str = "gentoomuch.json";
/// All that a repository needs. Other files can redirect git, as `commondir` does.
const PARTS: [&str; 5] = ["index", "logs", "objects", "packed-refs", "refs"];
/// A longer record is not ours.
const RECORD_LIMIT_BYTES: u64 = 64 << 10;
/// More names than git ever makes in `.git` itself.
const PARTS_LIMIT: usize = 10_000;

/// Which package a work set is the source of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WorkSet {
    /// The package's version, `category/name-version`.
    pub cpv: String,
    pub category: String,
    /// Its name.
    pub package: String,
    /// Its version, without a revision.
    pub version: String,
    /// Its revision, `r0` if it has none.
    pub revision: String,
    /// Its slot, without a sub-slot.
    pub slot: String,
    /// The ebuild repository that its ebuild is from.
    pub repository: String,
    /// The profile that it was unpacked with.
    pub profile: String,
    /// Whether the ebuild's own patches are applied.
    pub prepared: bool,
    /// The directory of the source, below `WORKDIR`.
    pub subdir: String,
    /// When it was made, RFC 3339.
    pub made: String,
}

impl WorkSet {
    /// `=category/name-version::repository`.
    pub(crate) fn atom(&self) -> String {
        format!("={}::{}", self.cpv, self.repository)
    }

    /// `category/name`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.category, self.package)
    }
}

/// Whether a patch can have this name: one path component, and none of our names.
pub(crate) fn check_name(name: &str) -> Result<(), PatchError> {
    let plain = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    if plain { Ok(()) } else { Err(PatchError::Name(name.to_owned())) }
}

/// Where a work set is.
pub(crate) fn dir(places: &Places, name: &str) -> PathBuf {
    places.patches().join(name)
}

/// Where it is made.
pub(crate) fn unfinished(places: &Places, name: &str) -> PathBuf {
    places.patches().join(format!(".{name}.new"))
}

/// The directory of all work sets.
pub(crate) fn make_parent(places: &Places) -> Result<PathBuf, PatchError> {
    let parent = places.patches();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent);
    made.map_err(PatchError::io("create", &parent))?;
    Ok(parent)
}

/// All work sets, by name.
pub(crate) fn all(places: &Places) -> Result<Vec<(String, WorkSet)>, PatchError> {
    let parent = places.patches();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(PatchError::io("list", &parent)(source)),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| check_name(name).is_ok());
    names.sort();
    names.into_iter().filter_map(|name| read(places, &name).transpose().map(|set| set.map(|set| (name, set)))).collect()
}

/// The record of a work set; `None` if there is none.
pub(crate) fn read(places: &Places, name: &str) -> Result<Option<WorkSet>, PatchError> {
    check_name(name)?;
    let record = Path::new(".git").join(RECORD);
    let found = TreeDir::open(&dir(places, name)).and_then(|set| set.read(&record, RECORD_LIMIT_BYTES));
    match found {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| PatchError::Damaged { path: dir(places, name).join(record), source }),
        Err(beneath::Error::Io(crate::path_error::PathError { source, .. }))
            if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a session's repository safe to use git in, and writes its record.
pub(crate) fn harden(work_set: &Path, record: &WorkSet) -> Result<(), PatchError> {
    let text = serde_json::to_string_pretty(record).map_err(|source| PatchError::Answer(Some(source)))?;
    let set = TreeDir::open(work_set)?;
    let git = set.open_dir(".git")?;
    for entry in git.entries(PARTS_LIMIT)? {
        if !PARTS.iter().any(|part| entry.os() == *part) {
            git.remove(entry.os())?;
        }
    }
    // Alternates: a session could have named any directory. git does not need the other files in here either.
    if git.kind("objects")? == Some(FileType::Directory) {
        git.remove("objects/info")?;
    }
    only_plain(&git)?;
    no_repositories(&set)?;
    git.make_dir("info", 0o755)?;
    for (name, text) in [("HEAD", HEAD), ("config", CONFIG), ("info/attributes", ATTRIBUTES), (RECORD, text.as_str())] {
        let written = git.create(name, 0o644)?.write_all(text.as_bytes());
        written.map_err(PatchError::io("write", &work_set.join(".git").join(name)))?;
    }
    Ok(())
}

/// Checks a work set before a session gets it. The user may have changed it, and the session's git would block on a FIFO and follow a
/// link.
pub(crate) fn check(work_set: &Path) -> Result<(), PatchError> {
    let set = TreeDir::open(work_set)?;
    only_plain(&set.open_dir(".git")?)?;
    let mut budget = Budget::default();
    walk(&set, |walk, entry| {
        // git opens files with these names by itself.
        let waits = matches!(entry.os().as_encoded_bytes(), b".gitignore" | b".gitattributes" | b".gitmodules" | b".mailmap");
        if waits && !matches!(entry.kind, FileType::RegularFile | FileType::Symlink) {
            return Err(beneath::Error::NotRegular { path: walk.shown(&entry.name) }.into());
        }
        if entry.kind == FileType::RegularFile && beneath::may_have_holes(&walk.stat(&entry.name)?) {
            budget.admit(&walk.open_file(&entry.name)?)?;
        }
        Ok(())
    })
}

/// Accepts only files and directories. Besides those git only makes a socket in `.git`.
fn only_plain(git: &TreeDir) -> Result<(), PatchError> {
    walk(git, |walk, entry| match entry.kind {
        FileType::RegularFile | FileType::Directory | FileType::Socket => Ok(()),
        FileType::Symlink => Err(beneath::Error::Link { path: walk.shown(&entry.name) }.into()),
        _ => Err(beneath::Error::NotRegular { path: walk.shown(&entry.name) }.into()),
    })
}

/// Refuses what git would take for another repository.
fn no_repositories(set: &TreeDir) -> Result<(), PatchError> {
    walk(set, |walk, entry| {
        let is_own = walk.depth() == 0 && entry.os() == ".git";
        let beside = |name: &CStr| walk.stat(name).is_ok();
        let is_bare = entry.os() == "HEAD" && (beside(c"commondir") || (beside(c"objects") && beside(c"refs")));
        if is_bare || (names_repository(entry.name.to_bytes()) && !is_own) {
            return Err(PatchError::Nested(walk.shown(&entry.name)));
        }
        Ok(())
    })
}

/// Visits everything below, except what is in a `.git`.
fn walk(top: &TreeDir, mut visit: impl FnMut(&Walk, &Entry) -> Result<(), PatchError>) -> Result<(), PatchError> {
    let mut walk = top.walk()?;
    loop {
        while let Some(entry) = walk.next_name() {
            visit(&walk, &entry)?;
            if entry.is_dir() && entry.os() != ".git" {
                walk.enter(&entry.name)?;
            }
        }
        if walk.leave()?.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_name_of_a_patch_is_one_directory() {
        for (name, good) in [
            ("quiet-hello", true),
            ("0001-x.y+z_", true),
            ("", false),
            (".hidden", false),
            ("a/b", false),
            ("..", false),
            ("-f", false),
            ("a b", false),
            ("a\nb", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    fn record() -> WorkSet {
        WorkSet {
            cpv: "a/b-1".to_owned(),
            category: "a".to_owned(),
            package: "b".to_owned(),
            version: "1".to_owned(),
            revision: "r0".to_owned(),
            slot: "0".to_owned(),
            repository: "gentoo".to_owned(),
            profile: "demo".to_owned(),
            prepared: true,
            subdir: "b-1".to_owned(),
            made: "2026-11-25T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn nothing_that_a_session_wrote_decides_what_git_does() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { config: "/c".into(), data: dir.path().to_owned(), cache: "/x".into() };
        let set = super::dir(&places, "p");
        let git = set.join(".git");
        for sub in ["hooks", "info", "objects/info", "refs", "modules"] {
            fs::create_dir_all(git.join(sub)).unwrap();
        }
        for (name, text) in [
            ("config", "[core]\n\tfsmonitor = /tmp/evil\n"),
            ("config.worktree", "[core]\n\thooksPath = /tmp\n"),
            ("commondir", "/tmp/evil\n"),
            ("hooks/pre-commit", "#!/bin/sh\n"),
            ("info/attributes", "* filter=evil\n"),
            ("objects/info/alternates", "/tmp\n"),
            ("HEAD", "ref: refs/heads/work\n"),
        ] {
            fs::write(git.join(name), text).unwrap();
        }
        // Both are removed as what they are.
        rustix::fs::mkfifoat(rustix::fs::CWD, git.join(RECORD), rustix::fs::Mode::RWXU).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("alternates"), "theirs").unwrap();
        fs::remove_dir_all(git.join("objects/info")).unwrap();
        symlink(&elsewhere, git.join("objects/info")).unwrap();
        harden(&set, &record()).unwrap();
        assert!(elsewhere.join("alternates").exists(), "removed through a link");
        let mut left: Vec<String> =
            fs::read_dir(&git).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["HEAD", "config", "gentoomuch.json", "info", "objects", "refs"]);
        assert_eq!(fs::read_to_string(git.join("HEAD")).unwrap(), HEAD);
        assert_eq!(fs::read_to_string(git.join("config")).unwrap(), CONFIG);
        assert_eq!(fs::read_to_string(git.join("info/attributes")).unwrap(), ATTRIBUTES);
        assert!(!git.join("objects/info/alternates").exists());
        assert_eq!(all(&places).unwrap(), [("p".to_owned(), record())]);

        for part in ["packed-refs", "objects/aa", "refs/heads"] {
            symlink("/etc/passwd", git.join(part)).unwrap();
            let error = harden(&set, &record()).unwrap_err().to_string();
            assert!(error.ends_with(&format!(".git/{part}` is a symbolic link or lies behind one")), "{error}");
            fs::remove_file(git.join(part)).unwrap();
        }
        for (file, way) in [("a/.git", "a/.git"), (".GIT/config", ".GIT"), ("git~1", "git~1"), ("a/HEAD", "")] {
            fs::create_dir_all(set.join(file).parent().unwrap()).unwrap();
            fs::write(set.join(file), "").unwrap();
            let outcome = harden(&set, &record());
            if way.is_empty() {
                outcome.unwrap();
            } else {
                let error = outcome.unwrap_err().to_string();
                assert!(error.ends_with(&format!("{way}` looks like a git repository to git")), "{error}");
                crate::beneath::remove_tree(&set.join(way)).unwrap();
            }
        }
        fs::write(set.join("a/commondir"), "").unwrap();
        assert!(harden(&set, &record()).unwrap_err().to_string().ends_with("a/HEAD` looks like a git repository to git"));

        fs::remove_dir_all(&git).unwrap();
        symlink("/tmp", &git).unwrap();
        assert!(harden(&set, &record()).is_err(), "a repository elsewhere");
    }

    /// Everything that says something about a work set is a regular file, or there is an error at once.
    #[test]
    fn nobody_waits_at_a_pipe_of_a_work_set() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { config: "/c".into(), data: dir.path().to_owned(), cache: "/x".into() };
        let set = super::dir(&places, "p");
        fs::create_dir_all(set.join(".git/objects/info")).unwrap();
        fs::create_dir_all(set.join("sub")).unwrap();
        for file in ["HEAD", "config", "index"] {
            fs::write(set.join(".git").join(file), "").unwrap();
        }
        check(&set).unwrap();
        let fifo = |path: &str| {
            let _ = crate::beneath::remove_tree(&set.join(path));
            rustix::fs::mkfifoat(rustix::fs::CWD, set.join(path), rustix::fs::Mode::RWXU).unwrap();
        };
        for path in [".git/HEAD", ".git/config", ".git/objects/info", "sub/.gitignore", "sub/.gitattributes"] {
            fifo(path);
            let error = check(&set).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{path}` is not a regular file")), "{error}");
            fs::remove_file(set.join(path)).unwrap();
            symlink("/dev/zero", set.join(path)).unwrap();
            assert_eq!(check(&set).is_err(), path.starts_with(".git/"), "{path}");
            fs::remove_file(set.join(path)).unwrap();
        }
        fs::File::create(set.join("hole")).unwrap().set_len(4 << 40).unwrap();
        let error = check(&set).unwrap_err().to_string();
        assert!(error.contains("hole` has more than"), "{error}");
        fs::remove_file(set.join("hole")).unwrap();

        let record = ".git/gentoomuch.json";
        let said = |expected: &str| {
            let error = read(&places, "p").unwrap_err().to_string();
            assert!(error.ends_with(&format!("{record}` {expected}")), "{error}");
            fs::remove_file(set.join(record)).unwrap();
        };
        fifo(record);
        said("is not a regular file");
        symlink("/dev/zero", set.join(record)).unwrap();
        said("is not a regular file");
        fs::File::create(set.join(record)).unwrap().set_len(4 << 40).unwrap();
        said("has more than 65536 bytes");
        fs::remove_dir_all(set.join(".git")).unwrap();
        fifo(".git");
        assert_eq!(read(&places, "p").unwrap(), None);
        assert!(check(&set).is_err());
        fs::remove_dir_all(&set).unwrap();
        symlink("/", &set).unwrap();
        assert_eq!(read(&places, "p").unwrap(), None, "a work set elsewhere");
    }

    #[test]
    fn a_record_that_somebody_changed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { config: "/c".into(), data: dir.path().to_owned(), cache: "/x".into() };
        assert_eq!(read(&places, "p").unwrap(), None);
        fs::create_dir_all(dir.path().join("patches/p/.git")).unwrap();
        assert_eq!(read(&places, "p").unwrap(), None);
        fs::write(dir.path().join("patches/p/.git/gentoomuch.json"), "{}").unwrap();
        let error = read(&places, "p").unwrap_err();
        assert!(error.to_string().ends_with("gentoomuch.json` does not say which package the work set is for"), "{error}");
    }
}
