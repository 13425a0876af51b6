//! Which packages a state has, and which it could get: what Portage looks at when it resolves the same request in the same trees.
//!
//! ```text
//! installed      the packages of the state, and what their dependencies name, as Portage has decided them (VDB)
//! not installed  but named: another member of `|| ( … )`, or needed to build what came as a binary package. All that all its
//!                versions name, whatever the flags (metadata cache), and so on
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::build::engine::Engine;
use crate::build::error::Result;
use crate::build::keys::keys_of;
use crate::build::tree::PinnedTree;
use crate::portage::cpv::Cpv;
use crate::portage::repository::Repository;
use crate::portage::{untrusted, vdb};
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::store::State;
use crate::sys::overlay;

/// Lists what the packages of a root are and need: [`NeedsInput`] in, [`Needs`] out.
const NEEDS: &str = "build.needs";
const KEYS: [&str; 5] = ["DEPEND", "RDEPEND", "BDEPEND", "PDEPEND", "IDEPEND"];
/// As long as any that Portage writes; the file is hostile.
const MAX_BYTES: u64 = 1 << 20;
/// More than all packages of Gentoo, and of all that they say.
const MAX_NAMES: usize = 100_000;
const MAX_ALL_BYTES: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct NeedsInput {
    /// Layers, top first.
    lower: Vec<PathBuf>,
}

/// What a root has, each as `category/name`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Needs {
    installed: BTreeSet<String>,
    named: BTreeSet<String>,
    /// Whose dependencies cannot be read.
    unread: BTreeSet<String>,
}

impl Needs {
    /// The database is the session's word. What the session had, or was to build, was written down outside before anything of it ran.
    fn add_noted(&mut self, noted: impl Iterator<Item = String>, changed: &BTreeSet<&str>) {
        for name in noted {
            if changed.contains(name.as_str()) {
                self.installed.insert(name);
            } else if !self.installed.contains(&name) {
                self.named.insert(name);
            }
        }
    }
}

/// Finds this module's task by name.
pub(in crate::build) fn lookup(name: &str) -> Option<TaskFn> {
    (name == NEEDS).then_some(run)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let input: NeedsInput = context.input_as()?;
    let Some(top) = input.lower.first() else { return Ok(serde_json::json!(Needs::default())) };
    // This process has a mount namespace to itself, so the view may as well cover the topmost layer.
    let root = overlay::mount_read_only(&input.lower, top).map_err(|error| TaskFailure::of("mount", &error))?;
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
        needs.installed.insert(package.name().to_owned());
    })?;
    Ok(needs)
}

/// The packages that a dependency string names, blockers and every alternative included, whatever the flags.
fn names(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().filter(|word| word.contains('/')).map(|word| {
        let atom = word.trim_start_matches(['!', '<', '>', '=', '~']);
        let has_version = atom.len() < word.trim_start_matches('!').len();
        let atom = atom.split(['[', ':']).next().unwrap_or_default().trim_end_matches('*');
        if has_version { Cpv::name_of(atom).to_owned() } else { atom.to_owned() }
    })
}

impl Engine<'_> {
    /// Why `state` is not what it would be, now that something else is said about the packages `changed`; nothing if it is. `asked_for` are
    /// the atoms that it was made for.
    pub(super) fn concerned(
        &self,
        state: &State,
        changed: &BTreeSet<&str>,
        asked_for: &[String],
        trees: &[PinnedTree],
    ) -> Result<Vec<String>> {
        let input = NeedsInput { lower: self.store.lower_dirs(state) };
        let options = TaskOptions { mounts: true, ..TaskOptions::default() };
        let answer = self.task(NEEDS, &input, options, &mut |_| {})?;
        let mut needs: Needs =
            serde_json::from_value(answer).map_err(|source| crate::store::Error::Answer { task: NEEDS, source })?;
        let noted =
            keys_of(state).into_keys().map(|package| package.split_once("::").map_or("", |(cpv, _)| Cpv::name_of(cpv)).to_owned());
        needs.add_noted(noted, changed);
        let within: Vec<String> =
            changed.iter().filter(|name| needs.installed.contains(**name)).map(|name| format!("{name} is in it")).collect();
        if !within.is_empty() {
            return Ok(within);
        }
        if let Some(unread) = needs.unread.first() {
            return Ok(vec![format!("what {unread} needs cannot be read")]);
        }
        let read = trees.iter().map(|tree| Repository::read(&tree.name, &tree.path));
        let repositories: Vec<Repository> = read.collect::<std::result::Result<_, _>>()?;
        let named = needs.named.into_iter().chain(asked_for.iter().flat_map(|atom| names(atom).collect::<Vec<_>>())).collect();
        let found = reach(named, &needs.installed, changed, &repositories, &|| self.not_interrupted())?;
        Ok(match found {
            Reach::Nothing => Vec::new(),
            Reach::Could(name) => vec![format!("{name} could come into it")],
            Reach::Unknown(name) => vec![format!("what {name} needs is not known: its tree has no metadata of it")],
        })
    }
}

