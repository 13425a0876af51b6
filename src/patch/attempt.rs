//! `patch try`: builds a package with the changes of its work set. `patch shell`: opens a shell where that failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::beneath::TreeDir;
use crate::config::ConfigDir;
use crate::config::patches::PATCHES_DIR;
use crate::context::Context;
use crate::patch::save::{Changed, Diff, is_own};
use crate::patch::work_set::WorkSet;
use crate::patch::{Desk, Error, Ground, PatchError, Result, lock_name, prep, save, scripts, words, work_set};
use crate::path_error::OfFile as _;
use crate::portage::emerge::Failure;
use crate::portage::emerge::request::{Existing, Goal, Part, Request};
use crate::recipe::merge;
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::keys::pools;
use crate::session::logs::package_log;
use crate::session::readable_files::write_public;
use crate::session::root::{BUILD_DIR, HOOKS_DIR, Run};
use crate::session::supply::sources;
use crate::session::work::{Given, Subject};
use crate::session::{run, work};
use crate::store::{Purpose, Session};
use crate::{context, patch, session};

/// A file of a kept session that records what failed.
const RECORD: &str = "patch.json";
/// How many logs of single packages are searched, and their size limit.
const MAX_LOGS: usize = 10_000;
const MAX_LOG_BYTES: u64 = 256 << 20;

/// What to build.
#[derive(Debug, Clone)]
pub(crate) struct AttemptOptions {
    /// The patch.
    pub name: String,
    /// The profile; `None`: the one that the work set was unpacked with.
    pub profile: Option<String>,
    /// Show the compiler's output.
    pub show_log: bool,
}

/// The result of building a package with a patch.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Attempt {
    pub name: String,
    pub package: String,
    pub profile: String,
    pub files: Vec<Changed>,
    /// Files that git ignores, and that are not part of the patch.
    pub ignored: Vec<String>,
    /// How long it took without dependencies, seconds.
    pub seconds: f64,
    /// How it ended.
    #[serde(flatten)]
    pub came: Came,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(crate) enum Came {
    /// It was built with the changes.
    Built,
    /// It was built, but without the changes.
    NotApplied {
        /// emerge's output.
        log: PathBuf,
    },
    /// The build failed.
    Failed {
        /// The reason, in one line.
        reason: String,
        /// The package that failed; it may be a dependency.
        package: Option<String>,
        /// The ebuild phase.
        phase: Option<String>,
        /// The log to read.
        log: PathBuf,
        /// Whether there is a build directory to look at.
        kept: bool,
    },
}

/// The record of a kept session.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    profile: String,
    build_dir: String,
}

/// Builds the package of a work set with its changes. A failed build is no error.
pub(crate) fn patch_try(cx: &Context<'_>, config: &ConfigDir, options: &AttemptOptions) -> Result<Attempt> {
    let name = &options.name;
    work_set::check_name(name)?;
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let set = patch::work_set(cx, Some(config), name)?;
    let ground = patch::patch_ground(cx, config, Some(options.profile.as_deref().unwrap_or(&set.profile)))?;
    forget_attempt(cx, name)?;
    let key = key_of(name);
    let mut session = cx.store.session_create_for(Some(&ground.base), Purpose::Patch, &key, Some(&key))?;
    let outcome = try_in(cx, &mut session, &ground, options, &set);
    match outcome {
        Ok((attempt, Some(kept))) => {
            let text = serde_json::to_string(&kept).map_err(|error| PatchError::Answer(Some(error)))?;
            let record = session.path(RECORD);
            fs::write(&record, text).map_err(Error::io("write", &record))?;
            session.suspend(&format!("{} failed with the patch {name}", set.cpv))?;
            Ok(attempt)
        }
        Ok((attempt, None)) => {
            session.discard(cx.launcher)?;
            Ok(attempt)
        }
        Err(error) => {
            session.discard(cx.launcher)?;
            Err(error)
        }
    }
}

/// Removes the kept session of an earlier attempt.
pub(crate) fn forget_attempt(cx: &Context<'_>, name: &str) -> Result<()> {
    while let Some(session) = cx.store.session_find_suspended(&key_of(name))? {
        session.discard(cx.launcher)?;
    }
    // Sessions from before a reboot.
    cx.store.session_discard_superseded(&key_of(name), "", cx.launcher)?;
    Ok(())
}

