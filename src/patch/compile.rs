//! `patch compile`: builds every saved patch for every profile, in throw-away sessions.
//!
//! ```text
//! a profile's builder                  with the present configuration, whatever the builder was built with
//!   | session: which version           the best visible version of ~app-misc/hello-2.10
//!   | sessions, several at a time:     one for each version, with all patches for it
//!   |   emerge                         dependencies from binary packages, the package itself compiled
//!   v
//! a row for each patch, package, profile: proven by USER_PATCHES, see `applied`
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::config::patches::SavedPatch;
use crate::context::{Context, Settings};
use crate::names::profiles;
use crate::patch::{Desk, Ground, PatchError, Result};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::Failure;
use crate::portage::emerge::request::{Existing, Goal, Request};
use crate::progress::{Event, Observer};
use crate::recipe::merge;
use crate::recipe::patches::rehearse::Visible;
use crate::recipe::patches::{applied, rehearse};
use crate::session::Work;
use crate::session::keys::pools;
use crate::session::logs::package_log;
use crate::store::{Purpose, Session};
use crate::{context, patch, session};

/// Subject of the sessions' logs.
const PURPOSE: &str = "compile";

/// What to build.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompileOptions {
    /// Names of saved patches; all if empty.
    pub names: Vec<String>,
    /// The profile; the default one if there is none.
    pub profile: Option<String>,
    /// All profiles instead.
    pub all: bool,
    /// Start nothing further after a failure.
    pub fail_fast: bool,
}

/// A patch for one package on one profile, and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CompiledPatch {
    /// The saved patch.
    pub patch: String,
    /// `category/name-version`, or the atom if no version matches it.
    pub package: String,
    pub profile: String,
    #[serde(flatten)]
    pub result: PatchResult,
}

/// The result of building a package with its patches.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(crate) enum PatchResult {
    /// It was built with the patch.
    Built {
        /// How long emerge took, dependencies included, seconds.
        seconds: f64,
    },
    /// It was built without the patch.
    NotApplied {
        /// Why, in a sentence.
        reason: String,
    },
    /// The build failed.
    Failed {
        /// The reason, in one line.
        reason: String,
        /// The ebuild phase.
        phase: Option<String>,
        /// The log to read, on the host.
        log: PathBuf,
    },
    /// No version that may be installed is one for the patch.
    NoVersion,
    /// Portage applies another file of the same name to that version, or an empty file removes it.
    Replaced,
    /// Something else had failed before, so it was not started.
    NotTried,
}

impl PatchResult {
    /// Whether that is a success.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Built { .. } | Self::Replaced)
    }
}

/// All rows, by profile, package and patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Compiled {
    pub patches: Vec<CompiledPatch>,
}

/// A version on a profile.
struct Job {
    ground: usize,
    cpv: String,
    /// The rows that get its result.
    rows: Vec<usize>,
}

/// Receives the progress, from any thread.
pub(crate) trait CompileWatcher: Sync {
    /// What will be built: `category/name-version on PROFILE`.
    fn planned(&self, names: &[String]);
    /// What is being done for job `index`, in words.
    fn working(&self, index: usize, what: &str);
    fn ended(&self, index: usize, result: &PatchResult);
}

/// Forwards the events of one job.
struct Relay<'a> {
    index: usize,
    watcher: &'a dyn CompileWatcher,
    observer: &'a (dyn Observer + 'a),
}

impl Observer for Relay<'_> {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Emerge(status) => {
                let running = status.running.iter().map(|task| format!("{} {} {}s", task.cpv, task.phase, task.elapsed_secs));
                let running: Vec<String> = running.collect();
                if !running.is_empty() {
                    self.watcher.working(self.index, &running.join(", "));
                }
            }
            Event::Warning(_) => self.observer.event(event),
            _ => {}
        }
    }
}

/// Builds saved patches. A failed build is no error.
pub(crate) fn patch_compile(
    cx: &Context<'_>,
    config: &ConfigDir,
    options: &CompileOptions,
    watcher: &dyn CompileWatcher,
) -> Result<Compiled> {
    for name in &options.names {
        config.patch(name)?;
    }
    let patches = config.patches()?;
    let chosen: Vec<&SavedPatch> = patches
        .iter()
        .filter(|patch| !patch.contents.is_empty() && (options.names.is_empty() || options.names.contains(&patch.name)))
        .collect();
    if chosen.is_empty() {
        return Err(PatchError::NothingSaved.into());
    }
    let _shared = context::share_store(cx)?;
    let profiles = match &options.profile {
        _ if options.all => profiles::profiles(cx)?,
        named => vec![profiles::profile_or_default(cx, named.as_deref())?],
    };
    let grounds = profiles.iter().map(|profile| patch::patch_ground(cx, config, Some(profile))).collect::<Result<Vec<_>>>()?;
    let (mut rows, mut jobs) = (Vec::new(), Vec::new());
    for (at, ground) in grounds.iter().enumerate() {
        let versions = compile_versions(cx, ground, &chosen)?;
        plan((at, &ground.profile), &chosen, &patches, &versions, &mut rows, &mut jobs);
    }
    let names: Vec<String> = jobs.iter().map(|job| format!("{} on {}", job.cpv, grounds[job.ground].profile)).collect();
    watcher.planned(&names);
    compile_all(cx, &grounds, &jobs, &mut rows, options.fail_fast, watcher)?;
    Ok(Compiled { patches: rows })
}

