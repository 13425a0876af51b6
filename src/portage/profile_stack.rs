//! A Portage profile with everything that it inherits, in Portage's order.
//!
//! ```text
//! /etc/portage/profile             the user's, last
//! default/linux/amd64/testbed      parent -> ..
//! default/linux/amd64              parent -> gentoo:arch/amd64, ..
//! base                             first
//! ```
//!
//! Each node is a directory of optional files: `make.defaults`, `use.mask`, `package.use`, …. The order, and which files may be
//! directories or may name another repository, are those of `portage/package/ebuild/_config/LocationsManager.py` (3.0.83).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::atom::Atom;
use super::make_conf::{Piece, Statement};
use super::package_files::split_comment;
use super::repository::{Repository, RepositoryError, Result, eapi_at_least};
use super::{make_conf, use_flags};

/// Where a repository has its profiles.
const PROFILES: &str = "profiles";
/// Deeper inheritance is a circle.
const DEPTH_LIMIT: usize = 64;
/// No stack has more profiles; Gentoo's have some dozens. Portage reads a profile again for each `parent` line that names it, so thirty
/// profiles that each name their parent twice would be read 2^30 times.
const COUNT_LIMIT: usize = 2000;
/// No directory in place of a profile's file has more entries. One with two links to itself has 2^40, since the kernel follows forty
/// links in a path.
const FILES_LIMIT: usize = 10_000;
/// The size limit of a value. Otherwise forty lines that each double a variable would fill any memory.
pub(crate) const VALUE_LIMIT_BYTES: usize = 1 << 20;
/// The size limit of all values of a stack; each assignment counts.
pub(crate) const VALUES_LIMIT_BYTES: usize = 4 << 20;

/// A line of a profile's file. Prints as `REPOSITORY:FILE:LINE`, with the file below `profiles/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Source {
    /// The repository; `None` for the user's own profile.
    pub repository: Option<String>,
    /// The file, below `profiles/` of the repository.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(repository) = &self.repository {
            write!(f, "{repository}:")?;
        }
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A file of the user's own profile, which exists only as a result of merging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LooseFile {
    /// Path below the profile.
    pub path: PathBuf,
    /// Its name in messages.
    pub told_as: PathBuf,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// `dir` is a path in the repository.
    Directory {
        repository: Repository,
        dir: PathBuf,
    },
    Loose(Vec<LooseFile>),
}

/// A directory of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    place: Place,
    eapi: Option<String>,
    directories: bool,
}

/// A line about packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageLine {
    pub source: Source,
    /// `-atom`, which removes an earlier line.
    pub negated: bool,
    pub atom: Atom,
    /// The words after the atom.
    pub words: Vec<String>,
}

/// A variable of a `make.defaults`, references replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Default {
    pub name: String,
    /// Its words, each with its line; the line may be in a file that this one refers to.
    pub words: Vec<(String, Source)>,
    /// The whole value.
    pub value: String,
    /// The assignment.
    pub source: Source,
}

/// The values that `${NAME}` may refer to.
#[derive(Debug, Default)]
pub(crate) struct Known {
    values: BTreeMap<String, Value>,
    /// Size of all values that were ever added.
    bytes: usize,
}

/// A value with the lines of its parts: the text of a reference has the lines of what it refers to.
#[derive(Debug, Default)]
struct Value {
    text: String,
    /// The end of each part, and its line.
    parts: Vec<(usize, Arc<Source>)>,
}

/// A value with more parts becomes a single one: nobody writes so many, and a part needs more memory than its text.
const PARTS_LIMIT: usize = 10_000;

impl Value {
    fn push(&mut self, text: &str, source: &Arc<Source>) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        match self.parts.last_mut() {
            Some((end, last)) if last == source => *end = self.text.len(),
            _ => self.parts.push((self.text.len(), Arc::clone(source))),
        }
    }

    /// Appends the value of another variable, which line `source` refers to.
    fn refer(&mut self, other: &Self, source: &Arc<Source>) {
        if self.parts.len() + other.parts.len() > PARTS_LIMIT {
            return self.push(&other.text, source);
        }
        let mut begin = 0;
        for (end, written) in &other.parts {
            self.push(&other.text[begin..*end], written);
            begin = *end;
        }
    }

    /// Words, each with the line where it begins.
    fn words(&self) -> Vec<(String, Source)> {
        let mut words: Vec<(String, Source)> = Vec::new();
        let (mut begin, mut within) = (0, false);
        for (end, source) in &self.parts {
            for c in self.text[begin..*end].chars() {
                match words.last_mut() {
                    _ if c.is_whitespace() => within = false,
                    Some((word, _)) if within => word.push(c),
                    _ => {
                        words.push((c.to_string(), Source::clone(source)));
                        within = true;
                    }
                }
            }
            begin = *end;
        }
        words
    }
}

