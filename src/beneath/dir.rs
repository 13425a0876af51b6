//! Handles of directories whose contents somebody else has made.

use std::ffi::{CStr, CString, OsStr};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::file::Plain;
use super::resolve::{self, Links, Way};

/// How a directory is opened for listing.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
/// How a regular file is opened. NONBLOCK: opening a FIFO for reading would wait for a writer. NOCTTY: a terminal would become ours.
pub(super) const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A directory that is `/` for its contents: links are resolved inside of it.
pub(crate) type RootDir = Dir<Inside>;
/// A directory below which no link is followed.
pub(crate) type TreeDir = Dir<Refused>;

/// See [`RootDir`].
#[derive(Debug, Clone, Copy)]
pub struct Inside;
/// See [`TreeDir`].
#[derive(Debug, Clone, Copy)]
pub struct Refused;

mod sealed {
    use super::{Inside, Links, Refused};

    pub trait Policy {
        #[expect(private_interfaces, reason = "the trait is sealed; its constant is for this module")]
        const LINKS: Links;
    }

    impl Policy for Inside {
        #[expect(private_interfaces, reason = "as above")]
        const LINKS: Links = Links::Inside;
    }

    impl Policy for Refused {
        #[expect(private_interfaces, reason = "as above")]
        const LINKS: Links = Links::Refused;
    }
}

/// An open directory, with what happens to symbolic links below it. Use it by the names [`RootDir`] and [`TreeDir`].
#[derive(Debug)]
pub struct Dir<P> {
    fd: OwnedFd,
    /// For messages only.
    shown: PathBuf,
    way: Way,
    policy: PhantomData<P>,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the kernel gave it: any bytes except `/` and NUL.
    pub name: CString,
    pub kind: FileType,
    /// A character device 0:0. With it overlayfs hides a name of the layers below.
    pub whiteout: bool,
}

impl Entry {
    /// For opening what has this name.
    pub fn os(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }

    /// The name if it is UTF-8. Portage makes no others.
    pub fn text(&self) -> Option<&str> {
        self.name.to_str().ok()
    }

    /// Whether it is a directory. A link to one is not.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }
}

impl Dir<Inside> {
    /// Opens a directory by a path that only we make.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::io("open", path, errno))?;
        Ok(Self::from_fd(fd, path))
    }

    /// Opens a regular file. The last component may be a link.
    pub fn follow(&self, path: impl AsRef<Path>) -> Result<Plain> {
        let path = path.as_ref();
        let fd = self.resolve(path, FILE - OFlags::NOFOLLOW)?;
        Plain::new(fd, self.shown(path))
    }

    /// The kind of what the path leads to, through links. `None` if it leads nowhere.
    pub fn leads_to(&self, path: impl AsRef<Path>) -> Result<Option<FileType>> {
        let path = path.as_ref();
        match resolve::open(self.way, self.fd.as_fd(), path, OFlags::PATH, Mode::empty(), Links::Inside).and_then(rustix::fs::fstat)
        {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            // `ELOOP`: links in a circle lead nowhere.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::open(&self.shown(path), errno)),
        }
    }

    /// The same directory, with no link followed below it.
    pub fn tree(&self) -> Result<TreeDir> {
        self.open_dir("")
    }
}

impl Dir<Refused> {
    /// Opens a directory by a path that only we make. Its last component must not be a link.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|errno| Error::open(path, errno))?;
        Ok(Self::from_fd(fd, path))
    }

    pub(super) fn into_parts(self) -> (OwnedFd, PathBuf, Way) {
        (self.fd, self.shown, self.way)
    }
}

impl<P: sealed::Policy> Dir<P> {
    /// From an open directory (`O_PATH` is enough). `shown` is its name in messages.
    pub fn from_fd(fd: OwnedFd, shown: impl Into<PathBuf>) -> Self {
        Self { fd, shown: shown.into(), way: Way::default(), policy: PhantomData }
    }

    /// The same with a duplicate of a descriptor.
    pub fn borrowed(fd: BorrowedFd<'_>, shown: impl Into<PathBuf>) -> Result<Self> {
        let shown = shown.into();
        let fd = fd.try_clone_to_owned().map_err(|error| Error::io("open", &shown, error))?;
        Ok(Self::from_fd(fd, shown))
    }

    /// Uses these calls: for tests, and where `openat2` is known to be missing.
    #[must_use]
    pub fn by(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// What messages call `path`.
    pub fn shown(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").unwrap_or(path);
        if path.as_os_str().is_empty() { self.shown.clone() } else { self.shown.join(path) }
    }

    /// Opens a directory below; an empty path is this one. No link is followed below the new handle.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<TreeDir> {
        let path = path.as_ref();
        // Without O_NOFOLLOW, which would refuse every link in the last component. Here the policy decides.
        let fd = self.resolve(path, DIRECTORY - OFlags::NOFOLLOW)?;
        Ok(TreeDir::from_fd(fd, self.shown(path)).by(self.way))
    }

