//! Checks variables that decide where Portage works, how it fetches and how emerge is run.
//!
//! ```text
//! make.conf                   the merged value of each variable
//! env/FILE                    of files that `package.env` names: for one package
//! profile/…/make.defaults     the user's own Portage profile
//! ```
//!
//! [`variables`] has the table of names. A value that sessions replace gets a note, one without effect a warning, and one that would
//! build another system an error.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::diagnostic::{Findings, Place};
use super::fragment::Copied;
use super::merged::{Merged, expanded};
use super::repos_conf::{REPOS_DIR, Repositories};
use crate::did_you_mean::{nearest, question};
use crate::portage::emerge::default_opts;
use crate::portage::emerge::default_opts::{DefaultOpts, Fault};
use crate::portage::make_conf::{Piece, Statement};
use crate::portage::variables;
use crate::portage::variables::Class;

const EMERGE_OPTS: &str = "EMERGE_DEFAULT_OPTS";
/// The values of `make.globals`, which sessions use as well: writing them out changes nothing.
const USUAL: [(&str, &str); 6] = [
    ("BINPKG_COMPRESS", "zstd"),
    ("BINPKG_FORMAT", "gpkg"),
    ("DISTDIR", "/var/cache/distfiles"),
    ("PKGDIR", "/var/cache/binpkgs"),
    ("PORTAGE_LOGDIR", "/var/log/portage"),
    ("PORTAGE_TMPDIR", "/var/tmp"),
];

/// What somebody sets who wants a compiler cache.
const LASTING: [&str; 2] = ["CCACHE_DIR", "CCACHE_SIZE"];

/// The file of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// The merged `make.conf`.
    MakeConf,
    /// A file for single packages.
    EnvFile,
    /// A Portage profile of the user's own.
    MakeDefaults,
}

/// Checks the merged variables and the copied files, and parses the options of emerge.
pub(super) fn check(
    findings: &mut Findings<'_>,
    variables: &[Merged],
    repositories: &Repositories,
    copied: &BTreeMap<PathBuf, Copied>,
) -> DefaultOpts {
    for merged in variables {
        let value: String = expanded(variables, &merged.name).iter().map(|(text, _)| text.as_str()).collect();
        check_one(findings, repositories, Within::MakeConf, &merged.name, &value, &merged.place);
    }
    for copied in copied.iter().filter(|(target, _)| is_make_defaults(target)).map(|(_, copied)| copied) {
        check_file(findings, repositories, Within::MakeDefaults, copied);
    }
    emerge_opts(findings, variables)
}

/// Checks `profile/make.defaults`, and those of the profiles that it inherits.
fn is_make_defaults(target: &Path) -> bool {
    target.starts_with("profile") && target.components().any(|part| part == Component::Normal("make.defaults".as_ref()))
}

/// Checks the assignments of a copied file. Syntax errors are reported elsewhere.
pub(super) fn check_file(findings: &mut Findings<'_>, repositories: &Repositories, within: Within, copied: &Copied) {
    let text = String::from_utf8_lossy(&copied.bytes);
    for statement in crate::portage::make_conf::parse(&text).unwrap_or_default() {
        let Statement::Assign(assignment) = statement else { continue };
        let value: String = assignment.value.iter().map(written).collect();
        check_one(findings, repositories, within, &assignment.name, &value, &Place::new(&copied.source, assignment.line));
    }
}

fn written(piece: &Piece) -> String {
    match piece {
        Piece::Text { text, .. } => text.clone(),
        Piece::Reference { name, .. } => format!("${{{name}}}"),
    }
}

