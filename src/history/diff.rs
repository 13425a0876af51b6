//! `diff`: the differences between two build states, in packages and files.
//!
//! ```text
//! packages   the databases of both merged views, by name and slot
//! files      both merged views, read-only, in one task in the id map:
//!              same layers at the bottom    only paths in the layers above are compared
//!              anything else                both trees in full
//! ```
//!
//! A layer can hide more than it mentions: below a whiteout, an opaque directory, or a file that replaces a directory, both views are
//! walked in full. Times are not compared, since each build changes them.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use crate::archive::OwnerNames;
use crate::beneath::{TreeDir, same_contents};
use crate::context::Context;
use crate::history::Result;
use crate::inventory::{Change, SlotChange, slot_changes, slot_of};
use crate::names::named;
use crate::portage::cpv::Cpv;
use crate::portage::vdb::Package;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::store::{State, StateId};
use crate::sys::overlay;
use crate::terminal_text::sanitize_line;
use crate::{beneath, context, inventory, store};

/// Compares the merged views of two states. Input: [`CompareInput`]; events: batches of [`FileChange`].
pub(crate) const COMPARE: &str = "history.compare";
/// Changes in one event.
const BATCH: usize = 512;
/// Deeper trees are refused. Each level holds a descriptor of either view, and a process has 1024 by default.
const DEPTH_MAX: usize = 400;
/// How many directories of layers may be open. Beyond that the views are compared in full.
const LAYERS_MAX: usize = 128;
/// Longer paths are cut in messages.
const PATH_MAX: usize = 4096;
/// More names in one directory are refused.
const NAMES_MAX: usize = 2_000_000;

/// What to compare of two states.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiffOptions {
    /// The state before.
    pub before: String,
    /// The state after.
    pub after: String,
    /// Whether packages are compared.
    pub packages: bool,
    /// Whether files are compared.
    pub files: bool,
    /// Only files at and below this absolute path.
    pub below: Option<String>,
}

/// Differences of two states.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StateDiff {
    pub before: StateId,
    pub after: StateId,
    /// Packages, by name and slot, unless not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<PackageDiff>>,
    /// Files, by path, unless not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileChange>>,
}

impl StateDiff {
    /// Whether nothing that was asked for differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.packages.as_ref().is_none_or(Vec::is_empty) && self.files.as_ref().is_none_or(Vec::is_empty)
    }
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageDiff {
    /// `category/name`.
    pub name: String,
    pub slot: String,
    /// What became of it.
    pub change: Change,
    /// Version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Version after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// USE flags that were switched on; for a new package all that are on.
    pub use_enabled: Vec<String>,
    /// USE flags that were switched off.
    pub use_disabled: Vec<String>,
    /// Sub-slots before and after, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subslot: Option<(String, String)>,
}

/// A file, directory, … that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileChange {
    /// Absolute.
    pub path: String,
    /// Before; `None` if it is new.
    pub before: Option<FileNode>,
    /// After; `None` if it was removed.
    pub after: Option<FileNode>,
    /// Whether regular files of equal size have different contents.
    pub content: bool,
}

/// The facts about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileNode {
    /// `file`, `directory`, `link`, `pipe`, `socket`, `device`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// `user:group` by the state's own passwd and group files, numbers where these have no name.
    pub owner: String,
    /// Size of a regular file, bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// File capabilities, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub capabilities: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CompareInput {
    /// Layers, topmost first.
    before: Vec<PathBuf>,
    after: Vec<PathBuf>,
    /// How many layers at the bottom are the same.
    shared: usize,
    /// A directory outside of all layers, as a mount point.
    mount_on: PathBuf,
    below: Option<String>,
}

/// Compares two states.
pub(crate) fn diff(cx: &Context<'_>, options: &DiffOptions) -> Result<StateDiff> {
    let _shared = context::share_store(cx)?;
    let (before, after) = (named::named(cx, &options.before)?.state, named::named(cx, &options.after)?.state);
    let packages = if options.packages { Some(package_diff(cx, &before, &after)?) } else { None };
    let files = if options.files { Some(file_diff(cx, &before, &after, options.below.as_deref())?) } else { None };
    Ok(StateDiff { before: before.id, after: after.id, packages, files })
}

fn package_diff(cx: &Context<'_>, before: &State, after: &State) -> Result<Vec<PackageDiff>> {
    if before.layers == after.layers {
        return Ok(Vec::new());
    }
    let packages = |state: &State| -> Result<Vec<Package>> {
        let answer = inventory::inventory(cx, state)?;
        Ok(serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: crate::inventory::INVENTORY, source })?)
    };
    Ok(packages_between(&packages(before)?, &packages(after)?))
}

