//! Why a download failed.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::url::{NotAUrl, Url};
use crate::path_error::PathError;

/// A download that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no address to ask.
    #[error("no address to download `{name}` from")]
    NoUrls { name: String },
    #[error(transparent)]
    Url(#[from] NotAUrl),
    /// Downloads are switched off.
    #[error("`{name}` is not here, and downloads are switched off")]
    Offline {
        name: String,
        /// Where we would have asked.
        url: Url,
    },
    /// Downloads are switched off, and there is no such file from an earlier download.
    #[error("no `{name}` is here, and downloads are switched off")]
    NothingHere {
        /// What we looked for.
        name: String,
    },
    /// No server that we asked has it.
    #[error("cannot download `{name}`")]
    Failed {
        name: String,
        /// Whom we asked, in this order, with the result.
        tried: Vec<Tried>,
    },
    #[error(transparent)]
    Io(#[from] PathError),
    /// Another process is downloading the same file.
    #[error("another process is downloading `{name}`")]
    Busy { name: String },
    /// The user wants to stop. The part that has come is kept.
    #[error("interrupted")]
    Interrupted,
}

/// The result of asking one address.
#[derive(Debug)]
pub struct Tried {
    pub url: Url,
    /// Of the last attempt.
    pub cause: Cause,
}

/// Why one address failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the server says {code}{}", reason(*code))]
    Status {
        code: u16,
        /// In how many seconds to ask again, according to the server.
        retry_after: Option<u64>,
    },
    /// No such host.
    #[error("there is no host of that name")]
    Unknown,
    /// Only the user may name a server at such an address.
    #[error("`{host}` is at {address}, a local address; there only servers that the configuration names are used")]
    Address { host: String, address: IpAddr },
    #[error("no connection within {secs} s")]
    ConnectTimeout {
        /// How long was waited.
        secs: u64,
    },
    /// The server stopped talking.
    #[error("the server sent almost nothing for {secs} s, after {got} bytes")]
    Stalled {
        secs: u64,
        /// How many bytes there are by now.
        got: u64,
    },
    /// The connection ended too early.
    #[error("the connection was cut after {got} of {total} bytes")]
    Cut {
        /// How many bytes there are by now.
        got: u64,
        /// How many there should be.
        total: u64,
    },
    /// The connection failed in another way.
    #[error("{0}")]
    Connection(io::Error),
    /// The server cannot prove who it is.
    #[error("cannot make a secure connection: {0}")]
    Tls(String),
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Protocol(String),
    #[error("cannot use the proxy `{proxy}`: {reason}")]
    Proxy {
        /// Without user and password.
        proxy: String,
        reason: String,
    },
    /// A file of certificate authorities cannot be read.
    #[error("cannot read certificate authorities from `{}`: {reason}", path.display())]
    Authorities { path: PathBuf, reason: String },
    /// There is no file of certificate authorities.
    #[error("this host has no certificate authorities, so `https` proves nothing")]
    NoAuthorities,
    /// Too many redirects.
    #[error("redirected more than {limit} times, last to `{last}`")]
    Redirects {
        /// How many are followed.
        limit: usize,
        last: Url,
    },
    /// A redirect that leads nowhere.
    #[error("redirected to an invalid address: {0}")]
    RedirectUrl(String),
    /// A redirect from `https` to `http`.
    #[error("redirected from `https` to `{to}`, which is refused")]
    Downgrade { to: Url },
    /// The file is larger than allowed.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Another size than it should have.
    #[error("the file has {got} bytes on the server, but should have {expected}")]
    WrongSize {
        /// From elsewhere.
        expected: u64,
        /// According to the server.
        got: u64,
    },
    /// A web page came instead of a file.
    #[error("the server sent a web page instead of the file")]
    WebPage,
    /// The server used a coding that we did not ask for.
    #[error("the server sent the file in the encoding `{0}`, which was not requested")]
    Coding(String),
    /// The answer to a request for a part does not fit.
    #[error("the server sent another part of the file than was requested")]
    WrongPart,
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
    /// The disk failed. Another mirror does not help.
    #[error("cannot write `{}`: {source}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

impl Cause {
    /// Whether it may help to ask the same server again.
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
    /// Whether all servers that we asked say that there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed { tried, .. } if tried.iter().all(|tried| matches!(tried.cause, Cause::Status { code: 404 | 410, .. })))
    }

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
    /// As [`Self::hint`], where there are no mirrors.
    pub(crate) fn hint_for_registry(&self) -> Option<String> {
        let hint = match self {
            Self::Status { code: 407, .. } | Self::Unknown | Self::Tls(_) | Self::Authorities { .. } | Self::NoAuthorities => {
                return self.hint();
            }
            Self::Proxy { .. } => return self.hint(),
            Self::ConnectTimeout { .. } | Self::Connection(_) => {
                "check host, port and network; for a proxy, set `http_proxy` and `https_proxy`"
            }
            Self::Stalled { .. } | Self::Cut { .. } => "repeat the command to go on where it stopped",
            Self::Interrupted | Self::Disk { .. } => return None,
            _ => "try again later, or look into the registry's log",
        };
        Some(hint.to_owned())
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Status { code: 404 | 410, .. } => "it may have been removed, or may not be there yet; name another mirror",
            Self::Status { code: 407, .. } => "give the proxy's password: `http_proxy=http://USER:PASSWORD@HOST:PORT`",
            Self::Status { .. } | Self::Protocol(_) => "try again later, or name another mirror",
            Self::Unknown => "check the name, the network and `/etc/resolv.conf`; for a proxy, set `http_proxy` and `https_proxy`",
            Self::Address { .. } => "to allow it, name it in `GENTOO_MIRRORS` or in `etc/portage/mirrors`",
            Self::ConnectTimeout { .. } | Self::Connection(_) => {
                "check the network; for a proxy, set `http_proxy` and `https_proxy`; or name another mirror"
            }
            Self::Stalled { .. } | Self::Cut { .. } => "repeat the command to go on where it stopped, or name another mirror",
            Self::Tls(_) => "check the clock; if you have an authority of your own, set `SSL_CERT_FILE` to its file",
            Self::Authorities { .. } | Self::NoAuthorities => {
                "install `ca-certificates`, or set `SSL_CERT_FILE` to a file of authorities"
            }
            Self::Proxy { .. } => "check `http_proxy`, `https_proxy` and `no_proxy`",
            Self::WebPage => "it may be a login page of the network, or a broken mirror: open the address in a browser",
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

/// What the codes mean that mirrors use.
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
