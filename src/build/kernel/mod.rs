//! `kernel`: kernels for stage4s, each made once and shared.
//!
//! ```text
//! profile/P/gentoomuch/builder ── emerge the sources ──> kernel-sources/P/ATOM     builder + /usr/src/linux-VERSION; for all configurations
//!                                                              │ session: make olddefconfig, make, make modules_install
//! kernel.configs/NAME.kconf ───────────────────────────────────┤
//!                                                              ├──> devel      one layer on nothing: usr/src/linux-VERSION, only what modules
//!                                                              │               of others are compiled against
//!                                                              └──> payload    one layer on nothing: boot/, usr/lib/modules/; below it: devel
//!                                                                      │
//!                            kernel/P/NAME                             │ the same layer under the key of the pipeline
//!                                   │
//! profile/P/DEFINITION ─────────────┴──> base with kernel ── session ──> stage4/WEB     the layers of both, one on the other
//! ```
//!
//! **Two keys.** A pipeline has to know before anything is built whether a kernel is there: its key is made from the builder's key, the atom of
//! the sources, the trees and the configuration ([`KernelRecipe::inputs`]). Where that key is new, the sources are installed, and it is
//! known what they really are: the package and the checksums of all its files, so that patches count, and the compiler. Those and the symbols of the
//! configuration are the second key, by which a payload is found that was made before, however much the builder has changed otherwise:
//! a kernel is compiled once for its sources, configuration and toolchain.
//!
//! **The payload** holds nothing that emerge wrote, and never a `lib/`, which would hide a merged-usr link: it may lie on any base
//! ([`Engine::with_kernel`]). Both layers are written through a bind mount by a session that is thrown away, so that nothing is copied.
//!
//! **Modules of other packages** are compiled in the session of the stage4 that has them, which sees the devel layer as `/usr/src` as long as it
//! runs: there they are installed, owned by their package, and with all else that it has (`stage.rs`).
//!
//! **Distribution kernels** build themselves: a package with the flag `savedconfig` gets the configuration as such, is emerged in place
//! of the make, and the payload is what it has installed.
//!
//! **Locks** are `kernel/PROFILE/NAME`, then `kernel-sources/PROFILE/ATOM` within it, which is held by nobody who waits for anything else.

mod error;
mod make;
mod prep;
mod rows;
mod sources;
mod stage;
mod update;

pub use error::KernelError;
pub use prep::{KernelPrepared, PrepOptions};
pub use rows::KernelRow;
pub(super) use stage::{keeps_sources, kernel_record};
pub use update::{KernelNews, NewSymbol};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::definition::{BUILDER, Built, definition_lock, profile_lock};
use super::engine::{Engine, Work};
use super::error::Result;
use super::key::Inputs;
use super::session::HOOKS_DIR;
use super::tree::PinnedTree;
use super::work::write_public;
use crate::config::kconfig::SymbolChange;
use crate::config::{ConfigDir, KernelConfig, Stage4Definition};
use crate::store::State;

/// The script that does what is done inside; written beside the hooks of the sessions that need it.
const SCRIPT: &str = include_str!("kernel.sh");
/// Its name there.
const SCRIPT_NAME: &str = "kernel.sh";
/// Answers longer than this are none.
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;
/// A configuration longer than this is none; those of whole distributions have 300 KiB.
const CONFIG_LIMIT_BYTES: u64 = 4 << 20;

/// A kernel that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct KernelBuilt {
    /// The kernel configuration.
    pub name: String,
    /// The profile whose builder compiles.
    pub profile: String,
    /// The state with the payload.
    pub state: String,
    /// Whether it was there already.
    pub reused: bool,
    /// The package of sources.
    pub package: String,
    /// What the kernel calls itself: `6.12.4-gentoo`.
    pub release: String,
    /// What the configuration asks for, and the sources did not give.
    pub unmet: Vec<SymbolChange>,
    /// Options that are built in, and that are modules.
    pub built_in: u64,
    /// Options that are modules.
    pub modules: u64,
    /// Whether it has an initramfs.
    pub initramfs: bool,
}

/// All that decides what a kernel becomes.
pub(super) struct KernelRecipe {
    pub(super) config: KernelConfig,
    pub(super) trees: Vec<PinnedTree>,
}