impl Known {
    /// No values.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Removes a variable and returns its value.
    pub(crate) fn remove(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).map(|value| value.text)
    }

    /// The value of an assignment in `file`, references replaced.
    fn replaced(&self, assignment: &make_conf::Assignment, file: &Source) -> std::result::Result<Value, make_conf::SyntaxError> {
        let mut value = Value::default();
        let mut at = Arc::new(file.clone());
        let mut size = 0;
        for piece in &assignment.value {
            let (Piece::Text { line, .. } | Piece::Reference { line, .. }) = piece;
            if at.line != *line {
                at = Arc::new(Source { line: *line, ..file.clone() });
            }
            let reference = match piece {
                Piece::Text { .. } => None,
                Piece::Reference { name, .. } => self.values.get(name),
            };
            let text = match piece {
                Piece::Text { text, .. } => text.as_str(),
                Piece::Reference { .. } => reference.map_or("", |value| value.text.as_str()),
            };
            size += text.len();
            let name = || assignment.name.clone();
            // Check the size before copying.
            let problem = if size > VALUE_LIMIT_BYTES {
                make_conf::SyntaxProblem::LargeValue(name())
            } else if self.bytes + size > VALUES_LIMIT_BYTES {
                make_conf::SyntaxProblem::LargeValues(name())
            } else {
                match reference {
                    Some(reference) => value.refer(reference, &at),
                    None => value.push(text, &at),
                }
                continue;
            };
            return Err(make_conf::SyntaxError { line: assignment.line, problem });
        }
        Ok(value)
    }

    fn learn(&mut self, name: &str, value: Value) {
        self.bytes += value.text.len();
        self.values.insert(name.to_owned(), value);
    }
}

/// A profile and everything that it inherits, the weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProfileStack {
    /// The directories.
    pub nodes: Vec<Node>,
}

impl ProfileStack {
    /// The profile at `path` below `profiles/` of the repository called `repository`.
    pub(crate) fn read(repositories: &[Repository], repository: &str, path: &str) -> Result<Self> {
        let name = format!("{repository}:{path}");
        let missing = || RepositoryError::NoProfile { profile: name.clone(), named_in: None };
        let repository = repositories.iter().find(|known| known.name == repository).ok_or_else(missing)?;
        let inside = normalized(&Path::new(PROFILES).join(path));
        if repository.kind(&inside)? != Some(FileType::Directory) {
            return Err(missing());
        }
        // By full paths, since a `parent` file may name a profile of another repository.
        let dir = repository.path.join(inside);
        let mut stack = Self { nodes: Vec::new() };
        stack.add(repositories, &name, &dir, 0)?;
        Ok(stack)
    }

    /// Adds the user's own profile, `/etc/portage/profile`.
    pub(crate) fn push_user(&mut self, files: Vec<LooseFile>) {
        let eapi = files.iter().find(|file| file.path == Path::new("eapi")).map(|file| file.text.trim().to_owned());
        if !files.is_empty() {
            self.nodes.push(Node { place: Place::Loose(files), eapi, directories: true });
        }
    }

    /// Adds the profile `dir` after everything that it inherits. `asked` is the name of the whole stack.
    fn add(&mut self, repositories: &[Repository], asked: &str, dir: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(RepositoryError::Circle(dir.to_owned()));
        }
        if self.nodes.len() >= COUNT_LIMIT {
            return Err(RepositoryError::TooMany { profile: asked.to_owned(), most: COUNT_LIMIT });
        }
        let (repository, inside) = holder(repositories, dir)
            .ok_or_else(|| RepositoryError::NoProfile { profile: dir.display().to_string(), named_in: None })?;
        let parents = dir.join("parent");
        for line in repository.text(inside.join("parent"))?.unwrap_or_default().lines() {
            let name = split_comment(line).0.trim();
            if name.is_empty() {
                continue;
            }
            let missing = || RepositoryError::NoProfile { profile: name.to_owned(), named_in: Some(parents.clone()) };
            let parent = match name.split_once(':').filter(|_| repository.allows_colon()) {
                Some(("", path)) => repository.path.join(PROFILES).join(path),
                Some((other, path)) => {
                    let other = repositories.iter().find(|known| known.name == other).ok_or_else(missing)?;
                    other.path.join(PROFILES).join(path)
                }
                None => dir.join(name),
            };
            let parent = normalized(&parent);
            let (other, inside) = holder(repositories, &parent).ok_or_else(missing)?;
            if other.kind(inside)? != Some(FileType::Directory) {
                return Err(missing());
            }
            self.add(repositories, asked, &parent, depth + 1)?;
        }
        self.nodes.push(Node::of(repository, inside)?);
        Ok(())
    }
}

