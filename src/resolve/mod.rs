//! `resolve`: what the configuration lacks for a stage's packages. Portage is asked again and again until it is satisfied.
//!
//! ```text
//! the user's configuration directory        only read
//!   copy, 0700                              proposals so far applied
//!     throw-away session                    emerge --pretend, with autounmask
//!       Resolution -> Wanted -> Edits       the next round
//! ```
//!
//! Each round has a new session, since a changed configuration may have another state below it. Only the copy is written to.

pub(crate) mod copy;
mod error;
pub(crate) mod pretend;
pub(crate) mod surroundings;
pub(crate) mod wanted;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::proposal::{Edit, Fragments, Placed};
use crate::config::{ConfigDir, Stage, proposal};
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::portage::emerge::request::{Mode, Request};
use crate::portage::emerge::resolution::{Problem, Resolution};
use crate::recipe::configured;
use crate::resolve::wanted::Wanted;
use crate::sandbox::Exit;
use crate::session::{logs, run};
use crate::terminal_text::sanitize;
use crate::{config, context, recipe, session};

pub(crate) use error::{Error, Result};

/// More of emerge's output is not read.
const OUTPUT_LIMIT_BYTES: u64 = 8 << 20;
/// How many lines of an output that we do not understand are shown.
const LAST_LINES: usize = 12;

/// What to resolve.
#[derive(Debug, Clone)]
pub(crate) struct ResolveOptions {
    /// The stage whose configuration counts.
    pub stage: String,
    /// Atoms and sets instead of what the stage's build would install.
    pub atoms: Vec<String>,
    /// The profile; `None`: the one that the stage4 definition names, or the default one.
    pub profile: Option<String>,
    /// The fragment to write to; `None`: the usual place.
    pub into: Option<String>,
    /// Portage is asked at most so often.
    pub max_rounds: usize,
}

impl ResolveOptions {
    /// The default. After more rounds nobody would read the result.
    pub(crate) const MAX_ROUNDS: usize = 12;

    /// What `stage`'s build needs, or `atoms` if there are any, on the profile that it names.
    pub(crate) fn new(stage: impl Into<String>, atoms: Vec<String>) -> Self {
        Self { stage: stage.into(), atoms, profile: None, into: None, max_rounds: Self::MAX_ROUNDS }
    }
}

/// The result.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub profile: String,
    /// How often Portage was asked.
    pub rounds: usize,
    /// The missing lines, as edits of files. Empty: nothing is missing.
    pub edits: Vec<Edit>,
    /// Each line, and its place.
    pub placed: Vec<Placed>,
    /// Other changes that would help as well.
    pub alternatives: Vec<String>,
    /// Packages that would be merged with these changes.
    pub packages: PackageCount,
}

/// Packages by origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PackageCount {
    /// Compiled.
    pub build: usize,
    /// Taken from binary packages.
    pub binary: usize,
}

/// The answers of one round.
struct Told {
    profile: String,
    resolutions: Vec<Resolution>,
    /// Output of failed runs.
    output: Vec<u8>,
    failed: bool,
}

/// Finds the smallest change with which the dependencies of a stage, or of atoms, resolve. Nothing is written.
pub(crate) fn resolve(cx: &Context<'_>, config: &ConfigDir, options: &ResolveOptions) -> Result<Resolved> {
    let stage = config.stage(&options.stage)?;
    // Errors of the configuration need no session, and are reported for the user's own files instead of the copy.
    config.portage_dir(&stage.stage3)?;
    let fragments = config.fragments(&stage.stage3, options.into.as_deref())?;
    let _shared = context::share_store(cx)?;
    let area = cx.store.temp_area()?;
    let outcome = resolve_in(cx, &area.path().join("config"), config, &stage, &fragments, options);
    area.discard(cx.launcher)?;
    outcome
}

