//! `patch prep`: makes a work set of a package's source, unpacked and prepared as emerge would.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::config::patches::{SavedPatch, applied_to};
use crate::context::Context;
use crate::patch::source::{Found, MAX_NAMED, Source};
use crate::patch::work_set::{WorkSet, harden};
use crate::patch::{
    Desk, Ground, PatchError, Result, WORK_DIR, bind, forget_if_interrupted, lock_name, scripts, source, words, work_set,
};
use crate::portage::emerge::request::{Existing, Goal, Part, Request};
use crate::query::versions::Version;
use crate::sandbox::TaskOptions;
use crate::sandbox::plan::Network;
use crate::session::ask::ask;
use crate::session::keys::pools;
use crate::session::readable_files::write_public;
use crate::session::supply::sources;
use crate::session::{Work, run};
use crate::store::tasks::{REMOVE_TREE, RemoveInput};
use crate::store::{Purpose, Session};
use crate::{context, durable, patch};

/// Longer output of a script is cut.
const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;

/// What to unpack.
#[derive(Debug, Clone)]
pub(crate) struct PrepOptions {
    /// The patch.
    pub name: String,
    /// The package, as an atom.
    pub atom: String,
    /// The ebuild repository; `None`: as emerge would choose.
    pub repository: Option<String>,
    /// The profile; `None` for the default one.
    pub profile: Option<String>,
    /// Also apply the ebuild's own patches.
    pub prepare: bool,
}

/// A new work set.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Prepared {
    pub name: String,
    pub dir: std::path::PathBuf,
    /// What it is the source of.
    pub source: WorkSet,
    /// What was copied, and what was left out.
    #[serde(flatten)]
    pub unpacked: Unpacked,
}

/// What unpacking told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unpacked {
    /// Files in the first commit.
    pub files: u64,
    /// Names of other saved patches that are applied in it.
    pub patches: Vec<String>,
    /// Paths that git would take for repositories within the source. They were left out; the files around them are ordinary content.
    pub nested_repositories: Vec<String>,
    /// Devices, pipes and sockets, which were left out.
    pub special_files: Vec<String>,
    /// Whether a saved version of the patch was applied on top.
    pub saved_applied: bool,
    /// Files with conflict markers after that.
    pub conflicts: Vec<String>,
    /// Files with the rejected parts.
    pub rejected: Vec<String>,
}

/// Unpacks a package's source into a new work set. A patch of that name that was saved before is applied on top.
pub(crate) fn patch_prep(cx: &Context<'_>, config: &ConfigDir, options: &PrepOptions) -> Result<Prepared> {
    let name = &options.name;
    work_set::check_name(name)?;
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let dir = work_set::dir(cx.places, name);
    if fs::symlink_metadata(&dir).is_ok() {
        return Err(PatchError::Exists { name: name.clone(), dir }.into());
    }
    let ground = patch::patch_ground(cx, config, options.profile.as_deref())?;
    let atom = with_repository(&options.atom, options.repository.as_deref());
    let new = new_place(cx, name)?;
    let mut session = cx.store.session_create(Some(&ground.base), Purpose::Patch, "")?;
    let outcome = prep_in(cx, &mut session, &ground, options, &atom, &new);
    session.discard(cx.launcher)?;
    let finished = outcome.and_then(|(source, unpacked)| {
        harden(&new, &source)?;
        durable::publish_tree(&new, &dir)?;
        Ok(Prepared { name: name.clone(), dir, source, unpacked })
    });
    if finished.is_err() {
        remove_unfinished(cx, &new);
    }
    finished
}

/// The directory of an unfinished work set; leftovers of a killed run in it are removed.
pub(crate) fn new_place(cx: &Context<'_>, name: &str) -> Result<std::path::PathBuf> {
    work_set::make_parent(cx.places)?;
    let new = work_set::unfinished(cx.places, name);
    if fs::symlink_metadata(&new).is_ok() {
        let left = RemoveInput { paths: vec![new.clone()] };
        cx.launcher.task(REMOVE_TREE, &left, TaskOptions::default(), &mut |_| {})?;
    }
    Ok(new)
}