/// The repository of a directory, and the path in it.
fn holder<'a>(repositories: &'a [Repository], dir: &'a Path) -> Option<(&'a Repository, &'a Path)> {
    let holding = repositories.iter().filter_map(|repository| Some((repository, dir.strip_prefix(&repository.path).ok()?)));
    holding.max_by_key(|(repository, _)| repository.path.as_os_str().len())
}

impl Node {
    fn of(repository: &Repository, dir: &Path) -> Result<Self> {
        let eapi = repository.text(dir.join("eapi"))?.map_or_else(|| repository.eapi.clone(), |text| text.trim().to_owned());
        Ok(Self {
            directories: repository.allows_directories(&eapi),
            place: Place::Directory { repository: repository.clone(), dir: dir.to_owned() },
            eapi: Some(eapi),
        })
    }

    /// The settings of a repository for all profiles: the files directly in `profiles/`.
    pub(crate) fn of_repository(repository: &Repository) -> Result<Self> {
        Self::of(repository, Path::new(PROFILES))
    }

    /// As a Portage profile is called.
    #[cfg(test)]
    fn name(&self) -> String {
        match &self.place {
            Place::Directory { repository, dir } => {
                format!("{}:{}", repository.name, dir.strip_prefix(PROFILES).unwrap_or(dir).display())
            }
            Place::Loose(_) => "/etc/portage/profile".to_owned(),
        }
    }

    /// Whether its EAPI is at least this one.
    pub(crate) fn eapi_at_least(&self, number: u32) -> bool {
        self.eapi.as_deref().is_none_or(|eapi| eapi_at_least(eapi, number))
    }

    /// The texts of a file; several if it is a directory.
    fn texts(&self, name: &str) -> Result<Vec<(Source, String)>> {
        match &self.place {
            Place::Directory { repository, dir } => {
                let top = dir.join(name);
                let mut below = FilesBelow { repository, directories: self.directories, top: &top, seen: 0, files: Vec::new() };
                below.add(&top, 0)?;
                let read = below.files.into_iter().map(|path| {
                    let text = repository.text(&path)?.unwrap_or_default();
                    let file = path.strip_prefix(PROFILES).unwrap_or(&path).to_owned();
                    Ok((Source { repository: Some(repository.name.clone()), file, line: 0 }, text))
                });
                read.collect()
            }
            Place::Loose(files) => {
                let of = files.iter().filter(|file| file.path.starts_with(name));
                let source = |file: &LooseFile| Source { repository: None, file: file.told_as.clone(), line: 0 };
                Ok(of.map(|file| (source(file), file.text.clone())).collect())
            }
        }
    }

    /// The words of a file, each with its line.
    fn lines(&self, name: &str) -> Result<Vec<(Source, Vec<String>)>> {
        let mut lines = Vec::new();
        for (source, text) in self.texts(name)? {
            for (number, line) in (1..).zip(text.lines()) {
                let words: Vec<String> = split_comment(line).0.split_whitespace().map(str::to_owned).collect();
                if !words.is_empty() {
                    lines.push((Source { line: number, ..source.clone() }, words));
                }
            }
        }
        Ok(lines)
    }

    /// The flags of `use.mask`, `use.force` and their relatives, which have one on each line.
    pub(crate) fn flags(&self, name: &str) -> Result<Vec<(String, Source)>> {
        let lines = self.lines(name)?.into_iter();
        Ok(lines.filter_map(|(source, words)| words.into_iter().next().map(|word| (word, source))).collect())
    }

