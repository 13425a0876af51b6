//! The one room for files that somebody else has made: a session, a layer, an ebuild tree, a work set, an archive.
//!
//! Whoever made such a directory chose every name, link, mode and kind of file in it. So nobody outside of this module joins a path onto
//! it. A handle is made from a directory of *ours* (a path that only we make, opened once) or from a descriptor. It gives out
//! descriptors, bytes and names, never paths:
//!
//! - [`RootDir`]: the directory is `/` for its contents. Symbolic links are resolved inside of it (`RESOLVE_IN_ROOT`), as in the session.
//!   Use it to find what Portage or a user means by a path.
//! - [`TreeDir`]: neither links nor mounts are followed (`RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_XDEV`). Use it to take what is really there.
//! - [`Walk`]: everything below a [`TreeDir`]. Memory and descriptors are bounded, however deep and wide the tree is.
//!
//! Opening a file has no effects: no FIFO blocks, no device or terminal is touched. Only regular files are read, up to a limit that the
//! caller names. [`copy_plain`] and [`extents`] keep holes.
//!
//! ```text
//! resolve.rs   path -> descriptor: openat2, or step by step      dir.rs   the handles        file.rs  bounded reading, holes
//! walk.rs      everything below                                  remove.rs                   change.rs  making, renaming, linking
//! ```

mod change;
mod dir;
mod error;
mod file;
mod remove;
mod resolve;
mod walk;

pub(crate) use self::change::is_directory;
pub(crate) use self::dir::{Entry, RootDir, TreeDir};
pub(crate) use self::error::{Error, Result};
pub(crate) use self::file::{
    Budget, FILE_LIMIT_BYTES, HOLES_LIMIT_BYTES, Plain, copy_plain, extents, may_have_holes, same_contents,
};
pub(crate) use self::remove::{is_held_open, remove_tree};
pub use self::resolve::Way;
pub(crate) use self::walk::{NAMES_LIMIT, Order, Walk};

#[cfg(test)]
mod tests;
