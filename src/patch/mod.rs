//! Patches: changes the source of a package, builds it with the change, and saves the change as a patch that every stage gets.
//!
//! ```text
//! patch prep NAME ATOM    session: ebuild … prepare, git                                data/patches/NAME: a git repository
//!   (an editor)                                                                          |
//! patch try NAME          session: its diff as the last user patch, emerge of it alone  <-'  fails: the session is kept
//! patch shell NAME        a shell in that session, where the package failed
//! patch save NAME         session: its diff                       config/user.patches/NAME/CATEGORY/PACKAGE-VERSION/NAME.patch
//! patch compile           sessions: all saved patches, for several profiles
//! patch refresh NAME      session: another version prepared, the changes merged into it   data/patches/NAME, a new one
//! ```
//!
//! git and everything that knows Portage run in sessions, on the profile's builder with the present configuration. Sessions see a work
//! set read-only, except those that make a new one; in these no phase of any package runs (source.rs). `ebuild … prepare` applies saved
//! patches, too: those that come before this one in Portage's order are part of the pristine state, the patch itself and later ones are
//! not.
//!
//! Every build uses `rehearse.rs`, which applies saved patches before anything is compiled, and `applied.rs`, which checks afterwards
//! which packages have theirs.

pub(crate) mod attempt;
pub(crate) mod compile;
mod error;
pub(crate) mod prep;
pub(crate) mod refresh;
pub(crate) mod rows;
pub(crate) mod save;
pub(crate) mod scripts;
pub(crate) mod source;
pub(crate) mod work_set;

use std::path::PathBuf;

use crate::config::hooks::Phase;
use crate::config::{BUILDER, ConfigDir};
use crate::context;
use crate::context::Context;
use crate::names::profiles;
use crate::patch::work_set::WorkSet;
use crate::portage::binpkgs::{PoolInputs, PoolKind};
use crate::portage::emerge::request::{Existing, Goal, Mode, Part, Request};
use crate::recipe::definition::Stage3;
use crate::recipe::{definition, merge};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::keys::pools::PoolUse;
use crate::session::keys::{learn, pools, throwaway};
use crate::session::root::UserBind;
use crate::session::work::{Given, Subject};
use crate::session::{Work, hooks, jobs, run, work};
use crate::store::{Session, State};

pub(crate) use error::{Error, PatchError, Result};

/// Paths in a session: the work set, a second one, and the file for a script's findings.
const WORK_DIR: &str = "/run/gentoomuch/work";
const BEFORE_DIR: &str = "/run/gentoomuch/before";
const OUT_DIR: &str = "/run/gentoomuch/out";
/// The package of git, for builders without it.
const GIT_PACKAGE: &str = "dev-vcs/git";

/// What sessions of a patch are based on.
pub(crate) struct Ground {
    profile: String,
    base: State,
    recipe: Stage3,
}

/// A session with the configuration installed.
pub(crate) struct Desk<'s> {
    work: Work<'s>,
    pool: PoolInputs,
}

/// The lock of a patch, held by whoever changes its work set.
fn lock_name(name: &str) -> String {
    format!("patch/{name}")
}

/// The builder of a profile, and what would be built on it now.
pub(crate) fn patch_ground(cx: &Context<'_>, config: &ConfigDir, profile: Option<&str>) -> Result<Ground> {
    let (profile, index) = profiles::profile_and_index(cx, profile)?;
    let base = profiles::profile_state(cx, &profile, index)?;
    let upstream = profiles::upstream(cx, &profile)?;
    let recipe = definition::recipe(cx, config, &profile, BUILDER, &upstream)?;
    Ok(Ground { profile, base, recipe })
}

