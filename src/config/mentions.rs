//! What the programs of fragments name: `bashrc.d/`, which Portage does not read, is read by the `bashrc` that names it.

use std::collections::BTreeSet;
use std::path::Path;

use super::diagnostic::Findings;
use super::{names, reading};
use crate::portage::package_files::LineFile;

/// Longer files are no programs that somebody has written.
const FILE_LIMIT_BYTES: usize = 256 << 10;
/// What has no names of files in it.
const DATA: [&str; 5] = ["gnupg", "make.profile", "patches", "repos.conf", "savedconfig"];

/// Names of files and directories that programs of fragments have in paths.
#[derive(Debug, Default)]
pub(super) struct Mentions(BTreeSet<String>);

impl Mentions {
    /// Adds those of a fragment: of `bashrc`, `env/`, `make.conf`, and of what is not Portage's at all.
    pub(super) fn add(&mut self, findings: &Findings<'_>, dir: &Path) {
        for entry in reading::entries(&findings.root().join(dir)).unwrap_or_default() {
            if !DATA.contains(&entry.name.as_str()) && LineFile::named(&entry.name).is_none() {
                self.add_below(findings, &dir.join(&entry.name));
            }
        }
    }

    fn add_below(&mut self, findings: &Findings<'_>, path: &Path) {
        // Whatever cannot be read is told where it is read.
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
        for path in lines.flat_map(|line| line.split(|c: char| !is_name(c) && c != '/')).filter(|path| path.contains('/')) {
            self.0.extend(path.split('/').map(str::to_owned));
        }
    }

    /// Whether a path has this name in it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// Whether a directory in the fragment `dir` is one of its own, with a nested name: `cpu.defines/amd/znver4` beside
/// `cpu.defines/amd/make.conf`. There are none in `portage.global`, nor is one that the outer fragment's programs name.
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
             . \"$f\"; done\n[[ -d hooks/late ]] && x=alone\nsource /etc/portage/mine.sh\n",
        );
        for name in ["bashrc.d", "hooks", "late", "mine.sh"] {
            assert!(mentions.has(name), "{name}");
        }
        for name in ["comment", "alone", "bashrc", "done"] {
            assert!(!mentions.has(name), "{name}");
        }
    }
}
