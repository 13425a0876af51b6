//! How a session gets files from outside, since it has no network: the broker's part in a session.
//!
//! ```text
//! sessions/SESSION/fetch      /run/gentoomuch/fetch       (ro) the script that Portage calls, and the socket on which it asks
//!                  distdir    /var/cache/distfiles        (rw) the session's own: links, and what Portage notes beside them
//!                  fetched    /run/gentoomuch/packages    (ro) of binary package hosts
//! cache/distfiles             /run/gentoomuch/distfiles   (ro) source archives, of all sessions
//!
//! emerge --pretend   what a run needs ----> want: all of it is begun with, in the order of the build
//! emerge             asks for each file when it gets to it, and waits for that one only
//! ```
//!
//! If an ebuild is in no metadata cache, we ask Portage in another session, in which nothing but Portage has run: an ebuild that is being
//! built must not say where its own sources come from. The thread that waits for the run starts that session (`answering`). It ends with
//! the run. It has no broker: otherwise an ebuild that asks for a source while it is asked for its sources would start one more session,
//! and so on.

pub(crate) mod downloads;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::causes::in_one_line;
use crate::context::Context;
use crate::fetch::{AskMetadata, Broker, Files, Metadata, Missing, Reason, Shelves, Wanted};
use crate::path_error::OfFile as _;
use crate::portage::emerge::request::{Mode, Request};
use crate::portage::emerge::resolution::{Merge, Resolution};
use crate::portage::emerge::{Failure, FailureKind};
use crate::progress::{EmergeStatus, Event, Fetching};
use crate::query::versions::{Ebuild, EbuildFacts};
use crate::session::ask::ask;
use crate::session::supply::downloads::Downloads;
use crate::session::work::{Given, Subject, create_open, write_public};
use crate::session::{Error, Result, Work, emerge, run, work};
use crate::store::{Purpose, Session, State};
use crate::terminal_text::sanitize_line;
use crate::trees::choose::PinnedTree;
use crate::{context, fetch, threads};

/// emerge prints less about ten thousand packages.
const OUTPUT_LIMIT_BYTES: u64 = 16 << 20;
/// How often we look after a wait.
const TICK: Duration = Duration::from_millis(100);
/// How many lines are shown about a missing file.
const MOST_LINES: usize = 30;
/// How much of each of these lines is shown.
const MOST_CHARS: usize = 400;

/// The broker's question about ebuilds.
struct Question {
    packages: Vec<(String, String)>,
    answer: Sender<Vec<Metadata>>,
}

/// A session's part of the broker.
#[derive(Debug)]
pub(crate) struct Supply {
    // Declared before the broker, so that it is dropped first: the broker may be waiting for an answer.
    questions: Mutex<Receiver<Option<Question>>>,
    ask: Sender<Option<Question>>,
    broker: Broker,
    base: State,
    trees: Vec<PinnedTree>,
    hosts: Vec<fetch::BinHost>,
    /// Flags that are on for all packages although no `IUSE` has them.
    implied: BTreeSet<String>,
    began: Instant,
    /// True while nothing runs.
    over: Arc<AtomicBool>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("packages", &self.packages).finish_non_exhaustive()
    }
}

/// The directories through which a session gets files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways {
    /// The script and the socket.
    pub fetch: PathBuf,
    /// The session's own `DISTDIR`.
    pub distdir: PathBuf,
    /// The user's source archives.
    pub distfiles: PathBuf,
    /// Packages and indexes of binary package hosts.
    pub packages: PathBuf,
    /// The settings in its `make.conf` for this.
    pub conf: crate::portage::session_conf::Fetching,
}

/// What a run is going to merge, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Foreseen {
    /// Binary packages are without their build number.
    pub(crate) list: Vec<Merge>,
}

impl Foreseen {
    fn parse(output: &[u8]) -> Self {
        let list = Resolution::parse(output).list.into_iter();
        Self { list: list.map(|merge| Merge { cpv: merge.source_cpv().to_owned(), ..merge }).collect() }
    }

