//! Path patterns, as in `user.removes`, `keep` and the list of what artifacts leave out. No other code interprets a pattern. Atoms, whose
//! only wildcard is `*`, are matched here, too (`stars`).
//!
//! ```text
//! /usr/share/doc            the directory and everything in it
//! /usr/share/man/??         `*`, `?` and `[a-z]`, `[!a-z]` match within one component
//! /usr/lib/**/*.a           `**` matches any number of components, also none
//! ```
//!
//! There are two ways to match a pattern: [`PathPattern::covers`], and the expression of [`PathPattern::search`] where `find` looks for
//! it in a session. Both are made from the same tokens. In a name that is not UTF-8 each invalid byte is matched as one character.

use std::fmt;
use std::str::FromStr;

/// An absolute path inside a root, with wildcards. It covers what it matches and everything below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(Vec<Part>);

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    text: String,
    means: Means,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Means {
    /// `**`
    AnyNumber,
    /// Exactly this name.
    Name,
    /// A name that matches these.
    Tokens(Vec<Token>),
}

/// One element of a component's pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    /// `*`
    Many,
    /// `?`
    One,
    /// `[a-z]`, or `[!a-z]`.
    Set { negated: bool, ranges: Vec<(char, char)> },
    /// This character.
    Char(char),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with `/`.
    #[error("`{0}` does not begin with `/`")]
    Relative(String),
    /// `/` itself, or a pattern such as `/**` that means as much.
    #[error("`{0}` matches the whole root")]
    Everything(String),
    /// `..` or `.`
    #[error("`{0}` has a `.` or `..` in it")]
    Dots(String),
    /// Control characters.
    #[error("`{}` has a control character in it", .0.escape_debug())]
    Control(String),
    /// `[` without `]`.
    #[error("`{0}` has a `[` that is never closed")]
    OpenBracket(String),
    /// `[z-a]`
    #[error("the range `{range}` of `{pattern}` is empty")]
    EmptyRange { pattern: String, range: String },
    /// `[à-ü]`: which characters are in the range depends on the locale.
    #[error("`{pattern}` has the range `{range}`: use only ASCII characters, since other ranges depend on the locale")]
    Range { pattern: String, range: String },
    /// `[[:alpha:]]` and the like.
    #[error("`{0}` has a class of characters in it, such as `[:alpha:]`: write a range, such as `a-z`")]
    Class(String),
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some(rest) = text.strip_prefix('/') else { return Err(PatternError::Relative(text.to_owned())) };
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control(text.to_owned()));
        }
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(PatternError::Dots(text.to_owned()));
        }
        if parts.iter().all(|part| part.bytes().all(|b| b == b'*')) {
            return Err(PatternError::Everything(text.to_owned()));
        }
        parts.into_iter().map(|part| Part::parse(part, text)).collect::<Result<_, _>>().map(Self)
    }
}

impl Part {
    fn parse(part: &str, pattern: &str) -> Result<Self, PatternError> {
        let means = match part {
            "**" => Means::AnyNumber,
            _ if !part.contains(['*', '?', '[']) => Means::Name,
            _ => Means::Tokens(tokens(part, pattern)?),
        };
        Ok(Self { text: part.to_owned(), means })
    }

    fn fits(&self, name: &[u8]) -> bool {
        match &self.means {
            Means::AnyNumber => true,
            Means::Name => self.text.as_bytes() == name,
            Means::Tokens(tokens) => fits(tokens, &units(name)),
        }
    }
}

