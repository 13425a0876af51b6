//! emerge in a session: arguments, progress, logs, and what its failures mean.

use std::fs;
use std::path::Path;

use crate::causes::in_one_line;
use crate::context::{Context, not_interrupted};
use crate::path_error::OfFile as _;
use crate::portage::emerge::observability::Status;
use crate::portage::emerge::output::{EmergeLog, Heard};
use crate::portage::emerge::progress::Told;
use crate::portage::emerge::request::{Goal, Request};
use crate::portage::emerge::{Distrust, FailureKind, output as emerge_output};
use crate::progress::{EmergeStatus, Event, PackageStep};
use crate::sandbox::plan::Network;
use crate::sandbox::{Exit, Running};
use crate::session::echo::Echo;
use crate::session::emerge_argv::emerge_argv;
use crate::session::forecast::Forecast;
use crate::session::in_memory::InMemory;
use crate::session::keys::{pools, record};
use crate::session::launch::{READ, connect, launch, run_of, supervise};
use crate::session::logs::read_package_log;
use crate::session::root::Run;
use crate::session::{Error, Result, Work, build_logs, ccache, forecast, in_memory, messages, put_back, supply};
use crate::threads::NoThread;
use crate::{sandbox, threads};

/// How a run of emerge ended, and whether all of its output was read.
pub(crate) type Watched = (Result<Exit>, std::thread::Result<std::result::Result<(), emerge_output::Error>>);

/// Runs `emerge` and shows its progress; once more if it was to compile in memory and something did not fit.
pub(crate) fn emerge_with(cx: &Context<'_>, work: &Work<'_>, request: &Request, network: Network, path: &Path) -> Result<()> {
    loop {
        let in_memory = in_memory::of_run(cx, work, request)?;
        match (emerge_once(cx, work, request, network, path, in_memory.as_ref()), &in_memory) {
            (Err(error), Some(in_memory)) if in_memory::is_to_be_repeated(cx, work, in_memory, &error) => {}
            (outcome, _) => return outcome,
        }
    }
}

fn emerge_once(
    cx: &Context<'_>,
    work: &Work<'_>,
    request: &Request,
    network: Network,
    path: &Path,
    in_memory: Option<&InMemory>,
) -> Result<()> {
    let argv = emerge_argv(cx, work, request)?;
    put_back::keep_configuration(cx, work)?;
    let mut log = EmergeLog::create(path)?;
    // Dropped when the whole run is gone. Then all tokens that the run was given return to the budget, also those of killed processes.
    let _turn = work.jobs.turn()?;
    let mut run = Run { in_memory: in_memory.cloned(), ..run_of(work, argv, network) };
    run.network = connect(cx, network, &mut run.env);
    record::close_keys(work)?;
    work.session.borrow_mut().mark_worth_keeping();
    let (mut running, output) = launch(cx, work, &run)?;
    let output: Box<dyn std::io::Read + Send> =
        if request.show_log { Box::new(Echo::new(output, cx.observer)) } else { Box::new(output) };
    let supply = &work.supply;
    let watched = supply::answering(cx, supply, || watch(cx, &mut running, work, request, &mut log, output));
    supply::tell_notes(cx, supply);
    cx.observer.event(&Event::End);
    forecast::remember(cx, log.finished());
    let (exit, tee) = watched?;
    let exit = exit?;
    if let Err(error) = adopt_logs(cx, work) {
        // The disk is full, or something is in the way. How the run ended is more important.
        cx.observer.warn(&format!("the logs of single packages are not kept: {}", in_one_line(&error)));
    }
    in_memory::remember(cx, &work.package_logs(), log.finished());
    messages::collect(cx, work);
    // In any case: a package that is complete need not be compiled again.
    let published = pools::publish_rest(cx, work);
    ccache::end(cx, work);
    not_interrupted(cx)?;
    if exit == Exit::Code(0) {
        published?;
        if let Ok(result) = tee {
            result?;
        }
        let binhost = work.root.binhost.as_ref().filter(|binhost| binhost.can_be_asked(cx.settings.download.offline));
        let unasked = request.goal != Goal::Depclean && binhost.is_some_and(|binhost| !binhost.has_index());
        // For hosts that did not answer there is a note already.
        if unasked && !supply.a_host_failed() && cx.told.is_new("no host was asked") {
            cx.observer.warn(&format!("emerge could not use a binary package host: building from source (see {})", path.display()));
        }
        if let Err(error) = log.finish() {
            cx.observer.warn(&in_one_line(&error));
        }
        return Ok(());
    }
    if let Err(error) = published {
        cx.observer.warn(&format!("the packages built so far are not published: {}", in_one_line(&error)));
    }
    let logs = work.package_logs();
    let mut failure = log.into_failure(|inside| read_package_log(&logs, inside));
    if let Some((package, why)) = supply.refused_package() {
        return Err(Error::Refused { package, why, log: path.to_owned() });
    }
    let of_portage = |file: &str| {
        let package = file.strip_prefix(crate::session::binhost::PACKAGES).unwrap_or(file).trim_start_matches('/');
        package.trim_end_matches(".partial").to_owned()
    };
    if in_memory.is_some() && InMemory::was_full(exit) {
        failure.kind = FailureKind::OutOfSpace;
    }
    let distrust = failure.distrust.map(|why| (of_portage(failure.file.as_deref().unwrap_or_default()), why));
    if let Some((package, why)) = distrust.or_else(|| Some((supply.damaged_package()?, Distrust::Damaged))) {
        // Not resumable: emerge would find the same package again.
        return Err(Error::Untrusted { package, why, log: path.to_owned() });
    }
    supply.explain(&mut failure);
    Err(Error::Emerge { failure: Box::new(failure), log: path.to_owned(), resumable: false, enter: None })
}

