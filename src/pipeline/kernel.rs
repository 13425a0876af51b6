//! `kernel build`: builds a kernel without a stage4.

use serde::Serialize;

use crate::config::ConfigDir;
use crate::config::kconfig::SymbolChange;
use crate::context::Context;
use crate::names::profiles;
use crate::names::refs::kernel_ref;
use crate::origin::Kernel;
use crate::pipeline::Result;
use crate::pipeline::plan::Wishes;
use crate::pipeline::run::build_one;
use crate::store::State;

/// A kernel that was asked for.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KernelBuilt {
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
    /// `uname -r` of the kernel: `6.12.4-gentoo`.
    pub release: String,
    /// Symbols that the configuration sets and the sources changed.
    pub unmet: Vec<SymbolChange>,
    /// Options that are built in.
    pub built_in: u64,
    /// Options that are modules.
    pub modules: u64,
    /// Whether it has an initramfs.
    pub initramfs: bool,
}

/// Builds the kernel configuration `name` with the builder of `profile`, or of the default one.
pub(crate) fn kernel_build(cx: &Context<'_>, config: &ConfigDir, name: &str, profile: Option<&str>) -> Result<KernelBuilt> {
    let kernel = config.kernel(name)?;
    let profile = profiles::profile_or_default(cx, profile)?;
    let id = kernel_ref(&profile, &kernel.label());
    let wishes = Wishes { kernels: vec![(profile, kernel)], ..Wishes::default() };
    let built = build_one(cx, config, wishes, &id)?;
    Ok(KernelBuilt::of(&built.state, built.reused))
}

impl KernelBuilt {
    fn of(state: &State, reused: bool) -> Self {
        let kernel = state.origin.as_kernel().cloned().unwrap_or_default();
        let Kernel { name, profile, package, release, unmet, built_in, modules, initramfs, .. } = kernel;
        let state = state.id.to_string();
        Self { name, profile, state, reused, package, release, unmet, built_in, modules, initramfs }
    }
}
