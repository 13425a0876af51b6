//! Answers a session's questions. The session may be hostile: lines may be endless, incomplete or missing, and it may open thousands of
//! connections.
//!
//! A connection has one line in each direction. Whoever sends more is disconnected. Only so many are served at a time. Others wait in the
//! kernel's queue; they are all of the same session, since a broker serves only one.

use std::collections::BTreeMap;
use std::io;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Result;
use super::board::{Key, Origin, State};
use super::hosts::Asked;
use super::inside::{Inside, TICK};
use crate::path_error::PathError;
use crate::terminal_text::blotted;

/// How many connections are served at a time.
const MAX_CONNECTIONS: usize = 64;
/// A question has a name, digests and an address. No real one is longer.
const LINE_LIMIT_BYTES: usize = 16 * 1024;
/// Characters of an answer's text.
const WORDS_LIMIT: usize = 4000;
/// How long a session may take to send a question or to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a session asks.
#[derive(Debug)]
struct Question<'a> {
    kind: Kind,
    file: &'a str,
    digests: &'a str,
    uri: &'a str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Source,
    Package,
}

impl<'a> Question<'a> {
    /// Reads a line of four fields with NUL between them.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split('\0').collect();
        let [kind, file, digests, uri] = fields[..] else { return None };
        let kind = match kind {
            "source" => Kind::Source,
            "package" => Kind::Package,
            _ => return None,
        };
        Some(Self { kind, file, digests, uri })
    }
}

/// An answer: a word, a blank, and what belongs to it.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The file's path below its shelf.
    Here(String),
    /// The same, for a file that Portage needs as a copy and not as a link.
    Copy(String),
    /// Why there is no file. The script makes an empty one in its place.
    Empty(String),
    /// Why there is no file.
    No(String),
}

impl Answer {
    fn line(&self) -> String {
        let (verdict, words) = match self {
            Self::Here(place) => ("ok", place),
            Self::Copy(place) => ("copy", place),
            Self::Empty(words) => ("empty", words),
            Self::No(words) => ("no", words),
        };
        // Other words may be in the answer than ours: a server's, a mirror's. The session prints them on a terminal.
        let plain = |c: char| if c == '\n' { c } else { blotted(c) };
        let words: String = words.chars().map(plain).take(WORDS_LIMIT).collect();
        format!("{verdict} {words}\n")
    }
}

/// The socket that a session sees.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

impl Door {
    pub(super) fn new(listener: UnixListener) -> Result<Self> {
        listener.set_nonblocking(true).map_err(PathError::of("listen at", "socket"))?;
        Ok(Self(listener))
    }

    /// A second descriptor of the socket. The broker shuts it down at its end, which wakes the thread that waits for questions.
    pub(super) fn bell(&self) -> Result<UnixListener> {
        Ok(self.0.try_clone().map_err(PathError::of("listen at", "socket"))?)
    }

    /// Serves until the broker is dropped.
    pub(super) fn open(self, inside: &Arc<Inside>) {
        let served = Arc::new(AtomicUsize::new(0));
        while !inside.is_over() {
            // If all places are taken we accept nothing, so there are never more threads than that.
            if served.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            // No timeout: the broker's end wakes us. With one, every command in a session would end as late as the next look.
            if !matches!(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None), Ok(1)) || inside.is_over() {
                continue;
            }
            let Ok((stream, _)) = self.0.accept() else {
                // Perhaps there are too many descriptors. Then accepting again at once would only spin.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            served.fetch_add(1, Ordering::Relaxed);
            let (own, place) = (Arc::clone(inside), Place(Arc::clone(&served)));
            let again = stream.try_clone();
            let started = inside.spawn(move || {
                let _place = place;
                if let Err(error) = converse(&stream, &own) {
                    tracing::debug!(%error, "a session's question was not answered");
                }
            });
            if let Err(error) = started {
                tracing::warn!(%error, "no thread for a session's question");
                // Without a thread the question is answered here, one after the other.
                if let Err(error) = again.and_then(|stream| converse(&stream, inside)) {
                    tracing::debug!(%error, "a session's question was not answered");
                }
            }
        }
    }
}

/// One of the places. It becomes free however its thread ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: &UnixStream, inside: &Arc<Inside>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(line) = read_line(stream, inside)? else { return Ok(()) };
    let answer = match Question::parse(&line) {
        Some(question) => inside.answer(&question, &|| is_gone(stream)),
        None => Some(Answer::No("this is no question".to_owned())),
    };
    let Some(answer) = answer else { return Ok(()) };
    let mut stream = stream;
    stream.write_all(answer.line().as_bytes())
}

