//! `clean`: finds, shows and removes what is not needed any more.
//!
//! ```text
//! survey      what the store holds, and what refers to it: names, their earlier values, sessions
//! cache       unused binary packages and source archives, by the rules of eclean
//! objects     compiler caches
//! files       artifacts and logs, by number and age
//! orphans     names and artifacts whose definition is gone
//! shrink      more of all that, the least recently used first, until the rest fits
//! everything  all of it
//! ```
//!
//! A plan is made while other commands work, and shown. Then the store is locked for this process alone and the plan is made again: what
//! is in both plans is removed. So nothing is removed that was not shown, or that somebody has begun to use in between. Of a name that
//! moved meanwhile, exactly the values that were shown are forgotten, whatever their positions are by then; then it is determined what
//! can be removed with them.

pub(crate) mod cache;
pub(crate) mod everything;
pub(crate) mod files;
pub(crate) mod objects;
pub(crate) mod orphans;
pub(crate) mod shrink;
pub(crate) mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::Serialize;

use self::orphans::Defined;
use self::survey::Survey;
use crate::context::{Context, lock_store};
use crate::history::{Error, Result};
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::unused as pools;
use crate::sandbox::TaskOptions;
use crate::store::tasks::{DISK_USAGE, DiskUsageInput, TreeUsage};
use crate::store::{InMap as _, LayerId, Lock, SessionId, StateId, TreeId, Unused};
use crate::{context, durable};

/// What can be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CleanKind {
    /// Suspended sessions.
    Sessions,
    /// Build states, with the layers that only they have.
    States,
    /// Layers that no state has.
    Layers,
    /// Tree snapshots.
    Trees,
    /// Binary packages.
    Binpkgs,
    /// What compilers have made.
    Ccache,
    /// Source archives.
    Distfiles,
    /// Artifacts of stage4s.
    Artifacts,
    Logs,
}

impl CleanKind {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 9] = [
        Self::Sessions,
        Self::States,
        Self::Layers,
        Self::Trees,
        Self::Binpkgs,
        Self::Ccache,
        Self::Distfiles,
        Self::Artifacts,
        Self::Logs,
    ];

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::States => "states",
            Self::Layers => "layers",
            Self::Trees => "trees",
            Self::Binpkgs => "binpkgs",
            Self::Ccache => "ccache",
            Self::Distfiles => "distfiles",
            Self::Artifacts => "artifacts",
            Self::Logs => "logs",
        }
    }
}

impl fmt::Display for CleanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What to clean, and what to keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct CleanOptions {
    /// Of these.
    pub kinds: BTreeSet<CleanKind>,
    /// Also suspended sessions, which could be resumed.
    pub suspended: bool,
    /// Also what has no definition any more, or whose profile is gone.
    pub orphans: bool,
    /// How many values of each name are kept, the present one included, and how many artifacts of each stage4.
    pub keep: Option<usize>,
    /// Only what is older than so many seconds: earlier values by the time when they were replaced, artifacts and logs by the time when
    /// they were made.
    pub older_than_secs: Option<i64>,
    /// Then also the least recently used, until the rest takes at most so many bytes.
    pub max_size_bytes: Option<u64>,
    /// Now, seconds since 1970.
    pub now_secs: i64,
}

impl CleanOptions {
    /// Whether the `position`th newest of its kind, as old as `since`, is beyond the limits. Without a limit nothing is; with both limits
    /// it has to be beyond both.
    fn beyond(&self, position: usize, since: i64) -> bool {
        let many = self.keep.map(|keep| position >= keep.max(1));
        let old = self.older_than_secs.map(|secs| since < self.now_secs - secs);
        match (many, old) {
            (None, None) => false,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(many), Some(old)) => many && old,
        }
    }
}

/// Something that is not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CleanItem {
    /// What kind of thing.
    pub kind: CleanKind,
    /// Its name, for people.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that become free: what it shares with things that stay does not count, and what is shared within the plan counts once.
    pub bytes: u64,
    /// Why it is not needed.
    pub why: String,
    #[serde(skip)]
    thing: Thing,
}

