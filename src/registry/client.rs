//! Questions to one registry: over which protocol, as whom, how often.
//!
//! ```text
//! us ── GET /v2/ ──────────────────────────> registry      once: what it wants to know
//!    <─ 401 WWW-Authenticate: Bearer realm ─
//! us ── GET realm?service=&scope= ─────────> token server   with the password, or without
//!    <─ token ─
//! us ── HEAD /v2/REPOSITORY/… ─────────────> registry      with the token
//! ```
//!
//! Password and token go to the registry itself and to its token server, never to whom one of them redirects. Only the registry itself says
//! which token server that is. Without TLS nobody knows who answers: then they go nowhere, unless the user has written `oci+http://`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::address::{NotAnAddress, OciAddress, is_tag};
use super::challenge::Challenge;
use super::credentials::{Credentials, Secret};
use super::error::{Error, Result};
use super::{Access, challenge};
use crate::download;
use crate::download::{Answer, Cause, Method, Question, Sent, Url};
use crate::progress::{Event, Observer};
use crate::terminal_text::{blotted, sanitize_line};

/// Answers that are no manifests and no lists.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The specification's default for tokens that do not say for how long they are good.
const TOKEN_LIFE: Duration = Duration::from_mins(1);
/// A token is renewed so long before its end.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// How we call ourselves to a token server.
const CLIENT: &str = "gentoomuch";

/// What is to be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    Pull,
    Push,
    Delete,
}

impl Right {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,delete",
        }
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It may be tried again.
    Later(Cause),
    Never(Error),
}

impl From<Cause> for Stopped {
    fn from(cause: Cause) -> Self {
        Self::Later(cause)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Never(error)
    }
}

/// Asks one registry about one repository.
pub(super) struct Client<'a> {
    place: OciAddress,
    access: Access<'a>,
    known: Mutex<Known>,
}

/// What the registry has told.
#[derive(Default)]
struct Known {
    /// `https://HOST/`, once it has answered.
    base: Option<Url>,
    challenge: Option<Challenge>,
    credentials: Option<Credentials>,
    tokens: BTreeMap<Right, (Secret, Instant)>,
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Passes on only what may come from several threads at once.
struct Quiet<'a>(&'a dyn Observer);

