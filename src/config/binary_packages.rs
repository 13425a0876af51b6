//! `binpkgs` and `binhost` of a stage3 definition, or of `env/` for all of them: which binary packages a stage takes.

use std::path::Path;

use super::diagnostic::{Findings, Located, Place};
use super::reading;

/// Which binary packages a stage may use, with the place that says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BinaryPackages {
    /// Only packages built for this definition.
    pub own: Option<Place>,
    /// No packages of other hosts.
    pub no_hosts: Option<Place>,
}

/// The two words of a file: the one that changes something, and the default.
const BINPKGS: (&str, [&str; 2]) = ("binpkgs", ["own", "shared"]);
const BINHOST: (&str, [&str; 2]) = ("binhost", ["none", "any"]);

/// The files of a stage3 definition and of `env/`.
pub(crate) const FILES: [&str; 2] = [BINPKGS.0, BINHOST.0];

/// The definition's value, or that of `env/`.
pub(crate) fn read(findings: &mut Findings<'_>, dir: &Path) -> BinaryPackages {
    let mut chosen = |setting| {
        let said = word(findings, dir, setting).or_else(|| word(findings, Path::new("env"), setting))?;
        said.value.then(|| said.place())
    };
    BinaryPackages { own: chosen(BINPKGS), no_hosts: chosen(BINHOST) }
}

/// Reports errors in those of `env/`.
pub(crate) fn check(findings: &mut Findings<'_>) {
    for setting in [BINPKGS, BINHOST] {
        word(findings, Path::new("env"), setting);
    }
}

/// Whether a file contains its first word; `false` without a file. Any other word than the two is reported, and means the default.
fn word(findings: &mut Findings<'_>, dir: &Path, (name, [set, unset]): (&str, [&str; 2])) -> Option<Located<bool>> {
    let entry = reading::single(findings, &dir.join(name))?;
    let word = entry.value.as_str();
    if ![set, unset].contains(&word) {
        findings.error(&entry.place(), format!("`{}` is neither `{set}` nor `{unset}`", word.escape_debug()));
    }
    Some(entry.with(word == set))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a definition gets from these files, and what is wrong with them.
    fn read_from(files: &[(&str, &str)]) -> (BinaryPackages, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut findings = Findings::new(dir.path());
        let read = read(&mut findings, Path::new("stage3.defines/x"));
        check(&mut findings);
        let root = format!("{}/", dir.path().display());
        (read, findings.into_all().iter().map(|finding| finding.to_string().replace(&root, "")).collect())
    }

    #[test]
    fn a_definition_says_it_or_env_does() {
        let place = |file: &str| Some(Place::new(Path::new(file), 1));
        let (own, host) = ("stage3.defines/x/binpkgs", "stage3.defines/x/binhost");
        for (files, expected) in [
            (&[][..], (None, None)),
            (&[("env/binpkgs", "own\n"), ("env/binhost", "none\n")], (place("env/binpkgs"), place("env/binhost"))),
            (&[(own, "own\n"), (host, "none\n")], (place(own), place(host))),
            (&[("env/binpkgs", "own"), (own, "shared"), ("env/binhost", "none"), (host, "any")], (None, None)),
            (&[("env/binpkgs", "shared"), (own, "own")], (place(own), None)),
        ] {
            let (read, said) = read_from(files);
            assert_eq!((read.own, read.no_hosts, said), (expected.0, expected.1, Vec::new()), "{files:?}");
        }
    }

    #[test]
    fn any_other_word_is_an_error_at_its_line_once() {
        let (_, said) = read_from(&[("env/binpkgs", "private\n"), ("stage3.defines/x/binhost", "# a comment\nno\n")]);
        assert_eq!(
            said,
            [
                "env/binpkgs:1: `private` is neither `own` nor `shared`",
                "stage3.defines/x/binhost:2: `no` is neither `none` nor `any`",
            ]
        );
    }
}
