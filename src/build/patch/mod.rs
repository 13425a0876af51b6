//! Patches: the source of a package to change, built with the change, kept as a patch that every stage gets.
//!
//! ```text
//! patch prep NAME ATOM    session: ebuild … prepare, git                                data/patches/NAME: a git repository
//!   (an editor)                                                                          |
//! patch try NAME          session: its diff as the last user patch, emerge of it alone  <-'  fails: the session is kept
//! patch shell NAME        a shell in that session, where the package failed
//! patch save NAME         session: its diff                       config/user.patches/NAME/CATEGORY/PACKAGE-VERSION/NAME.patch
//! patch compile           sessions: all that is saved, for several profiles
//! patch refresh NAME      session: another version prepared, the changes merged into it   data/patches/NAME, a new one
//! ```
//!
//! git and everything that knows Portage run in sessions, on the profile's builder with the configuration as it is now. A work set is shown
//! to a session read-only, but to those that make a new one; no package's phases run in these (source.rs). `ebuild … prepare` applies saved patches, too: those that come before this one in
//! Portage's order are part of the pristine state, the patch itself and those after it are not.
//!
//! What every build does with saved patches: `rehearse.rs` applies them before anything is compiled, `applied.rs` looks afterwards which
//! packages have theirs.

mod applied;
mod attempt;
mod compile;
mod error;
mod prep;
mod refresh;
mod rehearse;
mod rows;
mod save;
mod scripts;
mod source;
mod work_set;

use std::path::PathBuf;

use super::definition::{BUILDER, Recipe};
use super::engine::{Engine, Work};
use super::error::{Error, Result};
use super::keys::PoolUse;
use super::session::UserBind;
use super::work::{Given, Subject};
use crate::config::ConfigDir;
use crate::config::hooks::Phase;
use crate::portage::binpkgs::{PoolInputs, PoolKind};
use crate::portage::emerge::request::{Existing, Goal, Mode, Part, Request};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::store::{Session, State};

pub use applied::{PatchFate, PatchedPackage};
pub(super) use applied::{lookup, note_patches, recorded};
pub use attempt::{Attempt, AttemptOptions, Came as AttemptCame};
pub use compile::{CompileOptions, CompileWatcher, Compiled, CompiledPatch, PatchResult};
pub use error::{PatchError, PatchMisfit};
pub use prep::{PrepOptions, Prepared, Unpacked};
pub use refresh::{RefreshOptions, Refreshed};
pub(super) use rehearse::Candidate;
pub use rows::{PatchRow, RemovedPatch, SavedFile};
pub use save::{SaveOptions, SavedAs, Span};
pub use work_set::WorkSet;

/// Where a work set is in a session, where another one, and where a script writes what it found.
const WORK_DIR: &str = "/run/gentoomuch/work";
const BEFORE_DIR: &str = "/run/gentoomuch/before";
const OUT_DIR: &str = "/run/gentoomuch/out";
/// What packages get git from, where the builder has none.
const GIT_PACKAGE: &str = "dev-vcs/git";

/// What sessions of a patch stand on.
struct Ground {
    profile: String,
    base: State,
    recipe: Recipe,
}

/// A session with the configuration in place.
struct Desk<'s> {
    work: Work<'s>,
    pool: PoolInputs,
}

/// The lock of a patch: whoever changes its work set holds it.
fn lock_name(name: &str) -> String {
    format!("patch/{name}")
}