    /// Marks these packages as compiled, even if there are binary packages.
    pub(crate) fn compile(&mut self, cpvs: &[&str]) {
        for merge in self.list.iter_mut().filter(|merge| cpvs.contains(&merge.cpv.as_str())) {
            merge.binary = false;
        }
    }
}

impl Supply {
    /// Lets the session ask for files.
    pub(crate) fn open(&self, ways: &Ways) -> Result<()> {
        Ok(self.broker.serve(fetch::listen(&ways.fetch)?)?)
    }

    /// When the work of the session began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Set while nothing runs in the session.
    pub(crate) fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
    }

    /// The progress of downloads. `None` if nothing was ever needed.
    pub(crate) fn status(&self) -> Option<Fetching> {
        let status = self.broker.status();
        (status.files_total > 0).then_some(Fetching {
            done: status.files_done,
            failed: status.files_failed,
            total: status.files_total,
            bytes_done: status.bytes_done,
            bytes_total: status.bytes_total,
            awaited: status.awaited,
        })
    }

    /// Sets the flag for the C library. Some ebuilds name their sources by it.
    pub(crate) fn set_host(&mut self, chost: &str) {
        let libc = if chost.contains("musl") { "elibc_musl" } else { "elibc_glibc" };
        self.implied.retain(|flag| !flag.starts_with("elibc_"));
        self.implied.insert(libc.to_owned());
    }

    /// A package that its host has, but with other contents than the index says: the host's name and the package's path.
    pub(crate) fn damaged_package(&self) -> Option<String> {
        let missing = self.broker.missing();
        let addresses = missing.iter().flat_map(|missing| match &missing.reason {
            Reason::Another(tried) => tried.as_slice(),
            _ => &[],
        });
        let of_host = |address: &str| {
            let (host, path) = self.hosts.iter().find_map(|host| Some((host, host.path_of(address)?)))?;
            Some(sanitize_line(format!("{}{path}", host.name).as_bytes(), MOST_CHARS))
        };
        addresses.map(|(address, _)| address).find_map(|address| of_host(address))
    }

    /// Whether a host of binary packages did not answer.
    pub(crate) fn a_host_failed(&self) -> bool {
        self.broker.a_host_failed()
    }

    /// If a failure is that a file could not be fetched, adds which servers were asked and what they answered.
    pub(crate) fn explain(&self, failure: &mut Failure) {
        let (FailureKind::FetchFailed, Some(file)) = (failure.kind, &failure.file) else { return };
        let Some(missing) = self.broker.missing().into_iter().find(|missing| missing.name == *file) else { return };
        let words = words_of(&missing.reason);
        if !words.is_empty() {
            failure.last_lines = words;
        }
    }
}

/// Why a file could not be fetched, in lines. Empty if Portage says it itself.
fn words_of(reason: &Reason) -> Vec<String> {
    let plain = |text: &str| sanitize_line(text.as_bytes(), MOST_CHARS);
    match reason {
        Reason::Nobody(tried) | Reason::Another(tried) => {
            tried.iter().take(MOST_LINES).map(|(url, what)| plain(&format!("{url}: {what}"))).collect()
        }
        Reason::Other(words) => vec![plain(words)],
        Reason::Offline | Reason::Restricted => Vec::new(),
    }
}

