//! What is left out of an archive, by [patterns](crate::patterns).
//!
//! * A pattern leaves out what it matches **and everything below**: `/usr/src` leaves out the directory; `/usr/src/*` leaves out what is
//!   in it, and the directory stays.
//! * `keep` patterns bring back what they match and everything below, and the directories that lead there.
//! * A file that is left out does not exist in the archive: `/etc/machine-id` is then made at the first boot.
//! * If the first name of a file with hard links is left out, the next one becomes the file.

use super::error::Result;
use crate::patterns::PathPattern;

/// Patterns for what is left out, and for what is kept all the same.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    leave: Vec<PathPattern>,
    keep: Vec<PathPattern>,
}

/// What to do with one path of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    Leave,
    /// The directory itself is left out, but something below it is kept, so the directory is written.
    Lead,
}

impl Excludes {
    /// Parses `patterns` and `keep`.
    pub fn new<P: AsRef<str>, K: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
        keep: impl IntoIterator<Item = K>,
    ) -> Result<Self> {
        Ok(Self {
            leave: patterns.into_iter().map(|pattern| pattern.as_ref().parse()).collect::<std::result::Result<_, _>>()?,
            keep: keep.into_iter().map(|pattern| pattern.as_ref().parse()).collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Whether `path` (relative to the root, with or without leading slash) is left out.
    #[cfg(test)]
    pub(crate) fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.verdict(path.as_ref()) == Verdict::Leave
    }

    pub(super) fn verdict(&self, path: &[u8]) -> Verdict {
        if self.leave.is_empty() {
            return Verdict::Take;
        }
        if !self.leave.iter().any(|pattern| pattern.covers(path)) || self.keep.iter().any(|pattern| pattern.covers(path)) {
            return Verdict::Take;
        }
        if self.keep.iter().any(|pattern| pattern.leads_below(path)) { Verdict::Lead } else { Verdict::Leave }
    }
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
    fn bad_patterns_are_named() {
        let error = Excludes::new(["/a[b"], [""; 0]).unwrap_err();
        assert_eq!(error.to_string(), "`/a[b` has a `[` that is never closed");
        assert_eq!(Excludes::new(["/a"], ["b"]).unwrap_err().to_string(), "`b` does not begin with `/`");
        assert!(Excludes::new(["/a"], ["/a/x**"]).is_ok());
    }
}
