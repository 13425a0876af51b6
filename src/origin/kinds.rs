//! What each kind of origin says.

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

/// What cannot be read is as if nothing was said: one field that a newer version writes otherwise takes nothing from the others.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Value::deserialize(deserializer).map(|value| T::deserialize(value).unwrap_or_default())
}

/// Structs whose fields may be missing, may be what we cannot read, and may be followed by others, which are kept.
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
            /// Fields of other versions.
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
        /// Why it was taken although nobody had signed it.
        allow_unsigned: Option<String>,
        /// What was verified.
        checks: Vec<Check>,
        /// How many files were in it.
        files: u64,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
    }

    /// A stage3 definition on a stage3.
    struct Definition {
        profile: String,
        /// The definition. Kernel sources have none.
        definition: Option<String>,
        portage_profile: String,
        /// What an update has to take away when the configuration does not bring it any more. Relative to `/etc/portage`.
        #[serde(skip_serializing_if = "Option::is_none")]
        portage_files: Option<Vec<PathBuf>>,
        /// See [`Origin::inputs`](super::Origin::inputs).
        #[serde(skip_serializing_if = "Option::is_none")]
        inputs: Option<Inputs>,
        /// See [`Origin::pool`](super::Origin::pool).
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<PoolInputs>,
        /// What it stands on.
        #[serde(skip_serializing_if = "Option::is_none")]
        stage3: Option<Recorded>,
        /// The ebuild trees, the main one first.
        #[serde(skip_serializing_if = "Option::is_none")]
        trees: Option<Vec<TreeUsed>>,
        isolation: String,
        /// What had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        #[serde(skip_serializing_if = "Option::is_none")]
        downloads: Option<Downloads>,
        #[serde(skip_serializing_if = "Option::is_none")]
        emerge_opts: Option<DefaultOpts>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parts: Option<Parts>,
        /// What was downloaded from hosts of binary packages.
        #[serde(skip_serializing_if = "Option::is_none")]
        binhost_packages: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        patches: Option<Vec<PatchRecord>>,
        /// What became of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        patched: Option<Vec<Patched>>,
        /// Keys of the packages in it, by `category/name-version::repository`.
        #[serde(skip_serializing_if = "Option::is_none")]
        package_keys: Option<BTreeMap<String, PackageKey>>,
        /// The state that an update brought up to date.
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
        /// Not the base's: what its world brought, such as a newer compiler, counts for what is built on it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<PoolInputs>,
        portage_profile: Option<String>,
        /// What it stands on.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<Recorded>,
        kernel: Option<KernelRecord>,
        isolation: String,
        /// What had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        /// What was downloaded from hosts of binary packages.
        #[serde(skip_serializing_if = "Option::is_none")]
        binhost_packages: Option<Vec<String>>,
        /// Only where the configuration was another one than that of the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        portage_files: Option<Vec<PathBuf>>,
        /// The patches, only where the configuration was another one than that of the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        patches: Option<Vec<PatchRecord>>,
        /// What became of patches.
        #[serde(skip_serializing_if = "Option::is_none")]
        patched: Option<Vec<Patched>>,
        /// Keys of the packages in it, by `category/name-version::repository`.
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
        /// What it calls itself: `6.12.4-gentoo`.
        release: String,
        /// Digest of its configuration.
        configuration: String,
        /// What the configuration asks for, and the sources did not give.
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
        /// Nothing had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    }

    /// The headers of a kernel.
    struct KernelHeaders {
        /// What the kernel calls itself.
        name: String,
        /// The package of its sources.
        package: String,
    }

    /// A session that somebody kept.
    struct Kept {
        /// The name it was kept by.
        name: String,
        profile: String,
        /// What was run.
        command: Vec<String>,
        /// What it stands on, below all kept sessions.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<Recorded>,
        isolation: String,
        /// Whether it had the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    }

    /// The kernel of a stage4.
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

    /// An ebuild tree that a state was made with.
    struct TreeUsed {
        name: String,
        /// Digest of its contents.
        digest: String,
        /// Where sessions had it.
        #[serde(skip_serializing_if = "Option::is_none")]
        location: Option<PathBuf>,
    }
}

/// A stage3 definition with a kernel on it. Whoever builds on it finds there what the definition says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseWithKernel {
    #[serde(default, deserialize_with = "lenient")]
    pub kernel: Option<KernelRecord>,
    /// The definition, with all that other versions say.
    #[serde(flatten)]
    pub base: Definition,
}

/// A builder with the sources of a kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSources {
    /// Their package.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// What they turned out to be.
    #[serde(default, deserialize_with = "lenient")]
    pub sources: Option<SourcesFacts>,
    /// What the builder says, but for its definition, inputs and pool, and with all that other versions say.
    #[serde(flatten)]
    pub builder: Definition,
}

/// What sources of a kernel turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcesFacts {
    /// Category, name and version of their package.
    pub package: String,
    /// Whether that package builds the kernel, so that nothing is installed yet.
    pub distribution: bool,
    /// Where they lie.
    pub tree: String,
    /// Digest of the names and checksums of all files of the package.
    pub contents: String,
}

/// What had the network of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// These packages, as their atoms were written.
    Packages(Vec<String>),
    /// `everything` of a definition; of a kept session `host` or `none`.
    Word(String),
}

/// Where files may come from besides the addresses in ebuild trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloads {
    /// `GENTOO_MIRRORS`.
    pub mirrors: Vec<String>,
    /// `/etc/portage/mirrors`.
    pub named_mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of binary packages: name and address.
    pub hosts: BTreeMap<String, String>,
    /// Those of the stage3's own files, which are used together with them.
    pub stage3_hosts: BTreeMap<String, String>,
    /// For which protocols it names commands.
    pub protocols: BTreeSet<String>,
}

/// Digests, in hexadecimal: of what holds for all packages, and of what holds for each `category/name` that something is said about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Of what holds for all.
    pub general: String,
    /// By `category/name`.
    pub packages: BTreeMap<String, String>,
}

/// What a build state remembers of a patch that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchRecord {
    /// The folder of the configuration directory that it lies in.
    pub name: String,
    /// Category of the package.
    pub category: String,
    /// Name and versions of the package, as a directory is called.
    pub directory: String,
    /// The name of the file that a stage gets.
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
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum PatchFate {
    /// All are in it.
    Applied,
    /// Its ebuild applies none.
    NotCalled { eapi: String },
    /// It was built before they were there.
    BuiltBefore,
    /// It was built with others than are configured now.
    BuiltWithOthers,
}

/// A symbol that two configurations of kernels set differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolChange {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// Its value before, safe to print; `None`: the configuration says nothing of it.
    pub before: Option<String>,
    /// Its value after.
    pub after: Option<String>,
}
