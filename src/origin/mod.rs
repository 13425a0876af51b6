//! The origin of a build state: what it was made from, and how.
//!
//! It is stored in the state's file, and copied from there into the `.json` of each artifact:
//!
//! ```text
//! stage3              an imported tarball
//! stage3 definition   a definition on a stage3; a builder is one, also after an update
//! kernel sources      a builder with the sources of a kernel
//! kernel              the payload of a kernel, on nothing
//! kernel headers      what modules of other packages need of that kernel, on nothing
//! base with kernel    the layers of a stage3 definition and of a kernel
//! stage4 definition   a stage4 on a stage3 definition, or on one with a kernel
//! kept session        the result of manual work on any of them
//! ```
//!
//! [`Recorded`] is an origin as it was written. It never changes, since a state's id is a digest over it. [`Origin`] is its meaning,
//! parsed on demand. Everything that was ever written can be read: a missing or unreadable field is as if it was not said, unknown fields
//! are kept in `more`, and an unknown kind is [`Origin::Unknown`].

mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::{fmt, iter};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::build_key::Inputs;
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::portage::emerge::default_opts::DefaultOpts;
use crate::portage::messages;
use crate::portage::messages::Messages;
use crate::sandbox::{Isolation, Rung};

pub use kinds::Kept;
pub(crate) use kinds::{
    BaseWithKernel, Definition, Downloads, Import, Kernel, KernelHeaders, KernelRecord, KernelSources, Network, Parts, PatchFate,
    PatchRecord, Patched, SourcesFacts, Stage4, SymbolChange, TreeUsed,
};

/// The version that we write. The first versions wrote none, which counts as 0. Raise it when a field changes its meaning.
const VERSION: u64 = 1;
const VERSION_FIELD: &str = "version";
const KIND_FIELD: &str = "kind";

/// The meaning of an origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Origin {
    /// An imported stage3.
    #[serde(rename = "stage3")]
    Import(Box<Import>),
    /// A stage3 definition on it.
    #[serde(rename = "stage3 definition")]
    Definition(Box<Definition>),
    /// A stage4 on that.
    #[serde(rename = "stage4 definition")]
    Stage4(Box<Stage4>),
    /// What a stage4 with a kernel stands on.
    #[serde(rename = "base with kernel")]
    BaseWithKernel(Box<BaseWithKernel>),
    /// A builder with the sources of a kernel installed.
    #[serde(rename = "kernel sources")]
    KernelSources(Box<KernelSources>),
    /// The payload of a kernel.
    #[serde(rename = "kernel")]
    Kernel(Box<Kernel>),
    /// The headers of a kernel.
    #[serde(rename = "kernel headers")]
    KernelHeaders(KernelHeaders),
    /// A kept session.
    #[serde(rename = "kept session")]
    Kept(Kept),
    /// A kind that a newer version wrote, or no origin at all.
    #[serde(untagged)]
    Unknown(Value),
}

impl Origin {
    fn read(written: &Value) -> Self {
        let Value::Object(fields) = written else { return Self::Unknown(written.clone()) };
        let mut fields = fields.clone();
        if fields.remove(VERSION_FIELD).is_some_and(|version| version.as_u64().is_none_or(|version| version > VERSION)) {
            return Self::Unknown(written.clone());
        }
        match Self::deserialize(Value::Object(fields)) {
            Ok(Self::Unknown(_)) | Err(_) => Self::Unknown(written.clone()),
            Ok(known) => known,
        }
    }

    /// The origin of a base with a kernel, for any kind of base.
    pub fn on_kernel(base: &Recorded, kernel: KernelRecord) -> Self {
        let mut fields = base.json().as_object().cloned().unwrap_or_default();
        fields.retain(|name, _| ![KIND_FIELD, VERSION_FIELD].contains(&name.as_str()));
        let base = Definition::deserialize(Value::Object(fields)).unwrap_or_default();
        Self::BaseWithKernel(Box::new(BaseWithKernel { kernel: Some(kernel), base }))
    }

    /// This, if it is an imported stage3.
    pub fn as_import(&self) -> Option<&Import> {
        match self {
            Self::Import(import) => Some(import),
            _ => None,
        }
    }

    /// This, if it is a stage4.
    pub fn as_stage4(&self) -> Option<&Stage4> {
        match self {
            Self::Stage4(stage4) => Some(stage4),
            _ => None,
        }
    }

