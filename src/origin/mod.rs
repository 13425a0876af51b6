//! Where a build state came from: what was made of what, and in which way.
//!
//! It is written into the state's file, and from there into the `.json` of each artifact:
//!
//! ```text
//! stage3              an imported tarball
//! stage3 definition   a definition on a stage3; a builder is one, also after an update
//! kernel sources      a builder with the sources of a kernel
//! kernel              the payload of a kernel, on nothing
//! kernel headers      what modules of other packages need of that kernel, on nothing
//! base with kernel    the layers of a stage3 definition and of a kernel
//! stage4 definition   a stage4 on a stage3 definition, or on one with a kernel
//! kept session        what somebody did by hand, on any of them
//! ```
//!
//! [`Recorded`] is an origin as it was written. It never changes: the id of a state is a digest over it. [`Origin`] is what it says, read when
//! somebody asks. All that was ever written can be read: a field that is missing, or that cannot be read, is as if nothing was said, fields
//! that we do not know are in `more`, and a kind that we do not know is [`Origin::Unknown`].

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

pub use kinds::Kept;
pub(crate) use kinds::{
    BaseWithKernel, Definition, Downloads, Import, Kernel, KernelHeaders, KernelRecord, KernelSources, Network, Parts, PatchFate,
    PatchRecord, Patched, SourcesFacts, Stage4, SymbolChange, TreeUsed,
};

/// What is written now. Versions before wrote no number, which is 0. Raise it when a field means something else than before.
const VERSION: u64 = 1;
/// Where it stands.
const VERSION_FIELD: &str = "version";
const KIND_FIELD: &str = "kind";

