//! The merge list of emerge, as `--pretend --verbose` prints it.
//!
//! ```text
//! [ebuild  N     ] app-misc/slow-1.0:0/2::gentoo [0.9::gentoo] USE="nls -X {-test} (-selinux)" PYTHON_TARGETS="python3_13*" 12 KiB
//! ```

use std::collections::BTreeSet;

use super::MAX_WORD_CHARS;
use crate::portage::cpv::split_pf;

/// A package that would be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// `category/name-version`; of a binary package with the number of its build.
    pub cpv: String,
    /// The tree that it comes from.
    pub repository: Option<String>,
    /// Whether a binary package would be taken.
    pub binary: bool,
    /// The flags of its `IUSE` that are on. `PYTHON_TARGETS="python3_13"` is `python_targets_python3_13`.
    pub flags: BTreeSet<String>,
    pub off: BTreeSet<String>,
}

impl Merge {
    /// `category/name-version`. A binary package's name has the number of its build at the end: `app-misc/hello-2.10-r1-3`.
    pub fn source_cpv(&self) -> &str {
        match self.cpv.rsplit_once('-') {
            Some((rest, build)) if self.binary && build.bytes().all(|byte| byte.is_ascii_digit()) && split_pf(rest).is_some() => {
                rest
            }
            _ => &self.cpv,
        }
    }

    /// Reads a line of the list.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let binary = line.starts_with("[binary ");
        let rest = (binary || line.starts_with("[ebuild ")).then(|| line.split_once("] "))??.1;
        let word = rest.split_whitespace().next()?;
        let repository = word.split_once("::").map(|(_, name)| name.chars().take(MAX_WORD_CHARS).collect());
        let (flags, off) = flags(rest);
        Some(Self { cpv: super::cpv(word), repository, binary, flags, off })
    }
}

/// The flags in `NAME="a -b {c} (-d)" …`: those that are on, and those that are off.
fn flags(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut on, mut off) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("=\"") {
        let Some((words, then)) = after.split_once('"') else { break };
        let name = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let prefix = if name == "USE" { String::new() } else { format!("{}_", name.to_lowercase()) };
        // Emerge marks forced, masked, changed and new flags with these characters.
        let plain = words.split_whitespace().map(|word| word.trim_matches(['(', ')', '{', '}', '*', '%']));
        for word in plain.filter(|word| !word.is_empty()) {
            let (list, name) = word.strip_prefix('-').map_or((&mut on, word), |name| (&mut off, name));
            list.insert(format!("{prefix}{name}").chars().take(MAX_WORD_CHARS).collect());
        }
        rest = then;
    }
    (on, off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_build_is_no_part_of_the_version() {
        for (shown, binary, cpv) in [
            ("app-misc/hello-2.10-r1-3", true, "app-misc/hello-2.10-r1"),
            ("app-misc/hello-2.10-3", true, "app-misc/hello-2.10"),
            ("app-misc/hello-2", true, "app-misc/hello-2"),
            ("app-misc/hello-2.10", true, "app-misc/hello-2.10"),
            ("app-misc/hello-2.10-r1", false, "app-misc/hello-2.10-r1"),
            ("app-misc/a-2-bar-1", true, "app-misc/a-2-bar-1"),
        ] {
            let merge = Merge { cpv: shown.to_owned(), repository: None, binary, flags: BTreeSet::new(), off: BTreeSet::new() };
            assert_eq!(merge.source_cpv(), cpv);
        }
    }

    #[test]
    fn a_line_tells_the_package_its_tree_and_its_flags() {
        let line = "[ebuild   R    ~] dev-libs/a-1.0-r1:0/2::over [0.9:0::gentoo] USE=\"nls* -X {test%} (selinux) (-static) %\" PYTHON_TARGETS=\"python3_13 -python3_12 (-pypy3)\" 12 KiB";
        let merge = Merge::parse(line).unwrap();
        assert_eq!((merge.cpv.as_str(), merge.repository.as_deref(), merge.binary), ("dev-libs/a-1.0-r1", Some("over"), false));
        assert_eq!(
            merge.flags.iter().map(String::as_str).collect::<Vec<_>>(),
            ["nls", "python_targets_python3_13", "selinux", "test"]
        );
        let off: Vec<&str> = merge.off.iter().map(String::as_str).collect();
        assert_eq!(off, ["X", "python_targets_pypy3", "python_targets_python3_12", "static"]);
        let binary = Merge::parse("[binary  N     ] app-misc/hello-2.10-1::gentoo  USE=\"-nls").unwrap();
        assert_eq!((binary.cpv.as_str(), binary.binary, binary.flags.len()), ("app-misc/hello-2.10-1", true, 0));
        for other in ["[blocks B      ] <a/b-1", "[uninstall     ] a/b-1", "Total: 1 package", "[ebuild", "[ebuild  N  ] "] {
            assert_eq!(Merge::parse(other), None, "{other}");
        }
    }
}
