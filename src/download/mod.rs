//! Downloads over HTTP and HTTPS.
//!
//! ```text
//! url        an address that can be asked; joining redirects
//! addresses  which servers may be asked at all, by where their names lead
//! proxies    who asks for us: http_proxy, https_proxy, no_proxy
//! wire       connections: certificate authorities, proxies, silence noticed, Ctrl-C heard
//! exchange   one question and its answer: redirects followed, answers that are no answer refused
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
//! A transfer that broke off goes on with `Range`. From the same address `If-Range` makes sure that it is still the same file; from
//! another mirror it has to have the same size. That is no proof, so whoever verifies a file that was [`Downloaded::resumed`] and finds
//! it wrong asks for it once more with [`Request::afresh`].
//!
//! Nothing here is trusted: sizes are limited before anything is written, and what a file *is* its signature has to say. Redirects are
//! followed a bounded number of times and never from `https` to `http`.

mod addresses;
mod error;
mod exchange;
mod partial;
mod proxies;
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
pub(crate) use url::NotAUrl;
pub use url::Url;

use crate::progress::Observer;
use partial::Partial;
use wire::Wires;

/// How to download. The program finds out what of it its surroundings decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Download nothing: every attempt is an error.
    pub offline: bool,
    /// Who asks for us.
    pub proxies: Proxies,
    /// Which servers may be asked; a proxy may always.
    pub addresses: Addresses,
    /// Files in PEM format with the authorities whose certificates count for `https`.
    pub authorities: Vec<PathBuf>,
    /// For finding and reaching a server.
    pub connect_timeout: Duration,
    /// A server that has said next to nothing for so long has stalled.
    pub stall_timeout: Duration,
    /// How often one address is asked while it makes no progress.
    pub attempts: u32,
    /// The pause before the second attempt; doubled for each one after it.
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
    /// Where it is, the best first; the others are asked if that fails.
    pub urls: &'a [Url],
    /// Where it goes; its directory must exist. A file that is there is replaced.
    pub target: &'a Path,
    /// Its size in bytes, if that is known from elsewhere. Anything else is not the file.
    pub size: Option<u64>,
    /// More bytes than this are refused.
    pub limit: u64,
    /// Forget what an earlier attempt has brought.
    pub afresh: bool,
    /// Fail instead of waiting while another process downloads the same file.
    pub no_wait: bool,
}

/// A file that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Who had it.
    pub url: Url,
    /// Its size in bytes.
    pub bytes: u64,
    /// How much of it an earlier attempt, or another mirror, had brought.
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
    /// `cancelled` is asked several times a second; once it says yes, what is going on ends with [`Error::Interrupted`]. Nothing is
    /// opened before it is needed.
    pub fn new(settings: Settings, cancelled: Cancelled) -> Self {
        let wires = Arc::new(Wires::new(&settings, &cancelled));
        Self { settings, wires, cancelled }
    }

    /// The same, with at most two attempts at an address: for callers that have others to ask.
    #[must_use]
    pub fn hasty(&self) -> Self {
        let settings = Settings { attempts: self.settings.attempts.min(retry::HASTY_ATTEMPTS), ..self.settings.clone() };
        Self { settings, wires: Arc::clone(&self.wires), cancelled: Cancelled::clone(&self.cancelled) }
    }

    /// Whether the user wants to stop.
    pub fn cancelled(&self) -> &Cancelled {
        &self.cancelled
    }

    /// How it downloads.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Downloads a file.
    pub fn file(&self, request: &Request<'_>, observer: &dyn Observer) -> Result<Downloaded, Error> {
        let name = url::name_of(request.target);
        self.online(&name, request.urls)?;
        let mut partial = Partial::open(request, &self.cancelled, observer)?;
        if let Some(bytes) = partial.finished_by_another() {
            return Ok(Downloaded { url: request.urls[0].clone(), bytes, resumed: 0 });
        }
        let resumed = partial.len();
        let outcome = self.over_mirrors(&name, request.urls, observer, |url, progress| {
            exchange::into_file(&self.wires, url, request, &mut partial, observer, progress)
        });
        if outcome.is_err() && partial.len() == 0 {
            partial.discard();
        }
        let url = outcome?;
        let bytes = partial.finish(request.target)?;
        Ok(Downloaded { url, bytes, resumed })
    }

    /// Downloads a small document into memory.
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
