//! A session's share of the budget of make jobs.

use std::sync::Arc;

use crate::context;
use crate::context::Context;
use crate::jobserver::{PIPE, PIPE_INSIDE, Share, make_pipe};
use crate::session::inspect::Facts;
use crate::session::{Result, Work};

/// Gives a session its share of the budget, if there is a shared budget.
pub(crate) fn share_jobs(cx: &Context<'_>, work: &mut Work<'_>, facts: &Facts) -> Result<()> {
    let Some(server) = cx.jobserver else { return Ok(()) };
    // A session may ask twice. The first share goes back.
    work.jobs = Share::Whole;
    if facts.has_jobserver() {
        let path = work.session.borrow().path(PIPE);
        make_pipe(&path)?;
        work.root.session_conf.jobserver = Some(PIPE_INSIDE.to_owned());
        // For programs that are not make and know no tokens.
        work.root.session_conf.load = Some(server.budget() as f32);
        work.root.jobserver = Some(path.clone());
        work.jobs = Share::Pipe(Arc::clone(&server.shared), path);
        return Ok(());
    }
    let cancelled = || cx.interrupt.count() > 0;
    let claim = server.shared.claim(&cancelled).ok_or(context::Error::Interrupted { resumable: false })?;
    work.root.session_conf.jobs = 1;
    work.root.session_conf.make_jobs = u32::try_from(claim.jobs).unwrap_or(u32::MAX);
    work.jobs = Share::Fixed(claim);
    Ok(())
}