/// In a task inside the id map, since a session may have left files of other owners.
pub(crate) fn remove_unfinished(cx: &Context<'_>, new: &Path) {
    let left = RemoveInput { paths: vec![new.to_owned()] };
    if let Err(error) = cx.launcher.task(REMOVE_TREE, &left, TaskOptions::default(), &mut |_| {}) {
        tracing::warn!("cannot remove `{}`: {error}", new.display());
    }
}

fn prep_in(
    cx: &Context<'_>,
    session: &mut Session,
    ground: &Ground,
    options: &PrepOptions,
    atom: &str,
    new: &Path,
) -> Result<(WorkSet, Unpacked)> {
    let desk = patch::patch_desk(cx, session, ground, &options.name)?;
    let outcome = prep_at(cx, &desk, ground, options, atom, new);
    forget_if_interrupted(&desk.work, outcome)
}

fn prep_at(
    cx: &Context<'_>,
    desk: &Desk<'_>,
    ground: &Ground,
    options: &PrepOptions,
    atom: &str,
    new: &Path,
) -> Result<(WorkSet, Unpacked)> {
    let found = ask_portage_for(cx, &desk.work, atom)?;
    let saved = ground.recipe.portage.patches();
    let before = prepare_source(cx, desk, &found, &options.name, &saved, options.prepare)?;
    cx.observer.step(&format!("making the work set `{}`", options.name));
    let source = source::take_source(cx, desk, &found, new)?;
    let own = own_patch(&saved, &options.name, &found);
    let title = found.title(options.prepare);
    let text = source::with_git(cx, &ground.base, &ground.profile, &options.name, |work| {
        if let Some(patch) = own {
            write_public(&work.root.hooks.join(scripts::GIVEN), &patch.contents, 0o644)?;
        }
        work.root.binds = vec![bind(new.to_owned(), WORK_DIR, false)];
        let (unpack, given) = (scripts::path(scripts::UNPACK), scripts::path(scripts::GIVEN));
        Ok(run::output_of(cx, work, words(&["sh", &unpack, WORK_DIR, &title, &given]), OUTPUT_LIMIT_BYTES)?)
    })?;
    let unpacked = unpacked(&scripts::Told::read(&text), before, &source)?;
    Ok((found.into_work_set(&ground.profile, options.prepare, &source.subdir), unpacked))
}

/// The version that emerge would take.
pub(crate) fn ask_portage_for(cx: &Context<'_>, work: &Work<'_>, atom: &str) -> Result<Found> {
    let taken = ask(cx, work, [Version { atom, why: true, flags: false }])?.pop().ok_or(PatchError::Answer(None))?;
    Ok(Found::of(taken.found(atom).map_err(PatchError::from)?).ok_or(PatchError::Answer(None))?)
}

/// Fetches, unpacks and prepares a package's source in the session. Returns which saved patches are applied in it.
pub(crate) fn prepare_source(
    cx: &Context<'_>,
    desk: &Desk<'_>,
    found: &Found,
    name: &str,
    saved: &[SavedPatch],
    prepare: bool,
) -> Result<Vec<String>> {
    let work = &desk.work;
    patch::patch_git(cx, work)?;
    let (before, hidden) = around(saved, name, found);
    if !hidden.is_empty() {
        let argv = words(&["rm", "-f", "--"]).into_iter().chain(hidden).collect();
        run::command(cx, work, argv, Network::None)?;
    }
    cx.observer.step(&format!("fetching the source of {}", found.cpv));
    let goal = Goal::Packages { atoms: vec![found.atom()], existing: Existing::Rebuild, oneshot: true };
    let source = Request { part: Part::Packages, usepkg: false, ..patch::patch_request(cx, goal) };
    sources::bring_sources(cx, work, &source)?;
    if prepare {
        patch::patch_dependencies(cx, desk, &found.atom())?;
    }
    let phase = if prepare { "prepare" } else { "unpack" };
    // Before any phase of the package runs: the result is published, and other sessions install git from there.
    pools::tell_published(cx, &desk.work, &desk.pool);
    cx.observer.step(&format!("{} {}", if prepare { "preparing" } else { "unpacking" }, found.cpv));
    run::command(cx, work, words(&["ebuild", &found.ebuild, "clean", phase]), Network::None)?;
    Ok(if prepare { before } else { Vec::new() })
}

