//! How a repository is named.
//!
//! ```text
//! oci://HOST[:PORT]/REPOSITORY        a registry, by https
//! oci+http://HOST[:PORT]/REPOSITORY   the same by http: then nobody knows who answers
//! dir:/PATH                           a folder
//! ```
//!
//! On this machine (`localhost`, `127.0.0.1`, `[::1]`) `oci://` means https where the registry speaks it, and http where not: then without
//! a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::terminal_text::blotted;

/// The distribution specification lets a client assume no more for HOST/REPOSITORY.
const MAX_REPOSITORY_BYTES: usize = 255;
/// A tag is not longer.
const MAX_TAG_BYTES: usize = 128;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Oci(OciAddress),
    /// An absolute path.
    Dir(PathBuf),
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciAddress {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    pub repository: String,
    /// The user asked for http.
    pub plain: bool,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageAddress {
    pub place: OciAddress,
    pub tag: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    #[error("`{0}` is not the address of a repository")]
    Form(String),
    #[error("`{0}` is not an absolute path")]
    Relative(String),
    #[error("`{0}` is not the name of a host")]
    Host(String),
    /// Registries take lower case only.
    #[error("`{0}` is not the name of a repository")]
    Repository(String),
    #[error("`{0}` is not a tag")]
    Tag(String),
    /// It has `user:password@`, which would be shown in too many places.
    #[error("the address of `{host}` holds a user name or password, which is not supported")]
    Credentials { host: String },
}

impl NotAnAddress {
    pub fn hint(&self) -> String {
        match self {
            Self::Form(_) => "write `oci://HOST/REPOSITORY`, or `dir:/PATH` for a shared folder",
            Self::Relative(_) => "write the whole path: `dir:/srv/states`",
            Self::Host(_) => "write `oci://HOST/REPOSITORY` or `oci://HOST:PORT/REPOSITORY`",
            Self::Repository(_) => "it has lower case letters, digits, `.`, `_`, `-` and `/`: `oci://HOST/team/images`",
            Self::Tag(_) => "it has at most 128 letters, digits, `.`, `_` and `-`, and begins with a letter, a digit or `_`",
            Self::Credentials { .. } => "log in with `podman login HOST`, `skopeo login HOST` or `docker login HOST`",
        }
        .to_owned()
    }
}

impl OciAddress {
    /// Without the port.
    pub fn host_name(&self) -> &str {
        self.host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(self.host.as_str(), |(host, _)| host)
    }

    /// Whether it is on this machine, by its name alone.
    pub fn is_local(&self) -> bool {
        let host = self.host_name();
        let number = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || number.is_ok_and(|address| address.is_loopback())
    }

    fn parse(text: &str, rest: &str, plain: bool) -> Result<(Self, Option<String>), NotAnAddress> {
        let (host, path) = rest.split_once('/').ok_or_else(|| NotAnAddress::Form(shown(text)))?;
        if let Some((_, host)) = host.rsplit_once('@') {
            return Err(NotAnAddress::Credentials { host: shown(host) });
        }
        if !is_host(host) {
            return Err(NotAnAddress::Host(shown(host)));
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag.to_owned())),
            Some((_, tag)) => return Err(NotAnAddress::Tag(shown(tag))),
            None => (path, None),
        };
        if !is_repository(repository) || host.len() + 1 + repository.len() > MAX_REPOSITORY_BYTES {
            return Err(NotAnAddress::Repository(shown(repository)));
        }
        Ok((Self { host: host.to_ascii_lowercase(), repository: repository.to_owned(), plain }, tag))
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("dir:") {
            return if path.starts_with('/') { Ok(Self::Dir(path.into())) } else { Err(NotAnAddress::Relative(shown(path))) };
        }
        let image: ImageAddress = text.parse()?;
        match image.tag {
            None => Ok(Self::Oci(image.place)),
            Some(_) => Err(NotAnAddress::Repository(shown(text.split_once("//").map_or(text, |(_, rest)| rest)))),
        }
    }
}