/// Waits for a run of emerge and shows its progress and that of its downloads.
pub(crate) fn watch(
    cx: &Context<'_>,
    running: &mut Running,
    work: &Work<'_>,
    request: &Request,
    log: &mut EmergeLog,
    output: Box<dyn std::io::Read + Send + '_>,
) -> std::result::Result<Watched, NoThread> {
    // A Portage that does not publish its status leaves the directory empty. Then the progress is read from the output.
    let status = Status::open(&work.root.status).ok();
    let shown = std::sync::atomic::AtomicBool::new(false);
    let supply = &work.supply;
    let forecast = Forecast::of(cx, work);
    let tell = |now: &EmergeStatus| {
        if !request.show_log {
            let now = forecast.added_to(now);
            cx.observer.event(&Event::Emerge(&EmergeStatus { fetching: supply.status(), ..now }));
        }
    };
    std::thread::scope(|scope| {
        let reader = threads::scoped(scope, READ, || {
            log.tee(output, &mut |heard| match heard {
                Heard::Told(told) => tell_package(cx, told),
                Heard::Status(now) => {
                    forecast.saw(now);
                    if !shown.load(std::sync::atomic::Ordering::Relaxed) {
                        tell(now);
                    }
                }
            })
        })?;
        let exit = supervise(cx, work, running, || {
            supply::tell_notes(cx, supply);
            pools::publish_meanwhile(cx, work);
            if let Some(now) = status.as_ref().and_then(Status::poll) {
                shown.store(true, std::sync::atomic::Ordering::Relaxed);
                tell(&now);
            }
        });
        Ok((exit, reader.join()))
    })
}

/// Tells when a package has begun a step, or has ended: a status is published each second, in which a small package comes and goes.
fn tell_package(cx: &Context<'_>, told: &Told) {
    let (package, step) = match told {
        Told::Started { cpv, phase: "build", .. } => (cpv, PackageStep::Building),
        Told::Started { cpv, phase: "unpack", .. } => (cpv, PackageStep::Unpacking),
        Told::Started { cpv, phase: "merge", .. } => (cpv, PackageStep::Merging),
        Told::Completed { cpv, .. } => (cpv, PackageStep::Done),
        Told::Failed { cpv } => (cpv, PackageStep::Failed),
        Told::Started { .. } | Told::Jobs { .. } => return,
    };
    cx.observer.event(&Event::Package { package, step });
}

/// Takes the logs of single packages out of the session. They become plain files of the user.
pub(crate) fn adopt_logs(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    let input = build_logs::AdoptInput { dir: work.root.logs.clone() };
    let to = work.package_logs();
    // The directory may be gone: somebody may run something after the logs were removed.
    fs::create_dir_all(&to).map_err(Error::io("create", &to))?;
    let target = fs::File::open(&to).map_err(Error::io("open", &to))?;
    let hold = vec![work.session.borrow().lock_fd()?];
    let options = sandbox::TaskOptions { fds: vec![target.into()], hold, ..Default::default() };
    cx.launcher.task(build_logs::ADOPT, &input, options, &mut |_| {})?;
    Ok(())
}
