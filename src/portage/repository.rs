//! An ebuild repository as a directory: its `metadata/layout.conf`, and the versions that its metadata cache knows.
//!
//! ```text
//! metadata/layout.conf                       masters, profile-formats
//! metadata/md5-cache/CATEGORY/NAME-VERSION   KEY=value a line: SLOT, KEYWORDS, IUSE, EAPI, …
//! profiles/                                  Portage profiles, and what counts for every one of them
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::atom::split_at_version;
use super::matching::Version;
use super::version::compare;

/// What goes wrong with a repository or a Portage profile.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A file or directory that cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A profile that is not there.
    #[error("there is no Portage profile `{profile}`{}", .named_in.as_ref().map(|file| format!(", which `{}` names", file.display())).unwrap_or_default())]
    NoProfile {
        /// As named.
        profile: String,
        /// The `parent` file that names it.
        named_in: Option<PathBuf>,
    },
    /// Profiles that inherit from each other.
    #[error("the Portage profile `{0}` inherits from itself")]
    Circle(PathBuf),
    /// A `make.defaults` that Portage would not read either.
    #[error("cannot read line {line} of `{path}`")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u32,
        /// What is wrong.
        #[source]
        source: super::make_conf::SyntaxError,
    },
}

impl RepositoryError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// What this module returns.
pub type Result<T> = std::result::Result<T, RepositoryError>;

/// An ebuild repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Repositories that it builds upon; none if it does not say.
    pub masters: Option<Vec<String>>,
    /// EAPI of profiles that name none.
    pub(crate) eapi: String,
    formats: Option<Vec<String>>,
}

/// A version of a package, and what its metadata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ebuild {
    /// Which one.
    pub version: Version,
    /// `KEYWORDS`, `IUSE`, …; empty where the repository has no metadata cache.
    pub metadata: BTreeMap<String, String>,
}

impl Ebuild {
    /// The words of a value.
    pub fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.metadata.get(key).map_or("", String::as_str).split_whitespace()
    }

    /// The names in `IUSE`.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.words("IUSE").map(|flag| flag.trim_start_matches(['+', '-']))
    }
}

impl Repository {
    /// Reads what the directory `path` says of itself. A repository without `layout.conf` is one with defaults.
    pub fn read(name: &str, path: &Path) -> Result<Self> {
        let file = path.join("metadata/layout.conf");
        let text = read_optional(&file)?.unwrap_or_default();
        let value = |key: &str| {
            let mut lines = text.lines().rev().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
        };
        let words = |key: &str| value(key).map(|value| value.split_whitespace().map(str::to_owned).collect());
        let eapi = match value("profile_eapi_when_unspecified") {
            Some(eapi) => eapi,
            None => read_optional(&path.join("profiles/eapi"))?.map_or_else(|| "0".to_owned(), |text| text.trim().to_owned()),
        };
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
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

    /// Whether `repository:path` is understood in `parent` files.
    pub(crate) fn allows_colon(&self) -> bool {
        self.formats.as_ref().is_some_and(|formats| formats.iter().any(|format| format == "portage-2"))
    }

    /// All versions of `category/package`, lowest first.
    pub fn ebuilds(&self, category: &str, package: &str) -> Result<Vec<Ebuild>> {
        let cache = self.path.join("metadata/md5-cache").join(category);
        let mut versions: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for name in names_in(&cache)? {
            if let Some((_, version)) = split_at_version(&name).filter(|(found, _)| *found == package) {
                versions.insert(version.to_owned(), metadata(&cache.join(&name))?);
            }
        }
        for name in names_in(&self.path.join(category).join(package))? {
            let stem = name.strip_suffix(".ebuild").and_then(split_at_version);
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

    /// Every `category/package`, sorted.
    pub fn packages(&self) -> Result<Vec<String>> {
        let mut packages = Vec::new();
        let listed = read_optional(&self.path.join("profiles/categories"))?.unwrap_or_default();
        for category in listed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let names = names_in(&self.path.join(category))?;
            packages.extend(names.iter().filter(|name| !name.contains('.')).map(|name| format!("{category}/{name}")));
        }
        packages.sort();
        Ok(packages)
    }
}

fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).map_err(RepositoryError::read(path))?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// The names in a directory, sorted; none if there is no such directory.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(RepositoryError::read(dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(RepositoryError::read(dir))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The text of a file, if there is one.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        // Portage replaces what is not UTF-8, too.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(RepositoryError::read(path)(error)),
    }
}

/// Whether an EAPI has what the one with this number brought. One whose name is no number is newer than any of those.
pub(crate) fn eapi_at_least(eapi: &str, number: u32) -> bool {
    eapi.parse::<u32>().map_or(true, |eapi| eapi >= number)
}