fn try_in(
    cx: &Context<'_>,
    session: &mut Session,
    ground: &Ground,
    options: &AttemptOptions,
    set: &WorkSet,
) -> Result<(Attempt, Option<Kept>)> {
    let name = &options.name;
    let mut desk = patch::patch_desk(cx, session, ground, name)?;
    let outcome = patch::patch_git(cx, &desk.work).and_then(|()| try_at(cx, &mut desk, ground, options, set));
    if matches!(outcome, Ok((Attempt { came: Came::Built, .. }, _)) | Err(Error::Context(context::Error::Interrupted { .. }))) {
        desk.work.forget_logs();
    }
    outcome
}

fn try_at(
    cx: &Context<'_>,
    desk: &mut Desk<'_>,
    ground: &Ground,
    options: &AttemptOptions,
    set: &WorkSet,
) -> Result<(Attempt, Option<Kept>)> {
    let name = &options.name;
    let found = prep::ask_portage_for(cx, &desk.work, &set.atom())?;
    let diff = save::patch_diff_in(cx, &mut desk.work, name)?;
    put_patch(cx, desk, ground, name, set, &diff)?;
    let mut attempt = Attempt {
        name: name.clone(),
        package: set.cpv.clone(),
        profile: ground.profile.clone(),
        files: diff.files,
        ignored: diff.ignored,
        seconds: 0.0,
        came: Came::Built,
    };
    if diff.patch.is_empty() {
        cx.observer.note(&format!("the work set `{name}` has no changes: building {} without them", set.cpv));
    }
    let log = desk.work.log_dir.join("emerge.log");
    let begun = Instant::now();
    let built = build_patched(cx, desk, options, set, &found.atom());
    attempt.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    match built {
        Ok(seconds) => {
            attempt.seconds = seconds;
            if !diff.patch.is_empty() && !is_applied(&desk.work.package_logs(), set, &format!("{name}-{name}.patch")) {
                attempt.came = Came::NotApplied { log };
            }
            pools::tell_published(cx, &desk.work, &desk.pool);
            Ok((attempt, None))
        }
        Err(Error::Session(session::Error::Emerge { failure, log, .. })) => {
            let own = failure.package.as_deref().is_none_or(|package| package == set.cpv);
            let build_dir = format!("{BUILD_DIR}/{}", failure.package.as_deref().unwrap_or(&set.cpv));
            let kept = (own || failure.phase.is_some()).then(|| Kept { profile: ground.profile.clone(), build_dir });
            attempt.came = failed(&desk.work.package_logs(), *failure, log, kept.is_some());
            Ok((attempt, kept))
        }
        Err(error) => Err(error),
    }
}

/// Puts the changes where Portage applies patches, in place of the saved version of the patch.
fn put_patch(cx: &Context<'_>, desk: &Desk<'_>, ground: &Ground, name: &str, set: &WorkSet, diff: &Diff) -> Result<()> {
    let work = &desk.work;
    let patches = ground.recipe.portage.patches();
    let own = patches.iter().filter(|patch| is_own(patch, name, set));
    let mut argv = words(&["rm", "-f", "--"]);
    argv.extend(own.map(|patch| format!("/etc/portage/{}", patch.target().display())));
    run::command(cx, work, argv, Network::None)?;
    if diff.patch.is_empty() {
        return Ok(());
    }
    write_public(&work.root.hooks.join(scripts::GIVEN), &diff.patch, 0o644)?;
    let place = format!("/etc/portage/{PATCHES_DIR}/{}/{}-{}-{}", set.category, set.package, set.version, set.revision);
    let target = format!("{place}/{name}-{name}.patch");
    let script = "mkdir -p -- \"$1\" && cp -- \"$2\" \"$3\"";
    Ok(run::command(cx, work, words(&["sh", "-c", script, "sh", &place, &scripts::path(scripts::GIVEN), &target]), Network::None)?)
}

