//! Answers what a session asks. All of it is hostile: lines may be endless, half, or none; thousands of connections may be opened.
//!
//! A connection is one line each way, and who says more is hung up on. Only so many are served at a time; others wait in the kernel's queue, and all of them are the
//! session's own: no other is served by this broker.

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
use super::broker::{Inside, TICK};
use super::hosts::Asked;
use crate::path_error::PathError;
use crate::terminal_text::blotted;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// A question has a name, digests and an address.
const LINE_LIMIT_BYTES: usize = 16 * 1024;
/// An answer has words.
const WORDS_LIMIT: usize = 4000;
/// Within this a question has to be complete, and an answer taken.
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
    /// Reads a line: four fields, NUL between them.
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

/// What it is told: a word, a blank, and what belongs to it.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Where the file is below its shelf.
    Here(String),
    /// The same, of a file to which a link would not do.
    Copy(String),
    /// Why there is none; an empty one is to take its place.
    Empty(String),
    /// Why there is none.
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

    /// What ends the waiting for questions: the broker shuts it down once it is over.
    pub(super) fn bell(&self) -> Result<UnixListener> {
        Ok(self.0.try_clone().map_err(PathError::of("listen at", "socket"))?)
    }

    /// Serves until the broker is dropped.
    pub(super) fn open(self, inside: &Arc<Inside>) {
        let served = Arc::new(AtomicUsize::new(0));
        while !inside.is_over() {
            // With all places taken nothing is accepted, so that there are never more threads than that.
            if served.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            // Without a limit: every command in a session would otherwise end as late as the next look.
            if !matches!(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None), Ok(1)) || inside.is_over() {
                continue;
            }
            let Ok((stream, _)) = self.0.accept() else {
                // Too many descriptors, perhaps: not at full speed.
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
                // One after the other is better than none.
                if let Err(error) = again.and_then(|stream| converse(&stream, inside)) {
                    tracing::debug!(%error, "a session's question was not answered");
                }
            }
        }
    }
}

/// One of the places; free again however its thread ends.
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

/// A line, without its end; nothing if there is none in time or of a length that makes sense.
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
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether nobody is to be answered any more: the other side has hung up, or goes on talking. What it says is read, since behind bytes that nobody
/// reads no end would be seen, and descriptors that it sends along would stay open. The kernel closes those when they are read without a place
/// for them, so they never become ours.
fn is_gone(stream: &UnixStream) -> bool {
    let said = rustix::net::recv(stream, &mut [0_u8; 1][..], RecvFlags::DONTWAIT);
    !matches!(said, Err(Errno::AGAIN | Errno::INTR))
}

impl Inside {
    /// The answer; none if nobody waits for it any more.
    fn answer(self: &Arc<Self>, question: &Question<'_>, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match question.kind {
            Kind::Source => self.source(question, gone),
            Kind::Package => self.package(question, gone),
        }
    }

    fn source(self: &Arc<Self>, question: &Question<'_>, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match self.find_source(question.file, &digests(question.digests)) {
            Ok(key) => self.outcome(&key, Answer::Here, gone),
            Err(words) => Some(Answer::No(format!("`{}` is not fetched: {words}", question.file.escape_debug()))),
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

    /// The index of a host; Portage 3.0.83 passes over one that is not there only under its first name.
    fn index(&self, host: usize, name: &'static str) -> Answer {
        match self.hosts.listing(host, &self.downloader) {
            Ok(listing) if listing.name == name => match self.packages.put(&format!("index-{host}-{name}"), &listing.bytes) {
                Ok(place) => Answer::Copy(place),
                Err(error) => Answer::No(error.to_string()),
            },
            Ok(listing) => Answer::No(format!("the host has `{}`", listing.name)),
            Err(words) => {
                self.note(format!("{words}; what it may have is built from source"));
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

/// `blake2b:… sha512:…` by the names that Manifests use.
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
