//! `repos.conf`: the ebuild repositories, read like Portage, which uses Python's `configparser`.
//!
//! ```text
//! [DEFAULT]                       what other sections inherit; `main-repo` counts only here
//! main-repo = gentoo
//!
//! [my-overlay]
//! location = /var/db/repos/my-overlay
//! sync-type = git
//! sync-uri = https://example.org/my-overlay.git
//! masters = gentoo
//! priority = 50
//! ```
//!
//! A line that is indented more than its option continues the value; `#` and `;` begin a comment only at the beginning of a line;
//! `%(NAME)s` is another option of the section. The files are also copied unchanged, so line numbers are those of the fragment's file.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Findings, Located, Place};
use super::fragment::Copied;
use super::source::{Method, Revision, SourceError, TreeSource};

/// Where repositories are by default.
pub(crate) const REPOS_DIR: &str = "/var/db/repos";
const FILE: &str = "repos.conf";
/// The default mirror of snapshots.
const OFFICIAL: &str = "https://distfiles.gentoo.org";
/// Values of the section `[gentoo]` in Portage's own `/usr/share/portage/config/repos.conf`, for what a configuration leaves out.
const PORTAGES_OWN: (&str, &str, &str) = ("gentoo", "rsync", "rsync://rsync.gentoo.org/gentoo-portage");
/// Size limit of an option after replacing references: each level of them can multiply the text.
const MAX_REFERRED_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryEntry {
    /// Its name: the section.
    pub name: Located<String>,
    /// Where sessions see it.
    pub location: PathBuf,
    /// Its source, if there is one, or why that is invalid.
    pub source: Option<Located<Result<TreeSource, SourceError>>>,
    /// The branch in `sync-git-clone-extra-opts`.
    pub branch: Option<Revision>,
    /// Repositories whose eclasses it uses.
    pub masters: Vec<Located<String>>,
    /// Which of two repositories with the same version wins.
    pub priority: Option<Located<i32>>,
}

/// All repositories of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repositories {
    /// `main-repo`.
    pub main: Option<Located<String>>,
    /// In the order of their sections.
    pub entries: Vec<RepositoryEntry>,
}

impl Repositories {
    /// The repository of this name.
    pub fn get(&self, name: &str) -> Option<&RepositoryEntry> {
        self.entries.iter().find(|entry| entry.name.value == name)
    }
}

type Options = BTreeMap<String, Located<String>>;

/// Sections by name, in order, with the line that opened each first.
#[derive(Debug, Default)]
struct Sections(Vec<(Located<String>, Options)>);

impl Sections {
    fn open(&mut self, name: Located<String>) -> usize {
        if let Some(known) = self.0.iter().position(|(known, _)| known.value == name.value) {
            return known;
        }
        self.0.push((name, Options::new()));
        self.0.len() - 1
    }
}

/// Reads what the merged directory has as `repos.conf`.
pub(crate) fn read(findings: &mut Findings<'_>, copied: &BTreeMap<PathBuf, Copied>) -> Repositories {
    let mut sections = Sections::default();
    for (target, copied) in copied.iter().filter(|(target, _)| is_read(target)) {
        match std::str::from_utf8(&copied.bytes) {
            Ok(text) => read_file(findings, &mut sections, &copied.source, text),
            Err(_) => findings.error(&Place::whole(&copied.source), format!("`{}` is not UTF-8", target.display())),
        }
    }
    let defaults = sections.0.iter().find(|(name, _)| name.value == "DEFAULT").map(|(_, options)| options.clone());
    let defaults = defaults.unwrap_or_default();
    let mut repositories = Repositories { main: defaults.get("main-repo").cloned(), entries: Vec::new() };
    for (name, options) in sections.0.iter().filter(|(name, _)| name.value != "DEFAULT") {
        let entry = Section { findings: &mut *findings, name, options, defaults: &defaults }.entry();
        repositories.entries.extend(entry);
    }
    check_names(findings, &repositories);
    repositories
}

/// Like Portage, skips hidden files and backups in a directory.
fn is_read(target: &Path) -> bool {
    let mut parts = target.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    parts.next() == Some(FILE) && parts.all(|part| !part.starts_with('.') && !part.ends_with('~'))
}