/// Builds the package itself; returns how long that took, seconds.
fn build_patched(cx: &Context<'_>, desk: &Desk<'_>, options: &AttemptOptions, set: &WorkSet, atom: &str) -> Result<f64> {
    patch::patch_dependencies(cx, desk, atom)?;
    let goal = Goal::Packages { atoms: vec![atom.to_owned()], existing: Existing::Rebuild, oneshot: true };
    // No binary package is used, and none is made: nobody else may get what is tried here.
    let request = Request {
        usepkg_exclude: vec![set.name()],
        buildpkg_exclude: vec![set.name()],
        // emerge would also rebuild packages that depend on it, which is not asked for.
        part: Part::Packages,
        show_log: options.show_log,
        ..patch::patch_request(cx, goal)
    };
    cx.observer.step(&format!("fetching the source of {}", set.cpv));
    sources::bring_sources(cx, &desk.work, &request)?;
    cx.observer.step(&format!("building {} with the patch {}", set.cpv, options.name));
    let begun = Instant::now();
    merge::emerge_patched(cx, &desk.work, &request, Network::None, &desk.work.log_dir.join("emerge.log"))?;
    Ok((begun.elapsed().as_secs_f64() * 10.0).round() / 10.0)
}

/// Opens a shell, or runs a command, in the session of the last failed attempt, which stays.
pub(crate) fn patch_shell(cx: &Context<'_>, name: &str, command: &[String], has_terminal: bool) -> Result<Exit> {
    work_set::check_name(name)?;
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let Some(mut session) = cx.store.session_find_suspended(&key_of(name))? else {
        patch::work_set(cx, None, name)?;
        return Err(PatchError::NothingKept(name.to_owned()).into());
    };
    let outcome = shell_in(cx, &mut session, name, command, has_terminal);
    session.suspend(&format!("a build with the patch {name} failed"))?;
    outcome
}

fn shell_in(cx: &Context<'_>, session: &mut Session, name: &str, command: &[String], has_terminal: bool) -> Result<Exit> {
    let record = session.path(RECORD);
    let bytes = fs::read(&record).map_err(Error::io("read", &record))?;
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| PatchError::Answer(Some(error)))?;
    let Some(base) = session.base().cloned() else { return Err(PatchError::NothingKept(name.to_owned()).into()) };
    let subject = Subject { log_name: format!("patch-{name}"), profile: kept.profile, definition: String::new() };
    let work = work::work(cx, session, &base, &subject, Given::default())?;
    scripts::place(&work)?;
    let mut argv = words(&["/bin/sh", &format!("{HOOKS_DIR}/{}", scripts::SHELL), &kept.build_dir]);
    argv.extend(command.iter().cloned());
    let mut env = work.env.clone();
    env.extend(cx.settings.term.clone().filter(|_| has_terminal).map(|term| ("TERM".to_owned(), term)));
    let run = Run {
        argv,
        env,
        network: Network::None,
        terminal: has_terminal,
        hostname: work.hostname.clone(),
        shown: None,
        in_memory: None,
    };
    let exit = run::attend(cx, &work, &run)?;
    work.forget_logs();
    Ok(exit)
}

/// Build key and subject of sessions that try a patch. They never become a state.
pub(crate) fn key_of(name: &str) -> String {
    format!("patch:{name}")
}

/// Whether a package's log names a patch, as Portage does for each one that it applies. The log is hostile.
fn is_applied(logs: &Path, set: &WorkSet, file: &str) -> bool {
    let Ok(root) = TreeDir::open(logs) else { return false };
    let Ok(entries) = root.entries(MAX_LOGS) else { return false };
    let name = set.cpv.replace('/', ":");
    let own = entries
        .iter()
        .filter(|entry| entry.text().and_then(|text| text.strip_prefix(&name)).is_some_and(|rest| rest.starts_with(':')));
    let texts = own.filter_map(|entry| root.read(entry.os(), MAX_LOG_BYTES).ok());
    texts.into_iter().any(|text| text.windows(file.len()).any(|window| window == file.as_bytes()))
}

fn failed(logs: &Path, failure: Failure, log: PathBuf, kept: bool) -> Came {
    // The package's own log says most.
    let of_package = failure.build_log.as_ref().and_then(|inside| package_log(logs, inside));
    Came::Failed {
        reason: failure.to_string(),
        package: failure.package,
        phase: failure.phase,
        log: of_package.unwrap_or(log),
        kept,
    }
}
