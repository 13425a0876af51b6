//! Addresses of servers.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use crate::terminal_text::blotted;

/// An absolute `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Url(Box<Uri>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAUrl {
    #[error("`{0}` is not a URL")]
    Form(String),
    /// It has another protocol.
    #[error("`{url}` is neither `http://` nor `https://`")]
    Scheme { url: String },
    /// It has `user:password@`, which would be stored and shown in too many places.
    #[error("the address of `{host}` holds a user name or password, which is not supported")]
    Credentials {
        /// The host alone.
        host: String,
    },
}

impl Url {
    /// The address of `name` (relative) in this directory.
    pub fn below(&self, name: &str) -> Result<Self, NotAUrl> {
        format!("{}/{name}", self.to_string().trim_end_matches('/')).parse()
    }

    /// This address with `suffix` at its end, such as `.asc`.
    pub fn with_suffix(&self, suffix: &str) -> Result<Self, NotAUrl> {
        format!("{self}{suffix}").parse()
    }

    /// The last part of the path; the host if there is none.
    pub fn name(&self) -> String {
        let last = self.0.path().rsplit('/').find(|part| !part.is_empty());
        last.unwrap_or(self.host()).to_owned()
    }

    /// Name or number of the server, without the port.
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// The port, or the protocol's default.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Whether the address has a port in it.
    pub fn has_port(&self) -> bool {
        self.0.port_u16().is_some()
    }

    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether both are on the same server: protocol, host and port.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        let of = |url: &Self| (url.is_https(), url.host().to_ascii_lowercase(), url.port());
        of(self) == of(other)
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// The address that a redirect to `location` means (RFC 3986, section 5.2, without `..`, which servers resolve themselves).
    pub(crate) fn join(&self, location: &str) -> Result<Self, NotAUrl> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map(ToString::to_string).unwrap_or_default();
        let has_scheme = location
            .split_once(':')
            .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte)));
        if has_scheme {
            location.parse()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}").parse()
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}").parse()
        } else if location.starts_with('?') {
            format!("{scheme}://{authority}{}{location}", self.0.path()).parse()
        } else {
            let directory = self.0.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}").parse()
        }
    }
}

impl FromStr for Url {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let form = || NotAUrl::Form(text.chars().map(blotted).collect());
        let uri: Uri = text.trim().parse().map_err(|_| form())?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(form)?;
        if authority.as_str().contains('@') {
            return Err(NotAUrl::Credentials { host: authority.host().to_owned() });
        }
        match uri.scheme_str() {
            Some("http" | "https") => Ok(Self(Box::new(uri))),
            Some(_) => Err(NotAUrl::Scheme { url: uri.to_string() }),
            None => Err(form()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Url {
    type Error = NotAUrl;

    fn try_from(text: String) -> Result<Self, NotAUrl> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.to_string()
    }
}

/// The file's name, for messages.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked() {
        let table = [
            ("http://distfiles.gentoo.org", Ok("http://distfiles.gentoo.org/")),
            ("https://[::1]:8443/a/b?c", Ok("https://[::1]:8443/a/b?c")),
            ("rsync://host/gentoo", Err("`rsync://host/gentoo` is neither `http://` nor `https://`")),
            ("/mnt/mirror", Err("`/mnt/mirror` is not a URL")),
            ("", Err("`` is not a URL")),
            ("http://", Err("`http://` is not a URL")),
            ("http://a b/", Err("`http://a b/` is not a URL")),
            ("https://me:secret@host/", Err("the address of `host` holds a user name or password, which is not supported")),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<Url>().map(|url| url.to_string()).map_err(|error| error.to_string());
            assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn redirects_are_joined() {
        let url: Url = "https://host:1/a/b.txt?x".parse().unwrap();
        let table = [
            ("http://other/c", "http://other/c"),
            ("//other/c", "https://other/c"),
            ("/c", "https://host:1/c"),
            ("c.txt#part", "https://host:1/a/c.txt"),
            ("?y", "https://host:1/a/b.txt?y"),
        ];
        for (location, expected) in table {
            assert_eq!(url.join(location).unwrap().to_string(), expected);
        }
        assert!(url.join("file:///etc/passwd").is_err());
    }

    #[test]
    fn which_addresses_are_on_one_server() {
        let url: Url = "https://host/a".parse().unwrap();
        for (other, same) in [
            ("https://HOST:443/b?c", true),
            ("http://host/a", false),
            ("https://host:444/a", false),
            ("https://host.org/a", false),
            ("http://host:443/a", false),
        ] {
            assert_eq!(url.is_same_server(&other.parse().unwrap()), same, "{other}");
        }
    }

    #[test]
    fn names_and_neighbours() {
        let url: Url = "https://host/releases/".parse().unwrap();
        assert_eq!(url.name(), "releases");
        let file = url.below("a/b.tar.xz").unwrap();
        assert_eq!((file.to_string().as_str(), file.name().as_str()), ("https://host/releases/a/b.tar.xz", "b.tar.xz"));
        assert_eq!(file.with_suffix(".asc").unwrap().to_string(), "https://host/releases/a/b.tar.xz.asc");
        assert_eq!(("http://host".parse::<Url>().unwrap().name().as_str(), url.port()), ("host", 443));
    }
}
