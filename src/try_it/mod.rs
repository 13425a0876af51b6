//! `try`: builds packages with other settings in throw-away sessions, and reports the results.
//!
//! ```text
//! the profile's builder
//!   | session: keywords in place          asked          version, flags and REQUIRED_USE of each package, asked of Portage
//!   |                                     combinations   the combinations, and which are left out
//!   | sessions, several at a time:        try.sh         package.use, package.env of the combination on top of all others
//!   |   emerge                            outcome        size, libraries, files, read from the session's package database
//!   v
//! nothing: every session is discarded     keeping        the line that would make a combination permanent
//! ```
//!
//! Dependencies that are built go to the pool of throw-away sessions. The tried packages are compiled each time and leave no binary
//! package: packages with other compiler flags must not get into a pool.

pub(crate) mod asked;
pub(crate) mod combinations;
mod error;
pub(crate) mod keeping;
pub(crate) mod outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::context::{Context, Settings};
use crate::names::profiles;
use crate::path_error::OfFile as _;
use crate::portage::atom::Atom;
use crate::portage::emerge::Failure;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::portage::use_flags::Switch;
use crate::progress::{Event, Observer};
use crate::query::versions::{Taken, Version};
use crate::recipe::merge;
use crate::recipe::patches::applied;
use crate::sandbox::TaskOptions;
use crate::sandbox::plan::Network;
use crate::session::ask::ask_both;
use crate::session::inspect::Facts;
use crate::session::keys::throwaway;
use crate::session::logs::package_log;
use crate::session::readable_files::write_public;
use crate::session::root::{HOOKS_DIR, PORTAGE_DIR};
use crate::session::work::{Given, Subject as WorkSubject};
use crate::session::{Work, inspect, run, work};
use crate::store::{Purpose, Session, State, StateId};
use crate::try_it::combinations::{Combination, Subject, Variable};
use crate::try_it::keeping::Keep;
use crate::try_it::outcome::{
    Built as BuiltCombination, EXAMINE, ExamineInput, Examined, Failed as FailedCombination, Installed, Outcome,
};
use crate::{context, session, store};

pub(crate) use error::{Error, Result};

/// The script that installs the settings of a combination, and its name beside the hooks.
const APPLY: &str = include_str!("try.sh");
const APPLY_NAME: &str = "try.sh";
/// The file of compiler flags, and its directory.
const ENV_NAME: &str = "gentoomuch-try.conf";
const ENV_PATH: &str = "env/gentoomuch-try.conf";
/// The variables of compiler flags.
const COMPILER_VARIABLES: [&str; 5] = ["COMMON_FLAGS", "CFLAGS", "CXXFLAGS", "FFLAGS", "FCFLAGS"];

/// What to try.
#[derive(Debug, Clone)]
pub(crate) struct TryOptions {
    /// Atoms, each of one package.
    pub atoms: Vec<String>,
    /// Flags for them in every combination.
    pub uses: Vec<Switch>,
    /// Flags that are tried both on and off.
    pub matrix: Vec<Variable>,
    /// Keywords to accept for them.
    pub keywords: Vec<String>,
    /// Compiler flags, one set after the other; a set that begins with `+` is added to the configured ones.
    pub cflags: Vec<String>,
    /// The profile, or an earlier state of it, `NAME@{N}`; `None` for the default one.
    pub profile: Option<String>,
    /// Use binary packages where there are some.
    pub usepkg: bool,
    /// Start no further combination after a failure.
    pub fail_fast: bool,
}

/// A combination and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tried {
    /// For people: `json -color`.
    pub name: String,
    #[serde(rename = "use")]
    pub words: BTreeMap<String, Vec<String>>,
    /// Compiler flags, if they differ from the configuration.
    pub cflags: Option<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The lines that would make its flags permanent; empty if they are configured.
    pub keep: Vec<Keep>,
}

/// A finished experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Experiment {
    pub profile: String,
    /// The state that all sessions started from.
    pub state: StateId,
    /// The tried packages, `category/name-version`.
    pub packages: Vec<String>,
    /// All combinations, in the order of the command line.
    pub combinations: Vec<Tried>,
}

/// Receives the progress of an experiment, from any thread.
pub(crate) trait Watcher: Sync {
    /// The names of all combinations, with the reason for those that are left out.
    fn planned(&self, combinations: &[(String, Option<String>)]);
    /// What is being done for combination `index`, in words.
    fn working(&self, index: usize, what: &str);
    fn ended(&self, index: usize, outcome: &Outcome);
}

/// What all combinations share.
struct Setup<'a> {
    options: &'a TryOptions,
    profile: String,
    base: State,
    subjects: Vec<Subject>,
    /// Whether this Portage reports its status.
    observability: bool,
}

