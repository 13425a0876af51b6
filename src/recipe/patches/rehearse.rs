//! Applies the patches of everything that will be built, before anything is compiled. So a conflict is found in seconds and not after an
//! hour.
//!
//! ```text
//! emerge --pretend     which packages of the run have patches, and are built from source: their sources are brought first
//! ebuild … prepare     for each: unpacked, upstream's and the ebuild's own patches applied, then ours by `eapply_user`
//! emerge               (as ever)
//! ```
//!
//! Something that a package needs to be built may be missing at this point, so `src_prepare` may fail for other reasons. Only the
//! messages of `eapply_user` count (`bin/phase-helpers.sh`). If it was not reached, we know nothing, and the build will show it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::patches::{PatchRecord, SavedPatch, applied_to, digest, digest_for_binaries, knows_no_patches};
use crate::context::Context;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::query::versions::{Ebuild, Found, Rehearsal, Taken, Version};
use crate::recipe::{Error, Result};
use crate::session;
use crate::session::ask::ask;
use crate::session::foreseen::Foreseen;
use crate::session::keys::record;
use crate::session::logs::{package_log, read_package_log};
use crate::session::root::{BUILD_DIR, LOG_DIR};
use crate::session::supply::sources;
use crate::session::{Work, emerge, foreseen};
use crate::terminal_text::sanitize;

/// How many lines of `patch`'s messages are shown.
const LAST_LINES: usize = 30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    cpv: String,
    slot: String,
}

impl Candidate {
    /// `category/name-version`.
    pub(crate) fn cpv(&self) -> &str {
        &self.cpv
    }
}

/// The version of a package that emerge would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) atom: String,
    pub(crate) cpv: String,
    pub(crate) slot: String,
}

impl Visible {
    /// The patches that are applied to it.
    pub(crate) fn applied<'a>(&self, patches: &'a [SavedPatch]) -> Vec<&'a SavedPatch> {
        let Some(Cpv { category, package, version, .. }) = Cpv::parse(&self.cpv) else { return Vec::new() };
        applied_to(patches, category, package, version, &self.slot)
    }
}

/// The packages of a run that have patches and will be compiled. If Portage would accept a binary package that lacks the patches, the
/// package is added to the request's `usepkg_exclude`.
pub(crate) fn to_rehearse(cx: &Context<'_>, work: &Work<'_>, request: &mut Request, foreseen: &Foreseen) -> Result<Vec<Candidate>> {
    let names: BTreeSet<String> = work.patches.iter().filter_map(PatchRecord::package).collect();
    let merges: BTreeMap<&str, bool> = foreseen.list.iter().map(|merge| (merge.cpv.as_str(), merge.binary)).collect();
    let concerned: Vec<&str> = merges.keys().copied().filter(|cpv| names.contains(Cpv::name_of(cpv))).collect();
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let mut candidates = Vec::new();
    let ebuilds = ask(cx, work, concerned.iter().map(|cpv| Ebuild { cpv, repository: None, files: false }))?;
    for (cpv, ebuild) in concerned.into_iter().zip(ebuilds) {
        let ebuild = ebuild.unwrap_or_default();
        let Some(Cpv { category, package, version, .. }) = Cpv::parse(cpv) else { continue };
        let expected = digest(&applied_to(&work.patches, category, package, version, &ebuild.slot));
        let mut compiled = merges.get(cpv).is_some_and(|binary| !binary);
        if !compiled && digest_for_binaries(&work.patches, category, package, version, &ebuild.slot) != expected {
            request.usepkg_exclude.push(format!("{category}/{package}"));
            compiled = true;
        }
        if compiled && expected.is_some() && !knows_no_patches(&ebuild.eapi) {
            candidates.push(Candidate { cpv: cpv.to_owned(), slot: ebuild.slot });
        }
    }
    Ok(candidates)
}

/// Applies the patches of packages that are built later, on top of what is built now. If one does not apply, no time is spent on the
/// base.
pub(crate) fn rehearse_ahead(cx: &Context<'_>, work: &Work<'_>, atoms: &[String]) -> Result<()> {
    if atoms.is_empty() || work.patches.is_empty() {
        return Ok(());
    }
    let goal = Goal::Packages { atoms: atoms.to_vec(), existing: Existing::Update, oneshot: true };
    let mut request = Request::new(goal, Mode::Run);
    let mut foreseen = foreseen::foresee(cx, work, &request)?;
    let candidates = to_rehearse(cx, work, &mut request, &foreseen)?;
    if candidates.is_empty() {
        return Ok(());
    }
    let cpvs: Vec<&str> = candidates.iter().map(Candidate::cpv).collect();
    foreseen.compile(&cpvs);
    foreseen.list.retain(|merge| cpvs.contains(&merge.cpv.as_str()));
    match sources::want(cx, work, &foreseen, &[]) {
        // The build of those packages will report this.
        Err(session::Error::Missing { .. }) => Ok(()),
        wanted => {
            wanted?;
            rehearse(cx, work, &candidates)
        }
    }
}