impl Engine<'_> {
    /// The builder of a profile, built or not, and what would be built on it now.
    fn patch_ground(&self, config: &ConfigDir, profile: Option<&str>) -> Result<Ground> {
        let (profile, index) = self.profile_and_index(profile)?;
        let base = self.profile_state(&profile, index)?;
        let upstream = self.upstream(&profile)?;
        let recipe = self.recipe(config, BUILDER, &upstream)?;
        Ok(Ground { profile, base, recipe })
    }

    /// Puts the configuration of today in place, whatever the builder was built with, and attaches binary packages.
    fn patch_desk<'s>(&self, session: &'s mut Session, ground: &Ground, name: &str) -> Result<Desk<'s>> {
        let recipe = &ground.recipe;
        let subject =
            Subject { log_name: format!("patch-{name}"), profile: ground.profile.clone(), definition: BUILDER.to_owned() };
        let mut work = self.work(session, &ground.base, &subject, recipe.given())?;
        scripts::place(&work)?;
        // Patches that the configuration had then and has no more.
        self.command(&work, words(&["rm", "-rf", "/etc/portage/patches"]), Network::None)?;
        self.apply(&work, recipe)?;
        self.hooks(&work, &recipe.hooks, Phase::Prepare)?;
        let facts = self.inspect(&work)?;
        let pool = facts.pool_inputs(recipe.pool_of());
        work.root.session_conf = self.session_conf(facts.has_observability());
        self.share_jobs(&mut work, &facts)?;
        let pools = [self.pool(PoolKind::Throwaway, &pool)?, self.pool(PoolKind::Release, &pool)?];
        self.show_pools(&mut work, &pools, PoolUse::Publish)?;
        Ok(Desk { work, pool })
    }

    /// A session for git alone: nothing of the configuration is in place.
    fn patch_git_desk<'s>(&self, session: &'s mut Session, base: &State, profile: &str, name: &str) -> Result<Work<'s>> {
        let subject = Subject { log_name: format!("patch-{name}"), profile: profile.to_owned(), definition: String::new() };
        let mut work = self.work(session, base, &subject, Given::default())?;
        scripts::place(&work)?;
        self.attach_throwaway_pools(&mut work, base)?;
        Ok(work)
    }

    /// Installs git for this session where the builder has none.
    fn patch_git(&self, work: &Work<'_>) -> Result<()> {
        let (exit, _) = self.exit_and_output(work, words(&["sh", "-c", "command -v git"]), 1024)?;
        if exit == Exit::Code(0) {
            return Ok(());
        }
        self.note(&format!("the builder has no git: installing {GIT_PACKAGE} in this session"));
        let goal = Goal::Packages { atoms: vec![GIT_PACKAGE.to_owned()], existing: Existing::Keep, oneshot: true };
        self.emerge_supplied(work, &self.patch_request(goal))
    }

    fn patch_request(&self, goal: Goal) -> Request {
        Request {
            jobs: self.settings.jobs,
            load: Some(self.settings.processors.max(self.settings.jobs) as f32),
            ..Request::new(goal, Mode::Run)
        }
    }

    /// Installs what a package needs to be built, from binary packages where there are some; what was built is published for the next time.
    fn patch_dependencies(&self, desk: &Desk<'_>, atom: &str) -> Result<()> {
        self.step(&format!("installing what {} needs to be built", atom.trim_start_matches('=')));
        let goal = Goal::Packages { atoms: vec![atom.to_owned()], existing: Existing::Rebuild, oneshot: true };
        let request = Request { part: Part::BuildDependencies, ..self.patch_request(goal) };
        self.emerge_supplied(&desk.work, &request)
    }

    /// The work set, or what there is instead.
    fn work_set(&self, config: Option<&ConfigDir>, name: &str) -> Result<WorkSet> {
        if let Some(set) = work_set::read(self.places, name)? {
            return Ok(set);
        }
        let known = work_set::all(self.places)?.into_iter().map(|(name, _)| name).collect();
        let saved = config.is_some_and(|config| config.patch_names().iter().any(|known| known == name));
        Err(PatchError::NoWorkSet { name: name.to_owned(), known, saved }.into())
    }
}

/// A directory of ours, seen in a session.
fn bind(source: PathBuf, target: &str, read_only: bool) -> UserBind {
    UserBind { source, target: target.into(), read_only }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whatever came of a session: an interruption leaves no logs.
fn forget_if_interrupted<T>(work: &Work<'_>, outcome: Result<T>) -> Result<T> {
    if matches!(outcome, Ok(_) | Err(Error::Interrupted { .. })) {
        work.forget_logs();
    }
    outcome
}
