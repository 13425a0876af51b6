//! Package keys of a session: they decide which packages it may use and which ones it may publish.
//!
//! ```text
//! the configuration is in place     Portage is asked about all packages of the pools, of the root, and of what the goals need
//!                                   -> keys, in the session's directory outside; view of the pools: what has these keys
//! the first emerge runs             no further key is made, here or when the session goes on (record.rs): what ran could have changed what
//!                                   Portage says
//! a run is about to compile         what another session compiles already is waited for (claims.rs)
//! a package is complete             published under its key, while emerge goes on
//! ```
//!
//! [`crate::portage::binpkgs::package_key`] says what a key is made of.

pub(crate) mod claims;
pub(crate) mod record;
pub(crate) mod throwaway;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::patches::PatchRecord;
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::portage::binpkgs;
use crate::portage::binpkgs::claims::Claims;
use crate::portage::binpkgs::index::Stanza;
use crate::portage::binpkgs::{Described, Examiner, Index, PackageKey, PoolInputs, PoolKind, Transfer, View, package_key};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::Request;
use crate::query;
use crate::query::keys::Made;
use crate::session::ask::ask;
use crate::session::inspect::PoolOf;
use crate::session::root::Packages;
use crate::session::supply::Foreseen;
use crate::session::work::{Given, Subject};
use crate::session::{Error, Result, Work, emerge, inspect, jobs, keys, supply, work};
use crate::store::{Purpose, State};

/// Beside the pools: what was found out for sessions without a configuration of their own.
const REMEMBERED: &str = ".keys";
/// The field of a state's origin with the keys.
pub(crate) const NOTED: &str = "package_keys";

/// Name with version, and repository.
pub(crate) type Package = (String, String);

/// How a session uses the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolUse {
    /// It takes packages. What it builds is published as soon as it is complete.
    Publish,
    /// It takes packages. What becomes of those that it builds is decided at its end.
    Look,
}

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
    /// What was foreseen since the last run of emerge, by command.
    foreseen: RefCell<BTreeMap<Vec<String>, Foreseen>>,
    /// Packages without a key, with the compiler that would compile them. Once there was a note about one it is removed.
    unanswered: RefCell<BTreeMap<Package, String>>,
}

/// What was found out about packages for all sessions on one state.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    /// A hash of the other things that it depends on.
    made_by: String,
    packages: Vec<Entry>,
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
                return Err(Error::NoCompiler { package: cpv });
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

/// Finds the packages of `pools` that fit and shows them to the session. What it builds goes into the first pool.
pub(crate) fn show_pools(cx: &Context<'_>, work: &mut Work<'_>, pools: &[PathBuf], used: PoolUse) -> Result<()> {
    let packages = packages_of(pools)?;
    learn(cx, work, &packages, used == PoolUse::Publish)?;
    attach(cx, work, pools, used)
}

pub(crate) fn attach(cx: &Context<'_>, work: &mut Work<'_>, pools: &[PathBuf], used: PoolUse) -> Result<()> {
    let own = work.session.borrow().binpkgs();
    crate::session::work::create_open(&own)?;
    if used == PoolUse::Publish {
        work.keys.pool = pools.first().cloned();
        // Packages that an earlier run of this session has built.
        publish_from(cx, work, &own, Transfer::Copy)?;
    }
    remove_index(&own)?;
    let view = View::make(&cx.places.binpkgs(), pools, &|stanza| work.keys.of(stanza), now())?;
    tracing::debug!(packages = view.offered.len(), "binary packages fit");
    let overlay_work = work.session.borrow().path("binpkgs.work");
    work.root.packages = Some(Packages { pools: vec![view.dir().to_owned()], own, work: overlay_work });
    work.keys.view = RefCell::new(Some(view));
    work.keys.pools = pools.to_vec();
    Ok(())
}

/// Makes the keys of `packages`, unless they are known or something has run already.
pub(crate) fn learn(cx: &Context<'_>, work: &Work<'_>, packages: &[Package], installed: bool) -> Result<()> {
    record::recall(work);
    let asked = work.keys.unknown(packages);
    if work.keys.is_closed.get() || (asked.is_empty() && !installed) {
        return Ok(());
    }
    let made = ask(cx, work, [query::keys::Keys { packages: &asked, here: installed }])?;
    let described: Vec<Described> = made.into_iter().flat_map(Made::described).collect();
    tracing::debug!(asked = asked.len(), installed, found = described.len(), "package keys made");
    let described = work.keys.with_compiler(described)?;
    let of_root = described.iter().filter(|it| it.installed).map(|it| (it.cpv.clone(), it.repository.clone()));
    let of_root: Vec<Package> = of_root.collect();
    // These are built again although Portage sees no reason: see `crate::recipe::patches::applied::bring_patches`.
    let patched: BTreeSet<String> = work.patches.iter().filter_map(PatchRecord::package).collect();
    let again = of_root.iter().filter(|(cpv, _)| patched.contains(Cpv::name_of(cpv))).cloned();
    work.keys.planned.borrow_mut().extend(again);
    work.keys.own.borrow_mut().extend(of_root);
    work.keys.add(asked, described);
    record::write_down(work)
}

