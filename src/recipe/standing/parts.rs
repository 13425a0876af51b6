//! Splits a merged configuration into what holds for all packages and what holds for one.
//!
//! ```text
//! package.use and its relatives     a line with an atom of one package   a line with `*` in it: for all
//! patches/CATEGORY/PACKAGE…         that package
//! savedconfig/[HOST/]CATEGORY/…     that package
//! env/FILE                          the packages of the lines of package.env that name it; for all if a bashrc may read it
//! everything else                   for all
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr as _;

use sha2::{Digest as _, Sha256};

use crate::config::PortageDir;
use crate::config::patches::{PATCHES_DIR, Scope};
use crate::portage::atom::Atom;
use crate::portage::cpv::split_pf;
use crate::portage::package_files::LineFile;
use crate::portage::use_flags::Switch;

pub(crate) use crate::origin::Parts;

/// The field of a state's origin.
const NOTED: &str = "parts";

/// By `category/name`: a digest of what is said about the package now. Empty if nothing is said any more.
pub(crate) type Changes = BTreeMap<String, String>;

#[derive(Default)]
struct Hashes {
    general: Sha256,
    packages: BTreeMap<String, Sha256>,
}

impl Hashes {
    /// Adds to what is said about `packages`. If there are none, adds to what holds for all.
    fn add(&mut self, packages: &BTreeSet<String>, fields: &[&[u8]]) {
        let add = |hash: &mut Sha256| {
            // With its length, so that fields cannot be confused with each other.
            for field in fields {
                hash.update((field.len() as u64).to_le_bytes());
                hash.update(field);
            }
        };
        if packages.is_empty() {
            add(&mut self.general);
        }
        for package in packages {
            add(self.packages.entry(package.clone()).or_default());
        }
    }
}

impl Parts {
    pub(crate) fn of(portage: &PortageDir) -> Self {
        let mut hashes = Hashes::default();
        let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut for_all: BTreeSet<String> = BTreeSet::new();
        for kind in LineFile::ALL {
            for entry in portage.entries(kind) {
                let package = one_package(entry.atom);
                if kind == LineFile::Env {
                    for word in entry.words() {
                        let (Switch::On(file) | Switch::Off(file) | Switch::Clear(file)) = word.switch;
                        match package.clone() {
                            Some(package) => drop(readers.entry(file.clone()).or_default().insert(package)),
                            None => drop(for_all.insert(file.clone())),
                        }
                    }
                }
                let line = entry.to_string();
                hashes.add(&package.into_iter().collect(), &[kind.file_name().as_bytes(), line.as_bytes()]);
            }
        }
        let has_bashrc = portage.files.keys().any(|path| path.iter().any(|part| part.to_string_lossy().contains("bashrc")));
        for (path, bytes) in &portage.files {
            let packages = match path.iter().next().and_then(OsStr::to_str) {
                // Its lines were added above.
                Some(name) if LineFile::named(name).is_some() => continue,
                Some(PATCHES_DIR) => patched(path),
                Some("savedconfig") => configured(path),
                Some("env") if !has_bashrc => read_by(path, &readers, &for_all),
                _ => BTreeSet::new(),
            };
            let mode = portage.modes.get(path).copied().unwrap_or(0o644).to_le_bytes();
            hashes.add(&packages, &[path.as_os_str().as_encoded_bytes(), &mode, bytes]);
        }
        let packages = hashes.packages.into_iter().map(|(name, hash)| (name, hex::encode(hash.finalize()))).collect();
        Self { general: hex::encode(hashes.general.finalize()), packages }
    }

    /// Notes the parts in a state's origin: see [`Origin::parts`](crate::origin::Origin::parts).
    pub(crate) fn note(&self, origin: &mut serde_json::Value) {
        origin[NOTED] = serde_json::json!(self);
    }

    /// The packages about which something else is said than in `before`. `None` if something else holds for all packages.
    pub(crate) fn changes_since(&self, before: &Self) -> Option<Changes> {
        if self.general != before.general {
            return None;
        }
        let names: BTreeSet<&String> = self.packages.keys().chain(before.packages.keys()).collect();
        let differ = names.into_iter().filter(|name| self.packages.get(*name) != before.packages.get(*name));
        Some(differ.map(|name| (name.clone(), self.packages.get(name).cloned().unwrap_or_default())).collect())
    }
}

/// The package that an atom means. `None` if it can mean several.
fn one_package(atom: &str) -> Option<String> {
    let atom = Atom::from_str(atom).ok()?;
    (!atom.is_wildcard()).then(|| atom.name())
}

fn words(path: &Path) -> Vec<&str> {
    path.iter().map(|part| part.to_str().unwrap_or_default()).collect()
}

/// `patches/CATEGORY/PACKAGE[-VERSION][:SLOT]/FILE`
fn patched(path: &Path) -> BTreeSet<String> {
    let package = match words(path)[..] {
        [_, category, directory, _, ..] => Scope::from_str(directory).ok().map(|scope| format!("{category}/{}", scope.package)),
        _ => None,
    };
    package.into_iter().collect()
}

