//! The source of a package, out of the session in which the package's own phases have run.
//!
//! ```text
//! package's session  ebuild … prepare     sessions/ID/scratch/CATEGORY/PACKAGE/work/…      hostile in every respect
//!   (over)                                        | task: directories, regular files and links, as content; nothing that git takes for a repository
//!                                                 v
//! new session        git, patch           data/patches/.NAME.new                           never seen by the package
//!   (over)                                        | harden: what decides what git does is written anew
//!                                                 v
//!                                         data/patches/NAME
//! ```

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::beneath::TreeDir;
use crate::context::Context;
use crate::copy_tree::{Copied, Keep, REPOSITORY};
use crate::patch::prep::{Found, MAX_NAMED};
use crate::patch::{Desk, Error, PatchError, Result, forget_if_interrupted, scripts};
use crate::path_error::OfFile as _;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::session::root::BUILD_DIR;
use crate::session::{Work, run};
use crate::store::{Purpose, State};
use crate::{context, copy_tree, patch, store};

/// Copies a source tree: [`SourceInput`] and the directory to make the copy in, in; [`Copied`] out.
const COPY_SOURCE: &str = "patch.copy-source";
/// Of a script's output so much is read.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 10;

/// What [`COPY_SOURCE`] gets.
#[derive(Debug, Serialize, Deserialize)]
struct SourceInput {
    /// A directory of ours, in which the session has written.
    scratch: PathBuf,
    /// Below it; nothing on the way is followed.
    source: String,
    /// The name to make.
    name: String,
}

/// What came along of a source, and what did not.
#[derive(Debug)]
pub(crate) struct Source {
    /// Which directory of what was unpacked it is.
    pub(crate) subdir: String,
    pub(crate) nested_repositories: Vec<String>,
    pub(crate) special_files: Vec<String>,
}

/// Copies what a package's session has prepared to `new`, which must not be there.
pub(crate) fn take_source(cx: &Context<'_>, desk: &Desk<'_>, found: &Found, new: &Path) -> Result<Source> {
    let argv = ["sh".to_owned(), scripts::path(scripts::SOURCE), found.build_dir()];
    let text = run::output_of(cx, &desk.work, argv.into(), OUTPUT_LIMIT_BYTES)?;
    let subdir = scripts::Told::read(&text).one("subdir")?.to_owned();
    let below = found.build_dir();
    let below = below.strip_prefix(BUILD_DIR).unwrap_or(&below).trim_start_matches('/');
    let (Some(parent), Some(name)) = (new.parent(), new.file_name().and_then(|name| name.to_str())) else {
        return Err(PatchError::Answer(None).into());
    };
    let input =
        SourceInput { scratch: desk.work.root.scratch.clone(), source: format!("{below}/work/{subdir}"), name: name.to_owned() };
    let target: OwnedFd = File::open(parent).map_err(Error::io("open", parent))?.into();
    let options = TaskOptions { fds: vec![target], mounts: false, hold: Vec::new(), cancel: Some(context::cancel(cx)?) };
    let answer = context::task(cx, COPY_SOURCE, &input, options, &mut |_| {})?;
    let copied: Copied = serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: COPY_SOURCE, source })?;
    let named = |repository: bool| {
        let chosen = copied.skipped.iter().filter(|skipped| (skipped.what == REPOSITORY) == repository);
        chosen.map(|skipped| skipped.path.clone()).take(MAX_NAMED).collect()
    };
    Ok(Source { subdir, nested_repositories: named(true), special_files: named(false) })
}

/// Does something with git, in a session of its own on `base`: no package of anybody's choice has run in it.
pub(crate) fn with_git<T>(
    cx: &Context<'_>,
    base: &State,
    profile: &str,
    name: &str,
    does: impl FnOnce(&mut Work<'_>) -> Result<T>,
) -> Result<T> {
    let mut session = cx.store.session_create(Some(base), Purpose::Patch, "")?;
    let outcome = (|| {
        let mut work = patch::patch_git_desk(cx, &mut session, base, profile, name)?;
        let outcome = patch::patch_git(cx, &work).and_then(|()| does(&mut work));
        forget_if_interrupted(&work, outcome)
    })();
    session.discard(cx.launcher)?;
    outcome
}

/// Finds this module's task by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == COPY_SOURCE).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: SourceInput = context.input_as()?;
    let Some(target) = context.fds.pop() else {
        return Err(TaskFailure { kind: "copy".to_owned(), causes: vec!["no place to copy to".to_owned()] });
    };
    let source = TreeDir::open(&input.scratch).and_then(|scratch| scratch.open_dir(&input.source));
    let source = source.map_err(|error| TaskFailure::of("copy", &error))?;
    let copied = copy_tree::copy(source.into(), target.as_fd(), input.name.as_bytes(), Keep::Source, &mut |_| {});
    serde_json::to_value(copied.map_err(|error| TaskFailure::of("copy", &error))?).map_err(|error| TaskFailure::of("copy", &error))
}