/// The saved patches of a package in Portage's order: the names of those before `name`, and the paths in the session of it and those
/// after.
fn around(saved: &[SavedPatch], name: &str, found: &Found) -> (Vec<String>, Vec<String>) {
    let applied = applied_to(saved, &found.category, &found.package, &found.version_and_revision(), &found.slot);
    let own = format!("{name}-{name}.patch");
    let comes_before = |patch: &SavedPatch| patch.name != name && patch.file_name < own;
    let mut before: Vec<String> = applied.iter().filter(|patch| comes_before(patch)).map(|patch| patch.name.clone()).collect();
    before.dedup();
    // Also those that other files hide: without these they would be applied.
    let of_package = saved.iter().filter(|patch| patch.category == found.category && patch.scope.package == found.package);
    let hidden = of_package.filter(|patch| !comes_before(patch)).map(|patch| format!("/etc/portage/{}", patch.target().display()));
    (before, hidden.collect())
}

/// The file of patch `name` for this version, or else for another version of the package.
pub(crate) fn own_patch<'p>(saved: &'p [SavedPatch], name: &str, found: &Found) -> Option<&'p SavedPatch> {
    let mut own: Vec<&SavedPatch> = saved
        .iter()
        .filter(|patch| patch.name == name && patch.category == found.category && patch.scope.package == found.package)
        .collect();
    own.sort_by_key(|patch| !patch.matches(&found.category, &found.package, &found.version_and_revision(), &found.slot));
    own.first().copied()
}

pub(crate) fn unpacked(told: &scripts::Told, patches: Vec<String>, source: &Source) -> std::result::Result<Unpacked, PatchError> {
    let some = |word| {
        let mut all = told.all(word);
        all.truncate(MAX_NAMED);
        all
    };
    Ok(Unpacked {
        files: told.one("files")?.trim().parse().map_err(|_| PatchError::Answer(None))?,
        patches,
        nested_repositories: source.nested_repositories.clone(),
        special_files: source.special_files.clone(),
        saved_applied: told.has("saved", "applied") || told.has("saved", "conflicts"),
        conflicts: some("conflict"),
        rejected: some("rejected"),
    })
}

/// The atom, restricted to one ebuild repository.
pub(crate) fn with_repository(atom: &str, repository: Option<&str>) -> String {
    match repository {
        Some(repository) if !atom.contains("::") => format!("{atom}::{repository}"),
        _ => atom.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_package_becomes_directories() {
        let found = |cpv: &str, slot: &str, ebuild: &str| {
            let (cpv, repository, ebuild) = (cpv.to_owned(), "gentoo".to_owned(), ebuild.to_owned());
            Found::of(crate::query::versions::Found { cpv, repository, slot: slot.to_owned(), ebuild, flags: None })
        };
        let ebuild = "/var/db/repos/gentoo/x.ebuild";
        for (cpv, slot, parts) in [
            ("app-misc/hello-2.10-r1", "0", ["app-misc", "hello", "2.10", "r1"]),
            ("app-misc/hello-world-1_rc2", "3.2", ["app-misc", "hello-world", "1_rc2", "r0"]),
        ] {
            let found = found(cpv, slot, ebuild).unwrap();
            assert_eq!([found.category, found.package, found.version, found.revision], parts, "{cpv}");
        }
        for (cpv, slot, ebuild) in [
            ("../../../hello-2.10", "0", ebuild),
            ("app-misc/../hello-2.10", "0", ebuild),
            ("app-misc/hello-2/../../10", "0", ebuild),
            ("app-misc/hello", "0", ebuild),
            ("app-misc/hello-2.10", "0/../..", ebuild),
            ("app-misc/hello-2.10", "..", ebuild),
            ("app-misc/hello-2.10", "", ebuild),
            ("app-misc/he\u{1b}llo-2.10", "0", ebuild),
            ("app-misc/hello-2.10::other", "0", ebuild),
            ("app-misc/hello-2.10", "0", "hello.ebuild"),
            ("app-misc/hello-2.10", "0", "/hello\n.ebuild"),
        ] {
            assert!(found(cpv, slot, ebuild).is_none(), "{cpv} {slot} {ebuild}");
        }
    }
}
