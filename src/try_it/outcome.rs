//! The result of a combination, read from the session's package database, and the comparison with the first one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::merged_view;
use crate::portage::installed::{Contents, Linked};
use crate::portage::vdb::Package;
use crate::portage::{installed, untrusted, vdb};
use crate::sandbox::{TaskContext, TaskFailure, TaskFn};

/// Reads installed packages: [`ExamineInput`] in, a list of [`Installed`] out.
pub(crate) const EXAMINE: &str = "build.examine";

/// How much of `CONTENTS` and `NEEDED.ELF.2` is read.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// The input of [`EXAMINE`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExamineInput {
    /// The session's upper directory, then the layers below it.
    pub(crate) lower: Vec<PathBuf>,
    /// The versions to be built, `category/package-version`.
    pub(crate) versions: BTreeSet<String>,
}

/// An installed package with its files and libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installed {
    pub(crate) package: Package,
    pub(crate) linked: Linked,
    pub(crate) contents: Contents,
}

/// The result of a combination.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(crate) enum Outcome {
    /// It was built.
    Built(Built),
    /// It failed to build.
    Failed(Failed),
    /// It was not tried.
    LeftOut { reason: String },
}

/// A combination that was built.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Built {
    /// How long emerge took, dependencies included, seconds.
    pub seconds: f64,
    /// Installed size of the packages, bytes.
    pub size_bytes: u64,
    /// The packages as they were installed.
    pub packages: Vec<Package>,
    /// Libraries of other packages that they are linked with, sorted.
    pub libraries: BTreeSet<String>,
    /// Flags that should be set and are not: `-json`.
    pub not_applied: Vec<String>,
    /// Saved patches that were not applied, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpatched: Vec<String>,
    /// The differences from the first combination that was built; `None` for that one.
    pub differences: Option<Differences>,
}

/// How a combination differs from the first one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Differences {
    /// Paths that only it has, sorted.
    pub added: Vec<String>,
    /// Paths that only the first has, sorted.
    pub removed: Vec<String>,
    /// Paths that both have with different contents, targets or kinds. Sorted.
    pub changed: Vec<String>,
    /// Libraries that only it is linked with, sorted.
    pub libraries_added: Vec<String>,
    /// Libraries that only the first is linked with, sorted.
    pub libraries_removed: Vec<String>,
}

/// A combination that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Failed {
    /// The reason, in one line.
    pub reason: String,
    /// `category/name-version`, or the atom that cannot be satisfied.
    pub package: Option<String>,
    /// The ebuild phase.
    pub phase: Option<String>,
    /// emerge's proposals, a line each: `package.use: dev-libs/greet static-libs`.
    pub proposals: Vec<String>,
    /// The log to read, on the host.
    pub log: PathBuf,
}

/// The packages of a combination before the comparison.
#[derive(Debug, Clone, Default)]
pub(crate) struct Examined {
    pub(crate) installed: Vec<Installed>,
    pub(crate) unpatched: Vec<String>,
}

impl Examined {
    /// Installed size, bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.installed.iter().filter_map(|one| one.package.size_bytes).sum()
    }

    /// Libraries of other packages.
    pub(crate) fn libraries(&self) -> BTreeSet<String> {
        let provided: BTreeSet<&String> = self.installed.iter().flat_map(|one| &one.linked.provides).collect();
        self.installed.iter().flat_map(|one| &one.linked.needs).filter(|name| !provided.contains(name)).cloned().collect()
    }

    fn contents(&self) -> BTreeMap<&String, &String> {
        self.installed.iter().flat_map(|one| &one.contents).collect()
    }

    /// The differences from `first`.
    pub(crate) fn against(&self, first: &Self) -> Differences {
        let (mine, theirs) = (self.contents(), first.contents());
        let only = |some: &BTreeMap<&String, &String>, others: &BTreeMap<&String, &String>| {
            some.keys().filter(|path| !others.contains_key(*path)).map(|path| (*path).clone()).collect()
        };
        let changed = mine.iter().filter(|(path, value)| theirs.get(*path).is_some_and(|other| other != *value));
        let (my_libraries, their_libraries) = (self.libraries(), first.libraries());
        Differences {
            added: only(&mine, &theirs),
            removed: only(&theirs, &mine),
            changed: changed.map(|(path, _)| (*path).clone()).collect(),
            libraries_added: my_libraries.difference(&their_libraries).cloned().collect(),
            libraries_removed: their_libraries.difference(&my_libraries).cloned().collect(),
        }
    }

    /// The words of `package.use` that had no effect.
    pub(crate) fn not_applied(&self, words: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let mut missing = Vec::new();
        for one in &self.installed {
            for word in words.get(one.package.name()).into_iter().flatten().filter(|word| !word.ends_with('*')) {
                let (flag, on) = word.strip_prefix('-').map_or((word.as_str(), true), |flag| (flag, false));
                if one.package.use_flags.iter().any(|known| known == flag) != on && !missing.contains(word) {
                    missing.push(word.clone());
                }
            }
        }
        missing
    }
}