/// Applies the patches of `candidates`. Their sources are here, or this waits for them.
///
/// # Errors
///
/// [`Error::DoesNotApply`] for the first patch that does not apply.
pub(crate) fn rehearse(cx: &Context<'_>, work: &Work<'_>, candidates: &[Candidate]) -> Result<()> {
    if candidates.is_empty() {
        return Ok(());
    }
    // Their ebuilds run code (unpack and prepare), which could change what Portage answers.
    record::close_keys(work)?;
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate.cpv.as_str()).collect();
    cx.observer.step(&format!("applying patches to {}", names.join(", ")));
    let (scratch, logs) = (&format!("{BUILD_DIR}/rehearsal"), &format!("{LOG_DIR}/rehearsal"));
    let answers = ask(cx, work, names.iter().map(|cpv| Rehearsal { cpv, scratch, logs }))?;
    emerge::adopt_logs(cx, work)?;
    for (candidate, inside) in candidates.iter().zip(answers) {
        let bytes = read_package_log(&work.package_logs(), &inside).unwrap_or_default();
        let log = package_log(&work.package_logs(), &inside).unwrap_or_else(|| work.log_dir.to_path_buf());
        let text = sanitize(&bytes);
        match read(&text) {
            Told::Applied => {}
            Told::NotReached => cx.observer.note(&format!(
                "cannot test the patches of {} in advance: you see in the build whether they apply (see {})",
                candidate.cpv,
                log.display()
            )),
            Told::Failed { patch, last_lines } => {
                return Err(Error::DoesNotApply(Box::new(failure(&work.patches, candidate, &patch, last_lines, log))));
            }
        }
    }
    Ok(())
}

/// The versions that emerge would take. Atoms without one are left out.
pub(crate) fn visible_versions(cx: &Context<'_>, work: &Work<'_>, atoms: &BTreeSet<String>) -> Result<Vec<Visible>> {
    let taken = ask(cx, work, atoms.iter().map(|atom| Version { atom, why: false, flags: false }))?;
    let visible = atoms.iter().zip(taken).filter_map(|(atom, taken)| match taken {
        Taken::Found(Found { cpv, slot, .. }) => Some(Visible { atom: atom.clone(), cpv, slot }),
        Taken::Missing { .. } => None,
    });
    Ok(visible.collect())
}

/// The error with the user's names of the patches.
fn failure(records: &[PatchRecord], candidate: &Candidate, patch: &Path, last_lines: Vec<String>, log: PathBuf) -> PatchMisfit {
    let in_order = Cpv::parse(&candidate.cpv)
        .map(|Cpv { category, package, version, .. }| applied_to(records, category, package, version, &candidate.slot));
    let in_order = in_order.unwrap_or_default();
    let at = in_order.iter().position(|record| record.inside() == patch);
    let (name, path) = match at {
        Some(at) => (in_order[at].name.clone(), in_order[at].path.clone()),
        None => (String::new(), patch.to_owned()),
    };
    let before = in_order.iter().take(at.unwrap_or(0)).map(|record| record.path.clone()).collect();
    PatchMisfit { package: candidate.cpv.clone(), name, patch: path, before, last_lines, log }
}

/// What the log of `src_prepare` says about patches.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// All were applied, whatever happened after that.
    Applied,
    /// `eapply_user` was not reached, or it failed for another reason.
    NotReached,
    /// A patch does not apply.
    Failed { patch: PathBuf, last_lines: Vec<String> },
}

/// The log has ` * Applying user patches from …`, then for each patch ` * Applying NAME ...`. At the end comes ` * User patches
/// applied.`, or after messages of `patch` ` *   patch '-p1' … failed with '/etc/portage/patches/…'`.
fn read(log: &str) -> Told {
    let lines: Vec<&str> = log.lines().collect();
    let plain = |line: &str| line.trim_start_matches([' ', '*']).to_owned();
    let Some(begun) = lines.iter().position(|line| plain(line).starts_with("Applying user patches from ")) else {
        return Told::NotReached;
    };
    let rest = &lines[begun + 1..];
    let failed = rest.iter().position(|line| patch_of(&plain(line)).is_some());
    let done = rest.iter().position(|line| plain(line).starts_with("User patches applied."));
    match (failed, done) {
        (None, None) => Told::NotReached,
        (None, Some(_)) => Told::Applied,
        (Some(failed), Some(done)) if done < failed => Told::Applied,
        (Some(failed), _) => {
            // Starting with the patch that failed.
            let from = rest[..failed].iter().rposition(|line| plain(line).starts_with("Applying ")).unwrap_or(0);
            let said = rest[from..failed].iter().map(|line| line.trim_end()).filter(|line| !line.is_empty());
            let said = said.take_while(|line| !line.starts_with(" * ERROR:"));
            let last_lines = said.take(LAST_LINES).map(str::to_owned).collect();
            Told::Failed { patch: patch_of(&plain(rest[failed])).unwrap_or_default(), last_lines }
        }
    }
}

