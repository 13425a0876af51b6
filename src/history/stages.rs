//! `stage ls|show|rm`: stage4s with their states and artifacts.
//!
//! A stage4 is there if it has a definition, a state or an artifact. An artifact is what its `.json` says. One whose files are not as the
//! `.json` says is damaged, and a file that does not look like one of ours is foreign: both are shown, and never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::artifact::recorded::Recorded;
use crate::config::ConfigDir;
use crate::context::Context;
use crate::history::clean::files::{ArtifactFiles, form, groups_and_others};
use crate::history::remove::{Removal, remove, remove_plan};
use crate::history::{Error, Result, clean, log};
use crate::inventory::{bytes_of, packages_of};
use crate::names::refs::{stage4_lock, stage4_ref};
use crate::origin::KernelRecord;
use crate::store::{State, StateId};
use crate::{context, uses};

/// Directories of artifacts of other states, beside those of stage4s.
const NOT_OF_STAGES: [&str; 6] = ["kept", "kernel", "kernel-sources", "profile", "state", "tag"];
/// Stands for every artifact of a stage4.
const ALL: &str = "all";

/// A row of `stage ls`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StageRow {
    pub name: String,
    /// Whether the configuration has its definition; `None`: that cannot be known.
    pub defined: Option<bool>,
    /// Its present state.
    pub state: Option<StateId>,
    /// When that was made, RFC 3339; `None` if it is not in the store.
    pub built: Option<String>,
    /// The profile that it was built on.
    pub profile: Option<String>,
    /// Newest first.
    pub artifacts: Vec<ArtifactRow>,
    /// Files among them that are not ours.
    pub foreign: Vec<PathBuf>,
}

/// An artifact of a stage4.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ArtifactRow {
    pub path: PathBuf,
    /// `tar.xz`, `oci`, …
    pub format: String,
    /// Of the archive or image.
    pub size_bytes: u64,
    /// Fingerprint of the key that signed it, as its `.json` says.
    pub signed_by: Option<String>,
    /// When it was made, RFC 3339.
    pub made: String,
    /// The state in it.
    pub state: Option<String>,
    /// Whether that is the stage4's present state.
    pub current: bool,
    #[serde(flatten)]
    pub condition: Condition,
    #[serde(skip)]
    files: ArtifactFiles,
}

/// Whether an artifact is as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "condition", rename_all = "kebab-case")]
pub(crate) enum Condition {
    Complete,
    /// The rest of a killed export or removal.
    Unfinished,
    Damaged {
        why: String,
    },
}

/// What `stage show` shows.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StageShown {
    #[serde(flatten)]
    pub row: StageRow,
    /// What its state was made from, as a name that commands take.
    pub base: Option<String>,
    pub kernel: Option<KernelRecord>,
    /// How many packages its state has.
    pub package_count: Option<usize>,
    /// What its state takes on the disk, bytes.
    pub total_bytes: Option<u64>,
}

/// What `stage rm` removes, or has removed.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StageRemoval {
    pub stage: String,
    pub artifacts: Vec<ArtifactRow>,
    /// Damaged artifacts, which stay.
    pub damaged: Vec<ArtifactRow>,
    /// Files that are not ours, which stay.
    pub foreign: Vec<PathBuf>,
    /// Its name in the store, unless only artifacts were asked for.
    #[serde(flatten)]
    pub names: Removal,
}