impl Observer for Quiet<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Note(_) | Event::Advance(_)) {
            self.0.event(event);
        }
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(place: &OciAddress, access: &Access<'a>) -> Self {
        Self { place: place.clone(), access: access.clone(), known: Mutex::default() }
    }

    pub(super) fn shown(&self) -> String {
        self.place.to_string()
    }

    pub(super) fn access(&self) -> &Access<'a> {
        &self.access
    }

    pub(super) fn observer(&self) -> impl Observer + 'a {
        Quiet(self.access.observer)
    }

    /// The address of a blob. What is no digest could lead anywhere.
    pub(super) fn blob_url(&self, digest: &str) -> Result<Url> {
        if !is_digest(digest) {
            return Err(Error::NotADigest { digest: sanitize_line(digest.as_bytes(), 100) });
        }
        self.url(&format!("blobs/{digest}"))
    }

    /// The address of a manifest, by its tag or its digest.
    pub(super) fn manifest_url(&self, name: &str) -> Result<Url> {
        if !is_tag(name) && !is_digest(name) {
            return Err(NotAnAddress::Tag(name.chars().map(blotted).collect()).into());
        }
        self.url(&format!("manifests/{name}"))
    }

    /// `/v2/REPOSITORY/PATH`.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        let base = self.greeted()?;
        self.joined(&base, &format!("/v2/{}/{path}", self.place.repository))
    }

    /// An address that the registry names.
    pub(super) fn joined(&self, from: &Url, location: &str) -> Result<Url> {
        let url = from.join(location).map_err(|error| self.no_registry(format!("it names an address that is none: {error}")))?;
        if from.is_https() && !url.is_https() {
            return Err(self.no_registry(format!("it leads from `https` to `{url}`")));
        }
        Ok(url)
    }

    /// Asks as often as it makes sense, with what the registry wants to know of us. Any answer counts that is not a refusal of us.
    pub(super) fn ask(&self, right: Right, question: &Question<'_>, limit: u64) -> Result<Answer> {
        let mut renewed = false;
        loop {
            let authorization = self.authorization_for(right, question.url)?;
            let question = Question { authorization: authorization.as_deref(), ..question.clone() };
            let answer = self.access.downloader.patiently(&self.shown(), question.url, &self.observer(), |_| {
                let answer = self.access.downloader.ask(&question, limit)?;
                answer.transient().map_or(Ok(answer), Err)
            });
            let answer = answer.map_err(|error| self.failed(error))?;
            if answer.status == 401 && !renewed && self.learned(right, &answer)? {
                renewed = true;
                continue;
            }
            return self.not_refused(answer);
        }
    }

    /// The same, once, for those who have patience of their own. A refusal of us is an answer.
    pub(super) fn ask_once(&self, right: Right, question: &Question<'_>) -> std::result::Result<Answer, Stopped> {
        let authorization = self.authorization_for(right, question.url)?;
        let question = Question { authorization: authorization.as_deref(), ..question.clone() };
        let answer = self.access.downloader.ask(&question, MAX_ANSWER_BYTES)?;
        answer.transient().map_or(Ok(answer), |cause| Err(Stopped::Later(cause)))
    }

    /// Refuses an answer that refuses us.
    pub(super) fn not_refused(&self, answer: Answer) -> Result<Answer> {
        self.not_elsewhere(&self.greeted()?, &answer)?;
        match answer.status {
            401 | 403 => Err(self.refused(answer.status, said(&answer))),
            _ => Ok(answer),
        }
    }

    /// Refuses an answer by which another server refuses us: that one need not know who we are.
    fn not_elsewhere(&self, base: &Url, answer: &Answer) -> Result<()> {
        if !matches!(answer.status, 401 | 403) || answer.from.is_same_server(base) {
            return Ok(());
        }
        let server = answer.from.join("/").map_or_else(|_| answer.from.host().to_owned(), |url| url.to_string());
        Err(Error::RefusedElsewhere { place: self.shown(), server: server.trim_end_matches('/').to_owned() })
    }

    pub(super) fn refused(&self, status: u16, said: Option<String>) -> Error {
        let user = self.known().credentials.as_ref().map(|credentials| credentials.user().to_owned());
        Error::Refused { place: self.shown(), user, forbidden: status == 403, said }
    }

    pub(super) fn not_accepted(&self, what: &str, answer: &Answer) -> Error {
        let said = said(answer).or_else(|| Some(format!("it says {}", answer.status)));
        Error::NotAccepted { place: self.shown(), what: what.to_owned(), status: answer.status, said }
    }

    pub(super) fn no_registry(&self, reason: impl Into<String>) -> Error {
        Error::NotARegistry { place: self.shown(), reason: reason.into() }
    }

    pub(super) fn failed(&self, error: download::Error) -> Error {
        Error::of_download(&self.shown(), error)
    }

    /// The value of `Authorization` for `url`: none for another server than the registry's own.
    pub(super) fn authorization_for(&self, right: Right, url: &Url) -> Result<Option<String>> {
        let base = self.greeted()?;
        if url.is_same_server(&base) { self.authorization(right) } else { Ok(None) }
    }

    /// Takes a new challenge of the registry to heart. Whether it makes sense to ask again.
    pub(super) fn learned(&self, right: Right, answer: &Answer) -> Result<bool> {
        self.not_elsewhere(&self.greeted()?, answer)?;
        let Some(new) = challenge_of(answer) else { return Ok(false) };
        let mut known = self.known();
        // A password is not better the second time. A token may have ended, or stood for less.
        let again = matches!(new, Challenge::Bearer { .. }) || known.challenge.is_none();
        known.tokens.remove(&right);
        known.challenge = Some(new);
        drop(known);
        Ok(again && self.find_credentials().is_ok())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry's address. It is asked at the first time what it is and what it wants to know; the other threads wait for that.
    fn greeted(&self) -> Result<Url> {
        let mut known = self.known();
        if let Some(base) = &known.base {
            return Ok(base.clone());
        }
        if self.access.downloader.settings().offline {
            return Err(Error::Offline { place: self.shown() });
        }
        let (base, answer) = self.greet()?;
        self.not_elsewhere(&base, &answer)?;
        let challenge = challenge_of(&answer).filter(|_| answer.from.is_same_server(&base));
        let page = answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html"));
        match answer.status {
            200 if page => return Err(self.no_registry("it sent a web page")),
            200 => {}
            401 if challenge.is_some() => {}
            401 => return Err(self.no_registry("it wants to know who asks in a way that we do not know")),
            403 => return Err(Error::Refused { place: self.shown(), user: None, forbidden: true, said: said(&answer) }),
            status => return Err(self.no_registry(format!("it says {status} to the question whether it is one"))),
        }
        if challenge.is_some() {
            known.credentials = self.credentials()?;
        }
        known.challenge = challenge;
        known.base = Some(base.clone());
        Ok(base)
    }

    /// Asks `/v2/`. On this machine http will do where there is no https.
    fn greet(&self) -> Result<(Url, Answer)> {
        let host = if self.place.host == "docker.io" { "registry-1.docker.io" } else { &self.place.host };
        let address = |scheme: &str| -> Result<Url> {
            let url = format!("{scheme}://{host}/v2/").parse::<Url>();
            url.map_err(|error| self.no_registry(error.to_string()))
        };
        let mut url = address(if self.place.plain { "http" } else { "https" })?;
        if !self.place.plain && self.place.is_local() {
            match self.access.downloader.ask(&Question::new(Method::GET, &url), MAX_ANSWER_BYTES) {
                Ok(answer) if answer.transient().is_none() => return Ok((url, answer)),
                Err(cause) if is_no_tls(&cause) => url = address("http")?,
                _ => {}
            }
        }
        let answer = self.access.downloader.patiently(&self.shown(), &url, &self.observer(), |_| {
            let answer = self.access.downloader.ask(&Question::new(Method::GET, &url), MAX_ANSWER_BYTES)?;
            answer.transient().map_or(Ok(answer), Err)
        });
        Ok((url.clone(), answer.map_err(|error| self.failed(error))?))
    }

    fn credentials(&self) -> Result<Option<Credentials>> {
        let cancelled = self.access.downloader.cancelled();
        Ok(self.access.credentials.of(&self.place, &|| cancelled())?)
    }

    fn find_credentials(&self) -> Result<()> {
        if self.known().credentials.is_none() {
            let credentials = self.credentials()?;
            self.known().credentials = credentials;
        }
        Ok(())
    }

    /// The value of `Authorization`. Whoever needs a token waits for whoever is getting it.
    fn authorization(&self, right: Right) -> Result<Option<String>> {
        let mut known = self.known();
        if known.challenge.is_some() && !self.place.plain && known.base.as_ref().is_some_and(|base| !base.is_https()) {
            return Err(Error::NoTls { place: self.shown() });
        }
        match (&known.challenge, &known.credentials) {
            (None, _) | (Some(Challenge::Basic), None) => Ok(None),
            (_, Some(Credentials::Token(token))) => Ok(Some(format!("Bearer {}", token.0))),
            (Some(Challenge::Basic), Some(Credentials::Password { user, secret })) => Ok(Some(basic(user, secret))),
            (Some(Challenge::Basic), Some(Credentials::Identity(_))) => Err(Error::Refused {
                place: self.shown(),
                user: Some("the holder of a token".to_owned()),
                forbidden: false,
                said: None,
            }),
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                if let Some((token, until)) = known.tokens.get(&right)
                    && *until > Instant::now()
                {
                    return Ok(Some(format!("Bearer {}", token.0)));
                }
                let base = known.base.clone();
                let (token, until) =
                    self.token(realm, service.as_deref(), scope.as_deref(), right, credentials.as_ref(), base.as_ref())?;
                let value = format!("Bearer {}", token.0);
                known.tokens.insert(right, (token, until));
                Ok(Some(value))
            }
        }
    }

    /// Asks the token server.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        asked: Option<&str>,
        right: Right,
        credentials: Option<&Credentials>,
        base: Option<&Url>,
    ) -> Result<(Secret, Instant)> {
        let realm: Url = realm.parse().map_err(|error| self.no_registry(format!("its token server has no address: {error}")))?;
        if !realm.is_https() {
            let same_host = base.is_some_and(|base| base.host().eq_ignore_ascii_case(realm.host()));
            let how = match (self.place.plain, same_host) {
                (true, true) => None,
                (true, false) => Some("on another host, and not asked by `https`"),
                (false, _) => Some("not asked by `https`"),
            };
            if let Some(how) = how {
                return Err(self.no_registry(format!("its token server `{realm}` is {how}")));
            }
        }
        let scope = format!("repository:{}:{}", self.place.repository, right.actions());
        let mut query: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        query.push(("scope", &scope));
        // What the registry itself asks for may be called otherwise there.
        if let Some(asked) = asked.filter(|asked| *asked != scope && asked.starts_with("repository:")) {
            query.push(("scope", asked));
        }
        let answer = self.asked_for_token(&realm, query, credentials)?;
        if matches!(answer.status, 400 | 401 | 403) {
            let user = credentials.map(|credentials| credentials.user().to_owned());
            return Err(Error::Refused { place: self.shown(), user, forbidden: answer.status == 403, said: said(&answer) });
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|name| json.get(*name).and_then(Value::as_str));
        // It becomes part of a header.
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        match token {
            Some(token) if answer.status == 200 => {
                let life = json.get("expires_in").and_then(Value::as_u64).map_or(TOKEN_LIFE, Duration::from_secs).max(TOKEN_LIFE);
                let life = life.min(Duration::from_hours(1));
                Ok((Secret(token.to_owned()), Instant::now() + life.saturating_sub(TOKEN_MARGIN)))
            }
            _ => Err(self.no_registry(format!("its token server says {} and gives no token", answer.status))),
        }
    }

    fn asked_for_token<'q>(
        &self,
        realm: &Url,
        mut query: Vec<(&'q str, &'q str)>,
        credentials: Option<&'q Credentials>,
    ) -> Result<Answer> {
        let (mut authorization, mut form) = (None, None);
        match credentials {
            Some(Credentials::Password { user, secret }) => authorization = Some(basic(user, secret)),
            Some(Credentials::Identity(token)) => {
                query.extend([("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &token.0)]);
                form = Some(encoded(&query));
            }
            Some(Credentials::Token(_)) | None => {}
        }
        let text = realm.to_string();
        let url = match &form {
            Some(_) => realm.clone(),
            None => {
                let separator = if text.contains('?') { '&' } else { '?' };
                let url = format!("{text}{separator}{}", encoded(&query)).parse();
                url.map_err(|error: download::NotAUrl| self.no_registry(error.to_string()))?
            }
        };
        let headers = [("Content-Type", "application/x-www-form-urlencoded".to_owned())];
        let mut question = Question { authorization: authorization.as_deref(), ..Question::new(Method::GET, &url) };
        if let Some(form) = &form {
            question = Question { method: Method::POST, headers: &headers, body: Sent::Bytes(form.as_bytes()), ..question };
        }
        let answer = self.access.downloader.patiently(&self.shown(), &url, &self.observer(), |_| {
            let answer = self.access.downloader.ask(&question, MAX_ANSWER_BYTES)?;
            answer.transient().map_or(Ok(answer), Err)
        });
        answer.map_err(|error| self.failed(error))
    }
}

/// What a registry says about a failure, safe to print: `{"errors": [{"code": …, "message": …}]}`.
pub(super) fn said(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let first = json.get("errors")?.get(0)?;
    let of = |name: &str| first.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let text = match (of("message"), of("code")) {
        (Some(message), Some(code)) => format!("{message} ({code})"),
        (one, other) => one.or(other)?.to_owned(),
    };
    Some(sanitize_line(text.as_bytes(), 200))
}

/// The code of the first error.
pub(super) fn code(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    json.get("errors")?.get(0)?.get("code")?.as_str().map(str::to_owned)
}

fn challenge_of(answer: &Answer) -> Option<Challenge> {
    let lines = answer.headers.get_all("WWW-Authenticate");
    challenge::best(lines.iter().filter_map(|value| value.to_str().ok()))
}

/// `sha256:` and 64 digits: all that becomes part of an address.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("sha256:").is_some_and(hex)
}

/// Whether the other side speaks no TLS, or we cannot, so that http may be tried on this machine. A bad certificate is another matter.
fn is_no_tls(cause: &Cause) -> bool {
    match cause {
        Cause::NoAuthorities => true,
        Cause::Tls(text) => text.contains("InvalidContentType"),
        Cause::Connection(error) => error.kind() != ErrorKind::ConnectionRefused,
        _ => false,
    }
}

fn basic(user: &str, secret: &Secret) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", secret.0)))
}

fn encoded(query: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    query.iter().map(pair).collect::<Vec<_>>().join("&")
}