    /// This, if it is a kernel.
    pub fn as_kernel(&self) -> Option<&Kernel> {
        match self {
            Self::Kernel(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// The stage3 definition that this is, or that it adds nothing to but a kernel.
    fn as_definition(&self) -> Option<&Definition> {
        match self {
            Self::Definition(definition) => Some(definition),
            Self::BaseWithKernel(with_kernel) => Some(&with_kernel.base),
            Self::KernelSources(sources) => Some(&sources.builder),
            _ => None,
        }
    }

    /// A field of a stage3 definition or of a stage4.
    fn of_either<'o, T: ?Sized>(
        &'o self,
        definition: impl FnOnce(&'o Definition) -> Option<&'o T>,
        stage4: impl FnOnce(&'o Stage4) -> Option<&'o T>,
    ) -> Option<&'o T> {
        match self {
            Self::Stage4(of) => stage4(of),
            _ => self.as_definition().and_then(definition),
        }
    }

    /// The origin of what it was made from.
    pub fn below(&self) -> Option<&Recorded> {
        match self {
            Self::Stage4(stage4) => stage4.base.as_ref(),
            Self::Kept(kept) => kept.parent.as_ref(),
            _ => self.as_definition()?.stage3.as_ref(),
        }
    }

    /// This, then each origin below until a stage3 definition. An origin without a configuration has that of the one below it.
    fn down(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |origin| match origin {
            Self::Stage4(_) | Self::Kept(_) => origin.below().map(Deref::deref),
            _ => None,
        })
    }

    /// The inputs of the build key.
    pub fn inputs(&self) -> Option<&Inputs> {
        match self {
            Self::Import(import) => import.inputs.as_ref(),
            Self::Kernel(kernel) => kernel.inputs.as_ref(),
            _ => self.of_either(|of| of.inputs.as_ref(), |of| of.inputs.as_ref()),
        }
    }

    /// The inputs of its pool's key.
    pub fn pool(&self) -> Option<&PoolInputs> {
        self.of_either(|of| of.pool.as_ref(), |of| of.pool.as_ref())
    }

    pub fn portage_profile(&self) -> Option<&str> {
        self.of_either(|of| Some(of.portage_profile.as_str()), |of| of.portage_profile.as_deref())
            .filter(|profile| !profile.is_empty())
    }

    /// The isolation of the build.
    pub fn isolation(&self) -> Option<&str> {
        let isolation = match self {
            Self::Kernel(kernel) => kernel.isolation.as_str(),
            Self::Kept(kept) => kept.isolation.as_str(),
            _ => self.of_either(|of| Some(of.isolation.as_str()), |of| Some(of.isolation.as_str()))?,
        };
        // Early versions did not record it.
        Some(isolation).filter(|isolation| !isolation.is_empty())
    }

    /// The kind of it; `None` if it is one that this version does not know.
    pub fn rung(&self) -> Option<Rung> {
        self.isolation()?.parse::<Isolation>().ok().map(Isolation::rung)
    }

    /// The ebuild trees; `None` if it does not record them, as a stage4.
    pub fn trees(&self) -> Option<&[TreeUsed]> {
        self.as_definition()?.trees.as_deref()
    }

    /// The digests of its configuration's parts.
    pub fn parts(&self) -> Option<&Parts> {
        self.as_definition()?.parts.as_ref()
    }

    /// Packages with patches, and what became of these.
    pub fn patched(&self) -> Option<&[Patched]> {
        self.of_either(|of| of.patched.as_deref(), |of| of.patched.as_deref())
    }

    /// The files below `/etc/portage` from its configuration. A stage4 has those of its base, unless the configuration changed after that
    /// was built.
    pub fn portage_files(&self) -> Option<&[PathBuf]> {
        self.down().find_map(|origin| origin.of_either(|of| of.portage_files.as_deref(), |of| of.portage_files.as_deref()))
    }

    /// Its patches; a stage4 has those of its base.
    pub fn patches(&self) -> &[PatchRecord] {
        let patches = self.down().find_map(|origin| origin.of_either(|of| of.patches.as_deref(), |of| of.patches.as_deref()));
        patches.unwrap_or_default()
    }

    /// The download settings of its configuration or its base's.
    pub fn downloads(&self) -> Option<&Downloads> {
        self.down().find_map(|origin| origin.as_definition()?.downloads.as_ref())
    }

    /// The emerge options of its configuration or its base's.
    pub fn emerge_opts(&self) -> Option<&DefaultOpts> {
        self.down().find_map(|origin| origin.as_definition()?.emerge_opts.as_ref())
    }

    /// The stage3 that it is, or that it was made from.
    pub fn stage3(&self) -> Option<&Import> {
        iter::successors(Some(self), |origin| origin.below().map(Deref::deref)).find_map(Self::as_import)
    }
}

/// An origin as it was written; [`Origin`] is its meaning.
#[derive(Clone)]
pub struct Recorded(Arc<Written>);

struct Written {
    json: Value,
    /// Parsed on demand: of thousands of states only a few are asked.
    read: OnceLock<Origin>,
}

impl Recorded {
    /// What was read from a file.
    fn before(json: Value) -> Self {
        Self(Arc::new(Written { json, read: OnceLock::new() }))
    }

    /// The JSON in the file.
    pub fn json(&self) -> &Value {
        &self.0.json
    }

    /// The version of the format.
    pub fn version(&self) -> u64 {
        self.json()[VERSION_FIELD].as_u64().unwrap_or_default()
    }

    // These fields have the same place in each kind, also in unknown ones.

    fn word(&self, name: &str) -> Option<&str> {
        self.json()[name].as_str().filter(|word| !word.is_empty())
    }

    /// Its kind, in words.
    pub fn kind(&self) -> Option<&str> {
        self.word(KIND_FIELD)
    }

    /// Its name: of the stage3's file, of the kernel, or of the kept session.
    pub fn name(&self) -> Option<&str> {
        self.word("name")
    }

    /// The stage3 or stage4 definition.
    pub fn definition(&self) -> Option<&str> {
        self.word("definition")
    }

    /// The profile.
    pub fn profile(&self) -> Option<&str> {
        self.word("profile")
    }

    /// Its packages with their keys.
    pub fn package_keys(&self) -> BTreeMap<String, PackageKey> {
        BTreeMap::deserialize(&self.json()["package_keys"]).unwrap_or_default()
    }

    /// What its packages have said, and what else its build had to tell.
    pub fn messages(&self) -> Messages {
        Messages::deserialize(&self.json()[messages::FIELD]).unwrap_or_default()
    }

    /// The pool inputs of it and of everything below it, wherever they stand: `clean` removes all other pools.
    pub fn pools(&self) -> Vec<PoolInputs> {
        let mut found = Vec::new();
        let mut waiting: Vec<&Map<String, Value>> = self.json().as_object().into_iter().collect();
        // Also in fields and kinds that we do not know: a pool that is missed here would be removed.
        while let Some(fields) = waiting.pop() {
            found.extend(fields.get("pool").and_then(|pool| PoolInputs::deserialize(pool).ok()));
            waiting.extend(fields.values().filter_map(Value::as_object));
        }
        found
    }

    /// The origin below all kept sessions. A session kept on top of another one only records this: if each one contained the one before,
    /// the file could not be parsed any more after some 120 (JSON depth). The ids of the states in between are in `State::parent`.
    pub fn made_from(&self) -> &Self {
        match &**self {
            Origin::Kept(Kept { parent: Some(parent), .. }) => parent.made_from(),
            _ => self,
        }
    }
}

impl Deref for Recorded {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        self.0.read.get_or_init(|| Origin::read(&self.0.json))
    }
}

/// Serialises it with the present version.
impl From<Origin> for Recorded {
    fn from(origin: Origin) -> Self {
        serde_json::json!(origin).into()
    }
}

/// As above, for JSON.
impl From<Value> for Recorded {
    fn from(mut json: Value) -> Self {
        if let Some(fields) = json.as_object_mut() {
            fields.insert(VERSION_FIELD.to_owned(), VERSION.into());
        }
        Self::before(json)
    }
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

/// Every version has written other fields, and all that it was made from is nested in it: only what tells the kinds apart is promised.
#[cfg(test)]
impl schemars::JsonSchema for Recorded {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Origin".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What the state was made from, and how; may have more fields than a version of this schema knows.",
            "type": ["object", "null"],
            "additionalProperties": true,
            "properties": { "kind": { "type": "string" }, "version": { "type": "integer" } }
        })
    }
}

/// Keeps the JSON as it is, whichever version wrote it.
impl<'de> Deserialize<'de> for Recorded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::before)
    }
}

impl PartialEq for Recorded {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Recorded {}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json().fmt(f)
    }
}

/// Prints the JSON in one line.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json().fmt(f)
    }
}
