//! The fields of each kind of origin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Recorded;
use crate::build_key::Inputs;
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::portage::emerge::default_opts::DefaultOpts;
use crate::stage3::{Check, Signer};

/// A value that we cannot read counts as missing, so that one field which a newer version writes otherwise does not make the others
/// unreadable.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Value::deserialize(deserializer).map(|value| T::deserialize(value).unwrap_or_default())
}

/// Structs whose fields may be missing or unreadable. Unknown fields are kept.
macro_rules! records {
    ($($(#[$about:meta])* struct $name:ident { $($(#[$of:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $(
                $(#[$of])*
                #[serde(default, deserialize_with = "lenient")]
                pub $field: $type,
            )*
            /// Fields that we do not know.
            #[serde(flatten)]
            pub more: Map<String, Value>,
        }
    )*};
}

records! {
    /// An imported stage3.
    struct Import {
        /// Its file.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// SHA-512, hexadecimal.
        sha512: String,
        /// BLAKE2b-512, hexadecimal.
        blake2b: String,
        /// Who signed it.
        signer: Option<Signer>,
        /// The user's reason for taking it unsigned.
        allow_unsigned: Option<String>,
        /// What was verified.
        checks: Vec<Check>,
        /// How many files were in it.
        files: u64,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
    }

    /// A stage3 definition on a stage3, or kernel sources on a builder.
    struct Definition {
        profile: String,
        /// The definition's name. Kernel sources have none.
        definition: Option<String>,
        portage_profile: String,
        /// The configuration's files, relative to `/etc/portage`. An update removes those that the configuration does not have any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        portage_files: Option<Vec<PathBuf>>,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
        /// See [`Origin::pool`](super::Origin::pool).
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<PoolInputs>,
        /// The origin of the stage3.
        #[serde(skip_serializing_if = "Option::is_none")]
        stage3: Option<Recorded>,
        /// The ebuild trees, the main one first.
        #[serde(skip_serializing_if = "Option::is_none")]
        trees: Option<Vec<TreeUsed>>,
        isolation: String,
        /// Who had the host's network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        #[serde(skip_serializing_if = "Option::is_none")]
        downloads: Option<Downloads>,
        #[serde(skip_serializing_if = "Option::is_none")]
        emerge_opts: Option<DefaultOpts>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parts: Option<Parts>,
        /// Packages downloaded from binary package hosts.
        #[serde(skip_serializing_if = "Option::is_none")]
        binhost_packages: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        patches: Option<Vec<PatchRecord>>,
        /// What became of patches.
        #[serde(skip_serializing_if = "Option::is_none")]
        patched: Option<Vec<Patched>>,
        /// Package keys by `category/name-version::repository`.
        #[serde(skip_serializing_if = "Option::is_none")]
        package_keys: Option<BTreeMap<String, PackageKey>>,
        /// The state before the update.
        #[serde(skip_serializing_if = "Option::is_none")]
        updated_from: Option<String>,
    }

    /// A stage4 on a stage3 definition.
    struct Stage4 {
        profile: String,
        definition: String,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
        /// Not the base's pool: the stage4's packages may include another compiler, and what is built on the stage4 depends on that.
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<PoolInputs>,
        portage_profile: Option<String>,
        /// The origin of the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<Recorded>,
        /// Packages of its definition that it lacks, since they were left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<Vec<String>>,
        kernel: Option<KernelRecord>,
        isolation: String,
        /// Who had the host's network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        /// Packages downloaded from binary package hosts.
        #[serde(skip_serializing_if = "Option::is_none")]
        binhost_packages: Option<Vec<String>>,
        /// Only if the configuration differed from that of the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        portage_files: Option<Vec<PathBuf>>,
        /// The patches, only if the configuration differed from that of the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        patches: Option<Vec<PatchRecord>>,
        /// What became of patches.
        #[serde(skip_serializing_if = "Option::is_none")]
        patched: Option<Vec<Patched>>,
        /// Package keys by `category/name-version::repository`.
        #[serde(skip_serializing_if = "Option::is_none")]
        package_keys: Option<BTreeMap<String, PackageKey>>,
    }

    /// The payload of a kernel.
    struct Kernel {
        /// The label of its configuration.
        name: String,
        profile: String,
        /// The package of its sources.
        package: String,
        /// `uname -r`: `6.12.4-gentoo`.
        release: String,
        /// Digest of its configuration.
        configuration: String,
        /// Symbols that the configuration sets and the sources changed.
        unmet: Vec<SymbolChange>,
        /// Options that are built in.
        built_in: u64,
        /// Options that are modules.
        modules: u64,
        initramfs: bool,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
        isolation: String,
        /// Records that nothing had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    }

    /// The headers of a kernel.
    struct KernelHeaders {
        /// `uname -r` of the kernel.
        name: String,
        /// The package of its sources.
        package: String,
    }

    /// A kept session.
    struct Kept {
        /// The name it was kept by.
        name: String,
        profile: String,
        /// The command that was run.
        command: Vec<String>,
        /// The origin below it, and below the kept sessions that it is based on.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<Recorded>,
        isolation: String,
        /// Whether it had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    }

    /// The kernel of a stage4.
    #[cfg_attr(test, derive(schemars::JsonSchema))]
    struct KernelRecord {
        /// The label of its configuration.
        name: String,
        release: String,
        /// The package of its sources.
        package: String,
        /// Digest of its configuration.
        configuration: String,
        state: String,
    }

    /// An ebuild tree of a state.
    struct TreeUsed {
        name: String,
        /// Digest of its contents.
        digest: String,
        /// Where sessions saw it.
        #[serde(skip_serializing_if = "Option::is_none")]
        location: Option<PathBuf>,
    }
}

/// A stage3 definition with a kernel on it. It has the fields of the definition, for what is built on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseWithKernel {
    #[serde(default, deserialize_with = "lenient")]
    pub kernel: Option<KernelRecord>,
    /// The definition, with the fields that we do not know.
    #[serde(flatten)]
    pub base: Definition,
}

/// A builder with the sources of a kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSources {
    /// Their package.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// What we found in the sources.
    #[serde(default, deserialize_with = "lenient")]
    pub sources: Option<SourcesFacts>,
    /// The builder's fields without definition, inputs and pool, and with those that we do not know.
    #[serde(flatten)]
    pub builder: Definition,
}