fn tokens(part: &str, pattern: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = part.chars().collect::<Vec<_>>().into_iter().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => {
                let negated = rest.next_if(|c| matches!(c, '!' | '^')).is_some();
                let mut members = Vec::new();
                // A `]` that comes first is a member.
                while let Some(member) = rest.next_if(|c| *c != ']' || members.is_empty()) {
                    members.push(member);
                }
                if rest.next().is_none() || members.is_empty() {
                    return Err(PatternError::OpenBracket(pattern.to_owned()));
                }
                Token::Set { negated, ranges: ranges(&members, pattern)? }
            }
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// The ranges between brackets.
fn ranges(members: &[char], pattern: &str) -> Result<Vec<(char, char)>, PatternError> {
    if members.windows(2).any(|two| two[0] == '[' && matches!(two[1], ':' | '.' | '=')) {
        return Err(PatternError::Class(pattern.to_owned()));
    }
    let mut ranges = Vec::new();
    let mut rest = members;
    while let [first, after @ ..] = rest {
        let (last, after) = match after {
            ['-', last, after @ ..] => (last, after),
            _ => (first, after),
        };
        let (pattern, range) = (pattern.to_owned(), format!("{first}-{last}"));
        if first > last {
            return Err(PatternError::EmptyRange { pattern, range });
        }
        if first != last && !last.is_ascii() {
            return Err(PatternError::Range { pattern, range });
        }
        ranges.push((*first, *last));
        rest = after;
    }
    Ok(ranges)
}

/// The characters of a name as numbers; invalid bytes become numbers beyond all characters.
fn units(name: &[u8]) -> Vec<u32> {
    const NO_CHARACTER: u32 = 0x11_0000;
    let mut units = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        units.extend(chunk.valid().chars().map(u32::from));
        units.extend(chunk.invalid().iter().map(|byte| NO_CHARACTER + u32::from(*byte)));
    }
    units
}

impl Token {
    fn takes(&self, unit: u32) -> bool {
        match self {
            Self::Many | Self::One => true,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(first, last)| (u32::from(*first)..=u32::from(*last)).contains(&unit)) != *negated
            }
            Self::Char(own) => u32::from(*own) == unit,
        }
    }
}

/// Whether `text` matches `pattern`, whose only wildcard is `*`.
pub(crate) fn stars(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == text;
    }
    let tokens: Vec<Token> = pattern.chars().map(|c| if c == '*' { Token::Many } else { Token::Char(c) }).collect();
    fits(&tokens, &units(text.as_bytes()))
}