impl KernelRecipe {
    /// What goes in, for a builder with this build key.
    pub(super) fn inputs(&self, builder_key: &str) -> Inputs {
        self.with_own(Inputs::new("kernel").with("parent", builder_key).with("sources", self.config.sources.to_string()))
            .with_list("trees", self.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
    }

    /// What counts for the configuration, whatever the sources are.
    fn with_own(&self, inputs: Inputs) -> Inputs {
        let inputs = inputs
            .with("configuration of the kernel", self.config.symbols.digest())
            .with("script", hex::encode(Sha256::digest(SCRIPT)));
        match &self.config.dracut {
            Some(arguments) => inputs.with_list("dracut", arguments),
            None => inputs,
        }
    }
}

/// The lock on a kernel's name; taken after those on the profile and the builder, and before that on a stage4.
pub(super) fn kernel_lock(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// Name of the ref of a kernel's state.
pub(super) fn kernel_ref(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// Below these are the names of a profile's kernels.
pub(super) fn kernel_prefixes(profile: &str) -> [String; 2] {
    [format!("kernel/{profile}"), format!("kernel-sources/{profile}")]
}

impl Engine<'_> {
    /// Builds the kernel configuration `name` with the builder of `profile`, or of the default one.
    pub fn kernel_build(&self, config: &ConfigDir, name: &str, profile: Option<&str>) -> Result<KernelBuilt> {
        let kernel = config.kernel(name)?;
        let _shared = self.share_store()?;
        let profile = self.profile_or_default(profile)?;
        let _profile = self.lock_shared(&profile_lock(&profile))?;
        let built = self.kernel_of(config, kernel, &profile);
        let built = built.map_err(|error| self.with_proposal(config, &format!("stage3:{BUILDER}"), &profile, error))?;
        Ok(KernelBuilt::of(&built.state, built.reused))
    }

    /// The kernel of a stage4, if it has one. The caller holds the lock on the profile, shared.
    pub(super) fn kernel_of_stage(&self, config: &ConfigDir, stage4: &Stage4Definition, profile: &str) -> Result<Option<State>> {
        let Some(kernel) = config.kernel_of(stage4)? else { return Ok(None) };
        Ok(Some(self.kernel_of(config, kernel, profile)?.state))
    }

    fn kernel_of(&self, config: &ConfigDir, kernel: KernelConfig, profile: &str) -> Result<Built> {
        let builder = {
            let _definition = self.lock(&definition_lock(profile, BUILDER))?;
            self.definition(config, profile, BUILDER)?.state
        };
        let recipe = KernelRecipe { config: kernel, trees: self.trees_of_state(&builder)? };
        let _kernel = self.lock(&kernel_lock(profile, &recipe.config.label()))?;
        self.kernel(config, &recipe, profile, &builder)
    }

    /// Asks the script in a session.
    fn ask_kernel(&self, work: &Work<'_>, arguments: &[&str]) -> Result<super::inspect::Facts> {
        Ok(super::inspect::Facts::parse(&self.output_of(work, script(arguments), ANSWER_LIMIT_BYTES)?))
    }

    /// A file of a session's, if it is not larger than a configuration can be.
    fn kernel_text(&self, work: &Work<'_>, path: &str) -> Result<Option<String>> {
        let argv = ["/bin/cat", "--", path].map(str::to_owned).into();
        let (exit, bytes) = self.exit_and_output(work, argv, CONFIG_LIMIT_BYTES + 1)?;
        let fits = exit == crate::sandbox::Exit::Code(0) && bytes.len() as u64 <= CONFIG_LIMIT_BYTES;
        Ok(if fits { String::from_utf8(bytes).ok() } else { None })
    }
}

/// Puts the script and `files` where a session sees them.
fn give(work: &Work<'_>, files: &[(&str, &str)]) -> Result<()> {
    let hooks = &work.root.hooks;
    write_public(&hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o755)?;
    files.iter().try_for_each(|(name, text)| write_public(&hooks.join(name), text.as_bytes(), 0o644))
}

/// Where a session sees a file of [`give`].
fn given(name: &str) -> String {
    format!("{HOOKS_DIR}/{name}")
}

/// The script with `arguments`.
fn script(arguments: &[&str]) -> Vec<String> {
    let program = ["/bin/bash".to_owned(), given(SCRIPT_NAME)];
    program.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
}

impl KernelBuilt {
    fn of(state: &State, reused: bool) -> Self {
        let origin = &state.origin;
        let text = |name: &str| origin[name].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            profile: text("profile"),
            state: state.id.to_string(),
            reused,
            package: text("package"),
            release: text("release"),
            unmet: serde_json::from_value(origin["unmet"].clone()).unwrap_or_default(),
            built_in: origin["built_in"].as_u64().unwrap_or_default(),
            modules: origin["modules"].as_u64().unwrap_or_default(),
            initramfs: origin["initramfs"].as_bool().unwrap_or_default(),
        }
    }
}
