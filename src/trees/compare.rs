//! `tree diff`: compares two snapshots package by package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::FileType;
use serde::Serialize;

use crate::beneath::{TreeDir, same_contents};
use crate::context;
use crate::context::Context;
use crate::portage::version;
use crate::store::Tree;
use crate::terminal_text::sanitize_line;
use crate::trees::contents::{Item, list};
use crate::trees::{Result, rows};

const LIMIT_BYTES: u64 = 16 << 20;
const LAYOUT: &str = "metadata/layout.conf";

/// The changes of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TreeChange {
    /// `category/package`.
    pub package: String,
    /// New versions, oldest first.
    pub added: Vec<String>,
    /// Versions that are gone.
    pub removed: Vec<String>,
    /// Versions whose ebuild has changed.
    pub changed: Vec<String>,
    /// Other files of the package differ: patches, Manifest, metadata.
    pub files: bool,
}

/// The differences between two snapshots.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TreeDifference {
    /// Id and revision.
    pub from: (String, String),
    /// Id and revision.
    pub to: (String, String),
    pub packages: Vec<TreeChange>,
    /// Eclasses that differ.
    pub eclasses: Vec<String>,
    /// Portage profiles with a file that differs, by the path below `profiles`.
    pub profiles: Vec<String>,
    /// New lines in `profiles/package.mask`.
    pub masked: Vec<String>,
    /// Lines that are gone from it.
    pub unmasked: Vec<String>,
    /// Names of new news items.
    pub news: Vec<String>,
    /// How many other files differ.
    pub others: u64,
}

impl TreeDifference {
    /// Whether both have the same contents.
    pub(crate) fn is_empty(&self) -> bool {
        let lists = [&self.eclasses, &self.profiles, &self.masked, &self.unmasked, &self.news];
        self.packages.is_empty() && self.others == 0 && lists.iter().all(|list| list.is_empty())
    }
}

pub(crate) fn compare_trees(cx: &Context<'_>, from: &str, to: &str) -> Result<TreeDifference> {
    let _shared = context::share_store(cx)?;
    let (from, to) = (rows::tree_named(cx, from)?.0, rows::tree_named(cx, to)?.0);
    let label = |tree: &Tree| (tree.id.to_string(), tree.meta.origin["rev"].as_str().unwrap_or_default().to_owned());
    let mut difference = compare(&from.path, &to.path)?;
    (difference.from, difference.to) = (label(&from), label(&to));
    Ok(difference)
}

/// The packages in which a newer snapshot of a tree differs. `None` if something differs that holds for all packages.
pub(crate) fn changed_packages(from: &Path, to: &Path) -> Result<Option<BTreeSet<String>>> {
    let TreeDifference { packages, eclasses, profiles, masked, unmasked, others, .. } = compare(from, to)?;
    let general = [&eclasses, &profiles, &masked, &unmasked].iter().any(|list| !list.is_empty()) || others > 0;
    let (from, to) = (TreeDir::open(from)?, TreeDir::open(to)?);
    let layout = |tree: &TreeDir| match tree.kind(Path::new(LAYOUT))? {
        Some(_) => tree.read(Path::new(LAYOUT), LIMIT_BYTES).map(Some),
        None => Ok(None),
    };
    if general || layout(&from)? != layout(&to)? {
        return Ok(None);
    }
    Ok(Some(packages.into_iter().map(|change| change.package).collect()))
}

fn files(tree: &TreeDir) -> Result<BTreeMap<PathBuf, Item>> {
    Ok(list(tree)?.into_iter().filter(|item| !item.is_dir()).map(|item| (item.path.clone(), item)).collect())
}

