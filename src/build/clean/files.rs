//! Artifacts and logs.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::engine::Engine;
use super::super::error::{Error, Result};
use super::{CleanItem, CleanKind, CleanOptions, FileUse, Thing};

/// Logs are of use for so long, unless told otherwise.
const LOG_DAYS: i64 = 30;
const DAY_SECS: i64 = 24 * 60 * 60;
/// What lies beside an archive, in the order in which it is removed: first what says that the artifact is complete.
const BESIDE: [&str; 5] = [".json", ".asc", ".DIGESTS", ".sha256", ".CONTENTS.gz"];

/// The files of one artifact.
#[derive(Debug, Clone)]
pub(super) struct ArtifactFiles {
    pub(super) path: PathBuf,
    pub(super) files: Vec<(PathBuf, FileUse)>,
    pub(super) made: i64,
}

impl Engine<'_> {
    /// Logs that are too old, without their sizes.
    pub(super) fn old_logs(&self, options: &CleanOptions) -> Result<Vec<CleanItem>> {
        if !options.kinds.contains(&CleanKind::Logs) {
            return Ok(Vec::new());
        }
        let (limit, why) = match options.older_than_secs {
            Some(secs) => (secs, "older than asked for".to_owned()),
            None => (LOG_DAYS * DAY_SECS, format!("older than {LOG_DAYS} days")),
        };
        let mut items = Vec::new();
        for (path, meta) in list(&self.places.logs())? {
            if meta.is_dir() && meta.mtime() < options.now_secs - limit {
                items.push(log_item(path, why.clone()));
            }
        }
        Ok(items)
    }

    /// Artifacts beyond the limits; of each stage4 the newest always stays.
    pub(super) fn surplus_artifacts(&self, options: &CleanOptions) -> Result<Vec<CleanItem>> {
        let mut items = Vec::new();
        for artifacts in self.artifacts()? {
            for (position, artifact) in artifacts.into_iter().enumerate() {
                if position > 0 && options.beyond(position, artifact.made) {
                    let why =
                        if position == 1 { "a newer one stays".to_owned() } else { format!("{position} newer ones are there") };
                    items.push(artifact_item(artifact, why));
                }
            }
        }
        Ok(items)
    }

    /// The artifacts of each stage4, newest first.
    pub(super) fn artifacts(&self) -> Result<Vec<Vec<ArtifactFiles>>> {
        let mut found = Vec::new();
        let mut waiting = vec![self.places.stages()];
        while let Some(dir) = waiting.pop() {
            let mut groups: BTreeMap<String, ArtifactFiles> = BTreeMap::new();
            for (path, meta) in list(&dir)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if meta.is_dir() && !name.starts_with('.') {
                    waiting.push(path);
                } else if meta.is_file() && name.starts_with("stage4-") {
                    let main = BESIDE.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
                    let empty = || ArtifactFiles { path: dir.join(main), files: Vec::new(), made: 0 };
                    let group = groups.entry(main.to_owned()).or_insert_with(empty);
                    group.made = group.made.max(meta.mtime());
                    group.files.push((path, FileUse::of(&meta)));
                }
            }
            let mut artifacts: Vec<ArtifactFiles> = groups.into_values().collect();
            artifacts.sort_by(|a, b| (b.made, &b.path).cmp(&(a.made, &a.path)));
            for artifact in &mut artifacts {
                let rank = |path: &Path| BESIDE.iter().position(|s| path.to_string_lossy().ends_with(s)).unwrap_or(BESIDE.len());
                artifact.files.sort_by_key(|(path, _)| rank(path));
            }
            if !artifacts.is_empty() {
                found.push(artifacts);
            }
        }
        Ok(found)
    }
}

pub(super) fn artifact_item(artifact: ArtifactFiles, why: String) -> CleanItem {
    let name = artifact.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    CleanItem { kind: CleanKind::Artifacts, name, path: artifact.path, bytes: 0, why, thing: Thing::Files(artifact.files) }
}

pub(super) fn log_item(path: PathBuf, why: String) -> CleanItem {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    CleanItem { kind: CleanKind::Logs, name, path, bytes: 0, why, thing: Thing::Directory }
}

/// What is in a directory, by name; nothing if it is not there.
pub(super) fn list(dir: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { action: "list", path: dir.to_owned(), source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", dir))?.path();
        // Gone meanwhile is as good as never seen.
        if let Ok(meta) = fs::symlink_metadata(&path) {
            found.push((path, meta));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Removes directories below `top` that have become empty, from `dir` upwards.
pub(super) fn remove_empty(dir: Option<&Path>, top: &Path) {
    for dir in dir.into_iter().flat_map(Path::ancestors).take_while(|dir| *dir != top && dir.starts_with(top)) {
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
}
