//! Removes the least recently used things until the rest fits.
//!
//! Candidates are earlier values of names, binary packages, compiler caches of packages, source archives, logs, and of each stage4 and form all artifacts but the
//! newest and that of the present state. Present values of names, kept and tagged states, and sessions always stay, even if the limit
//! cannot be met.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::context::Context;
use crate::history::clean::cache::{Installed, build_name, files_of, list_distfiles};
use crate::history::clean::files::{artifact_item, list, log_item};
use crate::history::clean::survey::{Found, Positions, Survey, day};
use crate::history::clean::{CleanItem, CleanKind, CleanOptions, CleanPlan, FileUse, Thing, cache, files, objects};
use crate::history::{Result, clean};
use crate::portage::binpkgs::unused;

/// A candidate for removal.
enum Candidate {
    /// An earlier value of a name.
    Value(String, usize),
    Item(Box<CleanItem>),
}

pub(crate) fn shrink(cx: &Context<'_>, options: &CleanOptions, max: u64, survey: &Survey, plan: &mut CleanPlan) -> Result<()> {
    let root = cx.store.root();
    let mut paths = survey.all_paths(root);
    let logs = list(&cx.places.logs())?;
    paths.extend(logs.iter().map(|(path, _)| path.clone()));
    let sizes = clean::sizes_of(cx, paths)?;
    let mut candidates = Vec::new();
    for (used, name, position) in survey.forgettable(options) {
        candidates.push((used, Candidate::Value(name, position)));
    }
    let mut files: Vec<FileUse> = Vec::new();
    let mut add = |used: i64, wanted: bool, mut item: CleanItem, all: Vec<FileUse>| {
        files.extend(all);
        if wanted {
            item.why = format!("not used since {}: removed to fit the size", day(used));
            candidates.push((used, Candidate::Item(Box::new(item))));
        }
    };
    let wants = |kind| options.kinds.contains(&kind);
    for (path, meta) in logs.into_iter().filter(|(_, meta)| meta.is_dir()) {
        let used = FileUse::of(&meta).modified;
        let item = CleanItem { bytes: sizes.get(&path).copied().unwrap_or(0), ..log_item(path, String::new()) };
        add(used, wants(CleanKind::Logs), item, Vec::new());
    }
    // Overlayfs does not record when a package was read, so the states that have it installed tell when it was used.
    let positions = positions_of(plan);
    let installed = if wants(CleanKind::Binpkgs) {
        cache::installed(cx, survey, &survey.unused(options, &positions))?
    } else {
        Installed::default()
    };
    for pool in unused::pools(&cx.places.binpkgs())? {
        for (build, file) in files_of(&pool.path)? {
            let name = build_name(&pool, &build);
            let used = installed.last_use(&build).map_or(file.used, |used| used.max(file.used));
            let path = pool.path.join(&build.package.path);
            let thing = Thing::Build { pool: pool.path.clone(), path: build.package.path, file };
            let item = CleanItem { kind: CleanKind::Binpkgs, name, path, bytes: file.bytes, why: String::new(), thing };
            add(used, wants(CleanKind::Binpkgs), item, vec![file]);
        }
    }
    for package in objects::of_packages(cx)? {
        let (used, all) = (package.used, package.files.iter().map(|(_, file)| *file).collect());
        add(used, wants(CleanKind::Ccache), package.item(String::new()), all);
    }
    for (name, path, file) in list_distfiles(&cx.places.distfiles())? {
        let thing = Thing::Files(vec![(path.clone(), file)]);
        let item = CleanItem { kind: CleanKind::Distfiles, name, path, bytes: file.bytes, why: String::new(), thing };
        add(file.used, wants(CleanKind::Distfiles), item, vec![file]);
    }
    for artifacts in files::artifacts(cx, survey, None)? {
        for (position, artifact) in artifacts.into_iter().enumerate() {
            let all: Vec<FileUse> = artifact.files.iter().map(|(_, file)| *file).collect();
            let used = all.iter().map(|file| file.used).max().unwrap_or(artifact.made);
            // The parts of an image that are hard links to cached layers do not become free.
            let bytes = all.iter().filter(|file| file.links <= 1).map(|file| file.bytes).sum();
            let may_go = position > 0 && !artifact.stays;
            let item = CleanItem { bytes, ..artifact_item(artifact, String::new()) };
            add(used, may_go && wants(CleanKind::Artifacts), item, all);
        }
    }
    let total = sizes.values().sum::<u64>() + once(&files);
    plan.total_bytes = Some(total);
    plan.max_size_bytes = Some(max);
    candidates.sort_by_key(|(used, candidate)| (*used, std::cmp::Reverse(matches!(candidate, Candidate::Item(_)))));
    take(cx, options, survey, plan, candidates, positions, max, &sizes);
    Ok(())
}

/// Adds candidates to the plan until the rest fits.
#[expect(clippy::too_many_arguments, reason = "the state of one loop")]
fn take(
    cx: &Context<'_>,
    options: &CleanOptions,
    survey: &Survey,
    plan: &mut CleanPlan,
    candidates: Vec<(i64, Candidate)>,
    mut positions: Positions,
    max: u64,
    sizes: &BTreeMap<PathBuf, u64>,
) {
    let root = cx.store.root();
    let total = plan.total_bytes.unwrap_or(0);
    let mut known: BTreeSet<PathBuf> = plan.items.iter().map(|item| item.path.clone()).collect();
    let mut freed = plan.bytes;
    for (_, candidate) in candidates {
        if total.saturating_sub(freed) <= max {
            break;
        }
        match candidate {
            Candidate::Value(name, position) => {
                if !positions.entry(name).or_default().insert(position) {
                    continue;
                }
                let mut found: Found = survey.unused(options, &positions);
                plan.items.retain(|item| !of_the_store(item.kind));
                plan.items.extend(found.items(survey, sizes, root));
                plan.forgotten = std::mem::take(&mut found.forgotten);
                plan.count();
                freed = plan.bytes;
            }
            Candidate::Item(item) => {
                // A package may already be in the plan with its pool.
                if item.path.ancestors().any(|path| known.contains(path)) {
                    continue;
                }
                known.insert(item.path.clone());
                // A file with several names only becomes free with the last one.
                let shared = matches!(&item.thing, Thing::Build { file, .. } if file.links > 1);
                freed += if shared { 0 } else { item.bytes };
                plan.items.push(*item);
            }
        }
    }
    plan.count();
}

/// The values that are already forgotten.
fn positions_of(plan: &CleanPlan) -> Positions {
    plan.forgotten.iter().map(|forgotten| (forgotten.name.clone(), forgotten.positions.clone())).collect()
}

fn of_the_store(kind: CleanKind) -> bool {
    matches!(kind, CleanKind::Sessions | CleanKind::States | CleanKind::Layers | CleanKind::Trees)
}

/// Size of files, each counted once however many names it has.
fn once(files: &[FileUse]) -> u64 {
    let mut seen = BTreeSet::new();
    files.iter().filter(|file| seen.insert((file.device, file.inode))).map(|file| file.bytes).sum()
}
