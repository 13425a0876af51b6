//! Package atoms, as Portage reads them in its configuration files and on its command line.
//!
//! ```text
//! >=dev-libs/openssl-3.0-2:0/3=::gentoo[-bindist,static-libs]
//! │ │        │       │   │ │ │  │        └ USE dependencies
//! │ │        │       │   │ │ │  └ repository
//! │ │        │       │   │ └─┴ slot, sub-slot, slot operator
//! │ │        │       │   └ number of one build, of a binary package
//! │ │        │       └ version
//! │ └ category/package; `*` stands for any run of characters in configuration files
//! └ operator
//! ```
//!
//! The grammar is that of the Package Manager Specification, chapters 3 and 8, with the wildcards and build numbers that Portage adds
//! in `package.*` files (`portage/dep/__init__.py`: `Atom`, `_get_atom_wildcard_re`). `tests/portage` compares it with Portage's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::cpv::{split_pf, split_revision};

/// How the version of an [`Atom`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`, exactly this version, or with a trailing `*` any version that begins so
    Equal,
    /// `~`, this version with any revision
    AnyRevision,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

impl Operator {
    /// Longest first, so that `<=` is not read as `<`.
    const SPELLINGS: [(&'static str, Self); 6] = [
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("<", Self::Less),
        (">", Self::Greater),
        ("=", Self::Equal),
        ("~", Self::AnyRevision),
    ];

    /// The characters before a package.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::AnyRevision => "~",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
        }
    }
}

/// A package atom. Prints as it was parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    /// Comparison with [`Atom::version`]; both are set or neither.
    pub operator: Option<Operator>,
    /// Category; may contain `*` in files that allow wildcards.
    pub category: String,
    /// Package name without version.
    pub package: String,
    /// Version with revision; a trailing `*` is part of it.
    pub version: Option<String>,
    /// Number of one build of that version, as in `=cat/pkg-1.0-3`: binary packages have them.
    pub build_id: Option<u64>,
    /// Slot, sub-slot and slot operator as written after the colon.
    pub slot: Option<String>,
    /// Repository name.
    pub repository: Option<String>,
    /// USE dependencies as written between the brackets.
    pub use_dependencies: Vec<String>,
}

/// Why a text is not an atom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtomError {
    #[error("the atom is empty")]
    Empty,
    /// `hello` for `app-misc/hello`.
    #[error("`{0}` has no category")]
    NoCategory(String),
    /// A character that is not allowed in categories.
    #[error("`{0}` is no category name")]
    Category(String),
    /// A character that is not allowed in package names, or a name that ends like a version.
    #[error("`{0}` is no package name")]
    Package(String),
    /// An operator, but no version.
    #[error("`{0}` has an operator but no version")]
    NoVersion(String),
    /// A version, but no operator.
    #[error("`{0}` has a version but no operator such as `=` or `>=`")]
    NoOperator(String),
    /// `~` with a revision, `*` after something else than `=`.
    #[error("`{0}` is no version for the operator `{1}`")]
    Version(String, &'static str),
    /// `=cat/pkg-1-2` where no binary package can be meant.
    #[error("`{0}` names one build of a binary package; only `package.*` files can do that")]
    OneBuild(String),
    /// Two versions, of which the second is no build number.
    #[error("`{0}` has two versions, and the second is not a build number")]
    BuildId(String),
    /// A character that is not allowed in slots.
    #[error("`{0}` is no slot")]
    Slot(String),
    /// A character that is not allowed in repository names.
    #[error("`{0}` is no repository name")]
    Repository(String),
    /// A wildcard together with a part that needs a single package.
    #[error("`{0}` has a wildcard, so it cannot have {1}")]
    WildcardWith(String, &'static str),
    /// Brackets that are empty or not closed, or an invalid flag.
    #[error("`{0}` are no USE dependencies")]
    UseDependencies(String),
    /// A blocker, `!cat/pkg`, which is only allowed in ebuilds.
    #[error("`{0}` is a blocker; only ebuilds can have blockers")]
    Blocker(String),
    /// A wildcard where a single package is needed.
    #[error("`{0}` has a wildcard; only `package.*` files can have wildcards")]
    Wildcard(String),
}

impl Atom {
    /// `category/package`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.category, self.package)
    }

    /// Whether category or package contains a `*`.
    pub fn is_wildcard(&self) -> bool {
        self.category.contains('*')
            || self.package.contains('*')
            || self.version.as_deref().is_some_and(|version| version.starts_with('*'))
    }

    fn check_wildcard(&self, text: &str) -> Result<(), AtomError> {
        let name_has_one = self.category.contains('*') || self.package.contains('*');
        let middle_of_version = self.version.as_deref().is_some_and(|version| version.starts_with('*'));
        if self.category.contains("**") || self.package.contains("**") {
            Err(AtomError::WildcardWith(text.to_owned(), "a second one beside it"))
        } else if name_has_one && self.operator.is_some() && !middle_of_version {
            Err(AtomError::WildcardWith(text.to_owned(), "an operator with a version"))
        } else if (name_has_one || middle_of_version) && !self.use_dependencies.is_empty() {
            Err(AtomError::WildcardWith(text.to_owned(), "USE dependencies"))
        } else {
            Ok(())
        }
    }

    /// Reads an atom of a package to install: no wildcard in category or package, and no build number.
    pub fn parse_target(text: &str) -> Result<Self, AtomError> {
        let atom: Self = text.parse()?;
        if atom.build_id.is_some() {
            return Err(AtomError::OneBuild(text.to_owned()));
        }
        if atom.is_wildcard() { Err(AtomError::Wildcard(text.to_owned())) } else { Ok(atom) }
    }
}