fn read_file(findings: &mut Findings<'_>, sections: &mut Sections, file: &Path, text: &str) {
    let file: Arc<Path> = file.into();
    let mut section: Option<usize> = None;
    // The option that indented lines continue, and its indentation.
    let mut option: Option<(String, usize)> = None;
    let mut here: Vec<(usize, String)> = Vec::new();
    // Lines in a section without a name are not reported one by one.
    let mut nameless = false;
    for (line, raw) in (1..).zip(text.lines()) {
        let located = |value: &str| Located { value: value.to_owned(), file: Arc::clone(&file), line };
        let place = Place::of(&file, line);
        let value = raw.trim();
        if value.is_empty() || value.starts_with(['#', ';']) {
            continue;
        }
        let indent = raw.len() - raw.trim_start().len();
        if let (Some(at), Some((name, _))) = (section, option.as_ref().filter(|(_, own)| indent > *own)) {
            if let Some(known) = sections.0[at].1.get_mut(name) {
                known.value.push('\n');
                known.value.push_str(value);
            }
            continue;
        }
        option = None;
        if let Some(name) = value.strip_prefix('[') {
            let Some((name, _)) = name.split_once(']').filter(|(name, _)| !name.is_empty()) else {
                findings.error(&place, "a section is `[NAME]`");
                (section, nameless) = (None, true);
                continue;
            };
            section = Some(sections.open(located(name)));
            continue;
        }
        let Some(at) = section else {
            if !nameless {
                findings.error(&place, "this line is before the first section");
            }
            continue;
        };
        let Some((name, rest)) = value.split_once(['=', ':']) else {
            findings.error(&place, "a line is `NAME = VALUE`");
            continue;
        };
        let name = name.trim().to_lowercase();
        if here.contains(&(at, name.clone())) {
            findings.error(&place, format!("`{name}` is set twice in this section"));
            continue;
        }
        here.push((at, name.clone()));
        option = Some((name.clone(), indent));
        sections.0[at].1.insert(name, located(rest.trim()));
    }
}

/// A section on its way to an entry.
struct Section<'a, 'b> {
    findings: &'a mut Findings<'b>,
    name: &'a Located<String>,
    options: &'a Options,
    defaults: &'a Options,
}

impl Section<'_, '_> {
    fn entry(mut self) -> Option<RepositoryEntry> {
        let name = self.name;
        if !is_repository_name(&name.value) {
            self.findings.error(&name.place(), format!("`{}` cannot be the name of a repository", name.value.escape_debug()));
            return None;
        }
        let location = self.get("location");
        let location = match location {
            Some(location) if is_location(Path::new(&location.value)) => PathBuf::from(location.value),
            Some(location) => {
                let message = format!("`{}` is no place for a repository", location.value.escape_debug());
                let hint = format!("for example `{REPOS_DIR}/{}`", name.value);
                self.findings.error_with_hint(&location.place(), message, hint);
                return None;
            }
            None => Path::new(REPOS_DIR).join(&name.value),
        };
        let priority = self.get("priority");
        let priority = priority.and_then(|priority| match priority.value.parse() {
            Ok(number) => Some(priority.with(number)),
            Err(_) => {
                self.findings.error(&priority.place(), format!("the priority `{}` is no number", priority.value));
                None
            }
        });
        let masters = self.get("masters");
        let words = |list: Located<String>| {
            let names: Vec<Located<String>> = list.value.split_whitespace().map(|word| list.with(word.to_owned())).collect();
            names
        };
        let masters = masters.map(words).unwrap_or_default();
        let source = self.source();
        let branch = self.branch();
        Some(RepositoryEntry { name: name.clone(), location, source, branch, masters, priority })
    }

    fn source(&mut self) -> Option<Located<Result<TreeSource, SourceError>>> {
        let method = self.get("sync-type").filter(|method| !method.value.is_empty());
        let uri = self.get("sync-uri").filter(|uri| !uri.value.is_empty());
        let (own_name, own_method, own_uri) = PORTAGES_OWN;
        let is_portages = self.name.value == own_name;
        let (method, uri) = match (method, uri) {
            // Portage downloads snapshots from its mirrors whatever is written here. We take an address that may be a mirror's as one.
            (Some(method), uri) if method.value == "webrsync" => {
                let mirror = uri.filter(|uri| uri.value.starts_with("https://") || uri.value.starts_with("http://"));
                let uri = mirror.unwrap_or_else(|| method.with(OFFICIAL.to_owned()));
                (method, uri)
            }
            (Some(method), Some(uri)) => (method, uri),
            (Some(method), None) if is_portages && method.value == own_method => {
                let uri = method.with(own_uri.to_owned());
                (method, uri)
            }
            (None, Some(uri)) if is_portages => (uri.with(own_method.to_owned()), uri),
            (Some(method), None) => {
                self.findings.error(&method.place(), "there is a `sync-type`, but no `sync-uri`");
                return None;
            }
            (None, Some(uri)) => {
                self.findings.error(&uri.place(), "there is a `sync-uri`, but no `sync-type`");
                return None;
            }
            (None, None) => return None,
        };
        if method.value == "tar" {
            let hint = format!("for a tarball, write a line in `env/tree`: `{} tar URI sha256:DIGEST`", self.name.value);
            self.findings.error_with_hint(&method.place(), "Portage knows no `sync-type` `tar`", hint);
            return None;
        }
        // Other methods are valid for Portage; only `sync` cannot use them.
        let source = method.value.parse::<Method>().and_then(|method| TreeSource::new(method, &uri.value));
        if let Err(error) = source.as_ref()
            && !matches!(error, SourceError::Method(_))
        {
            self.findings.error(&uri.place(), error.to_string());
        }
        Some(method.with(source))
    }

