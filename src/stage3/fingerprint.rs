//! Fingerprints of OpenPGP keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The fingerprint of an OpenPGP key: 40 hexadecimal digits (version 4 keys) or 64 (version 6), upper case.
///
/// Trust is decided only by comparing fingerprints. Key ids and user ids are hints for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

/// Text that is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a fingerprint of 40 or 64 hexadecimal digits")]
pub struct NotAFingerprint {
    pub text: String,
}

impl Fingerprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(key: &impl pgp::types::KeyDetails) -> Self {
        Self(hex::encode_upper(key.fingerprint().as_bytes()))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(hex::encode_upper(bytes))
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    /// Accepts blanks between the digits, either case, and a leading `0x`, as programs and web pages print them.
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let digits = digits.strip_prefix("0x").unwrap_or(&digits).to_ascii_uppercase();
        if matches!(digits.len(), 40 | 64) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(NotAFingerprint { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;

    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_people_paste_are_accepted() {
        let plain = "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910";
        for text in [plain, "0x13ebbdbede7a12775dfdb1babb572e0e2d182910", "13EB BDBE DE7A 1277 5DFD  B1BA BB57 2E0E 2D18 2910"] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().as_str(), plain);
        }
    }

    #[test]
    fn key_ids_are_not_fingerprints() {
        let error = "BB572E0E2D182910".parse::<Fingerprint>().unwrap_err();
        assert_eq!(error.to_string(), "`BB572E0E2D182910` is not a fingerprint of 40 or 64 hexadecimal digits");
    }
}
