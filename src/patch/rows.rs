//! `patch ls`, `show` and `rm`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::ConfigDir;
use crate::config::patches::{SavedPatch, USER_PATCHES};
use crate::context::Context;
use crate::did_you_mean::nearest;
use crate::patch::work_set::WorkSet;
use crate::patch::{Error, PatchError, Result, attempt, lock_name, save, work_set};
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::unused::remove_empty;
use crate::sandbox::TaskOptions;
use crate::store::tasks::{REMOVE_TREE, RemoveInput};
use crate::terminal_text::sanitize;
use crate::{context, patch};

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PatchRow {
    pub name: String,
    pub work_set: Option<WorkSet>,
    /// The work set's directory.
    pub dir: Option<PathBuf>,
    /// Its saved files.
    pub saved: Vec<SavedFile>,
    /// Whether the session of a failed build was kept.
    pub failed_build: bool,
}

/// A file of a saved patch.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SavedFile {
    /// Relative to the configuration directory.
    pub path: PathBuf,
    /// The versions that it applies to.
    pub atom: String,
    /// `Purpose` of its header.
    pub purpose: Option<String>,
    /// `Package` of its header.
    pub package: Option<String>,
    /// `Date` of its header.
    pub date: Option<String>,
    /// `Bug` of its header.
    pub bug: Option<String>,
    /// Lines added.
    pub added: usize,
    /// Lines removed.
    pub removed: usize,
    pub files: usize,
    /// Its text, safe to print.
    #[serde(skip)]
    pub text: String,
}

/// What was removed of a patch.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemovedPatch {
    pub name: String,
    pub work_set: Option<PathBuf>,
    /// Files of the configuration, relative to it.
    pub saved: Vec<PathBuf>,
}

/// All patches with a saved file or a work set, by name.
pub(crate) fn patch_rows(cx: &Context<'_>, config: &ConfigDir) -> Result<Vec<PatchRow>> {
    let mut rows: BTreeMap<String, PatchRow> = BTreeMap::new();
    let row = |name: &str| PatchRow { name: name.to_owned(), work_set: None, dir: None, saved: Vec::new(), failed_build: false };
    for (name, set) in work_set::all(cx.places)? {
        let key = crate::patch::attempt::key_of(&name);
        let entry = rows.entry(name.clone()).or_insert_with(|| row(&name));
        entry.dir = Some(work_set::dir(cx.places, &name));
        entry.failed_build = !cx.store.sessions_suspended(&[&key])?.is_empty();
        entry.work_set = Some(set);
    }
    for patch in config.patches()? {
        let entry = rows.entry(patch.name.clone()).or_insert_with(|| row(&patch.name));
        entry.saved.push(saved_file(&patch));
    }
    Ok(rows.into_values().collect())
}

/// One patch.
pub(crate) fn patch_row(cx: &Context<'_>, config: &ConfigDir, name: &str) -> Result<PatchRow> {
    match patch_rows(cx, config)?.into_iter().find(|row| row.name == name) {
        Some(row) => Ok(row),
        None => Err(no_such_patch(cx, config, name)?.into()),
    }
}

/// The changes in a work set as a patch, safe to print.
pub(crate) fn patch_changes(cx: &Context<'_>, name: &str) -> Result<String> {
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let set = patch::work_set(cx, None, name)?;
    Ok(sanitize(&save::patch_diff(cx, &set, name)?.patch))
}

/// Removes a work set, and with `saved` the saved files. Without `force` only if all changes are saved.
pub(crate) fn patch_remove(cx: &Context<'_>, config: &ConfigDir, name: &str, saved: bool, force: bool) -> Result<RemovedPatch> {
    work_set::check_name(name)?;
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let dir = work_set::dir(cx.places, name);
    let has_work_set = std::fs::symlink_metadata(&dir).is_ok();
    let patches: Vec<SavedPatch> = config.patches()?.into_iter().filter(|patch| patch.name == name).collect();
    if !has_work_set && (patches.is_empty() || !saved) {
        // The error tells what exists instead.
        return Err(if patches.is_empty() {
            no_such_patch(cx, config, name)?.into()
        } else {
            PatchError::NoWorkSet { name: name.to_owned(), known: Vec::new(), saved: true }.into()
        });
    }
    if has_work_set && !force {
        let diff = save::patch_diff(cx, &patch::work_set(cx, Some(config), name)?, name)?.patch;
        let is_saved = patches.iter().any(|patch| patch.contents.ends_with(&diff));
        match (diff.is_empty(), is_saved) {
            (false, false) => return Err(PatchError::Unsaved(name.to_owned()).into()),
            (false, true) if saved => return Err(PatchError::NothingLeft(name.to_owned()).into()),
            _ => {}
        }
    }
    let mut removed = RemovedPatch { name: name.to_owned(), work_set: None, saved: Vec::new() };
    if has_work_set {
        attempt::forget_attempt(cx, name)?;
        let input = RemoveInput { paths: vec![dir.clone(), work_set::unfinished(cx.places, name)] };
        cx.launcher.task(REMOVE_TREE, &input, TaskOptions::default(), &mut |_| {})?;
        removed.work_set = Some(dir);
    }
    for patch in patches.iter().filter(|_| saved) {
        let file = config.root().join(&patch.path);
        std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        remove_empty(file.parent(), &config.root().join(USER_PATCHES));
        removed.saved.push(patch.path.clone());
    }
    Ok(removed)
}

pub(crate) fn no_such_patch(cx: &Context<'_>, config: &ConfigDir, name: &str) -> Result<PatchError> {
    let known: Vec<String> = patch_rows(cx, config)?.into_iter().map(|row| row.name).collect();
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    Ok(PatchError::Unknown { name: name.to_owned(), nearest, known })
}

fn saved_file(patch: &SavedPatch) -> SavedFile {
    let header = patch.header();
    let own = |text: Option<&str>| text.map(str::to_owned);
    let text = sanitize(&patch.contents);
    let (mut added, mut removed, mut files) = (0, 0, 0);
    for line in text.lines() {
        match line {
            line if line.starts_with("+++ ") => files += 1,
            line if line.starts_with("--- ") => {}
            line if line.starts_with('+') => added += 1,
            line if line.starts_with('-') => removed += 1,
            _ => {}
        }
    }
    SavedFile {
        path: patch.path.clone(),
        atom: patch.atom(),
        purpose: own(header.purpose()),
        package: own(header.package()),
        date: own(header.date()),
        bug: own(header.bug()),
        added,
        removed,
        files,
        text,
    }
}