fn file_diff(cx: &Context<'_>, before: &State, after: &State, below: Option<&str>) -> Result<Vec<FileChange>> {
    if before.layers == after.layers {
        return Ok(Vec::new());
    }
    let input = CompareInput {
        before: cx.store.lower_dirs(before),
        after: cx.store.lower_dirs(after),
        shared: before.layers.iter().zip(&after.layers).take_while(|(a, b)| a == b).count(),
        mount_on: cx.store.root().join("tmp"),
        below: below.map(str::to_owned),
    };
    let options = TaskOptions { mounts: true, cancel: Some(context::cancel(cx)?), ..TaskOptions::default() };
    let mut files: Vec<FileChange> = Vec::new();
    let mut lost = None;
    context::task(cx, COMPARE, &input, options, &mut |event| match serde_json::from_value::<Vec<FileChange>>(event) {
        Ok(batch) => files.extend(batch),
        Err(error) => lost = Some(error),
    })?;
    if let Some(source) = lost {
        return Err(store::Error::Answer { task: COMPARE, source }.into());
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn packages_between(before: &[Package], after: &[Package]) -> Vec<PackageDiff> {
    let version = |package: &Package| Cpv::parse(&package.cpv).map_or_else(String::new, |cpv| cpv.version.to_owned());
    let flags = |package: Option<&Package>| -> BTreeSet<String> {
        package.map(|package| package.use_flags.iter().cloned().collect()).unwrap_or_default()
    };
    let diff = |SlotChange { change, before: old, after: new }: SlotChange<'_>| {
        let package = new.or(old)?;
        let (on_before, on_after) = (flags(old), flags(new));
        let subslot = match (old.map(|old| slot_of(old).1), new.map(|new| slot_of(new).1)) {
            (Some(old), Some(new)) if old != new => Some((old.to_owned(), new.to_owned())),
            _ => None,
        };
        Some(PackageDiff {
            name: package.name().to_owned(),
            slot: slot_of(package).0.to_owned(),
            change,
            before: old.map(version),
            after: new.map(version),
            use_enabled: on_after.difference(&on_before).cloned().collect(),
            use_disabled: if new.is_some() { on_before.difference(&on_after).cloned().collect() } else { Vec::new() },
            subslot,
        })
    };
    slot_changes(before, after).into_iter().filter_map(diff).collect()
}

/// Finds this module's task by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == COMPARE).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: CompareInput = context.input_as()?;
    let failed =
        |error: &CompareError| TaskFailure::of(if matches!(error, CompareError::Depth(_)) { "too-deep" } else { "compare" }, error);
    // Must be opened before the mount covers it.
    let above = |layers: &[PathBuf]| -> Compared<Vec<TreeDir>> {
        let layers = layers[..layers.len().saturating_sub(input.shared)].iter();
        layers.map(|path| TreeDir::open(path).map_err(|error| shown_as("/", error))).collect()
    };
    let differing: usize = [&input.before, &input.after].map(|layers| layers.len().saturating_sub(input.shared)).iter().sum();
    let by_layers = input.shared > 0 && differing <= LAYERS_MAX;
    let mut touched = Vec::new();
    if by_layers {
        touched = above(&input.before).map_err(|error| failed(&error))?;
        touched.extend(above(&input.after).map_err(|error| failed(&error))?);
    }
    let mount = |layers: &[PathBuf]| -> std::result::Result<TreeDir, TaskFailure> {
        let view = overlay::mount_read_only(layers, &input.mount_on).map_err(|error| TaskFailure::of("mount", &error))?;
        Ok(TreeDir::from_fd(view, "/"))
    };
    let (before, after) = (mount(&input.before)?, mount(&input.after)?);
    let only = input.below.as_deref().unwrap_or("/").split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut comparison = Comparison {
        names: [OwnerNames::read(before.as_fd()), OwnerNames::read(after.as_fd())],
        only: only.map(|part| part.as_bytes().to_vec()).collect(),
        path: Vec::new(),
        depth: 0,
        held: touched.len(),
        found: Vec::new(),
        events: context.events.clone(),
    };
    let layers = by_layers.then_some(touched.as_slice());
    comparison.directory(Some(&before), Some(&after), layers).map_err(|error| failed(&error))?;
    comparison.tell();
    Ok(serde_json::Value::Null)
}

/// What failed, and the path.
#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error("cannot compare `{path}`")]
    Beneath {
        /// A path in the states; safe to print.
        path: String,
        #[source]
        source: beneath::Error,
    },
    #[error("`{0}` is nested too deep")]
    Depth(String),
}