impl FromStr for Atom {
    type Err = AtomError;

    fn from_str(text: &str) -> Result<Self, AtomError> {
        if text.is_empty() {
            return Err(AtomError::Empty);
        }
        if text.starts_with('!') {
            return Err(AtomError::Blocker(text.to_owned()));
        }
        let (rest, use_dependencies) = split_use_dependencies(text)?;
        let (rest, repository) = match rest.split_once("::") {
            Some((rest, name)) if is_repository(name) => (rest, Some(name.to_owned())),
            Some((_, name)) => return Err(AtomError::Repository(name.to_owned())),
            None => (rest, None),
        };
        let (rest, slot) = match rest.split_once(':') {
            Some((rest, slot)) if is_slot(slot) => (rest, Some(slot.to_owned())),
            Some((_, slot)) => return Err(AtomError::Slot(slot.to_owned())),
            None => (rest, None),
        };
        let (operator, rest) = Operator::SPELLINGS
            .iter()
            .find_map(|(spelling, operator)| rest.strip_prefix(spelling).map(|rest| (Some(*operator), rest)))
            .unwrap_or((None, rest));
        let (category, rest) = rest.split_once('/').ok_or_else(|| AtomError::NoCategory(text.to_owned()))?;
        if !is_category(category) {
            return Err(AtomError::Category(category.to_owned()));
        }
        let (package, version) = match operator {
            Some(operator) => split_version(rest, text, operator)?,
            None if split_pf(rest).is_some() => return Err(AtomError::NoOperator(text.to_owned())),
            None => (rest, None),
        };
        let (package, version, build_id) = match version {
            Some(version) => split_build_id(package, version, text)?,
            None => (package, None, None),
        };
        if !is_package(package) {
            return Err(AtomError::Package(package.to_owned()));
        }
        let (category, package) = (category.to_owned(), package.to_owned());
        let atom = Self { operator, category, package, version, build_id, slot, repository, use_dependencies };
        atom.check_wildcard(text)?;
        Ok(atom)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operator) = self.operator {
            f.write_str(operator.as_str())?;
        }
        write!(f, "{}/{}", self.category, self.package)?;
        if let Some(version) = &self.version {
            write!(f, "-{version}")?;
        }
        if let Some(build_id) = self.build_id {
            write!(f, "-{build_id}")?;
        }
        if let Some(slot) = &self.slot {
            write!(f, ":{slot}")?;
        }
        if let Some(repository) = &self.repository {
            write!(f, "::{repository}")?;
        }
        if self.use_dependencies.is_empty() { Ok(()) } else { write!(f, "[{}]", self.use_dependencies.join(",")) }
    }
}

