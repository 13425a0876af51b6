//! Fetches what a run of emerge needs, as far as it is known beforehand.

use std::time::Duration;

use crate::context::Context;
use crate::fetch::{Files, Missing, Reason, Wanted};
use crate::portage::emerge::request::Request;
use crate::portage::emerge::{Failure, FailureKind};
use crate::progress::{EmergeStatus, Event};
use crate::query::versions::Ebuild;
use crate::session::ask::ask;
use crate::session::foreseen::{Foreseen, foresee};
use crate::session::readable_files::write_public;
use crate::session::supply::{answering, tell_notes, words_of};
use crate::session::{Error, Result, Work};
use crate::{context, threads};

/// How often we look after a wait.
const TICK: Duration = Duration::from_millis(100);

/// Starts to fetch what a run needs, `first` before everything else. Without a network it reports at once what is missing.
///
/// # Errors
///
/// [`Error::Missing`] if downloads are switched off and not everything is here.
pub(crate) fn want(cx: &Context<'_>, work: &Work<'_>, foreseen: &Foreseen, first: &[&str]) -> Result<()> {
    let mut wanted = wanted(cx, work, foreseen)?;
    wanted.sort_by_key(|package| !first.contains(&package.cpv.as_str()));
    if wanted.is_empty() {
        return Ok(());
    }
    work.supply.broker.want(wanted);
    if cx.settings.download.offline {
        let missing = settled(cx, work)?;
        if missing.iter().any(|missing| missing.reason == Reason::Offline) {
            return Err(Error::Missing { missing });
        }
    }
    Ok(())
}

/// Fetches the sources of packages that are going to be compiled, and waits for all of them.
///
/// # Errors
///
/// [`Error::Missing`] if downloads are switched off, [`Error::Emerge`] if no server has one of them. Portage itself reports files that
/// must be fetched by hand.
pub(crate) fn bring_sources(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<()> {
    let foreseen = foresee(cx, work, request)?;
    want(cx, work, &foreseen, &[])?;
    let cpvs: Vec<&str> = foreseen.list.iter().map(|merge| merge.cpv.as_str()).collect();
    let missing = settled(cx, work)?;
    let of_these = |missing: &&Missing| missing.packages.iter().any(|package| cpvs.contains(&package.as_str()));
    let lost = missing.iter().filter(|missing| missing.reason != Reason::Restricted).find(of_these);
    let Some(lost) = lost else { return Ok(()) };
    let failure = Failure {
        kind: FailureKind::FetchFailed,
        package: lost.packages.first().cloned(),
        phase: None,
        file: Some(lost.name.clone()),
        build_log: None,
        last_lines: words_of(&lost.reason),
        explanation: Vec::new(),
        proposals: Vec::new(),
        distrust: None,
    };
    let log = work.log_dir.join("fetch.log");
    write_public(&log, (failure.last_lines.join("\n") + "\n").as_bytes(), 0o644)?;
    Err(Error::Emerge { failure: Box::new(failure), log, resumable: false, enter: None })
}

fn wanted(cx: &Context<'_>, work: &Work<'_>, foreseen: &Foreseen) -> Result<Vec<Wanted>> {
    let compiled = foreseen.list.iter().filter(|merge| !merge.binary);
    let of_tree = compiled.filter_map(|merge| Some((merge, merge.repository.clone()?)));
    let mut wanted: Vec<Wanted> = of_tree
        .map(|(merge, repository)| {
            let flags = merge.flags.union(&work.supply.implied).cloned().collect();
            Wanted { cpv: merge.cpv.clone(), repository, files: Files::Flags(flags) }
        })
        .collect();
    if cx.settings.download.offline && !wanted.is_empty() {
        // A guess from the flags is good enough to start early. It is not good enough to say that something is missing.
        let questions =
            wanted.iter().map(|Wanted { cpv, repository, .. }| Ebuild { cpv, repository: Some(repository), files: true });
        let answers = ask(cx, work, questions)?;
        for (wanted, answer) in wanted.iter_mut().zip(answers) {
            if let Some(ebuild) = answer {
                wanted.files = Files::Named(ebuild.files);
            }
        }
    }
    Ok(wanted)
}

/// Waits until every wanted file is here or has failed. Returns the failed ones.
fn settled(cx: &Context<'_>, work: &Work<'_>) -> Result<Vec<Missing>> {
    let supply = &work.supply;
    let settled = answering(cx, supply, || {
        std::thread::scope(|scope| {
            let Ok(waiting) = threads::scoped(scope, "wait for sources with", || supply.broker.settle()) else {
                return Ok(supply.broker.settle());
            };
            while !waiting.is_finished() {
                std::thread::sleep(TICK);
                let status = EmergeStatus { fetching: supply.status(), ..EmergeStatus::default() };
                tell_notes(cx, supply);
                cx.observer.event(&Event::Emerge(&status));
            }
            waiting.join()
        })
    });
    cx.observer.event(&Event::End);
    context::not_interrupted(cx)?;
    settled.map_or_else(|_| Ok(Vec::new()), |missing| Ok(missing?))
}