    /// The lines of `package.use`, `package.mask` and their relatives. Lines without a valid atom are skipped; Portage also warns about
    /// them.
    pub(crate) fn packages(&self, name: &str) -> Result<Vec<PackageLine>> {
        let is_user = matches!(self.place, Place::Loose(_));
        let mut lines = Vec::new();
        for (source, words) in self.lines(name)? {
            let (negated, atom) = match words[0].strip_prefix('-') {
                Some(atom) => (true, atom),
                // In `packages` a star marks packages of the system set.
                None => (false, words[0].trim_start_matches('*')),
            };
            // A wildcard also begins with a star.
            let atom = if is_user && words[0].starts_with("*/") { words[0].as_str() } else { atom };
            let Ok(atom) = atom.parse::<Atom>() else { continue };
            let rest = words[1..].iter().map(String::as_str);
            let words = if is_user { use_flags::written_out(rest) } else { rest.map(str::to_owned).collect() };
            lines.push(PackageLine { source, negated, atom, words });
        }
        Ok(lines)
    }

    /// The variables of `make.defaults`, by name. `known` gives the values of references; those of this file are added to it.
    pub(crate) fn make_defaults(&self, known: &mut Known) -> Result<Vec<Default>> {
        // Otherwise `USE="${USE} …"` would repeat the words of its parents (`portage/package/ebuild/config.py`).
        known.remove("USE");
        let mut found = BTreeMap::new();
        for (source, text) in self.texts("make.defaults")? {
            let path = source.file.clone();
            let wrong =
                |error: make_conf::SyntaxError| RepositoryError::Syntax { path: path.clone(), line: error.line, source: error };
            for default in evaluate(&text, &source, known).map_err(wrong)? {
                found.insert(default.name.clone(), default);
            }
        }
        Ok(found.into_values().collect())
    }
}

/// The assignments of a text. References get their values from `known`, to which the new values are added. `source` statements are
/// skipped. Values that are too large are an error, as is what Portage would refuse.
pub(crate) fn evaluate(
    text: &str,
    source: &Source,
    known: &mut Known,
) -> std::result::Result<Vec<Default>, make_conf::SyntaxError> {
    let mut all = Vec::new();
    for statement in make_conf::parse(text)? {
        let Statement::Assign(assignment) = statement else { continue };
        let value = known.replaced(&assignment, source)?;
        let (words, text) = (value.words(), value.text.clone());
        known.learn(&assignment.name, value);
        let at = Source { line: assignment.line, ..source.clone() };
        all.push(Default { name: assignment.name, words, value: text, source: at });
    }
    Ok(all)
}

/// A file, or all files of a directory in its place, in Portage's order.
struct FilesBelow<'a> {
    repository: &'a Repository,
    /// Whether it may be a directory.
    directories: bool,
    top: &'a Path,
    seen: usize,
    files: Vec<PathBuf>,
}

impl FilesBelow<'_> {
    fn add(&mut self, path: &Path, depth: usize) -> Result<()> {
        self.seen += 1;
        if self.seen > FILES_LIMIT {
            return Err(RepositoryError::TooManyFiles { path: self.top.to_owned(), most: FILES_LIMIT });
        }
        match self.repository.kind(path)? {
            Some(FileType::Directory) if self.directories => {}
            Some(FileType::RegularFile) => {
                self.files.push(path.to_owned());
                return Ok(());
            }
            _ => return Ok(()),
        }
        if depth > DEPTH_LIMIT {
            return Err(RepositoryError::Circle(path.to_owned()));
        }
        let mut names = self.repository.names(path)?;
        names.retain(|name| !name.starts_with('.') && !name.ends_with('~') && name != "CVS");
        for name in names {
            self.add(&path.join(name), depth + 1)?;
        }
        Ok(())
    }
}

