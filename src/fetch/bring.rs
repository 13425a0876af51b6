//! Fetches one file. It looks on the shelf, then asks each place that the tree or the configuration names, until one has the right file.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::board::{Claim, Job, Key, Origin, State};
use super::hosts::Whereabouts;
use super::inside::Inside;
use super::places::{Place, Places};
use super::shelf::{Incoming, Shelf, ShelfError};
use super::{Metadata, Reason, hosts, places};
use crate::download::{Cause, Error as DownloadError, Request, Url};
use crate::portage::binpkgs::gpkg;
use crate::portage::binpkgs::gpkg::Refusal;
use crate::portage::manifest::Expected;
use crate::progress::{Event, Observer, Silent};
use crate::stage3::keys::Purpose;
use crate::{causes, clock};

/// After this many servers with another file under this name we give up, as Portage does (`PORTAGE_FETCH_CHECKSUM_TRY_MIRRORS`).
const MAX_LIES: usize = 5;
/// If many packages list the same file, we take the addresses of this many.
const MAX_CLAIMS: usize = 8;
const LAYOUT_LIMIT_BYTES: u64 = 64 * 1024;

/// The result of asking one place.
enum Answer {
    /// It is downloaded and verified.
    Here,
    No(String),
    Lie(String),
    Stop(Reason),
}

impl Inside {
    /// Fetches a file.
    pub(super) fn bring(&self, key: &Key, job: &Job) -> State {
        match self.take(self.shelf(job), key, job) {
            Ok(place) => State::Here(place),
            Err(reason) => State::Gone(reason),
        }
    }

    fn shelf(&self, job: &Job) -> &Shelf {
        match job.origin {
            Origin::Source(_) => &self.distfiles,
            Origin::Package(_) => &self.packages,
        }
    }

    /// Looks again at a file that was fetched before: the user may have changed or removed it.
    pub(super) fn look_after(&self, key: &Key) {
        let Some(job) = self.board().job(key).cloned() else { return };
        if let State::Here(place) = &job.state
            && !self.shelf(&job).is_right(place, &job.expected).unwrap_or(false)
        {
            self.board().again(key);
        }
    }

    fn take(&self, shelf: &Shelf, key: &Key, job: &Job) -> Result<String, Reason> {
        if let Origin::Package(at) = &job.origin
            && !at.is_signable()
        {
            return Err(self.distrusted(at, Refusal::OldFormat));
        }
        if let Some(place) = shelf.find(&key.name, &job.expected).map_err(reason)? {
            return self.vouched(job, shelf, place);
        }
        let places = match &job.origin {
            Origin::Package(Whereabouts::Directory(dir, path)) => return self.copy(shelf, key, job, dir, path),
            Origin::Package(Whereabouts::Server(url)) => {
                Places { places: vec![Place::Address(url.to_string())], restricted: false }
            }
            Origin::Source(claims) => self.places(&key.name, claims),
        };
        if places.restricted && places.places.is_empty() {
            return Err(Reason::Restricted);
        }
        if self.downloader.settings().offline {
            return Err(Reason::Offline);
        }
        let incoming = shelf.incoming(&key.name, &job.expected, &|| self.is_over()).map_err(reason)?;
        // We may have waited for the lock while another process fetched this file.
        if let Some(place) = shelf.find(&key.name, &job.expected).map_err(reason)? {
            incoming.clear();
            return self.vouched(job, shelf, place);
        }
        self.ask_all(key, job, &places, &incoming)?;
        self.admit(job, incoming)
    }

    /// Publishes what has come, if it may be: a package of a host must be signed.
    fn admit(&self, job: &Job, incoming: Incoming<'_>) -> Result<String, Reason> {
        if let Origin::Package(at) = &job.origin
            && let Err(refusal) = self.signed(&incoming.open().map_err(reason)?)
        {
            incoming.clear();
            return Err(self.distrusted(at, refusal));
        }
        incoming.publish().map_err(reason)
    }

    /// A file on the shelf. A session may have been resumed with other keys, so its packages are verified again.
    fn vouched(&self, job: &Job, shelf: &Shelf, place: String) -> Result<String, Reason> {
        match &job.origin {
            Origin::Source(_) => Ok(place),
            Origin::Package(at) => match self.signed(&shelf.open_found(&place).map_err(reason)?) {
                Ok(()) => Ok(place),
                Err(refusal) => Err(self.distrusted(at, refusal)),
            },
        }
    }

    fn signed(&self, package: &File) -> Result<(), Refusal> {
        gpkg::verify(package, self.keys.counting_for(Purpose::Binpkg), clock::now().as_second())
    }

    fn distrusted(&self, at: &Whereabouts, refusal: Refusal) -> Reason {
        self.note(format!("`{}`: {}", at.shown(), causes::in_one_line(&refusal)));
        Reason::Distrusted(at.shown(), Box::new(refusal))
    }

