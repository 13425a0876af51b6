//! Creates a configuration directory: the shipped `config/`, which is compiled in, and settings for this machine.
//!
//! ```text
//! DIR/…                              as shipped; a definition or fragment is created as a whole, or not at all
//! DIR/cpu.defines/this-host/         -march and CPU_FLAGS_* of this machine
//! DIR/env/arch, DIR/env/jobs         of this machine
//! DIR/env/sign_key                   the key that signs, if its user has one
//! DIR/env/binhost, DIR/portage.global/binrepos.conf      Gentoo's host of binary packages, if that is wanted
//! DIR/.gentoomuch-init/              unfinished files; renames that never replace anything move them into place
//! ```
//!
//! Existing files are not changed. A folder that is a unit, such as `portage.locals/NAME`, is not completed: half a fragment added to the
//! user's own would change its meaning. If this is killed there are only whole units and the hidden directory, which the next run
//! removes.

mod choices;
mod machine;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rustix::fs::FlockOperation;
use serde::Serialize;

use super::proposal::make_dirs;
use crate::durable;
use crate::durable::Mode;
use crate::path_error::PathError;

pub(crate) use choices::{Choices, SIGN_KEY, SigningKey};
pub(crate) use machine::{Machine, THIS_HOST};

/// The files of `config/`: path, whether it is executable, contents. Made by `build.rs`.
const SHIPPED: &[(&str, bool, &[u8])] = include!(concat!(env!("OUT_DIR"), "/shipped_config.rs"));

/// Folders whose entries are definitions or fragments, each created as a whole.
const OF_UNITS: [&str; 4] = ["cpu.defines", "portage.locals", "stage3.defines", "stage4.defines"];
/// A folder that is such a unit itself.
const UNIT: &str = "portage.global";
/// The directory of unfinished files.
const STAGING: &str = ".gentoomuch-init";

/// Why a configuration directory cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// Something else has its name.
    #[error("`{}` is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A call on one of its files failed.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// What became of a file, or of a folder that is created as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Item {
    /// Below the configuration directory.
    pub path: PathBuf,
    pub status: Status,
}

/// The result for an [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It was created.
    Written,
    /// It existed with the same contents.
    Same,
    /// It existed with other contents, which were kept.
    Kept,
}

/// The result of [`init`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Initialised {
    pub dir: PathBuf,
    /// The facts about the machine.
    pub machine: Machine,
    /// The profile that the stage4s name, unless their definitions were there.
    pub profile: String,
    /// The key that was found; null if there is none, or if none was looked for, since the directory says which one signs.
    pub signing_key: Option<SigningKey>,
    /// Address of the host of binary packages that was asked for.
    pub binhost: Option<String>,
    /// Sorted by path.
    pub items: Vec<Item>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    executable: bool,
    contents: Vec<u8>,
}

/// Items by path: the files of each by their path in it, or one without a path if the item is a file.
type Plan = BTreeMap<PathBuf, BTreeMap<PathBuf, Planned>>;

/// Makes `dir` a configuration directory, or completes it. Overwrites nothing.
pub(crate) fn init(dir: &Path, machine: &Machine, choices: &Choices) -> Result<Initialised, InitError> {
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => return Err(InitError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
        // The user can open it to others later.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(PathError::of("create", dir))?;
        }
        Err(source) => return Err(PathError::new("examine", dir, source).into()),
    }
    // Two runs at the same time would remove each other's unfinished files.
    let lock = File::open(dir).map_err(PathError::of("open", dir))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(PathError::of("lock", dir))?;
    let mut items = Vec::new();
    let mut missing = Vec::new();
    for (path, files) in plan(machine, choices) {
        match fs::symlink_metadata(dir.join(&path)) {
            Ok(_) => {
                let status = if is_same(&dir.join(&path), &files) { Status::Same } else { Status::Kept };
                items.push(Item { path, status });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((path, files)),
            Err(source) => return Err(PathError::new("examine", dir.join(&path), source).into()),
        }
    }
    if !missing.is_empty() || dir.join(STAGING).exists() {
        items.extend(write(dir, &missing)?);
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Initialised {
        dir: dir.to_owned(),
        machine: machine.clone(),
        profile: choices.profile().to_owned(),
        signing_key: choices.signing_key.clone(),
        binhost: choices.binhost.clone(),
        items,
    })
}

