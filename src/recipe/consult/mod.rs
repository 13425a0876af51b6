//! Asks Portage whether it knows the names in a configuration: packages, flags, licences, keywords, sets, Portage profiles.
//!
//! ```text
//! questions.rs    (question, lines that raise it) … ──▶ crate::query, in a throw-away session with the configuration in place
//! answers.rs      problems at file and line         ◀──
//! ```
//!
//! There is one session for each profile and stage3 definition, however many stage4s share them. It is thrown away.

pub(crate) mod answers;
pub(crate) mod questions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::questions::Questions;
use crate::beneath::RootDir;
use crate::config::{BUILDER, ConfigDir, Diagnostic, Located, Place, Severity, Stage, Stage3Definition, Stage4Definition};
use crate::context::Context;
use crate::did_you_mean::{nearest, question};
use crate::names::profiles;
use crate::portage::atom::Atom;
use crate::progress::Event;
use crate::query::names::Named;
use crate::recipe::{Error, Result, configured};
use crate::session::ask::ask;
use crate::trees::choose;
use crate::trees::choose::PinnedTree;
use crate::{config, context, session, trees};

const AFTER_ERRORS: &str = "Portage checks it once you have corrected its errors";
/// `profiles/profiles.desc` of the main tree has 50 kilobytes.
const PROFILES_LIMIT_BYTES: u64 = 16 << 20;

/// The stages that are asked about in one session.
struct Group {
    stage: Stage,
    stage4s: Vec<Stage4Definition>,
    /// If it is a builder: the sources of the kernels that it compiles for stage4s.
    kernels: Vec<Located<Atom>>,
}

impl Group {
    fn of(stage: Stage) -> Self {
        Self { stage, stage4s: Vec::new(), kernels: Vec::new() }
    }
}

/// What Portage was asked, and what it said.
#[derive(Debug, Default)]
pub(crate) struct Consulted {
    pub(crate) findings: Vec<Diagnostic>,
    /// Files and lines that name a set of which Portage has said whether it knows it.
    pub(crate) sets: BTreeSet<(PathBuf, u32)>,
}

/// A message for every name in the stages `names` (all stages if empty) that Portage does not know, sorted by file and line. If Portage
/// could not be asked, a note says why.
///
/// Stages with errors of their own are left out, since [`ConfigDir::check`] finds those.
///
/// # Errors
///
/// Errors of store and sandbox, a name that no stage has, and Ctrl-C. If Portage cannot be asked, that is not an error.
pub(crate) fn consult(cx: &Context<'_>, config: &ConfigDir, names: &[String]) -> Result<Consulted> {
    let mut said = Said::new(config);
    if profiles::profiles(cx)?.is_empty() {
        said.note(
            &Place::whole(Path::new("")),
            "Portage did not check packages, flags and other names: no profile is bootstrapped",
            Some("make one with `gentoomuch bootstrap PROFILE STAGE3`, or use `--no-portage` to skip this check".to_owned()),
        );
        return Ok(said.into());
    }
    for ((profile, _), group) in groups(cx, config, names, &mut said)? {
        consult_group(cx, config, &profile, &group, &mut said)?;
    }
    said.findings.sort();
    said.findings.dedup();
    Ok(said.into())
}

/// Fails if Portage does not know or not allow something in a stage3 definition, or in the stage4s for which it is built. The questions
/// are those of [`consult`], and its warnings are warnings here.
///
/// # Errors
///
/// [`Error::Refused`].
pub(crate) fn assert_known(
    cx: &Context<'_>,
    config: &ConfigDir,
    profile: &str,
    definition: &Stage3Definition,
    stage4s: &[Stage4Definition],
) -> Result<()> {
    let mut said = Said::new(config);
    let stage = Stage { stage4: None, stage3: definition.clone() };
    consult_group(cx, config, profile, &Group { stage4s: stage4s.to_vec(), ..Group::of(stage) }, &mut said)?;
    let is = |severity| move |finding: &&Diagnostic| finding.severity == severity;
    if said.findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Error::Refused { findings: said.findings.into() });
    }
    for Diagnostic { file, line, message, .. } in said.findings.iter().filter(is(Severity::Warning)) {
        let place = if *line == 0 { file.display().to_string() } else { format!("{}:{line}", file.display()) };
        cx.observer.event(&Event::Warning(&format!("{place}: {message}")));
    }
    Ok(())
}

