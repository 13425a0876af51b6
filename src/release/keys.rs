//! Fetches public keys from web key directories (WKD) and keyservers (HKPS).
//!
//! ```text
//! advanced  https://openpgpkey.DOMAIN/.well-known/openpgpkey/DOMAIN/hu/HASH?l=LOCAL
//! direct    https://DOMAIN/.well-known/openpgpkey/hu/HASH?l=LOCAL                      asked if the other has nothing
//! HKPS      https://SERVER/pks/lookup?op=get&options=mr&search=0xFINGERPRINT
//! ```
//!
//! HASH is the SHA-1 of the address's local part in lower case, in z-base-32 (draft-koch-openpgp-webkey-service, section 3.1).
//!
//! No server is trusted: a key is only kept if its primary fingerprint is the one asked for, and pinned. Its validity is signed by the
//! key itself, and copies are merged, so neither an old nor a stripped copy removes anything.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::{Digest as _, Sha1};

use crate::download;
use crate::download::{Downloader, NotAUrl, Url};
use crate::progress::{Event, Observer};
use crate::stage3::keys::{Change, GENTOO, KeysError, TrustedKeys};
use crate::stage3::{Certificate, CertificateError, Fingerprint, keys};

/// Gentoo's own keyserver, then a general one.
const KEYSERVERS: [&str; 2] = ["hkps://keys.gentoo.org", "hkps://keys.openpgp.org"];
/// Gentoo's keys with all signatures have some ten kilobytes.
const MAX_BYTES: u64 = 4 << 20;

/// Where to look for a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The web key directory of a mail address.
    Wkd(Address),
    Keyserver(Keyserver),
}

/// A mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    local: String,
    domain: String,
}

/// A keyserver: `keys.gentoo.org`, `hkps://HOST[:PORT]`, `https://…`; or `hkp://HOST[:PORT]`, without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyserver(Url);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Without a pinned fingerprint we could not tell the key from another one.
    #[error("the key {0} is not pinned")]
    NotPinned(Fingerprint),
    /// No source had it.
    #[error("no server has the key {fingerprint}")]
    Nowhere {
        /// The key asked for.
        fingerprint: Fingerprint,
        /// The sources asked, with their failures.
        tried: Vec<(String, Unusable)>,
    },
    /// Downloads are off, or the user wants to stop, …
    #[error(transparent)]
    Download(#[from] download::Error),
    /// It cannot be stored.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Why a source did not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It could not be asked.
    #[error("{}", first_cause(.0))]
    Download(download::Error),
    /// Its answer is no key.
    #[error("{0}")]
    Material(CertificateError),
    /// Its answer is another key.
    #[error("it has another key: {0}")]
    Other(Fingerprint),
}

/// Not a mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mail address")]
pub(crate) struct NotAnAddress(String);

fn first_cause(error: &download::Error) -> String {
    match error {
        download::Error::Failed { tried, .. } => tried.last().map_or_else(|| error.to_string(), |tried| tried.cause.to_string()),
        other => other.to_string(),
    }
}

/// Gentoo's pinned keys that are in use.
pub(crate) fn gentoo() -> Vec<Fingerprint> {
    GENTOO.iter().filter(|key| key.address.is_some()).filter_map(|key| key.fingerprint.parse().ok()).collect()
}

/// The default sources of a key: the web key directory of its address, if that is known, then keyservers.
pub(crate) fn usual_sources(fingerprint: &Fingerprint, trusted: &TrustedKeys, now: i64) -> Vec<Source> {
    let builtin = GENTOO.iter().find(|key| key.fingerprint == fingerprint.as_str()).and_then(|key| key.address);
    let known = trusted.certificates().find(|certificate| certificate.fingerprint() == fingerprint);
    let uid = known.and_then(|certificate| certificate.user_id(now));
    let address = builtin.or_else(|| uid.as_deref().and_then(mail_of));
    let directory = address.and_then(|address| address.parse().ok()).map(Source::Wkd);
    let servers = KEYSERVERS.iter().filter_map(|server| server.parse().ok()).map(Source::Keyserver);
    directory.into_iter().chain(servers).collect()
}

/// Fetches one key and stores it in `dir`, merged with the copy that is there.
pub(crate) fn fetch(
    downloader: &Downloader,
    fingerprint: &Fingerprint,
    sources: &[Source],
    trusted: &TrustedKeys,
    dir: &Path,
    observer: &dyn Observer,
) -> Result<Vec<Change>, Error> {
    if !trusted.is_trusted(fingerprint) {
        return Err(Error::NotPinned(fingerprint.clone()));
    }
    let mut tried = Vec::new();
    for source in sources {
        for url in source.urls(fingerprint).map_err(download::Error::from)? {
            observer.event(&Event::Note(&format!("asking {} for {fingerprint}", url.host())));
            let unusable = match downloader.bytes(std::slice::from_ref(&url), MAX_BYTES, observer) {
                Ok((_, bytes)) => match pick(&bytes, fingerprint) {
                    Ok(certificate) => return Ok(keys::store_certificates(dir, vec![certificate])?),
                    Err(unusable) => unusable,
                },
                Err(error @ download::Error::Failed { .. }) => Unusable::Download(error),
                Err(download::Error::Offline { url, .. }) => {
                    return Err(download::Error::Offline { name: format!("key {fingerprint}"), url }.into());
                }
                Err(error) => return Err(error.into()),
            };
            tracing::debug!(%url, %unusable, "no key");
            tried.push((url.to_string(), unusable));
        }
    }
    Err(Error::Nowhere { fingerprint: fingerprint.clone(), tried })
}

