//! `shell --failed`: a build that has failed, and a user who works on it by hand.
//!
//! ```text
//! failed build         sessions/A, suspended    failed.json says which package and phase (recipe/failed.rs)
//!   shell --failed     sessions/B, on top of A  enter.py: the build directory, the environment that `ebuild` has there
//!     --again          the same                 `ebuild … PHASE` on what was changed by hand
//!     --save NAME      B's scratch directory --edits.rs--> a work set --`patch save`--> config/user.patches/NAME
//! stage build          B is removed, A goes on: emerge unpacks the package anew
//! ```
//!
//! A is never written while a user is in B (`store::by_hand`). B has no pools and no package keys, and becomes no state, so nothing
//! that was built after a hand went in can be published or committed, whatever happens to this process.
//!
//! What a package has left is hostile, its `temp/environment` above all: it is code. It is sourced in B, with the privileges of a session,
//! and nothing of it is read outside. Package and phase come from emerge's output; both are checked before they become arguments.

pub(crate) mod edits;
mod error;

use crate::config::ConfigDir;
use crate::context;
use crate::context::Context;
use crate::patch::prep::{PrepOptions, patch_prep};
use crate::patch::rows::patch_remove;
use crate::patch::save::{SaveOptions, SavedAs, patch_save};
use crate::recipe::failed;
use crate::recipe::failed::FailedBuild;
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::readable_files::write_public;
use crate::session::root::{BUILD_DIR, HOOKS_DIR, Run, ScratchBelow};
use crate::session::work::{Given, Subject};
use crate::session::{given, run, work};
use crate::store::{Lock, Session, SessionRecord};

pub(crate) use error::{Error, Result};

const SCRIPTS: [(&str, &str); 2] = [("enter.py", include_str!("enter.py")), ("enter.bash", include_str!("enter.bash"))];
/// The phases that `ebuild` runs by themselves, on what is there.
const REPEATABLE: [&str; 7] = ["setup", "unpack", "prepare", "configure", "compile", "test", "install"];

/// What to do in the build directory.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// A shell, or this command.
    Shell {
        command: Vec<String>,
        /// As root of the session; else as the user that Portage runs the phase as.
        as_root: bool,
    },
    /// The phase that failed.
    Again,
}

/// A failed build, entered.
struct Entered {
    build: FailedBuild,
    session: Session,
    _lock: Lock,
}

/// The newest failed build that `what` names.
pub(crate) fn failed_build(cx: &Context<'_>, what: &str) -> Result<(SessionRecord, FailedBuild)> {
    let all = failed::all(cx)?;
    let mut known: Vec<String> = all.iter().map(|(_, build)| build.short().to_owned()).collect();
    known.sort();
    known.dedup();
    let found = all.into_iter().find(|(_, build)| build.is_called(what));
    found.ok_or_else(|| Error::NothingFailed { what: what.to_owned(), known })
}

/// Whether something was done by hand in this failed build.
pub(crate) fn is_touched(cx: &Context<'_>, what: &str) -> Result<bool> {
    let (record, _) = failed_build(cx, what)?;
    Ok(cx.store.session_has_by_hand(&record.id)?)
}

/// Waits for whoever builds it, and opens the session for work by hand.
fn open(cx: &Context<'_>, what: &str) -> Result<Entered> {
    let (_, build) = failed_build(cx, what)?;
    let lock = context::lock(cx, &build.lock)?;
    // Whoever had the lock may have gone on with it.
    let (record, build) = failed_build(cx, what)?;
    let busy = || Error::Busy { what: what.to_owned() };
    let below = cx.store.session_hold(&record.id)?.ok_or_else(busy)?;
    Ok(Entered { session: cx.store.session_by_hand(below)?, build, _lock: lock })
}

/// Does something in the build directory of the package that failed. What it leaves stays until the build goes on.
pub(crate) fn enter(cx: &Context<'_>, what: &str, deed: &Deed, terminal: bool) -> Result<Exit> {
    let _shared = context::share_store(cx)?;
    let Entered { build, mut session, _lock } = open(cx, what)?;
    if matches!(deed, Deed::Again) && !REPEATABLE.contains(&build.phase.as_str()) {
        session.discard(cx.launcher)?;
        return Err(Error::NotRepeatable { phase: build.phase });
    }
    let note = format!("by hand in {}", build.package);
    session.keep_whatever_happens(&note)?;
    let outcome = enter_in(cx, &mut session, &build, deed, terminal);
    session.suspend(&note)?;
    outcome
}