/// Installs the present configuration, whatever the builder was built with, and attaches binary packages.
pub(crate) fn patch_desk<'s>(cx: &Context<'_>, session: &'s mut Session, ground: &Ground, name: &str) -> Result<Desk<'s>> {
    let recipe = &ground.recipe;
    let subject = Subject { log_name: format!("patch-{name}"), profile: ground.profile.clone(), definition: BUILDER.to_owned() };
    let mut work = work::work(cx, session, &ground.base, &subject, recipe.given())?;
    scripts::place(&work)?;
    // Remove patches that the configuration does not have any more.
    run::command(cx, &work, words(&["rm", "-rf", "/etc/portage/patches"]), Network::None)?;
    definition::apply(cx, &work, recipe)?;
    hooks::hooks(cx, &work, &recipe.hooks, Phase::Prepare)?;
    let probably = pools::probable_packages(cx, &work, &recipe.pool_of(), &[PoolKind::Throwaway, PoolKind::Release])?;
    let inspected = learn::inspect(cx, &work, &probably, Some(&[]))?;
    let pool = inspected.facts.pool_inputs(recipe.pool_of());
    work.root.session_conf = work::session_conf(cx, inspected.facts.has_observability());
    jobs::share_jobs(cx, &mut work, &inspected.facts)?;
    let pools = [pools::pool(cx, PoolKind::Throwaway, &pool)?, pools::pool(cx, PoolKind::Release, &pool)?];
    learn::learn_inspected(cx, &work, inspected, &pools::packages_of(&pools)?)?;
    pools::attach(cx, &mut work, &pools, PoolUse::Publish)?;
    Ok(Desk { work, pool })
}

/// A session for git alone, without the configuration.
pub(crate) fn patch_git_desk<'s>(
    cx: &Context<'_>,
    session: &'s mut Session,
    base: &State,
    profile: &str,
    name: &str,
) -> Result<Work<'s>> {
    let subject = Subject { log_name: format!("patch-{name}"), profile: profile.to_owned(), definition: String::new() };
    let mut work = work::work(cx, session, base, &subject, Given::default())?;
    scripts::place(&work)?;
    throwaway::attach_throwaway_pools(cx, &mut work, base)?;
    Ok(work)
}

/// Installs git in this session if the builder does not have it.
pub(crate) fn patch_git(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    let (exit, _) = run::exit_and_output(cx, work, words(&["sh", "-c", "command -v git"]), 1024)?;
    if exit == Exit::Code(0) {
        return Ok(());
    }
    cx.observer.note(&format!("the builder has no git: installing {GIT_PACKAGE} in this session"));
    let goal = Goal::Packages { atoms: vec![GIT_PACKAGE.to_owned()], existing: Existing::Keep, oneshot: true };
    Ok(merge::emerge_supplied(cx, work, &patch_request(cx, goal))?)
}

pub(crate) fn patch_request(cx: &Context<'_>, goal: Goal) -> Request {
    Request {
        jobs: cx.settings.jobs,
        load: Some(cx.settings.processors.max(cx.settings.jobs) as f32),
        ..Request::new(goal, Mode::Run)
    }
}

/// Installs a package's build dependencies, from binary packages where there are some, and publishes what was built.
pub(crate) fn patch_dependencies(cx: &Context<'_>, desk: &Desk<'_>, atom: &str) -> Result<()> {
    cx.observer.step(&format!("installing the build dependencies of {}", atom.trim_start_matches('=')));
    let goal = Goal::Packages { atoms: vec![atom.to_owned()], existing: Existing::Rebuild, oneshot: true };
    let request = Request { part: Part::BuildDependencies, ..patch_request(cx, goal) };
    Ok(merge::emerge_supplied(cx, &desk.work, &request)?)
}

/// The work set, or the error that tells what exists instead.
pub(crate) fn work_set(cx: &Context<'_>, config: Option<&ConfigDir>, name: &str) -> Result<WorkSet> {
    if let Some(set) = work_set::read(cx.places, name)? {
        return Ok(set);
    }
    let known = work_set::all(cx.places)?.into_iter().map(|(name, _)| name).collect();
    let saved = config.is_some_and(|config| config.patch_names().iter().any(|known| known == name));
    Err(PatchError::NoWorkSet { name: name.to_owned(), known, saved }.into())
}

/// A directory of ours, as a session sees it.
fn bind(source: PathBuf, target: &str, read_only: bool) -> UserBind {
    UserBind { source, target: target.into(), read_only }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Keeps the logs of a session unless it was interrupted.
fn forget_if_interrupted<T>(work: &Work<'_>, outcome: Result<T>) -> Result<T> {
    if matches!(outcome, Ok(_) | Err(Error::Context(context::Error::Interrupted { .. }))) {
        work.forget_logs();
    }
    outcome
}
