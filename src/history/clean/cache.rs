//! Unused binary packages and source archives, by eclean's rules applied to many roots.
//!
//! eclean-pkg keeps packages that are in the tree or installed, eclean-dist archives that an ebuild of the tree names. Here the tree is
//! every tree snapshot that is kept, and the root every build state that is kept, earlier ones included. A binary package is removed if
//! no such state has it installed, and
//!
//! - its pool belongs to no such state: CHOST, toolchain or flags have changed (if nothing of the pool is installed, the whole pool is
//!   removed); or
//! - no such tree has its version any more; or
//! - a younger build of the same version with the same USE flags is in its pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rayon::prelude::*;

use crate::beneath::{RootDir, TreeDir};
use crate::context::Context;
use crate::fetch::{BY_CONTENT, INCOMING};
use crate::history::Result;
use crate::history::clean::files::list;
use crate::history::clean::survey::{Found, Survey};
use crate::history::clean::{CleanItem, CleanKind, FileUse, Thing};
use crate::portage::binpkgs::unused::{Build, PoolDir};
use crate::portage::binpkgs::{PackageKey, pool_key, unused};
use crate::portage::cpv::Cpv;
use crate::portage::vdb::Package;
use crate::{beneath, context, inventory};

/// More names in a directory of a tree are refused.
const NAMES_LIMIT: usize = 100_000;
const MANIFEST_LIMIT_BYTES: u64 = 64 << 20;
/// A limit for a mirror's directory that is used in place.
const NOT_A_DISTFILE: &str = "layout.conf";

/// A file of a pool, with its size.
pub(crate) fn files_of(pool: &Path) -> Result<Vec<(Build, FileUse)>> {
    let mut found = Vec::new();
    for build in unused::builds(pool)? {
        // Another process removed it.
        if let Ok(meta) = fs::symlink_metadata(pool.join(&build.package.path)) {
            found.push((build, FileUse::of(&meta)));
        }
    }
    Ok(found)
}

pub(crate) fn unused_binpkgs(cx: &Context<'_>, survey: &Survey, found: &Found, notes: &mut Vec<String>) -> Result<Vec<CleanItem>> {
    let trees: Vec<RootDir> =
        survey.kept_trees(found).iter().map(|tree| RootDir::open(&tree.path)).collect::<beneath::Result<_>>()?;
    let reached = reached_pools(survey, found);
    let waits = survey.is_something_suspended();
    let mut items = Vec::new();
    let mut suspects = Vec::new();
    let mut unreached = Vec::new();
    let mut spared = 0;
    for pool in unused::pools(&cx.places.binpkgs())? {
        let builds = files_of(&pool.path)?;
        if !reached.contains(&pool.key) {
            if waits {
                spared += 1;
            } else {
                unreached.push((pool, builds));
            }
            continue;
        }
        let superseded = superseded(&builds);
        for (at, (build, file)) in builds.into_iter().enumerate() {
            let why = if !trees.is_empty() && !trees.iter().any(|tree| is_in(tree, &build.package.cpv)) {
                "no longer in the tree, and not installed in any state"
            } else if superseded.contains(&at) {
                "there is a newer build with the same USE, and no state has this one installed"
            } else {
                continue;
            };
            suspects.push((pool.clone(), build, file, why));
        }
    }
    if spared > 0 {
        notes.push("packages without a build state stay while a session is suspended: it may need them".to_owned());
    }
    let asks = !suspects.is_empty() || unreached.iter().any(|(_, builds)| !builds.is_empty());
    let installed = if asks { installed(cx, survey, found)? } else { Installed::default() };
    for (pool, builds) in unreached {
        if builds.iter().any(|(build, _)| installed.last_use(build).is_some()) {
            let why = "no build state uses its pool, and no state has it installed";
            suspects.extend(builds.into_iter().map(|(build, file)| (pool.clone(), build, file, why)));
        } else {
            items.push(pool_item(&pool, &builds));
        }
    }
    for (pool, build, file, why) in suspects {
        if installed.last_use(&build).is_some() {
            continue;
        }
        let thing = Thing::Build { pool: pool.path.clone(), path: build.package.path.clone(), file };
        let path = pool.path.join(&build.package.path);
        let name = build_name(&pool, &build);
        items.push(CleanItem { kind: CleanKind::Binpkgs, name, path, bytes: 0, why: why.to_owned(), thing });
    }
    Ok(items)
}

