//! Why a download failed.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::url::{NotAUrl, Url};
use crate::path_error::PathError;

/// A download that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nowhere to ask.
    #[error("no address to download `{name}` from")]
    NoUrls { name: String },
    #[error(transparent)]
    Url(#[from] NotAUrl),
    /// Downloads are switched off.
    #[error("`{name}` is not here, and downloads are switched off")]
    Offline {
        name: String,
        /// Where it would have come from.
        url: Url,
    },
    /// Downloads are switched off, and nothing of the kind was downloaded earlier.
    #[error("no `{name}` is here, and downloads are switched off")]
    NothingHere {
        /// What was looked for.
        name: String,
    },
    /// Nobody who was asked has it.
    #[error("cannot download `{name}`")]
    Failed {
        name: String,
        /// Who was asked, in that order, and what came of it.
        tried: Vec<Tried>,
    },
    #[error(transparent)]
    Io(#[from] PathError),
    /// Another process is downloading the same file.
    #[error("another process is downloading `{name}`")]
    Busy { name: String },
    /// The user wants to stop. What has come is kept.
    #[error("interrupted")]
    Interrupted,
}

/// What came of asking at one address.
#[derive(Debug)]
pub struct Tried {
    pub url: Url,
    /// What happened last.
    pub cause: Cause,
}

/// Why one address was of no use.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The server's answer.
    #[error("the server says {code}{}", reason(*code))]
    Status {
        code: u16,
        /// When to ask again, as the server says, in seconds.
        retry_after: Option<u64>,
    },
    /// No such host.
    #[error("there is no host of that name")]
    Unknown,
    /// A server that only the user may name.
    #[error("`{host}` is at {address}, where only servers that the configuration names are asked")]
    Address { host: String, address: IpAddr },
    /// Nobody answers.
    #[error("no connection within {secs} s")]
    ConnectTimeout {
        /// How long was waited.
        secs: u64,
    },
    /// The server stopped talking.
    #[error("the server sent next to nothing for {secs} s, after {got} bytes")]
    Stalled {
        /// How long was waited.
        secs: u64,
        /// What there is by now.
        got: u64,
    },
    /// The connection ended too early.
    #[error("the connection was cut after {got} of {total} bytes")]
    Cut {
        /// What there is by now.
        got: u64,
        /// What there should be.
        total: u64,
    },
    /// The connection failed in another way.
    #[error("{0}")]
    Connection(io::Error),
    /// The server does not prove who it is.
    #[error("no trustworthy connection: {0}")]
    Tls(String),
    /// Not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Protocol(String),
    #[error("the proxy `{proxy}` is of no use: {reason}")]
    Proxy {
        /// Its address, without password.
        proxy: String,
        reason: String,
    },
    /// A file of authorities.
    #[error("cannot read certificate authorities from `{}`: {reason}", path.display())]
    Authorities { path: PathBuf, reason: String },
    /// No file of authorities.
    #[error("no certificate authorities are known on this host, so `https` proves nothing")]
    NoAuthorities,
    /// Redirects without end.
    #[error("redirected more than {limit} times, last to `{last}`")]
    Redirects {
        /// How many are followed.
        limit: usize,
        last: Url,
    },
    /// A redirect that leads nowhere.
    #[error("redirected to nowhere: {0}")]
    RedirectUrl(String),
    /// From `https` to `http`.
    #[error("redirected from `https` to `{to}`, which is refused")]
    Downgrade { to: Url },
    /// More than allowed.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Another size than it should have.
    #[error("the file has {got} bytes there, but should have {expected}")]
    WrongSize {
        /// What is known from elsewhere.
        expected: u64,
        /// What the server says or sends.
        got: u64,
    },
    /// A web page in the place of a file.
    #[error("the server sent a web page instead of the file")]
    WebPage,
    /// A coding that was not asked for.
    #[error("the server sent the file as `{0}`, which was not asked for")]
    Coding(String),
    /// The answer to a request for a part does not fit.
    #[error("the server sent another part of the file than was asked for")]
    WrongPart,
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
    /// The disk: no mirror helps.
    #[error("cannot write `{}`: {source}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

impl Cause {
    /// Whether asking the same server again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500 | 502..=504),
            Self::ConnectTimeout { .. }
            | Self::Stalled { .. }
            | Self::Cut { .. }
            | Self::Connection(_)
            | Self::Protocol(_)
            | Self::WrongPart => true,
            _ => false,
        }
    }
}

impl Error {
    /// Whether everybody who was asked says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed { tried, .. } if tried.iter().all(|tried| matches!(tried.cause, Cause::Status { code: 404 | 410, .. })))
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Offline { .. } | Self::NothingHere { .. } => Some("repeat the command without `--offline`".to_owned()),
            Self::Busy { .. } => Some("wait for it, or leave out `--no-wait`".to_owned()),
            Self::Interrupted => Some("repeat the command to go on where it stopped".to_owned()),
            Self::Failed { tried, .. } => tried.last().and_then(|tried| tried.cause.hint()),
            _ => None,
        }
    }
}

impl Cause {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Status { code: 404 | 410, .. } => "it may have been removed or not be there yet; name another mirror",
            Self::Status { code: 407, .. } => "the proxy wants a password: `http_proxy=http://USER:PASSWORD@HOST:PORT`",
            Self::Status { .. } | Self::Protocol(_) => "try again later, or name another mirror",
            Self::Unknown => "check the name, the network and `/etc/resolv.conf`; `http_proxy` and `https_proxy` are honoured",
            Self::Address { .. } => "if it is to be asked, name it in `GENTOO_MIRRORS` or in `etc/portage/mirrors`",
            Self::ConnectTimeout { .. } | Self::Connection(_) => {
                "check the network; `http_proxy` and `https_proxy` are honoured; or name another mirror"
            }
            Self::Stalled { .. } | Self::Cut { .. } => "repeat the command to go on where it stopped, or name another mirror",
            Self::Tls(_) => "check the clock; for an authority of your own name its file in `SSL_CERT_FILE`",
            Self::Authorities { .. } | Self::NoAuthorities => {
                "install `ca-certificates`, or name a file of authorities in `SSL_CERT_FILE`"
            }
            Self::Proxy { .. } => "check `http_proxy`, `https_proxy` and `no_proxy`",
            Self::WebPage => "a login page of the network, or a mirror that is out of order: open the address in a browser",
            Self::TooLarge { .. }
            | Self::WrongSize { .. }
            | Self::Coding(_)
            | Self::WrongPart
            | Self::Redirects { .. }
            | Self::RedirectUrl(_)
            | Self::Downgrade { .. } => "name another mirror",
            Self::Interrupted | Self::Disk { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// What the codes that mirrors use mean.
fn reason(code: u16) -> String {
    let reason = match code {
        401 => "password required",
        403 => "forbidden",
        404 => "not found",
        407 => "the proxy wants a password",
        408 => "took too long",
        410 => "gone",
        429 => "too many requests",
        500 => "internal error",
        502 => "bad gateway",
        503 => "out of service",
        504 => "gateway timeout",
        _ => return String::new(),
    };
    format!(" ({reason})")
}
