//! Ids: the names of layers, states, trees and sessions on disk.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// Length of ids that sort by time: 12 digits of milliseconds since 1970 (enough until the year 10889) and 8 random ones. The random ones
/// keep processes apart that make an id in the same millisecond.
const TIMED: usize = 20;
/// Length of ids that are digests: the first half of a SHA-256.
const DIGEST: usize = 32;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $length:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text, lower-case hexadecimal digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let good = text.len() == $length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if good { Ok(Self(text.to_owned())) } else { Err(Error::Id { text: text.to_owned(), what: $what }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id!(
    /// Id of a layer; ids of younger layers sort after those of older ones.
    LayerId,
    "layer",
    TIMED
);
id!(
    /// Id of a build state: a digest of its layers, parent, key and origin.
    StateId,
    "build state",
    DIGEST
);
id!(
    /// Id of a tree snapshot; sorts by time.
    TreeId,
    "tree snapshot",
    TIMED
);
id!(
    /// Id of a session; sorts by time.
    SessionId,
    "session",
    TIMED
);

impl LayerId {
    pub(super) fn fresh() -> Result<Self> {
        fresh().map(Self)
    }
}

impl TreeId {
    pub(super) fn fresh() -> Result<Self> {
        fresh().map(Self)
    }
}

impl SessionId {
    pub(super) fn fresh() -> Result<Self> {
        fresh().map(Self)
    }
}

impl StateId {
    /// From the digest of the contents; `digest` has at least 16 bytes.
    pub(super) fn from_digest(digest: &[u8]) -> Self {
        let mut text = hex::encode(digest);
        text.truncate(DIGEST);
        Self(text)
    }
}

/// A new id. It sorts after all earlier ones of this process, and after those of other processes as far as the clock is right.
pub(super) fn fresh() -> Result<String> {
    /// The time in the last id.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let path = Path::new("/dev/urandom");
    let mut random = [0; 4];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut random)).map_err(|e| Error::io("read", path, e))?;
    // With a clock before 1970 the ids no longer sort by time. Nothing else breaks.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
    // A second id in the same millisecond gets the next millisecond.
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_default();
    let millis = now.max(last + 1);
    Ok(format!("{:012x}{}", millis & 0xffff_ffff_ffff, hex::encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_form() {
        assert!("0123456789abcdef0123".parse::<LayerId>().is_ok());
        for bad in ["", "../../../../../../..", "0123456789ABCDEF0123", "0123456789abcdef012", "0123456789abcdef01234"] {
            assert!(bad.parse::<LayerId>().is_err(), "{bad}");
        }
        let message = "x".parse::<StateId>().unwrap_err().to_string();
        assert_eq!(message, "`x` is not the id of a build state");
        assert!(serde_json::from_str::<LayerId>("\"/etc/passwd\"").is_err());
    }

    #[test]
    fn layers_sort_by_time() {
        let ids: Vec<LayerId> = (0..200).map(|_| LayerId::fresh().unwrap()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
}