/// `savedconfig/[CTARGET/|CHOST/]CATEGORY/{PACKAGE,PACKAGE-VERSION}[/FILE…]` (`savedconfig.eclass`). Sometimes we cannot tell whether the
/// first part is a host or a category. Then the file counts for both readings.
fn configured(path: &Path) -> BTreeSet<String> {
    let name = |category: &str, package: &str| {
        let package = split_pf(package).map_or(package, |(name, _)| name);
        format!("{category}/{package}")
    };
    match words(path)[..] {
        [_, category, package] => BTreeSet::from([name(category, package)]),
        [_, first, second, third, ..] => BTreeSet::from([name(first, second), name(second, third)]),
        _ => BTreeSet::new(),
    }
}

/// `env/FILE`, or a file of a directory of that name.
fn read_by(path: &Path, readers: &BTreeMap<String, BTreeSet<String>>, for_all: &BTreeSet<String>) -> BTreeSet<String> {
    let within = path.strip_prefix("env").unwrap_or(path);
    let names_it = |file: &String| within.starts_with(file);
    if for_all.iter().any(names_it) {
        return BTreeSet::new();
    }
    readers.iter().filter(|(file, _)| names_it(file)).flat_map(|(_, packages)| packages.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::ConfigDir;
    use crate::origin::Recorded;

    fn parts(files: &[(&str, &str)]) -> Parts {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("stage3.defines/plain/portage.local", "here\n");
        write("portage.global/make.conf", "USE=\"a\"\n");
        write("portage.locals/here/package.use", "*/* b\napp-misc/one c\n");
        for (path, text) in files {
            write(path, text);
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        Parts::of(&config.portage_dir(&config.stage3("plain").unwrap()).unwrap())
    }

    #[test]
    fn what_is_said_about_one_package_concerns_that_package() {
        let before = parts(&[]);
        let here = |file: &str| format!("portage.locals/here/{file}");
        let of = |files: &[(&str, &str)]| {
            parts(files).changes_since(&before).map(|changes| changes.into_keys().collect::<Vec<_>>().join(" "))
        };
        let [use_file, mask, env, high, savedconfig, hosts, bashrc] = [
            "package.use",
            "package.mask",
            "package.env",
            "env/high",
            "savedconfig/app-misc/two-1",
            "savedconfig/x86_64-pc-linux-gnu/app-misc/two/part",
            "bashrc",
        ]
        .map(here);
        assert_eq!(of(&[]).as_deref(), Some(""));
        assert_eq!(
            of(&[(&use_file, "*/* b\napp-misc/one c -d\n>=app-misc/two-1:0 e\n")]).as_deref(),
            Some("app-misc/one app-misc/two")
        );
        assert_eq!(of(&[(&use_file, "*/* b\n")]).as_deref(), Some("app-misc/one"), "a line that goes");
        assert_eq!(of(&[(&mask, "app-misc/two\n")]).as_deref(), Some("app-misc/two"));
        assert_eq!(of(&[("user.patches/p/app-misc/two-1-r0/x.patch", "x")]).as_deref(), Some("app-misc/two"));
        assert_eq!(of(&[(&savedconfig, "X=1\n")]).as_deref(), Some("app-misc/two"));
        let both = of(&[(&hosts, "X=1\n")]).unwrap_or_default();
        assert!(both.contains("app-misc/two"), "{both}");
        assert_eq!(of(&[(&env, "app-misc/two high\n"), (&high, "CFLAGS=\"-O3\"\n")]).as_deref(), Some("app-misc/two"));
        for general in [
            &[("portage.global/make.conf", "USE=\"z\"\n")][..],
            &[(&use_file, "*/* b z\napp-misc/one c\n")],
            &[(&bashrc, "X=1\n")],
            &[(&env, "*/* high\napp-misc/two high\n"), (&high, "CFLAGS=\"-O3\"\n")],
        ] {
            assert_eq!(of(general), None, "{general:?}");
        }
    }

    #[test]
    fn a_file_that_a_bashrc_may_read_holds_for_all() {
        let with = |text: &str| {
            let (env, high, bashrc) =
                ("portage.locals/here/package.env", "portage.locals/here/env/high", "portage.locals/here/bashrc");
            parts(&[(env, "app-misc/two high\n"), (high, text), (bashrc, "source /etc/portage/env/high\n")])
        };
        assert_eq!(with("X=1\n").changes_since(&with("X=2\n")), None);
    }

    #[test]
    fn what_is_noted_is_read_back() {
        let before = parts(&[]);
        let mut origin = serde_json::json!({ "kind": "stage3 definition" });
        assert_eq!(Recorded::from(origin.clone()).parts(), None);
        before.note(&mut origin);
        assert_eq!(Recorded::from(origin).parts(), Some(&before));
    }
}
