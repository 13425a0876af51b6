//! `audit` and `why`: questions about the packages that a state or an artifact has.
//!
//! ```text
//! words          a stage4, a profile, any name of a state, the file of an artifact            whose.rs
//!   packages     of a state: Portage's database in it, by a task; of an artifact: its `.json`
//!   question     to the Portage of a throw-away session on what a stage4 was built on         asked()
//! ```
//!
//! A stage4 need not have Portage, nor Python: so its own is never asked, and the packages go with the question. Nothing that is asked
//! about is changed, and nothing in it is run.

pub(crate) mod audit;
mod chains;
mod error;
pub(crate) mod kept;
mod whose;
pub(crate) mod why;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context;
use crate::context::Context;
use crate::portage::vdb::Package;
use crate::portage::{untrusted, vdb};
use crate::query::Question;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::session::ask::ask;
use crate::session::work;
use crate::session::work::{Given, Subject};
use crate::store::{Purpose, State};
use crate::trees::choose::PinnedTree;
use crate::{merged_view, store};

pub(crate) use error::{Error, Result};

/// Reads what is installed: [`ReadInput`] in, [`Read`] out.
const READ: &str = "installed.read";
/// No system has as many packages.
const MAX_PACKAGES: usize = 30_000;
/// What Portage notes of a package for its dependencies.
const NEEDS: [&str; 8] = ["BDEPEND", "DEPEND", "EAPI", "IDEPEND", "IUSE", "PDEPEND", "RDEPEND", "USE"];
const MAX_NEEDS_BYTES: usize = 64 << 20;
/// What is asked for by name, and advisories that were dealt with (`portage/const.py`, `portage/glsa.py`).
const WORLD: [&str; 2] = ["var/lib/portage/world", "var/lib/portage/world_sets"];
const ACCEPTED: &str = "var/lib/portage/glsa_injected";
const MAX_LIST_BYTES: u64 = 1 << 20;
const MAX_LIST_LINES: usize = 10_000;
const MAX_LINE_BYTES: usize = 300;

#[derive(Debug, Serialize, Deserialize)]
struct ReadInput {
    /// Layers, top first.
    lower: Vec<PathBuf>,
    /// Also what packages need.
    needs: bool,
}

/// What is installed, in words of Portage's database. It may be hostile, but nothing in it moves a terminal.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Read {
    packages: Vec<Package>,
    /// Of each package the files [`NEEDS`], if asked for.
    needs: Vec<BTreeMap<String, String>>,
    /// Lines of [`WORLD`].
    world: Vec<String>,
    /// Lines of [`ACCEPTED`].
    accepted: Vec<String>,
}

pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == READ).then_some(read_task as TaskFn)
}

fn read_task(context: &mut TaskContext) -> Result<serde_json::Value, TaskFailure> {
    let input: ReadInput = context.input_as()?;
    let Some(root) = merged_view::mount(&input.lower)? else { return Ok(serde_json::json!(Read::default())) };
    let mut rows = Vec::new();
    let mut left = MAX_NEEDS_BYTES;
    vdb::visit_all_in(root.as_fd(), &mut |package, entry| {
        // One too many is told from as many as there may be.
        if rows.len() > MAX_PACKAGES {
            return;
        }
        let mut values = if input.needs { vdb::values(entry, &package.cpv, &NEEDS) } else { BTreeMap::new() };
        let bytes: usize = values.values().map(String::len).sum();
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => values.clear(),
        }
        rows.push((package, values));
    })
    .map_err(|error| TaskFailure::of("vdb", &error))?;
    rows.sort_by(|a, b| a.0.cpv.cmp(&b.0.cpv));
    let (packages, needs) = rows.into_iter().unzip();
    let lines = |path: &str| lines_of(&untrusted::read_in(root.as_fd(), Path::new(path), MAX_LIST_BYTES).unwrap_or_default());
    let world = WORLD.into_iter().flat_map(lines).take(MAX_LIST_LINES).collect();
    let read = Read { packages, needs, world, accepted: lines(ACCEPTED) };
    serde_json::to_value(read).map_err(|error| TaskFailure::of("vdb", &error))
}

/// The lines of a list, without comments. A list that cannot be read has none.
fn lines_of(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty() && line.len() <= MAX_LINE_BYTES).take(MAX_LIST_LINES).map(str::to_owned).collect()
}

/// What a state has. `name` is for messages.
fn read(cx: &Context<'_>, name: &str, state: &State, needs: bool) -> Result<Read> {
    let input = ReadInput { lower: cx.store.lower_dirs(state), needs };
    let answer = context::task(cx, READ, &input, TaskOptions { mounts: true, ..TaskOptions::default() }, &mut |_| {})?;
    let read: Read = serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: READ, source })?;
    check_count(name, read.packages.len())?;
    Ok(read)
}

fn check_count(name: &str, count: usize) -> Result<()> {
    if count > MAX_PACKAGES { Err(Error::TooMany { name: name.to_owned(), limit: MAX_PACKAGES }) } else { Ok(()) }
}

/// The answers of the Portage of `base`, which sees `trees`. The session is discarded.
fn asked<Q: Question>(
    cx: &Context<'_>,
    base: &State,
    trees: &[PinnedTree],
    log_name: &str,
    questions: Vec<Q>,
) -> Result<Vec<Q::Answer>> {
    let profile = base.origin.profile().unwrap_or_default().to_owned();
    let subject = Subject { log_name: log_name.to_owned(), profile, definition: String::new() };
    let mut session = cx.store.session_create(Some(base), Purpose::Throwaway, "")?;
    let given = Given { trees: Some(trees), ..Given::default() };
    let answers = work::work(cx, &mut session, base, &subject, given).and_then(|work| {
        let answers = ask(cx, &work, questions)?;
        work.forget_logs();
        Ok(answers)
    });
    session.discard(cx.launcher)?;
    Ok(answers?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bounded() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let text = format!("# comment\napp-misc/a # why\n\n{long}\n@set\n\u{1b}[2J\n");
        assert_eq!(lines_of(text.as_bytes()), ["app-misc/a", "@set", "\u{1b}[2J"]);
        assert_eq!(lines_of("a\n".repeat(MAX_LIST_LINES + 5).as_bytes()).len(), MAX_LIST_LINES);
        assert!(check_count("x", MAX_PACKAGES).is_ok());
        assert_eq!(check_count("x", MAX_PACKAGES + 1).unwrap_err().to_string(), "`x` has more than 30000 packages");
    }
}
