//! Artifacts and logs.
//!
//! An artifact is an archive, or a directory `….oci`, with the files beside it (see `artifact/mod.rs`). Each form of a stage4, or of
//! another name, is counted separately, since both an image and an archive may be wanted.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::artifact::is_unfinished;
use crate::beneath::is_held_open;
use crate::config::ArtifactFormat;
use crate::context::Context;
use crate::history::clean::orphans::Defined;
use crate::history::clean::survey::Survey;
use crate::history::clean::{CleanItem, CleanKind, CleanOptions, FileUse, Thing};
use crate::history::{Error, Result};
use crate::names::refs::stage4_ref;
use crate::path_error::OfFile as _;

/// Logs are kept so long by default.
const LOG_DAYS: i64 = 30;
const DAY_SECS: i64 = 24 * 60 * 60;
/// The files beside an archive in the order of removal: the one that marks the artifact as complete comes first.
const BESIDE: [&str; 5] = [".json", ".asc", ".DIGESTS", ".sha256", ".CONTENTS.gz"];

/// Prefixes of an artifact's name: of a stage4, and of another name or state.
const KINDS: [&str; 2] = ["stage4-", "state-"];
/// The files by which an image is told from a directory of artifacts; they are removed last.
const OF_AN_IMAGE: [&str; 2] = ["index.json", "oci-layout"];

/// The files of one artifact.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactFiles {
    /// The archive, or the directory.
    pub(crate) path: PathBuf,
    /// In the order of removal.
    pub(crate) files: Vec<(PathBuf, FileUse)>,
    pub(crate) made: i64,
    /// Whether it is of the present state of its name, or of one that a tag or a name in `kept/` points to.
    pub(crate) stays: bool,
    /// Why it is an orphan, if it is one: of no state that was named to be kept, and nothing makes it again.
    pub(crate) orphaned: Option<String>,
}

impl ArtifactFiles {
    fn metadata(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(BESIDE[0]);
        path.into()
    }

    /// What it is of: `stage4/web`, `kept/with-hello`. `top` is the directory of all artifacts.
    pub(crate) fn name(&self, top: &Path) -> Option<String> {
        let dir = self.path.parent()?.strip_prefix(top).ok()?.to_str()?;
        let is_stage4 = self.path.file_name()?.to_str()?.starts_with(KINDS[0]);
        Some(if is_stage4 { stage4_ref(dir) } else { dir.to_owned() })
    }

    /// Without metadata it is the rest of an interrupted removal.
    pub(crate) fn is_complete(&self) -> bool {
        self.files.iter().any(|(path, _)| *path == self.metadata())
    }

    /// The state that it was made from.
    pub(crate) fn state(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            state: String,
        }
        let bytes = fs::read(self.metadata()).ok()?;
        Some(serde_json::from_slice::<Metadata>(&bytes).ok()?.state)
    }
}

/// Logs that are too old, without their sizes.
pub(crate) fn old_logs(cx: &Context<'_>, options: &CleanOptions) -> Result<Vec<CleanItem>> {
    if !options.kinds.contains(&CleanKind::Logs) {
        return Ok(Vec::new());
    }
    let (limit, why) = match options.older_than_secs {
        Some(secs) => (secs, "older than the limit that you gave".to_owned()),
        None => (LOG_DAYS * DAY_SECS, format!("older than {LOG_DAYS} days")),
    };
    let mut items = Vec::new();
    for (path, meta) in list(&cx.places.logs())? {
        if meta.is_dir() && meta.mtime() < options.now_secs - limit {
            items.push(log_item(path, why.clone()));
        }
    }
    Ok(items)
}

/// Artifacts beyond the limits, and orphans if they are asked for. Of each stage4 and form the newest is kept, and that of the present
/// state.
pub(crate) fn surplus_artifacts(options: &CleanOptions, artifacts: Vec<Vec<ArtifactFiles>>) -> Vec<CleanItem> {
    let mut items = Vec::new();
    for artifacts in artifacts {
        for (position, artifact) in artifacts.into_iter().enumerate() {
            if let Some(why) = artifact.orphaned.clone().filter(|_| options.orphans) {
                items.push(artifact_item(artifact, why));
            } else if position > 0 && !artifact.stays && options.beyond(position, artifact.made) {
                let why = match position {
                    _ if !artifact.is_complete() => "it is incomplete, and a complete one stays".to_owned(),
                    1 => "a newer one stays".to_owned(),
                    _ => format!("there are {position} newer ones"),
                };
                items.push(artifact_item(artifact, why));
            }
        }
    }
    items
}

/// Leftovers of killed exports. The store is locked, so no export is running.
pub(crate) fn unfinished_artifacts(cx: &Context<'_>) -> Result<Vec<CleanItem>> {
    let mut items = Vec::new();
    let mut waiting = vec![cx.places.stages()];
    while let Some(dir) = waiting.pop() {
        for (path, meta) in list(&dir)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_unfinished(name) {
                let files = if meta.is_dir() { files_below(&path)? } else { vec![(path.clone(), FileUse::of(&meta))] };
                let (name, why) = (name.to_owned(), "an interrupted export".to_owned());
                items.push(CleanItem { kind: CleanKind::Artifacts, name, path, bytes: 0, why, thing: Thing::Files(files) });
            } else if meta.is_dir() && !name.starts_with('.') && !is_image(&path) {
                waiting.push(path);
            }
        }
    }
    Ok(items)
}

