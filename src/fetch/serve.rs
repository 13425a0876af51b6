//! Answers what a session asks. All of it is hostile: lines may be endless, half, or none; thousands of connections may be opened.
//!
//! A connection is one line each way. Only so many are served at a time; others wait in the kernel's queue, and all of them are the
//! session's own: no other is served by this broker.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::board::{Key, Origin, State};
use super::broker::{Inside, TICK};
use super::hosts::Asked;
use super::{Error, Reason, Result};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// A question has a name, digests and an address.
const LINE_LIMIT_BYTES: usize = 16 * 1024;
/// An answer has words.
const WORDS_LIMIT: usize = 4000;
/// Within this a question has to be complete, and an answer taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a session asks.
#[derive(Debug, Deserialize)]
struct Question {
    kind: Kind,
    file: String,
    #[serde(default)]
    digests: String,
    #[serde(default)]
    uri: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Source,
    Package,
}

/// What it is told.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Answer {
    /// Where the file is below its shelf.
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<String>,
    /// Whether a link would not do.
    #[serde(skip_serializing_if = "is_false")]
    copy: bool,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    no: Option<String>,
    /// Whether an empty file is to take its place.
    #[serde(skip_serializing_if = "is_false")]
    empty: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Answer {
    fn no(words: &str) -> Self {
        let plain = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
        Self { no: Some(words.chars().map(plain).take(WORDS_LIMIT).collect()), ..Self::default() }
    }
}

/// The socket that a session sees.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

impl Door {
    pub(super) fn new(listener: UnixListener) -> Result<Self> {
        listener.set_nonblocking(true).map_err(Error::io("listen at", std::path::Path::new("socket")))?;
        Ok(Self(listener))
    }

    /// Serves until the broker is dropped.
    pub(super) fn open(self, inside: &Arc<Inside>) {
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let served = Arc::new(AtomicUsize::new(0));
        while !inside.is_over() {
            // With all places taken nothing is accepted, so that there are never more threads than that.
            if served.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            if !matches!(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&tick)), Ok(1)) {
                continue;
            }
            let Ok((stream, _)) = self.0.accept() else {
                // Too many descriptors, perhaps: not at full speed.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            served.fetch_add(1, Ordering::Relaxed);
            let (own, place) = (Arc::clone(inside), Place(Arc::clone(&served)));
            let started = inside.spawn(move || {
                let _place = place;
                if let Err(error) = converse(&stream, &own) {
                    tracing::debug!(%error, "a session's question was not answered");
                }
            });
            if let Err(error) = started {
                tracing::warn!(%error, "no thread for a session's question");
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
    let answer = match serde_json::from_slice::<Question>(&line) {
        Ok(question) => inside.answer(&question, &|| is_gone(stream)),
        Err(_) => Some(Answer::no("this is no question")),
    };
    let Some(answer) = answer else { return Ok(()) };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    let mut stream = stream;
    stream.write_all(&line)
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

/// Whether the other side has hung up.
fn is_gone(stream: &UnixStream) -> bool {
    matches!(rustix::net::recv(stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((0, _)))
}

impl Inside {
    /// The answer; none if nobody waits for it any more.
    fn answer(self: &Arc<Self>, question: &Question, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match question.kind {
            Kind::Source => self.source(question, gone),
            Kind::Package => self.package(question, gone),
        }
    }

    fn source(self: &Arc<Self>, question: &Question, gone: &dyn Fn() -> bool) -> Option<Answer> {
        let name = question.file.as_str();
        let shown = name.escape_debug();
        match self.find_source(name, &digests(&question.digests)) {
            Ok(key) => self.outcome(&key, false, gone),
            Err(words) => Some(Answer::no(&format!("`{shown}` is not fetched: {words}"))),
        }
    }

    fn package(self: &Arc<Self>, question: &Question, gone: &dyn Fn() -> bool) -> Option<Answer> {
        match self.hosts.asked(&question.uri, &self.downloader) {
            Ok(Asked::Index { host, name }) => Some(self.index(host, name)),
            Ok(Asked::Package { url, expected }) => {
                // Of hosts that have packages of one name, each has its own.
                let file = url.name();
                let host: String = format!("{}-{}", url.host(), url.port()).chars().filter(|c| !matches!(c, '[' | ']')).collect();
                let key = Key::new(&format!("{host}-{file}"), &expected);
                self.board().add(&key, &expected, Origin::Package(url), None);
                self.outcome(&key, true, gone)
            }
            Err(words) => Some(Answer::no(&words)),
        }
    }

    /// The index of a host; Portage 3.0.83 passes over one that is not there only under its first name.
    fn index(&self, host: usize, name: &'static str) -> Answer {
        let last = name == "Packages";
        match self.hosts.listing(host, &self.downloader) {
            Ok(listing) if listing.name == name => match self.packages.put(&format!("index-{host}-{name}"), &listing.bytes) {
                Ok(place) => Answer { ok: Some(place), copy: true, ..Answer::default() },
                Err(error) => Answer::no(&error.to_string()),
            },
            Ok(listing) => Answer::no(&format!("the host has `{}`", listing.name)),
            Err(words) => {
                self.note(words.clone());
                Answer { empty: last, ..Answer::no(&words) }
            }
        }
    }

    fn outcome(self: &Arc<Self>, key: &Key, copy: bool, gone: &dyn Fn() -> bool) -> Option<Answer> {
        let job = self.await_file(key, gone)?;
        Some(match job.state {
            State::Here(place) => Answer { ok: Some(place), copy, ..Answer::default() },
            State::Gone(Reason::Nobody(tried)) if tried.is_empty() => {
                Answer::no(&format!("`{}`: nothing says where it is", key.name.escape_debug()))
            }
            State::Gone(reason) => Answer::no(&format!("`{}`: {reason}", key.name.escape_debug())),
            State::Waiting | State::Running(_) => return None,
        })
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
        let answer = Answer::no(&format!("a\x1b[31m\nb{}", "x".repeat(9000)));
        let words = answer.no.unwrap();
        assert!(words.starts_with("a\u{fffd}[31m\nbx") && words.chars().count() == WORDS_LIMIT);
        assert_eq!(serde_json::to_string(&Answer { ok: Some("a".into()), ..Answer::default() }).unwrap(), r#"{"ok":"a"}"#);
    }
}