fn resolve_in(
    cx: &Context<'_>,
    dir: &Path,
    config: &ConfigDir,
    stage: &Stage,
    fragments: &Fragments,
    options: &ResolveOptions,
) -> Result<Resolved> {
    copy::copy(config.root(), dir)?;
    let mut wanted = Wanted::default();
    let mut stuck = Stuck::new(options);
    for round in 1..=options.max_rounds {
        let (edits, placed) = proposal::propose(fragments, &wanted.lines, options.into.as_deref())?;
        copy::apply(dir, &edits)?;
        let told = ask_portage(cx, dir, config, stage, options)?;
        let changes: Vec<_> = told.resolutions.iter().flat_map(|resolution| resolution.changes.clone()).collect();
        let problems: Vec<_> = told.resolutions.iter().flat_map(|resolution| resolution.problems.clone()).collect();
        if !told.failed {
            let packages = count(&told.resolutions);
            return Ok(Resolved {
                profile: told.profile,
                rounds: round,
                edits,
                placed,
                alternatives: wanted.alternatives,
                packages,
            });
        }
        // Both are added, even if the first one is enough for another round: fewer rounds, and each takes a session.
        let news = wanted.add_changes(&changes).and_then(|news| Ok(wanted.add_solutions(&problems, fragments)? || news));
        stuck.problems = problems;
        stuck.output = told.output;
        match news {
            Ok(true) => {}
            Ok(false) => {
                if let (true, Some(change)) = (stuck.problems.is_empty(), changes.first()) {
                    let atom = &change.atom;
                    stuck.contradiction =
                        Some(format!("Portage asks again for a change of `{atom}` that was made: something else undoes it"));
                }
                return Err(unresolvable(cx, stuck)?);
            }
            Err(contradiction) => {
                stuck.contradiction = Some(contradiction);
                return Err(unresolvable(cx, stuck)?);
            }
        }
        cx.observer.note(&format!("round {round}: {} needed so far", lines(wanted.lines.len())));
    }
    let rounds = if options.max_rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", options.max_rounds) };
    stuck.contradiction = Some(format!("Portage needs another change after {rounds}; allow more with `--rounds`"));
    Err(unresolvable(cx, stuck)?)
}

/// Runs all emerge commands of the build with `--pretend`, in a session of its own.
fn ask_portage(cx: &Context<'_>, dir: &Path, config: &ConfigDir, stage: &Stage, options: &ResolveOptions) -> Result<Told> {
    let copied = ConfigDir::open(dir)?;
    let asked = configured::with_configuration(cx, &copied, stage, options.profile.as_deref(), "resolve", |configured| {
        configured.offer_packages(cx)?;
        let mut told = Told { profile: configured.profile.clone(), resolutions: Vec::new(), output: Vec::new(), failed: false };
        for (_, goal) in pretend::goals(stage, options, configured, true) {
            let opts = configured.work.emerge_opts.clone();
            let request = Request { propose_unmask: true, opts, ..Request::new(goal, Mode::Pretend) };
            let (exit, output) = run::exit_and_output(cx, &configured.work, request.argv()?, OUTPUT_LIMIT_BYTES)?;
            told.resolutions.push(Resolution::parse(&output));
            if exit != Exit::Code(0) {
                told.failed = true;
                told.output.extend(output);
            }
        }
        Ok(told)
    });
    asked.map_err(|error| in_place_of(error.into(), dir, config.root()))
}