/// The key that was asked for, among those of the answer.
fn pick(bytes: &[u8], wanted: &Fingerprint) -> Result<Certificate, Unusable> {
    let mut all = Certificate::parse_all(bytes).map_err(Unusable::Material)?;
    match all.iter().position(|certificate| certificate.fingerprint() == wanted) {
        Some(index) => Ok(all.swap_remove(index)),
        None => Err(Unusable::Other(all.swap_remove(0).fingerprint().clone())),
    }
}

impl Source {
    fn urls(&self, fingerprint: &Fingerprint) -> Result<Vec<Url>, NotAUrl> {
        match self {
            Self::Wkd(address) => address.urls(),
            Self::Keyserver(Keyserver(server)) => {
                Ok(vec![server.below(&format!("pks/lookup?op=get&options=mr&search=0x{fingerprint}"))?])
            }
        }
    }
}

impl Address {
    fn urls(&self) -> Result<Vec<Url>, NotAUrl> {
        let hash = z_base_32(&Sha1::digest(self.local.to_ascii_lowercase()));
        let (local, domain) = (encoded(&self.local), &self.domain);
        Ok(vec![
            format!("https://openpgpkey.{domain}/.well-known/openpgpkey/{domain}/hu/{hash}?l={local}").parse()?,
            format!("https://{domain}/.well-known/openpgpkey/hu/{hash}?l={local}").parse()?,
        ])
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = || NotAnAddress(text.escape_debug().to_string());
        let (local, domain) = text.trim().rsplit_once('@').ok_or_else(wrong)?;
        let host = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let valid = !local.is_empty() && !local.contains(|c: char| c.is_whitespace() || c.is_control());
        if !valid || domain.is_empty() || domain.starts_with(['.', '-']) || !domain.chars().all(host) {
            return Err(wrong());
        }
        Ok(Self { local: local.to_owned(), domain: domain.to_ascii_lowercase() })
    }
}

impl FromStr for Keyserver {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let text = text.trim();
        if let Some(host) = text.strip_prefix("hkp://") {
            let url: Url = format!("http://{host}").parse()?;
            // HKP without TLS has a port of its own, 11371.
            return if url.has_port() {
                Ok(Self(url))
            } else {
                format!("http://{}:11371", host.trim_end_matches('/')).parse().map(Self)
            };
        }
        let text = text.strip_prefix("hkps://").unwrap_or(text);
        if text.contains("://") { text.parse().map(Self) } else { format!("https://{text}").parse().map(Self) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// The address in `Name <address>`.
fn mail_of(uid: &str) -> Option<&str> {
    let inside = uid.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(uid, |(address, _)| address);
    inside.contains('@').then_some(inside.trim())
}

fn z_base_32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1))).collect::<Vec<_>>();
    let digit = |bits: &[usize]| (0..5).fold(0, |value, bit| value << 1 | bits.get(bit).unwrap_or(&0));
    bits.chunks(5).map(|bits| char::from(DIGITS[digit(bits)])).collect()
}

/// Percent-encodes what a query may not contain.
fn encoded(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the draft, section 3.1.
    #[test]
    fn where_a_directory_has_a_key() {
        let urls = "Joe.Doe@Example.ORG".parse::<Address>().unwrap().urls().unwrap();
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let expected = [
            "https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
            "https://example.org/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
        ];
        assert_eq!(urls, expected);
    }

    #[test]
    fn where_a_keyserver_has_a_key() {
        let fingerprint: Fingerprint = "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910".parse().unwrap();
        let table = [
            ("keys.gentoo.org", "https://keys.gentoo.org/"),
            ("hkps://keys.gentoo.org/", "https://keys.gentoo.org/"),
            ("https://keys.gentoo.org:8443", "https://keys.gentoo.org:8443/"),
            ("hkp://127.0.0.1:4711", "http://127.0.0.1:4711/"),
            ("hkp://host", "http://host:11371/"),
        ];
        for (text, server) in table {
            let source = Source::Keyserver(text.parse().unwrap());
            let url = source.urls(&fingerprint).unwrap().remove(0).to_string();
            assert_eq!(url, format!("{server}pks/lookup?op=get&options=mr&search=0x{fingerprint}"), "{text}");
        }
        assert!("ldap://host".parse::<Keyserver>().is_err());
    }

    #[test]
    fn addresses() {
        for text in ["releng", "@gentoo.org", "a b@c", "a@", "a@b/c", "a@.b"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!(mail_of("Gentoo (x) <releng@gentoo.org>"), Some("releng@gentoo.org"));
        assert_eq!((mail_of("a@b"), mail_of("nobody")), (Some("a@b"), None));
        assert_eq!(encoded("a+b@c"), "a%2Bb%40c");
    }

    #[test]
    fn gentoos_own() {
        assert_eq!(gentoo().len(), 3);
        let sources = usual_sources(&gentoo()[0], &TrustedKeys::default(), 0);
        assert_eq!(sources[0], Source::Wkd("releng@gentoo.org".parse().unwrap()));
        assert_eq!(sources.len(), 3);
    }
}
