//! Patches: what a build does with saved ones, and all of them built for several profiles.
//!
//! ```text
//! rehearse     before anything is compiled: the patches of what will be built are really applied, and a conflict ends the build
//! applied      afterwards: which installed packages have their patches; those that do not are built again, or told
//! compile      `patch compile`: every saved patch for every profile, in throw-away sessions
//! ```

mod applied;
mod compile;
mod rehearse;

pub use applied::{PatchFate, PatchedPackage};
pub(super) use applied::{lookup, note_patches, recorded};
pub use compile::{CompileError, CompileOptions, Compiled, CompiledPatch, PatchResult};
pub use rehearse::RehearsalError;
