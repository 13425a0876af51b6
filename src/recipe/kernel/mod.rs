//! `kernel`: kernels for stage4s. Each is made once and shared.
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
//! **Two keys.** A pipeline must know before anything is built whether a kernel exists. So the first key is made from the builder's key,
//! the atom of the sources, the trees and the configuration (`Kernel::inputs`). If no state has that key, the sources are installed. Then
//! we know what they really are: the package, the checksums of all its files (so that patches count), and the compiler. These and the
//! symbols of the configuration are the second key. It finds a payload that was made before, even if the builder has changed in other
//! ways: a kernel is compiled once for its sources, configuration and toolchain.
//!
//! **The payload** has nothing that emerge wrote, and never a `lib/`, which would hide the link of a merged /usr. So it may lie on any
//! base (`stage::with_kernel`). A session that is thrown away writes both layers through bind mounts, so nothing is copied.
//!
//! **Modules of other packages** are compiled in the session of the stage4 that has them. While it runs it sees the devel layer as
//! `/usr/src`. There the modules are installed, and belong to their package (`stage.rs`).
//!
//! **Distribution kernels** build themselves. A package with the flag `savedconfig` gets the configuration through that and is emerged
//! instead of running make. The payload is what it has installed.
//!
//! **Locks**: `kernel/PROFILE/NAME`, then `kernel-sources/PROFILE/ATOM` within it. Nobody who holds the second one waits for another
//! lock.

pub(crate) mod error;
pub(crate) mod make;
pub(crate) mod sources;
pub(crate) mod stage;

use sha2::{Digest as _, Sha256};

use crate::build_key::Inputs;
use crate::config::{BUILDER, KernelConfig};
use crate::context::Context;
use crate::recipe::Result;
use crate::session::readable_files::write_public;
use crate::session::root::HOOKS_DIR;
use crate::session::{Work, run};
use crate::trees::choose::PinnedTree;

/// The script for everything that is done inside. It is written beside the hooks of the sessions that need it.
const SCRIPT: &str = include_str!("kernel.sh");
const SCRIPT_NAME: &str = "kernel.sh";
/// Real answers are shorter.
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;
/// Real configurations are shorter. Those of whole distributions have 300 KiB.
pub(crate) const CONFIG_LIMIT_BYTES: u64 = 4 << 20;

/// Everything that decides what a kernel becomes.
pub(crate) struct Kernel {
    pub(crate) config: KernelConfig,
    pub(crate) trees: Vec<PinnedTree>,
}

impl Kernel {
    /// The inputs, for a builder with this build key.
    pub(crate) fn inputs(&self, builder_key: &str) -> Inputs {
        self.with_own(Inputs::new("kernel").with("parent", builder_key).with("sources", self.config.sources.to_string()))
            .with_list("trees", self.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
    }

    /// Adds the inputs that do not depend on the sources.
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

pub(crate) fn ask_kernel(cx: &Context<'_>, work: &Work<'_>, arguments: &[&str]) -> Result<crate::session::inspect::Facts> {
    Ok(crate::session::inspect::Facts::parse(&run::output_of(cx, work, script(arguments), ANSWER_LIMIT_BYTES)?))
}

/// A file of a session. `None` if it cannot be read or is larger than any configuration.
pub(crate) fn kernel_text(cx: &Context<'_>, work: &Work<'_>, path: &str) -> Result<Option<String>> {
    let argv = ["/bin/cat", "--", path].map(str::to_owned).into();
    let (exit, bytes) = run::exit_and_output(cx, work, argv, CONFIG_LIMIT_BYTES + 1)?;
    let fits = exit == crate::sandbox::Exit::Code(0) && bytes.len() as u64 <= CONFIG_LIMIT_BYTES;
    Ok(if fits { String::from_utf8(bytes).ok() } else { None })
}

/// Writes the script and `files` where a session sees them.
pub(crate) fn give(work: &Work<'_>, files: &[(&str, &str)]) -> Result<()> {
    let hooks = &work.root.hooks;
    write_public(&hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o755)?;
    Ok(files.iter().try_for_each(|(name, text)| write_public(&hooks.join(name), text.as_bytes(), 0o644))?)
}

/// Where a session sees a file of [`give`].
pub(crate) fn given(name: &str) -> String {
    format!("{HOOKS_DIR}/{name}")
}

/// The script with `arguments`.
pub(crate) fn script(arguments: &[&str]) -> Vec<String> {
    let program = ["/bin/bash".to_owned(), given(SCRIPT_NAME)];
    program.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
}
