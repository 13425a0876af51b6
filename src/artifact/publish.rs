//! Publishes files that belong together.
//!
//! ```text
//! 1  remove the old metadata                        sync the directory
//! 2  remove old files that the new version lacks    sync the directory
//! 3  name the new files                             sync the directory
//! 4  move the new metadata out of where they were   sync the directory
//!    made, to a hidden name
//! 5  remove the place where all were made           sync the directory
//! 6  name the new metadata                          sync the directory
//! ```
//!
//! Metadata list all files with their digests. With this order, whoever finds metadata finds the listed files and nothing unfinished beside
//! them, at whichever step the process is killed, the disk fails or the power goes. No step overwrites a file: a name is only given if it is
//! free.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::artifact::{Error, Result, staging_of};
use crate::durable;
use crate::path_error::OfFile as _;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Removes a name. A directory is first renamed to `aside`, since deleting it takes many steps.
    Remove { path: PathBuf, aside: PathBuf },
    /// Syncs the entries of a directory.
    Sync(PathBuf),
    /// Gives a free name.
    Name { from: PathBuf, to: PathBuf },
    /// Removes a directory with all in it.
    Clear(PathBuf),
}

/// Files that are published together.
#[derive(Debug)]
pub(crate) struct Set<'a> {
    pub(crate) dir: &'a Path,
    /// Where the new files are: complete, synced, in the same file system. It is gone in the end.
    pub(crate) staging: &'a Path,
    /// Names of the new files.
    pub(crate) files: &'a [String],
    /// Names in `dir` to remove.
    pub(crate) gone: &'a [String],
    /// Name of the metadata.
    pub(crate) metadata: &'a str,
}

impl Set<'_> {
    pub(crate) fn plan(&self) -> Vec<Step> {
        let remove =
            |name: &String| Step::Remove { path: self.dir.join(name), aside: self.staging.join(format!("{name}.replaced")) };
        let give = |name: &String| Step::Name { from: self.staging.join(name), to: self.dir.join(name) };
        let metadata = |name: &&String| *name == self.metadata;
        let others = |name: &&String| *name != self.metadata;
        let late = staging_of(self.dir, self.metadata);
        let last: [Vec<Step>; 3] = match self.files.iter().find(metadata) {
            Some(name) => [
                vec![Step::Name { from: self.staging.join(name), to: late.clone() }],
                vec![Step::Clear(self.staging.to_owned())],
                vec![Step::Name { from: late, to: self.dir.join(name) }],
            ],
            None => Default::default(),
        };
        let groups = [
            self.gone.iter().filter(metadata).map(remove).collect(),
            self.gone.iter().filter(others).map(remove).collect(),
            self.files.iter().filter(others).map(give).collect(),
        ]
        .into_iter()
        .chain(last);
        let sync = || Step::Sync(self.dir.to_owned());
        groups.filter(|steps: &Vec<Step>| !steps.is_empty()).flat_map(|steps| steps.into_iter().chain([sync()])).collect()
    }
}

pub(crate) fn run(steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(Step::run)
}

impl Step {
    fn run(&self) -> Result<()> {
        match self {
            Self::Remove { path, aside } => {
                let removed = match fs::symlink_metadata(path) {
                    // A half-removed image would still look like one.
                    Ok(meta) if meta.is_dir() => fs::rename(path, aside),
                    Ok(_) => fs::remove_file(path),
                    Err(error) => Err(error),
                };
                removed.or_else(none_is_fine).map_err(Error::io("remove", path))
            }
            Self::Sync(dir) => Ok(durable::sync_dir(dir)?),
            Self::Name { from, to } => name(from, to),
            Self::Clear(dir) => fs::remove_dir_all(dir).map_err(Error::io("remove", dir)),
        }
    }
}

