//! All that was ever made here: what `rm -r` would do if it could.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::engine::Engine;
use super::super::error::{Error, Result};
use super::files::list;
use super::{CleanItem, CleanKind, CleanPlan, Thing};
use crate::store::InMap as _;

impl Engine<'_> {
    /// Everything but the configuration and patches in work, with what it takes.
    pub fn clean_everything_plan(&self) -> Result<CleanPlan> {
        let _shared = self.share_store()?;
        self.plan_everything()
    }

    /// Removes the store, artifacts, logs, distfiles and binary packages. The store cannot be used afterwards.
    pub fn clean_everything(&self) -> Result<CleanPlan> {
        let exclusive = self.lock_store()?;
        let plan = self.plan_everything()?;
        self.step("removing everything");
        self.store.clone().remove_everything(exclusive, self.launcher)?;
        super::remove_file(&self.places.data.join("default-profile"))?;
        let rest: Vec<PathBuf> = self.outside().into_iter().map(|(_, _, path)| path).collect();
        self.launcher.remove_trees(&rest)?;
        for dir in [&self.places.data, &self.places.cache] {
            // Somebody else's files in it stay, and then so does it.
            if let Err(error) = fs::remove_dir(dir) {
                tracing::debug!(path = %dir.display(), %error, "left");
            }
        }
        Ok(plan)
    }

    /// What there may be besides the store. Only names of ours: the cache directory may be one that others use, too.
    fn outside(&self) -> [(CleanKind, &'static str, PathBuf); 10] {
        [
            (CleanKind::Distfiles, "all fetched stage3s", self.places.stage3()),
            (CleanKind::Artifacts, "packed layers of images", self.places.oci_layers()),
            (CleanKind::Artifacts, "notes on which artifacts are whole", self.places.seen_artifacts()),
            (CleanKind::States, "notes on which states serve another configuration", self.places.standing()),
            (CleanKind::Trees, "copies of repositories that trees come from", self.places.repos()),
            (CleanKind::Binpkgs, "all exported binary packages", self.places.binhosts()),
            (CleanKind::Binpkgs, "all binary packages", self.places.binpkgs()),
            (CleanKind::Distfiles, "all distfiles", self.places.distfiles()),
            (CleanKind::Artifacts, "all artifacts", self.places.stages()),
            (CleanKind::Logs, "all logs", self.places.logs()),
        ]
    }

    fn plan_everything(&self) -> Result<CleanPlan> {
        let root = self.store.root();
        // Only counted: that something in it is damaged may be why all of it is to go.
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
        parts.extend(self.outside().map(|(kind, name, path)| (kind, name.to_owned(), path)));
        let there = |path: &Path| fs::symlink_metadata(path).map(|_| ()).map_err(Error::io("examine", path));
        parts.retain(|(_, _, path)| there(path).is_ok());
        let sizes = self.sizes_of(parts.iter().map(|(_, _, path)| path.clone()).collect())?;
        let mut plan = CleanPlan::default();
        for (kind, name, path) in parts {
            let bytes = sizes.get(&path).copied().unwrap_or(0);
            plan.items.push(CleanItem {
                kind,
                name,
                bytes,
                path,
                why: "everything was asked for".to_owned(),
                thing: Thing::Directory,
            });
        }
        plan.count();
        let patches = self.places.data.join("patches");
        if patches.exists() {
            plan.notes.push(format!("`{}` stays: your own work is in it", patches.display()));
        }
        Ok(plan)
    }
}
