//! Work sets: the source of a package, as the user's own git repository.
//!
//! ```text
//! data/patches/              0700
//!   NAME/                    the source tree, the user's to change
//!     .git/                  first commit, refs/gentoomuch/pristine: the tree as it was unpacked
//!       gentoomuch.json      what it is the source of: [`WorkSet`]
//!   .NAME.new/               not complete yet; whoever holds the patch's lock may remove it
//! ```
//!
//! A repository that a session has written could make git run anything, once the user calls it in there. So what decides what git does is
//! written anew outside of the session ([`harden`]).

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PatchError;
use crate::places::Places;

/// Of a work set's repository, the only configuration.
pub(super) const CONFIG: &str = "[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tsymlinks = true
\tautocrlf = false
\tsafecrlf = false
\tprotectNTFS = false
\tprotectHFS = false
\tfsmonitor = false
[commit]
\tgpgSign = false
";

/// Every file is what its bytes are, whatever the source's own attributes say.
pub(super) const ATTRIBUTES: &str = "* -text !eol -filter -ident !working-tree-encoding !diff !merge !whitespace !export-subst\n";
const RECORD: &str = "gentoomuch.json";
/// What a repository consists of. Anything else can redirect git, as `commondir` does.
const PARTS: [&str; 9] = ["HEAD", "config", "index", "info", "logs", "objects", "packed-refs", "refs", RECORD];

/// What a work set is the source of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkSet {
    /// The package's version, `category/name-version`.
    pub cpv: String,
    /// Its category.
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
    /// Whether the ebuild's own patches are in.
    pub prepared: bool,
    /// Which directory of what was unpacked it is.
    pub subdir: String,
    /// When, RFC 3339.
    pub made: String,
}

impl WorkSet {
    /// `=category/name-version::repository`.
    pub(super) fn atom(&self) -> String {
        format!("={}::{}", self.cpv, self.repository)
    }

    /// `category/name`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.category, self.package)
    }
}

/// Whether a patch can be called so: a single directory, and no name of ours.
pub(super) fn check_name(name: &str) -> Result<(), PatchError> {
    let plain = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    if plain { Ok(()) } else { Err(PatchError::Name(name.to_owned())) }
}

/// Where a work set is.
pub(super) fn dir(places: &Places, name: &str) -> PathBuf {
    places.patches().join(name)
}

/// Where it is made.
pub(super) fn unfinished(places: &Places, name: &str) -> PathBuf {
    places.patches().join(format!(".{name}.new"))
}

/// The directory of all.
pub(super) fn make_parent(places: &Places) -> Result<PathBuf, PatchError> {
    let parent = places.patches();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent);
    made.map_err(PatchError::io("create", &parent))?;
    Ok(parent)
}

/// All work sets, by name.
pub(super) fn all(places: &Places) -> Result<Vec<(String, WorkSet)>, PatchError> {
    let parent = places.patches();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(PatchError::Io { action: "list", path: parent, source }),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| check_name(name).is_ok());
    names.sort();
    names.into_iter().filter_map(|name| read(places, &name).transpose().map(|set| set.map(|set| (name, set)))).collect()
}

/// What is written about a work set; none if there is no such.
pub(super) fn read(places: &Places, name: &str) -> Result<Option<WorkSet>, PatchError> {
    check_name(name)?;
    let path = dir(places, name).join(".git").join(RECORD);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| PatchError::Damaged { path, source }),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(PatchError::Io { action: "read", path, source }),
    }
}

/// Makes a repository that comes out of a session one that git can be called in, and writes what it is for.
pub(super) fn harden(work_set: &Path, record: &WorkSet) -> Result<(), PatchError> {
    let git = work_set.join(".git");
    let failed = PatchError::io;
    let meta = fs::symlink_metadata(&git).map_err(failed("look at", &git))?;
    if !meta.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(PatchError::Io { action: "use", path: git, source });
    }
    for entry in fs::read_dir(&git).map_err(failed("list", &git))? {
        let entry = entry.map_err(failed("list", &git))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        let is_part = PARTS.iter().any(|part| entry.file_name() == *part);
        let keeps = is_part && !kind.is_symlink() && entry.file_name() != "config" && entry.file_name() != "info";
        if !keeps && kind.is_dir() {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        } else if !keeps {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    // Objects elsewhere, which a session could have named.
    for borrowed in ["alternates", "http-alternates"] {
        let path = git.join("objects/info").join(borrowed);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(PatchError::Io { action: "remove", path, source });
            }
            _ => {}
        }
    }
    let info = git.join("info");
    fs::create_dir(&info).map_err(failed("create", &info))?;
    let text = serde_json::to_string_pretty(record).map_err(|source| PatchError::Answer(Some(source)))?;
    for (name, text) in [("config", CONFIG), ("info/attributes", ATTRIBUTES), (RECORD, text.as_str())] {
        let path = git.join(name);
        fs::write(&path, text).map_err(failed("write", &path))?;
    }
    Ok(())
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
        symlink("/etc/passwd", git.join("packed-refs")).unwrap();
        harden(&set, &record()).unwrap();
        let mut left: Vec<String> =
            fs::read_dir(&git).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["HEAD", "config", "gentoomuch.json", "info", "objects", "refs"]);
        assert_eq!(fs::read_to_string(git.join("config")).unwrap(), CONFIG);
        assert_eq!(fs::read_to_string(git.join("info/attributes")).unwrap(), ATTRIBUTES);
        assert!(!git.join("objects/info/alternates").exists());
        assert_eq!(all(&places).unwrap(), [("p".to_owned(), record())]);

        fs::remove_dir_all(&git).unwrap();
        symlink("/tmp", &git).unwrap();
        assert!(harden(&set, &record()).is_err(), "a repository elsewhere");
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
        assert!(error.to_string().ends_with("gentoomuch.json` says not what the work set is for"), "{error}");
    }
}