/// On a mismatch it goes back to the last `*` only. Earlier ones need no second try: they matched as little as possible.
fn fits(tokens: &[Token], name: &[u32]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut many: Option<(usize, usize)> = None;
    loop {
        match tokens.get(at) {
            Some(Token::Many) => {
                at += 1;
                many = Some((at, taken));
            }
            Some(token) if name.get(taken).is_some_and(|unit| token.takes(*unit)) => {
                at += 1;
                taken += 1;
            }
            None if taken == name.len() => return true,
            _ => match many {
                Some((after, from)) if from < name.len() => {
                    many = Some((after, from + 1));
                    (at, taken) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// The components of a path.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| write!(f, "/{}", part.text))
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

impl PathPattern {
    /// Whether the pattern matches `path`, given from the root, or a directory above it.
    pub fn covers(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        // Most patterns fail at their first name.
        if let Some(Part { text, means: Means::Name }) = self.0.first()
            && components(path).next() != Some(text.as_bytes())
        {
            return false;
        }
        let names: Vec<&[u8]> = components(path).collect();
        let (mut at, mut taken) = (0, 0);
        let mut any: Option<(usize, usize)> = None;
        loop {
            match self.0.get(at) {
                // The pattern ends above the path.
                None => return true,
                Some(Part { means: Means::AnyNumber, .. }) => {
                    at += 1;
                    any = Some((at, taken));
                }
                Some(part) if names.get(taken).is_some_and(|name| part.fits(name)) => {
                    at += 1;
                    taken += 1;
                }
                _ => match any {
                    Some((after, from)) if from < names.len() => {
                        any = Some((after, from + 1));
                        (at, taken) = (after, from + 1);
                    }
                    _ => return false,
                },
            }
        }
    }

    /// Whether the pattern could match something below `path`.
    pub fn leads_below(&self, path: impl AsRef<[u8]>) -> bool {
        let mut parts = self.0.iter();
        for name in components(path.as_ref()) {
            match parts.next() {
                Some(Part { means: Means::AnyNumber, .. }) => return true,
                Some(part) if part.fits(name) => {}
                _ => return false,
            }
        }
        parts.next().is_some()
    }

    /// The pattern for `find -regextype posix-extended -regex`: where to start, and the expression for whole paths; `None` where the
    /// pattern is a plain path.
    pub fn search(&self) -> (String, Option<String>) {
        let plain: Vec<&str> = self.0.iter().take_while(|part| part.means == Means::Name).map(|part| part.text.as_str()).collect();
        let begin = format!("/{}", plain.join("/"));
        if plain.len() == self.0.len() {
            return (begin, None);
        }
        let mut expression = String::new();
        for part in &self.0 {
            match &part.means {
                Means::AnyNumber => expression.push_str("(/[^/]+)*"),
                Means::Name => {
                    expression.push('/');
                    part.text.chars().for_each(|c| push_char(c, &mut expression));
                }
                Means::Tokens(tokens) => {
                    expression.push('/');
                    for token in tokens {
                        push_token(token, &mut expression);
                    }
                }
            }
        }
        (begin, Some(expression))
    }
}

fn push_char(c: char, expression: &mut String) {
    if matches!(c, '.' | '+' | '(' | ')' | '{' | '}' | '[' | '^' | '$' | '|' | '\\' | '*' | '?') {
        expression.push('\\');
    }
    expression.push(c);
}

fn push_token(token: &Token, expression: &mut String) {
    match token {
        Token::Many => expression.push_str("[^/]*"),
        Token::One => expression.push_str("[^/]"),
        Token::Char(c) => push_char(*c, expression),
        Token::Set { negated, ranges } => push_set(*negated, ranges, expression),
    }
}

/// There are no escapes in a bracket expression: special characters are put where they have no special meaning.
fn push_set(negated: bool, ranges: &[(char, char)], expression: &mut String) {
    let is_special = |c: char| matches!(c, ']' | '[' | '^' | '-');
    let mut special: Vec<char> = Vec::new();
    let mut plain = String::new();
    for (mut first, mut last) in ranges.iter().copied() {
        while is_special(first) && first < last {
            special.push(first);
            first = char::from_u32(u32::from(first) + 1).unwrap_or(last);
        }
        while is_special(last) && first < last {
            special.push(last);
            last = char::from_u32(u32::from(last) - 1).unwrap_or(first);
        }
        match (is_special(first), first == last) {
            (true, _) => special.push(first),
            (false, true) => plain.push(first),
            (false, false) => plain.extend([first, '-', last]),
        }
    }
    let has = |c: char| special.contains(&c);
    if !negated && plain.is_empty() && special.iter().all(|c| *c == '^') {
        expression.push_str("\\^");
        return;
    }
    expression.push_str(if negated { "[^" } else { "[" });
    expression.extend(has(']').then_some(']'));
    expression.push_str(&plain);
    expression.extend(negated.then_some('/'));
    expression.extend(['^', '[', '-'].into_iter().filter(|c| has(*c)));
    expression.push(']');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn means_what_it_matches_and_everything_below() {
        for (text, path, expected) in [
            ("/usr/share/doc", "/usr/share/doc", true),
            ("/usr/share/doc", "/usr/share/doc/hello/README", true),
            ("/usr/share/doc", "/usr/share/docs", false),
            ("/usr/share/doc", "./usr/share/doc/", true),
            ("/usr/share/man/??", "/usr/share/man/de/man1", true),
            ("/usr/share/man/??", "/usr/share/man/man1", false),
            ("/usr/lib/**/*.a", "/usr/lib/x.a", true),
            ("/usr/lib/**/*.a", "/usr/lib/a/b/x.a", true),
            ("/usr/lib/**/*.a", "/usr/lib/a/b/x.so", false),
            ("/var/log/*", "/var/log", false),
            ("/var/log/*", "/var/log/emerge.log", true),
            ("/var/log/**", "/var/log", true),
            ("/etc/[a-c]*", "/etc/bash", true),
            ("/etc/[!a-c]*", "/etc/bash", false),
            ("/etc/a b", "/etc/a b", true),
            ("/usr/**", "/usr/share/doc", true),
            ("/usr/a*b*c", "/usr/abxbc", true),
            ("/usr/a*b*c", "/usr/abxbd", false),
            ("/usr/**/a/**/b", "/usr/a/x/a/b", true),
            // A `**` that does not stand alone is two `*`.
            ("/a/x**", "/a/xyz", true),
            ("/a/x**", "/a/x/y", true),
            ("/a/x**", "/a/y/x", false),
            ("/a/**x/b", "/a/yx/b", true),
            ("/a/**x/b", "/a/c/yx/b", false),
            ("/a/***", "/a/b", true),
            ("/a/***", "/a", false),
            ("/s/?", "/s/ü", true),
            ("/s/[äö]", "/s/ö", true),
            ("/s/[]]", "/s/]", true),
            ("/s/[a-]", "/s/-", true),
            ("/s/[!]]", "/s/]", false),
            ("/s/[^a]", "/s/b", true),
            ("/s/*.py[co]", "/s/x.py.pyc", true),
        ] {
            let parsed = pattern(text);
            assert_eq!(parsed.covers(path), expected, "{text} {path}");
            assert_eq!(parsed.to_string(), text);
        }
        assert!(pattern("/s/a??b").covers(b"/s/a\xff\xfeb"), "bytes that are no character");
        assert!(!pattern("/s/a?b").covers(b"/s/a\xff\xfeb"));
        assert!(pattern("/s/[!a]").covers(b"/s/\xff"));
    }

    #[test]
    fn what_lies_above_is_known() {
        for (text, path, expected) in [
            ("/usr/src/linux/.config", "/usr/src", true),
            ("/usr/src/linux/.config", "/usr/src/linux", true),
            ("/usr/src/linux/.config", "/usr/src/linux/.config", false),
            ("/usr/src/linux/.config", "/usr/lib", false),
            ("/usr/*/x", "/usr/lib", true),
            ("/usr/**/x", "/usr/a/b/c", true),
            ("/usr/**/x", "/lib", false),
        ] {
            assert_eq!(pattern(text).leads_below(path), expected, "{text} {path}");
        }
    }

    /// Such a pattern once took a time that doubled with each `**`, and each `*`.
    #[test]
    fn many_wildcards_are_tried_once() {
        let names = "/x".repeat(500);
        let parsed = pattern(&format!("/x{}/y", "/**/x".repeat(500)));
        assert!(!parsed.covers(&names));
        let parsed = pattern(&format!("/{}y", "*x".repeat(500)));
        assert!(!parsed.covers(format!("/{}", "x".repeat(1000))));
    }

    #[test]
    fn find_looks_for_the_same() {
        for (text, begin, expression) in [
            ("/usr/share/doc", "/usr/share/doc", None),
            ("/usr/lib/**/*.a", "/usr/lib", Some("/usr/lib(/[^/]+)*/[^/]*\\.a")),
            ("/**/g++", "/", Some("(/[^/]+)*/g\\+\\+")),
            ("/etc/[!a-c]?[]x]", "/etc", Some("/etc/[^a-c/][^/][]x]")),
            ("/etc/[^]a[-]", "/etc", Some("/etc/[^]a/[-]")),
            ("/e/[+-]", "/e", Some("/e/[+-]")),
            ("/e/[[-^]", "/e", Some("/e/[]\\^[]")),
        ] {
            assert_eq!(pattern(text).search(), (begin.to_owned(), expression.map(str::to_owned)), "{text}");
        }
    }

    type Paths = BTreeSet<String>;

    fn shown(path: &[u8]) -> String {
        String::from_utf8_lossy(path).into_owned()
    }

    /// What the host's find lists, without what lies below something that it lists: that is removed with it.
    fn found(parsed: &PathPattern) -> Paths {
        let (begin, expression) = parsed.search();
        let mut find = Command::new("find");
        // As in a session, but for what is removed there.
        find.env("LC_ALL", "C.UTF-8").args(["-H", &begin, "-xdev"]);
        if let Some(expression) = &expression {
            find.args(["-regextype", "posix-extended", "-regex", expression]);
        }
        let output = find.arg("-print0").output().unwrap();
        let all: Paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(shown).collect();
        let is_below = |path: &String| all.iter().any(|other| path.starts_with(&format!("{other}/")));
        all.iter().filter(|path| !is_below(path)).cloned().collect()
    }

    /// Those of `all` that are meant themselves, not only as what lies in a directory.
    fn meant(parsed: &PathPattern, all: &[PathBuf]) -> Paths {
        let covers = |path: &Path| parsed.covers(path.as_os_str().as_bytes());
        let itself = all.iter().filter(|path| covers(path) && !path.parent().is_some_and(covers));
        itself.map(|path| shown(path.as_os_str().as_bytes())).collect()
    }

    /// Names and patterns made of all that could be understood in two ways: the host's find takes what we take.
    #[test]
    fn find_takes_what_we_take() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().to_str().unwrap();
        let names = [
            "a", "b", "z", "ab", "x.y", "xzy", "-", "]", "[", "^", "!", "a]", "\\", "\\a", "ü", "üü", "a+", "aa", "(a)", "a|b",
            "$", "a€",
        ];
        let mut all = vec![dir.path().to_owned(), dir.path().join("d")];
        for outer in names {
            let below = dir.path().join("d").join(outer);
            fs::create_dir_all(&below).unwrap();
            for inner in names {
                fs::write(below.join(inner), "").unwrap();
                all.push(below.join(inner));
            }
            all.push(below);
        }
        let parts = [
            "a", "?", "??", "*", "a*", "*a", "[ab]", "[!ab]", "[^ab]", "[]]", "[!]]", "[]a-]", "[a-]", "[[]", "[[-^]", "[!^]",
            "[^^]", "[+--]", "[!-a]", "x.y", "*.*", "\\*", "[\\]", "[ü]", "[!ü]", "[aü]", "a+", "(a)", "a|b", "$", "**", "x**",
            "**b", "?*?",
        ];
        let mut compared = 0;
        for first in ["a", "*", "**", "[!a]", "x**"] {
            for second in parts {
                let Ok(parsed) = format!("{top}/d/{first}/{second}").parse::<PathPattern>() else { continue };
                if parsed.search().1.is_some() {
                    assert_eq!(found(&parsed), meant(&parsed, &all), "{first} {second}: {:?}", parsed.search().1);
                    compared += 1;
                }
            }
        }
        assert!(compared > 150, "{compared}");
    }

    #[test]
    fn refuses_what_would_mean_too_much() {
        for (text, message) in [
            ("usr", "`usr` does not begin with `/`"),
            ("/", "`/` matches the whole root"),
            ("/**", "`/**` matches the whole root"),
            ("/*", "`/*` matches the whole root"),
            ("/usr/../etc", "`/usr/../etc` has a `.` or `..` in it"),
            ("/etc/\t", "`/etc/\\t` has a control character in it"),
            ("/etc/[a", "`/etc/[a` has a `[` that is never closed"),
            ("/etc/[]", "`/etc/[]` has a `[` that is never closed"),
            ("/etc/[a/b]", "`/etc/[a/b]` has a `[` that is never closed"),
            ("/etc/[à-ü]", "`/etc/[à-ü]` has the range `à-ü`: use only ASCII characters, since other ranges depend on the locale"),
            ("/etc/[z-a]", "the range `z-a` of `/etc/[z-a]` is empty"),
            (
                "/etc/[[:alpha:]]",
                "`/etc/[[:alpha:]]` has a class of characters in it, such as `[:alpha:]`: write a range, such as `a-z`",
            ),
        ] {
            assert_eq!(text.parse::<PathPattern>().unwrap_err().to_string(), message);
        }
    }
}