/// As [`learn`], for a session with its base's configuration: what was found out for an earlier session on it is still true.
pub(crate) fn learn_as_before(cx: &Context<'_>, work: &Work<'_>, base: &State, packages: &[Package]) -> Result<()> {
    let dir = cx.places.binpkgs().join(REMEMBERED);
    let path = dir.join(format!("{}.json", base.id));
    let made_by = made_by(work);
    let before = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
    if let Some(before) = before.filter(|before| before.made_by == made_by) {
        work.keys.known.borrow_mut().extend(before.packages.into_iter().map(Entry::apart));
    }
    if work.keys.unknown(packages).is_empty() {
        return Ok(());
    }
    match learn(cx, work, packages, false) {
        // Nobody can build in this root, so packages are of no use to it.
        Err(error @ (Error::Command { .. } | Error::NoCompiler { .. })) => {
            tracing::debug!(%error, "no binary packages are shown");
            return Ok(());
        }
        learnt => learnt?,
    }
    let remembered = Remembered { made_by, packages: work.keys.entries() };
    std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    for entry in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))?.flatten() {
        let id = entry.path().file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if id.is_none_or(|id| cx.store.state(&id).is_err()) {
            std::fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    replace(&path, &remembered)
}

/// Finds out the keys of packages that were built by hand. It uses another session, since what ran in this one could have changed what
/// Portage says.
pub(crate) fn learn_beside(cx: &Context<'_>, work: &Work<'_>, subject: &Subject, base: &State, packages: &[Package]) -> Result<()> {
    let unknown = work.keys.unknown(packages);
    if unknown.is_empty() {
        return Ok(());
    }
    let mut session = cx.store.session_create(Some(base), Purpose::Throwaway, "")?;
    let learnt = work::work(cx, &mut session, base, subject, Given::default()).and_then(|beside| {
        learn(cx, &beside, &unknown, false)?;
        beside.forget_logs();
        work.keys.known.borrow_mut().extend(beside.keys.known.take());
        Ok(())
    });
    session.discard(cx.launcher)?;
    learnt
}

/// Foresees what a request merges. It asks emerge once between two runs.
pub(crate) fn foresee_and_learn(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Foreseen> {
    let argv = emerge::emerge_argv(cx, work, request)?;
    if let Some(known) = work.keys.foreseen.borrow().get(&argv) {
        return Ok(known.clone());
    }
    let foreseen = supply::foresee(cx, work, request)?;
    let packages: Vec<Package> =
        foreseen.list.iter().filter_map(|merge| Some((merge.cpv.clone(), merge.repository.clone()?))).collect();
    learn(cx, work, &packages, false)?;
    let built = foreseen.list.iter().filter(|merge| !merge.binary);
    let built: Vec<Package> = built.filter_map(|merge| Some((merge.cpv.clone(), merge.repository.clone()?))).collect();
    for words in work.keys.words_of_unanswered(&built) {
        cx.observer.note(&words);
    }
    if !work.keys.is_closed.get() {
        work.keys.planned.borrow_mut().extend(built);
        work.keys.own.borrow_mut().extend(packages);
        record::write_down(work)?;
    }
    work.keys.foreseen.borrow_mut().insert(argv, foreseen.clone());
    Ok(foreseen)
}

/// Publishes what has become complete since the last call. It is called while emerge runs. If it fails, the end of the run reports that.
pub(crate) fn publish_meanwhile(cx: &Context<'_>, work: &Work<'_>) {
    let Some(packages) = &work.root.packages else { return };
    let Ok(meta) = std::fs::symlink_metadata(packages.own.join(binpkgs::INDEX)) else { return };
    let now = (meta.mtime(), meta.mtime_nsec(), meta.size());
    let is_new = work.keys.pool.is_some() && work.keys.seen.replace(now) != now;
    if is_new && let Err(error) = publish_from(cx, work, &packages.own, Transfer::Copy) {
        tracing::debug!(%error, "not published yet");
    }
}

/// Publishes the rest at the end of a run.
pub(crate) fn publish_rest(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    match &work.root.packages {
        Some(packages) if work.keys.pool.is_some() => publish_from(cx, work, &packages.own, Transfer::Copy),
        _ => Ok(()),
    }
}

fn publish_from(cx: &Context<'_>, work: &Work<'_>, own: &Path, transfer: Transfer) -> Result<()> {
    let Some(pool) = &work.keys.pool else { return Ok(()) };
    // Packages that were built by hand are published when the user says so. By then nothing runs any more.
    let key_of = |stanza: &Stanza| match transfer {
        Transfer::Copy => work.keys.of_planned(stanza),
        Transfer::Move => work.keys.of(stanza),
    };
    let published = binpkgs::publish(own, pool, &key_of, transfer, now(), cx.observer, &work.keys.examiner)?;
    for skipped in &published.skipped {
        tracing::debug!(path = skipped.path, reason = ?skipped.reason, "not published");
    }
    work.keys.published.set(work.keys.published.get() + published.added.len() + published.replaced.len());
    if let Some(claims) = &*work.keys.claims.borrow()
        && !(published.added.is_empty() && published.replaced.is_empty())
    {
        let index = binpkgs::publish::index_of(pool)?;
        let paths = published.added.iter().chain(&published.replaced);
        claims.release(&paths.filter_map(|path| binpkgs::key_in(index.packages.get(path)?)).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Publishes in `pool` what a finished session has built. Returns how many packages that were.
pub(crate) fn publish_last(cx: &Context<'_>, work: &mut Work<'_>, pool: PathBuf) -> Result<usize> {
    work.keys.pool = Some(pool);
    let Some(packages) = &work.root.packages else { return Ok(0) };
    publish_from(cx, work, &packages.own, Transfer::Move)?;
    Ok(work.keys.published.get())
}

/// A note about what was published since the session began.
pub(crate) fn tell_published(cx: &Context<'_>, work: &Work<'_>, inputs: &PoolInputs) {
    let count = work.keys.published.take();
    if count > 0 {
        let packages = if count == 1 { "package" } else { "packages" };
        cx.observer.note(&format!("{count} binary {packages} published in {}", binpkgs::pool_key(inputs)));
    }
}

pub(crate) fn pool(cx: &Context<'_>, kind: PoolKind, inputs: &PoolInputs) -> Result<PathBuf> {
    Ok(binpkgs::open_pool(&cx.places.binpkgs(), kind, inputs, cx.observer)?)
}

/// Portage sees only the topmost index of the stacked directories, and that one is from before.
fn remove_index(own: &Path) -> Result<()> {
    match std::fs::remove_file(own.join(binpkgs::INDEX)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", own)(error)),
        _ => Ok(()),
    }
}

/// All packages in the indexes of pools.
pub(crate) fn packages_of(pools: &[PathBuf]) -> Result<Vec<Package>> {
    let mut all = Vec::new();
    for pool in pools {
        let index: Index = binpkgs::publish::index_of(pool)?;
        all.extend(
            index
                .packages
                .into_values()
                .filter_map(|mut stanza| Some((stanza.remove("CPV")?, stanza.remove("REPO").unwrap_or_default()))),
        );
    }
    Ok(all)
}

/// What keys depend on, apart from the state and the packages.
fn made_by(work: &Work<'_>) -> String {
    let mut hash = Sha256::new();
    for (_, text) in query::PROGRAM {
        hash.update(text);
    }
    hash.update(package_key::RECIPE);
    for (location, path) in &work.root.trees {
        hash.update(format!("\n{} {}", location.display(), path.display()));
    }
    hex::encode(hash.finalize())
}

fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|source| Error::io("write", path)(source.into()))?;
    Ok(crate::durable::replace(path, &text, crate::durable::Mode::AtMost(0o666))?)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Finds the pool that fits the root, and attaches it.
pub(crate) fn choose_pool(cx: &Context<'_>, work: &mut Work<'_>, of: PoolOf, used: PoolUse) -> Result<PoolInputs> {
    let facts = inspect::inspect(cx, work)?;
    let inputs = facts.pool_inputs(of);
    work.supply.set_host(&inputs.chost);
    work.root.session_conf = work::session_conf(cx, facts.has_observability());
    jobs::share_jobs(cx, work, &facts)?;
    let pool = keys::pool(cx, PoolKind::Release, &inputs)?;
    keys::show_pools(cx, work, &[pool], used)?;
    Ok(inputs)
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
            assert_eq!(error.to_string(), "the root in which `a/one-1` would be built has no working C compiler");
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