fn split_use_dependencies(text: &str) -> Result<(&str, Vec<String>), AtomError> {
    let Some((rest, brackets)) = text.split_once('[') else { return Ok((text, Vec::new())) };
    let wrong = || AtomError::UseDependencies(format!("[{brackets}"));
    let inner = brackets.strip_suffix(']').ok_or_else(wrong)?;
    let flags: Vec<String> = inner.split(',').map(str::to_owned).collect();
    let mut defaults = BTreeMap::new();
    for flag in &flags {
        let (name, default) = use_dependency(flag).ok_or_else(wrong)?;
        // `(+)` and `(-)` say what to assume for a package without the flag, so both cannot hold.
        if *defaults.entry(name).or_insert(default) != default {
            return Err(wrong());
        }
    }
    Ok((rest, flags))
}

/// `flag`, `-flag`, `flag=`, `!flag=`, `flag?`, `!flag?`, each with an optional `(+)` or `(-)` after the flag: the flag and that default.
fn use_dependency(text: &str) -> Option<(&str, Option<&str>)> {
    let rest = text.strip_suffix(['=', '?']);
    let flag = match text.chars().next()? {
        '!' => &rest?[1..],
        '-' if rest.is_some() => return None,
        '-' => &text[1..],
        _ => rest.unwrap_or(text),
    };
    let (name, default) = match flag.find('(') {
        Some(at) => (&flag[..at], Some(&flag[at..])),
        None => (flag, None),
    };
    (is_flag(name) && matches!(default, None | Some("(+)" | "(-)"))).then_some((name, default))
}

/// Whether `text` is a valid name of a USE flag (PMS 3.1.4).
pub(crate) fn is_flag(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '@' | '-'))
}

fn is_category(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '_' | '*'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-' | '*'))
}

fn is_package(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '_' | '*'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '-' | '*'))
        && split_pf(text).is_none()
}

fn is_repository(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn is_slot(text: &str) -> bool {
    if matches!(text, "*" | "=") {
        return true;
    }
    let name = text.strip_suffix('=').unwrap_or(text);
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-'))
    };
    match name.split_once('/') {
        Some((slot, sub)) => part(slot) && part(sub),
        None => part(name),
    }
}

fn split_version<'a>(rest: &'a str, text: &str, operator: Operator) -> Result<(&'a str, Option<&'a str>), AtomError> {
    if operator == Operator::Equal {
        // Portage's `=cat/pkg-*9999*`: any version that contains the middle part.
        if let Some(at) = rest.rfind("-*").filter(|at| is_middle(&rest[at + 1..])) {
            return Ok((&rest[..at], Some(&rest[at + 1..])));
        }
        if let Some((package, version)) = rest.strip_suffix('*').and_then(split_pf) {
            return Ok((package, Some(&rest[package.len() + 1..=package.len() + 1 + version.len()])));
        }
    }
    let (package, version) = match split_pf(rest) {
        Some(split) => split,
        None if rest.ends_with('*') && split_pf(rest.trim_end_matches('*')).is_some() => {
            return Err(AtomError::Version(rest.to_owned(), operator.as_str()));
        }
        None => return Err(AtomError::NoVersion(text.to_owned())),
    };
    if operator == Operator::AnyRevision && split_revision(version).1.is_some() {
        return Err(AtomError::Version(version.to_owned(), operator.as_str()));
    }
    Ok((package, Some(version)))
}

