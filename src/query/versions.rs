//! Versions of packages: which one emerge would take, what its ebuild says, and whether the user's patches apply to it.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::portage::atom::Atom;
use crate::query::{Question, all_shown};

/// Which version of a package would emerge take now?
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "version")]
pub struct Version<'a> {
    pub atom: &'a str,
    /// If there is none to take, also say why. That takes a while.
    pub why: bool,
    /// Also say how its USE flags are set.
    pub flags: bool,
}

impl Question for Version<'_> {
    type Answer = Taken;
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Taken {
    Found(Found),
    Missing {
        #[serde(default, deserialize_with = "all_shown")]
        versions: Vec<String>,
        #[serde(default, deserialize_with = "all_shown")]
        reasons: Vec<String>,
        #[serde(default, deserialize_with = "all_shown")]
        near: Vec<String>,
    },
}

impl Taken {
    /// `atom` is the one in the question.
    pub fn found(self, atom: &str) -> Result<Found, NotVisible> {
        let atom = atom.to_owned();
        match self {
            Self::Found(found) => Ok(found),
            Self::Missing { versions, near, .. } if versions.is_empty() => Err(NotVisible::NoPackage { atom, near }),
            Self::Missing { versions, reasons, .. } => Err(NotVisible::Masked { atom, versions, reasons }),
        }
    }
}

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    #[serde(deserialize_with = "a_cpv")]
    pub cpv: String,
    pub repository: String,
    /// Without its sub-slot.
    pub slot: String,
    /// The path of its ebuild.
    pub ebuild: String,
    pub flags: Option<Flags>,
}

/// USE flags of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    pub all: Vec<String>,
    pub on: Vec<String>,
    /// The Portage profile switches these off, whatever the user says.
    pub masked: Vec<String>,
    pub forced: Vec<String>,
    pub required_use: String,
}

/// Why no version of a package can be taken.
#[derive(Debug, thiserror::Error)]
pub enum NotVisible {
    #[error("there is no package `{atom}`")]
    NoPackage {
        atom: String,
        /// Similar names that may have been meant.
        near: Vec<String>,
    },
    /// There are versions, and none may be installed.
    #[error("no version of `{atom}` can be installed: {} is masked \
        ({})", versions.last().map_or("it", String::as_str), reasons.join(", "))]
    Masked {
        atom: String,
        /// All versions, newest last.
        versions: Vec<String>,
        /// Why the newest is masked, in Portage's words.
        reasons: Vec<String>,
    },
}

/// What does an ebuild say? There is no answer if it cannot be read.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "ebuild")]
pub(crate) struct Ebuild<'a> {
    pub cpv: &'a str,
    /// `None`: the repository that emerge would choose.
    pub repository: Option<&'a str>,
    /// Also which source archives it needs with the present flags.
    pub files: bool,
}

impl Question for Ebuild<'_> {
    type Answer = Option<EbuildFacts>;
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EbuildFacts {
    pub eapi: String,
    pub slot: String,
    pub src_uri: String,
    pub restrict: String,
    pub files: Vec<String>,
}

/// If this version is prepared in `scratch`, which log will say what became of the user's patches?
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "rehearsal")]
pub(crate) struct Rehearsal<'a> {
    pub cpv: &'a str,
    pub scratch: &'a str,
    pub logs: &'a str,
}

impl Question for Rehearsal<'_> {
    type Answer = PathBuf;
}

/// A `cpv` becomes part of paths and commands, so it must look like one.
fn a_cpv<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    match Atom::parse_target(&format!("={text}")) {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(error)),
    }
}
