//! How emerge is called in a session.

use crate::context::Context;
use crate::portage::emerge::request::{Goal, Mode, Request};
use crate::session::{Result, Work, keyring};
/// The command for a request. With hosts of binary packages it also asks those.
pub(crate) fn emerge_argv(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Vec<String>> {
    let mut argv = Request { opts: work.emerge_opts.clone(), ..request.clone() }.argv()?;
    if let Some(binhost) = work.root.binhost.as_ref().filter(|_| request.goal != Goal::Depclean) {
        if binhost.can_be_asked(cx.settings.download.offline) {
            keyring::make_keyring(cx, work)?;
            argv.insert(1, "--getbinpkg=y".to_owned());
        } else {
            cx.told.note_once(cx.observer, "downloads are switched off: binary package hosts are not used");
        }
    }
    Ok(argv)
}

/// The request for a goal, with this session's number of jobs.
pub(crate) fn request_in(cx: &Context<'_>, work: &Work<'_>, goal: Goal) -> Request {
    Request { jobs: work.root.session_conf.jobs, load: Some(cx.settings.jobs as f32), ..Request::new(goal, Mode::Run) }
}
