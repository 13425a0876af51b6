//! Mounts overlays, by the mount API where the kernel takes layers one by one (Linux 6.5), else by an option string.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::mount::{self, Attributes, NewFileSystem};
use super::{Error, Result, mountcompat};

/// An overlay to be mounted.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Layers, the topmost first.
    pub lower: &'a [PathBuf],
    /// Where changes go; without it the overlay is read-only and needs two layers.
    pub writable: Option<Writable<'a>>,
}

/// The writable part of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    /// Where changes go.
    pub upper: &'a Path,
    /// The overlay's own directory, on the same file system as `upper`.
    pub work: &'a Path,
    /// Makes `sync` a no-op.
    pub volatile: bool,
}

impl Overlay<'_> {
    /// Mounts it on `target`, a directory; returns its root. `newest` is only false in tests, which force the older calls.
    pub fn mount_on(self, target: &Path, newest: bool) -> Result<OwnedFd> {
        // Descriptors must live until the mount is made: long or strange paths are passed as `/proc/self/fd/N`.
        let mut open = Vec::new();
        let lower: Vec<String> = self.lower.iter().map(|path| plain_path(path, &mut open)).collect::<Result<_>>()?;
        let writable = match self.writable {
            Some(Writable { upper, work, volatile }) => {
                Some((plain_path(upper, &mut open)?, plain_path(work, &mut open)?, volatile))
            }
            None => None,
        };
        if !newest {
            mountcompat::mount_overlay(&lower, writable.as_ref(), target)?;
            return open_directory(target);
        }
        match by_context(&lower, writable.as_ref()) {
            Ok(overlay) => {
                let place = open_directory(target)?;
                mount::attach(overlay.as_fd(), place.as_fd(), target.display())?;
                Ok(overlay)
            }
            // `lowerdir+` came with Linux 6.5. If the older call fails alike, the newer one's words say more.
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::ENOSYS)) => {
                mountcompat::mount_overlay(&lower, writable.as_ref(), target)
                    .map_err(|older| if older.errno() == error.errno() { error } else { older })?;
                open_directory(target)
            }
            Err(error) => Err(error),
        }
    }
}

/// Shows `layers`, topmost first, read-only on `target`: an overlay, or a bind of the only one. Returns the root.
pub fn mount_read_only(layers: &[PathBuf], target: &Path) -> Result<OwnedFd> {
    if let [only] = layers {
        let tree = mount::clone_tree(only)?;
        let place = open_directory(target)?;
        mount::attach(tree.as_fd(), place.as_fd(), target.display())?;
        match mount::set_attributes(tree.as_fd(), Attributes { read_only: true, ..Attributes::default() }, target.display()) {
            Err(error) if error.errno() == Some(libc::ENOSYS) => {
                mountcompat::set_read_only(tree.as_fd(), &target.display().to_string())?;
            }
            answer => answer?,
        }
        return Ok(tree);
    }
    Overlay { lower: layers, writable: None }.mount_on(target, true)
}

fn by_context(lower: &[String], writable: Option<&(String, String, bool)>) -> Result<OwnedFd> {
    let overlay = NewFileSystem::open("overlay")?;
    overlay.string("source", "gentoomuch")?;
    overlay.flag("userxattr")?;
    for layer in lower {
        overlay.string("lowerdir+", layer)?;
    }
    if let Some((upper, work, volatile)) = writable {
        overlay.string("upperdir", upper)?;
        overlay.string("workdir", work)?;
        if *volatile {
            overlay.flag("volatile")?;
        }
    }
    overlay.mount(Attributes::default())
}

/// `fsconfig` takes 255 bytes, and the overlay's own parser gives meaning to `\`, `:` and `,`.
fn plain_path(path: &Path, open: &mut Vec<OwnedFd>) -> Result<String> {
    match path.to_str() {
        Some(text) if text.len() < 256 && !text.contains(['\\', ':', ',']) => Ok(text.to_owned()),
        _ => {
            let directory = open_directory(path)?;
            let text = format!("/proc/self/fd/{}", directory.as_raw_fd());
            open.push(directory);
            Ok(text)
        }
    }
}

/// A descriptor that names a directory.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::of("open", path.display()))
}
