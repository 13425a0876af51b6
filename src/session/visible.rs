//! Packages of which Portage would take no version: what `visible.py`, which other scripts import, says of them.

use std::path::Path;

use crate::session::Result;
use crate::session::work::write_public;
use crate::terminal_text::sanitize_line;

const SCRIPT: &str = include_str!("visible.py");
const SCRIPT_NAME: &str = "visible.py";
/// Longer words than Portage says here.
const MAX_WORD_CHARS: usize = 200;

/// Why no version of a package can be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotVisible {
    /// No tree has it.
    #[error("there is no package `{atom}`")]
    NoPackage {
        /// As given.
        atom: String,
        /// Names that could have been meant.
        near: Vec<String>,
    },
    /// There are versions, and none may be installed.
    #[error("no version of `{atom}` may be installed: {} is masked ({})", versions.last().map_or("it", String::as_str), reasons.join(", "))]
    Masked {
        /// As given.
        atom: String,
        /// Those that there are, newest last.
        versions: Vec<String>,
        /// Why the newest is masked, in Portage's words.
        reasons: Vec<String>,
    },
}

impl NotVisible {
    /// What the script says, which is hostile.
    pub(crate) fn told(atom: &str, versions: Vec<String>, reasons: Vec<String>, near: Vec<String>) -> Self {
        let atom = atom.to_owned();
        if versions.is_empty() {
            Self::NoPackage { atom, near: printable(near) }
        } else {
            Self::Masked { atom, versions: printable(versions), reasons: printable(reasons) }
        }
    }
}

fn printable(words: Vec<String>) -> Vec<String> {
    words.into_iter().map(|word| sanitize_line(word.as_bytes(), MAX_WORD_CHARS)).collect()
}

/// Puts the script beside those that import it.
pub(crate) fn place(hooks: &Path) -> Result<()> {
    write_public(&hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_says_is_safe_to_print() {
        let words = |text: &str| vec![text.to_owned()];
        let masked = NotVisible::told("a/b", words("a/b-1"), words("~amd64\u{1b}[2J keyword"), Vec::new()).to_string();
        assert!(masked.contains("a/b-1 is masked (~amd64") && !masked.contains('\u{1b}'), "{masked:?}");
        let error = NotVisible::told("a/c", Vec::new(), Vec::new(), words("a/d\u{7}"));
        let NotVisible::NoPackage { atom, near } = error else { panic!("{error}") };
        assert!(atom == "a/c" && !near[0].contains('\u{7}'), "{near:?}");
    }
}
