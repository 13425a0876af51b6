//! Makes the keys of packages: Portage is asked about them, or an earlier session has asked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::patches::PatchRecord;
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::{Described, package_key};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::Request;
use crate::query;
use crate::query::keys::Made;
use crate::session::ask::{ask, ask_both};
use crate::session::foreseen::Foreseen;
use crate::session::inspect::Facts;
use crate::session::keys::{Entry, Package, brought, claims, record, replace};
use crate::session::work::{Given, Subject};
use crate::session::{Error, Result, Work, emerge_argv, foreseen, inspect, work};
use crate::store::{Purpose, State};
/// Beside the pools: what was found out for sessions without a configuration of their own.
const REMEMBERED: &str = ".keys";

/// What was found out about packages for all sessions on one state.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    /// A hash of the other things that it depends on.
    made_by: String,
    packages: Vec<Entry>,
}

/// Makes the keys of `packages`, unless they are known or something has run already.
pub(crate) fn learn(cx: &Context<'_>, work: &Work<'_>, packages: &[Package], installed: bool) -> Result<()> {
    record::recall(work);
    let asked = work.keys.unknown(packages);
    if work.keys.is_closed.get() || (asked.is_empty() && !installed) {
        return Ok(());
    }
    let made = ask(cx, work, [query::keys::Keys { packages: &asked, here: installed, targets: &[] }])?;
    let described: Vec<Described> = made.into_iter().flat_map(Made::described).collect();
    tracing::debug!(asked = asked.len(), installed, found = described.len(), "package keys made");
    note(work, asked, described)
}

/// Notes the keys of packages that Portage was `asked` about.
fn note(work: &Work<'_>, asked: Vec<Package>, described: Vec<Described>) -> Result<()> {
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

/// What the root builds with, and answers about packages that are not noted yet.
pub(crate) struct Inspected {
    pub(crate) facts: Facts,
    asked: Vec<Package>,
    described: Vec<Described>,
}

/// Asks what the root builds with. If keys may be made, it asks about packages in the same start of Portage: those of the pool that
/// probably fits, and, for a session that publishes, those that are installed and those that emerge would take for `targets`.
pub(crate) fn inspect(cx: &Context<'_>, work: &Work<'_>, probably: &[Package], publishes: Option<&[String]>) -> Result<Inspected> {
    record::recall(work);
    let asked = if work.keys.is_closed.get() { Vec::new() } else { work.keys.unknown(probably) };
    let here = publishes.is_some() && !work.keys.is_closed.get();
    let questions = [query::keys::Keys { packages: &asked, here, targets: publishes.unwrap_or_default() }];
    let questions = if here || !asked.is_empty() { &questions[..] } else { &[] };
    let (toolset, made) = ask_both(cx, work, &inspect::question(cx), questions)?;
    let described = made.into_iter().flat_map(Made::described).collect();
    let facts = Facts::parse(&toolset);
    work.keys.libc.replace(facts.libc());
    Ok(Inspected { facts, asked, described })
}

/// Makes the keys of `packages`, and notes those of [`inspect()`]. What that asked about packages of another pool does not count.
pub(crate) fn learn_inspected(cx: &Context<'_>, work: &Work<'_>, inspected: Inspected, packages: &[Package]) -> Result<()> {
    let Inspected { asked, mut described, .. } = inspected;
    let fits: BTreeSet<&Package> = packages.iter().collect();
    let (asked, others): (Vec<Package>, Vec<Package>) = asked.into_iter().partition(|package| fits.contains(package));
    let others: BTreeSet<Package> = others.into_iter().collect();
    described.retain(|it| it.installed || !others.contains(&(it.cpv.clone(), it.repository.clone())));
    tracing::debug!(asked = asked.len(), found = described.len(), "package keys made with the inspection");
    if !(asked.is_empty() && described.is_empty()) {
        note(work, asked, described)?;
    }
    learn(cx, work, packages, false)
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
        Err(error @ (Error::Command { .. } | Error::NoCompiler)) => {
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

/// Foresees what a request merges, once a remote was asked for what would be compiled. It asks emerge once between two runs, and again if
/// packages came.
pub(crate) fn foresee_and_learn(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Foreseen> {
    let argv = emerge_argv::emerge_argv(cx, work, request)?;
    if let Some(known) = work.keys.foreseen.borrow().get(&argv) {
        return Ok(known.clone());
    }
    let (foreseen, packages) = loop {
        let foreseen = foreseen::foresee(cx, work, request)?;
        let named = foreseen.list.iter().filter_map(|merge| Some((merge.cpv.clone(), merge.repository.clone()?)));
        let packages: Vec<Package> = named.collect();
        learn(cx, work, &packages, false)?;
        if !brought::bring(cx, work, &foreseen, request)? {
            break (foreseen, packages);
        }
        claims::look_at_pools_again(cx, work)?;
    };
    foreseen.list.iter().for_each(|merge| work.keys.note_libc(&merge.cpv));
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