/// Which stages are asked about in one session, by profile and stage3 definition.
fn groups(cx: &Context<'_>, config: &ConfigDir, names: &[String], said: &mut Said) -> Result<BTreeMap<(String, String), Group>> {
    let profiles = profiles::profiles(cx)?;
    let default = profiles::default_profile(cx)?.or_else(|| (profiles.len() == 1).then(|| profiles[0].clone()));
    let all = config.stage_names();
    let (mut groups, mut alone) = (BTreeMap::<(String, String), Group>::new(), Vec::new());
    let mut kernels = BTreeMap::<String, Vec<Located<Atom>>>::new();
    // A thousand stage4s have few stage3 definitions, and each takes long to merge.
    let mut merged = BTreeSet::<String>::new();
    let mut read = |name: &str| {
        let stage = config.stage(name)?;
        if !merged.contains(&stage.stage3.name) {
            config.portage_dir(&stage.stage3)?;
            merged.insert(stage.stage3.name.clone());
        }
        Ok(stage)
    };
    for name in if names.is_empty() { &all } else { names } {
        let stage = match read(name) {
            Ok(stage) => stage,
            Err(config::Error::Invalid(_)) => {
                said.left_out(name, config);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(stage4) = stage.stage4.clone() else {
            alone.push(stage);
            continue;
        };
        let profile = stage4.profile.clone();
        if profiles.contains(&profile.value) {
            if let (Some(kconf), Ok(Some(kernel))) = (&stage4.kconf, config.kernel_of(&stage4)) {
                let at = kernel.sources_at.unwrap_or_else(|| kconf.place());
                let sources = Located { value: kernel.sources, file: at.file, line: at.line };
                kernels.entry(profile.value.clone()).or_default().push(sources);
            }
            let key = (profile.value, stage.stage3.name.clone());
            let group = groups.entry(key).or_insert_with(|| Group::of(Stage { stage4: None, ..stage }));
            group.stage4s.push(stage4);
        } else {
            said.no_profile(&profile, &profiles);
        }
    }
    for (profile, sources) in kernels {
        // A builder with errors gets its own messages.
        let Ok(builder) = config.stage(&format!("stage3:{BUILDER}")) else { continue };
        let group = groups.entry((profile, BUILDER.to_owned())).or_insert_with(|| Group::of(builder));
        group.kernels = sources;
    }
    let asked: BTreeSet<String> = groups.keys().map(|(_, definition)| definition.clone()).collect();
    for stage in alone.into_iter().filter(|stage| !asked.contains(&stage.stage3.name)) {
        let name = stage.stage3.name.clone();
        match &default {
            Some(profile) if profiles.contains(profile) => {
                groups.insert((profile.clone(), name), Group::of(stage));
            }
            _ => said.note(
                &Place::whole(&Path::new("stage3.defines").join(name)),
                "Portage did not check it: no stage4 names it, and no default profile is set",
                Some("choose the profile to check it with: `gentoomuch profile set PROFILE`".to_owned()),
            ),
        }
    }
    Ok(groups)
}

fn consult_group(cx: &Context<'_>, config: &ConfigDir, profile: &str, group: &Group, said: &mut Said) -> Result<()> {
    let definition = &group.stage.stage3.name;
    cx.observer.step(&format!("asking Portage about {definition} on {profile}"));
    let mut questions = Questions::default();
    questions.of_packages(&group.stage.stage3.packages);
    questions.of_atoms(&group.stage.stage3.network.atoms);
    questions.of_atoms(&group.kernels);
    // What is wrong in the file is said elsewhere.
    let resources = config.resources().unwrap_or_default();
    questions.of_package_jobs(&resources.package_jobs);
    questions.of_packages_on_disk(resources.tmpfs.as_ref().map_or(&[], |tmpfs| &tmpfs.on_disk));
    for stage4 in &group.stage4s {
        questions.of_packages(&stage4.packages);
        questions.of_atoms(&stage4.network.atoms);
    }
    let outcome = configured::with_configuration(cx, config, &group.stage, Some(profile), "check", |configured| {
        questions.of_configuration(&configured.portage);
        Ok(ask(cx, &configured.work, questions.asked())?)
    });
    let place = Place::whole(&Path::new("stage3.defines").join(definition));
    match outcome {
        Ok(answers) => {
            said.findings.extend(answers::findings(config, &questions, &answers));
            let of_sets = questions.with_places().filter(|(question, _)| matches!(question, Named::Set { .. }));
            let places = of_sets.flat_map(|(_, places)| places);
            said.sets.extend(places.map(|place| (config.root().join(&place.file), place.line)));
        }
        Err(Error::Session(session::Error::NoAnswer(error))) => said.not_asked(&place, &error, profile),
        Err(Error::Context(context::Error::Sandbox(error))) => said.not_asked(&place, &error, profile),
        // Errors of hooks are found without Portage, too.
        Err(Error::Session(session::Error::Hooks(_)) | Error::Config(config::Error::Invalid(_))) => {
            said.note(&place, AFTER_ERRORS, None);
        }
        Err(Error::NoPortageProfile { place, profile, tree }) => {
            let trees = choose::trees_for(cx, &config.portage_dir(&group.stage.stage3)?)?;
            no_portage_profile(said, &trees, &place, &profile, &tree);
        }
        Err(Error::Trees(trees::Error::NotHere { place, name })) => {
            let hint = format!("fetch it with `gentoomuch sync {name}`");
            said.error(&place, format!("the repository `{name}` is not in the store"), Some(hint));
        }
        Err(Error::Trees(trees::Error::PinNotHere { place, name, rev })) => {
            let hint = format!("fetch it with `gentoomuch sync {name}`");
            said.error(&place, format!("`{name}` at {rev} is not in the store"), Some(hint));
        }
        Err(Error::Trees(trees::Error::NoTree)) => said.note(
            &Place::whole(Path::new("")),
            "Portage did not check it: there is no ebuild tree in the store",
            Some("fetch one with `gentoomuch sync`".to_owned()),
        ),
        Err(Error::Session(session::Error::Command { command, exit, log, last_lines })) => {
            let last = last_lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {line}"));
            said.warning(
                &place,
                format!("Portage could not check it: `{command}` failed in the session, {exit}{}", last.unwrap_or_default()),
                log.exists().then(|| format!("the whole output is in {}", log.display())),
            );
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn no_portage_profile(said: &mut Said, trees: &[PinnedTree], place: &Place, profile: &str, tree: &str) {
    let Some(tree) = trees.iter().find(|known| known.name == tree) else {
        let known: Vec<String> = trees.iter().map(|known| format!("`{}`", known.name)).collect();
        let are = if known.len() == 1 { "is" } else { "are" };
        let hint = format!(
            "there {are} {}; name others in a section of `repos.conf`, and fetch them with `gentoomuch \
                sync`",
            known.join(", ")
        );
        said.error(place, format!("the stage sees no ebuild repository `{tree}`"), Some(hint));
        return;
    };
    let described = RootDir::open(&tree.path).and_then(|tree| tree.follow("profiles/profiles.desc")?.read(PROFILES_LIMIT_BYTES));
    let described = described.map(|bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let known: Vec<&str> = described.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let hint = nearest(profile, known).map(question);
    let hint = hint.unwrap_or_else(|| format!("`profiles/profiles.desc` of the tree `{}` lists them", tree.name));
    said.error(place, format!("`{profile}` is not a Portage profile of the tree `{}`", tree.name), Some(hint));
}

/// Messages so far.
struct Said {
    root: PathBuf,
    findings: Vec<Diagnostic>,
    /// As in [`Consulted`].
    sets: BTreeSet<(PathBuf, u32)>,
}

impl From<Said> for Consulted {
    fn from(said: Said) -> Self {
        Self { findings: said.findings, sets: said.sets }
    }
}

impl Said {
    fn new(config: &ConfigDir) -> Self {
        Self { root: config.root().to_owned(), findings: Vec::new(), sets: BTreeSet::new() }
    }

    fn push(&mut self, severity: Severity, place: &Place, message: impl Into<String>, hint: Option<String>) {
        let file = if place.file.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&place.file) };
        self.findings.push(Diagnostic { file, line: place.line, severity, message: message.into(), hint });
    }

    fn error(&mut self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Error, place, message, hint);
    }

    fn warning(&mut self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Warning, place, message, hint);
    }

    fn not_asked(&mut self, place: &Place, error: &(dyn std::error::Error + 'static), profile: &str) {
        self.warning(
            place,
            format!("Portage could not check it: {}", crate::causes::in_one_line(error)),
            Some(format!("see whether `gentoomuch freshroot --profile {profile} -- emerge --info` works")),
        );
    }

    fn note(&mut self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Note, place, message, hint);
    }

    /// A profile may be made later, however much its name looks like that of another one.
    fn no_profile(&mut self, profile: &Located<String>, known: &[String]) {
        let message = format!("Portage did not check it: profile `{}` is not bootstrapped", profile.value);
        let make = format!("make it with `gentoomuch bootstrap {} STAGE3`, or use one of: {}", profile.value, known.join(", "));
        let meant = nearest(&profile.value, known).map(|near| question(near) + " Or ").unwrap_or_default();
        self.note(&profile.place(), message, Some(meant + &make));
    }

    fn left_out(&mut self, name: &str, config: &ConfigDir) {
        let (prefix, bare) = name.split_once(':').unwrap_or(("", name));
        let is_stage4 = prefix != "stage3" && config.stage4_names().iter().any(|known| known == bare);
        let folder = if is_stage4 { "stage4.defines" } else { "stage3.defines" };
        self.note(&Place::whole(&Path::new(folder).join(bare)), AFTER_ERRORS, None);
    }
}