fn none_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn name(from: &Path, to: &Path) -> Result<()> {
    let named = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems do not know the flag. By now we have removed what we replace, so the check with `stat` only has to notice
        // others.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(_) => fs::rename(from, to),
        },
        other => other.map_err(io::Error::from),
    };
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::ArtifactExists { path: to.to_owned() }),
        named => named.map_err(Error::io("rename", from)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// File names below a directory, with their contents.
    type Tree = BTreeMap<String, String>;

    const NAME: &str = "a.tar.xz";

    fn write(dir: &Path, tree: &Tree) {
        for (name, contents) in tree {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
    }

    fn read(dir: &Path) -> Tree {
        let mut tree = Tree::new();
        let mut waiting = vec![dir.to_owned()];
        while let Some(next) = waiting.pop() {
            for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() && !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                    waiting.push(path);
                } else if path.is_file() {
                    let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                    tree.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        tree
    }

    /// An artifact of which each file says whose it is, the metadata all of them.
    fn artifact(whose: &str, names: &[&str]) -> Tree {
        let mut tree: Tree = names.iter().map(|suffix| (format!("{NAME}{suffix}"), whose.to_owned())).collect();
        let all = tree.iter().map(|(name, contents)| format!("{name}={contents}")).collect::<Vec<_>>().join("\n");
        tree.insert(format!("{NAME}.json"), all);
        tree
    }

    /// Whoever finds metadata finds what they name, and nothing else: nothing unfinished either.
    fn is_sound(tree: &Tree) -> bool {
        let json = format!("{NAME}.json");
        let Some(named) = tree.get(&json) else { return true };
        let others: Vec<String> = tree.iter().filter(|(name, _)| **name != json).map(|(n, c)| format!("{n}={c}")).collect();
        others.join("\n") == *named
    }

    /// The first name of each file: an image's directory is one.
    fn tops(tree: &Tree) -> Vec<String> {
        let mut names: Vec<String> = tree.keys().map(|name| name.split('/').next().unwrap().to_owned()).collect();
        names.dedup();
        names
    }

    fn steps_in(dir: &Path, new: &Tree) -> Vec<Step> {
        let staging = dir.join(".new");
        let (files, gone, metadata) = (tops(new), tops(&read(dir)), format!("{NAME}.json"));
        Set { dir, staging: &staging, files: &files, gone: &gone, metadata: &metadata }.plan()
    }

    fn cases() -> Vec<(Tree, Tree)> {
        let archive = ["", ".CONTENTS.gz", ".DIGESTS", ".asc", ".sha256"];
        let unsigned = ["", ".CONTENTS.gz", ".DIGESTS", ".sha256"];
        let image = ["/index.json", "/blobs/1", ".DIGESTS", ".asc", ".sha256"];
        vec![
            (Tree::new(), artifact("new", &archive)),
            (artifact("old", &archive), artifact("new", &archive)),
            (artifact("old", &archive), artifact("new", &unsigned)),
            (artifact("old", &unsigned), artifact("new", &archive)),
            (artifact("old", &image), artifact("new", &image)),
            (artifact("old", &image), artifact("new", &unsigned)),
        ]
    }

    /// Runs `done` where `old` is there and `new` is to be published; then a second run that is not cut off.
    fn cut(old: &Tree, new: &Tree, done: impl Fn(&[Step])) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), old);
        write(&dir.path().join(".new"), new);
        done(&steps_in(dir.path(), new));
        let left = read(dir.path());
        assert!(is_sound(&left), "{left:#?}");
        let staging = dir.path().join(".new");
        assert!(!(left.get(&format!("{NAME}.json")) == new.get(&format!("{NAME}.json")) && staging.exists()), "it stays for ever");
        if staging.exists() {
            fs::remove_dir_all(staging).unwrap();
        }
        durable::remove_if_there(&staging_of(dir.path(), &format!("{NAME}.json"))).unwrap();
        write(&dir.path().join(".new"), new);
        run(&steps_in(dir.path(), new)).unwrap();
        assert_eq!(read(dir.path()), *new);
    }

    #[test]
    fn metadata_are_right_at_whichever_step_a_process_is_killed() {
        for (old, new) in cases() {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &old);
            let count = steps_in(dir.path(), &new).len();
            for at in 0..=count {
                cut(&old, &new, |steps| run(&steps[..at]).unwrap());
            }
        }
    }

    /// Of what was not synced the disk may have any part, in any order.
    #[test]
    fn metadata_are_right_whatever_of_it_was_on_the_disk_when_the_power_went() {
        for (old, new) in cases() {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &old);
            let steps = steps_in(dir.path(), &new);
            let syncs: Vec<usize> =
                steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Sync(_))).map(|(at, _)| at).collect();
            let mut begin = 0;
            for end in syncs {
                for which in 0..1_u32 << (end - begin) {
                    cut(&old, &new, |steps| {
                        run(&steps[..begin]).unwrap();
                        let some = steps[begin..end].iter().enumerate().filter(|(bit, _)| which >> bit & 1 == 1);
                        some.for_each(|(_, step)| step.run().unwrap());
                    });
                }
                begin = end + 1;
            }
            assert_eq!(begin, steps.len(), "all of it is on the disk at the end");
        }
    }

    #[test]
    fn a_step_that_fails_ends_it_and_names_the_file() {
        for (old, new) in cases() {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &old);
            for at in 0..steps_in(dir.path(), &new).len() {
                cut(&old, &new, |steps| {
                    // What a step before it makes is not there yet.
                    let Step::Name { from, .. } = &steps[at] else { return };
                    if !from.exists() {
                        return;
                    }
                    fs::rename(from, from.with_extension("hidden")).unwrap();
                    let error = run(steps).unwrap_err();
                    assert_eq!(error.to_string(), format!("cannot rename `{}`", from.display()));
                });
            }
        }
    }

    #[test]
    fn what_has_a_name_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("new"), "new").unwrap();
        fs::write(at("old"), "old").unwrap();
        let error = Step::Name { from: at("new"), to: at("old") }.run().unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` already exists", at("old").display()));
        assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
        assert_eq!(fs::read_to_string(at("new")).unwrap(), "new");
    }
}
