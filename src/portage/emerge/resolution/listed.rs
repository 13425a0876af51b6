//! Emerge's list with all that `--verbose` says of a package.
//!
//! ```text
//! [ebuild     U  ] app-misc/slow-1.0:0/2::gentoo [0.9:0/1::gentoo] USE="nls -X* {-test} (-selinux)" 12 KiB
//! [binary  N     ] app-misc/hello-2.10-1::gentoo  USE="nls" 0 KiB
//! ```

use std::collections::BTreeSet;

use serde::Serialize;

use super::{MAX_WORD_CHARS, Merge};
use crate::progress::Expected;
use crate::terminal_text::sanitize_uncut;

/// A package of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listed {
    /// `category/name-version`
    pub package: String,
    /// The tree that it comes from.
    pub repository: Option<String>,
    /// Whether a binary package is taken.
    pub binary: bool,
    /// What is done: `new`, `new-slot`, `update`, `downgrade`, `rebuild`; `merge` if emerge does not say.
    pub action: &'static str,
    /// The version that it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// USE flags that are on. `PYTHON_TARGETS="python3_13"` is `python_targets_python3_13`.
    #[serde(rename = "use")]
    pub on: BTreeSet<String>,
    pub use_off: BTreeSet<String>,
    /// Those that are new, or otherwise than in what is installed.
    pub use_changed: BTreeSet<String>,
    /// What has to be downloaded, in KiB.
    pub download_kib: u64,
    /// How long it takes, by earlier builds; emerge does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// The packages in the output of `emerge --pretend --verbose`.
pub(crate) fn listed(output: &[u8]) -> Vec<Listed> {
    sanitize_uncut(output).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Listed> {
    let merge = Merge::parse(line)?;
    let (marks, rest) = line.split_once("] ")?;
    let marks = marks.get("[ebuild".len()..)?;
    let action = match () {
        () if marks.contains('N') && marks.contains('S') => "new-slot",
        () if marks.contains('N') => "new",
        () if marks.contains('D') => "downgrade",
        () if marks.contains('U') => "update",
        () if marks.contains('R') => "rebuild",
        () => "merge",
    };
    // After the name, before the flags.
    let before_flags = rest.split("=\"").next().unwrap_or_default();
    let replaced = before_flags.split_once('[').and_then(|(_, versions)| versions.split([']', ',', ':']).next());
    let kib = rest.rsplit_once(" KiB").and_then(|(before, _)| before.rsplit([' ', '"']).next()?.replace(',', "").parse().ok());
    Some(Listed {
        package: merge.source_cpv().to_owned(),
        action,
        replaces: replaced.filter(|word| !word.is_empty()).map(|word| word.chars().take(MAX_WORD_CHARS).collect()),
        use_changed: changed(rest),
        download_kib: kib.unwrap_or(0),
        expected: None,
        repository: merge.repository,
        binary: merge.binary,
        on: merge.flags,
        use_off: merge.off,
    })
}

/// Flags that emerge marks as new (`%`) or changed (`*`).
fn changed(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("=\"") {
        let Some((words, then)) = after.split_once('"') else { break };
        let name = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let prefix = if name == "USE" { String::new() } else { format!("{}_", name.to_lowercase()) };
        let marked = words.split_whitespace().filter(|word| word.contains(['*', '%']));
        let plain = marked.map(|word| word.trim_matches(['(', ')', '{', '}', '*', '%']).trim_start_matches('-'));
        found.extend(plain.map(|word| format!("{prefix}{word}").chars().take(MAX_WORD_CHARS).collect::<String>()));
        rest = then;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &str) -> BTreeSet<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_is_read_with_what_it_replaces_and_what_changes() {
        let lines = "These are the packages that would be merged, in order:\n\
            [ebuild     U  ] app-misc/slow-1.0:0/2::gentoo [0.9:0/1::gentoo] USE=\"nls -X* {-test} (-selinux)\" PYTHON_TARGETS=\"py3_13%*\" 1,212 KiB\n\
            [binary  N     ] app-misc/hello-2.10-1::gentoo  USE=\"nls\" 0 KiB\n\
            [ebuild  NS    ] dev-libs/a-2:2::x [1:1::x] 3 KiB\n\
            [ebuild   R    ] dev-libs/b-2\n\
            [ebuild     UD ] dev-libs/c-1 [2]\n\
            [blocks B      ] app-misc/x (\"app-misc/x\" is blocking app-misc/y)\n\
            Total: 5 packages (1 upgrade), Size of downloads: 1,215 KiB\n";
        let all = listed(lines.as_bytes());
        let first = Listed {
            package: "app-misc/slow-1.0".to_owned(),
            repository: Some("gentoo".to_owned()),
            binary: false,
            action: "update",
            replaces: Some("0.9".to_owned()),
            on: set("nls python_targets_py3_13"),
            use_off: set("X test selinux"),
            use_changed: set("X python_targets_py3_13"),
            download_kib: 1212,
            expected: None,
        };
        assert_eq!(all[0], first);
        let short =
            |listed: &Listed| (listed.package.clone(), listed.action, listed.binary, listed.download_kib, listed.replaces.clone());
        let one = Some("1".to_owned());
        assert_eq!(
            all[1..].iter().map(short).collect::<Vec<_>>(),
            [
                ("app-misc/hello-2.10".to_owned(), "new", true, 0, None),
                ("dev-libs/a-2".to_owned(), "new-slot", false, 3, one),
                ("dev-libs/b-2".to_owned(), "rebuild", false, 0, None),
                ("dev-libs/c-1".to_owned(), "downgrade", false, 0, Some("2".to_owned())),
            ]
        );
    }

    #[test]
    fn hostile_lines_are_bounded_and_safe() {
        let long = "x".repeat(100_000);
        let line = format!(
            "\u{1b}[31m[ebuild  N ] a/{long}-1 [{long}] USE=\"{long}*\" 99999999999999999999999 KiB\n[ebuild\n[ebuild ] \n"
        );
        let all = listed(line.as_bytes());
        assert_eq!(all.len(), 1);
        let most = |word: &str| assert!(word.chars().count() <= MAX_WORD_CHARS);
        most(&all[0].package);
        most(all[0].replaces.as_deref().unwrap());
        all[0].use_changed.iter().for_each(|word| most(word));
        assert_eq!(all[0].download_kib, 0);
    }
}