/// A finished combination before the comparison.
enum Ended {
    Built { seconds: f64, examined: Examined },
    Failed(FailedCombination),
}

/// Forwards the events of one combination.
struct Relay<'a> {
    index: usize,
    watcher: &'a dyn Watcher,
    observer: &'a (dyn Observer + 'a),
    interrupted: &'a (dyn Fn() -> bool + Sync),
    told: &'a AtomicBool,
}

impl Observer for Relay<'_> {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Emerge(status) => {
                let running: Vec<String> =
                    status.running.iter().map(|task| format!("{} {} {}s", task.cpv, task.phase, task.elapsed_secs)).collect();
                if !running.is_empty() {
                    self.watcher.working(self.index, &running.join(", "));
                }
            }
            Event::Warning(_) => self.observer.event(event),
            // Each session notes Ctrl-C; one line is enough.
            Event::Note(_) if (self.interrupted)() && !self.told.swap(true, Ordering::Relaxed) => self.observer.event(event),
            _ => {}
        }
    }
}

/// Builds every combination that can be built, several at a time. A combination that fails is no error.
pub(crate) fn experiment(
    cx: &Context<'_>,
    options: &TryOptions,
    config: Option<&ConfigDir>,
    watcher: &dyn Watcher,
) -> Result<Experiment> {
    options.cflags.iter().try_for_each(|text| check_cflags(text))?;
    let _shared = context::share_store(cx)?;
    let (profile, index) = profiles::profile_and_index(cx, options.profile.as_deref())?;
    let base = profiles::profile_state(cx, &profile, index)?;
    let setup = ask_about(cx, options, profile, base)?;
    let combinations = combinations::all(&setup.subjects, &options.uses, &options.matrix, &options.cflags)?;
    let plan: Vec<_> = combinations.iter().map(|one| (one.name.clone(), one.left_out.clone())).collect();
    watcher.planned(&plan);
    let ended = build_all(cx, &setup, &combinations, watcher)?;
    Ok(finished(setup, combinations, &ended, config))
}

/// Asks Portage for the versions that would be built, in a session of its own.
fn ask_about<'o>(cx: &Context<'_>, options: &'o TryOptions, profile: String, base: State) -> Result<Setup<'o>> {
    cx.observer.step(&format!("asking Portage about {}", options.atoms.join(" ")));
    let atoms = atoms_of(options);
    let mut session = cx.store.session_create(Some(&base), Purpose::Throwaway, "")?;
    let outcome = ask_in(cx, &mut session, &base, options, &atoms);
    session.discard(cx.launcher)?;
    let (taken, observability) = outcome?;
    let subjects = asked::subjects(taken, &atoms, options.atoms.len())?;
    Ok(Setup { options, profile, base, subjects, observability })
}

fn ask_in(
    cx: &Context<'_>,
    session: &mut Session,
    base: &State,
    options: &TryOptions,
    atoms: &[String],
) -> Result<(Vec<Taken>, bool)> {
    let work = try_work(cx, session, base, "")?;
    let keywords =
        options.atoms.iter().filter_map(|atom| atom.parse::<Atom>().ok()).map(|atom| keyword_line(&atom.name(), options));
    apply_settings(cx, &work, &[("package.accept_keywords", keywords.collect())])?;
    let versions: Vec<Version<'_>> = atoms.iter().map(|atom| Version { atom, why: true, flags: true }).collect();
    let (toolset, taken) = ask_both(cx, &work, &inspect::question(cx), &versions)?;
    work.forget_logs();
    Ok((taken, Facts::parse(&toolset).has_observability()))
}

/// A session prepared as all combinations need it.
fn try_work<'s>(cx: &Context<'_>, session: &'s mut Session, base: &State, profile: &str) -> Result<Work<'s>> {
    let log_name = if profile.is_empty() { "try".to_owned() } else { format!("try-{profile}") };
    let subject = WorkSubject { log_name, profile: profile.to_owned(), definition: String::new() };
    let work = work::work(cx, session, base, &subject, Given::default())?;
    write_public(&work.root.hooks.join(APPLY_NAME), APPLY.as_bytes(), 0o755)?;
    Ok(work)
}

