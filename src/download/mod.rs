//! Downloads over HTTP and HTTPS.
//!
//! ```text
//! url        an address that can be asked; joining redirects
//! addresses  which servers may be asked at all, by where their names lead
//! proxies    who asks for us: http_proxy, https_proxy, no_proxy
//! wire       connections: certificate authorities, proxies, silence noticed, Ctrl-C heard
//! exchange   one question and its answer: redirects followed, answers that are no answer refused
//! question   what is asked; other methods than GET, with bodies, for those who talk to a server (`registry`)
//! partial    NAME.part and what is known of it, so that a later attempt, or process, goes on where this one ended
//! retry      attempts and mirrors
//! ```
//!
//! ```text
//! dir/NAME.part         what has come so far; locked while it grows
//! dir/NAME.part.json    where it comes from, its whole size, and by what the server tells one version from another
//! dir/NAME              all of it: synced, then renamed into place
//! ```
//!
//! An interrupted transfer goes on with `Range`. At the same address, `If-Range` makes sure that it is still the same file. At another
//! mirror the file must have the same size. That is no proof. So a caller that verifies a file with [`Downloaded::resumed`] and finds it
//! wrong asks once more with [`Request::afresh`].
//!
//! Nothing that comes is trusted. Sizes are limited before anything is written, and only a signature says what a file *is*. Redirects are
//! followed a limited number of times and never from `https` to `http`.

mod addresses;
mod error;
mod exchange;
mod partial;
mod proxies;
mod question;
mod retry;
mod url;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use addresses::Addresses;
pub(crate) use error::Cause;
pub use error::Error;
pub use proxies::Proxies;
pub(crate) use question::{Answer, Question, Sent};
pub(crate) use retry::Progress;
pub(crate) use ureq::http::Method;
pub(crate) use url::NotAUrl;
pub use url::Url;

use crate::progress::Observer;
use partial::Partial;
use wire::Wires;

/// How to download. The program fills in what depends on its environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Every attempt is an error.
    pub offline: bool,
    pub proxies: Proxies,
    /// Which servers may be asked. A proxy may be asked in any case.
    pub addresses: Addresses,
    /// Files in PEM format with the certificate authorities for `https`.
    pub authorities: Vec<PathBuf>,
    /// For looking a server's name up and connecting to it.
    pub connect_timeout: Duration,
    /// A server that has sent next to nothing for this long has stalled.
    pub stall_timeout: Duration,
    /// How many attempts in a row may bring nothing new at one address.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles each time.
    pub pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offline: false,
            proxies: Proxies::default(),
            addresses: Addresses::default(),
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            attempts: 4,
            pause: Duration::from_secs(1),
        }
    }
}

/// A file to download.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where it is, the best first. If one fails, the next one is asked.
    pub urls: &'a [Url],
    /// Where it goes. The directory must exist. An existing file is replaced.
    pub target: &'a Path,
    /// Its size in bytes, if we know it from elsewhere. A file of another size is refused.
    pub size: Option<u64>,
    /// A larger file is refused.
    pub limit: u64,
    /// Throw away what an earlier attempt has brought.
    pub afresh: bool,
    /// Fail if another process downloads the same file, instead of waiting.
    pub no_wait: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it came from.
    pub url: Url,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many bytes of it an earlier attempt or another mirror had brought.
    pub resumed: u64,
}

/// Asks servers for files.
#[derive(Clone)]
pub struct Downloader {
    settings: Settings,
    wires: Arc<Wires>,
    cancelled: Cancelled,
}

/// Whether the user wants to stop.
pub(crate) type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

impl fmt::Debug for Downloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloader").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Downloader {
    /// `cancelled` is asked several times a second. Once it is true, what is going on ends with [`Error::Interrupted`]. No connection is
    /// opened yet.
    pub fn new(settings: Settings, cancelled: Cancelled) -> Self {
        let wires = Arc::new(Wires::new(&settings, &cancelled));
        Self { settings, wires, cancelled }
    }

    /// The same, with at most two attempts at an address, for callers that have other addresses.
    #[must_use]
    pub fn hasty(&self) -> Self {
        let settings = Settings { attempts: self.settings.attempts.min(retry::HASTY_ATTEMPTS), ..self.settings.clone() };
        Self { settings, wires: Arc::clone(&self.wires), cancelled: Cancelled::clone(&self.cancelled) }
    }

    /// Whether the user wants to stop.
    pub fn cancelled(&self) -> &Cancelled {
        &self.cancelled
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn file(&self, request: &Request<'_>, observer: &dyn Observer) -> Result<Downloaded, Error> {
        self.file_as(request, None, observer)
    }

    /// The same with an `Authorization`, which only the server of the address gets: none to whom it redirects.
    pub(crate) fn file_as(
        &self,
        request: &Request<'_>,
        authorization: Option<&str>,
        observer: &dyn Observer,
    ) -> Result<Downloaded, Error> {
        let name = url::name_of(request.target);
        self.online(&name, request.urls)?;
        let mut partial = Partial::open(request, &self.cancelled, observer)?;
        if let Some(bytes) = partial.finished_by_another() {
            return Ok(Downloaded { url: request.urls[0].clone(), bytes, resumed: 0 });
        }
        let resumed = partial.len();
        let outcome = self.over_mirrors(&name, request.urls, observer, |url, progress| {
            exchange::into_file(&self.wires, url, authorization, request, &mut partial, observer, progress)
        });
        if outcome.is_err() && partial.len() == 0 {
            partial.discard();
        }
        let url = outcome?;
        let bytes = partial.finish(request.target)?;
        Ok(Downloaded { url, bytes, resumed })
    }

    pub fn bytes(&self, urls: &[Url], limit: u64, observer: &dyn Observer) -> Result<(Url, Vec<u8>), Error> {
        let name = urls.first().map(Url::name).unwrap_or_default();
        self.online(&name, urls)?;
        let mut bytes = Vec::new();
        let url = self.over_mirrors(&name, urls, observer, |url, _| exchange::into_memory(&self.wires, url, limit, &mut bytes))?;
        Ok((url, bytes))
    }

    fn online(&self, name: &str, urls: &[Url]) -> Result<(), Error> {
        match urls.first() {
            None => Err(Error::NoUrls { name: name.to_owned() }),
            Some(url) if self.settings.offline => Err(Error::Offline { name: name.to_owned(), url: url.clone() }),
            Some(_) => Ok(()),
        }
    }
}
