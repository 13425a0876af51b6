//! `cp`: copies files and directories out of a build state. The copies belong to the user.
//!
//! ```text
//! the state's layers, merged, read-only ── PATH, resolved within it ──▶ task in the id map, in a mount namespace of its own
//!                                                                            | writes below one directory descriptor
//! DIR/.gentoomuch-cp-PID  ◀──────────────────────────────────────────────────┘
//!   | renamed when complete; never over anything
//! DIR/NAME
//! ```
//!
//! No link leads the copy out of the state, and nothing is written outside of the new directory entry.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rustix::fs::{FlockOperation, RenameFlags};
use serde::{Deserialize, Serialize};

use crate::beneath::RootDir;
use crate::context::Context;
use crate::copy_tree::Copied;
use crate::history::{Error, Result};
use crate::merged_view;
use crate::names::named;
use crate::path_error::OfFile as _;
use crate::progress::{Event, Unit};
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::store::StateId;
use crate::store::tasks::{REMOVE_TREE, RemoveInput};
use crate::{beneath, context, copy_tree, durable, store};

/// Copies out of a build state. Input: [`CopyInput`] and a descriptor to write to; output: [`CopyAnswer`].
const COPY_OUT: &str = "history.copy-out";
/// Prefix of an unfinished copy's name.
const UNFINISHED: &str = ".gentoomuch-cp-";

/// What to copy.
#[derive(Debug)]
pub(crate) struct CopyOptions {
    /// The state, see [`crate::names::named::named`].
    pub state: String,
    /// Absolute, in the state.
    pub path: String,
    /// Where to.
    pub to: CopyTo,
}