/// How an item is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Session(SessionId),
    /// With its layers that nothing else has.
    State(StateId, BTreeSet<LayerId>),
    Layer(LayerId),
    Tree(TreeId),
    /// All packages of a pool, and then the pool.
    Pool(Vec<FileUse>),
    Build {
        pool: PathBuf,
        path: String,
        file: FileUse,
    },
    /// In this order; then their directory, if they have one of their own.
    Files(Vec<(PathBuf, FileUse)>),
    /// A directory whose files may belong to mapped ids.
    Directory,
}

/// A file's share of the disk; the file may have other names, which stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FileUse {
    device: u64,
    inode: u64,
    links: u64,
    bytes: u64,
    /// When it was last read (if the file system records that) or made here, seconds since 1970.
    used: i64,
    /// When it was written.
    modified: i64,
}

impl FileUse {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            links: meta.nlink(),
            bytes: meta.blocks() * 512,
            used: meta.atime().max(meta.ctime()),
            modified: meta.mtime(),
        }
    }
}

/// The earlier values of a name to forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Forgotten {
    /// The name: `profile/demo/upstream`, `tree/gentoo`.
    pub name: String,
    /// Positions, as in `NAME@{2}`.
    pub positions: BTreeSet<usize>,
    /// Whether the name itself goes: an orphan's.
    pub whole: bool,
    /// What was there: ids of states or trees, in the order of their positions.
    pub values: Vec<String>,
    /// Since when the name had each of them, RFC 3339: distinguishes a value from the same one at another time.
    #[serde(skip)]
    since: Vec<String>,
}

/// Values that may be forgotten, each with the time since when the name had it.
type Forgettable = BTreeSet<(String, String, String)>;

/// What is to be removed, or was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CleanPlan {
    /// By kind.
    pub items: Vec<CleanItem>,
    /// Names that forget earlier values.
    pub forgotten: Vec<Forgotten>,
    /// Bytes that become free.
    pub bytes: u64,
    /// Size of everything that can be cleaned, if there is a limit for it.
    pub total_bytes: Option<u64>,
    /// That limit, bytes.
    pub max_size_bytes: Option<u64>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl CleanPlan {
    /// What names forget by it.
    fn forgettable(&self) -> Forgettable {
        let of = |forgotten: &Forgotten| {
            let name = forgotten.name.clone();
            let pairs: Vec<_> = forgotten.values.iter().cloned().zip(forgotten.since.iter().cloned()).collect();
            pairs.into_iter().map(move |(value, since)| (name.clone(), value, since))
        };
        self.forgotten.iter().flat_map(of).collect()
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.forgotten.is_empty()
    }

    /// Counts what becomes free: a file with several names only if all of them are removed.
    fn count(&mut self) {
        let mut links: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for item in &mut self.items {
            let files: Vec<FileUse> = match &item.thing {
                Thing::Pool(files) => files.clone(),
                Thing::Build { file, .. } => vec![*file],
                Thing::Files(files) => files.iter().map(|(_, file)| *file).collect(),
                _ => continue,
            };
            item.bytes = 0;
            for file in files {
                let seen = links.entry((file.device, file.inode)).or_insert(0);
                *seen += 1;
                if *seen == file.links.max(1) {
                    item.bytes += file.bytes;
                }
            }
        }
        self.items.sort_by(|a, b| (a.kind, &a.why, &a.name).cmp(&(b.kind, &b.why, &b.name)));
        self.bytes = self.items.iter().map(|item| item.bytes).sum();
    }
}

/// What is not needed, and why. Changes nothing.
pub(crate) fn clean_plan(cx: &Context<'_>, options: &CleanOptions) -> Result<CleanPlan> {
    let _shared = context::share_store(cx)?;
    cx.observer.step("looking for unused data");
    plan_cleaning(cx, options, None)
}

/// Removes what is in `shown` and is still not needed.
pub(crate) fn clean(cx: &Context<'_>, options: &CleanOptions, shown: &CleanPlan) -> Result<CleanPlan> {
    let exclusive = lock_store(cx)?;
    let mut plan = plan_cleaning(cx, options, Some(shown.forgettable()))?;
    let known: BTreeSet<(CleanKind, &Path)> = shown.items.iter().map(|item| (item.kind, item.path.as_path())).collect();
    plan.items.retain(|item| known.contains(&(item.kind, item.path.as_path())));
    plan.count();
    context::not_interrupted(cx)?;
    cx.observer.step("removing");
    // On a full disk nothing can be written before something is gone, so what needs nothing new goes first.
    clean_files(cx, &plan)?;
    clean_store(cx, &exclusive, &plan)?;
    clean_pools(cx, &plan, options.now_secs)?;
    Ok(plan)
}

