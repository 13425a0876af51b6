//! `patch refresh`: moves the changes of a work set, or of a saved patch, to another version of the package.

use std::path::Path;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::context::Context;
use crate::patch::prep::{PrepOptions, Prepared, Unpacked, unpacked};
use crate::patch::source::Found;
use crate::patch::work_set::{WorkSet, harden};
use crate::patch::{
    BEFORE_DIR, Desk, Ground, PatchError, Result, WORK_DIR, bind, forget_if_interrupted, lock_name, prep, rows, save, scripts,
    source, words, work_set,
};
use crate::portage::atom::Atom;
use crate::session::run;
use crate::store::{Purpose, Session};
use crate::{context, durable, patch};

/// Longer output of the script is cut.
const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;

/// What to refresh.
#[derive(Debug, Clone)]
pub(crate) struct RefreshOptions {
    /// The patch.
    pub name: String,
    /// The version to move to; `None`: the newest that emerge would take.
    pub to: Option<String>,
    /// The profile; `None`: the one that the work set was unpacked with, or the default one.
    pub profile: Option<String>,
}

/// A work set of the new version.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Refreshed {
    pub name: String,
    pub dir: std::path::PathBuf,
    /// The version before; `None`: there was no work set, and the saved patch was used.
    pub before: Option<String>,
    /// The package that it is the source of now.
    pub source: WorkSet,
    /// What was copied, and what was left out.
    #[serde(flatten)]
    pub unpacked: Unpacked,
}

/// Moves a patch to another version by a three-way merge. Conflicts are left in the files as markers, and are no error.
pub(crate) fn patch_refresh(cx: &Context<'_>, config: &ConfigDir, options: &RefreshOptions) -> Result<Refreshed> {
    let name = &options.name;
    work_set::check_name(name)?;
    let Some(before) = work_set::read(cx.places, name)? else { return refresh_saved(cx, config, options) };
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let atom = options.to.clone().unwrap_or_else(|| format!("{}::{}", before.name(), before.repository));
    if Atom::parse_target(&atom).is_ok_and(|atom| atom.name() != before.name()) {
        return Err(PatchError::OtherPackage { atom, package: before.name() }.into());
    }
    let ground = patch::patch_ground(cx, config, Some(options.profile.as_deref().unwrap_or(&before.profile)))?;
    // Report conflict markers, binary files and the like before anything is unpacked.
    save::patch_diff(cx, &before, name)?;
    let new = prep::new_place(cx, name)?;
    let mut session = cx.store.session_create(Some(&ground.base), Purpose::Patch, "")?;
    let outcome = refresh_in(cx, &mut session, &ground, name, &before, &atom, &new);
    session.discard(cx.launcher)?;
    let finished = outcome.and_then(|(source, unpacked)| exchange(cx, name, &new, &before, source, unpacked));
    prep::remove_unfinished(cx, &new);
    finished
}

/// Without a work set, applies the saved patch to the new version as far as possible.
fn refresh_saved(cx: &Context<'_>, config: &ConfigDir, options: &RefreshOptions) -> Result<Refreshed> {
    let name = &options.name;
    let saved = match config.patch(name) {
        Ok(saved) => saved,
        Err(crate::config::Error::Unknown { .. }) => return Err(rows::no_such_patch(cx, config, name)?.into()),
        Err(error) => return Err(error.into()),
    };
    let mut packages: Vec<String> = saved.iter().map(|patch| format!("{}/{}", patch.category, patch.scope.package)).collect();
    packages.sort();
    packages.dedup();
    let atom = match (&options.to, packages.as_slice()) {
        (Some(to), _) => to.clone(),
        (None, [package]) => package.clone(),
        _ => return Err(PatchError::SeveralPackages { name: name.clone(), packages }.into()),
    };
    let prepared = prep::patch_prep(
        cx,
        config,
        &PrepOptions { name: name.clone(), atom, repository: None, profile: options.profile.clone(), prepare: true },
    )?;
    let Prepared { name, dir, source, unpacked } = prepared;
    Ok(Refreshed { name, dir, before: None, source, unpacked })
}

/// Swaps the new work set with the old one in one step.
fn exchange(cx: &Context<'_>, name: &str, new: &Path, before: &WorkSet, source: WorkSet, unpacked: Unpacked) -> Result<Refreshed> {
    harden(new, &source)?;
    let dir = work_set::dir(cx.places, name);
    durable::exchange_trees(new, &dir)?;
    Ok(Refreshed { name: name.to_owned(), dir, before: Some(before.cpv.clone()), source, unpacked })
}

fn refresh_in(
    cx: &Context<'_>,
    session: &mut Session,
    ground: &Ground,
    name: &str,
    before: &WorkSet,
    atom: &str,
    new: &Path,
) -> Result<(WorkSet, Unpacked)> {
    let desk = patch::patch_desk(cx, session, ground, name)?;
    let outcome = prep::ask_portage_for(cx, &desk.work, atom).and_then(|found| {
        if found.cpv == before.cpv && found.repository == before.repository {
            return Err(PatchError::NothingNewer { name: name.to_owned(), cpv: found.cpv }.into());
        }
        merge_onto(cx, &desk, ground, name, before, found, new)
    });
    forget_if_interrupted(&desk.work, outcome)
}

fn merge_onto(
    cx: &Context<'_>,
    desk: &Desk<'_>,
    ground: &Ground,
    name: &str,
    before: &WorkSet,
    found: Found,
    new: &Path,
) -> Result<(WorkSet, Unpacked)> {
    let saved = ground.recipe.portage.patches();
    let patches = prep::prepare_source(cx, desk, &found, name, &saved, before.prepared)?;
    let source = source::take_source(cx, desk, &found, new)?;
    cx.observer.step(&format!("merging the changes to {} into {}", before.cpv, found.cpv));
    let (old, title) = (work_set::dir(cx.places, name), found.title(before.prepared));
    work_set::check(&old)?;
    let text = source::with_git(cx, &ground.base, &ground.profile, name, |work| {
        work.root.binds = vec![bind(new.to_owned(), WORK_DIR, false), bind(old, BEFORE_DIR, true)];
        let refresh = scripts::path(scripts::REFRESH);
        Ok(run::output_of(cx, work, words(&["sh", &refresh, WORK_DIR, &title, BEFORE_DIR]), OUTPUT_LIMIT_BYTES)?)
    })?;
    let unpacked = unpacked(&scripts::Told::read(&text), patches, &source)?;
    Ok((found.into_work_set(&ground.profile, before.prepared, &source.subdir), unpacked))
}