/// The error for dependencies that no change resolves; emerge's output is saved with the other logs.
fn unresolvable(cx: &Context<'_>, stuck: Stuck) -> Result<Error> {
    let log_dir = logs::log_dir(cx, &format!("resolve-{}", stuck.stage))?;
    let log = log_dir.join("emerge.log");
    fs::write(&log, &stuck.output).map_err(Error::io("write", &log))?;
    let text = sanitize(&stuck.output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    let Stuck { target, problems, contradiction, .. } = stuck;
    Ok(Error::Unresolvable { target, problems, contradiction, last_lines, log })
}

/// Extends the error of a build that failed on dependencies: by the change that helps, or by why none does.
pub(crate) fn with_proposal(cx: &Context<'_>, config: &ConfigDir, stage: &str, profile: &str, error: recipe::Error) -> Error {
    let failed = match error {
        recipe::Error::Session(failed @ session::Error::Emerge { .. }) => failed,
        recipe::Error::Refused { findings } => {
            return match proposal_for(cx, config, stage, profile) {
                Err(error) if error.is_interrupted() => error,
                Ok(Some((arguments, resolved))) => Error::Refused { findings, arguments, resolved },
                Ok(None) | Err(_) => recipe::Error::Refused { findings }.into(),
            };
        }
        other => return other.into(),
    };
    let log = match &failed {
        session::Error::Emerge { failure, log, .. } if failure.kind.is_about_dependencies() => log.clone(),
        _ => return failed.into(),
    };
    match proposal_for(cx, config, stage, profile) {
        Ok(Some((arguments, resolved))) => Error::Unconfigured { stage: stage.to_owned(), arguments, resolved, log },
        Err(error @ (Error::Unresolvable { .. } | Error::Proposal(_))) => error,
        Err(error) if error.is_interrupted() => error,
        Ok(None) => failed.into(),
        Err(other) => {
            tracing::debug!(%other, "no proposal");
            failed.into()
        }
    }
}

/// The arguments of `resolve` for a stage, and what its configuration lacks; `None`: nothing.
fn proposal_for(cx: &Context<'_>, config: &ConfigDir, stage: &str, profile: &str) -> Result<Option<(String, Box<Resolved>)>> {
    cx.observer.step("looking for what the configuration lacks");
    let options = ResolveOptions { profile: Some(profile.to_owned()), ..ResolveOptions::new(stage, Vec::new()) };
    let resolved = resolve(cx, config, &options)?;
    // A stage4 definition names its profile, so `resolve` needs none.
    let named = config.stage(stage).is_ok_and(|stage| stage.profile() == Some(profile));
    let arguments = if named { stage.to_owned() } else { format!("{stage} --profile {profile}") };
    Ok((!resolved.edits.is_empty()).then(|| (arguments, Box::new(resolved))))
}

/// Why the search ends without a result.
struct Stuck {
    stage: String,
    target: String,
    problems: Vec<Problem>,
    contradiction: Option<String>,
    output: Vec<u8>,
}

impl Stuck {
    fn new(options: &ResolveOptions) -> Self {
        let target = if options.atoms.is_empty() { options.stage.clone() } else { options.atoms.join(" ") };
        Self { stage: options.stage.clone(), target, problems: Vec::new(), contradiction: None, output: Vec::new() }
    }
}

fn lines(count: usize) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

/// Counts each package once, although several goals may merge it.
fn count(resolutions: &[Resolution]) -> PackageCount {
    let mut all: BTreeMap<&str, bool> = BTreeMap::new();
    for (package, binary) in resolutions.iter().flat_map(|resolution| &resolution.merges) {
        let known = all.entry(package).or_insert(*binary);
        *known &= *binary;
    }
    let binary = all.values().filter(|binary| **binary).count();
    PackageCount { build: all.len() - binary, binary }
}

/// Replaces paths of the copy by those of the user's files in an error.
fn in_place_of(error: Error, copy: &Path, root: &Path) -> Error {
    let moved = |path: &Path| -> PathBuf { path.strip_prefix(copy).map_or_else(|_| path.to_owned(), |rest| root.join(rest)) };
    match error {
        Error::Config(config::Error::Invalid(all)) => {
            let all: Vec<config::Diagnostic> = all
                .as_slice()
                .iter()
                .cloned()
                .map(|diagnostic| config::Diagnostic { file: moved(&diagnostic.file), ..diagnostic })
                .collect();
            Error::Config(config::Error::Invalid(all.into()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_two_goals_counts_once() {
        let one = Resolution::parse(b"[ebuild  N ] a/b-1::g\n[binary  R ] c/d-1::g\n");
        let two = Resolution::parse(b"[binary  R ] a/b-1::g\n[binary  R ] c/d-1::g\n[ebuild  N ] e/f-1::g\n");
        assert_eq!(count(&[one, two]), PackageCount { build: 2, binary: 1 });
        assert_eq!(count(&[]), PackageCount::default());
    }

    #[test]
    fn mistakes_are_shown_in_the_users_files() {
        let diagnostic = config::Diagnostic {
            file: "/tmp/copy/portage.global/package.use".into(),
            line: 3,
            severity: config::Severity::Error,
            message: "wrong".to_owned(),
            hint: None,
        };
        let error = Error::Config(config::Error::Invalid(vec![diagnostic].into()));
        let error = in_place_of(error, Path::new("/tmp/copy"), Path::new("/home/me/config"));
        assert_eq!(error.to_string(), "/home/me/config/portage.global/package.use:3: wrong");
    }
}
