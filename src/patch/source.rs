//! Copies the source of a package out of the session in which its phases ran.
//!
//! ```text
//! package's session  ebuild … prepare     sessions/ID/scratch/CATEGORY/PACKAGE/work/…      hostile
//!   (over)                                        | task: copies directories, regular files and links; leaves out what git takes for a
//! repository
//!                                                 v
//! new session        git, patch           data/patches/.NAME.new                           the package never saw it
//!   (over)                                        | harden: everything that controls git is written anew
//!                                                 v
//!                                         data/patches/NAME
//! ```

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::beneath::TreeDir;
use crate::config::patches::Scope;
use crate::context::Context;
use crate::copy_tree::{Copied, Keep, REPOSITORY};
use crate::patch::work_set::WorkSet;
use crate::patch::{Desk, Error, PatchError, Result, forget_if_interrupted, scripts};
use crate::path_error::OfFile as _;
use crate::portage::atom::Atom;
use crate::portage::cpv::split_revision;
use crate::query::versions;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::session::root::BUILD_DIR;
use crate::session::{Work, run};
use crate::store::{Purpose, State};
use crate::{context, copy_tree, patch, store};

/// Copies a source tree. Input: [`SourceInput`] and the directory for the copy; output: [`Copied`].
const COPY_SOURCE: &str = "patch.copy-source";
/// Longer output of a script is cut.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 10;

/// The input of [`COPY_SOURCE`].
#[derive(Debug, Serialize, Deserialize)]
struct SourceInput {
    /// A directory of ours that a session wrote to.
    scratch: PathBuf,
    /// A path below it; links on the way are not followed.
    source: String,
    /// The name of the copy.
    name: String,
}

/// What was copied of a source, and what was left out.
#[derive(Debug)]
pub(crate) struct Source {
    /// The directory of the source, below `WORKDIR`.
    pub(crate) subdir: String,
    pub(crate) nested_repositories: Vec<String>,
    pub(crate) special_files: Vec<String>,
}

/// Copies the prepared source of a package's session to `new`, which must not exist.
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

/// Runs git in a session of its own on `base`, in which no package of the user's choice has run.
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
    serde_json::to_value(copied.map_err(|error| TaskFailure::of(error.task_kind(), &error))?)
        .map_err(|error| TaskFailure::of("copy", &error))
}

/// So many names are kept of things that there should be none of.
pub(crate) const MAX_NAMED: usize = 20;

/// The version of a package whose source is taken.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) cpv: String,
    pub(crate) category: String,
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) revision: String,
    pub(crate) slot: String,
    pub(crate) repository: String,
    pub(crate) ebuild: String,
}

impl Found {
    /// Nothing if a part is not what it is called. What comes out of a session is hostile, and names directories of the configuration later.
    pub(super) fn of(found: versions::Found) -> Option<Self> {
        let versions::Found { cpv, repository, slot, ebuild, .. } = found;
        let atom = Atom::parse_target(&format!("={cpv}::{repository}")).ok()?;
        let version = atom.version?;
        let (version, revision) = split_revision(&version);
        let (version, revision) = (version.to_owned(), format!("r{}", revision.unwrap_or("0")));
        // The directory of patches that are for this version alone.
        let scope: Scope = format!("{}-{version}-{revision}:{slot}", atom.package).parse().ok()?;
        let is_sound = scope.package == atom.package && ebuild.starts_with('/') && !ebuild.chars().any(char::is_control);
        let (category, package) = (atom.category, atom.package);
        is_sound.then_some(Self { cpv, category, package, version, revision, slot, repository, ebuild })
    }

    /// Where its phases work.
    pub(crate) fn build_dir(&self) -> String {
        format!("{BUILD_DIR}/{}", self.cpv)
    }

    /// `=category/name-version::repository`.
    pub(crate) fn atom(&self) -> String {
        format!("={}::{}", self.cpv, self.repository)
    }

    /// The version with its revision, as Portage writes it.
    pub(crate) fn version_and_revision(&self) -> String {
        if self.revision == "r0" { self.version.clone() } else { format!("{}-{}", self.version, self.revision) }
    }

    /// What the pristine commit is called.
    pub(crate) fn title(&self, prepared: bool) -> String {
        format!("{}::{}{}", self.cpv, self.repository, if prepared { "" } else { ", not prepared" })
    }

    pub(crate) fn into_work_set(self, profile: &str, prepared: bool, subdir: &str) -> WorkSet {
        WorkSet {
            cpv: self.cpv,
            category: self.category,
            package: self.package,
            version: self.version,
            revision: self.revision,
            slot: self.slot,
            repository: self.repository,
            profile: profile.to_owned(),
            prepared,
            subdir: subdir.to_owned(),
            made: crate::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}
