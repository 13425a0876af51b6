//! Package atoms, as Portage reads them in its configuration files and on its command line.
//!
//! ```text
//! >=dev-libs/openssl-3.0:0/3=::gentoo[-bindist,static-libs]
//! │ │        │       │   │ │  │        └ USE dependencies
//! │ │        │       │   │ │  └ repository
//! │ │        │       │   └─┴ slot, sub-slot, slot operator
//! │ │        │       └ version
//! │ └ category/package; `*` stands for any run of characters in configuration files
//! └ operator
//! ```
//!
//! The grammar is that of the Package Manager Specification, chapters 3 and 8, with the wildcards that Portage adds in
//! `package.*` files (`portage/dep/__init__.py`, `_get_atom_wildcard_re`).

use std::fmt;
use std::str::FromStr;

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

    /// As written before a package.
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

/// One package atom. Printing it gives back what was parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    /// Comparison with [`Atom::version`]; both are there or neither.
    pub operator: Option<Operator>,
    /// Category, with `*` allowed where wildcards are.
    pub category: String,
    /// Package name without version.
    pub package: String,
    /// Version with revision; a trailing `*` is part of it.
    pub version: Option<String>,
    /// Slot, sub-slot and slot operator as written after the colon.
    pub slot: Option<String>,
    /// Repository name.
    pub repository: Option<String>,
    /// USE dependencies as written between the brackets.
    pub use_dependencies: Vec<String>,
}

/// Why a text is no atom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtomError {
    /// Nothing there.
    #[error("the atom is empty")]
    Empty,
    /// `hello` for `app-misc/hello`.
    #[error("`{0}` has no category")]
    NoCategory(String),
    /// A character that category names may not have.
    #[error("`{0}` is no category name")]
    Category(String),
    /// A character that package names may not have, or a name that ends like a version.
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
    /// A slot with characters that slots do not have.
    #[error("`{0}` is no slot")]
    Slot(String),
    /// A repository name with characters that those do not have.
    #[error("`{0}` is no repository name")]
    Repository(String),
    /// Brackets not closed, or empty, or with a strange flag.
    #[error("`{0}` are no USE dependencies")]
    UseDependencies(String),
    /// `!cat/pkg`, which only ebuilds may say.
    #[error("`{0}` is a blocker, which only ebuilds may write")]
    Blocker(String),
    /// A wildcard where only one package can be meant.
    #[error("`{0}` has a wildcard, which only `package.*` files may have")]
    Wildcard(String),
}

impl Atom {
    /// `category/package`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.category, self.package)
    }

    /// Whether category or package has a `*`, so that it may mean many packages.
    pub fn is_wildcard(&self) -> bool {
        self.category.contains('*')
            || self.package.contains('*')
            || self.version.as_deref().is_some_and(|version| version.starts_with('*'))
    }

    /// Reads an atom that names something to install: no wildcard in category or package.
    pub fn parse_target(text: &str) -> Result<Self, AtomError> {
        let atom: Self = text.parse()?;
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
            None if split_at_version(rest).is_some() => return Err(AtomError::NoOperator(text.to_owned())),
            None => (rest.to_owned(), None),
        };
        if !is_package(&package) {
            return Err(AtomError::Package(package));
        }
        Ok(Self { operator, category: category.to_owned(), package, version, slot, repository, use_dependencies })
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
    if flags.iter().all(|flag| is_use_dependency(flag)) { Ok((rest, flags)) } else { Err(wrong()) }
}

/// `flag`, `-flag`, `flag=`, `!flag=`, `flag?`, `!flag?`, each with an optional `(+)` or `(-)` after the flag.
fn is_use_dependency(text: &str) -> bool {
    let text = text.strip_suffix(['=', '?']).unwrap_or(text);
    let text = text.strip_prefix(['-', '!']).unwrap_or(text);
    let flag = text.strip_suffix("(+)").or_else(|| text.strip_suffix("(-)")).unwrap_or(text);
    is_flag(flag)
}

/// Whether `text` can be the name of a USE flag (PMS 3.1.4).
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
        && split_at_version(text).is_none()
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

fn split_version(rest: &str, text: &str, operator: Operator) -> Result<(String, Option<String>), AtomError> {
    if operator == Operator::Equal {
        // Portage's `=cat/pkg-*9999*`, any version that contains the middle.
        if let Some((package, version)) = rest.rsplit_once("-*").filter(|(_, version)| version.ends_with('*')) {
            return Ok((package.to_owned(), Some(format!("*{version}"))));
        }
        if let Some((package, version)) = rest.strip_suffix('*').and_then(split_at_version) {
            return Ok((package.to_owned(), Some(format!("{version}*"))));
        }
    }
    let (package, version) = match split_at_version(rest) {
        Some(split) => split,
        None if rest.ends_with('*') && split_at_version(rest.trim_end_matches('*')).is_some() => {
            return Err(AtomError::Version(rest.to_owned(), operator.as_str()));
        }
        None => return Err(AtomError::NoVersion(text.to_owned())),
    };
    if operator == Operator::AnyRevision && split_revision(version).1.is_some() {
        return Err(AtomError::Version(version.to_owned(), operator.as_str()));
    }
    Ok((package.to_owned(), Some(version.to_owned())))
}

/// Splits `name-1.2-r3` into name and version, if it ends in a version.
pub(crate) fn split_at_version(text: &str) -> Option<(&str, &str)> {
    let mut candidates = text.rmatch_indices('-').map(|(at, _)| at).take(2);
    // The last hyphen may begin a revision, which belongs to the version before it.
    let last = candidates.next()?;
    if split_revision(&text[last..]).1.is_some() {
        let at = candidates.next()?;
        return is_version(&text[at + 1..]).then(|| (&text[..at], &text[at + 1..]));
    }
    is_version(&text[last + 1..]).then(|| (&text[..last], &text[last + 1..]))
}

fn split_revision(version: &str) -> (&str, Option<&str>) {
    match version.rsplit_once("-r") {
        Some((rest, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => (rest, Some(number)),
        _ => (version, None),
    }
}

/// PMS 3.2: numbers with dots, an optional letter, any number of `_suffixN`, an optional revision.
pub(crate) fn is_version(text: &str) -> bool {
    let (version, _) = split_revision(text);
    let mut parts = version.split('_');
    let numbers = parts.next().unwrap_or_default();
    let numbers = numbers.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(numbers);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').all(digits)
        && parts.all(|suffix| {
            ["alpha", "beta", "pre", "rc", "p"]
                .iter()
                .any(|word| suffix.strip_prefix(word).is_some_and(|number| number.is_empty() || digits(number)))
        })
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
            ("!app-misc/hello", "`!app-misc/hello` is a blocker, which only ebuilds may write"),
        ] {
            assert_eq!(text.parse::<Atom>().unwrap_err().to_string(), message, "{text}");
        }
        assert_eq!(
            Atom::parse_target("app-misc/*").unwrap_err().to_string(),
            "`app-misc/*` has a wildcard, which only `package.*` files may have"
        );
    }
}
