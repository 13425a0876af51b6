//! Package keys of a session: they decide which packages it may use and which ones it may publish.
//!
//! ```text
//! the configuration is in place     Portage is asked about all packages of the pools, of the root, and of what the goals need
//!                                   -> keys, in the session's directory outside; view of the pools: what has these keys
//! the first emerge runs             no further key is made, here or when the session goes on (record.rs): what ran could have changed what
//!                                   Portage says
//! a run is about to compile         what a remote has is brought (brought.rs); what another session compiles already is waited for (claims.rs)
//! a package is complete             published under its key, while emerge goes on
//! ```
//!
//! [`crate::portage::binpkgs::package_key`] says what a key is made of.

mod brought;
pub(crate) mod claims;
pub(crate) mod learn;
pub(crate) mod pools;
pub(crate) mod record;
pub(crate) mod throwaway;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::path_error::OfFile as _;
use crate::portage::binpkgs::claims::Claims;
use crate::portage::binpkgs::index::Stanza;
use crate::portage::binpkgs::{Described, Examiner, PackageKey, View};
use crate::portage::cpv::Cpv;
use crate::remote::Signers;
use crate::session::foreseen::Foreseen;
use crate::session::{Error, Result};

/// The field of a state's origin with the keys.
pub(crate) const NOTED: &str = "package_keys";

/// Name with version, and repository.
pub(crate) type Package = (String, String);

/// What was found out about a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    key: PackageKey,
    /// The USE flags that were decided.
    flags: String,
}

/// The keys of a session and what they are used for.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: RefCell<BTreeMap<Package, Option<Known>>>,
    /// Packages that the session has or is going to have.
    own: RefCell<BTreeSet<Package>>,
    /// Packages that it was going to build, from before anything of the run was executed. It may publish only these, unless the user
    /// decides otherwise.
    planned: RefCell<BTreeSet<Package>>,
    examiner: Examiner,
    /// Something of the run has been executed, so no more questions are asked.
    is_closed: Cell<bool>,
    /// The pool in which it publishes while it runs.
    pool: Option<PathBuf>,
    /// Time and size of the session's index when it was last read.
    seen: Cell<(i64, i64, u64)>,
    published: Cell<usize>,
    view: RefCell<Option<View>>,
    /// The pools in the view.
    pools: Vec<PathBuf>,
    /// What this session compiles while others wait for it.
    claims: RefCell<Option<Claims>>,
    /// The libc that was installed when the root was inspected: what a remote is asked for was built against it.
    libc: RefCell<Option<String>>,
    /// The libc that a run was about to merge since.
    next_libc: RefCell<Option<String>>,
    /// Keys for which a remote was asked.
    asked: RefCell<BTreeSet<PackageKey>>,
    /// What was foreseen since the last run of emerge, by command.
    foreseen: RefCell<BTreeMap<Vec<String>, Foreseen>>,
    /// Packages without a key, with the compiler that would compile them. Once there was a note about one it is removed.
    unanswered: RefCell<BTreeMap<Package, String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    cpv: String,
    repository: String,
    #[serde(default)]
    own: bool,
    #[serde(default)]
    planned: bool,
    #[serde(flatten)]
    known: Option<Known>,
}

impl Entry {
    fn apart(self) -> (Package, Option<Known>) {
        ((self.cpv, self.repository), self.known)
    }
}

impl Keys {
    pub(crate) fn new(stop: fn() -> bool) -> Self {
        Self { examiner: Examiner::new(stop), ..Self::default() }
    }

    /// The contents of a file.
    fn entries(&self) -> Vec<Entry> {
        let known = self.known.borrow();
        let entries = known.iter().map(|(package, known)| Entry {
            cpv: package.0.clone(),
            repository: package.1.clone(),
            own: self.own.borrow().contains(package),
            planned: self.planned.borrow().contains(package),
            known: known.clone(),
        });
        entries.collect()
    }

    /// The key of a package that an index names. `None` if this session would make another package.
    pub(crate) fn of(&self, stanza: &Stanza) -> Option<PackageKey> {
        let package = (stanza.get("CPV")?.clone(), stanza.get("REPO").cloned().unwrap_or_default());
        let known = self.known.borrow();
        let known = known.get(&package)?.as_ref()?;
        has_its_flags(stanza, &known.flags).then(|| known.key.clone())
    }

    /// As [`Keys::of`], for packages of pools: none of somebody whose signature does not count any more.
    pub(crate) fn of_usable(&self, stanza: &Stanza, signers: &Signers<'_>) -> Option<PackageKey> {
        self.of(stanza).filter(|_| signers.count(stanza))
    }

    /// The newest libc that what the session builds may be built against.
    fn newest_libc(&self) -> Option<String> {
        self.next_libc.borrow().clone().or_else(|| self.libc.borrow().clone())
    }