fn check_one(findings: &mut Findings<'_>, repositories: &Repositories, within: Within, name: &str, value: &str, place: &Place) {
    let value = value.trim();
    match variables::class_of(name) {
        Some(Class::Root) if !is_top(value) => findings.error_with_hint(
            place,
            format!("`{name}` is `{value}`, but a stage is always built for `/`"),
            "remove it: a stage4 is a root of its own, which you can export or unpack to any place",
        ),
        Some(Class::Repositories) if !is_known_location(repositories, name, value) => findings.warning(
            place,
            format!("`{name}` has no effect: `repos.conf` names the ebuild repositories"),
            "write a section of `repos.conf` for each, with `location`, `sync-type` and `sync-uri`",
        ),
        Some(Class::Place) if !is_usual(name, value) => findings.note_with_hint(
            place,
            format!("`{name}` has an effect in the finished system, but not while gentoomuch builds"),
            "sessions have their own directories for this, and share the contents",
        ),
        Some(Class::Session) if name == "MAKEOPTS" && within == Within::EnvFile => findings.note_with_hint(
            place,
            "`MAKEOPTS` of single packages has an effect on what is no make, such as ninja",
            "a line `ATOM JOBS` in `env/jobs` has an effect on both",
        ),
        Some(Class::Session) if !is_usual(name, value) && (within == Within::MakeConf || name.starts_with("BINPKG_")) => {
            let hint = if name == "MAKEOPTS" { "`env/jobs` says how many jobs run" } else { "sessions use their own value" };
            findings.note_with_hint(
                place,
                format!(
                    "`{name}` has an effect in the finished system, but not while gentoomuch \
                builds"
                ),
                hint,
            );
        }
        Some(Class::Resources) if LASTING.contains(&name) && !value.is_empty() => findings.note_with_hint(
            place,
            format!("`{name}` has an effect in the finished system, but makes no compiler cache that lasts from build to build"),
            "`env/ccache` does: it has the size",
        ),
        Some(Class::Portage) => {
            findings.warning(
                place,
                format!("`{name}` has no effect: Portage sets it itself"),
                "remove it, or give it another name",
            );
        }
        Some(Class::FetchCommands) => findings.warning(
            place,
            format!("`{name}` has no effect: gentoomuch fetches what a session needs"),
            "name mirrors in `GENTOO_MIRRORS` or in the file `mirrors`",
        ),
        // Portage does not verify packages of a host in this variable, so sessions empty it.
        Some(Class::OldHosts) if !value.is_empty() => {
            findings.warning(place, format!("`{name}` has no effect"), "name hosts in `binrepos.conf`");
        }
        Some(Class::EmergeOptions) if within != Within::MakeConf => {
            findings.error_with_hint(place, format!("`{name}` is read in `make.conf` only"), "move it to `make.conf`");
        }
        _ => {}
    }
}

/// The values of `ROOT` and `EPREFIX` that move nothing.
fn is_top(value: &str) -> bool {
    value.chars().all(|c| c == '/' || c == '.') && !value.contains("..")
}

fn is_usual(name: &str, value: &str) -> bool {
    value.is_empty() || USUAL.contains(&(name, value.trim_end_matches('/')))
}

/// Whether `repos.conf` has all repositories of an old variable at the same places.
fn is_known_location(repositories: &Repositories, name: &str, value: &str) -> bool {
    let main = repositories.main.as_ref().map_or("gentoo", |main| main.value.as_str());
    let usual = Path::new(REPOS_DIR).join(main);
    let of_main = repositories.get(main).map_or(usual.as_path(), |entry| entry.location.as_path());
    let is_known = |word: &str| match name {
        "PORTDIR" => Path::new(word) == of_main,
        "PORTDIR_OVERLAY" => repositories.entries.iter().any(|entry| entry.location == Path::new(word)),
        _ => false,
    };
    value.split_whitespace().all(is_known)
}

/// Parses `EMERGE_DEFAULT_OPTS`: each refused word is an error at its line.
fn emerge_opts(findings: &mut Findings<'_>, variables: &[Merged]) -> DefaultOpts {
    let parts = expanded(variables, EMERGE_OPTS);
    let chars = parts.iter().flat_map(|(text, place)| text.chars().map(move |c| (c, place)));
    let words = match default_opts::split(chars) {
        Ok(words) => words,
        Err(fault) => {
            if let Some(merged) = variables.iter().find(|merged| merged.name == EMERGE_OPTS) {
                findings.error_with_hint(&merged.place, fault.to_string(), fault.hint());
            }
            return DefaultOpts::default();
        }
    };
    let (opts, faults) = default_opts::parse(words);
    for (fault, place) in faults {
        let near = if let Fault::Unknown(option) = &fault { nearest(option, default_opts::names()) } else { None };
        let hint = near.map_or_else(|| fault.hint().to_owned(), question);
        findings.error_with_hint(place, fault.to_string(), hint);
    }
    opts
}
