//! The packages of a build state, the difference between two lists of them, and the size of layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::context::{Context, Result};
use crate::portage::vdb::Package;
use crate::sandbox::{TaskContext, TaskFailure, TaskOptions};
use crate::store::tasks::{DISK_USAGE, DiskUsageInput, TreeUsage};
use crate::store::{LayerId, State};
use crate::{context, inventory, merged_view, store};

/// Lists the packages of a build state: [`InventoryInput`] in, [`Vec`] of [`crate::portage::vdb::Package`] out.
pub(crate) const INVENTORY: &str = "inventory.list";

/// What [`INVENTORY`] looks at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InventoryInput {
    /// Layers, top first.
    pub lower: Vec<PathBuf>,
}

pub(crate) fn inventory_task(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: InventoryInput = context.input_as()?;
    let (Some(top), Some(_root)) = (input.lower.first(), merged_view::mount(&input.lower)?) else {
        return Ok(serde_json::json!([]));
    };
    let installed = crate::portage::vdb::installed(top).map_err(|error| TaskFailure::of("vdb", &error))?;
    serde_json::to_value(installed).map_err(|error| TaskFailure::of("vdb", &error))
}

/// The packages of a state, from its VDB.
pub(crate) fn inventory(cx: &Context<'_>, state: &State) -> Result<serde_json::Value> {
    inventory_of(cx, cx.store.lower_dirs(state))
}

/// As [`inventory()`], for any stack of trees, topmost first.
pub(crate) fn inventory_of(cx: &Context<'_>, lower: Vec<std::path::PathBuf>) -> Result<serde_json::Value> {
    let input = InventoryInput { lower };
    context::task(cx, INVENTORY, &input, TaskOptions { mounts: true, ..TaskOptions::default() }, &mut |_| {})
}

/// A slot whose package differs between two lists; at least one of the two sides is set.
pub(crate) struct SlotChange<'a> {
    pub(crate) change: Change,
    pub(crate) before: Option<&'a Package>,
    pub(crate) after: Option<&'a Package>,
}

/// The slots that differ between two lists of packages. A list has each name and slot at most once.
pub(crate) fn slot_changes<'a>(before: &'a [Package], after: &'a [Package]) -> Vec<SlotChange<'a>> {
    fn by_slot(packages: &[Package]) -> BTreeMap<(&str, &str), &Package> {
        packages.iter().map(|package| ((package.name(), slot_of(package).0), package)).collect()
    }
    let (before, after) = (by_slot(before), by_slot(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let of = |key| {
        let (before, after) = (before.get(&key).copied(), after.get(&key).copied());
        let change = match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(before), Some(after)) if before.cpv != after.cpv => Change::Updated,
            (Some(before), Some(after)) if before != after => Change::Rebuilt,
            _ => return None,
        };
        Some(SlotChange { change, before, after })
    };
    keys.into_iter().filter_map(of).collect()
}

/// Slot and sub-slot.
pub(crate) fn slot_of(package: &Package) -> (&str, &str) {
    package.slot.split_once('/').unwrap_or((&package.slot, ""))
}

/// A package that differs between two lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageChange {
    /// `category/name-version`: the new one, or the old one if it was removed.
    pub package: String,
    /// What became of it.
    pub change: Change,
    /// The version before, if that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// New.
    Added,
    /// Another version.
    Updated,
    /// It was built anew, or with other USE flags.
    Rebuilt,
    /// No longer there.
    Removed,
}

pub(crate) fn packages_of(cx: &Context<'_>, state: &State) -> Result<Vec<Package>> {
    packages_in(cx, cx.store.lower_dirs(state))
}

pub(crate) fn packages_in(cx: &Context<'_>, lower: Vec<PathBuf>) -> Result<Vec<Package>> {
    let answer = inventory::inventory_of(cx, lower)?;
    let task = crate::inventory::INVENTORY;
    Ok(serde_json::from_value(answer).map_err(|source| store::Error::Answer { task, source })?)
}

/// The changes between two lists of packages, for output.
pub(crate) fn changes(before: &[Package], after: &[Package]) -> Vec<PackageChange> {
    let told = |SlotChange { change, before, after }: SlotChange<'_>| {
        let updated = before.filter(|_| change == Change::Updated);
        Some(PackageChange { package: after.or(before)?.cpv.clone(), change, before: updated.map(|old| old.cpv.clone()) })
    };
    let mut changes: Vec<PackageChange> = slot_changes(before, after).into_iter().filter_map(told).collect();
    changes.sort_by(|a, b| a.package.cmp(&b.package));
    changes
}

/// Bytes on disk of the layers of `states` that no state of `kept` has.
pub(crate) fn bytes_of(cx: &Context<'_>, states: &[State], kept: &[State]) -> Result<u64> {
    let kept: BTreeSet<&LayerId> = kept.iter().flat_map(|state| &state.layers).collect();
    let layers: BTreeSet<&LayerId> = states.iter().flat_map(|state| &state.layers).filter(|layer| !kept.contains(layer)).collect();
    let mut trees = Vec::new();
    for layer in layers {
        // A layer that was removed takes no space.
        trees.extend(cx.store.layer(layer).ok().map(|layer| layer.path));
    }
    if trees.is_empty() {
        return Ok(0);
    }
    let answer = context::task(cx, DISK_USAGE, &DiskUsageInput { trees }, crate::sandbox::TaskOptions::default(), &mut |_| {})?;
    let usage: Vec<TreeUsage> =
        serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: DISK_USAGE, source })?;
    Ok(usage.iter().map(|usage| usage.bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(cpv: &str, slot: &str, build_time: i64) -> Package {
        Package { cpv: cpv.to_owned(), slot: slot.to_owned(), build_time: Some(build_time), ..Package::default() }
    }

    #[test]
    fn packages_are_compared_by_slot() {
        let before = [
            package("a/kept-1", "0", 1),
            package("a/updated-1", "0/1", 1),
            package("a/rebuilt-1", "0", 1),
            package("a/removed-1", "0", 1),
            package("dev-lang/python-3.12", "3.12", 1),
        ];
        let after = [
            package("a/kept-1", "0", 1),
            package("a/updated-2", "0/2", 2),
            package("a/rebuilt-1", "0", 2),
            package("a/added-1", "0", 2),
            package("dev-lang/python-3.12", "3.12", 1),
            package("dev-lang/python-3.13", "3.13", 2),
        ];
        let words: Vec<String> =
            changes(&before, &after).iter().map(|c| format!("{} {:?} {:?}", c.package, c.change, c.before)).collect();
        assert_eq!(
            words,
            [
                "a/added-1 Added None",
                "a/rebuilt-1 Rebuilt None",
                "a/removed-1 Removed None",
                "a/updated-2 Updated Some(\"a/updated-1\")",
                "dev-lang/python-3.13 Added None",
            ]
        );
        assert_eq!(changes(&before, &before), []);
    }
}
