//! The source of an ebuild repository, and which state of it is meant.
//!
//! ```text
//! git+https://example.org/overlay.git#stable     git: a branch, a tag or a commit; also git+http, git+ssh, git+file, git://
//! rsync://rsync.gentoo.org/gentoo-portage        rsync
//! webrsync+https://distfiles.gentoo.org          signed snapshots below a mirror's snapshots/
//! https://example.org/overlay-1.0.tar.xz         a tarball, its signature beside it
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a repository is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A commit of a git repository.
    Git,
    /// An rsync module.
    Rsync,
    /// The signed snapshots of a Gentoo mirror.
    Webrsync,
    /// One archive.
    Tar,
}

/// The source of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeSource {
    /// How it is fetched.
    pub method: Method,
    /// The address, as git, rsync or the downloader get it.
    pub uri: String,
}

/// Which state of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// A git commit by its whole name.
    Commit(String),
    /// The snapshot of a day: `20260811`.
    Date(String),
    /// A tree by the SHA-256 of its contents, whichever way it came.
    Digest(String),
    /// A branch or a tag, which may move.
    Moving(String),
}

/// Errors in a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No method fits.
    #[error("`{0}` is not `git+…`, `rsync://…`, `webrsync+…` or the URL of a tarball")]
    Unknown(String),
    /// An unknown method.
    #[error("there is no method `{0}`: there are git, rsync, webrsync and tar")]
    Method(String),
    /// A method with an address of another protocol.
    #[error("`{uri}` is no address for {method}: {wanted}")]
    Scheme {
        method: Method,
        uri: String,
        /// The protocols that it takes.
        wanted: &'static str,
    },
    /// Characters that no address has.
    #[error("`{0}` has a space or a control character, or begins with a dash")]
    Characters(String),
    /// A password in the address would be stored in too many places.
    #[error("the address contains a password, which would be stored and shown")]
    Password,
    /// A revision of a kind that this method does not have.
    #[error("`{rev}` is no revision for {method}: {wanted}")]
    Revision {
        method: Method,
        /// As written.
        rev: String,
        wanted: &'static str,
    },
    /// Not a valid revision.
    #[error("`{0}` is no revision")]
    NoRevision(String),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Git => "git",
            Self::Rsync => "rsync",
            Self::Webrsync => "webrsync",
            Self::Tar => "tar",
        })
    }
}

impl FromStr for Method {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Ok(match text {
            "git" => Self::Git,
            "rsync" => Self::Rsync,
            "webrsync" => Self::Webrsync,
            "tar" => Self::Tar,
            other => return Err(SourceError::Method(other.to_owned())),
        })
    }
}

impl Method {
    fn schemes(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Git => {
                (&["https", "http", "ssh", "git", "file"], "it begins with `https://`, `http://`, `ssh://`, `git://` or `file://`")
            }
            Self::Rsync => (&["rsync"], "it begins with `rsync://`"),
            Self::Webrsync | Self::Tar => (&["https", "http"], "it begins with `https://` or `http://`"),
        }
    }

    /// The kinds of revisions, in words.
    pub fn revisions(self) -> &'static str {
        match self {
            Self::Git => "use a commit, a branch, a tag, or `sha256:` for the contents of a tree",
            Self::Webrsync => "use a day such as `20260811`, or `sha256:` for the contents of a tree",
            Self::Rsync | Self::Tar => "use `sha256:` for the contents of a tree",
        }
    }
}

impl TreeSource {
    /// `method` at `uri`, if they fit.
    pub fn new(method: Method, uri: &str) -> Result<Self, SourceError> {
        if uri.starts_with('-') || uri.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(SourceError::Characters(uri.escape_debug().to_string()));
        }
        let (schemes, wanted) = method.schemes();
        let fits = |(scheme, rest): (&str, &str)| schemes.contains(&scheme) && !rest.is_empty();
        let rest = uri.split_once("://").filter(|parts| fits(*parts)).map(|(_, rest)| rest);
        let Some(rest) = rest else { return Err(SourceError::Scheme { method, uri: uri.to_owned(), wanted }) };
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(SourceError::Password);
        }
        // ssh would take a host that begins with a dash for an option.
        if authority.rsplit('@').next().is_some_and(|host| host.starts_with('-')) {
            return Err(SourceError::Characters(uri.to_owned()));
        }
        Ok(Self { method, uri: uri.to_owned() })
    }

    /// Reads `git+https://…#REV` and its like.
    pub fn parse(text: &str) -> Result<(Self, Option<Revision>), SourceError> {
        let (text, rev) = text.split_once('#').map_or((text, None), |(text, rev)| (text, Some(rev)));
        let (method, uri) = if let Some(uri) = text.strip_prefix("git+") {
            (Method::Git, uri)
        } else if let Some(uri) = text.strip_prefix("webrsync+") {
            (Method::Webrsync, uri)
        } else if let Some(uri) = text.strip_prefix("tar+") {
            (Method::Tar, uri)
        } else {
            let path = text.trim_end_matches('/');
            let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
            match text.split_once("://").map(|(scheme, _)| scheme) {
                Some("rsync") => (Method::Rsync, text),
                Some("git") => (Method::Git, text),
                Some("http" | "https" | "ssh" | "file") if ends(&[".git"]) => (Method::Git, text),
                Some("http" | "https") if ends(&[".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2"]) => {
                    (Method::Tar, text)
                }
                _ => return Err(SourceError::Unknown(text.escape_debug().to_string())),
            }
        };
        let source = Self::new(method, uri)?;
        let rev = rev.map(|rev| source.revision(rev)).transpose()?;
        Ok((source, rev))
    }

    pub fn revision(&self, text: &str) -> Result<Revision, SourceError> {
        let rev = Revision::parse(text)?;
        let fits = match &rev {
            Revision::Digest(_) => true,
            Revision::Commit(_) | Revision::Moving(_) => self.method == Method::Git,
            Revision::Date(_) => matches!(self.method, Method::Webrsync | Method::Git),
        };
        match (fits, rev, self.method) {
            // Eight digits may also be a tag.
            (true, Revision::Date(_), Method::Git) => Ok(Revision::Moving(text.to_owned())),
            (true, rev, _) => Ok(rev),
            (false, _, method) => Err(SourceError::Revision { method, rev: text.to_owned(), wanted: method.revisions() }),
        }
    }
}

