//! `kernel ls`: the kernel configurations, the kernels built of them, and the stages that use them.

use serde::Serialize;

use crate::config::ConfigDir;
use crate::context::Context;
use crate::kernel::Result;
use crate::origin::Kernel;
use crate::{context, inventory};

/// A kernel configuration.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KernelRow {
    pub name: String,
    /// The sources, unless a stage4 chooses others.
    pub sources: String,
    /// Their version, if it names one.
    pub version: Option<String>,
    /// Options that are built in.
    pub built_in: usize,
    /// Options that are modules.
    pub modules: usize,
    /// Whether it has an initramfs.
    pub initramfs: bool,
    /// The kernels built of it.
    pub built: Vec<BuiltKernel>,
    /// The stage4s that use it.
    pub stages: Vec<String>,
}

/// A kernel in the store.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BuiltKernel {
    /// The profile whose builder compiled it.
    pub profile: String,
    /// The name of the configuration, with the sources where a stage4 chose them.
    pub name: String,
    /// `uname -r` of the kernel.
    pub release: String,
    /// The package of sources.
    pub package: String,
    pub state: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Size of its payload on disk, bytes.
    pub size_bytes: u64,
    /// Whether the configuration still has the same options.
    pub current: bool,
}

/// The rows of `kernel ls`.
pub(crate) fn kernel_rows(cx: &Context<'_>, config: &ConfigDir) -> Result<Vec<KernelRow>> {
    let _shared = context::share_store(cx)?;
    let mut users = Vec::new();
    for stage4 in config.stage4_names() {
        // A definition with errors is reported when it is built.
        let Ok(Some(kernel)) = config.stage4(&stage4).and_then(|stage4| config.kernel_of(&stage4)) else { continue };
        users.push((kernel.name, stage4));
    }
    let refs = cx.store.refs()?;
    let mut rows = Vec::new();
    for name in config.kernel_names() {
        let kernel = config.kernel(&name)?;
        let digest = kernel.symbols.digest();
        let mut built = Vec::new();
        for (reference, id) in &refs {
            let Some((profile, label)) = reference.strip_prefix("kernel/").and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            if label != kernel.name && !label.strip_prefix(&kernel.name).is_some_and(|rest| rest.starts_with('+')) {
                continue;
            }
            let state = cx.store.state(id)?;
            let Kernel { release, package, configuration, .. } = state.origin.as_kernel().cloned().unwrap_or_default();
            built.push(BuiltKernel {
                profile: profile.to_owned(),
                name: label.to_owned(),
                release,
                package,
                state: state.id.to_string(),
                created: state.created.clone(),
                current: configuration == digest,
                size_bytes: inventory::bytes_of(cx, std::slice::from_ref(&state), &[])?,
            });
        }
        rows.push(KernelRow {
            sources: crate::kernel::prep::bare(&kernel.sources).to_string(),
            version: kernel.sources.version.clone(),
            built_in: kernel.symbols.count("y"),
            modules: kernel.symbols.count("m"),
            initramfs: kernel.dracut.is_some(),
            built,
            stages: users.iter().filter(|(used, _)| *used == kernel.name).map(|(_, stage4)| stage4.clone()).collect(),
            name,
        });
    }
    Ok(rows)
}
