//! Do the things exist that a configuration names?

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown};

/// A thing that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Named {
    /// Can this be installed?
    Target { atom: String },
    /// Is there such a set?
    Set { name: String },
    /// Does anything match the atom of a `package.*` line? With `future` it may mean a package that does not exist yet.
    Atom { atom: String, future: bool },
    /// Does any version that matches have the flag, and can it be switched this way?
    Flag { atom: String, flag: String, on: bool },
    /// Does any package have the flag, and can it be switched this way?
    GlobalFlag { flag: String, on: bool },
    /// If the variable is in `USE_EXPAND`, does it have this value, and can it be switched this way?
    Value { variable: String, value: String, on: bool },
    /// Is there such a licence, or group of licences?
    Licence { name: String },
    /// Is it a keyword of an architecture?
    Keyword { name: String },
    /// Is it one of `FEATURES`?
    Feature { name: String },
}

impl Question for &Named {
    type Answer = Option<Unknown>;
}

/// Why a name has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unknown {
    pub problem: Problem,
    /// Similar names that may have been meant.
    #[serde(default, deserialize_with = "all_shown")]
    pub near: Vec<String>,
    /// What exists instead, or why.
    #[serde(default, deserialize_with = "all_shown")]
    pub details: Vec<String>,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    NoRepository,
    NoPackage,
    NoVersion,
    Masked,
    NoFlag,
    MaskedFlag,
    ForcedFlag,
    UnknownFlag,
    UnknownValue,
    NoLicence,
    NoKeyword,
    NoFeature,
    NoSet,
    Refused,
}