/// Where to copy to.
#[derive(Debug)]
pub(crate) enum CopyTo {
    /// Into this directory; if it does not exist, this is the name of the copy.
    Path(PathBuf),
    /// The contents of a single file, to this stream.
    Stream(OwnedFd),
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CopiedOut {
    /// The state that it comes from.
    pub state: StateId,
    /// Where the copy is; `None` for a stream.
    pub to: Option<PathBuf>,
    /// What was copied.
    #[serde(flatten)]
    pub copied: Copied,
}

/// The input of [`COPY_OUT`].
#[derive(Debug, Serialize, Deserialize)]
struct CopyInput {
    /// Layers, top first.
    lower: Vec<PathBuf>,
    /// Absolute, in the merged view.
    path: String,
    /// The name to create below the descriptor; `None`: the descriptor is the stream.
    name: Option<String>,
}

/// The output of [`COPY_OUT`].
#[derive(Debug, Serialize, Deserialize)]
enum CopyAnswer {
    Copied(Copied),
    Missing,
    Special(String),
    Directory,
}

/// Copies a file, or a directory with its contents, out of a state.
pub(crate) fn copy_out(cx: &Context<'_>, options: CopyOptions) -> Result<CopiedOut> {
    let _shared = context::share_store(cx)?;
    let state = named::named(cx, &options.state)?.state;
    let CopyOptions { state: named, path, to } = options;
    let input = |name| CopyInput { lower: cx.store.lower_dirs(&state), path: path.clone(), name };
    let (copied, to) = match to {
        CopyTo::Stream(stream) => (copy_task(cx, &named, &input(None), stream)?, None),
        CopyTo::Path(to) => {
            let (dir, name) = destination(&to, &path)?;
            let copied = copy_into(cx, &named, input, &dir, &name)?;
            (copied, Some(dir.join(name)))
        }
    };
    Ok(CopiedOut { state: state.id, to, copied })
}

/// Copies to a temporary name, then renames the copy. It is on the disk before it has its name, or a power cut could leave an empty file.
fn copy_into(
    cx: &Context<'_>,
    named: &str,
    input: impl FnOnce(Option<String>) -> CopyInput,
    dir: &Path,
    name: &OsString,
) -> Result<Copied> {
    let unfinished = format!("{UNFINISHED}{}", std::process::id());
    let opened = File::open(dir).map_err(Error::io("open", dir))?;
    remove_leftovers(cx, &opened, dir);
    let target: OwnedFd = opened.try_clone().map_err(Error::io("open", dir))?.into();
    let outcome = copy_task(cx, named, &input(Some(unfinished.clone())), target).and_then(|copied| {
        durable::sync_tree(dir)?;
        match rustix::fs::renameat_with(&opened, &unfinished, &opened, name, RenameFlags::NOREPLACE) {
            Ok(()) => durable::sync_dir(dir).map(|()| copied).map_err(Into::into),
            // Somebody created it since we looked.
            Err(rustix::io::Errno::EXIST) => Err(Error::Exists(dir.join(name))),
            Err(errno) => Err(Error::io("create", dir.join(name))(errno.into())),
        }
    });
    if outcome.is_err() {
        // The task removes it, since the copied modes may lock the owner out. The first error is reported, whatever goes wrong here.
        let left = RemoveInput { paths: vec![dir.join(&unfinished)] };
        if let Err(error) = cx.launcher.task(REMOVE_TREE, &left, TaskOptions::default(), &mut |_| {}) {
            tracing::warn!("cannot remove `{}`: {error}", dir.join(&unfinished).display());
        }
    }
    outcome
}

/// Removes what killed copies have left in a directory. Whoever copies into it has it locked, together with others; where a file system has
/// no locks nothing is removed.
fn remove_leftovers(cx: &Context<'_>, opened: &File, dir: &Path) {
    if rustix::fs::flock(opened, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let is_left =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()));
        let left = RemoveInput { paths: entries.map(|entry| entry.path()).filter(is_left).collect() };
        if !left.paths.is_empty()
            && let Err(error) = cx.launcher.task(REMOVE_TREE, &left, TaskOptions::default(), &mut |_| {})
        {
            tracing::warn!("cannot remove what a killed copy has left in `{}`: {error}", dir.display());
        }
    }
    // Not waited for: other users may lock a directory that they can read, and for as long as they like.
    if let Err(error) = rustix::fs::flock(opened, FlockOperation::NonBlockingLockShared) {
        tracing::debug!(dir = %dir.display(), %error, "not locked");
    }
}

fn copy_task(cx: &Context<'_>, named: &str, input: &CopyInput, target: OwnedFd) -> Result<Copied> {
    let options = TaskOptions { fds: vec![target], mounts: true, hold: Vec::new(), cancel: Some(context::cancel(cx)?) };
    cx.observer.event(&Event::Begin { what: "copying", total: None, unit: Unit::Bytes });
    let answer = context::task(cx, COPY_OUT, input, options, &mut |event| {
        if let Some(bytes) = event.as_u64() {
            cx.observer.event(&Event::Advance(bytes));
        }
    });
    cx.observer.event(&Event::End);
    let answer = serde_json::from_value(answer?).map_err(|source| store::Error::Answer { task: COPY_OUT, source })?;
    let (path, state) = (input.path.clone(), named.to_owned());
    match answer {
        CopyAnswer::Copied(copied) => Ok(copied),
        CopyAnswer::Missing => Err(Error::Missing { path, state }),
        CopyAnswer::Special(what) => Err(Error::Special { path, state, what }),
        CopyAnswer::Directory => Err(Error::Directory { path, state }),
    }
}