/// Makes the directories, and a broker that the session cannot ask before [`Supply::open`]. `began` is when the session's work began.
pub(crate) fn supply(
    cx: &Context<'_>,
    session: &Session,
    base: &State,
    trees: &[PinnedTree],
    downloads: &Downloads,
    began: Instant,
) -> Result<(Supply, Ways)> {
    let distfiles = cx.places.distfiles();
    std::fs::create_dir_all(&distfiles).map_err(Error::io("create", &distfiles))?;
    let (fetch, distdir, packages) = (session.path("fetch"), session.path("distdir"), session.path("fetched"));
    for directory in [&fetch, &distdir, &packages] {
        create_open(directory)?;
    }
    let (ask, questions) = channel();
    let asking = Mutex::new(ask.clone());
    let ask_metadata: AskMetadata = Box::new(move |packages| {
        let (answer, answered) = channel();
        let question = Question { packages: packages.to_vec(), answer };
        let sent = asking.lock().unwrap_or_else(PoisonError::into_inner).send(Some(question));
        // When the session is over, nobody answers.
        sent.ok().and_then(|()| answered.recv().ok()).unwrap_or_default()
    });
    let shelves = Shelves { distfiles: distfiles.clone(), packages: packages.clone() };
    let sources = downloads.sources(trees);
    let hosts = sources.hosts.clone();
    let broker = Broker::new(&shelves, sources, &context::downloader(cx), ask_metadata)?;
    let conf = crate::portage::session_conf::Fetching {
        command: fetch::SOURCE_COMMAND.to_owned(),
        mirror: fetch::MIRROR.to_owned(),
        read_only: fetch::seen::DISTFILES.to_owned(),
        protocols: downloads.protocols().clone(),
    };
    let implied = [cx.settings.arch.as_str(), "kernel_linux", "elibc_glibc"].map(str::to_owned).into();
    let supply = Supply {
        questions: Mutex::new(questions),
        ask,
        broker,
        base: base.clone(),
        trees: trees.to_vec(),
        hosts,
        implied,
        began,
        over: Arc::new(AtomicBool::new(true)),
    };
    Ok((supply, Ways { fetch, distdir, distfiles, packages, conf }))
}

/// Asks emerge what `request` would do. If that fails, the run itself will report it.
pub(crate) fn foresee(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Foreseen> {
    let argv = emerge::emerge_argv(cx, work, &request.with_mode(Mode::Pretend))?;
    let (_, output) = run::exit_and_output(cx, work, argv, OUTPUT_LIMIT_BYTES)?;
    Ok(Foreseen::parse(&output))
}

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
    Err(Error::Emerge { failure: Box::new(failure), log, resumable: false })
}

/// Passes on notes since the last call: failed mirrors, hosts that cannot be reached.
pub(crate) fn tell_notes(cx: &Context<'_>, supply: &Supply) {
    for note in supply.broker.take_notes() {
        cx.told.note_once(cx.observer, &sanitize_line(note.as_bytes(), MOST_CHARS));
    }
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

/// Does `run` and answers the broker's questions about ebuilds meanwhile, one after the other. A question that is not answered when `run`
/// has ended waits for the next run.
pub(crate) fn answering<R>(cx: &Context<'_>, supply: &Supply, run: impl FnOnce() -> R) -> R {
    supply.over.store(false, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let answers = threads::scoped(scope, "ask ebuilds for their sources with", || {
            let questions = supply.questions.lock().unwrap_or_else(PoisonError::into_inner);
            while let Ok(Some(question)) = questions.recv() {
                answer(cx, supply, question);
            }
        });
        if let Err(error) = answers {
            cx.observer.note(&format!("cannot find the sources of ebuilds without a metadata cache: {}", in_one_line(&error)));
            // Whoever asks is told so at once.
            *supply.questions.lock().unwrap_or_else(PoisonError::into_inner) = channel().1;
        }
        // Also when `run` panics, or the scope would wait for ever.
        let _end = End(supply);
        run()
    })
}

fn answer(cx: &Context<'_>, supply: &Supply, question: Question) {
    let is_over = || supply.over.load(Ordering::Relaxed);
    let metadata = if is_over() { None } else { Some(metadata(cx, supply, &question.packages)) };
    let metadata = match metadata {
        Some(Ok(metadata)) => metadata,
        Some(Err(error)) if !is_over() => {
            cx.observer.note(&format!("cannot find the sources of ebuilds: {error}"));
            Vec::new()
        }
        _ => {
            // Behind the word of the end.
            drop(supply.ask.send(Some(question)));
            return;
        }
    };
    // Whoever asked may be gone.
    drop(question.answer.send(metadata));
}