/// A line without its end. `None` if no complete one came in time, or if it is too long.
fn read_line(mut stream: &UnixStream, inside: &Inside) -> io::Result<Option<Vec<u8>>> {
    let since = Instant::now();
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while since.elapsed() < PATIENCE && line.len() < LINE_LIMIT_BYTES && !inside.is_over() {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                line.extend_from_slice(&chunk[..count]);
                if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    line.truncate(end);
                    return Ok(Some(line));
                }
            }
            Err(error)
                // The read timeout, which only serves to look at `is_over` and `PATIENCE`.
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether nobody waits for the answer any more: the other side has hung up, or sends more than its question. We read what it sends. Else
/// unread bytes would hide the end of the stream, and descriptors that it sends would stay open. The kernel closes those because we give
/// no room for them, so they never become ours.
fn is_gone(stream: &UnixStream) -> bool {
    let said = rustix::net::recv(stream, &mut [0_u8; 1][..], RecvFlags::DONTWAIT);
    !matches!(said, Err(Errno::AGAIN | Errno::INTR))
}

impl Inside {
    /// The answer. `None` if nobody waits for it any more.
    fn answer(self: &Arc<Self>, question: &Question<'_>, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match question.kind {
            Kind::Source => self.source(question, gone),
            Kind::Package => self.package(question, gone),
        }
    }

    fn source(self: &Arc<Self>, question: &Question<'_>, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match self.find_source(question.file, &digests(question.digests)) {
            Ok(key) => self.outcome(&key, Answer::Here, gone),
            Err(words) => Some(Answer::No(format!("`{}` was not fetched: {words}", question.file.escape_debug()))),
        }
    }

    fn package(self: &Arc<Self>, question: &Question<'_>, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match self.hosts.asked(question.uri, &self.downloader) {
            Ok(Asked::Index { host, name }) => Some(self.index(host, name)),
            Ok(Asked::Package { at, expected }) => {
                let key = Key::new(&at.name(), &expected);
                self.board().add(&key, &expected, Origin::Package(at), None);
                self.outcome(&key, Answer::Copy, gone)
            }
            Err(words) => Some(Answer::No(words)),
        }
    }

    /// The index of a host. If there is none, Portage 3.0.83 goes on only for the first name, so for the second one the script makes an
    /// empty file.
    fn index(&self, host: usize, name: &'static str) -> Answer {
        match self.hosts.listing(host, &self.downloader) {
            Ok(listing) if listing.name == name => match self.packages.put(&format!("index-{host}-{name}"), &listing.bytes) {
                Ok(place) => Answer::Copy(place),
                Err(error) => Answer::No(error.to_string()),
            },
            Ok(listing) => Answer::No(format!("the host has `{}`", listing.name)),
            Err(words) => {
                self.note(format!("{words}; packages that it may have are built from source"));
                if name == "Packages" { Answer::Empty(words) } else { Answer::No(words) }
            }
        }
    }

    fn outcome(self: &Arc<Self>, key: &Key, here: fn(String) -> Answer, gone: &dyn Fn() -> bool) -> Option<Answer> {
        let shown = key.name.escape_debug();
        match self.await_file(key, gone)?.state {
            State::Here(place) => Some(here(place)),
            State::Gone(reason) => Some(Answer::No(format!("`{shown}`: {reason}"))),
            State::Waiting | State::Running(_) => None,
        }
    }
}

/// `blake2b:… sha512:…` as a map with the names that Manifests use.
fn digests(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().filter_map(|word| word.split_once(':'));
    pairs.map(|(hash, value)| (hash.to_ascii_uppercase(), value.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_as_portage_gives_them() {
        let found = digests("blake2b:AB sha512:cd  odd md5:");
        let pairs: Vec<(&str, &str)> = found.iter().map(|(hash, value)| (hash.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("BLAKE2B", "ab"), ("MD5", ""), ("SHA512", "cd")]);
    }

    #[test]
    fn words_are_bounded_and_plain() {
        let line = Answer::No(format!("a\x1b[31m\nb{}", "x".repeat(9000))).line();
        assert!(line.starts_with("no a\u{fffd}[31m\nbx") && line.chars().count() == WORDS_LIMIT + 4);
        assert_eq!(Answer::Here("a".into()).line(), "ok a\n");
    }

    #[test]
    fn a_question_has_four_fields() {
        let question = Question::parse(b"source\0a\0\0http://h").unwrap();
        assert_eq!((question.file, question.digests, question.uri), ("a", "", "http://h"));
        for line in [&b""[..], b"source", b"source\0a\0b", b"source\0a\0b\0c\0d", b"file\0a\0b\0c", b"source\0\xff\0b\0c"] {
            assert!(Question::parse(line).is_none(), "{line:?}");
        }
    }
}
