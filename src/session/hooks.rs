//! Runs the hooks of a phase in a session.

use crate::config::hooks::{Hooks, Phase};
use crate::context::Context;
use crate::sandbox::plan::Network;
use crate::session::keys::record;
use crate::session::root::HOOKS_DIR;
use crate::session::{Result, Work, run};
pub(crate) fn hooks(cx: &Context<'_>, work: &Work<'_>, hooks: &Hooks, phase: Phase) -> Result<()> {
    for hook in hooks.of(phase) {
        // Hooks of the other phases run before keys are made. Portage is asked after them, so it sees what they have changed.
        if matches!(phase, Phase::AfterWorld | Phase::Finish) {
            record::close_keys(work)?;
        }
        let mut argv = vec!["/usr/bin/env".to_owned(), format!("GENTOOMUCH_PHASE={phase}")];
        argv.push(format!("{HOOKS_DIR}/{phase}.d/{}", hook.name));
        run::command(cx, work, argv, Network::None)?;
    }
    Ok(())
}
