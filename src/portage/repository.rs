//! An ebuild repository: its `metadata/layout.conf`, and the versions in its metadata cache.
//!
//! ```text
//! metadata/layout.conf                       masters, profile-formats
//! metadata/md5-cache/CATEGORY/NAME-VERSION   KEY=value a line: SLOT, KEYWORDS, IUSE, EAPI, …
//! profiles/                                  Portage profiles, and what counts for every one of them
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::cpv::split_pf;
use super::matching::Version;
use super::version::compare;
use crate::beneath;
use crate::beneath::RootDir;

/// Size limit of a file that is read whole; `profiles/use.local.desc`, the largest, has two megabytes.
const LIMIT_BYTES: u64 = 16 << 20;
/// More names in a directory are refused.
const NAMES_LIMIT: usize = 100_000;

/// Errors of repositories and Portage profiles.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A file or directory that cannot be read or has an unexpected type.
    #[error(transparent)]
    Read(#[from] beneath::Error),
    /// The profile does not exist.
    #[error("there is no Portage profile `{profile}`{}", .named_in.as_ref().map(|file| format!(", which `{}` names", file.display())).unwrap_or_default())]
    NoProfile {
        /// As the configuration names it.
        profile: String,
        /// The `parent` file that names it.
        named_in: Option<PathBuf>,
    },
    /// Profiles that inherit from each other.
    #[error("the Portage profile `{0}` inherits from itself")]
    Circle(PathBuf),
    /// A profile that inherits too many others.
    #[error("the Portage profile `{profile}` inherits more than {most} profiles (a profile counts each time it is named)")]
    TooMany {
        /// As asked for.
        profile: String,
        /// The limit.
        most: usize,
    },
    /// A directory in place of a profile's file, with links to itself.
    #[error("`{path}` has more than {most} files and directories, including those behind links")]
    TooManyFiles {
        path: PathBuf,
        /// The limit.
        most: usize,
    },
    /// A `make.defaults` that Portage would not read, or with values that are too large.
    #[error("cannot read line {line} of `{path}`")]
    Syntax {
        path: PathBuf,
        line: u32,
        #[source]
        source: super::make_conf::SyntaxError,
    },
}

pub(crate) type Result<T> = std::result::Result<T, RepositoryError>;

/// An ebuild repository. Its contents are hostile, so files are opened relative to a directory descriptor, and links are resolved inside.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub name: String,
    /// Its path, for paths of profiles and messages.
    pub path: PathBuf,
    root: Arc<RootDir>,
    /// Its masters; `None` if it does not name any.
    pub masters: Option<Vec<String>>,
    /// EAPI of profiles that do not name one.
    pub(crate) eapi: String,
    formats: Option<Vec<String>>,
}

impl PartialEq for Repository {
    fn eq(&self, other: &Self) -> bool {
        let parts = |of: &Self| (of.name.clone(), of.path.clone(), of.masters.clone(), of.eapi.clone(), of.formats.clone());
        parts(self) == parts(other)
    }
}

impl Eq for Repository {}

/// A version of a package with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ebuild {
    pub version: Version,
    /// `KEYWORDS`, `IUSE`, …; empty if the repository has no metadata cache.
    pub metadata: BTreeMap<String, String>,
}

impl Ebuild {
    /// The words of a value.
    pub(crate) fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.metadata.get(key).map_or("", String::as_str).split_whitespace()
    }

    /// The names in `IUSE`.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &str> {
        self.words("IUSE").map(|flag| flag.trim_start_matches(['+', '-']))
    }
}

impl Repository {
    /// Reads the metadata of the repository at `path`. Without `layout.conf` the defaults hold.
    pub(crate) fn read(name: &str, path: &Path) -> Result<Self> {
        let root = Arc::new(RootDir::open(path)?);
        let text = read_optional(&root, Path::new("metadata/layout.conf"))?.unwrap_or_default();
        let value = |key: &str| {
            let mut lines = text.lines().rev().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
        };
        let words = |key: &str| value(key).map(|value| value.split_whitespace().map(str::to_owned).collect());
        let eapi = match value("profile_eapi_when_unspecified") {
            Some(eapi) => eapi,
            None => read_optional(&root, Path::new("profiles/eapi"))?.map_or_else(|| "0".to_owned(), |text| text.trim().to_owned()),
        };
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            root,
            masters: words("masters"),
            eapi,
            formats: words("profile-formats"),
        })
    }

    /// Whether files of its profiles may be directories (`portage/repository/config.py`, `parse_layout_conf`).
    pub(crate) fn allows_directories(&self, eapi: &str) -> bool {
        let format = |formats: &Vec<String>| formats.iter().any(|format| matches!(format.as_str(), "portage-1" | "portage-2"));
        eapi_at_least(eapi, 7) || self.formats.as_ref().is_none_or(format)
    }

    /// Whether `repository:path` is allowed in `parent` files.
    pub(crate) fn allows_colon(&self) -> bool {
        self.formats.as_ref().is_some_and(|formats| formats.iter().any(|format| format == "portage-2"))
    }

    /// All versions of `category/package`, lowest first.
    pub(crate) fn ebuilds(&self, category: &str, package: &str) -> Result<Vec<Ebuild>> {
        let cache = Path::new("metadata/md5-cache").join(category);
        let mut versions: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for name in self.names(&cache)? {
            if let Some((_, version)) = split_pf(&name).filter(|(found, _)| *found == package) {
                versions.insert(version.to_owned(), self.metadata(&cache.join(&name))?);
            }
        }
        for name in self.names(&Path::new(category).join(package))? {
            let stem = name.strip_suffix(".ebuild").and_then(split_pf);
            if let Some((_, version)) = stem.filter(|(found, _)| *found == package) {
                versions.entry(version.to_owned()).or_default();
            }
        }
        let mut ebuilds: Vec<Ebuild> = versions
            .into_iter()
            .map(|(version, metadata)| Ebuild {
                version: Version {
                    category: category.to_owned(),
                    package: package.to_owned(),
                    version,
                    slot: metadata.get("SLOT").cloned(),
                    repository: Some(self.name.clone()),
                },
                metadata,
            })
            .collect();
        ebuilds.sort_by(|a, b| compare(&a.version.version, &b.version.version));
        Ok(ebuilds)
    }

    /// The text of a file in the repository, if it exists.
    pub(crate) fn text(&self, file: impl AsRef<Path>) -> Result<Option<String>> {
        read_optional(&self.root, file.as_ref())
    }

    /// Opens a path in the repository, if it exists.
    pub(crate) fn kind(&self, path: &Path) -> Result<Option<FileType>> {
        Ok(self.root.leads_to(path)?)
    }

    /// The names in a directory, sorted; empty if it does not exist.
    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let entries = match self.root.open_dir(dir).and_then(|dir| dir.entries(NAMES_LIMIT)) {
            Err(error) if is_nothing(&error) => return Ok(Vec::new()),
            entries => entries?,
        };
        Ok(entries.iter().filter_map(|entry| entry.text().map(str::to_owned)).collect())
    }

    fn metadata(&self, file: &Path) -> Result<BTreeMap<String, String>> {
        let text = String::from_utf8_lossy(&self.root.follow(file)?.read(LIMIT_BYTES)?).into_owned();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Every `category/package`, sorted.
    pub(crate) fn packages(&self) -> Result<Vec<String>> {
        let mut packages = Vec::new();
        let listed = self.text("profiles/categories")?.unwrap_or_default();
        for category in listed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let names = self.names(Path::new(category))?;
            packages.extend(names.iter().filter(|name| !name.contains('.')).map(|name| format!("{category}/{name}")));
        }
        packages.sort();
        Ok(packages)
    }
}

