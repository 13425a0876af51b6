//! A session's share of the budget of make jobs.

use std::sync::Arc;

use crate::context;
use crate::context::Context;
use crate::jobserver::{PIPE, PIPE_INSIDE, Pipe, Share, make_pipe};
use crate::portage::session_conf::SessionConf;
use crate::session::inspect::Facts;
use crate::session::{Result, Work};

/// Gives a session its share of the budget, if there is a shared budget.
pub(crate) fn share_jobs(cx: &Context<'_>, work: &mut Work<'_>, facts: &Facts) -> Result<()> {
    let Some(server) = cx.jobserver else { return Ok(()) };
    // A session may ask twice. The first share goes back.
    work.jobs = Share::Whole;
    if facts.has_jobserver() {
        let conf = &mut work.root.session_conf;
        conf.jobserver = Some(PIPE_INSIDE.to_owned());
        // For programs that are not make and know no tokens.
        conf.load = Some(server.budget() as f32);
        let session = work.session.borrow();
        let mut pipes = vec![Pipe { path: session.path(PIPE), at_most: None }];
        work.root.pipes = vec![(session.path(PIPE), PIPE_INSIDE.to_owned())];
        for jobs in conf.numbers_of_packages() {
            if let (Some(name), Some(inside)) = (SessionConf::pipe_of(PIPE, jobs), SessionConf::pipe_of(PIPE_INSIDE, jobs)) {
                let path = session.path(&name);
                work.root.pipes.push((path.clone(), inside));
                // One job comes with the package.
                pipes.push(Pipe { path, at_most: Some(jobs as usize - 1) });
            }
        }
        for pipe in &pipes {
            make_pipe(&pipe.path)?;
        }
        work.jobs = Share::Pipes(Arc::clone(&server.shared), pipes);
        return Ok(());
    }
    let cancelled = || cx.interrupt.count() > 0;
    let claim = server.shared.claim(&cancelled).ok_or(context::Error::Interrupted { resumable: false })?;
    work.root.session_conf.jobs = 1;
    work.root.session_conf.make_jobs = u32::try_from(claim.jobs).unwrap_or(u32::MAX);
    work.jobs = Share::Fixed(claim);
    Ok(())
}