    /// `-b BRANCH` or `--branch=BRANCH`: Portage clones with this option, and the repository stays on that branch.
    fn branch(&mut self) -> Option<Revision> {
        let options = self.get("sync-git-clone-extra-opts")?;
        let mut words = options.value.split_whitespace();
        while let Some(word) = words.next() {
            let name = match word {
                "-b" | "--branch" => words.next(),
                _ => word.strip_prefix("--branch="),
            };
            if let Some(name) = name {
                return Revision::parse(name).ok();
            }
        }
        None
    }

    /// An option with its references, to options of the section or of `[DEFAULT]`, replaced.
    fn get(&mut self, option: &str) -> Option<Located<String>> {
        let found = self.options.get(option).or_else(|| self.defaults.get(option))?;
        let mut left = MAX_REFERRED_BYTES;
        match self.interpolated(&found.value, 0, &mut left) {
            Some(value) => Some(found.with(value)),
            None => {
                let hint = "write a percent sign as `%%`, and the value of another option of the section as `%(NAME)s`";
                self.findings.error_with_hint(&found.place(), format!("`{option}` has a `%` that means nothing"), hint);
                None
            }
        }
    }

    fn interpolated(&self, value: &str, depth: usize, left: &mut usize) -> Option<String> {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let (name, after) = rest.strip_prefix('(')?.split_once(")s")?;
            let name = name.to_lowercase();
            // The defaults that Portage gives every section.
            let known = match name.as_str() {
                "eprefix" => "",
                "eroot" | "root" | "portage_configroot" => "/",
                _ => &self.options.get(&name).or_else(|| self.defaults.get(&name))?.value,
            };
            *left = left.checked_sub(known.len() + 1).filter(|_| depth < 10)?;
            out.push_str(&self.interpolated(known, depth + 1, left)?);
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }
}

/// A valid name by PMS 3.1.5 and for the store.
pub(crate) fn is_repository_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) && !name.starts_with('-') && (1..=100).contains(&name.len())
}

/// An absolute path that no other mount of a session uses.
fn is_location(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let taken = ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc", "/var/cache/distfiles", "/var/cache/binpkgs", "/var/tmp/portage"];
    let depth = path.components().count();
    path.is_absolute() && plain && depth > 2 && !taken.iter().any(|taken| path.starts_with(taken))
}

