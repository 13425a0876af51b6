//! Checks that installed packages have the patches that are configured for them. Without it a patch could be missing and nobody would
//! notice.
//!
//! ```text
//! /etc/portage/patches ── eapply_user ──> var/db/pkg/CATEGORY/PF/USER_PATCHES     SHA-256 over those of the patches, in their order
//! ```
//!
//! `USER_PATCHES` goes along with binary packages and is the proof. Portage compares it when it chooses a binary package. But it never
//! rebuilds an installed package because its patches have changed (`_emerge/depgraph.py`, 3.0.83), so we do. Ebuilds up to EAPI 5 have no
//! `eapply_user`. From EAPI 6 on, an ebuild that does not call it fails.
//!
//! Portage before 3.0.83 records nothing. There a package counts as having the patches of the session that merged it: those in force now
//! if its entry in the VDB is in the session's own directory, else those of the state below. Package keys make sure that a binary package
//! of ours has the same.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::config::patches::{PatchRecord, applied_to, digest, digest_for_binaries, knows_no_patches};
use crate::context::Context;
use crate::merged_view;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::portage::{untrusted, vdb};
use crate::progress::Event;
use crate::recipe::{Result, merge};
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::session::Work;
use crate::session::work::StepsDone;
use crate::terminal_text::sanitize_line;
use crate::{context, store};

pub(crate) use crate::origin::PatchFate;

/// Name of the task that reads which patches installed packages have. It takes a [`Look`] and returns [`Seen`].
const PATCHED: &str = "recipe.patched";
/// Portage writes digests and EAPIs, which are far shorter.
const MAX_VALUE_BYTES: u64 = 4096;
/// Portage's shell functions are in a directory below this one. Its name depends on the version of Python.
const PORTAGE_LIB: &str = "usr/lib/portage";
const HELPERS: &str = "phase-helpers.sh";
const MAX_HELPERS_BYTES: u64 = 1 << 20;

/// A package for which patches are configured, or that was built with patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PatchedPackage {
    /// `category/name-version`
    pub package: String,
    /// The patches for it, relative to the configuration directory, in the order in which they are applied.
    pub patches: Vec<PathBuf>,
    /// What became of the patches.
    #[serde(flatten)]
    pub fate: PatchFate,
    /// For rebuilding it.
    #[serde(skip)]
    place: InSlot,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct InSlot {
    name: String,
    slot: String,
    /// Portage would accept a binary package without the patches.
    blind: bool,
}

impl PatchedPackage {
    /// Whether it has exactly the patches that are configured.
    pub(crate) fn is_applied(&self) -> bool {
        self.fate == PatchFate::Applied
    }
}

/// A whole sentence, for a package that is not as configured.
impl fmt::Display for PatchedPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, patches, fate, .. } = self;
        if patches.is_empty() {
            return write!(f, "{package} was built with patches that are no longer configured");
        }
        let listed: Vec<String> = patches.iter().map(|patch| format!("`{}`", patch.display())).collect();
        let verb = if patches.len() == 1 { "is" } else { "are" };
        match fate {
            PatchFate::Applied => write!(f, "{} {verb} in {package}", listed.join(", ")),
            PatchFate::NotCalled { eapi } => write!(
                f,
                "{} {verb} not applied to {package}: its ebuild has EAPI {eapi}, which does not call `eapply_user`",
                listed.join(", ")
            ),
            PatchFate::BuiltBefore => {
                write!(f, "{} {verb} not applied to {package}: the package was built before and not built again", listed.join(", "))
            }
            PatchFate::BuiltWithOthers => {
                write!(f, "{} {verb} not applied to {package}: the package was built with other patches", listed.join(", "))
            }
        }
    }
}

/// Input of [`PATCHED`].
#[derive(Debug, Serialize, Deserialize)]
struct Look {
    /// The layers, the topmost first. The first one is the session's own directory.
    lower: Vec<PathBuf>,
    /// Packages to look at, `category/name`, in addition to those that were built with patches.
    names: BTreeSet<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    /// This Portage records patches.
    records: bool,
    packages: Vec<Found>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    cpv: String,
    slot: String,
    eapi: String,
    user_patches: Option<String>,
    /// This session has merged it.
    is_new: bool,
}

