//! What a key counts for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TrustedKeys;
use crate::stage3::Fingerprint;

/// A kind of file whose signatures we check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Stage3s and stage4s, and the lists of them.
    Stage3,
    /// Ebuild trees: snapshots, commits, Manifests.
    Tree,
    /// Binary packages of the hosts in `binrepos.conf`.
    Binpkg,
    /// Build states in a remote, which are taken instead of being built. Only a line that says so trusts a key for them.
    Remote,
}

impl Purpose {
    pub const ALL: [Self; 4] = [Self::Stage3, Self::Tree, Self::Binpkg, Self::Remote];
    /// Those of a line that names none. A line from before there were remotes gives nobody more than it did.
    pub const USUAL: [Self; 3] = [Self::Stage3, Self::Tree, Self::Binpkg];

    /// The word in `keys/trusted` and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stage3 => "stage3",
            Self::Tree => "tree",
            Self::Binpkg => "binpkg",
            Self::Remote => "remote",
        }
    }
}

/// In the plural, for messages.
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stage3 => "stage3s",
            Self::Tree => "trees",
            Self::Binpkg => "binary packages",
            Self::Remote => "remotes",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a purpose of a key; there are stage3, tree, binpkg and remote")]
pub struct NotAPurpose(pub String);

impl FromStr for Purpose {
    type Err = NotAPurpose;

    fn from_str(text: &str) -> Result<Self, NotAPurpose> {
        Self::ALL.into_iter().find(|purpose| purpose.word() == text).ok_or_else(|| NotAPurpose(text.to_owned()))
    }
}

/// What a key counts for: at least one purpose, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Purposes(Vec<Purpose>);

impl Purposes {
    /// From a list. An empty list means the usual ones, as in a line of `trusted` that names none.
    pub fn of(given: &[Purpose]) -> Self {
        if given.is_empty() { Self(Purpose::USUAL.to_vec()) } else { Self::in_order(given) }
    }

    pub fn has(&self, purpose: Purpose) -> bool {
        self.0.contains(&purpose)
    }

    /// Whether they are what a line of `trusted` means that names none.
    pub fn is_usual(&self) -> bool {
        self.0 == Purpose::USUAL
    }

    /// The union of both.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let both: Vec<Purpose> = self.0.iter().chain(&others.0).copied().collect();
        Self::in_order(&both)
    }

    /// As in a line of `trusted`: no word if they are the usual ones.
    pub(super) fn words(&self) -> String {
        let words: Vec<&str> = if self.is_usual() { Vec::new() } else { self.0.iter().map(|purpose| purpose.word()).collect() };
        words.join(" ")
    }

    fn in_order(given: &[Purpose]) -> Self {
        Self(Purpose::ALL.into_iter().filter(|purpose| given.contains(purpose)).collect())
    }
}

impl Default for Purposes {
    fn default() -> Self {
        Self::of(&[])
    }
}

/// For messages: `stage3s and binary packages`.
impl fmt::Display for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(" and "))
    }
}

/// The keys of a configuration, to be asked about one kind of file. Functions that verify take only this, so nobody can forget to say
/// which kind.
#[derive(Debug, Clone, Copy)]
pub struct KeysFor<'a> {
    pub(crate) keys: &'a TrustedKeys,
    /// The kind of file that is to be verified.
    pub(crate) purpose: Purpose,
}

impl KeysFor<'_> {
    /// Whether signatures of the primary key `fingerprint` count here.
    pub fn count(&self, fingerprint: &Fingerprint) -> bool {
        self.keys.purposes_of(fingerprint).is_some_and(|purposes| purposes.has(self.purpose))
    }
}

impl TrustedKeys {
    /// The same keys, to be asked about one kind of file.
    pub fn counting_for(&self, purpose: Purpose) -> KeysFor<'_> {
        KeysFor { keys: self, purpose }
    }
}