/// The builds that are installed in a kept state, and when such a state was last used.
pub(crate) fn installed(cx: &Context<'_>, survey: &Survey, found: &Found) -> Result<Installed> {
    let mut all = Installed::default();
    for state in found.kept.iter().filter_map(|id| survey.states.get(id)) {
        context::not_interrupted(cx)?;
        all.note_keys(state.origin.package_keys().into_values(), survey.last_used(&state.id));
        let inventory = inventory::inventory(cx, state)?;
        let packages: Vec<Package> = serde_json::from_value(inventory)
            .map_err(|source| crate::store::Error::Answer { task: crate::inventory::INVENTORY, source })?;
        for package in packages {
            all.note(package, survey.last_used(&state.id));
        }
    }
    Ok(all)
}

pub(crate) fn unused_distfiles(
    cx: &Context<'_>,
    survey: &Survey,
    found: &Found,
    notes: &mut Vec<String>,
) -> Result<Vec<CleanItem>> {
    let trees = survey.kept_trees(found);
    if trees.is_empty() {
        notes.push("there is no tree snapshot to tell which distfiles are needed: all stay".to_owned());
        return Ok(Vec::new());
    }
    let mut named = BTreeSet::new();
    for tree in trees {
        named.extend(distfiles_of(&tree.path)?);
    }
    let mut items = Vec::new();
    for (name, path, file) in list_distfiles(&cx.places.distfiles())? {
        let why = if name.contains("._checksum_failure_.") {
            "a download that does not match its Manifest"
        } else if !named.contains(&name) && !named.contains(listed_as(&name)) {
            "not in the Manifests of the trees that stay"
        } else {
            continue;
        };
        let thing = Thing::Files(vec![(path.clone(), file)]);
        items.push(CleanItem { kind: CleanKind::Distfiles, name, path, bytes: 0, why: why.to_owned(), thing });
    }
    Ok(items)
}

/// The plain files in the distfiles directory, incomplete ones and those named by their digest included. Lock files and directories
/// (`git3-src/`) belong to ebuilds and are left alone.
pub(crate) fn list_distfiles(dir: &Path) -> Result<Vec<(String, std::path::PathBuf, FileUse)>> {
    let is_ours = |name: &str| !name.starts_with('.') && name != NOT_A_DISTFILE && !name.ends_with(".portage_lockfile");
    let named = |path: std::path::PathBuf, meta: &fs::Metadata| {
        let name = path.file_name()?.to_str().filter(|_| meta.is_file())?.to_owned();
        Some((name, path, FileUse::of(meta)))
    };
    let mut found: Vec<_> = list(dir)?.into_iter().filter_map(|(path, meta)| named(path, &meta)).collect();
    found.retain(|(name, ..)| is_ours(name));
    for below in [BY_CONTENT, INCOMING].map(|name| dir.join(name)) {
        if fs::symlink_metadata(&below).is_ok_and(|meta| meta.is_dir()) {
            for (directory, _) in list(&below)?.into_iter().filter(|(_, meta)| meta.is_dir()) {
                found.extend(list(&directory)?.into_iter().filter_map(|(path, meta)| named(path, &meta)));
            }
        }
    }
    Ok(found)
}

/// The Manifest's name for a file in the distfiles directory.
fn listed_as(name: &str) -> &str {
    let endings = [".__download__", ".part", ".part.json"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Installed builds, each with the time when it was last used, seconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    md5s: BTreeMap<String, i64>,
    /// Looked up by pool first, since each pool numbers its builds by itself.
    keys: BTreeMap<PackageKey, i64>,
    /// Without a build number any build of the version may be the one.
    numbers: BTreeMap<(String, Option<u64>), i64>,
}

impl Installed {
    fn note_keys(&mut self, keys: impl Iterator<Item = PackageKey>, used: i64) {
        for key in keys {
            let entry = self.keys.entry(key).or_default();
            *entry = (*entry).max(used);
        }
    }

    fn note(&mut self, package: Package, used: i64) {
        let later = |entry: &mut i64| *entry = (*entry).max(used);
        if let Some(md5) = package.binpkg_md5 {
            later(self.md5s.entry(md5).or_default());
        }
        later(self.numbers.entry((package.cpv, package.build_id)).or_default());
    }

    /// When a state with the build was last used; `None` if no state has it.
    pub(crate) fn last_use(&self, build: &Build) -> Option<i64> {
        let numbered = |number| self.numbers.get(&(build.package.cpv.clone(), number));
        let md5 = build.md5.as_ref().and_then(|md5| self.md5s.get(md5));
        let key = build.key.as_ref().and_then(|key| self.keys.get(key));
        md5.into_iter().chain(key).chain(numbered(build.package.build_id)).chain(numbered(None)).max().copied()
    }
}

fn pool_item(pool: &PoolDir, builds: &[(Build, FileUse)]) -> CleanItem {
    let packages = if builds.len() == 1 { "1 package".to_owned() } else { format!("{} packages", builds.len()) };
    CleanItem {
        kind: CleanKind::Binpkgs,
        name: format!("{}{}, {packages}", if pool.throwaway { "throwaway/" } else { "" }, pool.key),
        path: pool.path.clone(),
        bytes: 0,
        why: "no build state uses this pool".to_owned(),
        thing: Thing::Pool(builds.iter().map(|(_, file)| *file).collect()),
    }
}

/// A package, and as much of its pool's name as tells that from others.
pub(crate) fn build_name(pool: &PoolDir, build: &Build) -> String {
    let end = pool.key.rsplit('-').next().unwrap_or(&pool.key);
    format!("{} in {}…{end}", build.package.path, if pool.throwaway { "throwaway/" } else { "" })
}

/// Keys of the pools that kept states were built with.
fn reached_pools(survey: &Survey, found: &Found) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for state in found.kept.iter().filter_map(|id| survey.states.get(id)) {
        keys.extend(state.origin.pools().iter().map(|inputs| pool_key(inputs).to_string()));
    }
    keys
}

