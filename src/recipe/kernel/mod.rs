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
//! the sources, the trees and the configuration (`Kernel::inputs`). Where that key is new, the sources are installed, and it is
//! known what they really are: the package and the checksums of all its files, so that patches count, and the compiler. Those and the symbols of the
//! configuration are the second key, by which a payload is found that was made before, however much the builder has changed otherwise:
//! a kernel is compiled once for its sources, configuration and toolchain.
//!
//! **The payload** holds nothing that emerge wrote, and never a `lib/`, which would hide a merged-usr link: it may lie on any base
//! (`stage::with_kernel`). Both layers are written through a bind mount by a session that is thrown away, so that nothing is copied.
//!
//! **Modules of other packages** are compiled in the session of the stage4 that has them, which sees the devel layer as `/usr/src` as long as it
//! runs: there they are installed, owned by their package, and with all else that it has (`stage.rs`).
//!
//! **Distribution kernels** build themselves: a package with the flag `savedconfig` gets the configuration as such, is emerged in place
//! of the make, and the payload is what it has installed.
//!
//! **Locks** are `kernel/PROFILE/NAME`, then `kernel-sources/PROFILE/ATOM` within it, which is held by nobody who waits for anything else.

pub(crate) mod error;
pub(crate) mod make;
pub(crate) mod sources;
pub(crate) mod stage;

use sha2::{Digest as _, Sha256};

use crate::build_key::Inputs;
use crate::config::{BUILDER, KernelConfig};
use crate::context::Context;
use crate::recipe::Result;
use crate::session::root::HOOKS_DIR;
use crate::session::work::write_public;
use crate::session::{Work, run};
use crate::trees::choose::PinnedTree;

/// The script that does what is done inside; written beside the hooks of the sessions that need it.
const SCRIPT: &str = include_str!("kernel.sh");
const SCRIPT_NAME: &str = "kernel.sh";
/// Answers longer than this are none.
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;
/// A configuration longer than this is none; those of whole distributions have 300 KiB.
pub(crate) const CONFIG_LIMIT_BYTES: u64 = 4 << 20;

/// All that decides what a kernel becomes.
pub(crate) struct Kernel {
    pub(crate) config: KernelConfig,
    pub(crate) trees: Vec<PinnedTree>,
}

impl Kernel {
    /// What goes in, for a builder with this build key.
    pub(crate) fn inputs(&self, builder_key: &str) -> Inputs {
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

/// Asks the script in a session.
pub(crate) fn ask_kernel(cx: &Context<'_>, work: &Work<'_>, arguments: &[&str]) -> Result<crate::session::inspect::Facts> {
    Ok(crate::session::inspect::Facts::parse(&run::output_of(cx, work, script(arguments), ANSWER_LIMIT_BYTES)?))
}

/// A file of a session's, if it is not larger than a configuration can be.
pub(crate) fn kernel_text(cx: &Context<'_>, work: &Work<'_>, path: &str) -> Result<Option<String>> {
    let argv = ["/bin/cat", "--", path].map(str::to_owned).into();
    let (exit, bytes) = run::exit_and_output(cx, work, argv, CONFIG_LIMIT_BYTES + 1)?;
    let fits = exit == crate::sandbox::Exit::Code(0) && bytes.len() as u64 <= CONFIG_LIMIT_BYTES;
    Ok(if fits { String::from_utf8(bytes).ok() } else { None })
}

/// Puts the script and `files` where a session sees them.
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
