//! The merged view of a chain of layers, mounted read-only where only this process sees it.
//!
//! With the mount API the overlay is never attached anywhere: its descriptor is the only way in, and the kernel drops it with
//! the process. Kernels that lack `lowerdir+` (before 6.5) get the option string of `mount(2)`, attached over the topmost layer in
//! this process's own mount namespace.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::beneath::DIRECTORY;
use super::error::{Error, Result};
use crate::sys;
use crate::sys::mount::{Attributes, NewFileSystem};

/// The option string of `mount(2)` holds one page.
const OPTIONS_BYTES_MAX: usize = 4095;

/// Opens the view of `layers`, topmost first. Needs a mount namespace of its own if there is more than one. `oldest` forces the
/// way of old kernels, for tests.
pub(super) fn open(layers: &[PathBuf], oldest: bool) -> Result<OwnedFd> {
    let fail = |source| Error::Merge { layers: layers.len(), source };
    match layers {
        // The kernel wants two layers at least. A layer alone has nothing to hide, whiteouts would be found by the walk.
        [only] => directory(only),
        _ if oldest => by_option_string(layers).map_err(fail).and_then(|()| directory(&layers[0])),
        _ => match by_context(layers) {
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::ENOSYS)) => {
                tracing::debug!(%error, "no overlay by `lowerdir+`, trying the option string");
                by_option_string(layers).map_err(fail).and_then(|()| directory(&layers[0]))
            }
            other => other.map_err(fail),
        },
    }
}

/// Opens a directory that the caller chose; links on the way are the caller's.
pub(super) fn directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })
}

fn by_context(layers: &[PathBuf]) -> sys::Result<OwnedFd> {
    let overlay = NewFileSystem::open("overlay")?;
    overlay.string("source", "gentoomuch")?;
    overlay.flag("userxattr")?;
    overlay.flag("ro")?;
    for layer in layers {
        let text = layer.to_str().ok_or_else(|| sys::Error::new("fsconfig", layer.display(), Errno::ILSEQ))?;
        overlay.string("lowerdir+", text)?;
    }
    overlay.mount(Attributes { read_only: true, ..Attributes::default() })
}

fn by_option_string(layers: &[PathBuf]) -> sys::Result<()> {
    let joined: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
    let options = format!("userxattr,lowerdir={}", joined.join(":"));
    let fail = |errno| sys::Error::new("mount", format_args!("overlay, {}, {options}", layers[0].display()), errno);
    // Separators inside a path would need escapes that differ between kernels.
    if options.len() > OPTIONS_BYTES_MAX || joined.iter().any(|path| path.contains([':', ',', '\\'])) {
        return Err(fail(Errno::TOOBIG));
    }
    let data = std::ffi::CString::new(options.as_str()).map_err(|_| fail(Errno::INVAL))?;
    rustix::mount::mount("gentoomuch", &layers[0], "overlay", MountFlags::RDONLY, data.as_c_str()).map_err(fail)
}