/// What we found in kernel sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcesFacts {
    /// Category, name and version of their package.
    pub package: String,
    /// Whether the package is a distribution kernel, which builds the kernel itself and installs no sources.
    pub distribution: bool,
    /// Their directory.
    pub tree: String,
    /// Digest of the names and checksums of all files of the package.
    pub contents: String,
}

/// Who had the host's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// These packages, as their atoms were written.
    Packages(Vec<String>),
    /// `everything` of a definition; of a kept session `host` or `none`.
    Word(String),
}

/// Where files may be downloaded from, besides the addresses in ebuild trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloads {
    /// `GENTOO_MIRRORS`.
    pub mirrors: Vec<String>,
    /// `/etc/portage/mirrors`.
    pub named_mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of binary packages: name and address.
    pub hosts: BTreeMap<String, String>,
    /// Hosts of the stage3's own `binrepos.conf`, which are used as well.
    pub stage3_hosts: BTreeMap<String, String>,
    /// Protocols with a `FETCHCOMMAND_…` of their own.
    pub protocols: BTreeSet<String>,
}

/// Digests in hexadecimal: one of what holds for all packages, and one for each `category/name` with settings of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Of what holds for all.
    pub general: String,
    /// By `category/name`.
    pub packages: BTreeMap<String, String>,
}

/// A patch, as a build state records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchRecord {
    /// Its folder in the configuration directory.
    pub name: String,
    /// Category of the package.
    pub category: String,
    /// The package's directory: its name, with versions.
    pub directory: String,
    /// The file's name in `/etc/portage/patches`.
    pub file_name: String,
    /// Relative to the configuration directory.
    pub path: PathBuf,
    /// SHA-256 of the contents, hexadecimal; none if it is empty.
    pub sha256: Option<String>,
}

/// A package with patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patched {
    /// `category/name-version`
    pub package: String,
    /// The patches that are for it, relative to the configuration directory, in the order in which they are applied.
    pub patches: Vec<PathBuf>,
    /// What became of them.
    #[serde(flatten)]
    pub fate: PatchFate,
}

/// What became of the patches of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum PatchFate {
    /// All were applied.
    Applied,
    /// Its ebuild does not call `eapply_user`.
    NotCalled { eapi: String },
    /// It was built before they were added.
    BuiltBefore,
    /// It was built with other patches.
    BuiltWithOthers,
}

/// A symbol with different values in two kernel configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SymbolChange {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// The value before, safe to print; `None`: it is not set.
    pub before: Option<String>,
    /// The value after.
    pub after: Option<String>,
}