    /// A run is about to merge this.
    fn note_libc(&self, cpv: &str) {
        if matches!(Cpv::name_of(cpv), "sys-libs/glibc" | "sys-libs/musl") {
            self.next_libc.replace(Some(cpv.to_owned()));
        }
    }

    /// As [`Keys::of`], for packages that the session has built. It may publish only what it was going to build. Otherwise it could
    /// replace the packages of others by anything.
    fn of_planned(&self, stanza: &Stanza) -> Option<PackageKey> {
        let package = (stanza.get("CPV")?.clone(), stanza.get("REPO").cloned().unwrap_or_default());
        if self.planned.borrow().contains(&package) { self.of(stanza) } else { None }
    }

    /// Keys of the packages that the session has or was going to build, by `category/name-version::repository`.
    pub(crate) fn recorded(&self) -> BTreeMap<String, PackageKey> {
        let (known, own) = (self.known.borrow(), self.own.borrow());
        let keys = own.iter().filter_map(|package| Some((package, known.get(package)?.as_ref()?.key.clone())));
        keys.map(|((cpv, repository), key)| (format!("{cpv}::{repository}"), key)).collect()
    }

    /// The packages whose key differs now from the one in `before`, which was recorded earlier.
    pub(crate) fn differ(&self, before: &BTreeMap<String, PackageKey>) -> BTreeSet<String> {
        let now = self.recorded();
        before.iter().filter(|(name, key)| now.get(*name).is_some_and(|now| now != *key)).map(|(name, _)| name.clone()).collect()
    }

    /// The packages of [`Keys::differ`] are built again. emerge does not foresee that, so they are added to those that may be published.
    pub(crate) fn plan_again(&self, before: &BTreeMap<String, PackageKey>) {
        if self.is_closed.get() {
            return;
        }
        let again = self.differ(before);
        let own = self.own.borrow();
        let planned = own.iter().filter(|(cpv, repository)| again.contains(&format!("{cpv}::{repository}"))).cloned();
        self.planned.borrow_mut().extend(planned);
    }

    /// The packages whose compiler answers. If a package has a compiler of its own that does not answer, for instance because the same
    /// run brings it, it has no key: nobody can tell yet what the result would be.
    ///
    /// # Errors
    ///
    /// [`Error::NoCompiler`] if the compiler of the whole configuration does not answer.
    fn with_compiler(&self, described: Vec<Described>) -> Result<Vec<Described>> {
        let answers = |it: &Described| it.parts.get("compiler").is_some_and(|compiler| !compiler.is_empty());
        let (with, without): (Vec<_>, Vec<_>) = described.into_iter().partition(answers);
        for Described { cpv, repository, own_compiler, .. } in without {
            if own_compiler.is_empty() {
                return Err(Error::NoCompiler);
            }
            self.unanswered.borrow_mut().insert((cpv, repository), own_compiler);
        }
        Ok(with)
    }

    /// Notes about packages that are to be compiled by compilers that do not answer.
    fn words_of_unanswered(&self, compiled: &[Package]) -> Vec<String> {
        let mut unanswered = self.unanswered.borrow_mut();
        let mut by_compiler: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for package in compiled {
            if let Some(compiler) = unanswered.remove(package) {
                by_compiler.entry(compiler).or_default().push(&package.0);
            }
        }
        let words = by_compiler.into_iter().map(|(compiler, packages)| {
            let first = packages[0];
            let (which, of, whose) = match packages.len() - 1 {
                0 => (format!("{first} is"), "package of it is", "its"),
                1 => (format!("{first} and 1 more package are"), "packages of them are", "their"),
                more => (format!("{first} and {more} more packages are"), "packages of them are", "their"),
            };
            format!("{which} compiled, and no binary {of} kept: {whose} compiler `{compiler}` does not answer yet")
        });
        words.collect()
    }