impl FromStr for ImageAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let text = text.trim();
        let (place, tag) = match (text.strip_prefix("oci://"), text.strip_prefix("oci+http://")) {
            (Some(rest), _) => OciAddress::parse(text, rest, false)?,
            (_, Some(rest)) => OciAddress::parse(text, rest, true)?,
            _ => return Err(NotAnAddress::Form(shown(text))),
        };
        Ok(Self { place, tag })
    }
}

impl fmt::Display for OciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci{}://{}/{}", if self.plain { "+http" } else { "" }, self.host, self.repository)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(place) => place.fmt(f),
            Self::Dir(path) => write!(f, "dir:{}", shown(&path.to_string_lossy())),
        }
    }
}

impl fmt::Display for ImageAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

fn shown(text: &str) -> String {
    text.chars().map(blotted).collect()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host(text: &str) -> bool {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) if !text.starts_with('[') => return false,
        _ => text,
    };
    if let Some(number) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return number.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label)
}

/// The specification's grammar: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, joined by `/`.
fn is_repository(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|between| !between.is_empty());
        part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric)
            && separators.into_iter().all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
    };
    text.split('/').all(part)
}

/// The specification's grammar: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(super) fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && text.bytes().next().is_some_and(|first| !matches!(first, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_repository() {
        let table = [
            ("oci://ghcr.io/team/states", Ok("oci://ghcr.io/team/states")),
            ("oci://LOCALHOST:5000/a", Ok("oci://localhost:5000/a")),
            ("oci://[::1]:5000/a-b__c.d", Ok("oci://[::1]:5000/a-b__c.d")),
            ("oci+http://10.0.0.1/a", Ok("oci+http://10.0.0.1/a")),
            ("dir:/srv/states", Ok("dir:/srv/states")),
            ("dir:states", Err("`states` is not an absolute path")),
            ("/srv/states", Err("`/srv/states` is not the address of a repository")),
            ("https://ghcr.io/a", Err("`https://ghcr.io/a` is not the address of a repository")),
            ("oci://ghcr.io", Err("`oci://ghcr.io` is not the address of a repository")),
            ("oci://ghcr.io/", Err("`` is not the name of a repository")),
            ("oci://ghcr.io/a:latest", Err("`ghcr.io/a:latest` is not the name of a repository")),
            ("oci://ghcr.io/Team", Err("`Team` is not the name of a repository")),
            ("oci://ghcr.io/a/../b", Err("`a/../b` is not the name of a repository")),
            ("oci://ghcr.io/a?b", Err("`a?b` is not the name of a repository")),
            ("oci://ghcr.io/a___b", Err("`a___b` is not the name of a repository")),
            ("oci:///a", Err("`` is not the name of a host")),
            ("oci://a:b/c", Err("`a:b` is not the name of a host")),
            ("oci://a:0/c", Err("`a:0` is not the name of a host")),
            ("oci://a b/c", Err("`a b` is not the name of a host")),
            ("oci://me:secret@host/a", Err("the address of `host` holds a user name or password, which is not supported")),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<Address>().map(|address| address.to_string()).map_err(|error| error.to_string());
            assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn an_image_may_have_a_tag() {
        let table = [
            ("oci://h:5000/a/b:web-1.0", Ok(("a/b", Some("web-1.0")))),
            ("oci://h:5000/a/b", Ok(("a/b", None))),
            ("oci://h/a:", Err("`` is not a tag")),
            ("oci://h/a:.x", Err("`.x` is not a tag")),
            ("oci://h/a@sha256:00", Err("`a@sha256` is not the name of a repository")),
            ("dir:/srv", Err("`dir:/srv` is not the address of a repository")),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<ImageAddress>().map_err(|error| error.to_string());
            let found = parsed.as_ref().map(|image| (image.place.repository.as_str(), image.tag.as_deref()));
            assert_eq!(found.map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn which_hosts_are_here() {
        let local = |host: &str| format!("oci://{host}/a").parse::<ImageAddress>().unwrap().place.is_local();
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:5000", "[::1]", "[::1]:5000"] {
            assert!(local(host), "{host}");
        }
        for host in ["localhost.example.org", "10.0.0.1", "[fe80::1]", "127.0.0.1.nip.io"] {
            assert!(!local(host), "{host}");
        }
    }
}