/// The file in `patch '-p1' '-f' failed with '/etc/portage/patches/…'`.
fn patch_of(line: &str) -> Option<PathBuf> {
    let (_, quoted) = line.strip_prefix("patch ")?.rsplit_once(" failed with ")?;
    let path = quoted.trim().trim_matches('\'');
    path.starts_with("/etc/portage/patches/").then(|| PathBuf::from(path))
}

/// A saved patch that does not apply to a package's source.
#[derive(Debug, thiserror::Error)]
#[error("{}: does not apply to `{package}`{}", patch.display(), after(before))]
pub struct PatchMisfit {
    /// `category/name-version`
    pub package: String,
    /// The name of the saved patch, or of the fragment that it comes from.
    pub name: String,
    /// Relative to the configuration directory.
    pub patch: PathBuf,
    /// The patches that were applied before it, in order.
    pub before: Vec<PathBuf>,
    /// Messages of `patch`, safe to print.
    pub last_lines: Vec<String>,
    /// The whole log, on the host.
    pub log: PathBuf,
}

pub(crate) fn after(before: &[PathBuf]) -> String {
    let listed: Vec<String> = before.iter().map(|patch| format!("`{}`", patch.display())).collect();
    if listed.is_empty() { String::new() } else { format!(" after {}", listed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: &str = " * Applying user patches from /etc/portage/patches ...\n * Applying a-x.patch ...\n";
    const FAILED: &str = " * Applying b-x.patch ...\npatching file broken.c\nHunk #1 FAILED at 1.\n [ !! ]\n \
                          * ERROR: app-misc/broken-1.0::gentoo failed (prepare phase):\n \
                          *   patch '-p1' '-f' '-g0' '--no-backup-if-mismatch' failed with '/etc/portage/patches/app-misc/broken/b-x.patch'\n";

    #[test]
    fn only_what_eapply_user_says_counts() {
        let own = " *   patch '-p1' failed with '/var/db/repos/gentoo/a/b/files/c.patch'\n";
        for (log, expected) in [
            (String::new(), Told::NotReached),
            (own.to_owned(), Told::NotReached),
            (BEGUN.to_owned(), Told::NotReached),
            (format!("{BEGUN} * User patches applied.\n * ERROR: app-misc/a failed (prepare phase):\n"), Told::Applied),
            (
                format!("{BEGUN} [ ok ]\n{FAILED}"),
                Told::Failed {
                    patch: "/etc/portage/patches/app-misc/broken/b-x.patch".into(),
                    last_lines: [" * Applying b-x.patch ...", "patching file broken.c", "Hunk #1 FAILED at 1.", " [ !! ]"]
                        .map(str::to_owned)
                        .into(),
                },
            ),
        ] {
            assert_eq!(read(&log), expected, "{log}");
        }
    }

    #[test]
    fn the_failure_is_told_in_the_users_terms() {
        let record = |name: &str| PatchRecord {
            name: name.to_owned(),
            category: "app-misc".to_owned(),
            directory: "broken".to_owned(),
            file_name: format!("{name}-x.patch"),
            path: format!("user.patches/{name}/app-misc/broken/x.patch").into(),
            sha256: Some("1".repeat(64)),
        };
        let records = [record("b"), record("a"), record("c")];
        let candidate = Candidate { cpv: "app-misc/broken-1.0".to_owned(), slot: "0".to_owned() };
        let told = |file: &str| {
            failure(
                &records,
                &candidate,
                Path::new(&format!("/etc/portage/patches/app-misc/broken/{file}")),
                Vec::new(),
                "log".into(),
            )
        };
        assert_eq!(
            told("b-x.patch").to_string(),
            "user.patches/b/app-misc/broken/x.patch: does not apply to `app-misc/broken-1.0` after \
             `user.patches/a/app-misc/broken/x.patch`"
        );
        assert_eq!(
            told("a-x.patch").to_string(),
            "user.patches/a/app-misc/broken/x.patch: does not apply to `app-misc/broken-1.0`"
        );
        assert_eq!(told("c-x.patch").name, "c");
    }
}