/// How far what is asked for reaches.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Nothing,
    Could(String),
    Unknown(String),
}

/// Whether one of `changed` can be reached from what is `named`.
fn reach(
    named: BTreeSet<String>,
    installed: &BTreeSet<String>,
    changed: &BTreeSet<&str>,
    trees: &[Repository],
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Reach> {
    let mut seen = named.clone();
    let mut open: Vec<String> = named.into_iter().collect();
    let mut unknown = None;
    while let Some(name) = open.pop() {
        go_on()?;
        if changed.contains(name.as_str()) {
            return Ok(Reach::Could(name));
        }
        // What these need is named already, as it was decided.
        if installed.contains(&name) {
            continue;
        }
        match needs_of(&name, trees) {
            Some(more) => open.extend(more.into_iter().filter(|name| seen.insert(name.clone()))),
            None => unknown = Some(name),
        }
    }
    Ok(unknown.map_or(Reach::Nothing, Reach::Unknown))
}

/// All that all versions of a package name; `None` if the cache does not say it of one of them.
fn needs_of(name: &str, trees: &[Repository]) -> Option<BTreeSet<String>> {
    let (category, package) = name.split_once('/')?;
    let mut found = BTreeSet::new();
    for tree in trees {
        for ebuild in tree.ebuilds(category, package).ok()? {
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
                tree.write(&format!("metadata/md5-cache/{cpv}"), &format!("RDEPEND={depends}\n_md5_={md5}\n"));
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
            reach(set(named), &set(installed), &BTreeSet::from([changed]), &[tree], &|| Ok(())).unwrap()
        }
    }

    #[test]
    fn what_could_come_is_what_anything_names_that_is_not_installed() {
        let tree = Tree::new(&[
            ("a/here-1", "a/behind"),
            ("a/other-1", "x? ( a/far )"),
            ("a/other-2", "a/elsewhere"),
            ("a/far-1", "a/other"),
        ]);
        let installed = ["a/here"];
        let named = ["a/here", "a/other"];
        assert_eq!(tree.reach(&installed, &named, "a/far"), Reach::Could("a/far".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/other"), Reach::Could("a/other".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/elsewhere"), Reach::Could("a/elsewhere".to_owned()));
        assert_eq!(tree.reach(&installed, &named, "a/behind"), Reach::Nothing, "it was decided otherwise");
        assert_eq!(tree.reach(&installed, &["a/here"], "a/far"), Reach::Nothing);
    }

    #[test]
    fn what_is_not_known_is_not_taken_for_nothing() {
        let tree = Tree::new(&[("a/old-1", "")]);
        tree.write("a/old/old-1.ebuild", "# changed since\n");
        tree.write("a/bare/bare-1.ebuild", "# no cache\n");
        for name in ["a/old", "a/bare"] {
            assert_eq!(tree.reach(&[], &[name], "a/far"), Reach::Unknown(name.to_owned()));
        }
        assert_eq!(tree.reach(&["a/bare"], &["a/bare"], "a/far"), Reach::Nothing, "an installed one says what it needs itself");
        assert_eq!(tree.reach(&[], &["a/nowhere"], "a/far"), Reach::Nothing, "what no tree has cannot come");
    }

    #[test]
    fn a_package_that_hides_from_the_database_is_known_all_the_same() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut needs = Needs { installed: set(&["a/seen"]), ..Needs::default() };
        needs.add_noted(set(&["a/seen", "a/hidden", "a/gone"]).into_iter(), &BTreeSet::from(["a/hidden"]));
        assert_eq!((needs.installed, needs.named), (set(&["a/seen", "a/hidden"]), set(&["a/gone"])));
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
        write("a/b-1/SLOT", "0\n");
        write("a/e-2/SLOT", "0\n");
        fs::create_dir(root.path().join("var/db/pkg/a/e-2/BDEPEND")).unwrap();
        let opened = untrusted::open_root(root.path()).unwrap();
        let needs = read(opened.as_fd()).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(needs, Needs { installed: set(&["a/b", "a/e"]), named: set(&["a/c", "a/d"]), unread: set(&["a/e"]) });
    }
}