/// What became of the patches that a session was given. If there are none, nothing is run.
pub(crate) fn patched(cx: &Context<'_>, work: &Work<'_>) -> Result<Vec<PatchedPackage>> {
    if work.patches.is_empty() && work.patches_before.is_empty() {
        return Ok(Vec::new());
    }
    let lower = std::iter::once(work.root.upper.clone()).chain(work.root.lower.iter().cloned()).collect();
    let names = work.patches.iter().chain(&work.patches_before).filter_map(PatchRecord::package).collect();
    let options = TaskOptions { mounts: true, hold: vec![work.session.borrow().lock_fd()?], ..TaskOptions::default() };
    let answer = context::task(cx, PATCHED, &Look { lower, names }, options, &mut |_| {})?;
    let mut seen: Seen = serde_json::from_value(answer).map_err(|source| store::Error::Answer { task: PATCHED, source })?;
    if !seen.records {
        for found in &mut seen.packages {
            found.user_patches = unrecorded(found, if found.is_new { &work.patches } else { &work.patches_before });
        }
    }
    Ok(judge(&work.patches, &seen.packages))
}

/// Rebuilds packages whose patches have changed since they were built, and warns of packages whose patches are not applied.
pub(crate) fn bring_patches(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    resumed: bool,
    network: bool,
) -> Result<Vec<PatchedPackage>> {
    let mut packages = patched(cx, work)?;
    let stale: Vec<&PatchedPackage> = packages.iter().filter(|package| package.is_stale()).collect();
    if !stale.is_empty() {
        let names: Vec<&str> = stale.iter().map(|package| package.package.as_str()).collect();
        cx.observer.note(&format!("rebuilding, since Portage does not notice that patches have changed: {}", names.join(", ")));
        let atoms = stale.iter().map(|package| package.place.atom()).collect();
        let usepkg_exclude = stale.iter().filter(|package| package.place.blind).map(|package| package.place.name.clone());
        let goal = Goal::Packages { atoms, existing: Existing::Rebuild, oneshot: true };
        let request = Request { usepkg_exclude: usepkg_exclude.collect(), ..Request::new(goal, Mode::Run) };
        merge::emerge_request(cx, work, steps, "packages with other patches", request, resumed, network)?;
        packages = patched(cx, work)?;
    }
    warn_of_patches(cx, &packages);
    Ok(packages)
}

pub(crate) fn warn_of_patches(cx: &Context<'_>, packages: &[PatchedPackage]) {
    for package in packages.iter().filter(|package| !package.is_applied()) {
        cx.observer.event(&Event::Warning(&package.to_string()));
    }
}

impl PatchedPackage {
    /// Whether building it again would help.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.fate, PatchFate::BuiltBefore | PatchFate::BuiltWithOthers)
    }
}

impl InSlot {
    fn atom(&self) -> String {
        let slot = self.slot.split_once('/').map_or(self.slot.as_str(), |(slot, _)| slot);
        if slot.is_empty() { self.name.clone() } else { format!("{}:{slot}", self.name) }
    }
}

/// Notes in a state's origin which patches it was given and what became of them.
pub(crate) fn note_patches(origin: &mut serde_json::Value, records: &[PatchRecord], packages: &[PatchedPackage]) {
    if !records.is_empty() {
        origin["patches"] = serde_json::json!(records);
    }
    if !packages.is_empty() {
        origin["patched"] = serde_json::json!(packages);
    }
}

/// What Portage would have recorded for a package that was built with these patches in force.
fn unrecorded(found: &Found, records: &[PatchRecord]) -> Option<String> {
    let (category, name, version) = found.words()?;
    (!knows_no_patches(&found.eapi)).then(|| digest(&applied_to(records, category, name, version, &found.slot)))?
}

impl Found {
    fn words(&self) -> Option<(&str, &str, &str)> {
        let name = Cpv::name_of(&self.cpv);
        let version = self.cpv.get(name.len() + 1..)?;
        let (category, short) = name.split_once('/')?;
        Some((category, short, version))
    }
}

fn judge(records: &[PatchRecord], installed: &[Found]) -> Vec<PatchedPackage> {
    let judged = installed.iter().filter_map(|found| {
        let (category, short, version) = found.words()?;
        let name = format!("{category}/{short}");
        let applied = applied_to(records, category, short, version, &found.slot);
        let expected = digest(&applied);
        if expected.is_none() && found.user_patches.is_none() {
            return None;
        }
        let fate = match &found.user_patches {
            has if *has == expected => PatchFate::Applied,
            None if knows_no_patches(&found.eapi) => PatchFate::NotCalled { eapi: found.eapi.clone() },
            None => PatchFate::BuiltBefore,
            Some(_) => PatchFate::BuiltWithOthers,
        };
        let blind = digest_for_binaries(records, category, short, version, &found.slot) != expected;
        Some(PatchedPackage {
            package: found.cpv.clone(),
            patches: applied.iter().map(|patch| patch.path.clone()).collect(),
            fate,
            place: InSlot { name, slot: found.slot.clone(), blind },
        })
    });
    judged.collect()
}

pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == PATCHED).then_some(run as TaskFn)
}

fn run(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let look: Look = context.input_as()?;
    let Some(top) = look.lower.first() else { return Ok(serde_json::json!(Seen::default())) };
    // Opened before the view is mounted over it.
    let own = untrusted::open_root(top).map_err(|error| TaskFailure::of("open", &error))?;
    let Some(root) = merged_view::mount(&look.lower)? else { return Ok(serde_json::json!(Seen::default())) };
    let seen = see(root.as_fd(), own.as_fd(), &look.names).map_err(|error| TaskFailure::of("vdb", &error))?;
    serde_json::to_value(seen).map_err(|error| TaskFailure::of("vdb", &error))
}

/// Reads the whole view `root`. What is also in the session's `own` directory is new.
fn see(root: BorrowedFd<'_>, own: BorrowedFd<'_>, names: &BTreeSet<String>) -> untrusted::Result<Seen> {
    let mut packages = Vec::new();
    vdb::visit_all_in(root, &mut |package, entry| {
        let value = |name: &str| {
            let bytes = untrusted::read_in(entry, Path::new(name), MAX_VALUE_BYTES).ok()?;
            Some(sanitize_line(&bytes, 128).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let user_patches = value("USER_PATCHES").map(|text| text.to_ascii_lowercase());
        if user_patches.is_some() || names.contains(package.name()) {
            let eapi = value("EAPI").unwrap_or_else(|| "0".to_owned());
            // Portage writes this file again at each merge, so it is in the session's directory only if the session merged the package.
            let counter = Path::new(vdb::VDB).join(&package.cpv).join("COUNTER");
            let is_new = untrusted::read_in(own, &counter, MAX_VALUE_BYTES).is_ok();
            packages.push(Found { cpv: package.cpv, slot: package.slot, eapi, user_patches, is_new });
        }
    })?;
    packages.sort_by(|a, b| a.cpv.cmp(&b.cpv));
    Ok(Seen { records: records_patches(root), packages })
}

/// Whether this Portage's shell functions write `USER_PATCHES`.
fn records_patches(root: BorrowedFd<'_>) -> bool {
    let Ok(lib) = untrusted::open_dir_in(root, Path::new(PORTAGE_LIB)) else { return false };
    let Ok(entries) = untrusted::entries(&lib, Path::new(PORTAGE_LIB), 100) else { return false };
    entries.iter().filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Symlink)).any(|(name, _)| {
        let path = Path::new(PORTAGE_LIB).join(name).join(HELPERS);
        let helpers = untrusted::read_in(root, &path, MAX_HELPERS_BYTES).unwrap_or_default();
        helpers.windows(12).any(|window| window == b"USER_PATCHES")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Recorded;

    fn record(name: &str, directory: &str, sha256: &str) -> PatchRecord {
        PatchRecord {
            name: name.to_owned(),
            category: "app-misc".to_owned(),
            directory: directory.to_owned(),
            file_name: format!("{name}-x.patch"),
            path: format!("user.patches/{name}/app-misc/{directory}/x.patch").into(),
            sha256: Some(sha256.repeat(64)),
        }
    }

    fn found(cpv: &str, eapi: &str, user_patches: Option<String>) -> Found {
        Found { cpv: cpv.to_owned(), slot: "0/1".to_owned(), eapi: eapi.to_owned(), user_patches, is_new: false }
    }

    #[test]
    fn a_state_says_which_patches_it_was_given() {
        let mut origin = serde_json::json!({});
        note_patches(&mut origin, &[], &[]);
        assert_eq!(origin, serde_json::json!({}));
        let records = [record("quiet", "hello", "1")];
        note_patches(&mut origin, &records, &[]);
        assert_eq!(origin, serde_json::json!({ "patches": records }));
    }

    #[test]
    fn each_package_is_held_against_what_is_configured() {
        let records = [record("a", "hello", "1"), record("b", "hello-2.10", "2"), record("c", "old", "3")];
        let both = digest(&records[..2].iter().collect::<Vec<_>>());
        let one = digest(&[&records[0]]);
        let cases = [
            (found("app-misc/hello-2.10", "8", both.clone()), "`A`, `B` are in app-misc/hello-2.10"),
            (
                found("app-misc/hello-2.10-r1", "8", one.clone()),
                "`A`, `B` are not applied to app-misc/hello-2.10-r1: the package was built with other patches",
            ),
            (found("app-misc/hello-2.11", "8", one), "`A` is in app-misc/hello-2.11"),
            (
                found("app-misc/hello-2.11", "8", None),
                "`A` is not applied to app-misc/hello-2.11: the package was built before and not built again",
            ),
            (
                found("app-misc/old-1", "5", None),
                "`C` is not applied to app-misc/old-1: its ebuild has EAPI 5, which does not call `eapply_user`",
            ),
            (found("app-misc/other-1", "8", both), "app-misc/other-1 was built with patches that are no longer configured"),
        ];
        for (installed, words) in cases {
            let judged = judge(&records, std::slice::from_ref(&installed));
            let text = judged[0].to_string();
            let text = text.replace("user.patches/a/app-misc/hello/x.patch", "A");
            let text = text.replace("user.patches/b/app-misc/hello-2.10/x.patch", "B");
            assert_eq!(text.replace("user.patches/c/app-misc/old/x.patch", "C"), words, "{installed:?}");
        }
        assert_eq!(judge(&records, &[found("app-misc/other-1", "8", None), found("strange", "8", Some("x".to_owned()))]), []);
        let blind = judge(&records, &[found("app-misc/hello-2.10-r1", "8", None)]);
        assert!(blind[0].place.blind && blind[0].place.atom() == "app-misc/hello:0", "{blind:?}");
        assert!(!judge(&records, &[found("app-misc/hello-2.10", "8", None)])[0].place.blind);
    }

    #[test]
    fn where_portage_records_nothing_a_package_has_the_patches_of_its_session() {
        let (a, b) = (record("a", "hello", "1"), record("b", "hello-2.10", "2"));
        let both = [a.clone(), b];
        let hello = found("app-misc/hello-2.10", "8", None);
        assert_eq!(unrecorded(&hello, &both), digest(&both.iter().collect::<Vec<_>>()));
        assert_eq!(unrecorded(&found("app-misc/hello-2.11", "8", None), &both), digest(&[&a]));
        assert_eq!(unrecorded(&hello, &[]), None);
        assert_eq!(unrecorded(&found("app-misc/hello-2.10", "5", None), &both), None, "its ebuild applies none");
        assert_eq!(unrecorded(&found("app-misc/other-1", "8", None), &both), None);
    }

    #[test]
    fn a_state_remembers_its_patches_through_its_base() {
        let mut base = serde_json::json!({ "kind": "stage3 definition" });
        note_patches(&mut base, &[record("a", "hello", "1")], &[]);
        let kept = serde_json::json!({ "kind": "kept session", "parent": { "kind": "stage4 definition", "base": base } });
        assert_eq!(Recorded::from(kept).patches(), [record("a", "hello", "1")]);
        assert_eq!(Recorded::from(serde_json::json!({ "kind": "stage3" })).patches(), []);
    }

    #[test]
    fn what_a_session_wrote_is_read_with_care() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("var/db/pkg/a/patched-1/USER_PATCHES", b"ABC\n");
        write("var/db/pkg/a/patched-1/EAPI", b"8\n");
        write("var/db/pkg/a/evil-1/USER_PATCHES", b"\x1b]0;owned\x07abc");
        write("var/db/pkg/a/huge-1/USER_PATCHES", &[b'x'; 8192]);
        write("var/db/pkg/a/wanted-1/SLOT", b"2/3\n");
        write("own/var/db/pkg/a/wanted-1/COUNTER", b"7\n");
        let root = untrusted::open_root(dir.path()).unwrap();
        let own = untrusted::open_root(&dir.path().join("own")).unwrap();
        let look = || see(root.as_fd(), own.as_fd(), &["a/wanted".to_owned()].into()).unwrap();
        assert!(!look().records);
        write("usr/lib/portage/python3.13/phase-helpers.sh", b"x=build-info/SAVED_PATCHES\n");
        assert!(!look().records);
        write("usr/lib/portage/python3.13/phase-helpers.sh", b"x=build-info/USER_PATCHES\n");
        let seen = look();
        assert!(seen.records);
        let shown: Vec<String> = seen
            .packages
            .iter()
            .map(|found| format!("{} {} {} {:?} {}", found.cpv, found.slot, found.eapi, found.user_patches, found.is_new))
            .collect();
        assert_eq!(shown, ["a/evil-1  0 Some(\"abc\") false", "a/patched-1  8 Some(\"abc\") false", "a/wanted-1 2/3 0 None true"]);
    }
}