fn enter_in(cx: &Context<'_>, session: &mut Session, build: &FailedBuild, deed: &Deed, terminal: bool) -> Result<Exit> {
    let gone = || Error::Busy { what: build.short().to_owned() };
    let below = session.below().ok_or_else(gone)?;
    let base = below.base().cloned().ok_or_else(gone)?;
    let (upper, scratch) = (below.upper(), below.scratch());
    let (trees, headers) = (given::trees_of(below.dir()), given::headers_of(below.dir()));
    let kernel_tree = headers.map(|headers| given::kernel_tree(session, headers)).transpose()?;
    let subject = Subject {
        log_name: format!("by-hand-{}", build.short().replace('/', "-")),
        profile: base.origin.profile().unwrap_or_default().to_owned(),
        definition: String::new(),
    };
    let scratch_below = ScratchBelow { lower: scratch, work: session.path("scratch.work") };
    let mut work = work::work(cx, session, &base, &subject, Given { trees: trees.as_deref(), ..Given::default() })?;
    work.root.lower.insert(0, upper);
    work.root.scratch_below = Some(scratch_below);
    work.root.kernel_tree = kernel_tree;
    for (name, text) in SCRIPTS {
        write_public(&work.root.hooks.join(name), text.as_bytes(), 0o644)?;
    }
    let (user, doing, command) = match deed {
        Deed::Shell { command, as_root } => (if *as_root { "root" } else { "user" }, "shell", command.as_slice()),
        Deed::Again => ("root", "again", &[][..]),
    };
    let script = format!("{HOOKS_DIR}/enter.py");
    let build_dir = format!("{BUILD_DIR}/{}", build.package);
    let words = ["python3", "-I", "-B", &script, &build_dir, &build.package, &build.phase, user, doing];
    let argv = words.map(str::to_owned).into_iter().chain(command.iter().cloned()).collect();
    let mut env = work.env.clone();
    match cx.settings.term.clone().filter(|_| terminal) {
        Some(term) => env.push(("TERM".to_owned(), term)),
        // Portage also colours what its build helpers print into a pipe.
        None => env.push(("NO_COLOR".to_owned(), "1".to_owned())),
    }
    let run = Run { argv, env, network: Network::None, terminal, hostname: work.hostname.clone(), shown: None, in_memory: None };
    let exit = run::attend(cx, &work, &run)?;
    work.forget_logs();
    Ok(exit)
}

/// What was saved of the edits.
#[derive(Debug)]
pub(crate) struct SavedEdits {
    pub(crate) saved: SavedAs,
    /// Files that are in no pristine source, as what a compiler writes. They are not part of the patch.
    pub(crate) left_out: Vec<String>,
}

/// Saves what was changed by hand in the source of the failed package as the patch `name`: its source is prepared anew as a work set, the
/// changed files replace those in it, and the work set is saved.
pub(crate) fn save(cx: &Context<'_>, config: &ConfigDir, what: &str, name: &str) -> Result<SavedEdits> {
    let _shared = context::share_store(cx)?;
    if !is_touched(cx, what)? {
        return Err(Error::Untouched { what: what.to_owned() });
    }
    let Entered { build, mut session, _lock } = open(cx, what)?;
    let note = format!("by hand in {}", build.package);
    session.keep_whatever_happens(&note)?;
    let saved = save_in(cx, config, &session, &build, name);
    session.suspend(&note)?;
    saved
}

fn save_in(cx: &Context<'_>, config: &ConfigDir, session: &Session, build: &FailedBuild, name: &str) -> Result<SavedEdits> {
    let profile = session.base().and_then(|base| base.origin.profile()).map(str::to_owned);
    let options =
        PrepOptions { name: name.to_owned(), atom: format!("={}", build.package), repository: None, profile, prepare: true };
    let prepared = patch_prep(cx, config, &options)?;
    let source = format!("{}/work/{}", build.package, prepared.source.subdir);
    let saved = edits::take(cx, &session.scratch(), &source, &prepared.dir).and_then(|edits| {
        let options = SaveOptions { name: name.to_owned(), span: None, purpose: None, bug: None, keep: false };
        Ok(SavedEdits { saved: patch_save(cx, config, &options)?, left_out: edits.left_out })
    });
    if saved.is_err() {
        patch_remove(cx, config, name, false, true)?;
    }
    saved.map_err(|error| match error {
        Error::Patch(crate::patch::Error::Patch(crate::patch::PatchError::Unchanged(_))) => {
            Error::Untouched { what: build.short().to_owned() }
        }
        other => other,
    })
}

/// Removes the session of a failed build, with all that was done in it. The packages that it has published stay.
pub(crate) fn remove(cx: &Context<'_>, what: &str) -> Result<()> {
    let _shared = context::share_store(cx)?;
    let (record, build) = failed_build(cx, what)?;
    let _lock = context::lock(cx, &build.lock)?;
    let Some(subject) = record.subject else { return Ok(()) };
    cx.store.session_discard_by_hand(&subject, cx.launcher)?;
    cx.store.session_discard_superseded(&subject, "", cx.launcher)?;
    Ok(())
}