    /// Copies a package of a host that is a directory. Its owner may change it at any time, and the session must not see the rest of the
    /// directory.
    fn copy(&self, shelf: &Shelf, key: &Key, job: &Job, dir: &Path, path: &str) -> Result<String, Reason> {
        let expected = &job.expected;
        let shown = || Whereabouts::Directory(dir.to_owned(), path.to_owned()).shown();
        let nobody = |words: String| {
            self.note(format!("`{}`: {words}", shown()));
            Reason::Nobody(vec![(shown(), words)])
        };
        let another = |words: String| {
            self.note(format!("`{}`: {words}", shown()));
            Reason::Another(vec![(shown(), words)])
        };
        let plain = hosts::open(dir, path).map_err(|error| nobody(causes::in_one_line(&error)))?;
        if plain.size() != expected.size {
            return Err(another(Cause::WrongSize { expected: expected.size, got: plain.size() }.to_string()));
        }
        let incoming = shelf.incoming(&key.name, expected, &|| self.is_over()).map_err(reason)?;
        if let Some(place) = shelf.find(&key.name, expected).map_err(reason)? {
            incoming.clear();
            return self.vouched(job, shelf, place);
        }
        let counted = |bytes: u64| {
            self.count(key, |_| bytes);
            !self.is_over()
        };
        incoming.fill(plain.file, counted).map_err(reason)?;
        if !incoming.verify().map_err(reason)? {
            return Err(another("the file is not the one that the index describes".to_owned()));
        }
        self.admit(job, incoming)
    }

    /// Where a source archive may be, by all packages that list it.
    fn places(&self, name: &str, claims: &[Claim]) -> Places {
        let mut all: Option<Places> = None;
        for claim in claims.iter().take(MAX_CLAIMS) {
            let found = self.places_of(name, claim);
            match (&mut all, found) {
                (Some(all), Some(found)) => all.extend(found),
                (None, found) => all = found,
                _ => {}
            }
        }
        // No ebuild that we understand names the file. Mirrors have the files of all ebuilds, so we ask them.
        let mirrors = || self.mirrors.general.iter().map(|base| Place::Mirror(base.trim_end_matches('/').to_owned())).collect();
        all.unwrap_or_else(|| Places { places: mirrors(), restricted: false })
    }

    fn places_of(&self, name: &str, claim: &Claim) -> Option<Places> {
        let ebuilds = self.trees.ebuilds(&claim.package);
        let others = ebuilds.iter().filter(|pf| Some(*pf) != claim.pf.as_ref());
        let mut said: Vec<(Metadata, bool)> = Vec::new();
        if let Some(pf) = &claim.pf {
            let own = self.trees.metadata(&claim.package, pf);
            let own = own.or_else(|| self.ask_metadata(&[(claim.package.clone(), pf.clone())]).pop().flatten());
            said.extend(own.map(|own| (own, true)));
        }
        said.extend(others.filter_map(|pf| Some((self.trees.metadata(&claim.package, pf)?, false))));
        if said.is_empty() && claim.pf.is_none() {
            let questions: Vec<_> = ebuilds.into_iter().map(|pf| (claim.package.clone(), pf)).collect();
            said.extend(self.ask_metadata(&questions).into_iter().flatten().map(|metadata| (metadata, false)));
        }
        let mut found: Option<Places> = None;
        for (metadata, own) in said {
            let flags = claim.flags.as_ref().filter(|_| own);
            let is_on = flags.map(|flags| move |flag: &str| flags.contains(flag));
            let is_on = is_on.as_ref().map(|is_on| is_on as &dyn Fn(&str) -> bool);
            let Some(places) = places::of(&metadata, name, is_on, &self.mirrors) else { continue };
            match &mut found {
                // An address that another ebuild names is as good. But an ebuild with RESTRICT="fetch" must not restrict this one.
                Some(found) if !found.restricted && !places.restricted => found.extend(places),
                Some(_) => {}
                None => found = Some(places),
            }
        }
        found
    }

    fn ask_all(&self, key: &Key, job: &Job, places: &Places, incoming: &Incoming<'_>) -> Result<(), Reason> {
        let mut tried = Vec::new();
        let mut lies = 0;
        for (at, place) in places.places.iter().enumerate() {
            if self.is_over() {
                return Err(reason(ShelfError::Interrupted));
            }
            let others = at + 1 < places.places.len();
            let (shown, answer) = match self.url(place, &key.name, &job.expected) {
                Ok(url) => (url.to_string(), self.ask(key, job, &url, others, incoming)),
                Err((shown, problem)) => (shown, Answer::No(problem)),
            };
            let words = match answer {
                Answer::Here => return Ok(()),
                Answer::Stop(reason) => return Err(reason),
                Answer::No(words) => words,
                Answer::Lie(words) => {
                    lies += 1;
                    words
                }
            };
            let next = if others { "; trying the next mirror" } else { "" };
            self.note(format!("`{shown}`: {words}{next}"));
            tried.push((shown, words));
            if lies == MAX_LIES {
                break;
            }
        }
        Err(if lies > 0 && lies == tried.len() { Reason::Another(tried) } else { Reason::Nobody(tried) })
    }

