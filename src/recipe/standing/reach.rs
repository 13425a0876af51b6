//! Which packages a state has and which ones it could get: what Portage looks at when it resolves the same request with the same trees.
//!
//! ```text
//! installed      the packages of the state, and what their dependencies name, as Portage has decided them (VDB)
//! not installed  but named: another member of `|| ( … )`, or needed to build what came as a binary package. All that all its
//!                versions name, whatever the flags (metadata cache), and so on
//! installed      newer versions in the same way: Portage takes the next version if one needs what is masked or
//!                not there (`_emerge/depgraph.py`, "missing dependency"), and this one once that can be had
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::context;
use crate::context::Context;
use crate::merged_view;
use crate::portage::cpv::Cpv;
use crate::portage::repository::{Ebuild, Repository};
use crate::portage::{untrusted, vdb, version};
use crate::recipe::Result;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::store::State;
use crate::trees::choose::PinnedTree;

/// Name of the task that lists the packages of a root and what they need. It takes a [`NeedsInput`] and returns [`Needs`].
const NEEDS: &str = "recipe.needs";
const KEYS: [&str; 5] = ["DEPEND", "RDEPEND", "BDEPEND", "PDEPEND", "IDEPEND"];
/// Portage writes no longer ones. The file may be hostile.
const MAX_BYTES: u64 = 1 << 20;
/// Gentoo has fewer packages, and they name fewer.
const MAX_NAMES: usize = 100_000;
const MAX_ALL_BYTES: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct NeedsInput {
    lower: Vec<PathBuf>,
}

type Installed = BTreeMap<String, BTreeSet<There>>;

/// An installed version of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct There {
    version: String,
    /// Without the sub-slot.
    slot: String,
    repository: String,
}

impl There {
    fn of(package: &vdb::Package) -> Self {
        let version = package.cpv.get(package.name().len() + 1..).unwrap_or_default().to_owned();
        Self { version, slot: main_slot(&package.slot).to_owned(), repository: package.repo.clone() }
    }

    fn compare(&self, ebuild: &Ebuild) -> Ordering {
        version::compare(&self.version, &ebuild.version.version)
    }
}

/// Whether an ebuild is newer than the installed versions of its package. If it can be installed, Portage prefers it.
fn is_newer(ebuild: &Ebuild, tree: &Repository, installed: &BTreeSet<There>) -> bool {
    let slot = ebuild.metadata.get("SLOT").map(|slot| main_slot(slot));
    let is_there = |one: &There| one.compare(ebuild).is_eq() && one.repository == tree.name;
    let is_behind = |one: &There| one.compare(ebuild).is_gt() && slot.is_some_and(|slot| slot == one.slot);
    let is_oldest = installed.iter().all(|one| one.compare(ebuild).is_gt());
    installed.is_empty() || !(is_oldest || installed.iter().any(|one| is_there(one) || is_behind(one)))
}

fn main_slot(slot: &str) -> &str {
    slot.split_once('/').map_or(slot, |(main, _)| main)
}

/// What a root has. Packages are `category/name`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Needs {
    installed: Installed,
    named: BTreeSet<String>,
    /// Packages whose dependencies cannot be read.
    unread: BTreeSet<String>,
}

impl Needs {
    /// Packages could have changed the database. What the session had or was going to build was noted outside before anything ran.
    fn add_noted(&mut self, noted: impl Iterator<Item = String>, changed: &BTreeSet<&str>) {
        for name in noted {
            if changed.contains(name.as_str()) {
                self.installed.entry(name).or_default();
            } else if !self.installed.contains_key(&name) {
                self.named.insert(name);
            }
        }
    }
}

pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == NEEDS).then_some(run)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: NeedsInput = context.input_as()?;
    let Some(root) = merged_view::mount(&input.lower)? else { return Ok(serde_json::json!(Needs::default())) };
    let needs = read(root.as_fd()).map_err(|error| TaskFailure::of("vdb", &error))?;
    serde_json::to_value(needs).map_err(|error| TaskFailure::of("vdb", &error))
}