fn check_names(findings: &mut Findings<'_>, repositories: &Repositories) {
    let mut places: BTreeMap<&Path, &RepositoryEntry> = BTreeMap::new();
    for entry in &repositories.entries {
        if let Some(other) = places.insert(&entry.location, entry) {
            let message = format!(
                "`{}` has the same location as `{}` \
                ({})",
                entry.name.value,
                other.name.value,
                other.name.place()
            );
            findings.error(&entry.name.place(), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Repositories, Vec<String>) {
        let root = Path::new("/c");
        let mut findings = Findings::new(root);
        let source = PathBuf::from("portage.global/repos.conf/x.conf");
        let copied = Copied { bytes: text.as_bytes().to_vec(), executable: false, source, same: Vec::new() };
        let files = BTreeMap::from([
            (PathBuf::from("repos.conf/x.conf"), copied),
            (
                PathBuf::from("repos.conf/.hidden"),
                Copied { bytes: b"nonsense".to_vec(), executable: false, source: PathBuf::from("h"), same: Vec::new() },
            ),
        ]);
        let repositories = read(&mut findings, &files);
        (repositories, findings.into_all().iter().map(|found| format!("{}: {}", found.line, found.message)).collect())
    }

    #[test]
    fn sections_inherit_go_on_and_refer() {
        let (read, said) = read_text(
            "# ours\n[DEFAULT]\nmain-repo = gentoo\nbase: /var/db/repos\nsync-type = git\n\n[gentoo]\nlocation = %(BASE)s/gentoo\n\
             sync-uri = https://example.org/100%%.git\n\n[guru]\nLocation=%(base)s/guru\npriority = 50\nmasters = gentoo\n  other\n\
             sync-type = rsync\nsync-uri = rsync://example.org/guru\n",
        );
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(read.main.as_ref().map(|main| (main.value.as_str(), main.line)), Some(("gentoo", 3)));
        let gentoo = read.get("gentoo").unwrap();
        assert_eq!((gentoo.location.to_str(), gentoo.name.line), (Some("/var/db/repos/gentoo"), 7));
        let source = gentoo.source.as_ref().unwrap().value.as_ref().unwrap();
        assert_eq!(source.to_string(), "git+https://example.org/100%.git");
        let guru = read.get("guru").unwrap();
        assert_eq!(guru.priority.as_ref().unwrap().value, 50);
        let masters: Vec<&str> = guru.masters.iter().map(|master| master.value.as_str()).collect();
        assert_eq!(masters, ["gentoo", "other"]);
        assert_eq!(guru.source.as_ref().unwrap().value.as_ref().unwrap().method, Method::Rsync);
    }

    #[test]
    fn what_portages_own_file_says_need_not_be_repeated() {
        let source = |text: &str| {
            let (read, said) = read_text(text);
            let source = read.entries[0].source.as_ref().map(|source| source.value.as_ref().map(ToString::to_string));
            (source.and_then(std::result::Result::ok), said)
        };
        for (text, expected) in [
            ("[gentoo]\nsync-uri = rsync://m.example.org/gentoo\n", Some("rsync://m.example.org/gentoo")),
            ("[gentoo]\nsync-type = rsync\n", Some("rsync://rsync.gentoo.org/gentoo-portage")),
            ("[gentoo]\npriority = 5\n", None),
            (
                "[a]\nsync-type = webrsync\nsync-uri = rsync://rsync.gentoo.org/gentoo-portage\n",
                Some("webrsync+https://distfiles.gentoo.org"),
            ),
            ("[a]\nsync-type = webrsync\nsync-uri =\n", Some("webrsync+https://distfiles.gentoo.org")),
            ("[a]\nsync-type = webrsync\nsync-uri = https://m.example.org/gentoo\n", Some("webrsync+https://m.example.org/gentoo")),
        ] {
            assert_eq!(source(text), (expected.map(str::to_owned), Vec::new()), "{text}");
        }
        assert_eq!(source("[a]\nsync-uri = rsync://x/y\n").1, ["2: there is a `sync-uri`, but no `sync-type`"]);
    }

    #[test]
    fn faults_have_their_lines() {
        let (_, said) = read_text(
            "stray = 1\n[a b]\n[one]\nlocation = var/x\n[two]\npriority = high\nsync-type = git\nsync-uri = ext::sh\npriority = 2\n\
             [three]\nlocation = %(nothing)s\nnot a line\n[four\nsync-type = git\n[five]\nsync-type = rsync\n[six]\nlocation = /etc/x\n\
             [seven]\nlocation = /var/db/repos/two\nsync-type = svn\nsync-uri = svn://example.org\n\
             [eight]\nsync-type = tar\nsync-uri = https://example.org/x.tar\n",
        );
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn references_do_not_multiply_without_end() {
        let many = |of: usize| format!("%(a{of})s").repeat(20);
        let levels: Vec<String> = (0..9).map(|level| format!("a{level} = {}\n", many(level + 1))).collect();
        let (read, said) = read_text(&format!("[x]\nmasters = %(a0)s\n{}a9 =\n", levels.concat()));
        assert_eq!(said, ["2: `masters` has a `%` that means nothing"]);
        assert!(read.get("x").is_some_and(|entry| entry.masters.is_empty()));
    }

    #[test]
    fn a_branch_is_one_of_the_options_for_cloning() {
        let (read, _) =
            read_text("[a]\nsync-git-clone-extra-opts = --quiet -b stable\n[b]\nsync-git-clone-extra-opts=--branch=x\n");
        let branch = |name: &str| read.get(name).unwrap().branch.as_ref().map(ToString::to_string);
        assert_eq!((branch("a").as_deref(), branch("b").as_deref()), (Some("stable"), Some("x")));
    }
}