    /// Opens a regular file. Its last component must not be a link.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<Plain> {
        let path = path.as_ref();
        let shown = self.shown(path);
        match resolve::open(self.way, self.fd.as_fd(), path, FILE, Mode::empty(), P::LINKS) {
            Ok(fd) => Plain::new(fd, shown),
            // ENXIO: a socket, or a device without a driver.
            Err(Errno::LOOP | Errno::NXIO) => Err(Error::NotRegular { path: shown }),
            Err(errno) => Err(Error::open(&shown, errno)),
        }
    }

    /// The contents of a regular file, at most `limit_bytes`.
    pub fn read(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
        self.open_file(path)?.read(limit_bytes)
    }

    /// A descriptor for a mount: it names a file or directory and opens nothing (`O_PATH`). Links are followed by the policy, also in the
    /// last component.
    pub fn place(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlags::PATH)
    }

    /// The status of this name, of a link itself. `None` if there is nothing.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Option<Stat>> {
        let path = path.as_ref();
        let found = resolve::open(self.way, self.fd.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), P::LINKS);
        match found.and_then(rustix::fs::fstat) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Error::open(&self.shown(path), errno)),
        }
    }

    /// The same for one name that a listing of this directory gave. It saves a system call.
    pub fn stat_name(&self, name: &CStr) -> Result<Option<Stat>> {
        match stat_at(self.fd.as_fd(), name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("examine", self.shown(Path::new(OsStr::from_bytes(name.to_bytes()))), errno)),
        }
    }

    /// The kind of this name, of a link itself. `None` if there is nothing.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<Option<FileType>> {
        Ok(self.stat(path)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<CString> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        resolve::open(self.way, self.fd.as_fd(), path, flags, Mode::empty(), P::LINKS)
            .and_then(|fd| rustix::fs::readlinkat(fd, c"", Vec::new()))
            .map_err(|errno| match errno {
                // The kernel's answer to an empty name if the descriptor is not of a link.
                Errno::INVAL | Errno::NOENT if self.stat(path).is_ok_and(|stat| stat.is_some()) => {
                    Error::io("read the link", self.shown(path), Errno::INVAL)
                }
                errno => Error::open(&self.shown(path), errno),
            })
    }

    /// The names in this directory, sorted bytewise. More than `limit` are an error.
    pub fn entries(&self, limit: usize) -> Result<Vec<Entry>> {
        // Opened anew: the listing needs its own position, and a descriptor of `O_PATH` cannot be listed.
        let again = self.resolve(Path::new(""), DIRECTORY)?;
        let failed = |errno| Error::io("list", &self.shown, errno);
        let mut names =
            list(again.as_fd(), limit).map_err(failed)?.ok_or_else(|| Error::TooMany { path: self.shown.clone(), limit })?;
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    pub(super) fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        resolve::open(self.way, self.fd.as_fd(), path, flags, Mode::empty(), P::LINKS)
            .map_err(|errno| Error::open(&self.shown(path), errno))
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }
}

impl<P> AsFd for Dir<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<P> From<Dir<P>> for OwnedFd {
    fn from(dir: Dir<P>) -> Self {
        dir.fd
    }
}

/// All names of a freshly opened directory with their kinds, in the file system's order. `None` if there are more than `limit`.
pub(super) fn list(fd: BorrowedFd<'_>, limit: usize) -> std::result::Result<Option<Vec<Entry>>, Errno> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut reader = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if names.len() == limit {
            return Ok(None);
        }
        names.push(Entry { name: name.to_owned(), kind: entry.file_type(), whiteout: false });
    }
    // Few file systems do not tell kinds. A character device in a layer is nearly always a whiteout, so it is worth a `stat`.
    for entry in &mut names {
        if matches!(entry.kind, FileType::Unknown | FileType::CharacterDevice) {
            (entry.kind, entry.whiteout) = match stat_at(fd, &entry.name) {
                Ok(stat) => {
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    (kind, kind == FileType::CharacterDevice && stat.st_rdev == 0)
                }
                // It vanished. Whoever uses the name will see that.
                Err(Errno::NOENT) => (entry.kind, false),
                Err(errno) => return Err(errno),
            };
        }
    }
    Ok(Some(names))
}

/// The status of this name in a directory, of a link itself.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> std::result::Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}
