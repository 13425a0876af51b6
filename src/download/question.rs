//! Questions that are no download: other methods, bodies, and answers of any status.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{Body, SendBody};

use super::error::{Cause, Error};
use super::exchange;
use super::retry::Progress;
use super::url::Url;
use super::wire::Wires;
use super::{Cancelled, Downloader};
use crate::progress::Observer;
use crate::threads;

/// Of an answer that says why it failed, so much is read.
const MAX_WORDS_BYTES: u64 = 64 << 10;
/// How often it is asked whether the user wants to stop, while bytes are sent.
const TICK: Duration = Duration::from_millis(100);

/// One question to one server.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: &'a [(&'static str, String)],
    /// For the server of `url` alone: a redirect elsewhere goes without it. Never logged.
    pub authorization: Option<&'a str>,
    pub body: Sent<'a>,
}

/// What a question brings along.
#[derive(Clone, Copy)]
pub(crate) enum Sent<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A part of a file. Each piece that was handed to the network is told.
    Part {
        file: &'a File,
        from: u64,
        length: u64,
        told: &'a (dyn Fn(u64) + Sync),
    },
}

impl std::fmt::Debug for Sent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Part { from, length, .. } => write!(f, "{length} bytes from {from}"),
        }
    }
}

/// What the server said, read to its end, so that the connection serves the next question.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Of a failure only the beginning.
    pub body: Vec<u8>,
    /// Who answered in the end.
    pub from: Url,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The cause if it may help to ask again: the server has too much to do, or is broken.
    pub(crate) fn transient(&self) -> Option<Cause> {
        let cause = Cause::Status { code: self.status, retry_after: exchange::retry_after(&self.headers) };
        cause.is_transient().then_some(cause)
    }
}

impl<'a> Question<'a> {
    pub(crate) fn new(method: Method, url: &'a Url) -> Self {
        Self { method, url, headers: &[], authorization: None, body: Sent::Nothing }
    }

    /// Puts the question to the server of `url`, which need not be the one that was meant first.
    pub(super) fn put(&self, wires: &Wires, url: &Url) -> Result<Response<Body>, Cause> {
        let agent = wires.agent(url)?;
        let mut request = Request::builder().method(self.method.clone()).uri(url.uri().clone());
        for (name, value) in self.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = self.authorization.filter(|_| url.is_same_server(self.url)) {
            request = request.header("Authorization", authorization);
        }
        let protocol = |error: ureq::http::Error| Cause::Protocol(error.to_string());
        let outcome = match self.body {
            // A `POST` without a body says that it has none.
            Sent::Nothing if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {
                agent.run(request.body(&[][..]).map_err(protocol)?)
            }
            Sent::Nothing => agent.run(request.body(()).map_err(protocol)?),
            Sent::Bytes(bytes) => agent.run(request.body(bytes).map_err(protocol)?),
            Sent::Part { file, from, length, told } => {
                let mut part = Part { file, at: from, end: from + length, cancelled: wires.cancelled_by(), told };
                let body = SendBody::from_reader(&mut part);
                let request = request.header("Content-Length", length.to_string()).body(body).map_err(protocol)?;
                let request = agent.configure_request(request).timeout_recv_response(Some(wires.head_timeout(length))).build();
                while_watched(wires, || agent.run(request))?
            }
        };
        outcome.map_err(|error| wires.cause(url, error, 0, None))
    }
}

/// Sending may block for as long as a server is silent. If the user wants to stop, all connections are closed.
fn while_watched<T>(wires: &Wires, send: impl FnOnce() -> T) -> Result<T, Cause> {
    std::thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        let watch = move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if wires.cancelled() {
                    wires.shut_down();
                    break;
                }
            }
        };
        threads::scoped(scope, "watch an upload with", watch).map_err(|error| Cause::Connection(error.into()))?;
        let outcome = send();
        drop(done);
        Ok(outcome)
    })
}

/// Reads a part of a file, wherever its cursor is: several uploads may read the same one.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    cancelled: &'a Cancelled,
    told: &'a (dyn Fn(u64) + Sync),
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            return Err(io::Error::other("interrupted"));
        }
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
        }
        self.at += count as u64;
        (self.told)(count as u64);
        Ok(count)
    }
}

impl Downloader {
    /// Asks once, and reads the answer. Redirects are followed for `GET` and `HEAD`. A success with more than `limit` bytes is refused.
    pub(crate) fn ask(&self, question: &Question<'_>, limit: u64) -> Result<Answer, Cause> {
        let (from, response) = exchange::ask(&self.wires, question)?;
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let (good, mut bytes) = (parts.status.is_success(), Vec::new());
        let total = exchange::length(&parts.headers);
        if question.method != Method::HEAD {
            let response = Response::from_parts(parts.clone(), body);
            let outcome = exchange::receive(&self.wires, &from, response, 0, total, |chunk, so_far| {
                if so_far <= if good { limit } else { MAX_WORDS_BYTES } {
                    bytes.extend_from_slice(chunk);
                    Ok(())
                } else {
                    Err(Cause::TooLarge { limit })
                }
            });
            match outcome {
                Err(cause) if good || matches!(cause, Cause::Interrupted) => return Err(cause),
                // Its status says enough.
                Err(cause) => tracing::debug!(%cause, "the rest of the answer is lost"),
                Ok(()) => {}
            }
        }
        Ok(Answer { status, headers: parts.headers, body: bytes, from })
    }

    /// Makes several attempts at what asks the server of `url`, with pauses between them. One that gets further than all before sets
    /// the count back.
    pub(crate) fn patiently<T>(
        &self,
        name: &str,
        url: &Url,
        observer: &dyn Observer,
        mut attempt: impl FnMut(&mut Progress) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        self.online(name, std::slice::from_ref(url))?;
        let mut done = None;
        self.over_mirrors(name, std::slice::from_ref(url), observer, |_, progress| {
            done = Some(attempt(progress)?);
            Ok(())
        })?;
        done.ok_or_else(|| Error::NoUrls { name: name.to_owned() })
    }
}