/// What a state says of where it came from.
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
    /// A builder with kernel sources.
    #[serde(rename = "kernel sources")]
    KernelSources(Box<KernelSources>),
    /// The payload of a kernel.
    #[serde(rename = "kernel")]
    Kernel(Box<Kernel>),
    /// The headers of a kernel.
    #[serde(rename = "kernel headers")]
    KernelHeaders(KernelHeaders),
    /// A session that somebody kept.
    #[serde(rename = "kept session")]
    Kept(Kept),
    /// What a newer version wrote, or no origin at all.
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

    /// What a base says with a kernel on it, of which kind it may be.
    pub fn on_kernel(base: &Recorded, kernel: KernelRecord) -> Self {
        let mut fields = base.json().as_object().cloned().unwrap_or_default();
        fields.retain(|name, _| ![KIND_FIELD, VERSION_FIELD].contains(&name.as_str()));
        let base = Definition::deserialize(Value::Object(fields)).unwrap_or_default();
        Self::BaseWithKernel(Box::new(BaseWithKernel { kernel: Some(kernel), base }))
    }

    /// What it says as an imported stage3.
    pub fn as_import(&self) -> Option<&Import> {
        match self {
            Self::Import(import) => Some(import),
            _ => None,
        }
    }

    /// What it says as a stage4.
    pub fn as_stage4(&self) -> Option<&Stage4> {
        match self {
            Self::Stage4(stage4) => Some(stage4),
            _ => None,
        }
    }

    /// What it says as a kernel.
    pub fn as_kernel(&self) -> Option<&Kernel> {
        match self {
            Self::Kernel(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// What it says as a stage3 definition, if it is one or stands on one with the same layers below.
    fn as_definition(&self) -> Option<&Definition> {
        match self {
            Self::Definition(definition) => Some(definition),
            Self::BaseWithKernel(with_kernel) => Some(&with_kernel.base),
            Self::KernelSources(sources) => Some(&sources.builder),
            _ => None,
        }
    }

    /// A field that both a stage3 definition and a stage4 have.
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

    /// It and those below it down to a stage3 definition: who says nothing of how it was configured has that of the one below.
    fn down(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |origin| match origin {
            Self::Stage4(_) | Self::Kept(_) => origin.below().map(Deref::deref),
            _ => None,
        })
    }

    /// What went into the build key.
    pub fn inputs(&self) -> Option<&Inputs> {
        match self {
            Self::Import(import) => import.inputs.as_ref(),
            Self::Kernel(kernel) => kernel.inputs.as_ref(),
            _ => self.of_either(|of| of.inputs.as_ref(), |of| of.inputs.as_ref()),
        }
    }

    /// What its pool of binary packages is keyed by.
    pub fn pool(&self) -> Option<&PoolInputs> {
        self.of_either(|of| of.pool.as_ref(), |of| of.pool.as_ref())
    }

    pub fn portage_profile(&self) -> Option<&str> {
        self.of_either(|of| Some(of.portage_profile.as_str()), |of| of.portage_profile.as_deref())
            .filter(|profile| !profile.is_empty())
    }

    /// The isolation in which it was made.
    pub fn isolation(&self) -> Option<&str> {
        let isolation = match self {
            Self::Kernel(kernel) => kernel.isolation.as_str(),
            Self::Kept(kept) => kept.isolation.as_str(),
            _ => self.of_either(|of| Some(of.isolation.as_str()), |of| Some(of.isolation.as_str()))?,
        };
        // A record of a version that did not say.
        Some(isolation).filter(|isolation| !isolation.is_empty())
    }

    /// The ebuild trees that it was made with; `None` where it says nothing of them, as a stage4 does.
    pub fn trees(&self) -> Option<&[TreeUsed]> {
        self.as_definition()?.trees.as_deref()
    }

    /// Digests of its configuration, taken apart.
    pub fn parts(&self) -> Option<&Parts> {
        self.as_definition()?.parts.as_ref()
    }

    /// Packages with patches, and what became of these.
    pub fn patched(&self) -> Option<&[Patched]> {
        self.of_either(|of| of.patched.as_deref(), |of| of.patched.as_deref())
    }

    /// The files below `/etc/portage` that its configuration brought. A stage4 has those of its base, unless something had changed since that
    /// was made.
    pub fn portage_files(&self) -> Option<&[PathBuf]> {
        self.down().find_map(|origin| origin.of_either(|of| of.portage_files.as_deref(), |of| of.portage_files.as_deref()))
    }

    /// The patches that it was given; a stage4 has those of its base.
    pub fn patches(&self) -> &[PatchRecord] {
        let patches = self.down().find_map(|origin| origin.of_either(|of| of.patches.as_deref(), |of| of.patches.as_deref()));
        patches.unwrap_or_default()
    }

    /// What its configuration, or that of its base, said of downloads.
    pub fn downloads(&self) -> Option<&Downloads> {
        self.down().find_map(|origin| origin.as_definition()?.downloads.as_ref())
    }

    /// What its configuration, or that of its base, wanted of emerge.
    pub fn emerge_opts(&self) -> Option<&DefaultOpts> {
        self.down().find_map(|origin| origin.as_definition()?.emerge_opts.as_ref())
    }

    /// The stage3 that it is, or that it was made from.
    pub fn stage3(&self) -> Option<&Import> {
        iter::successors(Some(self), |origin| origin.below().map(Deref::deref)).find_map(Self::as_import)
    }
}

/// An origin as it was written; [`Origin`] is what it says.
#[derive(Clone)]
pub struct Recorded(Arc<Written>);

struct Written {
    json: Value,
    /// Made when somebody asks: of thousands of states only some are asked.
    read: OnceLock<Origin>,
}

impl Recorded {
    /// What was read from a file.
    fn before(json: Value) -> Self {
        Self(Arc::new(Written { json, read: OnceLock::new() }))
    }

    /// As it stands in the file.
    pub fn json(&self) -> &Value {
        &self.0.json
    }

    /// By which rules it was written.
    pub fn version(&self) -> u64 {
        self.json()[VERSION_FIELD].as_u64().unwrap_or_default()
    }

    // These stand at the same place in each kind, also in those that are not known.

    fn word(&self, name: &str) -> Option<&str> {
        self.json()[name].as_str().filter(|word| !word.is_empty())
    }

    /// What it is, in words.
    pub fn kind(&self) -> Option<&str> {
        self.word(KIND_FIELD)
    }

    /// What it is called: the file of a stage3, the label of a kernel, the name that a session was kept by.
    pub fn name(&self) -> Option<&str> {
        self.word("name")
    }

    /// The stage3 or stage4 definition that it was made by.
    pub fn definition(&self) -> Option<&str> {
        self.word("definition")
    }

    /// The profile that it was made for.
    pub fn profile(&self) -> Option<&str> {
        self.word("profile")
    }

    /// The packages that are in it, with their keys.
    pub fn package_keys(&self) -> BTreeMap<String, PackageKey> {
        BTreeMap::deserialize(&self.json()["package_keys"]).unwrap_or_default()
    }

    /// What the pools of it and of all below it are keyed by, wherever that stands: who asks removes the others.
    pub fn pools(&self) -> Vec<PoolInputs> {
        let mut found = Vec::new();
        let mut waiting: Vec<&Map<String, Value>> = self.json().as_object().into_iter().collect();
        while let Some(fields) = waiting.pop() {
            found.extend(fields.get("pool").and_then(|pool| PoolInputs::deserialize(pool).ok()));
            waiting.extend(fields.values().filter_map(Value::as_object));
        }
        found
    }

    /// The origin below all kept sessions. A kept session on a kept session says only this of what is below it: an origin that grew with each
    /// one could not be read any more after some 120, and the ids of the states between are in `State::parent`.
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

/// As it is written from now on.
impl From<Origin> for Recorded {
    fn from(origin: Origin) -> Self {
        serde_json::json!(origin).into()
    }
}

/// The same for one that is JSON already.
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

/// As it was written, whichever version did so.
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

/// Its JSON in one line.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json().fmt(f)
    }
}
