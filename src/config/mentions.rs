//! Which files the programs of fragments name: Portage does not read `bashrc.d/`, but a `bashrc` that names it does.

use std::collections::BTreeSet;
use std::path::Path;

use super::diagnostic::Findings;
use super::{names, reading};
use crate::portage::package_files::LineFile;

/// Longer files are no hand-written programs.
const FILE_LIMIT_BYTES: usize = 256 << 10;
/// Words without file names in them.
const DATA: [&str; 5] = ["gnupg", "make.profile", "patches", "repos.conf", "savedconfig"];

/// Names of files and directories in paths of fragments' programs.
#[derive(Debug, Default)]
pub(super) struct Mentions(BTreeSet<String>);

impl Mentions {
    /// Adds those of a fragment: from `bashrc`, `env/`, `make.conf`, and files that are not Portage's.
    pub(super) fn add(&mut self, findings: &Findings<'_>, dir: &Path) {
        for entry in reading::entries(&findings.root().join(dir)).unwrap_or_default() {
            if !DATA.contains(&entry.name.as_str()) && LineFile::named(&entry.name).is_none() {
                self.add_below(findings, &dir.join(&entry.name));
            }
        }
    }

    fn add_below(&mut self, findings: &Findings<'_>, path: &Path) {
        // Unreadable files are reported where they are read.
        let mut quiet = Findings::new(findings.root());
        for file in reading::files_below(&mut quiet, path) {
            if let Some((bytes, _)) = reading::bytes(&mut quiet, &file).filter(|(bytes, _)| bytes.len() <= FILE_LIMIT_BYTES) {
                self.add_text(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
        let is_name = |c: char| c.is_alphanumeric() || "._+-".contains(c);
        self.0.extend(lines.clone().flat_map(sourced).map(str::to_owned));
        for path in lines.flat_map(|line| line.split(|c: char| !is_name(c) && c != '/')).filter(|path| path.contains('/')) {
            self.0.extend(path.split('/').map(str::to_owned));
        }
    }

    /// Whether a path contains this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// The files that the statements `source FILE` and `. FILE` of a line read. Portage looks for one beside `make.conf`, also without a slash.
fn sourced(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split_once(" #").map_or(line, |(code, _)| code);
    let words: Vec<&str> = code.split_whitespace().collect();
    let pairs: Vec<&str> = words.windows(2).filter(|pair| matches!(pair[0], "source" | ".")).map(|pair| pair[1]).collect();
    pairs.into_iter().map(|file| file.trim_matches(['"', '\'', ';']))
}

/// Whether a directory in the fragment `dir` is a fragment with a nested name: `cpu.defines/amd/znver4` beside
/// `cpu.defines/amd/make.conf`. `portage.global` has none, and a directory that the outer fragment's programs name is not one.
pub(super) fn is_nested_fragment(findings: &Findings<'_>, dir: &Path, name: &str) -> bool {
    if dir.starts_with("portage.global") || !names::is_fragment(&findings.root().join(dir).join(name)) {
        return false;
    }
    let mut mentions = Mentions::default();
    for program in ["bashrc", "make.conf"] {
        if findings.root().join(dir).join(program).exists() {
            mentions.add_below(findings, &dir.join(program));
        }
    }
    !mentions.has(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths() {
        let mut mentions = Mentions::default();
        mentions.add_text(
            "# not /etc/portage/comment\nfor f in \"${PORTAGE_CONFIGROOT}/etc/portage/bashrc.d/\"*.sh; do\n\
             . \"$f\"; done\n[[ -d hooks/late ]] && x=alone\nsource /etc/portage/mine.sh\nsource beside.conf # why\n\
             source \"quoted.conf\"\n[ -f alone ] && . ./here\n",
        );
        for name in ["bashrc.d", "hooks", "late", "mine.sh", "beside.conf", "quoted.conf", "here"] {
            assert!(mentions.has(name), "{name}");
        }
        for name in ["comment", "alone", "bashrc", "done", "why"] {
            assert!(!mentions.has(name), "{name}");
        }
    }
}