/// `*9999*`
fn is_middle(version: &str) -> bool {
    let middle = version.strip_prefix('*').and_then(|rest| rest.strip_suffix('*'));
    middle.is_some_and(|middle| !middle.is_empty() && middle.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// If the package's name ends in a version, what was taken for the version is a build number.
fn split_build_id<'a>(package: &'a str, version: &str, text: &str) -> Result<(&'a str, Option<String>, Option<u64>), AtomError> {
    let Some((name, real)) = split_pf(package) else { return Ok((package, Some(version.to_owned()), None)) };
    let plain = version.bytes().all(|b| b.is_ascii_digit()) && (version.len() == 1 || !version.starts_with('0'));
    match version.parse() {
        Ok(build_id) if plain => Ok((name, Some(real.to_owned()), Some(build_id))),
        _ => Err(AtomError::BuildId(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        for text in [
            "app-misc/hello",
            ">=dev-libs/openssl-3.0:0/3=::gentoo[-bindist,static-libs]",
            "=sys-devel/gcc-13*",
            "~x11-libs/gtk+-2.24.33",
            "<sys-libs/glibc-2.38-r1",
            "dev-lang/python:3.12",
            "*/*",
            "sys-*/lib*",
            "*/*::guru",
            "=dev-python/*-*9999*",
            "=media-libs/libpng-1.2.59_rc1_p2-r3",
            "=media-libs/libpng-1.2.59-r3-12:0",
            "dev-libs/libfoo:=",
            "dev-libs/libfoo[bar(+)?,!baz=]",
            "virtual/jre-bin",
            "media-fonts/font-adobe-100dpi",
        ] {
            let atom: Atom = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(atom.to_string(), text);
        }
    }

    #[test]
    fn knows_where_the_version_begins() {
        let atom: Atom = "=app-misc/foo-2-bar-1.2-r3".parse().unwrap();
        assert_eq!((atom.package.as_str(), atom.version.as_deref()), ("foo-2-bar", Some("1.2-r3")));
        let atom: Atom = "media-fonts/font-adobe-100dpi".parse().unwrap();
        assert_eq!(atom.package, "font-adobe-100dpi");
    }

    #[test]
    fn says_why_a_text_is_no_atom() {
        for (text, message) in [
            ("", "the atom is empty"),
            ("hello", "`hello` has no category"),
            ("app-misc/hello-2.10", "`app-misc/hello-2.10` has a version but no operator such as `=` or `>=`"),
            (">=app-misc/hello", "`>=app-misc/hello` has an operator but no version"),
            ("~app-misc/hello-2.10-r1", "`2.10-r1` is no version for the operator `~`"),
            (">=app-misc/hello-2*", "`hello-2*` is no version for the operator `>=`"),
            ("app misc/hello", "`app misc` is no category name"),
            ("app-misc/hel$lo", "`hel$lo` is no package name"),
            ("app-misc/hello:", "`` is no slot"),
            ("app-misc/hello::", "`` is no repository name"),
            ("app-misc/hello[", "`[` are no USE dependencies"),
            ("app-misc/hello[a,]", "`[a,]` are no USE dependencies"),
            ("app-misc/hello[a(+),a]", "`[a(+),a]` are no USE dependencies"),
            ("=app-misc/hello-1-02", "`=app-misc/hello-1-02` has two versions, and the second is not a build number"),
            (">=*/hello-1", "`>=*/hello-1` has a wildcard, so it cannot have an operator with a version"),
            ("*/*[x]", "`*/*[x]` has a wildcard, so it cannot have USE dependencies"),
            ("app-**/*", "`app-**/*` has a wildcard, so it cannot have a second one beside it"),
            ("!app-misc/hello", "`!app-misc/hello` is a blocker; only ebuilds can have blockers"),
        ] {
            assert_eq!(text.parse::<Atom>().unwrap_err().to_string(), message, "{text}");
        }
        assert_eq!(
            Atom::parse_target("app-misc/*").unwrap_err().to_string(),
            "`app-misc/*` has a wildcard; only `package.*` files can have wildcards"
        );
        assert_eq!(
            Atom::parse_target("=app-misc/hello-2-1").unwrap_err().to_string(),
            "`=app-misc/hello-2-1` names one build of a binary package; only `package.*` files can do that"
        );
    }
}