/// The stage4s, by name.
pub(crate) fn stage_rows(cx: &Context<'_>) -> Result<Vec<StageRow>> {
    let config = ConfigDir::open(&cx.places.config).ok();
    let mut rows: BTreeMap<String, StageRow> = BTreeMap::new();
    for name in config.iter().flat_map(ConfigDir::stage4_names) {
        rows.entry(name).or_default();
    }
    for (name, id) in cx.store.refs()? {
        let Some(stage) = name.strip_prefix("stage4/") else { continue };
        let row = rows.entry(stage.to_owned()).or_default();
        let state = cx.store.state(&id).ok();
        row.built = state.as_ref().map(|state| state.created.clone());
        row.profile = state.and_then(|state| state.origin.profile().map(str::to_owned));
        row.state = Some(id);
    }
    let top = cx.places.stages();
    let (groups, others) = groups_and_others(cx)?;
    for files in groups.into_iter().flatten() {
        let Some(stage) = files.name(&top).and_then(|name| name.strip_prefix("stage4/").map(str::to_owned)) else { continue };
        let row = rows.entry(stage).or_default();
        row.artifacts.push(artifact_row(&files, row.state.as_ref()));
    }
    for path in others {
        let Some(dir) = path.parent().and_then(|dir| dir.strip_prefix(&top).ok()).and_then(Path::to_str) else { continue };
        let first = dir.split('/').next().unwrap_or(dir);
        if !dir.is_empty() && (rows.contains_key(dir) || !NOT_OF_STAGES.contains(&first)) {
            rows.entry(dir.to_owned()).or_default().foreign.push(path);
        }
    }
    for (name, row) in &mut rows {
        row.name.clone_from(name);
        row.defined = config.as_ref().and_then(|config| config.has_stage4(name).ok());
        row.artifacts.sort_by(|a, b| (&b.made, &a.path).cmp(&(&a.made, &b.path)));
    }
    Ok(rows.into_values().collect())
}

fn artifact_row(files: &ArtifactFiles, present: Option<&StateId>) -> ArtifactRow {
    let within: Vec<PathBuf> =
        files.files.iter().filter_map(|(path, _)| path.strip_prefix(&files.path).ok()).map(Path::to_owned).collect();
    // The archive itself is no file within it.
    let within: Vec<PathBuf> = within.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
    let named = form(&files.path.file_name().unwrap_or_default().to_string_lossy());
    let made = jiff::Timestamp::from_second(files.made).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    let row = |condition, recorded: Option<Recorded>| ArtifactRow {
        path: files.path.clone(),
        format: recorded.as_ref().and_then(|made| made.form.clone()).unwrap_or_else(|| named.trim_start_matches('.').to_owned()),
        size_bytes: recorded.as_ref().map_or(0, |made| made.size),
        signed_by: recorded.as_ref().and_then(|made| made.signed_by.clone()),
        made: made.clone(),
        current: recorded.as_ref().is_some_and(|made| present.is_some_and(|present| made.state == present.as_str())),
        state: recorded.map(|made| made.state),
        condition,
        files: files.clone(),
    };
    match Recorded::judged(&files.path, &within) {
        Ok(Some(made)) => row(Condition::Complete, Some(made)),
        Ok(None) => row(Condition::Unfinished, None),
        Err(why) => row(Condition::Damaged { why }, None),
    }
}

fn stage_row(cx: &Context<'_>, name: &str) -> Result<StageRow> {
    let mut rows = stage_rows(cx)?;
    let bare = name.strip_prefix("stage4/").unwrap_or(name);
    match rows.iter().position(|row| row.name == name).or_else(|| rows.iter().position(|row| row.name == bare)) {
        Some(at) => Ok(rows.swap_remove(at)),
        None => Err(Error::NoStage { name: name.to_owned(), known: rows.into_iter().map(|row| row.name).collect() }),
    }
}

/// One stage4 with all that is known of it.
pub(crate) fn stage_show(cx: &Context<'_>, name: &str) -> Result<StageShown> {
    let _shared = context::share_store(cx)?;
    let row = stage_row(cx, name)?;
    let state: Option<State> = row.state.as_ref().and_then(|id| cx.store.state(id).ok());
    let Some(state) = state else {
        return Ok(StageShown { row, base: None, kernel: None, package_count: None, total_bytes: None });
    };
    Ok(StageShown {
        base: base_of(cx, &state)?,
        kernel: state.origin.as_stage4().and_then(|stage4| stage4.kernel.clone()),
        package_count: Some(packages_of(cx, &state)?.len()),
        total_bytes: Some(bytes_of(cx, std::slice::from_ref(&state), &[])?),
        row,
    })
}

