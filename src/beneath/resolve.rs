//! How a path becomes a descriptor: the only calls of `openat2`, and what is done without it.
//!
//! `openat2` came with Linux 5.6. Filters of container engines that do not know a call answer ENOSYS or EPERM, so both lead to the
//! stepwise way, which opens one name after the other with `O_NOFOLLOW` and reads links itself. `..` never goes to the kernel there: it takes
//! the directory that we came from.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// How often a resolution is begun again that a rename somewhere on the system has disturbed (EAGAIN).
const RETRIES: usize = 128;
/// How many symbolic links one resolution follows, as the kernel does.
const LINK_LIMIT: usize = 40;

/// Which calls are used. Tests force each; everybody else takes the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// `openat2`, and the stepwise way where the kernel or a filter does not let it through.
    #[default]
    Kernel,
    /// One name after the other, as on kernels without `openat2`.
    Stepwise,
}

/// What becomes of symbolic links and mounts on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Resolved as if the directory were `/`. Mounts are crossed: they are ours.
    Inside,
    /// Refused with ELOOP, mounts with EXDEV.
    Refused,
}

impl Links {
    fn flags(self) -> ResolveFlags {
        match self {
            Self::Inside => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Self::Refused => {
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
            }
        }
    }
}

/// Opens `path` beneath `root`. An empty path is the root itself.
pub(super) fn open(way: Way, root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode, links: Links) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    if links == Links::Refused && path.as_os_str().as_bytes().split(|byte| *byte == b'/').any(|part| part == b"..") {
        // The kernel would allow those that stay beneath; nobody who writes a path by hand needs them.
        return Err(Errno::INVAL);
    }
    let asked = match (path.as_os_str().is_empty(), links) {
        (true, _) => Path::new("."),
        // BENEATH answers EXDEV to a leading slash.
        (false, Links::Refused) => path.strip_prefix("/").unwrap_or(path),
        (false, Links::Inside) => path,
    };
    let asked = if asked.as_os_str().is_empty() { Path::new(".") } else { asked };
    if way == Way::Kernel {
        for _ in 0..RETRIES {
            match rustix::fs::openat2(root, asked, flags, mode, links.flags()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::PERM) => return stepwise(root, asked, flags, mode, links),
                // The kernel may walk a path twice, and counts the links of both walks: with more than twenty, this is an answer at times.
                Err(Errno::LOOP) if links == Links::Inside => return stepwise(root, asked, flags, mode, links),
                answer => return answer,
            }
        }
        return Err(Errno::AGAIN);
    }
    stepwise(root, asked, flags, mode, links)
}

/// The same by hand.
fn stepwise(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode, links: Links) -> Result<OwnedFd, Errno> {
    let mount = if links == Links::Refused { Some(mount_of(root)?) } else { None };
    let same_mount = |fd: BorrowedFd<'_>| match &mount {
        Some(mount) if mount_of(fd)? != *mount => Err(Errno::XDEV),
        _ => Ok(()),
    };
    let mut todo: VecDeque<OsString> = components(path.as_os_str()).collect();
    let mut directory_wanted = ends_in_slash(path.as_os_str());
    let mut trail: Vec<OwnedFd> = Vec::new();
    let mut followed = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            trail.pop();
            continue;
        }
        let here = trail.last().map_or(root, AsFd::as_fd);
        let last = todo.is_empty();
        let probe = rustix::fs::openat(here, name.as_os_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let next = match probe {
            Err(Errno::NOENT) if last && flags.contains(OFlags::CREATE) && !directory_wanted => {
                return rustix::fs::openat(here, name.as_os_str(), flags | OFlags::NOFOLLOW, mode);
            }
            answer => answer?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind == FileType::Symlink {
            if last && flags.contains(OFlags::NOFOLLOW) && !directory_wanted {
                return rustix::fs::openat(here, name.as_os_str(), flags, mode);
            }
            if links == Links::Refused {
                return Err(Errno::LOOP);
            }
            followed += 1;
            if followed > LINK_LIMIT {
                return Err(Errno::LOOP);
            }
            let to = OsString::from_vec(rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes());
            if to.is_empty() {
                return Err(Errno::NOENT);
            }
            if to.as_bytes().starts_with(b"/") {
                trail.clear();
            }
            directory_wanted |= last && ends_in_slash(&to);
            for part in components(&to).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        same_mount(next.as_fd())?;
        if !last {
            trail.push(next);
            continue;
        }
        let flags = if directory_wanted { flags | OFlags::DIRECTORY } else { flags };
        let opened = rustix::fs::openat(here, name.as_os_str(), flags | OFlags::NOFOLLOW, mode)?;
        same_mount(opened.as_fd())?;
        return Ok(opened);
    }
    rustix::fs::openat(trail.last().map_or(root, AsFd::as_fd), c".", flags, mode)
}

/// What tells two mounts apart: the mount's own number, or the device where a filter hides `statx`. Binds of the same file system are then not
/// noticed.
fn mount_of(fd: BorrowedFd<'_>) -> Result<(bool, u64), Errno> {
    match rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
        Ok(answer) if StatxFlags::from_bits_retain(answer.stx_mask).contains(StatxFlags::MNT_ID) => Ok((true, answer.stx_mnt_id)),
        Ok(_) | Err(Errno::NOSYS | Errno::PERM) => Ok((false, rustix::fs::fstat(fd)?.st_dev)),
        Err(errno) => Err(errno),
    }
}

fn ends_in_slash(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/") || path.as_bytes().ends_with(b"/.") || path.as_bytes().ends_with(b"/..")
}

/// The named components of a path.
fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned())
}
