//! Removes everything that was made here. `rm -r` cannot, since files belong to mapped ids.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context;
use crate::context::Context;
use crate::history::clean::files::list;
use crate::history::clean::{CleanItem, CleanKind, CleanPlan, Thing};
use crate::history::{Error, Result, clean};
use crate::path_error::OfFile as _;
use crate::store::InMap as _;

/// Everything except the configuration and work sets, with its size.
pub(crate) fn clean_everything_plan(cx: &Context<'_>) -> Result<CleanPlan> {
    let _shared = context::share_store(cx)?;
    plan_everything(cx)
}

/// Removes the store, artifacts, logs, distfiles and binary packages. The store cannot be used afterwards.
pub(crate) fn clean_everything(cx: &Context<'_>) -> Result<CleanPlan> {
    let exclusive = context::lock_store(cx)?;
    let plan = plan_everything(cx)?;
    cx.observer.step("removing everything");
    cx.store.clone().remove_everything(exclusive, cx.launcher)?;
    for small in [cx.places.data.join("default-profile"), cx.places.build_times(), cx.places.audits()] {
        crate::durable::remove_if_there(&small)?;
    }
    let rest: Vec<PathBuf> = outside(cx).into_iter().map(|(_, _, path)| path).collect();
    cx.launcher.remove_trees(&rest)?;
    for dir in [&cx.places.data, &cx.places.cache] {
        // If there are other files in it, they stay, and so does the directory.
        if let Err(error) = fs::remove_dir(dir) {
            tracing::debug!(path = %dir.display(), %error, "left");
        }
    }
    Ok(plan)
}

/// What there may be besides the store. Only our names, since others may use the cache directory, too.
fn outside(cx: &Context<'_>) -> [(CleanKind, &'static str, PathBuf); 12] {
    [
        (CleanKind::Distfiles, "all fetched stage3s", cx.places.stage3()),
        (CleanKind::Artifacts, "packed layers of images", cx.places.oci_layers()),
        (CleanKind::Artifacts, "notes on complete artifacts", cx.places.seen_artifacts()),
        (CleanKind::States, "blobs of remotes, and notes on them", cx.places.remote()),
        (CleanKind::States, "notes on states that fit other configurations", cx.places.standing()),
        (CleanKind::Trees, "copies of the repositories of trees", cx.places.repos()),
        (CleanKind::Binpkgs, "all exported binary packages", cx.places.binhosts()),
        (CleanKind::Binpkgs, "all binary packages", cx.places.binpkgs()),
        (CleanKind::Ccache, "all compiler caches", cx.places.ccache()),
        (CleanKind::Distfiles, "all distfiles", cx.places.distfiles()),
        (CleanKind::Artifacts, "all artifacts", cx.places.stages()),
        (CleanKind::Logs, "all logs", cx.places.logs()),
    ]
}

fn plan_everything(cx: &Context<'_>) -> Result<CleanPlan> {
    let root = cx.store.root();
    // Only for the size. Errors are ignored: a damaged store may be why everything is removed.
    let part = |kind, what: &str, then: &str, name: &str| {
        let path = root.join(name);
        Ok((kind, format!("all {what} ({}){then}", list(&path)?.len()), path))
    };
    let mut parts = [
        part(CleanKind::States, "build states", ", the names of profiles with them", "states"),
        part(CleanKind::Layers, "layers", "", "layers"),
        part(CleanKind::Trees, "tree snapshots", "", "trees"),
        part(CleanKind::Sessions, "sessions", "", "sessions"),
    ]
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    parts.extend(outside(cx).map(|(kind, name, path)| (kind, name.to_owned(), path)));
    let there = |path: &Path| fs::symlink_metadata(path).map(|_| ()).map_err(Error::io("examine", path));
    parts.retain(|(_, _, path)| there(path).is_ok());
    let sizes = clean::sizes_of(cx, parts.iter().map(|(_, _, path)| path.clone()).collect())?;
    let mut plan = CleanPlan::default();
    for (kind, name, path) in parts {
        let bytes = sizes.get(&path).copied().unwrap_or(0);
        plan.items.push(CleanItem { kind, name, bytes, path, why: "you asked for everything".to_owned(), thing: Thing::Directory });
    }
    plan.count();
    let patches = cx.places.data.join("patches");
    if fs::read_dir(&patches).is_ok_and(|mut entries| entries.next().is_some()) {
        plan.notes.push(format!("`{}` stays: it has your own work", patches.display()));
    }
    Ok(plan)
}
