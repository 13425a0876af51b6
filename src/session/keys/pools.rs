//! The pools of binary packages that a session sees, and what it publishes there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::BUILDER;
use crate::context::Context;
use crate::names::refs::ref_name;
use crate::path_error::OfFile as _;
use crate::portage::binpkgs;
use crate::portage::binpkgs::index::Stanza;
use crate::portage::binpkgs::{Note, PackageFile, PoolInputs, PoolKind, Transfer, View};
use crate::portage::cpv::Cpv;
use crate::remote::Signers;
use crate::session::inspect::PoolOf;
use crate::session::keys::learn::learn;
use crate::session::keys::throwaway::pool_of;
use crate::session::keys::{Package, learn, pools};
use crate::session::readable_files::create_open;
use crate::session::root::Packages;
use crate::session::{Error, Result, Work, ccache, jobs, work};

/// How a session uses the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolUse {
    /// It takes packages. What it builds is published as soon as it is complete.
    Publish,
    /// It takes packages. What becomes of those that it builds is decided at its end.
    Look,
}

/// Finds the packages of `pools` that fit and shows them to the session. What it builds goes into the first pool.
pub(crate) fn show_pools(cx: &Context<'_>, work: &mut Work<'_>, pools: &[PathBuf], used: PoolUse) -> Result<()> {
    let packages = packages_of(pools)?;
    if used == PoolUse::Publish {
        let inspected = learn::inspect(cx, work, &packages, Some(&[]))?;
        learn::learn_inspected(cx, work, inspected, &packages)?;
    } else {
        learn(cx, work, &packages, false)?;
    }
    attach(cx, work, pools, used)
}

pub(crate) fn attach(cx: &Context<'_>, work: &mut Work<'_>, pools: &[PathBuf], used: PoolUse) -> Result<()> {
    let own = work.session.borrow().binpkgs();
    create_open(&own)?;
    if used == PoolUse::Publish {
        work.keys.pool = pools.first().cloned();
        // Packages that an earlier run of this session has built.
        publish_from(cx, work, &own, Transfer::Copy)?;
    }
    remove_index(&own)?;
    let signers = Signers::new(cx);
    let view = View::make(&cx.places.binpkgs(), pools, &|stanza| work.keys.of_usable(stanza, &signers), now())?;
    tracing::debug!(packages = view.offered.len(), "binary packages fit");
    let overlay_work = work.session.borrow().path("binpkgs.work");
    work.root.packages = Some(Packages { pools: vec![view.dir().to_owned()], own, work: overlay_work });
    work.keys.view = RefCell::new(Some(view));
    work.keys.pools = pools.to_vec();
    Ok(())
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
    let note_of = |stanza: &Stanza| match transfer {
        Transfer::Copy => Some(Note { libc: work.keys.newest_libc(), ..work.keys.of_planned(stanza)?.into() }),
        Transfer::Move => work.keys.of(stanza).map(Note::from),
    };
    let published = binpkgs::publish(own, pool, &note_of, transfer, now(), cx.observer, &work.keys.examiner)?;
    for skipped in &published.skipped {
        tracing::debug!(path = skipped.path, reason = ?skipped.reason, "not published");
    }
    work.keys.published.set(work.keys.published.get() + published.added.len() + published.replaced.len());
    if transfer == Transfer::Copy {
        let name = |path: &String| PackageFile::parse(path).map(|file| Cpv::name_of(&file.cpv).to_owned());
        let packages: BTreeSet<String> = published.added.iter().chain(&published.replaced).filter_map(name).collect();
        ccache::publish(cx, work, &packages);
    }
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
pub(super) fn remove_index(own: &Path) -> Result<()> {
    match std::fs::remove_file(own.join(binpkgs::INDEX)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", own)(error)),
        _ => Ok(()),
    }
}

/// All packages in the indexes of pools.
pub(crate) fn packages_of(pools: &[PathBuf]) -> Result<Vec<Package>> {
    let mut all = Vec::new();
    for pool in pools {
        binpkgs::publish::index_of_those(pool, |stanza| {
            let repository = stanza.get("REPO").cloned().unwrap_or_default();
            all.extend(stanza.get("CPV").map(|cpv| (cpv.clone(), repository)));
            false
        })?;
    }
    Ok(all)
}

pub(super) fn now() -> i64 {
    crate::clock::now().as_second()
}

/// Finds the pool that fits the root, and attaches it. A session that publishes names the `targets` that it is going to build.
pub(crate) fn choose_pool(
    cx: &Context<'_>,
    work: &mut Work<'_>,
    of: PoolOf,
    used: PoolUse,
    targets: &[String],
) -> Result<PoolInputs> {
    let probably = probable_packages(cx, work, &of, &[PoolKind::Release])?;
    let inspected = learn::inspect(cx, work, &probably, (used == PoolUse::Publish).then_some(targets))?;
    let inputs = inspected.facts.pool_inputs(of);
    work.supply.set_host(&inputs.chost);
    work.root.session_conf = work::session_conf(cx, inspected.facts.has_observability());
    jobs::share_jobs(cx, work, &inspected.facts)?;
    if used == PoolUse::Publish {
        ccache::attach(cx, work, &inspected.facts)?;
    }
    let pool = [pools::pool(cx, PoolKind::Release, &inputs)?];
    learn::learn_inspected(cx, work, inspected, &packages_of(&pool)?)?;
    attach(cx, work, &pool, used)?;
    Ok(inputs)
}

/// The packages of the pools that fit, unless the root builds with something else than the state below did, or the profile's builder.
pub(crate) fn probable_packages(cx: &Context<'_>, work: &Work<'_>, of: &PoolOf, kinds: &[PoolKind]) -> Result<Vec<Package>> {
    let mut before = pool_of(&work.supply.base);
    if before.is_none()
        && let Some(builder) = cx.store.ref_get(&ref_name(&work.profile, BUILDER))?
    {
        before = cx.store.state(&builder).ok().as_ref().and_then(pool_of);
    }
    let Some(before) = before else { return Ok(Vec::new()) };
    let PoolOf { portage_profile, own } = of.clone();
    let key = binpkgs::pool_key(&PoolInputs { portage_profile, own, ..before });
    let dirs: Vec<PathBuf> = kinds.iter().map(|kind| binpkgs::pool_dir(&cx.places.binpkgs(), *kind, &key)).collect();
    // What is wrong with a pool is said when it is known that it fits.
    Ok(packages_of(&dirs).unwrap_or_default())
}
