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
pub(crate) mod sources;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::causes::in_one_line;
use crate::context::Context;
use crate::fetch::{AskMetadata, Broker, Metadata, Reason, Shelves};
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::gpkg::Refusal;
use crate::portage::emerge::{Failure, FailureKind};
use crate::progress::Fetching;
use crate::session::readable_files::create_open;
use crate::session::root::Ways;
use crate::session::supply::downloads::Downloads;
use crate::session::{Error, Result};
use crate::stage3::keys::{GENTOO, TrustedKeys};
use crate::store::{Session, State};
use crate::terminal_text::sanitize_line;
use crate::trees::choose::PinnedTree;
use crate::{context, fetch, threads};

/// How many lines are shown about a missing file.
const MOST_LINES: usize = 30;
/// How much of each of these lines is shown.
const MOST_CHARS: usize = 400;

/// The broker's question about ebuilds.
struct Question {
    packages: Vec<(String, String)>,
    answer: Sender<Vec<Metadata>>,
}

/// Asks ebuilds, by name with version and repository, what they say of their sources. [`crate::session::work`] does it:
/// it opens another session, which in turn needs what is here.
pub(crate) type AskEbuilds = fn(&Context<'_>, &Supply, &[(String, String)]) -> Result<Vec<Metadata>>;

/// A session's part of the broker.
#[derive(Debug)]
pub(crate) struct Supply {
    // Declared before the broker, so that it is dropped first: the broker may be waiting for an answer.
    questions: Mutex<Receiver<Option<Question>>>,
    ask: Sender<Option<Question>>,
    broker: Broker,
    /// The state on which the session is based, and its trees.
    pub(crate) base: State,
    pub(crate) trees: Vec<PinnedTree>,
    ask_ebuilds: AskEbuilds,
    hosts: Vec<fetch::BinHost>,
    keys: TrustedKeys,
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

impl Supply {
    /// Lets the session ask for files.
    pub(crate) fn open(&self, ways: &Ways) -> Result<()> {
        Ok(self.broker.serve(fetch::listen(&ways.fetch)?)?)
    }

    /// By which packages of hosts are verified; none if the configuration names no hosts.
    pub(crate) fn keys(&self) -> &TrustedKeys {
        &self.keys
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
        addresses.map(|(address, _)| address).find_map(|address| self.of_host(address))
    }

    /// A package that no trusted key has signed as it is, named in the same way.
    pub(crate) fn refused_package(&self) -> Option<(String, Box<Refusal>)> {
        self.broker.missing().into_iter().find_map(|missing| match missing.reason {
            Reason::Distrusted(address, refusal) => Some((self.of_host(&address).unwrap_or(address), refusal)),
            _ => None,
        })
    }

    fn of_host(&self, address: &str) -> Option<String> {
        let (host, path) = self.hosts.iter().find_map(|host| Some((host, host.path_of(address)?)))?;
        Some(sanitize_line(format!("{}{path}", host.name).as_bytes(), MOST_CHARS))
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
        Reason::Distrusted(url, refusal) => vec![plain(&format!("{url}: {}", in_one_line(refusal.as_ref())))],
        Reason::Other(words) => vec![plain(words)],
        Reason::Offline | Reason::Restricted => Vec::new(),
    }
}

/// Makes the directories, and a broker that the session cannot ask before [`Supply::open`]. `began` is when the session's work began,
/// `ask_ebuilds` asks ebuilds in another session.
pub(crate) fn supply(
    cx: &Context<'_>,
    session: &Session,
    base: &State,
    trees: &[PinnedTree],
    downloads: &Downloads,
    began: Instant,
    ask_ebuilds: AskEbuilds,
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
    let keys = if hosts.is_empty() {
        TrustedKeys::default()
    } else {
        TrustedKeys::load(&cx.places.keys(), GENTOO).map_err(Error::Keys)?
    };
    let broker = Broker::new(&shelves, sources, keys.clone(), &context::downloader(cx), ask_metadata)?;
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
        ask_ebuilds,
        hosts,
        keys,
        implied,
        began,
        over: Arc::new(AtomicBool::new(true)),
    };
    Ok((supply, Ways { fetch, distdir, distfiles, packages, conf }))
}

/// Passes on notes since the last call: failed mirrors, hosts that cannot be reached.
pub(crate) fn tell_notes(cx: &Context<'_>, supply: &Supply) {
    for note in supply.broker.take_notes() {
        cx.told.note_once(cx.observer, &sanitize_line(note.as_bytes(), MOST_CHARS));
    }
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
    let metadata = if is_over() { None } else { Some((supply.ask_ebuilds)(cx, supply, &question.packages)) };
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

/// Ends [`answering`] when it is dropped.
struct End<'a>(&'a Supply);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // In this order: a question that is put back comes after the end and so stays for the next run.
        drop(self.0.ask.send(None));
        self.0.over.store(true, Ordering::Relaxed);
    }
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
}