/// The text of a file, if there is one.
fn read_optional(root: &RootDir, file: &Path) -> Result<Option<String>> {
    match root.follow(file).and_then(|file| file.read(LIMIT_BYTES)) {
        // Portage also replaces invalid UTF-8.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_nothing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_nothing(error: &beneath::Error) -> bool {
    error.is_absent() || error.errno() == Some(Errno::NOTDIR)
}

/// Whether an EAPI has what this number introduced. An EAPI that is no number counts as newer.
pub(crate) fn eapi_at_least(eapi: &str, number: u32) -> bool {
    eapi.parse::<u32>().map_or(true, |eapi| eapi >= number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree is hostile as well: what it links to outside is not its own, and what never ends is not read.
    #[test]
    fn nothing_outside_of_a_tree_is_read_and_nothing_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir_all(root.join("metadata/md5-cache/a")).unwrap();
        std::fs::create_dir_all(root.join("profiles/p")).unwrap();
        std::fs::write(dir.path().join("secret"), "masters = secret\nSLOT=secret\nUSE=\"secret\"\n").unwrap();
        let place = |name: &str, to: &std::path::Path| {
            let path = root.join(name);
            let _ = std::fs::remove_file(&path);
            symlink(to, path).unwrap();
        };
        place("metadata/layout.conf", &dir.path().join("secret"));
        assert_eq!(Repository::read("t", &root).unwrap().masters, None);
        std::fs::remove_file(root.join("metadata/layout.conf")).unwrap();
        let repository = Repository::read("t", &root).unwrap();
        place("metadata/md5-cache/a/b-1", &dir.path().join("secret"));
        assert!(repository.ebuilds("a", "b").is_err());
        place("profiles/p/make.defaults", &dir.path().join("secret"));
        let stack = || crate::portage::profile_stack::ProfileStack::read(std::slice::from_ref(&repository), "t", "p");
        let defaults = |stack: &crate::portage::profile_stack::ProfileStack| {
            stack.nodes[0].make_defaults(&mut crate::portage::profile_stack::Known::new())
        };
        assert_eq!(defaults(&stack().unwrap()).unwrap(), []);
        // Inside, a link is as good as the file.
        std::fs::write(root.join("profiles/shared"), "USE=\"own\"\n").unwrap();
        place("profiles/p/make.defaults", std::path::Path::new("../shared"));
        assert_eq!(defaults(&stack().unwrap()).unwrap()[0].value, "own");
        std::fs::remove_file(root.join("profiles/p/make.defaults")).unwrap();

        // What follows would hang, or eat all memory.
        rustix::fs::mknodat(rustix::fs::CWD, root.join("profiles/p/parent"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let shown = root.display();
        assert_eq!(stack().unwrap_err().to_string(), format!("`{shown}/profiles/p/parent` is not a regular file"));
        std::fs::remove_file(root.join("profiles/p/parent")).unwrap();
        std::fs::File::create(root.join("profiles/p/make.defaults")).unwrap().set_len(4 << 40).unwrap();
        let error = defaults(&stack().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("`{shown}/profiles/p/make.defaults` has more than 16777216 bytes"));
        std::fs::File::create(root.join("metadata/layout.conf")).unwrap().set_len(4 << 40).unwrap();
        let error = Repository::read("t", &root).unwrap_err();
        assert_eq!(error.to_string(), format!("`{shown}/metadata/layout.conf` has more than 16777216 bytes"));
        place("metadata/layout.conf", std::path::Path::new("/dev/zero"));
        assert_eq!(Repository::read("t", &root).unwrap().masters, None, "inside of the tree there is no such file");
    }
}