/// Finds this module's task by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == EXAMINE).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: ExamineInput = context.input_as()?;
    let Some(root) = merged_view::mount(&input.lower)? else { return Ok(serde_json::json!([])) };
    let names: BTreeSet<String> = input.versions.iter().map(|cpv| name_of(cpv)).collect();
    let mut there = Vec::new();
    vdb::visit_in(root.as_fd(), &names, &mut |package, _| there.push(package)).map_err(|error| TaskFailure::of("vdb", &error))?;
    let built = built(&input.versions, &there);
    let mut found = Vec::new();
    let visited = vdb::visit_in(root.as_fd(), &names, &mut |package, entry| {
        if !built.contains(&package.cpv) {
            return;
        }
        let read = |name: &str| match untrusted::read_in(entry, Path::new(name), MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Packages without ELF files have no `NEEDED.ELF.2`.
                if !error.is_absent() {
                    tracing::debug!(package.cpv, %error, "left out of the comparison");
                }
                Vec::new()
            }
        };
        let (linked, contents) = (installed::linked(&read("NEEDED.ELF.2")), installed::contents(&read("CONTENTS")));
        found.push(Installed { package, linked, contents });
    });
    visited.map_err(|error| TaskFailure::of("vdb", &error))?;
    serde_json::to_value(found).map_err(|error| TaskFailure::of("vdb", &error))
}

fn name_of(cpv: &str) -> String {
    Package { cpv: cpv.to_owned(), ..Package::default() }.name().to_owned()
}

/// The installed packages that the combination is about. Other slots of the same name were installed before. If emerge took another
/// version than asked for, the one built last counts.
fn built(versions: &BTreeSet<String>, there: &[Package]) -> BTreeSet<String> {
    let of = |cpv: &String| {
        let (exact, name) = (there.iter().find(|package| package.cpv == *cpv), name_of(cpv));
        exact.or_else(|| there.iter().filter(|package| package.name() == name).max_by_key(|package| package.build_time))
    };
    versions.iter().filter_map(of).map(|package| package.cpv.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_slots_are_not_what_was_built() {
        let package = |cpv: &str, built| Package { cpv: cpv.to_owned(), build_time: Some(built), ..Package::default() };
        let there =
            [package("dev-lang/python-3.12", 3), package("dev-lang/python-3.13", 1), package("a/b-1", 1), package("a/b-2", 2)];
        for (versions, expected) in [
            (&["dev-lang/python-3.13"][..], &["dev-lang/python-3.13"][..]),
            (&["dev-lang/python-3.12", "dev-lang/python-3.13"], &["dev-lang/python-3.12", "dev-lang/python-3.13"]),
            (&["a/b-1", "dev-lang/python-3.12"], &["a/b-1", "dev-lang/python-3.12"]),
            (&["a/b-3"], &["a/b-2"]),
            (&["a/c-1"], &[]),
        ] {
            let versions: BTreeSet<String> = versions.iter().map(|cpv| (*cpv).to_owned()).collect();
            assert_eq!(built(&versions, &there).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{versions:?}");
        }
    }

    fn examined(contents: &str, needed: &str, flags: &str) -> Examined {
        let package = Package {
            cpv: "a/b-1".to_owned(),
            use_flags: flags.split_whitespace().map(str::to_owned).collect(),
            size_bytes: Some(100),
            ..Package::default()
        };
        let (linked, contents) = (installed::linked(needed.as_bytes()), installed::contents(contents.as_bytes()));
        Examined { installed: vec![Installed { package, linked, contents }], unpatched: Vec::new() }
    }

    #[test]
    fn what_differs_from_the_first() {
        let first = examined("obj /bin/x aaa 1\nobj /etc/x bbb 1\nsym /lib/x -> y 1\n", "X;/bin/x;;;liba.so.1,libc.so.6\n", "p");
        let other = examined("obj /bin/x ccc 2\nobj /usr/new ddd 1\nsym /lib/x -> y 2\n", "X;/bin/x;;;libb.so.2,libc.so.6\n", "p");
        let differences = other.against(&first);
        assert_eq!(
            differences,
            Differences {
                added: vec!["/usr/new".to_owned()],
                removed: vec!["/etc/x".to_owned()],
                changed: vec!["/bin/x".to_owned()],
                libraries_added: vec!["libb.so.2".to_owned()],
                libraries_removed: vec!["liba.so.1".to_owned()],
            }
        );
        assert_eq!(first.against(&first), Differences::default());
        assert_eq!(first.size_bytes(), 100);
    }

    #[test]
    fn flags_without_effect_are_noticed() {
        let words = BTreeMap::from([("a/b".to_owned(), ["p", "-q", "r", "-p", "-*"].map(str::to_owned).to_vec())]);
        assert_eq!(examined("", "", "p q").not_applied(&words), ["-q", "r", "-p"]);
    }

    #[test]
    fn a_library_of_one_of_them_is_their_own() {
        let mut both = examined("", "X;/lib/libx.so.1;libx.so.1;;libc.so.6\n", "");
        both.installed.extend(examined("", "X;/bin/x;;;libx.so.1,libm.so.6\n", "").installed);
        assert_eq!(both.libraries().into_iter().collect::<Vec<_>>(), ["libc.so.6", "libm.so.6"]);
    }
}
