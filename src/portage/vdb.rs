//! The packages that a root has installed, from Portage's database (VDB) and world file.
//!
//! ```text
//! var/db/pkg/app-misc/hello-2.10/{SLOT,repository,USE,BUILD_TIME,SIZE,BUILD_ID,BINPKGMD5,CHOST,EAPI,…}
//! var/db/pkg/app-misc/-MERGING-hello-2.11/      an interrupted merge: not installed
//! var/lib/portage/{world,world_sets}
//! ```
//!
//! A root is given as one merged directory: to tell its contents from single layers we would need overlayfs's rules for whiteouts and
//! opaque directories, and the kernel knows these best. A session wrote the files, so they are read with limits, and links cannot lead
//! outside.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::cpv::Cpv;
use super::untrusted;
use crate::terminal_text::{sanitize_line, sanitize_uncut};

/// The database, below the root.
pub(crate) const VDB: &str = "var/db/pkg";

const MAX_VALUE_BYTES: u64 = 64 * 1024;
const MAX_CATEGORIES: usize = 2000;
const MAX_PER_CATEGORY: usize = 20_000;

/// The database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or directory of it.
    #[error("cannot read the package database of `{root}`")]
    Read {
        root: PathBuf,
        #[source]
        source: untrusted::Error,
    },
}

/// An installed package. Values are safe to print; missing ones are [`None`] or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Package {
    /// `category/name-version`.
    pub cpv: String,
    /// Slot, with sub-slot where there is one: `0/2`.
    pub slot: String,
    /// The ebuild repository that it came from.
    pub repo: String,
    /// USE flags that were on, sorted.
    #[serde(rename = "use")]
    pub use_flags: Vec<String>,
    /// When it was built, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_time: Option<i64>,
    /// Installed size, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The build number, if it was a binary package with `binpkg-multi-instance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<u64>,
    /// MD5 of the binary package that was merged or made, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binpkg_md5: Option<String>,
}

impl Package {
    /// `category/name`, without the version.
    pub(crate) fn name(&self) -> &str {
        Cpv::name_of(&self.cpv)
    }
}

/// The packages installed in the root directory `root`, sorted by `category/name-version`. A root without a database has none.
pub(crate) fn installed(root: &Path) -> Result<Vec<Package>, Error> {
    let failed = |source| Error::Read { root: root.to_owned(), source };
    installed_in(untrusted::open_root(root).map_err(failed)?.as_fd()).map_err(failed)
}

/// As [`installed`], for a root that is open already, such as a detached mount.
pub(crate) fn installed_in(root: BorrowedFd<'_>) -> untrusted::Result<Vec<Package>> {
    let mut packages = Vec::new();
    visit_all_in(root, &mut |package, _| packages.push(package))?;
    packages.sort_by(|a, b| a.cpv.cmp(&b.cpv));
    Ok(packages)
}

