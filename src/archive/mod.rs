//! Archives: unpacking that stays inside its directory, packing that gives the same bytes each time, compression by all cores.
//!
//! ```text
//! in:   file --source--> chunks --+--> sha512, blake2b          (a thread each)
//!                                 +--> decode (liblzma threads) --buffers--> member --> unpack --> files beneath one descriptor
//! out:  walk (sorted, reads ahead) --buffers--> tar stream --> encode (all cores) --+--> sha512, blake2b, sha256
//!                                                       CONTENTS lines              +--> file
//! ```
//!
//! * [`decode`] finds the compression by magic and decodes in threads of its own;
//! * [`member`] reads a tar stream entry by entry with bounded memory and checks everything;
//! * [`mod@unpack`] creates files and never leaves its directory, by several threads (`writers`);
//! * [`mod@pack`] writes a directory tree as a tar whose bytes depend only on the tree;
//! * [`tasks`] holds the functions that run inside the id map.

pub(crate) mod decode;
pub(crate) mod digest;
pub(crate) mod encode;
pub(crate) mod exclude;
pub(crate) mod member;
pub(crate) mod name;
pub(crate) mod owners;
pub(crate) mod pack;
pub(crate) mod tasks;
pub mod unpack;

mod contents;
mod directories;
mod error;
mod fits;
mod importable;
mod pax;
#[cfg(test)]
mod round_trip;
mod shown;
mod sparse;
mod walk;
mod writers;
mod xattr;

pub use error::Error;
pub(crate) use error::NO_INODES;
pub use owners::OwnerNames;
pub use pack::Format;
pub use unpack::{Owners, UnpackOptions, Unpacked, unpack};
