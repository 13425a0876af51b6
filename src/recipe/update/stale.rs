//! Packages of the builder that would be made from something else now. Portage would leave them alone.
//!
//! ```text
//! package key of the state before  !=  package key now                    and this session has not merged it: stale
//! stale, and may be installed still                                       built again, or a binary package that has the key now
//! stale, and masked by now                                                stays, with the key that it was recorded with
//! gone from the trees                                                     stays
//! ```
//!
//! [`crate::portage::binpkgs::package_key`] says what a key is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rustix::fs::FileType;

use crate::beneath::RootDir;
use crate::context::Context;
use crate::inventory;
use crate::portage::binpkgs::PackageKey;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::portage::vdb;
use crate::portage::vdb::Package;
use crate::query::versions::{Taken, Version};
use crate::recipe::definition::Stage3;
use crate::recipe::patches::applied;
use crate::recipe::patches::applied::PatchedPackage;
use crate::recipe::{Result, merge};
use crate::session::Work;
use crate::session::ask::ask;
use crate::session::work::StepsDone;

/// How many packages are named.
const MOST_NAMED: usize = 12;

/// Rebuilds packages that would be made from something else now. `before` are the keys in the record of the state below.
pub(crate) fn rebuild_stale(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    recipe: &Stage3,
    before: &BTreeMap<String, PackageKey>,
    resumed: bool,
) -> Result<()> {
    let stale = stale(cx, work, before)?;
    let atoms: Vec<String> = stale.iter().map(atom_of).collect();
    let taken = ask(cx, work, atoms.iter().map(|atom| Version { atom, why: false, flags: false }))?;
    let mut may_be = taken.iter().map(|taken| matches!(taken, Taken::Found(_)));
    let (again, stay): (Vec<Package>, Vec<Package>) = stale.into_iter().partition(|_| may_be.next() == Some(true));
    if !stay.is_empty() {
        cx.observer.note(&format!("not rebuilt, although their inputs have changed, since they are masked now: {}", told(&stay)));
    }
    if again.is_empty() {
        return Ok(());
    }
    cx.observer.note(&format!("rebuilding, since their inputs have changed, which Portage does not notice: {}", told(&again)));
    let everything = recipe.definition.network.everything.is_some();
    let live: BTreeSet<String> = recipe.definition.network.atoms.iter().map(|atom| atom.value.name()).collect();
    let (live, others): (Vec<Package>, Vec<Package>) = again.into_iter().partition(|package| live.contains(package.name()));
    for (name, packages, network) in [
        ("packages with network that were made from something else", live, true),
        ("packages that were made from something else", others, everything),
    ] {
        if !packages.is_empty() {
            let atoms = packages.iter().map(atom_of).collect();
            let goal = Goal::Packages { atoms, existing: Existing::Rebuild, oneshot: true };
            merge::emerge_request(cx, work, steps, name, Request::new(goal, Mode::Run), resumed, network)?;
        }
    }
    Ok(())
}

/// The installed packages that are as in the state below and would be made from something else now. Packages with other patches are
/// rebuilt later, see [`crate::recipe::patches::applied::bring_patches`].
fn stale(cx: &Context<'_>, work: &Work<'_>, before: &BTreeMap<String, PackageKey>) -> Result<Vec<Package>> {
    let differ = work.keys.differ(before);
    if differ.is_empty() {
        return Ok(Vec::new());
    }
    let upper = &work.root.upper;
    let installed = inventory::packages_in(cx, [std::slice::from_ref(upper), &work.root.lower].concat())?;
    let patched: BTreeSet<String> =
        applied::patched(cx, work)?.into_iter().filter(PatchedPackage::is_stale).map(|package| package.package).collect();
    let stale = not_merged(upper, &installed)?.into_iter();
    let stale = stale.filter(|package| differ.contains(&name_of(package)) && !patched.contains(&package.cpv));
    Ok(stale.cloned().collect())
}

/// The packages of `installed` that this session has not merged. Portage writes `COUNTER` at each merge, so it is then in `upper`.
pub(crate) fn not_merged<'p>(upper: &Path, installed: &'p [Package]) -> Result<Vec<&'p Package>> {
    let root = RootDir::open(upper)?;
    let mut found = Vec::new();
    for package in installed {
        let counter = Path::new(vdb::VDB).join(&package.cpv).join("COUNTER");
        if root.leads_to(&counter)? != Some(FileType::RegularFile) {
            found.push(package);
        }
    }
    Ok(found)
}

/// In the form of recorded keys.
pub(crate) fn name_of(package: &Package) -> String {
    format!("{}::{}", package.cpv, package.repo)
}

/// An atom for exactly this version from this tree.
fn atom_of(package: &Package) -> String {
    format!("={}::{}", package.cpv, package.repo)
}

fn told(packages: &[Package]) -> String {
    let mut words: Vec<String> = packages.iter().take(MOST_NAMED).map(|package| package.cpv.clone()).collect();
    if let Some(more) = packages.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn package(cpv: &str) -> Package {
        Package { cpv: cpv.to_owned(), repo: "gentoo".to_owned(), ..Package::default() }
    }

    #[test]
    fn what_the_session_has_merged_is_not_what_was_there() {
        let upper = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = upper.path().join("var/db/pkg").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "7\n").unwrap();
        };
        write("a/merged-1/COUNTER");
        // Portage writes down where a library has moved, of what it leaves alone, too.
        write("a/touched-1/NEEDED");
        let installed = ["a/merged-1", "a/touched-1", "b/below-1"].map(package);
        let names: Vec<&str> =
            not_merged(upper.path(), &installed).unwrap().into_iter().map(|package| package.cpv.as_str()).collect();
        assert_eq!(names, ["a/touched-1", "b/below-1"]);
    }

    #[test]
    fn many_packages_are_told_in_one_line() {
        let some: Vec<Package> = (0..MOST_NAMED + 2).map(|n| package(&format!("a/p-{n}"))).collect();
        assert_eq!(told(&some[..2]), "a/p-0, a/p-1");
        assert!(told(&some[..MOST_NAMED]).ends_with(", a/p-11"));
        assert!(told(&some).ends_with("a/p-11, and 2 more"));
        assert_eq!((name_of(&some[0]), atom_of(&some[0])), ("a/p-0::gentoo".to_owned(), "=a/p-0::gentoo".to_owned()));
    }
}