/// Removes `..` lexically.
fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Repository>) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let read = |name: &str| Repository::read(name, &dir.path().join(name)).unwrap();
        let repositories = vec![read("gentoo"), read("over")];
        (dir, repositories)
    }

    const TREE: &[(&str, &str)] = &[
        ("gentoo/metadata/layout.conf", "masters =\nprofile-formats = portage-2\n"),
        ("gentoo/profiles/base/make.defaults", "USE=\"a b\"\nCFLAGS=\"-O2\"\n"),
        ("gentoo/profiles/base/use.mask", "# no\nx # really\n-y\n"),
        ("gentoo/profiles/base/eapi", "8\n"),
        ("gentoo/profiles/arch/make.defaults", "ARCH=\"amd64\"\nCFLAGS=\"${CFLAGS} -m64\"\nUSE=\"${USE} c\n d\"\n"),
        ("gentoo/profiles/arch/parent", "../base\n"),
        ("gentoo/profiles/default/linux/parent", "# both\ngentoo:arch\n:features\n"),
        ("gentoo/profiles/features/package.use/one", "a/b x -y\nnonsense\n"),
        ("gentoo/profiles/features/package.use/two~", "a/b z\n"),
        ("gentoo/profiles/features/package.mask", "-a/b\n>=c/d-2\n"),
        ("over/profiles/child/parent", "../../../gentoo/profiles/default/linux\n"),
        ("over/profiles/child/package.use.mask/x", "a/b q\n"),
        ("gentoo/metadata/md5-cache/a/b-1.2-r1", "EAPI=8\nIUSE=+x y -z\nSLOT=0/2\n"),
        ("gentoo/metadata/md5-cache/a/b-1.10", "EAPI=8\nIUSE=x\n"),
        ("gentoo/metadata/md5-cache/a/b-c-1", "EAPI=8\n"),
        ("gentoo/profiles/categories", "a\n"),
        ("gentoo/a/b/b-9999.ebuild", ""),
        ("over/profiles/lost/parent", "../nowhere\n"),
        ("over/profiles/round/parent", "../round\n"),
    ];

    #[test]
    fn parents_come_first_across_repositories() {
        let (_dir, repositories) = tree(TREE);
        let mut stack = ProfileStack::read(&repositories, "over", "child").unwrap();
        stack.push_user(vec![LooseFile {
            path: "package.use".into(),
            told_as: "portage.global/profile/package.use".into(),
            text: "*/* VIDEO_CARDS: amdgpu -x\n".to_owned(),
        }]);
        let names: Vec<String> = stack.nodes.iter().map(Node::name).collect();
        assert_eq!(
            names,
            ["gentoo:base", "gentoo:arch", "gentoo:features", "gentoo:default/linux", "over:child", "/etc/portage/profile"]
        );
        let mut known = Known::new();
        let defaults: Vec<String> = stack
            .nodes
            .iter()
            .flat_map(|node| node.make_defaults(&mut known).unwrap())
            .map(|default| format!("{} {}={}", default.source, default.name, default.value))
            .collect();
        assert_eq!(
            defaults,
            [
                "gentoo:base/make.defaults:2 CFLAGS=-O2",
                "gentoo:base/make.defaults:1 USE=a b",
                "gentoo:arch/make.defaults:1 ARCH=amd64",
                "gentoo:arch/make.defaults:2 CFLAGS=-O2 -m64",
                "gentoo:arch/make.defaults:3 USE= c  d",
            ]
        );
        let flags = stack.nodes[0].flags("use.mask").unwrap();
        let flags: Vec<String> = flags.iter().map(|(flag, source)| format!("{source} {flag}")).collect();
        assert_eq!(flags, ["gentoo:base/use.mask:2 x", "gentoo:base/use.mask:3 -y"]);
        let told = |node: &Node, file: &str| -> Vec<String> {
            let lines = node.packages(file).unwrap();
            lines.iter().map(|line| format!("{} {} {} {:?}", line.source, line.negated, line.atom, line.words)).collect()
        };
        assert_eq!(told(&stack.nodes[2], "package.use"), [r#"gentoo:features/package.use/one:1 false a/b ["x", "-y"]"#]);
        assert_eq!(
            told(&stack.nodes[2], "package.mask"),
            ["gentoo:features/package.mask:1 true a/b []", "gentoo:features/package.mask:2 false >=c/d-2 []"]
        );
        assert_eq!(told(&stack.nodes[4], "package.use.mask"), [r#"over:child/package.use.mask/x:1 false a/b ["q"]"#]);
        assert_eq!(
            told(&stack.nodes[5], "package.use"),
            [r#"portage.global/profile/package.use:1 false */* ["video_cards_amdgpu", "-video_cards_x"]"#]
        );
    }

    #[test]
    fn a_stack_that_doubles_has_an_end() {
        let (dir, repositories) = tree(TREE);
        for depth in 0..30 {
            let profile = dir.path().join(format!("over/profiles/bomb/{depth}"));
            fs::create_dir_all(&profile).unwrap();
            let parents = if depth < 29 { format!("../{0}\n../{0}\n", depth + 1) } else { String::new() };
            fs::write(profile.join("parent"), parents).unwrap();
        }
        let error = ProfileStack::read(&repositories, "over", "bomb/0").unwrap_err();
        let wanted = "the Portage profile `over:bomb/0` inherits more than 2000 profiles (a profile counts each time it is named)";
        assert_eq!(error.to_string(), wanted);
        // Portage reads a parent again each time that it is named.
        assert_eq!(ProfileStack::read(&repositories, "over", "bomb/21").unwrap().nodes.len(), 511);
    }

    #[test]
    fn a_directory_that_leads_to_itself_has_an_end() {
        let (dir, repositories) = tree(TREE);
        for link in ["x", "y"] {
            std::os::unix::fs::symlink(".", dir.path().join("gentoo/profiles/features/package.use").join(link)).unwrap();
        }
        let stack = ProfileStack::read(&repositories, "gentoo", "features").unwrap();
        let error = stack.nodes[0].packages("package.use").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`profiles/features/package.use` has more than 10000 files and directories, including those \
            behind links"
        );
    }

    #[test]
    fn a_value_that_doubles_has_an_end() {
        let laughs = |times: usize, first: &str| {
            let lines = (1..=times).map(|number| format!("V{number}=\"${{V{0}}} ${{V{0}}}\"\n", number - 1));
            format!("V0=\"{first}\"\n{}", lines.collect::<String>())
        };
        let (dir, repositories) = tree(TREE);
        let defaults = |text: &str| {
            fs::write(dir.path().join("gentoo/profiles/base/make.defaults"), text).unwrap();
            let stack = ProfileStack::read(&repositories, "gentoo", "base").unwrap();
            let mut known = Known::new();
            stack.nodes[0].make_defaults(&mut known).and_then(|_| stack.nodes[0].make_defaults(&mut known))
        };
        let told = |error: &RepositoryError| format!("{error}: {}", std::error::Error::source(error).unwrap());
        let error = defaults(&laughs(40, "xxxxxxxxxxxxxxxx")).unwrap_err();
        assert_eq!(told(&error), "cannot read line 17 of `base/make.defaults`: the value of `V16` has more than 1048576 bytes");
        // Many large ones are as bad, also if none of them is too large.
        let many = (0..100).map(|number| format!("W{number}=\"${{V12}}\"\n")).collect::<Vec<_>>().concat();
        let error = defaults(&(laughs(12, "xxxxxxxxxxxxxxxx") + &many)).unwrap_err();
        let wanted = "cannot read line 72 of `base/make.defaults`: with `W58`, all values of the profiles together have more than \
            4194304 bytes";
        assert_eq!(told(&error), wanted);
        assert!(defaults(&laughs(8, "x")).is_ok());
    }

    #[test]
    fn versions_are_known_with_what_the_cache_says() {
        let (_dir, repositories) = tree(TREE);
        let ebuilds = repositories[0].ebuilds("a", "b").unwrap();
        let versions: Vec<&str> = ebuilds.iter().map(|ebuild| ebuild.version.version.as_str()).collect();
        assert_eq!(versions, ["1.2-r1", "1.10", "9999"]);
        assert_eq!(ebuilds[0].flags().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(ebuilds[0].version.slot.as_deref(), Some("0/2"));
        assert!(ebuilds[2].metadata.is_empty());
        assert_eq!(repositories[0].packages().unwrap(), ["a/b"]);
        assert!(repositories[1].ebuilds("no", "thing").unwrap().is_empty());
    }

    #[test]
    fn says_which_profile_is_missing() {
        let (dir, repositories) = tree(TREE);
        for (repository, path, message) in [
            ("gentoo", "nowhere", "there is no Portage profile `gentoo:nowhere`"),
            ("guru", "x", "there is no Portage profile `guru:x`"),
            ("over", "lost", "there is no Portage profile `../nowhere`, which `DIR/over/profiles/lost/parent` names"),
            ("over", "round", "the Portage profile `DIR/over/profiles/round` inherits from itself"),
        ] {
            let error = ProfileStack::read(&repositories, repository, path).unwrap_err();
            assert_eq!(error.to_string().replace(&dir.path().display().to_string(), "DIR"), message);
        }
        fs::write(dir.path().join("gentoo/profiles/base/make.defaults"), "A=\"\n").unwrap();
        let stack = ProfileStack::read(&repositories, "gentoo", "base").unwrap();
        let error = stack.nodes[0].make_defaults(&mut Known::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read line 1 of `base/make.defaults`");
    }
}