/// Positions of builds for which there is a younger one of the same version, slot, USE flags and package key.
fn superseded(builds: &[(Build, FileUse)]) -> BTreeSet<usize> {
    let mut newest: BTreeMap<(&str, &str, &str, Option<&PackageKey>), usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (at, (build, _)) in builds.iter().enumerate() {
        let (Some(flags), Some(slot)) = (&build.use_flags, &build.slot) else { continue };
        let age = |at: usize| (builds[at].0.built, builds[at].0.package.build_id);
        match newest.entry((&build.package.cpv, slot, flags, build.key.as_ref())) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(at)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let (old, new) = if age(*entry.get()) < age(at) { (*entry.get(), at) } else { (at, *entry.get()) };
                entry.insert(new);
                found.insert(old);
            }
        }
    }
    found
}

/// Whether a tree has this version.
fn is_in(tree: &RootDir, cpv: &str) -> bool {
    let Some(Cpv { category, package, version, .. }) = Cpv::parse(cpv) else { return true };
    let there = |path: String| matches!(tree.leads_to(path), Ok(Some(_)));
    there(format!("{category}/{package}/{package}-{version}.ebuild"))
        || there(format!("metadata/md5-cache/{category}/{package}-{version}"))
}

/// The source archives in the Manifests of a tree. Links are not followed: Portage's trees have none.
fn distfiles_of(tree: &Path) -> Result<BTreeSet<String>> {
    let subdirectories = |dir: &TreeDir| -> beneath::Result<Vec<TreeDir>> {
        let entries = dir.entries(NAMES_LIMIT)?;
        entries.iter().filter(|entry| entry.is_dir()).map(|entry| dir.open_dir(entry.os())).collect()
    };
    let read = |category: &TreeDir| -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for entry in category.entries(NAMES_LIMIT)?.iter().filter(|entry| entry.is_dir()) {
            match category.open_dir(entry.os())?.read("Manifest", MANIFEST_LIMIT_BYTES) {
                Ok(text) => named.extend(manifest_names(&String::from_utf8_lossy(&text))),
                Err(error) if error.is_no_such_file() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(named)
    };
    let categories = subdirectories(&TreeDir::open(tree)?)?;
    let all: Vec<BTreeSet<String>> = categories.par_iter().map(read).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

fn manifest_names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| line.strip_prefix("DIST ")?.split_whitespace().next().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::binpkgs::PackageFile;

    fn build(path: &str, flags: Option<&str>, built: i64) -> (Build, FileUse) {
        let package = PackageFile::parse(path).unwrap();
        let slot = flags.map(|_| "0".to_owned());
        (Build { package, use_flags: flags.map(str::to_owned), slot, key: None, md5: None, built }, FileUse::default())
    }

    #[test]
    fn only_a_younger_build_with_the_same_flags_takes_another_ones_place() {
        let builds = [
            build("a/b/b-1-1.gpkg.tar", Some("x"), 1),
            build("a/b/b-1-2.gpkg.tar", Some("x"), 2),
            build("a/b/b-1-3.gpkg.tar", Some("x y"), 3),
            build("a/b/b-1-4.gpkg.tar", None, 4),
            build("a/b/b-2-1.gpkg.tar", Some("x"), 5),
            build("a/b/b-1-5.gpkg.tar", Some("x"), 1),
        ];
        assert_eq!(superseded(&builds), BTreeSet::from([0, 5]));
    }

    #[test]
    fn what_was_made_from_something_else_takes_nobodys_place() {
        let keyed = |path: &str, digit: &str, built| {
            let (build, file) = build(path, Some("x"), built);
            (Build { key: PackageKey::parse(&digit.repeat(32)), ..build }, file)
        };
        let builds =
            [keyed("a/b/b-1-1.gpkg.tar", "1", 1), keyed("a/b/b-1-2.gpkg.tar", "2", 2), keyed("a/b/b-1-3.gpkg.tar", "1", 3)];
        assert_eq!(superseded(&builds), BTreeSet::from([0]));
    }

    #[test]
    fn what_is_installed_is_known_by_any_of_four() {
        let mut installed = Installed::default();
        let package = |cpv: &str, build_id, md5: Option<&str>| Package {
            cpv: cpv.to_owned(),
            build_id,
            binpkg_md5: md5.map(str::to_owned),
            ..Package::default()
        };
        installed.note(package("x/z-1", Some(7), Some("ab")), 1);
        installed.note(package("a/b-1", Some(2), None), 2);
        installed.note(package("a/b-1", Some(2), None), 1);
        installed.note(package("a/c-1", None, None), 3);
        let with_md5 = |md5: &str| Build { md5: Some(md5.to_owned()), ..build("x/y/y-1-1.gpkg.tar", None, 1).0 };
        let use_of = |path: &str| installed.last_use(&build(path, None, 1).0);
        assert_eq!((installed.last_use(&with_md5("ab")), installed.last_use(&with_md5("cd"))), (Some(1), None));
        assert_eq!((use_of("a/b/b-1-2.gpkg.tar"), use_of("a/b/b-1-3.gpkg.tar")), (Some(2), None));
        assert_eq!(use_of("a/c/c-1-9.gpkg.tar"), Some(3));
        let key = |digit: &str| PackageKey::parse(&digit.repeat(32)).unwrap();
        installed.note_keys([key("1")].into_iter(), 4);
        let with_key = |digit: &str| Build { key: Some(key(digit)), ..build("x/y/y-1-1.gpkg.tar", None, 1).0 };
        assert_eq!((installed.last_use(&with_key("1")), installed.last_use(&with_key("2"))), (Some(4), None));
    }

    #[test]
    fn distfiles_are_also_those_by_content_and_those_on_their_way() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "a.tar",
            "layout.conf",
            ".hidden",
            "by-content/ab/b.tar",
            "by-content/x",
            ".incoming/cd/c.tar.part",
            "git3-src/d/e",
            "other/f",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let found = list_distfiles(dir.path()).unwrap();
        let names: Vec<(&str, &str)> = found.iter().map(|(name, ..)| (name.as_str(), listed_as(name))).collect();
        assert_eq!(names, [("a.tar", "a.tar"), ("b.tar", "b.tar"), ("c.tar.part", "c.tar")]);
        for name in ["by-content", ".incoming"] {
            fs::remove_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name), "a file").unwrap();
        }
        assert_eq!(list_distfiles(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn manifests_are_read_inside_of_their_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let packages = ["a/b", "a/c", "a/d"].map(|name| tree.join(name));
        for package in &packages {
            fs::create_dir_all(package).unwrap();
        }
        fs::write(packages[0].join("Manifest"), "DIST own.tar 1\n").unwrap();
        fs::write(dir.path().join("Manifest"), "DIST outside.tar 1\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("Manifest"), packages[1].join("Manifest")).unwrap();
        std::os::unix::fs::symlink(dir.path(), tree.join("outside")).unwrap();
        assert_eq!(distfiles_of(&tree).unwrap(), BTreeSet::from(["own.tar".to_owned()]));
        // What follows would never end.
        std::os::unix::fs::symlink("/dev/zero", packages[2].join("Manifest")).unwrap();
        assert_eq!(distfiles_of(&tree).unwrap(), BTreeSet::from(["own.tar".to_owned()]));
        fs::remove_file(packages[2].join("Manifest")).unwrap();
        fs::File::create(packages[2].join("Manifest")).unwrap().set_len(4 << 40).unwrap();
        let expected = format!("`{}/a/d/Manifest` has more than 67108864 bytes", tree.display());
        assert_eq!(distfiles_of(&tree).unwrap_err().to_string(), expected);
    }

    #[test]
    fn manifests_name_distfiles() {
        let text = "AUX x.patch 1 SHA512 ab\nDIST a-1.tar.xz 12 BLAKE2B ab SHA512 cd\nDIST b%20c.zip 3\n-----BEGIN PGP\n";
        assert_eq!(manifest_names(text).collect::<Vec<_>>(), ["a-1.tar.xz", "b%20c.zip"]);
    }
}