/// The directory to copy into and the name of the copy, by the rules of cp(1).
fn destination(to: &Path, path: &str) -> Result<(PathBuf, OsString)> {
    match fs::symlink_metadata(to).and_then(|_| fs::metadata(to)) {
        Ok(meta) if meta.is_dir() => {
            let last = Path::new(path).components().next_back();
            let Some(Component::Normal(name)) = last else {
                return Err(Error::NoName { path: path.to_owned(), to: to.to_owned() });
            };
            if fs::symlink_metadata(to.join(name)).is_ok() {
                return Err(Error::Exists(to.join(name)));
            }
            Ok((to.to_owned(), name.to_owned()))
        }
        // A dangling link counts as taken, too.
        Ok(_) => Err(Error::Exists(to.to_owned())),
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(Error::Exists(to.to_owned())),
        Err(_) => match (to.parent().filter(|parent| parent.is_dir()), to.file_name()) {
            (Some(parent), Some(name)) => Ok((parent.to_owned(), name.to_owned())),
            _ => Err(Error::NoDirectory(to.parent().unwrap_or(to).to_owned())),
        },
    }
}

/// Finds this module's task by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == COPY_OUT).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: CopyInput = context.input_as()?;
    let io = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| TaskFailure { kind: "copy".to_owned(), causes: vec![what, error.to_string()] }
    };
    let target = context.fds.pop().ok_or_else(|| io("no place to copy to")(io::ErrorKind::InvalidInput.into()))?;
    let Some(root) = merged_view::mount(&input.lower)? else { return Ok(serde_json::json!(CopyAnswer::Missing)) };
    let root = RootDir::from_fd(root, "/");
    let path = Path::new(&input.path);
    let failed = |error: &beneath::Error| TaskFailure::of("copy", error);
    let place = match root.place(path) {
        Ok(place) => place,
        Err(error) if error.is_no_such_file() => return Ok(serde_json::json!(CopyAnswer::Missing)),
        Err(error) => return Err(failed(&error)),
    };
    let kind = copy_tree::kind(place.as_fd()).map_err(|error| TaskFailure::of("copy", &error))?;
    let from: OwnedFd = match kind {
        copy_tree::Kind::Special(what) => return Ok(serde_json::json!(CopyAnswer::Special(what.to_owned()))),
        copy_tree::Kind::Directory if input.name.is_none() => return Ok(serde_json::json!(CopyAnswer::Directory)),
        copy_tree::Kind::Directory => root.open_dir(path).map_err(|error| failed(&error))?.into(),
        copy_tree::Kind::File => root.follow(path).map_err(|error| failed(&error))?.file.into(),
    };
    let events = context.events.clone();
    let mut tell = |bytes: u64| {
        if let Err(error) = events.send(&bytes) {
            tracing::debug!(%error, "nobody listens");
        }
    };
    let copied = match &input.name {
        Some(name) => copy_tree::copy(from, target.as_fd(), name.as_bytes(), copy_tree::Keep::All, &mut tell),
        None => copy_tree::stream(from, target, &mut tell),
    };
    let answer = CopyAnswer::Copied(copied.map_err(|error| TaskFailure::of(error.task_kind(), &error))?);
    serde_json::to_value(answer).map_err(|error| TaskFailure::of("copy", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_copy_is_as_with_cp() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("f"), "").unwrap();
        fs::create_dir(at("d/etc")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let names = |to: &str, path: &str| match destination(&at(to), path) {
            Ok((parent, name)) => parent.join(name).strip_prefix(dir.path()).unwrap().display().to_string(),
            Err(error) => error.to_string().replace(&format!("{}/", dir.path().display()), ""),
        };
        for (to, path, result) in [
            ("d", "/usr/bin/hello", "d/hello"),
            ("d", "/usr/bin/", "d/bin"),
            ("new", "/etc", "new"),
            ("new", "/", "new"),
            ("d", "/etc", "`d/etc` already exists"),
            ("f", "/etc", "`f` already exists"),
            ("dangling", "/etc", "`dangling` already exists"),
            ("d", "/", "`/` has no last component to name the copy in `d`"),
            ("d", "/etc/..", "`/etc/..` has no last component to name the copy in `d`"),
            ("none/such", "/etc", "there is no directory `none`"),
        ] {
            assert_eq!(names(to, path), result, "{path} to {to}");
        }
    }
}