/// Calls `visit` for each installed version of the packages `names` (`category/name`), with its open database directory.
pub(crate) fn visit_in(
    root: BorrowedFd<'_>,
    names: &BTreeSet<String>,
    visit: &mut dyn FnMut(Package, BorrowedFd<'_>),
) -> untrusted::Result<()> {
    let categories: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    for category in categories {
        let opened = match untrusted::open_dir_in(root, &Path::new(VDB).join(category)) {
            Err(error) if error.is_absent() => continue,
            opened => opened?,
        };
        visit_category(opened.as_fd(), category, &|package| names.contains(package.name()), visit)?;
    }
    Ok(())
}

/// Calls `visit` for each installed package, with its open database directory.
pub(crate) fn visit_all_in(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Package, BorrowedFd<'_>)) -> untrusted::Result<()> {
    let vdb = match untrusted::open_dir_in(root, Path::new(VDB)) {
        Err(e) if e.is_absent() => return Ok(()),
        vdb => vdb?,
    };
    for (category, kind) in untrusted::entries(&vdb, Path::new(VDB), MAX_CATEGORIES)? {
        if kind != FileType::Directory || category.starts_with(['.', '-']) {
            continue;
        }
        let opened = untrusted::open_dir_in(vdb.as_fd(), Path::new(&category))?;
        visit_category(opened.as_fd(), &category, &|_| true, visit)?;
    }
    Ok(())
}

/// Calls `visit` for the packages of a category, open as `opened`; `wanted` is asked before any of their files are read.
fn visit_category(
    opened: BorrowedFd<'_>,
    category: &str,
    wanted: &dyn Fn(&Package) -> bool,
    visit: &mut dyn FnMut(Package, BorrowedFd<'_>),
) -> untrusted::Result<()> {
    for (pf, kind) in untrusted::entries(opened, &Path::new(VDB).join(category), MAX_PER_CATEGORY)? {
        let named = Package { cpv: format!("{category}/{pf}"), ..Package::default() };
        // `-MERGING-` names, and anything that is no package directory.
        if kind != FileType::Directory || pf.starts_with(['.', '-']) || !wanted(&named) {
            continue;
        }
        let entry = untrusted::open_dir_in(opened, Path::new(&pf))?;
        visit(read_package(entry.as_fd(), &named.cpv), entry.as_fd());
    }
    Ok(())
}

/// The contents of a file of a package, open as `entry`. `None` if it is missing or too long.
fn contents_of(entry: BorrowedFd<'_>, cpv: &str, name: &str) -> Option<Vec<u8>> {
    untrusted::read_in(entry, Path::new(name), MAX_VALUE_BYTES)
        .inspect_err(|error| {
            if !error.is_absent() {
                tracing::debug!(cpv, %error, "left out of the list of packages");
            }
        })
        .ok()
}

/// The contents of more files of a package, open as `entry`, by their names, as far as they are there. They are not cut off: half a
/// dependency could not be read.
pub(crate) fn values(entry: BorrowedFd<'_>, cpv: &str, names: &[&str]) -> BTreeMap<String, String> {
    let value = |name: &&str| {
        let text = sanitize_uncut(&contents_of(entry, cpv, name)?).split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then(|| ((*name).to_owned(), text))
    };
    names.iter().filter_map(value).collect()
}

fn read_package(entry: BorrowedFd<'_>, cpv: &str) -> Package {
    let value = |name: &str| {
        let text = sanitize_line(&contents_of(entry, cpv, name)?, 16 * 1024);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let mut use_flags: Vec<String> = value("USE").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    use_flags.sort();
    use_flags.dedup();
    Package {
        cpv: sanitize_line(cpv.as_bytes(), 300),
        slot: value("SLOT").unwrap_or_default(),
        repo: value("repository").unwrap_or_default(),
        use_flags,
        build_time: value("BUILD_TIME").and_then(|v| v.parse().ok()),
        size_bytes: value("SIZE").and_then(|v| v.parse().ok()),
        build_id: value("BUILD_ID").and_then(|v| v.parse().ok()),
        binpkg_md5: value("BINPKGMD5"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        let files = [
            ("app-misc/hello-2.10/SLOT", "0\n"),
            ("app-misc/hello-2.10/repository", "testbed\n"),
            ("app-misc/hello-2.10/USE", "nls elibc_glibc amd64 nls\n"),
            ("app-misc/hello-2.10/BUILD_TIME", "1700000000\n"),
            ("app-misc/hello-2.10/SIZE", "123456\n"),
            ("app-misc/hello-2.10/BUILD_ID", "3\n"),
            ("app-misc/hello-2.10/BINPKGMD5", "d41d8cd98f00b204e9800998ecf8427e\n"),
            ("app-misc/-MERGING-other-1/SLOT", "0\n"),
            ("sys-devel/gcc-14.3.0-r1/SLOT", "14\n"),
            ("sys-libs/glibc-2.41_p5/SIZE", "many\n"),
        ];
        for (path, contents) in files {
            let path = dir.path().join(VDB).join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, contents).expect("write");
        }
        dir
    }

    #[test]
    fn lists_what_is_installed() {
        let dir = root();
        let packages = installed(dir.path()).expect("installed");
        assert_eq!(
            packages.iter().map(|p| p.cpv.as_str()).collect::<Vec<_>>(),
            ["app-misc/hello-2.10", "sys-devel/gcc-14.3.0-r1", "sys-libs/glibc-2.41_p5"]
        );
        let hello = Package {
            cpv: "app-misc/hello-2.10".to_owned(),
            slot: "0".to_owned(),
            repo: "testbed".to_owned(),
            use_flags: ["amd64", "elibc_glibc", "nls"].map(str::to_owned).to_vec(),
            build_time: Some(1_700_000_000),
            size_bytes: Some(123_456),
            build_id: Some(3),
            binpkg_md5: Some("d41d8cd98f00b204e9800998ecf8427e".to_owned()),
        };
        assert_eq!(packages[0], hello);
        assert_eq!(packages[2].size_bytes, None);
        let json = serde_json::to_string(&packages).expect("json");
        assert_eq!(serde_json::from_str::<Vec<Package>>(&json).expect("json"), packages);
    }

    #[test]
    fn dependencies_are_read_whole_and_on_one_line() {
        let dir = root();
        let hello = dir.path().join(VDB).join("app-misc/hello-2.10");
        let long = "a/b ".repeat(5000);
        std::fs::write(hello.join("RDEPEND"), format!("{long}\n\x1b[2Jc/d\n")).expect("write");
        let opened = untrusted::open_dir_in(untrusted::open_root(&hello).expect("open").as_fd(), Path::new(".")).expect("open");
        let values = values(opened.as_fd(), "app-misc/hello-2.10", &["RDEPEND", "EAPI", "SLOT"]);
        assert_eq!(values.keys().collect::<Vec<_>>(), ["RDEPEND", "SLOT"]);
        assert_eq!(values["RDEPEND"], format!("{long}c/d"));
    }

    #[test]
    fn packages_are_found_by_their_names() {
        let dir = root();
        let opened = untrusted::open_root(dir.path()).expect("open");
        let names = ["app-misc/hello", "app-misc/hell", "no-such/category", "nonsense"].map(str::to_owned).into();
        let mut found = Vec::new();
        visit_in(opened.as_fd(), &names, &mut |package, entry| {
            let slot = untrusted::read_in(entry, Path::new("SLOT"), 10).expect("slot");
            found.push((package.cpv, slot));
        })
        .expect("visit");
        assert_eq!(found, [("app-misc/hello-2.10".to_owned(), b"0\n".to_vec())]);
    }

    #[test]
    fn hostile_entries_are_tamed() {
        let dir = root();
        let hello = dir.path().join(VDB).join("app-misc/hello-2.10");
        std::fs::remove_file(hello.join("SLOT")).expect("rm");
        symlink("/etc/passwd", hello.join("SLOT")).expect("symlink");
        std::fs::write(hello.join("repository"), "\x1b]0;owned\x07evil\n").expect("write");
        std::fs::write(hello.join("USE"), vec![b'x'; 70 * 1024]).expect("write");
        symlink("/", dir.path().join(VDB).join("escape")).expect("symlink");
        let packages = installed(dir.path()).expect("installed");
        assert_eq!((packages[0].slot.as_str(), packages[0].repo.as_str(), packages[0].use_flags.len()), ("", "evil", 0));
        assert_eq!(packages.len(), 3);
    }

    #[test]
    fn names_without_versions() {
        for (cpv, name) in [
            ("app-misc/hello-2.10", "app-misc/hello"),
            ("dev-libs/gtk+-3.24.50-r2", "dev-libs/gtk+"),
            ("media-fonts/font-100dpi-1.0.4", "media-fonts/font-100dpi"),
            ("sys-libs/db-5.3.28_p1_pre2-r9", "sys-libs/db"),
            ("app-x/y-2z-3b", "app-x/y-2z"),
            ("virtual/odd", "virtual/odd"),
        ] {
            assert_eq!(Package { cpv: cpv.to_owned(), ..Package::default() }.name(), name);
        }
    }

    #[test]
    fn a_root_without_a_database() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(installed(dir.path()).expect("empty"), []);
        let error = installed(Path::new("/nonexistent/root")).expect_err("no root");
        assert_eq!(error.to_string(), "cannot read the package database of `/nonexistent/root`");
    }
}
