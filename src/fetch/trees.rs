//! The session's ebuild trees: which source archives their Manifests list, and what their ebuilds say about them.
//!
//! Usually we know the packages of a run and read their Manifests one by one. Only if a session asks for a file that none of them lists,
//! we read all Manifests, once. With as many as Gentoo has (19,000, with 120,000 archives) that took 1.3 s on two cores, and 6 MB of
//! memory afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use md5::{Digest as _, Md5};
use rayon::prelude::*;

use super::{Error, Metadata, Result, Tree};
use crate::beneath::RootDir;
use crate::portage::cpv::{Cpv, split_pf};
use crate::portage::manifest::{Expected, source_archives};
use crate::portage::version::compare;

/// Gentoo's longest Manifest has half a megabyte.
const MANIFEST_LIMIT_BYTES: u64 = 16 << 20;
const FILE_LIMIT_BYTES: u64 = 4 << 20;
/// No directory of a tree has more names.
const MAX_NAMES: usize = 100_000;
/// Directories of a tree that are not categories.
const NO_CATEGORIES: [&str; 5] = ["eclass", "licenses", "metadata", "profiles", "scripts"];

#[derive(Debug)]
pub(super) struct Trees {
    trees: Vec<(String, RootDir)>,
    index: OnceLock<Index>,
}

/// A package's directory, with its Manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    tree: usize,
    /// `category/name`.
    path: Box<str>,
}

/// Which package lists which archive: sorted names, each with the index of a package.
#[derive(Debug, Default)]
struct Index {
    names: Vec<(Box<str>, u32)>,
    packages: Vec<Package>,
}

impl Trees {
    pub(super) fn open(trees: &[Tree]) -> Result<Self> {
        let open = |tree: &Tree| {
            let root = RootDir::open(&tree.dir).map_err(|source| Error::Tree { name: tree.name.clone(), source })?;
            Ok((tree.name.clone(), root))
        };
        Ok(Self { trees: trees.iter().map(open).collect::<Result<_>>()?, index: OnceLock::new() })
    }