/// The versions that emerge would take.
fn compile_versions(cx: &Context<'_>, ground: &Ground, chosen: &[&SavedPatch]) -> Result<Vec<Visible>> {
    let atoms: BTreeSet<String> = chosen.iter().map(|patch| patch.atom()).collect();
    cx.observer.step(&format!(
        "asking Portage on {} about {}",
        ground.profile,
        atoms.iter().cloned().collect::<Vec<_>>().join(" ")
    ));
    let mut session = cx.store.session_create(Some(&ground.base), Purpose::Throwaway, "")?;
    let outcome = patch::patch_desk(cx, &mut session, ground, PURPOSE).and_then(|Desk { work, .. }| {
        let found = rehearse::visible_versions(cx, &work, &atoms);
        work.forget_logs();
        Ok(found?)
    });
    session.discard(cx.launcher)?;
    outcome
}

/// Builds all `jobs`, as many at a time as there are make jobs, and writes the results into `rows`.
fn compile_all(
    cx: &Context<'_>,
    grounds: &[Ground],
    jobs: &[Job],
    rows: &mut [CompiledPatch],
    fail_fast: bool,
    watcher: &dyn CompileWatcher,
) -> Result<()> {
    let processors = cx.settings.jobs.max(1);
    let workers = jobs.len().clamp(1, processors as usize);
    let each = (processors / u32::try_from(workers).unwrap_or(1)).max(1);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ended: Mutex<Vec<(usize, Result<PatchResult>)>> = Mutex::default();
    let work = || {
        while !stop.load(Ordering::Relaxed) && cx.interrupt.count() == 0 {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            let ground = &grounds[job.ground];
            watcher.working(at, "starting");
            let relay = Relay { index: at, watcher, observer: cx.observer };
            let cx = &Context { observer: &relay, settings: Settings { jobs: each, ..cx.settings.clone() }, ..*cx };
            let result = compile_one(cx, ground, &job.cpv);
            if result.as_ref().map_or(true, |result| fail_fast && !result.is_good()) {
                stop.store(true, Ordering::Relaxed);
            }
            if let Ok(result) = &result {
                watcher.ended(at, result);
            }
            ended.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    crate::threads::crew(workers, work);
    context::not_interrupted(cx)?;
    for (at, result) in ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let result = result?;
        for row in &jobs[at].rows {
            rows[*row].result = result.clone();
        }
    }
    Ok(())
}

fn compile_one(cx: &Context<'_>, ground: &Ground, cpv: &str) -> Result<PatchResult> {
    let mut session = cx.store.session_create(Some(&ground.base), Purpose::Throwaway, "")?;
    let outcome = compile_in(cx, &mut session, ground, cpv);
    session.discard(cx.launcher)?;
    outcome
}

fn compile_in(cx: &Context<'_>, session: &mut Session, ground: &Ground, cpv: &str) -> Result<PatchResult> {
    let desk = patch::patch_desk(cx, session, ground, PURPOSE)?;
    let work = &desk.work;
    let name = Cpv::name_of(cpv);
    let goal = Goal::Packages { atoms: vec![format!("={cpv}")], existing: Existing::Rebuild, oneshot: true };
    let request = Request {
        usepkg_exclude: vec![name.to_owned()],
        buildpkg_exclude: vec![name.to_owned()],
        ..patch::patch_request(cx, goal)
    };
    let begun = Instant::now();
    let built = merge::emerge_supplied(cx, work, &request).map(|()| begun.elapsed().as_secs_f64());
    let seconds = match built {
        Ok(seconds) => (seconds * 10.0).round() / 10.0,
        Err(session::Error::Emerge { failure, log, .. }) => return Ok(failed(work, &failure, log)),
        Err(error) => {
            if error.is_interrupted() {
                work.forget_logs();
            }
            return Err(error.into());
        }
    };
    let result = match applied::patched(cx, work)?.into_iter().find(|package| package.package == cpv) {
        Some(package) if !package.is_applied() => PatchResult::NotApplied { reason: package.to_string() },
        Some(_) => PatchResult::Built { seconds },
        None => PatchResult::NotApplied { reason: format!("cannot tell whether patches were applied to {cpv}") },
    };
    pools::tell_published(cx, &desk.work, &desk.pool);
    work.forget_logs();
    Ok(result)
}

/// The rows of one profile, and the jobs for them.
fn plan(
    (ground, profile): (usize, &str),
    chosen: &[&SavedPatch],
    all: &[SavedPatch],
    versions: &[Visible],
    rows: &mut Vec<CompiledPatch>,
    jobs: &mut Vec<Job>,
) {
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    for patch in chosen {
        let atom = patch.atom();
        let version = versions.iter().find(|version| version.atom == atom);
        let package = version.map_or(atom, |version| version.cpv.clone());
        if !wanted.insert((package.clone(), patch.name.clone())) {
            continue;
        }
        let result = match version {
            None => PatchResult::NoVersion,
            Some(version) if version.applied(all).iter().any(|applied| applied.name == patch.name) => PatchResult::NotTried,
            Some(_) => PatchResult::Replaced,
        };
        rows.push(CompiledPatch { patch: patch.name.clone(), package, profile: profile.to_owned(), result });
    }
    let own = rows.iter().position(|row| row.profile == profile).unwrap_or(rows.len());
    rows[own..].sort_by(|a, b| (&a.package, &a.patch).cmp(&(&b.package, &b.patch)));
    for (row, planned) in rows.iter().enumerate().skip(own).filter(|(_, row)| row.result == PatchResult::NotTried) {
        match jobs.iter_mut().find(|job| job.ground == ground && job.cpv == planned.package) {
            Some(job) => job.rows.push(row),
            None => jobs.push(Job { ground, cpv: planned.package.clone(), rows: vec![row] }),
        }
    }
}

fn failed(work: &Work<'_>, failure: &Failure, log: PathBuf) -> PatchResult {
    // The package's own log says most.
    let of_package = failure.build_log.as_ref().and_then(|inside| package_log(&work.package_logs(), inside));
    PatchResult::Failed { reason: failure.to_string(), phase: failure.phase.clone(), log: of_package.unwrap_or(log) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(name: &str, directory: &str, file_name: &str, contents: &str) -> SavedPatch {
        SavedPatch {
            name: name.to_owned(),
            category: "a".to_owned(),
            scope: directory.parse().unwrap(),
            file_name: file_name.to_owned(),
            path: format!("user.patches/{name}/a/{directory}/x.patch").into(),
            contents: contents.into(),
        }
    }

    #[test]
    fn patches_of_one_version_are_built_together() {
        let all = [
            saved("two", "b-1", "two-x.patch", "2"),
            saved("one", "b", "one-x.patch", "1"),
            saved("gone", "b-9", "gone-x.patch", "9"),
            saved("away", "b", "away-x.patch", "3"),
            saved("away", "b-1", "away-x.patch", ""),
            saved("slot", "b:2", "slot-x.patch", "4"),
        ];
        let chosen: Vec<&SavedPatch> = all.iter().filter(|patch| !patch.contents.is_empty()).collect();
        let visible =
            |atom: &str, cpv: &str, slot: &str| Visible { atom: atom.to_owned(), cpv: cpv.to_owned(), slot: slot.to_owned() };
        let versions = [visible("a/b", "a/b-1-r1", "0/1"), visible("~a/b-1", "a/b-1-r1", "0/1"), visible("a/b:2", "a/b-2", "2")];
        let (mut rows, mut jobs) = (Vec::new(), Vec::new());
        for (at, profile) in ["p", "q"].into_iter().enumerate() {
            plan((at, profile), &chosen, &all, &versions, &mut rows, &mut jobs);
        }
        let shown: Vec<String> =
            rows[..5].iter().map(|row| format!("{} {} {} {:?}", row.package, row.patch, row.profile, row.result)).collect();
        assert_eq!(
            shown,
            [
                "a/b-1-r1 away p Replaced",
                "a/b-1-r1 one p NotTried",
                "a/b-1-r1 two p NotTried",
                "a/b-2 slot p NotTried",
                "~a/b-9 gone p NoVersion",
            ]
        );
        let shown: Vec<String> = jobs.iter().map(|job| format!("{} {} {:?}", job.ground, job.cpv, job.rows)).collect();
        assert_eq!(shown, ["0 a/b-1-r1 [1, 2]", "0 a/b-2 [3]", "1 a/b-1-r1 [6, 7]", "1 a/b-2 [8]"]);
    }
}
