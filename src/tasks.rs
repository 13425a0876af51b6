//! The functions that run inside the id map, by name, and those of this module: [`TIDY`] and [`INVENTORY`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::history::{cp, diff};
use crate::portage::emerge::build_logs;
use crate::recipe::patches::applied;
use crate::recipe::standing::reach;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn};
use crate::session::relink::RelinkInput;
use crate::session::root::Litter;
use crate::session::{relink, tidy};
use crate::sys::overlay;
use crate::try_it::outcome;
use crate::{archive, host, store};

/// Takes a [`Litter`] out of an upper directory.
pub const TIDY: &str = "build.tidy";
/// Restores hard links that overlayfs has taken apart; returns how many.
pub const RELINK: &str = "build.relink";
/// Lists the packages of a build state: [`InventoryInput`] in, [`Vec`] of [`crate::portage::vdb::Package`] out.
pub const INVENTORY: &str = "build.inventory";

/// What [`INVENTORY`] looks at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InventoryInput {
    /// Layers, top first.
    pub lower: Vec<PathBuf>,
}

/// Every task that this program's helper offers.
pub fn lookup(name: &str) -> Option<TaskFn> {
    match name {
        TIDY => Some(tidy_task),
        RELINK => Some(relink_task),
        INVENTORY => Some(inventory_task),
        _ => archive::tasks::lookup(name)
            .or_else(|| store::tasks::lookup(name))
            .or_else(|| cp::lookup(name))
            .or_else(|| outcome::lookup(name))
            .or_else(|| diff::lookup(name))
            .or_else(|| applied::lookup(name))
            .or_else(|| reach::lookup(name))
            .or_else(|| host::lookup(name))
            .or_else(|| build_logs::lookup(name)),
    }
}

fn tidy_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let litter: Litter = context.input_as()?;
    tidy::tidy(&litter).map_err(|error| TaskFailure::of("tidy", &error))?;
    for tree in &litter.outside {
        crate::beneath::remove_tree(tree).map_err(|error| TaskFailure::of("tidy", &error))?;
    }
    Ok(serde_json::Value::Null)
}

fn relink_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: RelinkInput = context.input_as()?;
    let linked = relink::relink(&input).map_err(|error| TaskFailure::of("relink", &error))?;
    Ok(serde_json::json!(linked))
}

fn inventory_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: InventoryInput = context.input_as()?;
    // This process has a mount namespace to itself, so the view may as well cover the topmost layer.
    let Some(top) = input.lower.first() else { return Ok(serde_json::json!([])) };
    let _root = overlay::mount_read_only(&input.lower, top).map_err(|error| TaskFailure::of("mount", &error))?;
    let installed = crate::portage::vdb::installed(top).map_err(|error| TaskFailure::of("vdb", &error))?;
    serde_json::to_value(installed).map_err(|error| TaskFailure::of("vdb", &error))
}