/// The contents of a directory for `machine`.
fn plan(machine: &Machine, choices: &Choices) -> Plan {
    let mut plan = Plan::new();
    let mut add = |path: &Path, executable: bool, contents: Vec<u8>| {
        let unit = unit_of(path);
        let inside = path.strip_prefix(&unit).unwrap_or(Path::new("")).to_owned();
        plan.entry(unit).or_default().insert(inside, Planned { executable, contents });
    };
    for (path, executable, contents) in SHIPPED {
        add(Path::new(path), *executable, choices.adapt(Path::new(path), machine.adapt(Path::new(path), contents)));
    }
    for (path, text) in machine.files().into_iter().chain(choices.files()) {
        add(&path, false, text.into_bytes());
    }
    plan
}

/// The unit of a file: the shortest folder that has files of its own, or the file itself.
fn unit_of(path: &Path) -> PathBuf {
    let parts: Vec<&str> =
        path.components().filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None }).collect();
    match parts.as_slice() {
        [top, _, ..] if *top == UNIT => PathBuf::from(top),
        [top, rest @ ..] if OF_UNITS.contains(top) && rest.len() > 1 => {
            let has_files = |dir: &Path| SHIPPED.iter().any(|(file, ..)| Path::new(file).parent() == Some(dir));
            let all = (1..rest.len()).map(|length| Path::new(top).join(rest[..length].iter().collect::<PathBuf>()));
            let parent = path.parent().unwrap_or(path).to_owned();
            all.into_iter().find(|dir| has_files(dir)).unwrap_or(parent)
        }
        _ => path.to_owned(),
    }
}

/// Whether the contents of `path` are those that would be written.
fn is_same(path: &Path, files: &BTreeMap<PathBuf, Planned>) -> bool {
    files.iter().all(|(inside, planned)| {
        let file = if inside.as_os_str().is_empty() { path.to_owned() } else { path.join(inside) };
        fs::read(file).is_ok_and(|bytes| bytes == planned.contents)
    })
}

/// Creates each item under a hidden name, and renames it into place.
fn write(dir: &Path, items: &[(PathBuf, BTreeMap<PathBuf, Planned>)]) -> Result<Vec<Item>, InitError> {
    let staging = dir.join(STAGING);
    remove(&staging)?;
    let mut done = Vec::new();
    if !items.is_empty() {
        fs::create_dir(&staging).map_err(PathError::of("create", &staging))?;
        let result = items.iter().enumerate().try_for_each(|(number, (path, files))| {
            let status = place(dir, &staging.join(number.to_string()), path, files)?;
            done.push(Item { path: path.clone(), status });
            Ok(())
        });
        // Remove the unfinished item; the first error is the one to report.
        let removed = remove(&staging);
        result.and(removed)?;
        sync(dir)?;
    }
    Ok(done)
}

fn place(dir: &Path, new: &Path, path: &Path, files: &BTreeMap<PathBuf, Planned>) -> Result<Status, InitError> {
    for (inside, planned) in files {
        let file = if inside.as_os_str().is_empty() { new.to_owned() } else { new.join(inside) };
        if let Some(parent) = file.parent() {
            make_dirs(parent)?;
        }
        write_file(&file, planned)?;
    }
    let target = dir.join(path);
    if let Some(parent) = target.parent() {
        make_dirs(parent)?;
    }
    if new.is_dir() {
        durable::sync_tree(new)?;
    }
    match durable::publish_new(new, &target) {
        Ok(()) => Ok(Status::Written),
        // Somebody created it since we looked.
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(Status::Kept),
        Err(error) => Err(error.into()),
    }
}

fn write_file(path: &Path, planned: &Planned) -> Result<(), InitError> {
    let mode = if planned.executable { 0o755 } else { 0o644 };
    Ok(durable::replace(path, &planned.contents, Mode::AtMost(mode))?)
}

fn remove(path: &Path) -> Result<(), InitError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PathError::new("remove", path, error).into()),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), InitError> {
    Ok(durable::sync_dir(dir)?)
}

#[cfg(test)]
mod tests;