    /// The package and the `name-version` of `category/name-version` in the tree called `repository`.
    pub(super) fn package<'a>(&self, cpv: &'a str, repository: &str) -> Option<(Package, &'a str)> {
        let tree = self.trees.iter().position(|(name, _)| name == repository)?;
        let cpv = Cpv::parse(cpv)?;
        Some((Package { tree, path: cpv.name().into() }, cpv.pf()))
    }

    pub(super) fn repository(&self, package: &Package) -> &str {
        &self.trees[package.tree].0
    }

    /// `category/name-version`.
    pub(super) fn cpv(package: &Package, pf: &str) -> String {
        let category = package.path.split('/').next().unwrap_or_default();
        format!("{category}/{pf}")
    }

    /// The archives that a package's Manifest lists. Empty if it has no readable Manifest.
    pub(super) fn archives(&self, package: &Package) -> BTreeMap<String, Expected> {
        let text = self.text(package.tree, &format!("{}/Manifest", package.path), MANIFEST_LIMIT_BYTES).unwrap_or_default();
        source_archives(&text).map(|(name, expected)| (name.to_owned(), expected)).collect()
    }

    /// The packages that list an archive of this name, with size and hashes. The first call reads all Manifests.
    pub(super) fn listed(&self, name: &str) -> Vec<(Package, Expected)> {
        let index = self.index.get_or_init(|| self.read_all());
        let first = index.names.partition_point(|(known, _)| **known < *name);
        let same = index.names[first..].iter().take_while(|(known, _)| **known == *name);
        let package = |at: u32| index.packages[usize::try_from(at).unwrap_or(usize::MAX)].clone();
        same.filter_map(|(_, at)| {
            let package = package(*at);
            let expected = self.archives(&package).remove(name)?;
            Some((package, expected))
        })
        .collect()
    }

    fn read_all(&self) -> Index {
        let mut packages = Vec::new();
        for (tree, (_, root)) in self.trees.iter().enumerate() {
            let directories = |path: &str| -> Vec<String> {
                let entries = root.open_dir(path).and_then(|dir| dir.entries(MAX_NAMES)).unwrap_or_default();
                entries.iter().filter(|entry| entry.is_dir()).filter_map(|entry| entry.text().map(str::to_owned)).collect()
            };
            let is_category = |name: &String| !name.starts_with('.') && !NO_CATEGORIES.contains(&name.as_str());
            for category in directories("").into_iter().filter(is_category) {
                let names = directories(&category).into_iter();
                packages.extend(names.map(|name| Package { tree, path: format!("{category}/{name}").into() }));
            }
        }
        let names = |(at, package): (usize, &Package)| -> Vec<(Box<str>, u32)> {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.archives(package).into_keys().map(|name| (name.into_boxed_str(), at)).collect()
        };
        let mut names: Vec<_> = match crate::threads::pool() {
            Ok(()) => packages.par_iter().enumerate().flat_map_iter(names).collect(),
            Err(_) => packages.iter().enumerate().flat_map(names).collect(),
        };
        names.sort_unstable();
        names.shrink_to_fit();
        Index { names, packages }
    }

    /// Ebuilds of a package as `name-version`, the highest version first.
    pub(super) fn ebuilds(&self, package: &Package) -> Vec<String> {
        let (_, root) = &self.trees[package.tree];
        let entries = root.open_dir(&*package.path).and_then(|dir| dir.entries(MAX_NAMES)).unwrap_or_default();
        let pf = |name: &str| name.strip_suffix(".ebuild").filter(|pf| split_pf(pf).is_some()).map(str::to_owned);
        let mut found: Vec<String> = entries.iter().filter_map(|entry| pf(entry.text()?)).collect();
        let version = |pf: &str| split_pf(pf).map_or(String::new(), |(_, version)| version.to_owned());
        found.sort_by(|a, b| compare(&version(b), &version(a)));
        found
    }

    /// The metadata cache's entry for an ebuild. `None` if it has none, or one of an older version of the file.
    pub(super) fn metadata(&self, package: &Package, pf: &str) -> Option<Metadata> {
        let (category, _) = package.path.split_once('/')?;
        let text = self.text(package.tree, &format!("metadata/md5-cache/{category}/{pf}"), FILE_LIMIT_BYTES)?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let ebuild = self.trees[package.tree].1.read(format!("{}/{pf}.ebuild", package.path), FILE_LIMIT_BYTES).ok()?;
        if value("_md5_").is_some_and(|md5| md5 != hex::encode(Md5::digest(&ebuild))) {
            return None;
        }
        Some(Metadata {
            cpv: Self::cpv(package, pf),
            repository: self.repository(package).to_owned(),
            src_uri: value("SRC_URI").unwrap_or_default().to_owned(),
            restrict: value("RESTRICT").unwrap_or_default().to_owned(),
        })
    }

    /// What `mirror://NAME/` stands for, from `profiles/thirdpartymirrors` of all trees, in their order (`config.py`,
    /// `thirdpartymirrors`).
    pub(super) fn third_party_mirrors(&self) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for tree in 0..self.trees.len() {
            let text = self.text(tree, "profiles/thirdpartymirrors", FILE_LIMIT_BYTES).unwrap_or_default();
            for (name, words) in dictionary(&text) {
                let known: &mut Vec<String> = found.entry(name).or_default();
                for word in words {
                    match word.strip_prefix('-') {
                        Some("*") => known.clear(),
                        Some(gone) => known.retain(|word| word != gone),
                        None if known.contains(&word) => {}
                        None => known.push(word),
                    }
                }
            }
        }
        found
    }

    fn text(&self, tree: usize, path: &str, limit_bytes: u64) -> Option<String> {
        let (name, root) = &self.trees[tree];
        match root.read(Path::new(path), limit_bytes) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                if !error.is_no_such_file() {
                    tracing::warn!(tree = name, %error, "not read");
                }
                None
            }
        }
    }
}

