//! Path patterns of `user.removes` and `keep`: which paths of a root are meant.
//!
//! ```text
//! /usr/share/doc            the directory and everything in it
//! /usr/share/man/??         `*`, `?` and `[a-z]` match within one component
//! /usr/lib/**/*.a           `**` matches any number of components
//! ```

use std::fmt;
use std::str::FromStr;

/// An absolute path inside a root, with wildcards. It means what it matches and everything below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(Vec<String>);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not from the root.
    #[error("`{0}` does not begin with `/`")]
    Relative(String),
    /// `/` itself, or a pattern such as `/**` that means as much.
    #[error("`{0}` means the whole root")]
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
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some(rest) = text.strip_prefix('/') else { return Err(PatternError::Relative(text.to_owned())) };
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control(text.to_owned()));
        }
        let parts: Vec<String> = rest.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.iter().any(|part| part == "." || part == "..") {
            return Err(PatternError::Dots(text.to_owned()));
        }
        if parts.first().is_none_or(|part| part.bytes().all(|b| b == b'*')) && parts.iter().all(|p| p.bytes().all(|b| b == b'*')) {
            return Err(PatternError::Everything(text.to_owned()));
        }
        if parts.iter().any(|part| part.rfind('[').is_some_and(|at| !part[at..].contains(']'))) {
            return Err(PatternError::OpenBracket(text.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| write!(f, "/{part}"))
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
    /// Whether the absolute path `path`, or a directory that it lies in, is meant.
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<Vec<char>> = self.0.iter().map(|part| part.chars().collect()).collect();
        let many = |at: usize| self.0[at] == "**";
        let mut places = Places::begin(parts.len(), many);
        path.split('/').filter(|name| !name.is_empty()).any(|name| {
            places.step(many, |at| component(&parts[at], name));
            places.at_end()
        })
    }

    /// The same for `find -regextype posix-extended -regex`: where to begin, and the expression for whole paths; none where the pattern
    /// is a plain path.
    pub fn search(&self) -> (String, Option<String>) {
        let plain = self.0.iter().take_while(|part| !part.contains(['*', '?', '['])).count();
        let begin = format!("/{}", self.0[..plain].join("/"));
        if plain == self.0.len() {
            return (begin, None);
        }
        let mut expression = String::new();
        for part in &self.0 {
            if part == "**" {
                expression.push_str("(/[^/]+)*");
            } else {
                expression.push('/');
                component_expression(part, &mut expression);
            }
        }
        (begin, Some(expression))
    }
}

fn component_expression(part: &str, expression: &mut String) {
    let mut rest = part;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => {
                let negated = rest.starts_with(['!', '^']);
                let set = if negated { &rest[1..] } else { rest };
                // A `]` that comes first is a member.
                let first = set.chars().next().map_or(0, char::len_utf8);
                let end = set[first..].find(']').map_or(set.len(), |at| first + at);
                expression.push_str(if negated { "[^" } else { "[" });
                expression.push_str(&set[..end]);
                expression.push_str(if negated { "/]" } else { "]" });
                rest = set.get(end + 1..).unwrap_or("");
            }
            '.' | '+' | '(' | ')' | '{' | '}' | '^' | '$' | '|' | '\\' => expression.extend(['\\', c]),
            c => expression.push(c),
        }
    }
}

/// What one place of a component takes of a name.
enum Token<'a> {
    /// Any number of anything.
    Many,
    /// Any one.
    One,
    /// One of a set, as it is between its brackets.
    Set(&'a [char]),
    /// Just this.
    Char(char),
    /// A set that is never closed takes nothing.
    Nothing,
}

impl Token<'_> {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Many | Self::One => true,
            Self::Set(set) => in_brackets(set, c),
            Self::Char(own) => *own == c,
            Self::Nothing => false,
        }
    }
}

fn tokens(pattern: &[char]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        tokens.push(match first {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => match after.iter().skip(1).position(|c| *c == ']') {
                Some(end) => {
                    rest = &after[end + 2..];
                    Token::Set(&after[..=end])
                }
                None => Token::Nothing,
            },
            c => Token::Char(c),
        });
    }
    tokens
}

/// The places of a pattern at which one may stand; the last is behind its end. All are kept at once and nothing is tried twice, so that
/// the time is the product of both lengths, whatever the wildcards.
struct Places(Vec<bool>);

