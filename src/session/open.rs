//! A new session for a build, or a suspended one of the same build.

use crate::beneath::RootDir;
use crate::context::Context;
use crate::portage::emerge::resume;
use crate::session::Result;
use crate::store::{Purpose, Session, State};
/// A suspended session with this key, or a new one. A session that was suspended while `subject` was made from other inputs (a
/// configuration that was corrected since) is removed.
pub(crate) fn open_session(
    cx: &Context<'_>,
    base: Option<&State>,
    purpose: Purpose,
    key: &str,
    subject: Option<&str>,
) -> Result<(Session, bool)> {
    if let Some(subject) = subject
        && cx.store.session_discard_superseded(subject, key, cx.launcher)? > 0
    {
        cx.observer.note(&format!("removed the unfinished session of {subject}: it does not fit any more"));
    }
    if let Some(subject) = subject
        && cx.store.session_discard_by_hand(subject, cx.launcher)? > 0
    {
        cx.observer.note(&format!("removed what was done by hand in the failed session of {subject}"));
    }
    if let Some(session) = cx.store.session_find_suspended(key)? {
        return Ok((session, true));
    }
    Ok((cx.store.session_create_for(base, purpose, key, subject)?, false))
}

/// Whether emerge left a list from which it can resume. The file may be hostile: only a limited part is read, and no link is followed.
pub(crate) fn can_resume(upper: &std::path::Path) -> bool {
    let read = RootDir::open(upper).and_then(|root| root.read(resume::MTIMEDB, 16 << 20));
    read.is_ok_and(|bytes| resume::resumable(&bytes))
}