impl fmt::Display for TreeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Rsync => f.pad(&self.uri),
            method => f.pad(&format!("{method}+{}", self.uri)),
        }
    }
}

impl Revision {
    /// Parses a revision for any method.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(digest) = text.strip_prefix("sha256:") {
            let whole = digest.len() == 64 && hexadecimal(digest);
            let none = || SourceError::NoRevision(text.escape_debug().to_string());
            return whole.then(|| Self::Digest(digest.to_ascii_lowercase())).ok_or_else(none);
        }
        if matches!(text.len(), 40 | 64) && hexadecimal(text) {
            return Ok(Self::Commit(text.to_ascii_lowercase()));
        }
        let date = text.strip_prefix("gentoo-").unwrap_or(text);
        if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Date(date.to_owned()));
        }
        let usable = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
        let is_name = !text.is_empty()
            && text.chars().all(usable)
            && !text.starts_with(['-', '/', '.'])
            && !text.ends_with(['/', '.'])
            && !text.contains("..")
            && !text.contains("//");
        if is_name { Ok(Self::Moving(text.to_owned())) } else { Err(SourceError::NoRevision(text.escape_debug().to_string())) }
    }

    /// Whether it always means the same state.
    pub fn is_fixed(&self) -> bool {
        !matches!(self, Self::Moving(_))
    }

    /// As part of a name of the store's.
    pub fn as_name(&self) -> String {
        self.to_string().replace([':', '/'], "-")
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(text) | Self::Date(text) | Self::Moving(text) => f.pad(text),
            Self::Digest(digest) => f.pad(&format!("sha256:{digest}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_say_how_they_are_brought() {
        let read = |text: &str| match TreeSource::parse(text) {
            Ok((source, rev)) => format!("{source} {}", rev.map(|rev| rev.to_string()).unwrap_or_default()),
            Err(error) => error.to_string(),
        };
        let commit = "a".repeat(40);
        for (text, expected) in [
            ("git+https://example.org/o.git#stable", "git+https://example.org/o.git stable"),
            ("https://example.org/o.git", "git+https://example.org/o.git "),
            ("git://example.org/o", "git+git://example.org/o "),
            ("git+ssh://git@example.org/o", "git+ssh://git@example.org/o "),
            ("rsync://example.org/gentoo-portage", "rsync://example.org/gentoo-portage "),
            ("webrsync+http://example.org/#20260811", "webrsync+http://example.org/ 20260811"),
            ("webrsync+http://example.org#gentoo-20260811", "webrsync+http://example.org 20260811"),
            ("https://example.org/o-1.tar.xz", "tar+https://example.org/o-1.tar.xz "),
            ("https://example.org/o", "`https://example.org/o` is not `git+…`, `rsync://…`, `webrsync+…` or the URL of a tarball"),
            ("git+ext::sh -c x", "`ext::sh -c x` has a space or a control character, or begins with a dash"),
            ("git+ext::x", "`ext::x` is no address for git: it begins with `https://`, `http://`, `ssh://`, `git://` or `file://`"),
            ("git+--upload-pack=x", "`--upload-pack=x` has a space or a control character, or begins with a dash"),
            (
                "git+ssh://-oProxyCommand=x/o",
                "`ssh://-oProxyCommand=x/o` has a space or a control character, or begins with a dash",
            ),
            ("git+https://me:secret@example.org/o", "the address contains a password, which would be stored and shown"),
            ("rsync://example.org/x#main", "`main` is no revision for rsync: use `sha256:` for the contents of a tree"),
            ("git+https://example.org/o#--exec", "`--exec` is no revision"),
            ("git+https://example.org/o#sha256:12", "`sha256:12` is no revision"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        let (_, rev) = TreeSource::parse(&format!("git+https://example.org/o#{commit}")).unwrap();
        assert_eq!(rev, Some(Revision::Commit(commit)));
    }
}