fn read(root: BorrowedFd<'_>) -> untrusted::Result<Needs> {
    let (mut needs, mut left_bytes) = (Needs::default(), MAX_ALL_BYTES);
    vdb::visit_all_in(root, &mut |package, entry| {
        for key in KEYS {
            match untrusted::read_in(entry, Path::new(key), MAX_BYTES.min(left_bytes as u64)) {
                Ok(bytes) if needs.named.len() < MAX_NAMES => {
                    left_bytes -= bytes.len();
                    needs.named.extend(names(&String::from_utf8_lossy(&bytes)));
                }
                Err(error) if error.is_absent() => {}
                Ok(_) | Err(_) => drop(needs.unread.insert(package.name().to_owned())),
            }
        }
        needs.installed.entry(package.name().to_owned()).or_default().insert(There::of(&package));
    })?;
    Ok(needs)
}

/// The packages that a dependency string names, with blockers and all alternatives, whatever the flags are.
fn names(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().filter(|word| word.contains('/')).map(|word| {
        let atom = word.trim_start_matches(['!', '<', '>', '=', '~']);
        let has_version = atom.len() < word.trim_start_matches('!').len();
        let atom = atom.split(['[', ':']).next().unwrap_or_default().trim_end_matches('*');
        if has_version { Cpv::name_of(atom).to_owned() } else { atom.to_owned() }
    })
}

/// Why `state` is no longer what it would be, now that something else is said about the packages `changed`. Empty if it still is.
/// `asked_for` are the atoms that it was made for.
pub(crate) fn concerned(
    cx: &Context<'_>,
    state: &State,
    changed: &BTreeSet<&str>,
    asked_for: &[String],
    trees: &[PinnedTree],
) -> Result<Vec<String>> {
    let input = NeedsInput { lower: cx.store.lower_dirs(state) };
    let options = TaskOptions { mounts: true, ..TaskOptions::default() };
    let answer = context::task(cx, NEEDS, &input, options, &mut |_| {})?;
    let mut needs: Needs = serde_json::from_value(answer).map_err(|source| crate::store::Error::Answer { task: NEEDS, source })?;
    let noted = state
        .origin
        .package_keys()
        .into_keys()
        .map(|package| package.split_once("::").map_or("", |(cpv, _)| Cpv::name_of(cpv)).to_owned());
    needs.add_noted(noted, changed);
    let within: Vec<String> =
        changed.iter().filter(|name| needs.installed.contains_key(**name)).map(|name| format!("{name} is in it")).collect();
    if !within.is_empty() {
        return Ok(within);
    }
    if let Some(unread) = needs.unread.first() {
        return Ok(vec![format!("cannot read the dependencies of {unread}")]);
    }
    let read = trees.iter().map(|tree| Repository::read(&tree.name, &tree.path));
    let repositories: Vec<Repository> = read.collect::<std::result::Result<_, _>>()?;
    let named = needs.named.into_iter().chain(asked_for.iter().flat_map(|atom| names(atom).collect::<Vec<_>>())).collect();
    let found = reach(named, &needs.installed, changed, &repositories, &|| Ok(context::not_interrupted(cx)?))?;
    Ok(match found {
        Reach::Nothing => Vec::new(),
        Reach::Could(name) => vec![format!("{name} could become part of it")],
        Reach::Unknown(name) => vec![format!("the dependencies of {name} are not known: its tree has no metadata for it")],
    })
}

/// Whether a changed package can be reached.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Nothing,
    Could(String),
    Unknown(String),
}

