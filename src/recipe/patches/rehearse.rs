//! Before anything is compiled: the patches of what will be built are really applied, so that a conflict is found in seconds and not after
//! an hour.
//!
//! ```text
//! emerge --pretend     which packages of the run have patches, and are built from source: their sources are brought first
//! ebuild … prepare     for each: unpacked, upstream's and the ebuild's own patches applied, then ours by `eapply_user`
//! emerge               (as ever)
//! ```
//!
//! What a package needs to be built may be missing yet, so that `src_prepare` can fail for other reasons: only what `eapply_user` itself says
//! counts (`bin/phase-helpers.sh`). Where it was not reached nothing is known, and the build will tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::patches::{PatchRecord, SavedPatch, applied_to, digest, digest_for_binaries};
use crate::context::Context;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::query::versions::{Ebuild, Found, Rehearsal, Taken, Version};
use crate::recipe::patches::applied::knows_no_patches;
use crate::recipe::{Error, Result};
use crate::session;
use crate::session::ask::ask;
use crate::session::keys::record;
use crate::session::logs::{package_log, read_package_log};
use crate::session::root::{BUILD_DIR, LOG_DIR};
use crate::session::supply::Foreseen;
use crate::session::{Work, emerge, supply};
use crate::terminal_text::sanitize;

/// Of what `patch` says about a patch so much is shown.
const LAST_LINES: usize = 30;

/// A package whose patches are to be applied.
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

/// The version that emerge would take for an atom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) atom: String,
    pub(crate) cpv: String,
    pub(crate) slot: String,
}

impl Visible {
    /// Which of the patches are applied to it.
    pub(crate) fn applied<'a>(&self, patches: &'a [SavedPatch]) -> Vec<&'a SavedPatch> {
        let Some(Cpv { category, package, version, .. }) = Cpv::parse(&self.cpv) else { return Vec::new() };
        applied_to(patches, category, package, version, &self.slot)
    }
}

/// Which packages of a run have patches and will be compiled. Those whose binary packages Portage would take although they lack the
/// patches are excluded from the request's.
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

/// Applies the patches of packages that are only built on what is built now, so that hours are not spent in vain on that.
pub(crate) fn rehearse_ahead(cx: &Context<'_>, work: &Work<'_>, atoms: &[String]) -> Result<()> {
    if atoms.is_empty() || work.patches.is_empty() {
        return Ok(());
    }
    let goal = Goal::Packages { atoms: atoms.to_vec(), existing: Existing::Update, oneshot: true };
    let mut request = Request::new(goal, Mode::Run);
    let mut foreseen = supply::foresee(cx, work, &request)?;
    let candidates = to_rehearse(cx, work, &mut request, &foreseen)?;
    if candidates.is_empty() {
        return Ok(());
    }
    let cpvs: Vec<&str> = candidates.iter().map(Candidate::cpv).collect();
    foreseen.compile(&cpvs);
    foreseen.list.retain(|merge| cpvs.contains(&merge.cpv.as_str()));
    match supply::want(cx, work, &foreseen, &[]) {
        // Its own build will tell.
        Err(session::Error::Missing { .. }) => Ok(()),
        wanted => {
            wanted?;
            rehearse(cx, work, &candidates)
        }
    }
}

/// Applies the patches of `candidates`, whose sources are here or are waited for.
///
/// # Errors
///
/// [`Error::DoesNotApply`] for the first that does not.
pub(crate) fn rehearse(cx: &Context<'_>, work: &Work<'_>, candidates: &[Candidate]) -> Result<()> {
    if candidates.is_empty() {
        return Ok(());
    }
    // Their ebuilds unpack and prepare. What ran could change what Portage says.
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
                "whether the patches of {} apply is seen when it is built (see {})",
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

/// The versions that emerge would take; atoms that none meets are left out.
pub(crate) fn visible_versions(cx: &Context<'_>, work: &Work<'_>, atoms: &BTreeSet<String>) -> Result<Vec<Visible>> {
    let taken = ask(cx, work, atoms.iter().map(|atom| Version { atom, why: false, flags: false }))?;
    let visible = atoms.iter().zip(taken).filter_map(|(atom, taken)| match taken {
        Taken::Found(Found { cpv, slot, .. }) => Some(Visible { atom: atom.clone(), cpv, slot }),
        Taken::Missing { .. } => None,
    });
    Ok(visible.collect())
}

/// The error, with the patches in the user's terms.
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

/// What the log of `src_prepare` tells about patches.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// All were applied, whatever came then.
    Applied,
    /// `eapply_user` was not reached, or did not come to its end for another reason.
    NotReached,
    /// One does not apply.
    Failed { patch: PathBuf, last_lines: Vec<String> },
}

/// ` * Applying user patches from …`, then for each ` * Applying NAME ...`; ` * User patches applied.`, or after what `patch` says
/// ` *   patch '-p1' … failed with '/etc/portage/patches/…'`.
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
            // From the last patch that was begun on.
            let from = rest[..failed].iter().rposition(|line| plain(line).starts_with("Applying ")).unwrap_or(0);
            let said = rest[from..failed].iter().map(|line| line.trim_end()).filter(|line| !line.is_empty());
            let said = said.take_while(|line| !line.starts_with(" * ERROR:"));
            let last_lines = said.take(LAST_LINES).map(str::to_owned).collect();
            Told::Failed { patch: patch_of(&plain(rest[failed])).unwrap_or_default(), last_lines }
        }
    }
}

/// The file of `patch '-p1' '-f' failed with '/etc/portage/patches/…'`.
fn patch_of(line: &str) -> Option<PathBuf> {
    let (_, quoted) = line.strip_prefix("patch ")?.rsplit_once(" failed with ")?;
    let path = quoted.trim().trim_matches('\'');
    path.starts_with("/etc/portage/patches/").then(|| PathBuf::from(path))
}

/// A saved patch and the source that it cannot be applied to.
#[derive(Debug, thiserror::Error)]
#[error("{}: does not apply to `{package}`{}", patch.display(), after(before))]
pub struct PatchMisfit {
    /// `category/name-version`
    pub package: String,
    /// The saved patch, or the fragment that brings it.
    pub name: String,
    /// The file, relative to the configuration directory.
    pub patch: PathBuf,
    /// Those that were applied before it, in order.
    pub before: Vec<PathBuf>,
    /// What `patch` says, safe to print.
    pub last_lines: Vec<String>,
    /// All of it, on the host.
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