/// The artifacts of each stage4 and form, newest first, with what becomes of them.
pub(crate) fn artifacts(cx: &Context<'_>, survey: &Survey, defined: Option<&Defined>) -> Result<Vec<Vec<ArtifactFiles>>> {
    let mut groups = groups(cx)?;
    for artifact in groups.iter_mut().flatten() {
        let (Some(name), Some(state)) = (artifact.name(&cx.places.stages()), artifact.state()) else { continue };
        let is_present = survey.present(&name).is_some_and(|present| state == present.as_str());
        if let Some(defined) = defined.filter(|_| !survey.keeps(&state)) {
            artifact.orphaned = defined.orphaned(&name)?;
        }
        artifact.stays = is_present || survey.keeps(&state);
    }
    Ok(groups)
}

/// The artifacts of each stage4 and form, newest first.
pub(crate) fn groups(cx: &Context<'_>) -> Result<Vec<Vec<ArtifactFiles>>> {
    Ok(groups_and_others(cx)?.0)
}

/// As [`groups`], and the files between them that are not ours.
pub(crate) fn groups_and_others(cx: &Context<'_>) -> Result<(Vec<Vec<ArtifactFiles>>, Vec<PathBuf>)> {
    let top = cx.places.stages();
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut waiting = vec![top.clone()];
    while let Some(dir) = waiting.pop() {
        let mut artifacts: BTreeMap<String, ArtifactFiles> = BTreeMap::new();
        for (path, meta) in list(&dir)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let is_ours = KINDS.iter().any(|kind| name.starts_with(kind));
            let is_image = meta.is_dir() && is_ours && is_image(&path);
            if meta.is_dir() && !is_image {
                if !name.starts_with('.') {
                    waiting.push(path);
                }
            } else if is_ours && (is_image || meta.is_file()) {
                let main = BESIDE.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|_| !is_image).unwrap_or(name);
                let empty = || ArtifactFiles { path: dir.join(main), files: Vec::new(), made: 0, stays: false, orphaned: None };
                let artifact = artifacts.entry(main.to_owned()).or_insert_with(empty);
                artifact.made = artifact.made.max(meta.mtime());
                if is_image {
                    artifact.files.extend(files_below(&path)?);
                } else {
                    artifact.files.push((path, FileUse::of(&meta)));
                }
            } else if !name.starts_with('.') {
                others.push(path);
            }
        }
        let mut groups: BTreeMap<(&str, String), Vec<ArtifactFiles>> = BTreeMap::new();
        for (name, mut artifact) in artifacts {
            artifact.files.sort_by_key(|(path, _)| rank(path, &artifact.path));
            let kind = KINDS.into_iter().find(|kind| name.starts_with(kind)).unwrap_or_default();
            groups.entry((kind, form(&name))).or_default().push(artifact);
        }
        for mut group in groups.into_values() {
            group.sort_by(|a, b| (b.is_complete(), b.made, &b.path).cmp(&(a.is_complete(), a.made, &a.path)));
            found.push(group);
        }
    }
    others.sort();
    Ok((found, others))
}

/// The ending of an artifact's name.
pub(crate) fn form(name: &str) -> String {
    let known = ArtifactFormat::ALL.map(|format| format!(".{format}")).into_iter().find(|ending| name.ends_with(ending));
    known.unwrap_or_else(|| name.rsplit('.').next().unwrap_or_default().to_owned())
}

/// The order of removal: metadata, the other files beside it, then the artifact itself.
fn rank(path: &Path, main: &Path) -> usize {
    if path.starts_with(main) {
        let last = OF_AN_IMAGE.iter().position(|name| path == main.join(name));
        return BESIDE.len() + last.map_or(0, |at| at + 1);
    }
    BESIDE.iter().position(|suffix| path.to_string_lossy().ends_with(suffix)).unwrap_or(BESIDE.len())
}

fn is_image(path: &Path) -> bool {
    let ending = ArtifactFormat::Oci.to_string();
    path.extension().is_some_and(|extension| extension == ending.as_str())
        && OF_AN_IMAGE.iter().any(|name| path.join(name).is_file())
}

/// All files below a directory.
fn files_below(top: &Path) -> Result<Vec<(PathBuf, FileUse)>> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(dir) = waiting.pop() {
        for (path, meta) in list(&dir)? {
            if meta.is_dir() { waiting.push(path) } else { found.push((path, FileUse::of(&meta))) }
        }
    }
    Ok(found)
}

pub(crate) fn artifact_item(artifact: ArtifactFiles, why: String) -> CleanItem {
    let name = artifact.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    CleanItem { kind: CleanKind::Artifacts, name, path: artifact.path, bytes: 0, why, thing: Thing::Files(artifact.files) }
}

pub(crate) fn log_item(path: PathBuf, why: String) -> CleanItem {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    CleanItem { kind: CleanKind::Logs, name, path, bytes: 0, why, thing: Thing::Directory }
}

/// The entries of a directory, by name; empty if it does not exist.
pub(crate) fn list(dir: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("list", dir.to_owned())(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if path.file_name().is_some_and(is_held_open) {
            continue;
        }
        // Another process removed it.
        if let Ok(meta) = fs::symlink_metadata(&path) {
            found.push((path, meta));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}
