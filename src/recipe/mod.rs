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
//! `standing` decides whether a state with another key is what would be built. `consult` asks Portage about a configuration before
//! anything is built. `patches` tries the patches. `settle` decides what becomes of a session that has ended, and
//! `failed` writes down in which package it failed. `said` tells what its packages have said.

pub(crate) mod configured;
pub(crate) mod consult;
pub(crate) mod definition;
mod error;
pub(crate) mod failed;
pub(crate) mod import;
pub(crate) mod kernel;
pub(crate) mod merge;
pub(crate) mod patches;
pub(crate) mod pretend;
pub(crate) mod realise;
pub(crate) mod said;
pub(crate) mod settle;
pub(crate) mod stage4;
pub(crate) mod standing;
pub(crate) mod update;

pub(crate) use error::{Error, Result};
