//! How a path becomes a descriptor. This is the only place that calls `openat2`; without that call it resolves by itself.
//!
//! `openat2` came with Linux 5.6. Seccomp filters of containers answer ENOSYS or EPERM for calls that they do not know. In both cases we
//! go step by step: one name after the other is opened with `O_NOFOLLOW`, and we read links ourselves. The kernel never gets a `..` then:
//! it stands for the directory that we came from.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// How often a resolution is begun again. The kernel answers EAGAIN if a rename anywhere on the system has disturbed it.
const RETRIES: usize = 128;
/// How many symbolic links one resolution follows. The kernel's limit is the same.
const LINK_LIMIT: usize = 40;

/// Which calls are used. Tests force each way; everybody else uses the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// `openat2`, or step by step if the kernel does not have it or a filter refuses it.
    #[default]
    Kernel,
    /// One name after the other, as on a kernel without `openat2`.
    Stepwise,
}

/// What happens to symbolic links and mounts on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Links are resolved as if the directory were `/`. Mounts are crossed, since we have made them.
    Inside,
    /// A link is ELOOP, a mount is EXDEV.
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
        // The kernel would allow a `..` that stays beneath. No path of ours has one.
        return Err(Errno::INVAL);
    }
    let asked = match (path.as_os_str().is_empty(), links) {
        (true, _) => Path::new("."),
        // The kernel answers EXDEV to a leading slash with BENEATH.
        (false, Links::Refused) => path.strip_prefix("/").unwrap_or(path),
        (false, Links::Inside) => path,
    };
    let asked = if asked.as_os_str().is_empty() { Path::new(".") } else { asked };
    if way == Way::Kernel {
        for _ in 0..RETRIES {
            match rustix::fs::openat2(root, asked, flags, mode, links.flags()) {
                // `EAGAIN`: a rename or mount raced with the resolution (openat2(2)).
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A container's seccomp filter that does not know `openat2` answers one of these.
                Err(Errno::NOSYS | Errno::PERM) => return stepwise(root, asked, flags, mode, links),
                // The kernel may walk a path twice and counts the links of both walks. With more than twenty links it may answer ELOOP by
                // mistake.
                Err(Errno::LOOP) if links == Links::Inside => return stepwise(root, asked, flags, mode, links),
                answer => return answer,
            }
        }
        return Err(Errno::AGAIN);
    }
    stepwise(root, asked, flags, mode, links)
}

/// The same, one name after the other.
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
        // First by `O_PATH`, which has no effects, to see what it is. Opening a FIFO or a device can have effects.
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
        // Looked at again: between the two calls somebody may have mounted on it or replaced it.
        same_mount(opened.as_fd())?;
        return Ok(opened);
    }
    rustix::fs::openat(trail.last().map_or(root, AsFd::as_fd), c".", flags, mode)
}

/// The number by which two mounts differ: the mount's own, or the device if a filter refuses `statx`. With the device, a bind of the same
/// file system goes unnoticed.
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

/// The components of a path without `.`.
fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned())
}
