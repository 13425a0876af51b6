//! The table of all functions that run inside the id map, by name.

use crate::by_hand::edits;
use crate::history::{cp, diff, follow};
use crate::installed;
use crate::inventory::{INVENTORY, inventory_task};
use crate::patch::source;
use crate::recipe::patches::applied;
use crate::recipe::standing::reach;
use crate::sandbox::TaskFn;
use crate::session::build_logs;
use crate::session::relink::{RELINK, relink_task};
use crate::session::tidy::{TIDY, tidy_task};
use crate::try_it::outcome;
use crate::{archive, host, store};

/// Every task that this program's helper offers.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    match name {
        TIDY => Some(tidy_task),
        RELINK => Some(relink_task),
        INVENTORY => Some(inventory_task),
        _ => archive::tasks::lookup(name)
            .or_else(|| store::tasks::lookup(name))
            .or_else(|| cp::lookup(name))
            .or_else(|| outcome::lookup(name))
            .or_else(|| diff::lookup(name))
            .or_else(|| follow::lookup(name))
            .or_else(|| edits::lookup(name))
            .or_else(|| applied::lookup(name))
            .or_else(|| source::lookup(name))
            .or_else(|| reach::lookup(name))
            .or_else(|| host::lookup(name))
            .or_else(|| build_logs::lookup(name))
            .or_else(|| installed::lookup(name)),
    }
}