struct Comparison {
    names: [OwnerNames; 2],
    /// Components of the path to compare.
    only: Vec<Vec<u8>>,
    path: Vec<u8>,
    depth: usize,
    /// Directories of layers that are open.
    held: usize,
    found: Vec<FileChange>,
    events: crate::sandbox::EventSink,
}

type Compared<T> = std::result::Result<T, CompareError>;

impl Comparison {
    fn tell(&mut self) {
        let batch = std::mem::take(&mut self.found);
        if !batch.is_empty()
            && let Err(error) = self.events.send(&batch)
        {
            tracing::debug!(%error, "nobody listens");
        }
    }

    fn shown(&self) -> String {
        if self.path.is_empty() { "/".to_owned() } else { sanitize_line(&self.path, PATH_MAX) }
    }

    fn failed(&self) -> impl Fn(beneath::Error) -> CompareError {
        let path = self.shown();
        move |error| shown_as(&path, error)
    }

    /// Compares a directory. `layers` are this directory in the layers in which the views differ; without them it is compared in full.
    fn directory(&mut self, before: Option<&TreeDir>, after: Option<&TreeDir>, layers: Option<&[TreeDir]>) -> Compared<()> {
        if self.depth >= DEPTH_MAX {
            return Err(CompareError::Depth(self.shown()));
        }
        let mut names = BTreeSet::new();
        match layers {
            Some(layers) => layers.iter().try_for_each(|layer| self.list(layer, &mut names))?,
            None => before.into_iter().chain(after).try_for_each(|view| self.list(view, &mut names))?,
        }
        if let Some(only) = self.only.get(self.depth) {
            names.retain(|name| name.to_bytes() == only.as_slice());
        }
        for name in names {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            self.depth += 1;
            self.entry(before, after, layers, &name)?;
            self.depth -= 1;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn list(&self, directory: &TreeDir, names: &mut BTreeSet<CString>) -> Compared<()> {
        names.extend(directory.entries(NAMES_MAX).map_err(self.failed())?.into_iter().map(|entry| entry.name));
        Ok(())
    }

    fn open_dir(&self, directory: &TreeDir, name: &CStr) -> Compared<TreeDir> {
        directory.open_dir(os(name)).map_err(self.failed())
    }

    fn entry(
        &mut self,
        before: Option<&TreeDir>,
        after: Option<&TreeDir>,
        layers: Option<&[TreeDir]>,
        name: &CStr,
    ) -> Compared<()> {
        let (old, new) = (self.stat(before, name)?, self.stat(after, name)?);
        if self.depth >= self.only.len() {
            self.compare((before, old.as_ref()), (after, new.as_ref()), name)?;
        }
        let directory = |view: Option<&TreeDir>, stat: Option<&Stat>| match view {
            Some(view) if stat.is_some_and(|stat| kind(stat) == FileType::Directory) => self.open_dir(view, name).map(Some),
            _ => Ok(None),
        };
        let (old, new) = (directory(before, old.as_ref())?, directory(after, new.as_ref())?);
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        let below = match layers {
            Some(layers) => self.below(layers, name)?,
            None => None,
        };
        let held = below.as_ref().map_or(0, Vec::len);
        self.held += held;
        self.directory(old.as_ref(), new.as_ref(), below.as_deref())?;
        self.held -= held;
        Ok(())
    }

    /// The directory `name` in the layers that have it; `None` if one of them hides what is below it, or too many are open.
    fn below(&self, layers: &[TreeDir], name: &CStr) -> Compared<Option<Vec<TreeDir>>> {
        let mut below = Vec::new();
        for layer in layers {
            match self.stat(Some(layer), name)? {
                None => {}
                Some(stat) if kind(&stat) == FileType::Directory => {
                    let directory = self.open_dir(layer, name)?;
                    let mut value = [0; 1];
                    if rustix::fs::fgetxattr(&directory, "user.overlay.opaque", value.as_mut_slice()).is_ok() {
                        return Ok(None);
                    }
                    below.push(directory);
                    if self.held + below.len() > LAYERS_MAX {
                        return Ok(None);
                    }
                }
                Some(_) => return Ok(None),
            }
        }
        Ok(Some(below))
    }

    fn stat(&self, directory: Option<&TreeDir>, name: &CStr) -> Compared<Option<Stat>> {
        let Some(directory) = directory else { return Ok(None) };
        directory.stat_name(name).map_err(self.failed())
    }

    fn compare(
        &mut self,
        (before, old): (Option<&TreeDir>, Option<&Stat>),
        (after, new): (Option<&TreeDir>, Option<&Stat>),
        name: &CStr,
    ) -> Compared<()> {
        let node = |view: Option<&TreeDir>, stat: Option<&Stat>, side: usize| match (view, stat) {
            (Some(view), Some(stat)) => self.node(view, stat, side, name).map(Some),
            _ => Ok(None),
        };
        let (old_node, new_node) = (node(before, old, 0)?, node(after, new, 1)?);
        let alike = |node: &Option<FileNode>| node.clone().map(|node| FileNode { owner: String::new(), ..node });
        let mut content = false;
        if alike(&old_node) == alike(&new_node) {
            // In neither view: created and removed again by the layers in between.
            let is_file = old.is_some_and(|stat| kind(stat) == FileType::RegularFile && stat.st_size > 0);
            let (true, Some(before), Some(after)) = (is_file, before, after) else { return Ok(()) };
            let open = |view: &TreeDir| view.open_file(os(name)).map_err(self.failed());
            content = !same_contents(&open(before)?, &open(after)?).map_err(self.failed())?;
            if !content {
                return Ok(());
            }
        }
        let path = sanitize_line(&self.path, PATH_MAX);
        self.found.push(FileChange { path, before: old_node, after: new_node, content });
        if self.found.len() >= BATCH {
            self.tell();
        }
        Ok(())
    }

    fn node(&self, view: &TreeDir, stat: &Stat, side: usize, name: &CStr) -> Compared<FileNode> {
        let kind = kind(stat);
        let target = if kind == FileType::Symlink {
            let target = view.read_link(os(name)).map_err(self.failed())?;
            Some(sanitize_line(target.as_bytes(), PATH_MAX))
        } else {
            None
        };
        let capabilities = if kind == FileType::RegularFile && stat.st_mode & 0o111 != 0 {
            let file = view.open_file(os(name)).map_err(self.failed())?;
            let mut value = [0; 64];
            match rustix::fs::fgetxattr(&file, "security.capability", value.as_mut_slice()) {
                Ok(length) => Some(hex::encode(&value[..length])),
                Err(_) => None,
            }
        } else {
            None
        };
        let or_number = |name: &str, id: u32| if name.is_empty() { id.to_string() } else { name.to_owned() };
        let names = &self.names[side];
        Ok(FileNode {
            kind: match kind {
                FileType::Directory => "directory",
                FileType::RegularFile => "file",
                FileType::Symlink => "link",
                FileType::Fifo => "pipe",
                FileType::Socket => "socket",
                _ => "device",
            }
            .to_owned(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            owner: format!(
                "{}:{}",
                or_number(names.user(stat.st_uid), stat.st_uid),
                or_number(names.group(stat.st_gid), stat.st_gid)
            ),
            size: (kind == FileType::RegularFile).then(|| u64::try_from(stat.st_size).unwrap_or(0)),
            target,
            capabilities,
        })
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

fn shown_as(path: &str, source: beneath::Error) -> CompareError {
    CompareError::Beneath { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(cpv: &str, slot: &str, flags: &[&str]) -> Package {
        Package {
            cpv: cpv.to_owned(),
            slot: slot.to_owned(),
            use_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn packages_with_versions_slots_and_use() {
        let before = [
            package("a/same-1", "0", &["x"]),
            package("a/flags-1", "0/2", &["nls", "x"]),
            package("a/new-version-1.0-r1", "0/1", &[]),
            package("dev-lang/python-3.12", "3.12", &[]),
        ];
        let after = [
            package("a/same-1", "0", &["x"]),
            package("a/flags-1", "0/2", &["ssl", "x"]),
            package("a/new-version-2", "0/2", &[]),
            package("dev-lang/python-3.13", "3.13", &["y"]),
        ];
        let lines: Vec<String> = packages_between(&before, &after)
            .iter()
            .map(|diff| {
                format!(
                    "{:?} {}:{} {:?} {:?} +{:?} -{:?} {:?}",
                    diff.change, diff.name, diff.slot, diff.before, diff.after, diff.use_enabled, diff.use_disabled, diff.subslot
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                r#"Rebuilt a/flags:0 Some("1") Some("1") +["ssl"] -["nls"] None"#,
                r#"Updated a/new-version:0 Some("1.0-r1") Some("2") +[] -[] Some(("1", "2"))"#,
                r#"Removed dev-lang/python:3.12 Some("3.12") None +[] -[] None"#,
                r#"Added dev-lang/python:3.13 None Some("3.13") +["y"] -[] None"#,
            ]
        );
        assert_eq!(packages_between(&before, &before), []);
    }
}
