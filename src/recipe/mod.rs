//! What can be built, and how a build key becomes a state.
//!
//! ```text
//! import      a verified stage3, unpacked
//! definition  a stage3 definition on a profile's stage3; the builder is one
//! update      the builder, updated in place
//! kernel      a kernel's sources on the builder, and its payload layer
//! stage4      a stage4 definition on such a state
//! ```
//!
//! `standing` decides whether a state with another key is what would be built, `consult` asks Portage about a configuration before
//! anything is built, `patches` tries them, `settle` says what becomes of a session that has ended.

pub mod configured;
pub mod consult;
pub mod definition;
mod error;
pub mod import;
pub mod kernel;
pub mod merge;
pub mod patches;
pub mod realise;
pub mod settle;
pub mod stage4;
pub mod standing;
pub mod update;

pub use error::{Error, Result};
