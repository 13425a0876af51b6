//! Mounts overlays: by the mount API if the kernel takes layers one by one (Linux 6.5), else by an option string.
//!
//! Layers are descriptors. Each is opened once, and what was opened is mounted, even if its path means something else by then. Linux 6.13
//! takes the descriptors themselves; before, we pass `/proc/self/fd/N`. That is also shorter than `fsconfig`'s limit of 255 bytes a
//! value, and has none of the characters `\`, `:` and `,` that overlayfs parses.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::mount::{self, Attributes, NewFileSystem};
use super::{Error, Result, mountcompat};

/// A directory that an overlay is made of.
#[derive(Debug)]
pub(crate) struct Layer {
    fd: OwnedFd,
    /// For messages.
    shown: PathBuf,
}

impl Layer {
    /// Opens a directory by a path that only we make.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { fd: open_directory(path)?, shown: path.to_owned() })
    }

    /// `fd` is an open directory; `O_PATH` is enough.
    pub(crate) fn from_fd(fd: OwnedFd, shown: PathBuf) -> Self {
        Self { fd, shown }
    }

    fn link(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

/// An overlay to be mounted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    /// Layers, the topmost first.
    pub lower: &'a [Layer],
    /// Where changes go. Without it the overlay is read-only, and the kernel wants at least two layers.
    pub writable: Option<Writable<'a>>,
}

/// The writable part of an overlay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable<'a> {
    /// Where changes go.
    pub upper: &'a Layer,
    /// The overlay's own directory, on the same file system as `upper`.
    pub work: &'a Layer,
    /// Makes `sync` a no-op.
    pub volatile: bool,
}

impl Overlay<'_> {
    /// Mounts it on `target`, a directory that only we make, and returns its root. `newest` is false only in tests, which force the older
    /// calls.
    pub(crate) fn mount_on(self, target: &Path, newest: bool) -> Result<OwnedFd> {
        let place = open_directory(target)?;
        match self.mount_at(place.as_fd(), target, newest)? {
            Some(root) => Ok(root),
            // `mount(2)` gives no descriptor, so the root is what the path leads to now.
            None => open_directory(target),
        }
    }

    /// Mounts it on an open directory. Returns its root if the newer calls made it.
    pub(crate) fn mount_at(self, place: BorrowedFd<'_>, shown: &Path, newest: bool) -> Result<Option<OwnedFd>> {
        if !newest {
            return self.by_options(place, shown).map(|()| None);
        }
        match self.by_context() {
            Ok(overlay) => {
                mount::attach(overlay.as_fd(), place, shown.display())?;
                Ok(Some(overlay))
            }
            // `lowerdir+` came with Linux 6.5. If both ways fail alike, the newer one's message says more.
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::ENOSYS)) => self
                .by_options(place, shown)
                .map(|()| None)
                .map_err(|older| if older.errno() == error.errno() { error } else { older }),
            Err(error) => Err(error),
        }
    }

    fn by_context(&self) -> Result<OwnedFd> {
        let overlay = NewFileSystem::open("overlay")?;
        overlay.string("source", "gentoomuch")?;
        // Without `userxattr` an overlay needs `trusted.*` attributes, which only root of the first user namespace may set.
        overlay.flag("userxattr")?;
        for layer in self.lower {
            give(&overlay, "lowerdir+", layer)?;
        }
        if let Some(Writable { upper, work, volatile }) = self.writable {
            give(&overlay, "upperdir", upper)?;
            give(&overlay, "workdir", work)?;
            if volatile {
                overlay.flag("volatile")?;
            }
        }
        overlay.mount(Attributes::default())
    }

    fn by_options(&self, place: BorrowedFd<'_>, shown: &Path) -> Result<()> {
        let lower: Vec<String> = self.lower.iter().map(Layer::link).collect();
        let writable = self.writable.map(|writable| (writable.upper.link(), writable.work.link(), writable.volatile));
        mountcompat::mount_overlay(&lower, writable.as_ref(), place, shown)
    }
}

/// Whether a writable overlay on `upper` lives: mounted anywhere, or held by an open file or directory of it. `work` was its work
/// directory; this makes two new directories there. Needs a mount namespace of one's own.
///
/// The kernel marks an upper directory while an overlay uses it. With `index=on` it refuses a second overlay on it (EBUSY). It does so
/// before it checks whether `index` is possible here.
pub(crate) fn is_alive(upper: &Path, work: &Path) -> Result<bool> {
    let [lower, work] = ["no-layers", "no-work"].map(|name| work.join(name));
    for path in [&lower, &work] {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(Error::new("mkdir", path.display(), errno)),
        }
    }
    let (upper, lower, work) = (Layer::open(upper)?, Layer::open(&lower)?, Layer::open(&work)?);
    let overlay = NewFileSystem::open("overlay")?;
    overlay.flag("userxattr")?;
    overlay.string("index", "on")?;
    overlay.string("lowerdir", &lower.link())?;
    overlay.string("upperdir", &upper.link())?;
    overlay.string("workdir", &work.link())?;
    match overlay.mount(Attributes::default()) {
        Err(error) if error.errno() == Some(libc::EBUSY) => Ok(true),
        answer => answer.map(|_| false),
    }
}

fn give(overlay: &NewFileSystem, key: &str, layer: &Layer) -> Result<()> {
    match overlay.descriptor(key, layer.fd.as_fd()) {
        // Either the kernel takes no descriptors, or it refuses the directory. In the second case the call with the path gives the reason.
        // A kernel that takes none says EBADF, since it opens no `O_PATH` descriptor for a value, or EOPNOTSUPP before 6.5, where overlayfs
        // takes only strings.
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EBADF | libc::EOPNOTSUPP)) => {
            overlay.string(key, &layer.link()).map_err(|mut error| {
                error.args = format!("{} is {}: {}", layer.link(), layer.shown.display(), error.args);
                error
            })
        }
        answer => answer,
    }
}

/// Shows `layers`, topmost first, read-only on `target`. A single layer is bound, since an overlay without an upper directory needs two.
/// Returns the root.
pub(crate) fn mount_read_only(layers: &[PathBuf], target: &Path) -> Result<OwnedFd> {
    let opened: Vec<Layer> = layers.iter().map(|path| Layer::open(path)).collect::<Result<_>>()?;
    if let [only] = opened.as_slice() {
        let tree = mount::clone_tree(only.fd.as_fd(), &only.shown)?;
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
    Overlay { lower: &opened, writable: None }.mount_on(target, true)
}

/// A descriptor that names a directory.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::of("open", path.display()))
}