/// Writes files of lines below the session's `/etc/portage`; empty ones are skipped.
fn apply_settings(cx: &Context<'_>, work: &Work<'_>, files: &[(&str, Vec<String>)]) -> Result<()> {
    let mut any = false;
    for (name, lines) in files {
        let text: String = lines.iter().filter(|line| !line.is_empty()).fold(String::new(), |mut text, line| {
            let _ = write!(text, "\n{line}\n");
            text
        });
        if text.is_empty() {
            continue;
        }
        any = true;
        let path = work.root.portage.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            fs::create_dir(parent).map_err(Error::io("create", parent))?;
            fs::set_permissions(parent, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(Error::io("change the mode of", parent))?;
        }
        write_public(&path, text.as_bytes(), 0o644)?;
    }
    if !any {
        return Ok(());
    }
    let argv = ["/bin/sh", &format!("{HOOKS_DIR}/{APPLY_NAME}"), PORTAGE_DIR];
    Ok(run::command(cx, work, argv.map(str::to_owned).into(), Network::None)?)
}

/// Builds all combinations that are not left out, as many at a time as there are jobs.
fn build_all(cx: &Context<'_>, setup: &Setup<'_>, all: &[Combination], watcher: &dyn Watcher) -> Result<Vec<Option<Ended>>> {
    let todo: Vec<usize> = (0..all.len()).filter(|index| all[*index].left_out.is_none()).collect();
    let jobs = cx.settings.jobs.max(1);
    let workers = todo.len().clamp(1, jobs as usize);
    let each = (jobs / u32::try_from(workers).unwrap_or(1)).max(1);
    let (next, stop, told) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let interrupted = || cx.interrupt.count() > 0;
    let ended: Mutex<Vec<Option<Ended>>> = Mutex::new(all.iter().map(|_| None).collect());
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) && !interrupted() {
            let Some(index) = todo.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
            let relay = Relay { index, watcher, observer: cx.observer, interrupted: &interrupted, told: &told };
            let settings = Settings { jobs: each, ..cx.settings.clone() };
            let cx = &Context { observer: &relay, settings, ..*cx };
            match build_one(cx, setup, &all[index], index, watcher) {
                Ok(one) => {
                    if setup.options.fail_fast && matches!(one, Ended::Failed(_)) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    watcher.ended(index, &outcome_of(&one, &all[index], None));
                    ended.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(one);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    crate::threads::crew(workers, work);
    context::not_interrupted(cx)?;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(ended.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn build_one(cx: &Context<'_>, setup: &Setup<'_>, combination: &Combination, index: usize, watcher: &dyn Watcher) -> Result<Ended> {
    let mut session = cx.store.session_create(Some(&setup.base), Purpose::Throwaway, "")?;
    let outcome = build_in(cx, &mut session, setup, combination, &|what| watcher.working(index, what));
    session.discard(cx.launcher)?;
    outcome
}

fn build_in(
    cx: &Context<'_>,
    session: &mut Session,
    setup: &Setup<'_>,
    combination: &Combination,
    working: &dyn Fn(&str),
) -> Result<Ended> {
    working("starting");
    let mut work = try_work(cx, session, &setup.base, &setup.profile)?;
    work.root.session_conf = work::session_conf(cx, setup.observability);
    apply_settings(cx, &work, &settings_of(setup, combination))?;
    throwaway::show_throwaway_pools(cx, &mut work, &setup.base)?;
    let request = request_of(cx, setup, combination);
    working("building");
    let begun = Instant::now();
    let built = merge::emerge_supplied(cx, &work, &request).map(|()| begun.elapsed().as_secs_f64());
    let seconds = match built {
        Ok(seconds) => seconds,
        Err(session::Error::Emerge { failure, log, .. }) => return Ok(Ended::Failed(failed(&work, *failure, log))),
        Err(error) => {
            if error.is_interrupted() {
                work.forget_logs();
            }
            return Err(error.into());
        }
    };
    working("looking at it");
    let examined = examine(cx, &work, setup)?;
    work.forget_logs();
    Ok(Ended::Built { seconds, examined })
}

fn request_of(cx: &Context<'_>, setup: &Setup<'_>, combination: &Combination) -> Request {
    let tried: Vec<String> = setup.subjects.iter().filter(|one| one.is_tried).map(|one| one.name.clone()).collect();
    let mut atoms = setup.options.atoms.clone();
    atoms.extend(setup.subjects.iter().filter(|one| !one.is_tried).map(|one| one.name.clone()));
    let goal = Goal::Packages { atoms, existing: Existing::Rebuild, oneshot: true };
    let may_stay = setup.options.usepkg && combination.cflags.is_none();
    Request {
        jobs: cx.settings.jobs,
        load: Some(cx.settings.processors.max(cx.settings.jobs) as f32),
        usepkg_exclude: if may_stay { Vec::new() } else { tried.clone() },
        buildpkg_exclude: if may_stay { Vec::new() } else { tried },
        ..Request::new(goal, Mode::Run)
    }
}

fn examine(cx: &Context<'_>, work: &Work<'_>, setup: &Setup<'_>) -> Result<Examined> {
    let lower = std::iter::once(work.root.upper.clone()).chain(work.root.lower.iter().cloned()).collect();
    let versions = setup.subjects.iter().map(|one| one.cpv.clone()).collect();
    let options = TaskOptions { mounts: true, hold: vec![work.session.borrow().lock_fd()?], ..TaskOptions::default() };
    let answer = context::task(cx, EXAMINE, &ExamineInput { lower, versions }, options, &mut |_| {})?;
    let installed = serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: EXAMINE, source })?;
    let installed: Vec<Installed> = installed;
    let tried: Vec<&str> = installed.iter().map(|one| one.package.cpv.as_str()).collect();
    let patched = applied::patched(cx, work)?.into_iter().filter(|package| tried.contains(&package.package.as_str()));
    let unpatched = patched.filter(|package| !package.is_applied()).map(|package| package.to_string()).collect();
    Ok(Examined { installed, unpatched })
}

/// The atoms to ask Portage about: the tried packages, then those that only the matrix names.
fn atoms_of(options: &TryOptions) -> Vec<String> {
    let mut named: BTreeSet<String> =
        options.atoms.iter().filter_map(|atom| atom.parse::<Atom>().ok()).map(|atom| atom.name()).collect();
    let others = options.matrix.iter().filter_map(|variable| variable.package.clone());
    options.atoms.iter().cloned().chain(others.filter(|package| named.insert(package.clone()))).collect()
}

/// The files in `/etc/portage` for a combination.
fn settings_of(setup: &Setup<'_>, combination: &Combination) -> [(&'static str, Vec<String>); 4] {
    let (mut uses, mut keywords, mut envs) = (Vec::new(), Vec::new(), Vec::new());
    for subject in &setup.subjects {
        if let Some(words) = combination.words.get(&subject.name) {
            // Also for the exact version, since its lines come after those of the package alone.
            uses.extend([&subject.name, &format!("={}", subject.cpv)].map(|atom| format!("{atom} {}", words.join(" "))));
        }
        if subject.is_tried {
            keywords.push(keyword_line(&subject.name, setup.options));
            envs.extend(combination.cflags.as_ref().map(|_| format!("{} {ENV_NAME}", subject.name)));
        }
    }
    let env = combination.cflags.iter().flat_map(|cflags| {
        COMPILER_VARIABLES.map(|name| match cflags.strip_prefix('+') {
            Some(more) => format!("{name}=\"${{{name}}} {}\"", more.trim()),
            None => format!("{name}=\"{}\"", cflags.trim()),
        })
    });
    [("package.use", uses), ("package.accept_keywords", keywords), ("package.env", envs), (ENV_PATH, env.collect())]
}

/// Empty if no keywords were given.
fn keyword_line(name: &str, options: &TryOptions) -> String {
    if options.keywords.is_empty() { String::new() } else { format!("{name} {}", options.keywords.join(" ")) }
}

/// Refuses characters that have a meaning in the file; compiler flags do not need them.
fn check_cflags(text: &str) -> std::result::Result<(), Error> {
    let empty = text.trim_start_matches('+').trim().is_empty();
    let strange = text.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\' | '`' | '$'));
    if empty || strange { Err(Error::Cflags(text.to_owned())) } else { Ok(()) }
}

fn failed(work: &Work<'_>, failure: Failure, log: PathBuf) -> FailedCombination {
    // The package's own log says most.
    let of_package = failure.build_log.as_ref().and_then(|inside| package_log(&work.package_logs(), inside));
    let proposals = failure.proposals.iter().flat_map(|proposal| {
        let lines = proposal.lines.iter().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines.map(|line| format!("{}: {line}", proposal.file))
    });
    FailedCombination {
        reason: failure.to_string(),
        proposals: proposals.collect(),
        log: of_package.unwrap_or(log),
        package: failure.package,
        phase: failure.phase,
    }
}

fn outcome_of(ended: &Ended, combination: &Combination, first: Option<&Examined>) -> Outcome {
    match ended {
        Ended::Failed(failed) => Outcome::Failed(failed.clone()),
        Ended::Built { seconds, examined } => Outcome::Built(BuiltCombination {
            seconds: (seconds * 10.0).round() / 10.0,
            size_bytes: examined.size_bytes(),
            packages: examined.installed.iter().map(|one| one.package.clone()).collect(),
            libraries: examined.libraries(),
            not_applied: examined.not_applied(&combination.words),
            unpatched: examined.unpatched.clone(),
            differences: first.map(|first| examined.against(first)),
        }),
    }
}

/// Compares all results with the first one that was built.
fn finished(setup: Setup<'_>, combinations: Vec<Combination>, ended: &[Option<Ended>], config: Option<&ConfigDir>) -> Experiment {
    let first = ended.iter().position(|one| matches!(one, Some(Ended::Built { .. })));
    let reference = first.and_then(|first| match &ended[first] {
        Some(Ended::Built { examined, .. }) => Some(examined.clone()),
        _ => None,
    });
    let tried: Vec<String> = setup.subjects.iter().filter(|one| one.is_tried).map(|one| one.name.clone()).collect();
    let rows = combinations.into_iter().zip(ended).enumerate().map(|(index, (combination, ended))| {
        let outcome = match ended {
            Some(ended) => outcome_of(ended, &combination, reference.as_ref().filter(|_| Some(index) != first)),
            None => {
                let reason = combination.left_out.clone();
                Outcome::LeftOut { reason: reason.unwrap_or_else(|| "not tried, since another one failed".to_owned()) }
            }
        };
        let keep = match (&outcome, config) {
            (Outcome::Built(_), Some(config)) => keeping::lines(config, &combination.changes, &tried, &setup.options.keywords),
            _ => Vec::new(),
        };
        Tried { name: combination.name, words: combination.words, cflags: combination.cflags, outcome, keep }
    });
    Experiment {
        combinations: rows.collect(),
        packages: setup.subjects.iter().filter(|one| one.is_tried).map(|one| one.cpv.clone()).collect(),
        state: setup.base.id,
        profile: setup.profile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_flags_stay_in_their_quotes() {
        for (text, good) in [
            ("-O3", true),
            ("+ -flto -g0", true),
            ("-DX=1,2", true),
            ("", false),
            ("+", false),
            ("-O2\" X=\"1", false),
            ("$(id)", false),
            ("a\nb", false),
        ] {
            assert_eq!(check_cflags(text).is_ok(), good, "{text}");
        }
    }

    fn options(atoms: &[&str], matrix: &[&str]) -> TryOptions {
        TryOptions {
            atoms: atoms.iter().map(|atom| (*atom).to_owned()).collect(),
            uses: Vec::new(),
            matrix: matrix.iter().map(|word| word.parse().unwrap()).collect(),
            keywords: vec!["~amd64".to_owned()],
            cflags: vec!["+-flto".to_owned()],
            profile: None,
            usepkg: false,
            fail_fast: false,
        }
    }

    #[test]
    fn a_package_that_is_tried_is_no_dependency_as_well() {
        for (atoms, matrix, asked) in [
            (&["=a/b-1"][..], &["a/b:y", "x"][..], &["=a/b-1"][..]),
            (&["a/b:2"], &["l/c:s", "l/c:t", "a/b:y"], &["a/b:2", "l/c"]),
            (&["a/b", ">=a/d-1::over"], &["a/d:x", "a/bb:x"], &["a/b", ">=a/d-1::over", "a/bb"]),
        ] {
            assert_eq!(atoms_of(&options(atoms, matrix)), asked, "{atoms:?} {matrix:?}");
        }
    }

    #[test]
    fn the_script_is_told_by_files() {
        let options = options(&[">=a/b-1"], &[]);
        let base = State {
            id: "a".repeat(32).parse().unwrap(),
            layers: Vec::new(),
            parent: None,
            key: String::new(),
            origin: serde_json::Value::Null.into(),
            created: String::new(),
            newest_input: 0,
            adopted: false,
        };
        let subject = |name: &str, is_tried| Subject {
            name: name.to_owned(),
            cpv: format!("{name}-2"),
            flags: BTreeMap::new(),
            masked: std::collections::BTreeSet::new(),
            required: None,
            is_tried,
        };
        let subjects = vec![subject("a/b", true), subject("l/c", false)];
        let setup = Setup { options: &options, profile: "demo".to_owned(), base, subjects, observability: true };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let combination = Combination {
            words: [("a/b".to_owned(), words(&["x"])), ("l/c".to_owned(), words(&["-y"]))].into(),
            cflags: Some("+-flto".to_owned()),
            ..Combination::default()
        };
        let [uses, keywords, envs, env] = settings_of(&setup, &combination);
        assert_eq!(uses.1, ["a/b x", "=a/b-2 x", "l/c -y", "=l/c-2 -y"]);
        assert_eq!(keywords.1, ["a/b ~amd64"]);
        assert_eq!(envs.1, ["a/b gentoomuch-try.conf"]);
        assert_eq!(env.1[1], "CFLAGS=\"${CFLAGS} -flto\"");
    }
}