impl Places {
    fn begin(count: usize, many: impl Fn(usize) -> bool) -> Self {
        let mut places = vec![false; count + 1];
        places[0] = true;
        let mut places = Self(places);
        places.skip(many);
        places
    }

    /// What takes any number also takes none.
    fn skip(&mut self, many: impl Fn(usize) -> bool) {
        for at in 0..self.0.len() - 1 {
            self.0[at + 1] |= self.0[at] && many(at);
        }
    }

    fn step(&mut self, many: impl Fn(usize) -> bool, takes: impl Fn(usize) -> bool) {
        let mut next = vec![false; self.0.len()];
        for at in (0..self.0.len() - 1).filter(|at| self.0[*at]) {
            if many(at) {
                next[at] = true;
            } else if takes(at) {
                next[at + 1] = true;
            }
        }
        self.0 = next;
        self.skip(many);
    }

    fn at_end(&self) -> bool {
        self.0.last().is_some_and(|end| *end)
    }
}

fn component(pattern: &[char], name: &str) -> bool {
    let tokens = tokens(pattern);
    let many = |at: usize| matches!(tokens[at], Token::Many);
    let mut places = Places::begin(tokens.len(), many);
    for c in name.chars() {
        places.step(many, |at| tokens[at].takes(c));
    }
    places.at_end()
}

fn in_brackets(set: &[char], c: char) -> bool {
    let (negated, set) = match set.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut at = 0;
    let mut found = false;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= set[at] == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_what_it_matches_and_everything_below() {
        for (pattern, path, expected) in [
            ("/usr/share/doc", "/usr/share/doc", true),
            ("/usr/share/doc", "/usr/share/doc/hello/README", true),
            ("/usr/share/doc", "/usr/share/docs", false),
            ("/usr/share/man/??", "/usr/share/man/de/man1", true),
            ("/usr/share/man/??", "/usr/share/man/man1", false),
            ("/usr/lib/**/*.a", "/usr/lib/x.a", true),
            ("/usr/lib/**/*.a", "/usr/lib/a/b/x.a", true),
            ("/usr/lib/**/*.a", "/usr/lib/a/b/x.so", false),
            ("/var/log/*", "/var/log", false),
            ("/var/log/*", "/var/log/emerge.log", true),
            ("/etc/[a-c]*", "/etc/bash", true),
            ("/etc/[!a-c]*", "/etc/bash", false),
            ("/etc/a b", "/etc/a b", true),
            ("/usr/**", "/usr/share/doc", true),
            ("/usr/a*b*c", "/usr/abxbc", true),
            ("/usr/a*b*c", "/usr/abxbd", false),
            ("/usr/**/a/**/b", "/usr/a/x/a/b", true),
        ] {
            let parsed: PathPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    /// Such a pattern once took a time that doubled with each `**`, and each `*`.
    #[test]
    fn many_wildcards_are_tried_once() {
        let names = "/x".repeat(500);
        let pattern: PathPattern = format!("/x{}/y", "/**/x".repeat(500)).parse().unwrap();
        assert!(!pattern.matches(&names));
        let pattern: PathPattern = format!("/{}y", "*x".repeat(500)).parse().unwrap();
        assert!(!pattern.matches(&format!("/{}", "x".repeat(1000))));
    }

    #[test]
    fn find_looks_for_the_same() {
        for (pattern, begin, expression) in [
            ("/usr/share/doc", "/usr/share/doc", None),
            ("/usr/lib/**/*.a", "/usr/lib", Some("/usr/lib(/[^/]+)*/[^/]*\\.a")),
            ("/**/g++", "/", Some("(/[^/]+)*/g\\+\\+")),
            ("/etc/[!a-c]?[]x]", "/etc", Some("/etc/[^a-c/][^/][]x]")),
        ] {
            let parsed: PathPattern = pattern.parse().unwrap();
            assert_eq!(parsed.search(), (begin.to_owned(), expression.map(str::to_owned)), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_would_mean_too_much() {
        for (pattern, message) in [
            ("usr", "`usr` does not begin with `/`"),
            ("/", "`/` means the whole root"),
            ("/**", "`/**` means the whole root"),
            ("/*", "`/*` means the whole root"),
            ("/usr/../etc", "`/usr/../etc` has a `.` or `..` in it"),
            ("/etc/\t", "`/etc/\\t` has a control character in it"),
            ("/etc/[a", "`/etc/[a` has a `[` that is never closed"),
        ] {
            assert_eq!(pattern.parse::<PathPattern>().unwrap_err().to_string(), message);
        }
    }
}
