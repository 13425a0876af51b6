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
    /// Packages of other hosts only until the profile is updated for the first time.
    pub first_hosts: Option<Place>,
}

/// The words of a file: those that change something, and the default at the end.
const BINPKGS: (&str, &[&str]) = ("binpkgs", &["own", "shared"]);
const BINHOST: (&str, &[&str]) = ("binhost", &["none", "first", "any"]);

/// The files of a stage3 definition and of `env/`.
pub(crate) const FILES: [&str; 2] = [BINPKGS.0, BINHOST.0];

/// The definition's value, or that of `env/`.
pub(crate) fn read(findings: &mut Findings<'_>, dir: &Path) -> BinaryPackages {
    let mut chosen = |setting| word(findings, dir, setting).or_else(|| word(findings, Path::new("env"), setting));
    let (own, hosts) = (chosen(BINPKGS), chosen(BINHOST));
    let place = |said: &Option<Located<String>>, word: &str| said.as_ref().filter(|said| said.value == word).map(Located::place);
    BinaryPackages { own: place(&own, "own"), no_hosts: place(&hosts, "none"), first_hosts: place(&hosts, "first") }
}

/// Reports errors in those of `env/`.
pub(crate) fn check(findings: &mut Findings<'_>) {
    for setting in [BINPKGS, BINHOST] {
        word(findings, Path::new("env"), setting);
    }
}

/// The word in a file, if it has one. Any other word than the known ones is reported, and means the default.
fn word(findings: &mut Findings<'_>, dir: &Path, (name, known): (&str, &[&str])) -> Option<Located<String>> {
    let entry = reading::single(findings, &dir.join(name))?;
    let word = entry.value.as_str();
    if !known.contains(&word) {
        let quoted: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
        let words = match quoted.as_slice() {
            [one, other] => format!("neither {one} nor {other}"),
            all => format!("none of {}", all.join(", ")),
        };
        findings.error(&entry.place(), format!("`{}` is {words}", word.escape_debug()));
    }
    Some(entry)
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
        let (read, said) = read_from(&[("env/binhost", "first\n")]);
        assert_eq!((read.no_hosts, read.first_hosts, said), (None, place("env/binhost"), Vec::new()));
        assert_eq!(read_from(&[("env/binhost", "first\n"), (host, "any\n")]).0.first_hosts, None);
    }

    #[test]
    fn any_other_word_is_an_error_at_its_line_once() {
        let (_, said) = read_from(&[("env/binpkgs", "private\n"), ("stage3.defines/x/binhost", "# a comment\nno\n")]);
        assert_eq!(
            said,
            [
                "env/binpkgs:1: `private` is neither `own` nor `shared`",
                "stage3.defines/x/binhost:2: `no` is none of `none`, `first`, `any`",
            ]
        );
    }
}
