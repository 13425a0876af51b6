//! What can go wrong with a repository.

use super::{BadCredentials, NotAnAddress};
use crate::beneath;
use crate::download;
use crate::download::Cause;
use crate::path_error::PathError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Address(#[from] NotAnAddress),
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
    /// The registry does not know us, or we may not do that.
    #[error("`{place}` refuses access{}", as_whom(user.as_deref()))]
    Refused {
        /// The repository.
        place: String,
        /// As whom we asked.
        user: Option<String>,
        /// The registry lets this user do other things.
        forbidden: bool,
        /// What the registry says about it; safe to print.
        said: Option<String>,
    },
    /// A redirect or an upload goes there. It gets no password, so it can only say no.
    #[error("`{place}` leads to `{server}`, which refuses access")]
    RefusedElsewhere { place: String, server: String },
    /// Whoever answers on that port would get the password.
    #[error("`{place}` wants to know who asks, and is not asked by `https`")]
    NoTls { place: String },
    /// What should name a blob.
    #[error("`{digest}` is not the SHA-256 digest of a blob")]
    NotADigest {
        /// Safe to print.
        digest: String,
    },
    #[error("`{place}` has no {what}")]
    NotFound { place: String, what: String },
    /// It sent other bytes than were asked for.
    #[error("`{place}` sent other bytes than `{digest}`")]
    WrongDigest { place: String, digest: String },
    #[error("`{place}` sent {what} of more than {limit} bytes")]
    TooLarge { place: String, what: String, limit: u64 },
    /// It took our bytes for others.
    #[error("`{place}` did not accept {what}{}", words(said.as_deref()))]
    NotAccepted {
        place: String,
        what: String,
        status: u16,
        /// Safe to print.
        said: Option<String>,
    },
    /// What it answers is not the distribution API.
    #[error("`{place}` does not answer as a registry does: {reason}")]
    NotARegistry { place: String, reason: String },
    /// The file has changed while it was read.
    #[error("the file of blob `{digest}` does not have the bytes that it should have")]
    Changed { digest: String },
    /// The server cannot be asked, or went silent.
    #[error("cannot ask `{place}`")]
    Unreachable {
        place: String,
        #[source]
        cause: Box<Cause>,
    },
    #[error("cannot ask `{place}`, since downloads are switched off")]
    Offline { place: String },
    /// Perhaps it is not mounted.
    #[error("the folder of `{place}` is not there")]
    NoFolder { place: String },
    /// What lies in a shared folder is not what we put there.
    #[error(transparent)]
    Beneath(#[from] beneath::Error),
    /// Nobody knows which blobs it names.
    #[error("`{tag}` in `{place}` is not a manifest")]
    NotAManifest { place: String, tag: String },
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the remote side cannot be reached at all: its host, its name, its certificate or the network.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Offline { .. } | Self::NoFolder { .. })
    }

    /// Whether it concerns nothing but what was asked for: others in the same place may be sound.
    pub fn is_of_one(&self) -> bool {
        matches!(self, Self::Beneath(_) | Self::TooLarge { .. } | Self::WrongDigest { .. } | Self::NotFound { .. })
    }

    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address(error) => return Some(error.hint()),
            Self::Credentials(error) => return Some(error.hint()),
            Self::Refused { forbidden: true, .. } => "ask its owner for the right to do that, or log in as another user",
            Self::Refused { user: Some(_), .. } => {
                "log in again: `podman login`, `skopeo login` and `docker login` write what is read"
            }
            Self::Refused { .. } => "log in first: `podman login`, `skopeo login` and `docker login` write what is read",
            Self::RefusedElsewhere { .. } => {
                "no password goes to another server; if that one is the registry, write its address, else ask the owner"
            }
            Self::NoTls { place } => {
                let plain = place.replacen("oci://", "oci+http://", 1);
                return Some(format!("write `{plain}` if whoever answers there may have the password"));
            }
            Self::NotADigest { .. } => "what names it was not made by gentoomuch, or somebody changed it",
            Self::NotFound { .. } => "check the address; many registries also say this to who may not read",
            Self::WrongDigest { .. } => "nothing of it was kept; if it stays so, remove it there and push it again",
            Self::TooLarge { .. } => "it was not made by gentoomuch; check the address",
            Self::NotAccepted { status: 413, .. } => "the registry or a proxy before it has a limit; ask its owner",
            Self::NotAccepted { .. } => "look into the registry's log, or try again",
            Self::NotARegistry { .. } => "check host and port; a login page of the network may be between",
            Self::Changed { .. } => "something writes to it, or the disk fails; run the command again",
            Self::Offline { .. } => "repeat the command without `--offline`",
            Self::Unreachable { cause, .. } => return cause.hint_for_registry(),
            Self::NoFolder { .. } => "mount it, or make it with `mkdir`",
            Self::Beneath(_) => "look who may write to the folder",
            Self::NotAManifest { .. } => "remove it with `gentoomuch remote rm`, or from the folder",
            Self::Io(_) | Self::Interrupted => return None,
        };
        Some(hint.to_owned())
    }

    /// What a failed exchange with `place` means.
    pub(super) fn of(place: &str, cause: Cause) -> Self {
        match cause {
            Cause::Interrupted => Self::Interrupted,
            Cause::Disk { path, source } => PathError::new("write", path, source).into(),
            cause => Self::Unreachable { place: place.to_owned(), cause: Box::new(cause) },
        }
    }

    pub(super) fn of_download(place: &str, error: download::Error) -> Self {
        match error {
            download::Error::Interrupted => Self::Interrupted,
            download::Error::Io(error) => error.into(),
            download::Error::Failed { mut tried, .. } => match tried.pop() {
                Some(tried) => Self::of(place, tried.cause),
                None => Self::NotARegistry { place: place.to_owned(), reason: "no address".to_owned() },
            },
            download::Error::Offline { .. } | download::Error::NothingHere { .. } => Self::Offline { place: place.to_owned() },
            other => Self::NotARegistry { place: place.to_owned(), reason: other.to_string() },
        }
    }
}

fn as_whom(user: Option<&str>) -> String {
    match user {
        Some(user) => format!(" to `{user}`"),
        None => " without a login".to_owned(),
    }
}

fn words(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!(": {said}"))
}
