//! Runs the hooks of a phase in a session.

use crate::config::hooks::{Hook, Hooks, Phase};
use crate::context::Context;
use crate::sandbox::plan::Network;
use crate::session::keys::record;
use crate::session::root::HOOKS_DIR;
use crate::session::{Result, Work, run};

pub(crate) fn hooks(cx: &Context<'_>, work: &Work<'_>, hooks: &Hooks, phase: Phase) -> Result<()> {
    hooks_but(cx, work, hooks, phase, None)
}

/// As [`hooks`], without one of them.
pub(crate) fn hooks_but(cx: &Context<'_>, work: &Work<'_>, hooks: &Hooks, phase: Phase, but: Option<&Hook>) -> Result<()> {
    for hook in hooks.of(phase).filter(|hook| Some(*hook) != but) {
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
