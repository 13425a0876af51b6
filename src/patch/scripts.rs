//! Runs scripts in sessions and reads their output.

use crate::patch::work_set::{ATTRIBUTES, CONFIG};
use crate::patch::{PatchError, Result};
use crate::session::Work;
use crate::session::readable_files::write_public;
use crate::session::root::HOOKS_DIR;
use crate::terminal_text::sanitize_line;

pub(crate) const SOURCE: &str = "source.sh";
pub(crate) const UNPACK: &str = "unpack.sh";
pub(crate) const DIFF: &str = "diff.sh";
pub(crate) const REFRESH: &str = "refresh.sh";
pub(crate) const SHELL: &str = "shell.sh";
/// A patch of the host, as scripts get it.
pub(crate) const GIVEN: &str = "given.patch";

/// The prefix of lines for us.
const MARK: &str = "@gentoomuch ";
/// Longer lines are cut.
const MAX_LINE_CHARS: usize = 4000;

/// Puts all scripts beside a session's hooks.
pub(crate) fn place(work: &Work<'_>) -> Result<()> {
    for (name, text) in [
        ("git.sh", include_str!("git.sh")),
        (SOURCE, include_str!("source.sh")),
        (UNPACK, include_str!("unpack.sh")),
        (DIFF, include_str!("diff.sh")),
        (REFRESH, include_str!("refresh.sh")),
        (SHELL, include_str!("shell.sh")),
        ("git.config", CONFIG),
        ("git.attributes", ATTRIBUTES),
    ] {
        write_public(&work.root.hooks.join(name), text.as_bytes(), 0o755)?;
    }
    Ok(())
}

/// Where a script is in the session.
pub(crate) fn path(name: &str) -> String {
    format!("{HOOKS_DIR}/{name}")
}

/// The lines of a script that are for us: words and their values, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told(Vec<(String, String)>);

impl Told {
    pub(crate) fn read(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
        Self(
            lines.map(|line| line.split_once(' ').unwrap_or((line, ""))).map(|(word, value)| (word.into(), value.into())).collect(),
        )
    }

    pub(crate) fn all(&self, word: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == word).map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn one(&self, word: &str) -> std::result::Result<&str, PatchError> {
        let found = self.0.iter().find(|(known, _)| known == word);
        found.map(|(_, value)| value.as_str()).ok_or(PatchError::Answer(None))
    }

    pub(crate) fn has(&self, word: &str, value: &str) -> bool {
        self.0.iter().any(|(known, said)| known == word && said == value)
    }
}

/// The lines of a file that a script wrote, safe to print.
pub(crate) fn lines(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| sanitize_line(line, MAX_LINE_CHARS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_for_us_are_read() {
        let told = Told::read(
            "gcc -c\n@gentoomuch nested a b/.git\n@gentoomuch files 12\n@gentoomuch nested c/.git\n@gentoomuch merge clean\n",
        );
        assert_eq!(told.all("nested"), ["a b/.git", "c/.git"]);
        assert_eq!(told.one("files").unwrap(), "12");
        assert!(told.one("subdir").is_err() && told.has("merge", "clean") && !told.has("merge", "conflicts"));
    }
}