/// Limits the forgotten values to those in `shown`.
fn plan_cleaning(cx: &Context<'_>, options: &CleanOptions, shown: Option<Forgettable>) -> Result<CleanPlan> {
    let pins = pins_text(cx)?;
    let mut survey = Survey::read(cx.store, options, pins, shown)?;
    let mut plan = CleanPlan::default();
    // Only who asks for orphans needs a configuration.
    let defined = if options.orphans { Some(Defined::read(cx, true)?) } else { Defined::read(cx, false).ok() };
    let orphans = survey.take_orphans(options, defined.as_ref())?;
    let mut found = survey.unused(options, &survey.beyond(options));
    let mut paths = found.paths(cx.store.root());
    let logs = files::old_logs(cx, options)?;
    paths.extend(logs.iter().map(|item| item.path.clone()));
    let sizes = sizes_of(cx, paths)?;
    plan.items = found.items(&survey, &sizes, cx.store.root());
    plan.forgotten = std::mem::take(&mut found.forgotten);
    let doubt = found.doubt();
    // Who needs packages, sources and artifacts is not known where a state or name is missing or cannot be read.
    let is_known = doubt.is_none();
    plan.notes.extend(doubt);
    plan.items.extend(logs.into_iter().map(|item| CleanItem { bytes: sizes.get(&item.path).copied().unwrap_or(0), ..item }));
    if options.kinds.contains(&CleanKind::Binpkgs) && is_known {
        plan.items.extend(cache::unused_binpkgs(cx, &survey, &found, &mut plan.notes)?);
    }
    if options.kinds.contains(&CleanKind::Distfiles) && is_known {
        plan.items.extend(cache::unused_distfiles(cx, &survey, &found, &mut plan.notes)?);
    }
    if options.kinds.contains(&CleanKind::Ccache) && is_known {
        plan.items.extend(objects::unused(cx)?);
    }
    if options.kinds.contains(&CleanKind::Artifacts) {
        plan.items.extend(files::unfinished_artifacts(cx)?);
    }
    let mut orphaned = 0;
    if options.kinds.contains(&CleanKind::Artifacts) && is_known {
        let artifacts = files::artifacts(cx, &survey, defined.as_ref())?;
        orphaned = artifacts.iter().flatten().filter(|artifact| artifact.orphaned.is_some()).count();
        plan.items.extend(files::surplus_artifacts(options, artifacts));
    }
    if !options.orphans {
        plan.notes.extend(orphans::note(orphans, orphaned));
    }
    plan.count();
    if let Some(max) = options.max_size_bytes.filter(|_| is_known) {
        shrink::shrink(cx, options, max, &survey, &mut plan)?;
    }
    if !options.suspended {
        plan.notes.extend(survey.suspended_note());
    }
    Ok(plan)
}

/// The configuration's `env/tree`; empty if it does not exist.
fn pins_text(cx: &Context<'_>) -> Result<String> {
    let path = cx.places.config.join("env/tree");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::io("read", &path)),
    }
}

/// Size of trees on disk, files of mapped owners included, bytes.
pub(crate) fn sizes_of(cx: &Context<'_>, paths: Vec<PathBuf>) -> Result<BTreeMap<PathBuf, u64>> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let input = DiskUsageInput { trees: paths };
    let answer = context::task(cx, DISK_USAGE, &input, TaskOptions::default(), &mut |_| {})?;
    let usage: Vec<TreeUsage> =
        serde_json::from_value(answer).map_err(|source| crate::store::Error::Answer { task: DISK_USAGE, source })?;
    Ok(input.trees.into_iter().zip(usage).map(|(path, usage)| (path, usage.bytes)).collect())
}