/// What ebuilds say of their sources, in a session where nothing but Portage has run.
fn metadata(cx: &Context<'_>, supply: &Supply, packages: &[(String, String)]) -> Result<Vec<Metadata>> {
    let mut session = cx.store.session_create(Some(&supply.base), Purpose::Throwaway, "")?;
    let answers = ask_in_a_clean_session(cx, &mut session, supply, packages);
    session.discard(cx.launcher)?;
    let metadata = |((cpv, repository), facts): (&(String, String), Option<EbuildFacts>)| {
        let EbuildFacts { src_uri, restrict, .. } = facts.unwrap_or_default();
        Metadata { cpv: cpv.clone(), repository: repository.clone(), src_uri, restrict }
    };
    Ok(packages.iter().zip(answers?).map(metadata).collect())
}

fn ask_in_a_clean_session(
    cx: &Context<'_>,
    session: &mut Session,
    supply: &Supply,
    packages: &[(String, String)],
) -> Result<Vec<Option<EbuildFacts>>> {
    let subject = Subject { log_name: "sources".to_owned(), profile: String::new(), definition: String::new() };
    let given = Given { trees: Some(&supply.trees), behalf: Some(supply), ..Given::default() };
    let mut work = work::work(cx, session, &supply.base, &subject, given)?;
    // The configuration of the run is not in this root, but its trees are mounted.
    work.env.push(("PORTAGE_REPOSITORIES".to_owned(), repositories(&supply.trees)));
    let questions = packages.iter().map(|(cpv, repository)| Ebuild { cpv, repository: Some(repository), files: false });
    let answers = ask(cx, &work, questions)?;
    work.forget_logs();
    Ok(answers)
}

/// Ends [`answering`] when it is dropped.
struct End<'a>(&'a Supply);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // In this order: a question that is put back comes after the end and so stays for the next run.
        drop(self.0.ask.send(None));
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// The text of a `repos.conf` with these trees.
fn repositories(trees: &[PinnedTree]) -> String {
    let main = trees.iter().find(|tree| tree.name == "gentoo").or(trees.first());
    let head = main.map(|main| format!("[DEFAULT]\nmain-repo = {}\n", main.name));
    let section = |tree: &PinnedTree| format!("[{}]\nlocation = {}\nauto-sync = no\n", tree.name, Path::display(&tree.location));
    head.into_iter().chain(trees.iter().map(section)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_missing_file_are_lines() {
        let nobody =
            Reason::Nobody(vec![("http://a/x".to_owned(), "404\u{1b}[1m".to_owned()), ("http://b/x".to_owned(), "cut".to_owned())]);
        assert_eq!(words_of(&nobody), ["http://a/x: 404", "http://b/x: cut"]);
        assert_eq!(words_of(&Reason::Other("a pipe is in the way".to_owned())), ["a pipe is in the way"]);
        assert_eq!(words_of(&Reason::Restricted), Vec::<String>::new());
    }

    #[test]
    fn trees_become_the_repositories_of_portage() {
        let tree = |name: &str| PinnedTree {
            name: name.to_owned(),
            path: "/s/t".into(),
            location: format!("/var/db/repos/{name}").into(),
            digest: String::new(),
            newest: 0,
        };
        assert_eq!(
            repositories(&[tree("over"), tree("gentoo")]),
            "[DEFAULT]\nmain-repo = gentoo\n[over]\nlocation = /var/db/repos/over\nauto-sync = no\n[gentoo]\nlocation = \
             /var/db/repos/gentoo\nauto-sync = no\n"
        );
        assert_eq!(repositories(&[]), "");
    }
}