/// Lines of a name and words. This is how Portage reads `thirdpartymirrors` and `etc/portage/mirrors` (`grabdict`).
pub fn dictionary(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#')).map(str::to_owned);
        if let (Some(name), Some(first)) = (words.next(), words.next()) {
            found.entry(name).or_default().extend(std::iter::once(first).chain(words));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fixture::TreeDir;

    #[test]
    fn archives_are_found_by_package_and_by_name() {
        let tree = TreeDir::new("gentoo");
        tree.write("a/b/Manifest", "DIST b-1.tar 3 SHA512 AA\nDIST shared 1 SHA512 bb\nDIST weak 1 MD5 cc\n");
        tree.write("c/d/Manifest", "DIST shared 2 SHA512 dd\n");
        tree.write("profiles/x/Manifest", "DIST hidden 2 SHA512 dd\n");
        let trees = Trees::open(&[tree.tree()]).unwrap();
        let (package, pf) = trees.package("a/b-1-r2", "gentoo").unwrap();
        assert_eq!(
            (pf, trees.archives(&package).keys().map(String::as_str).collect::<Vec<_>>()),
            ("b-1-r2", vec!["b-1.tar", "shared"])
        );
        let sizes = |name: &str| trees.listed(name).iter().map(|(at, found)| (at.path.to_string(), found.size)).collect::<Vec<_>>();
        assert_eq!(sizes("shared"), [("a/b".to_owned(), 1), ("c/d".to_owned(), 2)]);
        assert_eq!([sizes("weak"), sizes("hidden"), sizes("b"), sizes("")], [const { Vec::new() }; 4]);
        assert_eq!((trees.package("a/b", "gentoo"), trees.package("a/b-1", "other")), (None, None));
    }

    #[test]
    fn a_tree_cannot_make_us_read_elsewhere_or_for_ever() {
        let tree = TreeDir::new("gentoo");
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("Manifest"), "DIST secret 1 SHA512 aa\n").unwrap();
        tree.write("a/zero/x", "");
        tree.write("a/fifo/x", "");
        std::os::unix::fs::symlink(outside.path(), tree.path().join("a/out")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", tree.path().join("a/zero/Manifest")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.path().join("a/fifo/Manifest"), rustix::fs::Mode::RWXU).unwrap();
        std::fs::File::create(tree.path().join("a/Manifest")).unwrap().set_len(1 << 40).unwrap();
        tree.write("c/d/Manifest", "DIST known 2 SHA512 dd\n");
        let trees = Trees::open(&[tree.tree()]).unwrap();
        assert_eq!((trees.listed("secret").len(), trees.listed("known").len()), (0, 1));
        for cpv in ["a/out-1", "a/zero-1", "a/fifo-1"] {
            let (package, _) = trees.package(cpv, "gentoo").unwrap();
            assert!(trees.archives(&package).is_empty(), "{cpv}");
        }
    }

    #[test]
    fn metadata_of_another_ebuild_do_not_count() {
        let tree = TreeDir::new("gentoo");
        tree.write("a/b/b-1.ebuild", "EAPI=8\n");
        tree.write("a/b/b-10.ebuild", "");
        tree.write("a/b/b-9_rc1.ebuild", "");
        tree.write("metadata/md5-cache/a/b-1", "SRC_URI=http://h/x\nRESTRICT=mirror\n_md5_=6e5cf9e6bd6bd2d7a0d8b6d4b3b4ed9d\n");
        tree.write("metadata/md5-cache/a/b-10", "SLOT=0\n");
        let trees = Trees::open(&[tree.tree()]).unwrap();
        let (package, _) = trees.package("a/b-1", "gentoo").unwrap();
        assert_eq!(trees.ebuilds(&package), ["b-10", "b-9_rc1", "b-1"]);
        assert_eq!(trees.metadata(&package, "b-1"), None);
        assert_eq!(trees.metadata(&package, "b-10").unwrap().src_uri, "");
        let md5 = hex::encode(Md5::digest(b"EAPI=8\n"));
        tree.write("metadata/md5-cache/a/b-1", &format!("SRC_URI=http://h/x\nRESTRICT=mirror\n_md5_={md5}\n"));
        let found = trees.metadata(&package, "b-1").unwrap();
        assert_eq!((found.src_uri.as_str(), found.restrict.as_str(), found.cpv.as_str()), ("http://h/x", "mirror", "a/b-1"));
    }

    #[test]
    fn mirrors_of_all_trees_are_united() {
        let (one, two) = (TreeDir::new("one"), TreeDir::new("two"));
        one.write("profiles/thirdpartymirrors", "# of GNU\ngnu http://a http://b\nkde http://k # later http://l\nempty\n");
        two.write("profiles/thirdpartymirrors", "gnu -http://a http://c http://b\nkde -* http://m\n");
        let found = Trees::open(&[one.tree(), two.tree()]).unwrap().third_party_mirrors();
        assert_eq!(found["gnu"], ["http://b", "http://c"]);
        assert_eq!(found["kde"], ["http://m"]);
        assert_eq!(found.len(), 2);
    }
}
