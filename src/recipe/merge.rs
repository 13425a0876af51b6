//! One run of emerge as a step of a recipe. What it needs is found out and fetched first, patches are tried before anything is compiled,
//! and afterwards everything that was asked for must be installed.

use std::path::Path;

use crate::config::NetworkUse;
use crate::context::Context;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::FailureKind;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::recipe::Result;
use crate::recipe::patches::rehearse;
use crate::recipe::patches::rehearse::Candidate;
use crate::sandbox::plan::Network;
use crate::session;
use crate::session::foreseen::Foreseen;
use crate::session::keys::{claims, learn};
use crate::session::open::can_resume;
use crate::session::supply::sources;
use crate::session::work::StepsDone;
use crate::session::{Work, emerge, forecast, fulfilled};

/// How often a run is repeated after a checksum was lost.
const MOST_LOST: u32 = 3;

/// Builds the packages that may use the network, such as live ebuilds. Only this run has the network; later runs find them as binary
/// packages.
pub(crate) fn emerge_live(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    allowed: &NetworkUse,
    resumed: bool,
) -> Result<()> {
    let Some(goal) = live_goal(allowed) else { return Ok(()) };
    emerge_goal(cx, work, steps, "packages with network", goal, resumed, true)
}

/// Runs emerge for a goal. Its sources are fetched at the same time.
pub(crate) fn emerge_goal(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    name: &str,
    goal: Goal,
    resumed: bool,
    network: bool,
) -> Result<()> {
    emerge_request(cx, work, steps, name, Request::new(goal, Mode::Run), resumed, network)
}

/// As [`emerge_goal`], for a request with more than a goal.
pub(crate) fn emerge_request(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    name: &str,
    mut request: Request,
    resumed: bool,
    network: bool,
) -> Result<()> {
    request.jobs = work.root.session_conf.jobs;
    request.load = Some(cx.settings.jobs as f32);
    let patched = !work.patches.is_empty();
    let (mut candidates, mut foreseen, mut compiling) = (Vec::new(), Foreseen::default(), None);
    if !steps.has(&format!("emerge:{name}")) {
        cx.observer.step(&format!("calculating the dependencies of {name}"));
        let (list, claims) = claims::foresee_and_claim(cx, work, &request)?;
        (foreseen, compiling) = (list, Some(claims));
        if patched {
            candidates = rehearse::to_rehearse(cx, work, &mut request, &foreseen)?;
        }
        let first: Vec<&str> = candidates.iter().map(Candidate::cpv).collect();
        foreseen.compile(&first);
        forecast::expect(work, &foreseen);
        sources::want(cx, work, &foreseen, &first)?;
    }
    steps.once(&format!("patches:{name}"), || rehearse::rehearse(cx, work, &candidates))?;
    let network = if network { Network::Host } else { Network::None };
    let emerged = steps.once(&format!("emerge:{name}"), || {
        cx.observer.step(&format!("emerging {name}"));
        let log = work.log_dir.join("emerge.log");
        if !log.exists() {
            cx.observer.note(&format!("log: {}", log.display()));
        }
        if resumed && can_resume(&work.root.upper) {
            // emerge takes the other options from the interrupted run (`mtimedb`).
            let mut again = Request::new(Goal::Resume, Mode::Run);
            again.jobs = request.jobs;
            again.load = request.load;
            match emerge::emerge_with(cx, work, &again, network, &log) {
                Err(session::Error::Emerge { .. }) => {}
                other => return other.and_then(|()| fulfilled::fulfilled(cx, work, name, &request, &foreseen)),
            }
            // The list may not fit any more. The packages that were built are binary packages now, so starting over is cheap.
            cx.observer.note("cannot resume emerge's list: starting again with the packages built so far");
        }
        emerge_or_from_source(cx, work, &request, network, &log)?;
        fulfilled::fulfilled(cx, work, name, &request, &foreseen)
    });
    drop(compiling);
    Ok(emerged?)
}

/// The goal of the packages that may use the network. `None` if there are none.
pub(crate) fn live_goal(allowed: &NetworkUse) -> Option<Goal> {
    let atoms: Vec<String> = allowed.atoms.iter().map(|atom| atom.value.to_string()).collect();
    (!atoms.is_empty()).then_some(Goal::Packages { atoms, existing: Existing::Keep, oneshot: true })
}

/// Foresees what a run needs, starts to fetch it, and runs emerge.
pub(crate) fn emerge_supplied(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> session::Result<()> {
    let foreseen = learn::foresee_and_learn(cx, work, request)?;
    forecast::expect(work, &foreseen);
    sources::want(cx, work, &foreseen, &[])?;
    emerge_or_from_source(cx, work, request, Network::None, &work.log_dir.join("emerge.log"))?;
    fulfilled::fulfilled(cx, work, "packages", request, &foreseen)
}

/// Runs `emerge`. If it refuses to install a binary package, a second run builds that package from source.
pub(crate) fn emerge_or_from_source(
    cx: &Context<'_>,
    work: &Work<'_>,
    request: &Request,
    network: Network,
    log: &Path,
) -> session::Result<()> {
    match emerge_patched(cx, work, request, network, log) {
        Err(session::Error::Emerge { failure, .. }) if failure.kind == FailureKind::BinpkgUnusable && failure.package.is_some() => {
            // This session or an old pool has a package that Portage refuses. Build it again.
            let package = failure.package.as_deref().map(Cpv::name_of).unwrap_or_default();
            cx.observer.note(&format!("{failure}: building {package} from source"));
            let mut from_source = request.clone();
            from_source.usepkg_exclude.push(package.to_owned());
            emerge_patched(cx, work, &from_source, network, log)
        }
        other => other,
    }
}

/// Runs `emerge`, and again if it fails only because a checksum was lost. On a busy machine `eapply_user` of Portage 3.0.83 waits for a
/// `sha256sum` that bash has already forgotten. The packages that were built are binary packages by then.
pub(crate) fn emerge_patched(
    cx: &Context<'_>,
    work: &Work<'_>,
    request: &Request,
    network: Network,
    log: &Path,
) -> session::Result<()> {
    let mut lost = 0;
    loop {
        match emerge::emerge_with(cx, work, request, network, log) {
            Err(session::Error::Emerge { failure, .. }) if lost < MOST_LOST && has_lost_checksum(&failure.last_lines) => {
                lost += 1;
                let package = failure.package.as_deref().unwrap_or("a package");
                cx.observer.note(&format!("Portage did not record a patch that it applied to {package}: building it again"));
            }
            other => return other,
        }
    }
}

fn has_lost_checksum(last_lines: &[String]) -> bool {
    const WORDS: [&str; 2] = [
        "eapply_user: could not generate individual user patch digests",
        "eapply_user: could not generate hash over all user patches",
    ];
    last_lines.iter().any(|line| WORDS.iter().any(|words| line.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_checksum_is_known_by_its_words() {
        let lines = |last: &str| [" * ERROR: a/b-1::gentoo failed (prepare phase):".to_owned(), format!(" *   {last}")];
        assert!(has_lost_checksum(&lines("eapply_user: could not generate individual user patch digests")));
        assert!(!has_lost_checksum(&lines("patch '-p1' failed with '/etc/portage/patches/a/b/x.patch'")));
    }
}