    fn unknown(&self, packages: &[Package]) -> Vec<Package> {
        let known = self.known.borrow();
        packages.iter().filter(|package| !known.contains_key(*package)).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn add(&self, asked: Vec<Package>, described: Vec<Described>) {
        let mut known = self.known.borrow_mut();
        // If no tree has a package, we do not ask again.
        known.extend(asked.into_iter().map(|package| (package, None)));
        known.extend(described.into_iter().map(|it| {
            let found = Known { key: it.key(), flags: it.environment.get("USE").cloned().unwrap_or_default() };
            ((it.cpv, it.repository), Some(found))
        }));
    }
}

/// Whether a package was built with the flags that were decided. `USE` in an index holds the flags of its `IUSE` that are on.
fn has_its_flags(stanza: &Stanza, decided: &str) -> bool {
    let words = |key: &str| -> BTreeSet<&str> { stanza.get(key).into_iter().flat_map(|text| text.split_whitespace()).collect() };
    let (built, decided): (_, BTreeSet<&str>) = (words("USE"), decided.split_whitespace().collect());
    words("IUSE")
        .into_iter()
        .map(|flag| flag.trim_start_matches(['+', '-']))
        .all(|flag| built.contains(flag) == decided.contains(flag))
}

fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|source| Error::io("write", path)(source.into()))?;
    Ok(crate::durable::replace(path, &text, crate::durable::Mode::AtMost(0o666))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_to_be_built_may_be_published() {
        let keys = Keys::default();
        let of = |cpv: &str| (cpv.to_owned(), "r".to_owned());
        let described = |cpv: &str| Described { cpv: cpv.to_owned(), repository: "r".to_owned(), ..Described::default() };
        keys.add(vec![of("a/pool-1"), of("a/new-1")], vec![described("a/pool-1"), described("a/new-1")]);
        keys.planned.borrow_mut().insert(of("a/new-1"));
        let stanza = |cpv: &str| [("CPV", cpv), ("REPO", "r")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let allowed = |cpv: &str| (keys.of(&stanza(cpv)).is_some(), keys.of_planned(&stanza(cpv)).is_some());
        assert_eq!((allowed("a/pool-1"), allowed("a/new-1"), allowed("a/none-1")), ((true, false), (true, true), (false, false)));
    }

    #[test]
    fn what_is_built_while_a_libc_is_merged_needs_the_newer_one() {
        let keys = Keys::default();
        assert_eq!(keys.newest_libc(), None);
        keys.libc.replace(Some("sys-libs/glibc-2.40-r5".to_owned()));
        keys.note_libc("sys-libs/glibc-compat-1");
        assert_eq!(keys.newest_libc().as_deref(), Some("sys-libs/glibc-2.40-r5"));
        keys.note_libc("sys-libs/glibc-2.41");
        assert_eq!(keys.newest_libc().as_deref(), Some("sys-libs/glibc-2.41"));
        assert_eq!(keys.libc.borrow().as_deref(), Some("sys-libs/glibc-2.40-r5"), "what is installed before is asked for");
    }

    #[test]
    fn a_package_whose_own_compiler_does_not_answer_has_no_key() {
        let keys = Keys::default();
        let described = |cpv: &str, compiler: &str, own: &str| Described {
            cpv: cpv.to_owned(),
            parts: [("compiler".to_owned(), compiler.to_owned())].into(),
            own_compiler: own.to_owned(),
            ..Described::default()
        };
        let of = |cpv: &str| (cpv.to_owned(), String::new());
        let asked = ["a/one-1", "a/two-1", "a/three-1", "a/four-1", "a/five-1"];
        let found = [
            described(asked[0], "gcc 14", ""),
            described(asked[1], "clang 20", "clang"),
            described(asked[2], "", "clang"),
            described(asked[3], "", "clang"),
            described(asked[4], "", "icc"),
        ];
        let with = keys.with_compiler(found.into()).unwrap();
        keys.add(asked.map(of).into(), with);
        let of_stanza = |cpv: &str| keys.of(&[("CPV".to_owned(), cpv.to_owned())].into()).is_some();
        assert_eq!(asked.map(of_stanza), [true, true, false, false, false]);
        assert!(keys.unknown(&asked.map(of)).is_empty(), "it is asked once");
        // It is told once, and only of what is compiled.
        assert!(keys.words_of_unanswered(&[of("a/one-1")]).is_empty());
        let words = keys.words_of_unanswered(&[of("a/four-1"), of("a/three-1"), of("a/one-1")]);
        assert_eq!(
            words,
            [
                "a/four-1 and 1 more package are compiled, and no binary packages of them are kept: their compiler `clang` does not answer yet"
            ]
        );
        assert_eq!(
            keys.words_of_unanswered(&asked.map(of)),
            ["a/five-1 is compiled, and no binary package of it is kept: its compiler `icc` does not answer yet"]
        );
    }

    #[test]
    fn without_the_compiler_of_the_configuration_nothing_can_be_built() {
        for parts in [BTreeMap::new(), BTreeMap::from([("compiler".to_owned(), String::new())])] {
            let described = Described { cpv: "a/one-1".to_owned(), parts, ..Described::default() };
            let error = Keys::default().with_compiler(vec![described]).unwrap_err();
            assert_eq!(error.to_string(), "the root in which packages would be built has no working C compiler");
        }
    }

    #[test]
    fn a_package_with_other_flags_than_those_decided_is_another_one() {
        let stanza = |use_flags: &str| {
            let pairs = [("USE", use_flags), ("IUSE", "+nls -static test")];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<Stanza>()
        };
        let has_them = |built| has_its_flags(&stanza(built), "amd64 nls");
        assert!(has_them("nls"));
        assert!(has_them("nls elibc_glibc"), "only its own flags count");
        assert!(!has_them("nls static"));
        assert!(!has_them(""));
    }
}
