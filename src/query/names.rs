//! Things that a configuration names.

use serde::{Deserialize, Serialize};

use crate::query::{Question, all_shown};

/// A thing that a configuration names; Portage is asked whether there is such a thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Named {
    /// Can this be installed?
    Target { atom: String },
    /// Is there such a set?
    Set { name: String },
    /// Does anything match the atom of a `package.*` line? `future`: one that is not there yet may be meant.
    Atom { atom: String, future: bool },
    /// Has any version that matches the flag, and can it be switched so?
    Flag { atom: String, flag: String, on: bool },
    /// Has any package the flag, and can it be switched so?
    GlobalFlag { flag: String, on: bool },
    /// Is it a value of the variable, if that is one of `USE_EXPAND`, and can it be switched so?
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

/// Why a thing that is named has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unknown {
    pub problem: Problem,
    /// Names that could have been meant.
    #[serde(default, deserialize_with = "all_shown")]
    pub near: Vec<String>,
    /// What there is instead, or why.
    #[serde(default, deserialize_with = "all_shown")]
    pub details: Vec<String>,
}

/// What is wrong with the thing asked about.
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