fn compare(from: &Path, to: &Path) -> Result<TreeDifference> {
    let (from, to) = (TreeDir::open(from)?, TreeDir::open(to)?);
    let (before, after) = (files(&from)?, files(&to)?);
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let differing: Vec<&PathBuf> = paths
        .into_par_iter()
        .filter_map(|path| match (before.get(path), after.get(path)) {
            (Some(old), Some(new)) => match same(&from, old, &to, new) {
                Ok(true) => None,
                Ok(false) => Some(Ok(path)),
                Err(error) => Some(Err(error)),
            },
            _ => Some(Ok(path)),
        })
        .collect::<Result<_>>()?;
    let mut difference = TreeDifference::default();
    let mut packages: BTreeMap<String, TreeChange> = BTreeMap::new();
    let mut profiles = BTreeSet::new();
    for path in differing {
        let words: Vec<String> = path.iter().map(|part| sanitize_line(part.as_encoded_bytes(), 200)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (old, new) = (before.contains_key(path), after.contains_key(path));
        match words[..] {
            ["metadata", "news", item, ..] => {
                if new && !old && !difference.news.iter().any(|known| known == item) {
                    difference.news.push(item.to_owned());
                }
            }
            // Files that are made from the others, and masks, which are compared line by line below.
            ["metadata" | "Manifest", ..] | ["Manifest.files.gz"] | ["profiles", "package.mask", ..] => {}
            ["eclass", file] => difference.eclasses.push(file.trim_end_matches(".eclass").to_owned()),
            ["profiles", ref within @ .., _] => {
                profiles.insert(if within.is_empty() { ".".to_owned() } else { within.join("/") });
            }
            [category, package, ref rest @ ..] if !rest.is_empty() && !matches!(category, "licenses" | "scripts" | "sets") => {
                let name = format!("{category}/{package}");
                let change = packages.entry(name.clone()).or_insert_with(|| TreeChange { package: name, ..TreeChange::default() });
                let version = match rest {
                    [file] => file.strip_suffix(".ebuild").and_then(|stem| stem.strip_prefix(package)?.strip_prefix('-')),
                    _ => None,
                };
                match (version, old, new) {
                    (Some(version), false, true) => change.added.push(version.to_owned()),
                    (Some(version), true, false) => change.removed.push(version.to_owned()),
                    (Some(version), ..) => change.changed.push(version.to_owned()),
                    (None, ..) => change.files = true,
                }
            }
            _ => difference.others += 1,
        }
    }
    for change in packages.values_mut() {
        for list in [&mut change.added, &mut change.removed, &mut change.changed] {
            list.sort_by(|a, b| version::compare(a, b));
        }
    }
    difference.packages = packages.into_values().collect();
    difference.profiles = profiles.into_iter().collect();
    let (old, new) = (masks(&from)?, masks(&to)?);
    difference.masked = new.difference(&old).cloned().collect();
    difference.unmasked = old.difference(&new).cloned().collect();
    Ok(difference)
}

fn same(from: &TreeDir, old: &Item, to: &TreeDir, new: &Item) -> Result<bool> {
    if old.kind() != new.kind() || old.stat.st_size != new.stat.st_size {
        return Ok(false);
    }
    if old.is_symlink() {
        return Ok(from.read_link(&old.path)? == to.read_link(&new.path)?);
    }
    if !old.is_file() {
        return Ok(true);
    }
    Ok(same_contents(&from.open_file(&old.path)?, &to.open_file(&new.path)?)?)
}

/// The atoms in `profiles/package.mask`, which may be a file or a directory of files.
fn masks(tree: &TreeDir) -> Result<BTreeSet<String>> {
    let path = Path::new("profiles/package.mask");
    let mut texts = Vec::new();
    let mut read = |path: &Path| match tree.read(path, LIMIT_BYTES) {
        Ok(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => tracing::debug!(%error, "no masks"),
    };
    if tree.kind(path)? == Some(FileType::Directory) {
        for entry in tree.open_dir(path)?.entries(10_000)? {
            read(&path.join(entry.os()));
        }
    } else {
        read(path);
    }
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| sanitize_line(line.as_bytes(), 200)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
    }

    #[test]
    fn two_trees_differ_in_packages_profiles_masks_and_news() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(
            old.path(),
            &[
                ("app-misc/a/a-1.ebuild", "1"),
                ("app-misc/a/a-9.ebuild", "9"),
                ("app-misc/gone/gone-1.ebuild", "1"),
                ("app-misc/same/same-1.ebuild", "1"),
                ("profiles/package.mask", "# why\n=app-misc/a-9\n"),
                ("profiles/default/use.mask", "x"),
                ("eclass/x.eclass", "1"),
                ("metadata/md5-cache/app-misc/a-1", "x"),
            ],
        );
        write(
            new.path(),
            &[
                ("app-misc/a/a-1.ebuild", "1 changed"),
                ("app-misc/a/a-10.ebuild", "10"),
                ("app-misc/a/a-9-r1.ebuild", "9"),
                ("app-misc/a/files/p.patch", "p"),
                ("app-misc/same/same-1.ebuild", "1"),
                ("profiles/package.mask/one", "app-misc/b\n"),
                ("profiles/default/use.mask", "y"),
                ("eclass/x.eclass", "2"),
                ("metadata/news/2026-01-01-x/2026-01-01-x.en.txt", "x"),
                ("header.txt", "x"),
            ],
        );
        let mut difference = compare(old.path(), new.path()).unwrap();
        difference.from = ("old".to_owned(), String::new());
        insta::assert_snapshot!(serde_json::to_string_pretty(&difference).unwrap());
        assert!(compare(old.path(), old.path()).unwrap().is_empty());
    }

    #[test]
    fn long_files_are_compared_to_their_ends() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&old, &new] {
            write(dir.path(), &[("app-misc/a/files/long", &"x".repeat(40 << 20))]);
        }
        assert!(compare(old.path(), new.path()).unwrap().is_empty());
        write(new.path(), &[("app-misc/a/files/long", &("x".repeat((40 << 20) - 1) + "y"))]);
        let difference = compare(old.path(), new.path()).unwrap();
        assert!(difference.packages.iter().any(|change| change.package == "app-misc/a" && change.files));
    }
}