/// What a stage4's state was built on: not the state between that has the kernel.
fn base_of(cx: &Context<'_>, state: &State) -> Result<Option<String>> {
    let base = State { parent: uses::built_from(cx, state)?, ..state.clone() };
    Ok(log::from(&base, &log::Standing::of(&cx.store.readable_histories()?)))
}

/// What goes of the stage4 `name`: of the artifacts the named ones, or everything with its state.
pub(crate) fn stage_remove_plan(cx: &Context<'_>, name: &str, artifacts: &[String], force: bool) -> Result<StageRemoval> {
    let _shared = context::share_store(cx)?;
    let row = stage_row(cx, name)?;
    let none = Removal { names: Vec::new(), unnamed_states: 0, unnamed_bytes: 0 };
    let wanted = wanted(&row, artifacts)?;
    let is_damaged = |artifact: &ArtifactRow| matches!(artifact.condition, Condition::Damaged { .. });
    let (damaged, going): (Vec<_>, Vec<_>) = row.artifacts.into_iter().filter(|artifact| wanted(artifact)).partition(is_damaged);
    let names = match &row.state {
        Some(_) if artifacts.is_empty() => remove_plan(cx, &[stage4_ref(&row.name)], force)?,
        _ => none,
    };
    Ok(StageRemoval { stage: row.name, artifacts: going, damaged, foreign: row.foreign, names })
}

/// Which artifacts are meant. Fails if one of them is not there or is damaged.
fn wanted(row: &StageRow, artifacts: &[String]) -> Result<impl Fn(&ArtifactRow) -> bool + use<>> {
    fn file(artifact: &ArtifactRow) -> String {
        artifact.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
    let is = |artifact: &ArtifactRow, name: &str| file(artifact) == name || artifact.path == Path::new(name);
    for name in artifacts.iter().filter(|name| *name != ALL) {
        let Some(artifact) = row.artifacts.iter().find(|artifact| is(artifact, name)) else {
            let known = row.artifacts.iter().map(file).collect();
            return Err(Error::NoArtifact { stage: row.name.clone(), name: name.clone(), known });
        };
        if let Condition::Damaged { why } = &artifact.condition {
            return Err(Error::DamagedArtifact { path: artifact.path.clone(), why: why.clone() });
        }
    }
    let names: BTreeSet<String> = artifacts.iter().cloned().collect();
    Ok(move |artifact: &ArtifactRow| names.is_empty() || names.contains(ALL) || names.iter().any(|name| is(artifact, name)))
}

/// Removes what is in `plan` and is as it was shown: artifacts first, so that the same words go on where a killed run stopped.
pub(crate) fn stage_remove(cx: &Context<'_>, plan: StageRemoval, force: bool) -> Result<StageRemoval> {
    let shared = context::share_store(cx)?;
    let lock = context::lock(cx, &stage4_lock(&plan.stage))?;
    let there = stage_row(cx, &plan.stage)?.artifacts;
    let (mut artifacts, mut damaged) = (Vec::new(), plan.damaged);
    for shown in plan.artifacts {
        context::not_interrupted(cx)?;
        let Some(now) = there.iter().find(|now| now.path == shown.path && now.condition == shown.condition) else { continue };
        if let Some(why) = unlike(cx, now) {
            damaged.push(ArtifactRow { condition: Condition::Damaged { why }, ..shown });
            continue;
        }
        clean::remove_files(cx, &now.path, &now.files.files)?;
        artifacts.push(shown);
    }
    drop((lock, shared));
    let names = if plan.names.names.is_empty() { plan.names } else { remove(cx, &plan.names, force)? };
    Ok(StageRemoval { artifacts, damaged, names, stage: plan.stage, foreign: plan.foreign })
}

/// What differs from the digests in an artifact's `.json`, if anything does. What a killed run has left has none.
fn unlike(cx: &Context<'_>, artifact: &ArtifactRow) -> Option<String> {
    if artifact.condition == Condition::Unfinished {
        return None;
    }
    let made = Recorded::read(&artifact.path);
    let is_whole = made.is_some_and(|made| made.is_whole(&artifact.path, &cx.places.seen_artifacts()).is_ok());
    (!is_whole).then(|| "its contents are not what its `.json` says".to_owned())
}
