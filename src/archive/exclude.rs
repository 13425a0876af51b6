//! What is left out of an archive.
//!
//! A pattern is a path from the root of the tree, `/var/tmp/*`. Components match one by one: `*` any run of characters, `?` one,
//! `[a-z]` and `[!a-z]` a set, `**` any number of whole components. A leading dot is nothing special.
//!
//! * A pattern leaves out what it matches **and everything below**: `/usr/src` leaves out the directory, `/usr/src/*` only what
//!   is in it, so that the directory itself stays.
//! * `keep` patterns bring back what they match and everything below, and the directories that lead there.
//! * Files are left out as if they did not exist: `/etc/machine-id` is then made at first boot.
//! * A hard link to something left out becomes the file itself.

use super::error::{Error, Result};

/// Patterns for what stays out, and for what is kept nevertheless.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    leave: Vec<Pattern>,
    keep: Vec<Pattern>,
}

/// What to do with one path of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    Leave,
    /// A directory that is left out itself but for something below that is kept.
    Lead,
}

impl Excludes {
    /// Parses `patterns` and `keep`.
    pub fn new<P: AsRef<str>, K: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
        keep: impl IntoIterator<Item = K>,
    ) -> Result<Self> {
        Ok(Self {
            leave: patterns.into_iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<_>>()?,
            keep: keep.into_iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<_>>()?,
        })
    }

    /// Whether `path` (relative to the root, with or without leading slash) is left out.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.verdict(path.as_ref()) == Verdict::Leave
    }

    pub(super) fn verdict(&self, path: &[u8]) -> Verdict {
        if self.leave.is_empty() {
            return Verdict::Take;
        }
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if !self.leave.iter().any(|pattern| pattern.covers(&parts)) || self.keep.iter().any(|pattern| pattern.covers(&parts)) {
            return Verdict::Take;
        }
        if self.keep.iter().any(|pattern| pattern.leads(&pattern.parts, &parts)) { Verdict::Lead } else { Verdict::Leave }
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    parts: Vec<Vec<u8>>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let fail = |what| Err(Error::Pattern { pattern: text.to_owned(), what });
        let Some(rest) = text.strip_prefix('/') else { return fail("it does not start with a slash") };
        let parts: Vec<Vec<u8>> = rest.split('/').filter(|p| !p.is_empty()).map(|p| p.as_bytes().to_vec()).collect();
        if parts.is_empty() {
            return fail("it names the root");
        }
        if parts.iter().any(|p| p == b"." || p == b"..") {
            return fail("it has a `.` or `..` component");
        }
        if parts.iter().any(|p| p != b"**" && p.windows(2).any(|w| w == b"**")) {
            return fail("`**` must stand alone between slashes");
        }
        if parts.iter().any(|p| !sets_are_closed(p)) {
            return fail("a `[` is not closed");
        }
        Ok(Self { parts })
    }

    /// Whether the path or a directory above it matches.
    fn covers(&self, path: &[&[u8]]) -> bool {
        (1..=path.len()).any(|n| matches_parts(&self.parts, &path[..n]))
    }

    /// Whether something below the path could match.
    #[expect(clippy::self_only_used_in_recursion, reason = "reads as a question to the pattern")]
    fn leads(&self, parts: &[Vec<u8>], path: &[&[u8]]) -> bool {
        match (parts.first(), path.first()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(part), _) if part == b"**" => true,
            (Some(part), Some(name)) => matches_name(part, name) && self.leads(&parts[1..], &path[1..]),
        }
    }
}

fn matches_parts(parts: &[Vec<u8>], path: &[&[u8]]) -> bool {
    match (parts.first(), path.first()) {
        (None, None) => true,
        (Some(part), _) if part == b"**" => {
            matches_parts(&parts[1..], path) || (!path.is_empty() && matches_parts(parts, &path[1..]))
        }
        (Some(part), Some(name)) => matches_name(part, name) && matches_parts(&parts[1..], &path[1..]),
        _ => false,
    }
}

/// Matches one component, going back to the last `*` on a mismatch.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(&pattern[p..], name[n]).and_then(|(len, inside)| inside.then_some(len)),
            Some(byte) if *byte == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(len), _) => {
                p += len;
                n += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Length of the set that `pattern` starts with, and whether `byte` is in it.
fn set(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = 1 + usize::from(negated);
    // A `]` right at the start is a member.
    let close = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let members = &pattern[start..close];
    let mut inside = false;
    let mut i = 0;
    while i < members.len() {
        if members.get(i + 1) == Some(&b'-') && i + 2 < members.len() {
            inside |= (members[i]..=members[i + 2]).contains(&byte);
            i += 3;
        } else {
            inside |= members[i] == byte;
            i += 1;
        }
    }
    Some((close + 1, inside != negated))
}

fn sets_are_closed(part: &[u8]) -> bool {
    let mut i = 0;
    while i < part.len() {
        if part[i] == b'[' {
            let Some((len, _)) = set(&part[i..], 0) else { return false };
            i += len;
        } else {
            i += 1;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_from_the_root() {
        let excludes = Excludes::new(
            [
                "/var/tmp/*",
                "/usr/src",
                "/etc/ssh/ssh_host_*_key*",
                "/root/.*_history",
                "/**/__pycache__",
                "/opt/[a-c]?",
                "/x/[!0-9]",
            ],
            ["/usr/src/linux/.config", "/var/tmp/keep*"],
        )
        .unwrap();
        for (path, out) in [
            ("var/tmp", false),
            ("./var/tmp/", false),
            ("/var/tmp/x", true),
            ("var/tmp/x/y/z", true),
            ("var/tmp/keepsake/y", false),
            ("usr/src", false),
            ("usr/src/linux", false),
            ("usr/src/linux/.config", false),
            ("usr/src/linux/Makefile", true),
            ("usr/src/linux-6.1", true),
            ("usr/srcs", false),
            ("etc/ssh/ssh_host_ed25519_key.pub", true),
            ("etc/ssh/sshd_config", false),
            ("root/.bash_history", true),
            ("home/root/.bash_history", false),
            ("__pycache__", true),
            ("usr/lib/python3/__pycache__/a.pyc", true),
            ("opt/bz", true),
            ("opt/dz", false),
            ("x/a", true),
            ("x/7", false),
            ("", false),
        ] {
            assert_eq!(excludes.matches(path), out, "{path}");
        }
        assert_eq!(excludes.verdict(b"usr/src"), Verdict::Lead);
    }

    #[test]
    fn stars_backtrack() {
        for (pattern, name, yes) in [
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "abcb", false),
            ("*", "", true),
            ("**x", "", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("*.py[co]", "x.py.pyc", true),
        ] {
            assert_eq!(matches_name(pattern.as_bytes(), name.as_bytes()), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        for (pattern, words) in [
            ("var/tmp", "invalid exclusion `var/tmp`: it does not start with a slash"),
            ("/", "invalid exclusion `/`: it names the root"),
            ("/a/../b", "invalid exclusion `/a/../b`: it has a `.` or `..` component"),
            ("/a[b", "invalid exclusion `/a[b`: a `[` is not closed"),
            ("/a**/b", "invalid exclusion `/a**/b`: `**` must stand alone between slashes"),
        ] {
            assert_eq!(Excludes::new([pattern], [""; 0]).unwrap_err().to_string(), words);
        }
    }
}