/// The order: names forget values, then states are removed, then layers.
fn clean_store(cx: &Context<'_>, exclusive: &Lock, plan: &CleanPlan) -> Result<()> {
    for Forgotten { name, positions, whole, .. } in &plan.forgotten {
        if *whole {
            cx.store.ref_remove(name)?;
        } else {
            cx.store.ref_forget(exclusive, name, positions)?;
        }
    }
    let mut unused = Unused::default();
    for item in &plan.items {
        match &item.thing {
            Thing::Session(id) => drop(unused.sessions.insert(id.clone())),
            Thing::State(id, layers) => {
                unused.states.insert(id.clone());
                unused.layers.extend(layers.iter().cloned());
            }
            Thing::Layer(id) => drop(unused.layers.insert(id.clone())),
            Thing::Tree(id) => drop(unused.trees.insert(id.clone())),
            _ => {}
        }
    }
    if unused == Unused::default() {
        return Ok(());
    }
    Ok(cx.store.remove_unused(exclusive, &unused, cx.launcher)?)
}

/// What lies outside of the store, but for packages.
fn clean_files(cx: &Context<'_>, plan: &CleanPlan) -> Result<()> {
    let mut directories = Vec::new();
    for item in &plan.items {
        match &item.thing {
            Thing::Files(files) => remove_files(cx, &item.path, files)?,
            Thing::Directory => directories.push(item.path.clone()),
            _ => {}
        }
    }
    if !directories.is_empty() {
        cx.launcher.remove_trees(&directories)?;
    }
    Ok(())
}

/// Removes files in this order, then the directory at `path`, if they have one of their own. What is cut off can be repeated.
pub(crate) fn remove_files(cx: &Context<'_>, path: &Path, files: &[(PathBuf, FileUse)]) -> Result<()> {
    for (at, (file, _)) in files.iter().enumerate() {
        durable::remove_if_there(file)?;
        // The first one says of the others that they are there: after a power cut, too.
        if let (0, 2.., Some(dir)) = (at, files.len(), path.parent()) {
            durable::sync_dir(dir)?;
        }
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
    }
    pools::remove_empty(path.parent(), &cx.places.stages());
    Ok(())
}

/// Binary packages, whose indexes are written anew.
fn clean_pools(cx: &Context<'_>, plan: &CleanPlan, now_secs: i64) -> Result<()> {
    let mut builds: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
    for item in &plan.items {
        match &item.thing {
            Thing::Build { pool, path, .. } => drop(builds.entry(pool).or_default().insert(path.clone())),
            Thing::Pool(_) => {
                let all = pools::builds(&item.path)?.into_iter().map(|build| build.package.path).collect();
                pools::remove(&item.path, &all, now_secs, cx.observer)?;
                fs::remove_dir_all(&item.path).map_err(Error::io("remove", &item.path))?;
            }
            _ => {}
        }
    }
    for (pool, paths) in builds {
        pools::remove(pool, &paths, now_secs, cx.observer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_limits_have_to_be_passed_both() {
        let options = |keep, older_than_secs| CleanOptions { keep, older_than_secs, now_secs: 1000, ..CleanOptions::default() };
        for (keep, old, position, since, beyond) in [
            (None, None, 9, 0, false),
            (Some(2), None, 1, 0, false),
            (Some(2), None, 2, 999, true),
            (Some(0), None, 0, 0, false),
            (None, Some(100), 1, 899, true),
            (None, Some(100), 9, 900, false),
            (Some(2), Some(100), 2, 950, false),
            (Some(2), Some(100), 1, 0, false),
            (Some(2), Some(100), 2, 0, true),
        ] {
            assert_eq!(options(keep, old).beyond(position, since), beyond, "{keep:?} {old:?} {position} {since}");
        }
    }

    #[test]
    fn a_file_with_two_names_is_counted_when_both_go() {
        let file = FileUse { device: 1, inode: 7, links: 2, bytes: 4096, ..FileUse::default() };
        let item = |path: &str| CleanItem {
            kind: CleanKind::Binpkgs,
            name: path.to_owned(),
            path: path.into(),
            bytes: 99,
            why: String::new(),
            thing: Thing::Build { pool: "/p".into(), path: path.to_owned(), file },
        };
        let mut plan = CleanPlan { items: vec![item("a")], ..CleanPlan::default() };
        plan.count();
        assert_eq!(plan.bytes, 0);
        plan.items.push(item("b"));
        plan.count();
        assert_eq!((plan.bytes, plan.items[1].bytes), (4096, 4096));
    }
}
