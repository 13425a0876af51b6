//! What becomes of a session that has ended: a state, a session that can be resumed, or nothing.
//!
//! That depends on what the session is worth, not on why it ended. Hours of building are kept if the disk is full, if the kernel has
//! killed a process, or if a log cannot be written. Only an error that makes the session itself unusable throws it away.

use crate::causes::in_one_line;
use crate::context::Context;
use crate::recipe::{Error, Result};
use crate::session::Error as Failed;
use crate::session::work::StepsDone;
use crate::store::Session;
use crate::{context, sandbox, store};

/// How many characters of the reason for a suspension are kept.
const MOST_CHARS: usize = 200;

/// Ends a session. Commits it if the work succeeded; else suspends it if it is worth that, or removes it.
pub(crate) fn settle<T, R>(
    cx: &Context<'_>,
    outcome: Result<T>,
    session: Session,
    commit: impl FnOnce(Session, T) -> Result<R>,
) -> Result<R> {
    match outcome {
        Ok(value) => {
            let key = session.record().key.clone();
            commit(session, value).map_err(|error| match cx.store.sessions_suspended(&[&key]) {
                Ok(suspended) if !suspended.is_empty() => resumable(error),
                _ => error,
            })
        }
        Err(error) => Err(end(cx, session, error)),
    }
}

/// Suspends or removes a session that ended with `error`. If that fails, too, there is a warning, and `error` is still what is returned.
fn end(cx: &Context<'_>, session: Session, error: Error) -> Error {
    let done = StepsDone::of(&session).map_or(true, |steps| steps.any());
    let kept = (done || session.is_worth_keeping()) && !is_unusable(&error);
    let ended = if kept { session.suspend(&note_of(&error)) } else { session.discard(cx.launcher) };
    match ended {
        Ok(()) if kept => resumable(error),
        Ok(()) => error,
        Err(other) => {
            let what = if kept { "cannot keep the packages built so far" } else { "cannot remove the unfinished session" };
            cx.observer.warn(&format!("{what}: {}", in_one_line(&other)));
            error
        }
    }
}

/// Whether a session that ended like this is of no further use.
fn is_unusable(error: &Error) -> bool {
    match error {
        // Either somebody else can change it, or the disk has lost a part of it.
        Error::Context(
            context::Error::Sandbox(sandbox::Error::Held { .. } | sandbox::Error::Unsure { .. })
            | context::Error::Store(store::Error::StillRunning { .. } | store::Error::WriteBack { .. } | store::Error::Upper { .. }),
        )
        // Portage would find the same package again. A compiler is looked for before anything is built, and comes with another stage3 or
        // another configuration.
        | Error::Session(Failed::Untrusted { .. } | Failed::Refused { .. } | Failed::NoCompiler)
        // The patch is in the key. Once the user has corrected it, no build asks for this session.
        | Error::DoesNotApply(_) => true,
        _ => false,
    }
}

/// Why a session is suspended, for people.
fn note_of(error: &Error) -> String {
    match error {
        Error::Context(context::Error::Interrupted { .. }) => "interrupted".to_owned(),
        Error::Context(context::Error::Sandbox(sandbox::Error::Exceeded(_))) => "a limit was exceeded".to_owned(),
        Error::Session(Failed::Emerge { .. }) => "emerge failed".to_owned(),
        Error::Session(Failed::Unmet { .. } | Failed::Unchecked { .. }) => "not the packages that were asked for".to_owned(),
        Error::Session(Failed::Missing { .. }) => "sources are missing".to_owned(),
        Error::Session(Failed::Command { .. }) => "a command failed".to_owned(),
        other => other.to_string().lines().next().unwrap_or_default().chars().take(MOST_CHARS).collect(),
    }
}

/// The same failure, with the information that repeating the command goes on.
fn resumable(error: Error) -> Error {
    match error {
        Error::Context(context::Error::Interrupted { .. }) => context::Error::Interrupted { resumable: true }.into(),
        Error::Session(Failed::Emerge { failure, log, enter, .. }) => {
            Failed::Emerge { failure, log, resumable: true, enter }.into()
        }
        Error::Suspended(_) => error,
        other => Error::Suspended(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::path_error::OfFile as _;
    use crate::recipe::patches::rehearse::PatchMisfit;
    use crate::trees;

    #[test]
    fn a_session_is_thrown_away_only_for_what_is_wrong_with_it() {
        let interrupted = || Error::from(context::Error::Interrupted { resumable: false });
        let full = || Error::io("write", "/logs/emerge.log")(io::Error::from_raw_os_error(libc::ENOSPC));
        let held = sandbox::Error::Held { upper: "/s".into() };
        let lost = store::Error::WriteBack { path: "/s".into(), source: io::Error::from_raw_os_error(libc::EIO) };
        let misfit = PatchMisfit {
            package: "app-misc/broken-1.0".to_owned(),
            name: "fix".to_owned(),
            patch: "user.patches/fix/x.patch".into(),
            before: Vec::new(),
            last_lines: Vec::new(),
            log: "/log".into(),
        };
        let misfit = Error::DoesNotApply(Box::new(misfit));
        for (error, unusable, note) in [
            (misfit, true, "user.patches/fix/x.patch: does not apply to `app-misc/broken-1.0`"),
            (interrupted(), false, "interrupted"),
            (Failed::NoCompiler.into(), true, "the root in which packages would be built has no working C compiler"),
            (full(), false, "cannot write `/logs/emerge.log`"),
            (sandbox::Error::Died { who: "PID 1".to_owned() }.into(), false, "PID 1 died unexpectedly"),
            (trees::Error::NoTree.into(), false, "no ebuild tree in the store"),
            (held.into(), true, "a process outside the session has files of `/s` open"),
            (lost.into(), true, "cannot write the data below `/s` to the disk"),
        ] {
            assert_eq!((is_unusable(&error), note_of(&error).as_str()), (unusable, note), "{error}");
        }
        assert!(matches!(resumable(interrupted()), Error::Context(context::Error::Interrupted { resumable: true })));
        let kept = resumable(resumable(full()));
        assert!(matches!(&kept, Error::Suspended(error) if matches!(**error, Error::Context(context::Error::Io(_)))), "{kept:?}");
        assert_eq!(in_one_line(&kept), "cannot write `/logs/emerge.log`: No space left on device (os error 28)");
    }
}