    fn url(&self, place: &Place, name: &str, expected: &Expected) -> Result<Url, (String, String)> {
        let parse = |text: &str| quoted(text).parse::<Url>().map_err(|error| (quoted(text), error.to_string()));
        match place {
            Place::Address(text) => parse(text),
            Place::Mirror(base) => {
                let distfiles = format!("{base}/distfiles");
                let layout = self.layouts.of(base, || self.layout(&parse(&format!("{distfiles}/layout.conf")).ok()?));
                parse(&format!("{distfiles}/{}", layout.path(name, expected)))
            }
        }
    }

    /// The text of a mirror's `layout.conf`, empty if it has none. `None` if the mirror does not answer.
    fn layout(&self, url: &Url) -> Option<String> {
        if self.servers.is_out_of_reach(url, Instant::now()) {
            return None;
        }
        let turn = self.servers.turn(url, &|| self.is_over())?;
        match self.downloader.hasty().bytes(std::slice::from_ref(url), LAYOUT_LIMIT_BYTES, &Silent) {
            Ok((_, bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.is_not_found() => Some(String::new()),
            Err(DownloadError::Failed { tried, .. }) => {
                turn.reached(!tried.last().is_some_and(|tried| is_unreached(&tried.cause)));
                None
            }
            Err(_) => None,
        }
    }

    /// Downloads from one address and verifies the file.
    fn ask(&self, key: &Key, job: &Job, url: &Url, others: bool, incoming: &Incoming<'_>) -> Answer {
        let expected = &job.expected;
        if self.servers.is_out_of_reach(url, Instant::now()) {
            return Answer::No("not tried again, since it could not be reached".to_owned());
        }
        let Some(turn) = self.servers.turn(url, &|| self.is_over()) else { return Answer::Stop(reason(ShelfError::Interrupted)) };
        let downloader = if others { self.downloader.hasty() } else { self.downloader.clone() };
        let target = incoming.target();
        let mut afresh = false;
        loop {
            let urls = std::slice::from_ref(url);
            let size = Some(expected.size);
            let request = Request { urls, target: &target, size, limit: expected.size, afresh, no_wait: false };
            let counter = Counter { inside: self, key, size: expected.size };
            let downloaded = match downloader.file(&request, &counter) {
                Ok(downloaded) => downloaded,
                Err(DownloadError::Interrupted) => return Answer::Stop(reason(ShelfError::Interrupted)),
                Err(DownloadError::Failed { mut tried, .. }) => {
                    let cause = tried.pop().map(|tried| tried.cause);
                    turn.reached(!cause.as_ref().is_some_and(is_unreached));
                    if let Some(cause @ (Cause::WrongSize { .. } | Cause::TooLarge { .. })) = &cause {
                        return Answer::Lie(cause.to_string());
                    }
                    return Answer::No(cause.map_or_else(String::new, |cause| cause.to_string()));
                }
                Err(error) => return Answer::Stop(Reason::Other(causes::in_one_line(&error))),
            };
            turn.reached(true);
            match incoming.verify() {
                Ok(true) => return Answer::Here,
                // The part that was there before may have come from another server, or belong to another file. So try once from the
                // beginning.
                Ok(false) if downloaded.resumed > 0 && !afresh => afresh = true,
                Ok(false) => {
                    let list = if matches!(job.origin, Origin::Package(_)) { "index" } else { "Manifest" };
                    return Answer::Lie(format!("the file is not the one that the {list} describes"));
                }
                Err(error) => return Answer::Stop(reason(error)),
            }
        }
    }
}

/// Reports progress to the board.
struct Counter<'a> {
    inside: &'a Inside,
    key: &'a Key,
    size: u64,
}

impl Observer for Counter<'_> {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Begin { total: Some(left), .. } => self.inside.count(self.key, |_| self.size.saturating_sub(*left)),
            Event::Advance(bytes) => self.inside.count(self.key, |before| before + bytes),
            Event::Note(text) => self.inside.note(format!("`{}`: {text}", self.key.name)),
            _ => {}
        }
    }
}

/// Whether the server did not answer at all.
fn is_unreached(cause: &Cause) -> bool {
    matches!(cause, Cause::Unknown | Cause::ConnectTimeout { .. } | Cause::Connection(_))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn reason(error: ShelfError) -> Reason {
    Reason::Other(causes::in_one_line(&error))
}

/// Characters that an address may not have become `%XX`. Existing `%XX` stay.
fn quoted(text: &str) -> String {
    const QUOTED: &AsciiSet =
        &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
    utf8_percent_encode(text, QUOTED).to_string()
}