/// Whether one of `changed` can be reached from `named`.
fn reach(
    named: BTreeSet<String>,
    installed: &Installed,
    changed: &BTreeSet<&str>,
    trees: &[Repository],
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Reach> {
    // Installed packages count even if nothing names them, such as those of @system.
    let mut seen: BTreeSet<String> = installed.keys().cloned().chain(named).collect();
    let mut open: Vec<String> = seen.iter().cloned().collect();
    let none = BTreeSet::new();
    let mut unknown = None;
    while let Some(name) = open.pop() {
        go_on()?;
        if changed.contains(name.as_str()) {
            return Ok(Reach::Could(name));
        }
        // What the installed version needs is in `named` already, as Portage had decided it.
        match needs_of(&name, installed.get(&name).unwrap_or(&none), trees) {
            Some(more) => open.extend(more.into_iter().filter(|name| seen.insert(name.clone()))),
            None => unknown = Some(name),
        }
    }
    Ok(unknown.map_or(Reach::Nothing, Reach::Unknown))
}

/// Everything that versions of a package name that are newer than the installed ones. `None` if the cache does not tell for one of them.
fn needs_of(name: &str, installed: &BTreeSet<There>, trees: &[Repository]) -> Option<BTreeSet<String>> {
    let (category, package) = name.split_once('/')?;
    let mut found = BTreeSet::new();
    for tree in trees {
        for ebuild in tree.ebuilds(category, package).ok()? {
            if !is_newer(&ebuild, tree, installed) {
                continue;
            }
            let of: &BTreeMap<String, String> = &ebuild.metadata;
            let file = format!("{category}/{package}/{package}-{}.ebuild", ebuild.version.version);
            let text = tree.text(file).ok()??;
            if *of.get("_md5_")? != hex::encode(Md5::digest(text)) {
                return None;
            }
            found.extend(KEYS.iter().filter_map(|key| of.get(*key)).flat_map(|text| names(text)));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_package_of_a_dependency_string_is_named() {
        let text = "a/b >=a/c-1.2-r1:0/3=[x,-y?] || ( a/d ( ~a/e-2 !!<a/f-3 ) ) x? ( =a/g-1* ) a/h-i:= ^^ ( a/b )";
        assert_eq!(names(text).collect::<Vec<_>>(), ["a/b", "a/c", "a/d", "a/e", "a/f", "a/g", "a/h-i", "a/b"]);
    }

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(ebuilds: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (cpv, depends) in ebuilds {
                let ebuild = format!("# {cpv}\n");
                let md5 = hex::encode(Md5::digest(&ebuild));
                tree.write(&format!("{}/{}.ebuild", Cpv::name_of(cpv), cpv.split_once('/').unwrap().1), &ebuild);
                tree.write(&format!("metadata/md5-cache/{cpv}"), &format!("RDEPEND={depends}\nSLOT=0/1\n_md5_={md5}\n"));
            }
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn reach(&self, installed: &[&str], named: &[&str], changed: &str) -> Reach {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
            let tree = Repository::read("gentoo", self.0.path()).unwrap();
            let installed = installed.iter().map(|cpv| there(cpv)).fold(Installed::new(), |mut all, (name, version)| {
                all.entry(name).or_default().insert(version);
                all
            });
            reach(set(named), &installed, &BTreeSet::from([changed]), &[tree], &|| Ok(())).unwrap()
        }
    }

    /// `category/name-version:slot`, from the tree.
    fn there(text: &str) -> (String, There) {
        let (cpv, slot) = text.split_once(':').unwrap_or((text, "0"));
        let package =
            vdb::Package { cpv: cpv.to_owned(), slot: slot.to_owned(), repo: "gentoo".to_owned(), ..vdb::Package::default() };
        (package.name().to_owned(), There::of(&package))
    }

    #[test]
    fn what_could_come_is_what_anything_names_that_is_not_installed() {
        let tree = Tree::new(&[
            ("a/here-1", "a/behind"),
            ("a/other-1", "x? ( a/far )"),
            ("a/other-2", "a/elsewhere"),
            ("a/far-1", "a/other"),
        ]);
        let installed = ["a/here-1"];
        let named = ["a/here", "a/other"];
        assert_eq!(tree.reach(&installed, &named, "a/far"), Reach::Could("a/far".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/other"), Reach::Could("a/other".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/elsewhere"), Reach::Could("a/elsewhere".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/behind"), Reach::Nothing, "it was decided otherwise");
        assert_eq!(tree.reach(&installed, &["a/here"], "a/far"), Reach::Nothing);
    }

    #[test]
    fn a_newer_version_of_what_is_installed_could_come() {
        let tree = Tree::new(&[
            ("a/here-1", "a/for-older"),
            ("a/here-2", "a/for-this"),
            ("a/here-3", "a/between"),
            ("a/between-1", "a/for-newer"),
            ("a/slotted-1", "a/for-old-slot"),
            ("a/slotted-3", "a/for-slot"),
        ]);
        // Of an older one nobody asks, with or without a cache.
        tree.write("a/slotted/slotted-0.ebuild", "# no cache\n");
        let installed = ["a/here-2:0/5", "a/slotted-2:2"];
        let could = |name: &str| Reach::Could(name.to_owned());
        // Nothing names it: it is in a set.
        for name in ["a/for-newer", "a/between", "a/for-slot"] {
            assert_eq!(tree.reach(&installed, &[], name), could(name));
        }
        for name in ["a/for-this", "a/for-older", "a/for-old-slot"] {
            assert_eq!(tree.reach(&installed, &[], name), Reach::Nothing, "{name}");
        }
        assert_eq!(tree.reach(&["a/here-3", "a/slotted-3"], &[], "a/between"), Reach::Nothing, "it was decided otherwise");
    }

    #[test]
    fn what_is_not_known_is_not_taken_for_nothing() {
        let tree = Tree::new(&[("a/old-1", "")]);
        tree.write("a/old/old-1.ebuild", "# changed since\n");
        tree.write("a/bare/bare-1.ebuild", "# no cache\n");
        for name in ["a/old", "a/bare"] {
            assert_eq!(tree.reach(&[], &[name], "a/far"), Reach::Unknown(name.to_owned()));
        }
        assert_eq!(tree.reach(&["a/bare-1"], &["a/bare"], "a/far"), Reach::Nothing, "an installed one says what it needs itself");
        assert_eq!(tree.reach(&["a/bare-0"], &[], "a/far"), Reach::Unknown("a/bare".to_owned()), "of a newer one nobody knows");
        assert_eq!(tree.reach(&[], &["a/nowhere"], "a/far"), Reach::Nothing, "what no tree has cannot come");
    }

    #[test]
    fn a_package_that_hides_from_the_database_is_known_all_the_same() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut needs =
            Needs { installed: [there("a/seen-1")].map(|(name, one)| (name, BTreeSet::from([one]))).into(), ..Needs::default() };
        needs.add_noted(set(&["a/seen", "a/hidden", "a/gone"]).into_iter(), &BTreeSet::from(["a/hidden"]));
        assert_eq!((needs.installed.into_keys().collect(), needs.named), (set(&["a/seen", "a/hidden"]), set(&["a/gone"])));
    }

    #[test]
    fn what_is_installed_is_read_with_what_it_needs() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("var/db/pkg").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/b-1/RDEPEND", "|| ( a/c a/d )\n");
        for cpv in ["a/b-1", "a/e-2"] {
            write(&format!("{cpv}/SLOT"), "0/3\n");
            write(&format!("{cpv}/repository"), "gentoo\n");
        }
        fs::create_dir(root.path().join("var/db/pkg/a/e-2/BDEPEND")).unwrap();
        let opened = untrusted::open_root(root.path()).unwrap();
        let needs = read(opened.as_fd()).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let version = |version: &str| There { version: version.to_owned(), slot: "0".to_owned(), repository: "gentoo".to_owned() };
        let installed = [("a/b", "1"), ("a/e", "2")].map(|(name, text)| (name.to_owned(), BTreeSet::from([version(text)])));
        assert_eq!(needs, Needs { installed: installed.into(), named: set(&["a/c", "a/d"]), unread: set(&["a/e"]) });

        // A session has written it: so many names are read, and that there are more is known.
        let many: Vec<String> = (0..MAX_NAMES).map(|number| format!("b/{number}")).collect();
        write("a/b-1/RDEPEND", &many.join(" "));
        write("a/b-1/PDEPEND", "a/unseen");
        let needs = read(opened.as_fd()).unwrap();
        assert_eq!((needs.named.len(), needs.unread), (MAX_NAMES, set(&["a/b", "a/e"])));
    }
}
