//! The mount API of Linux 5.2 over owned descriptors. A mount is made detached, configured, and attached to a descriptor, so that no path
//! is resolved twice. Calls that need a kernel newer than our oldest one fall back to [`super::mountcompat`].

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::{Error, Result};

/// Attributes of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel's independent flags")]
pub struct Attributes {
    /// Nothing below can be written.
    pub read_only: bool,
    /// Set-id bits and file capabilities have no effect.
    pub no_suid: bool,
    /// Device nodes do not open.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

impl Attributes {
    /// For file systems that only the kernel fills: `/proc`, `/sys`, mqueue.
    pub const KERNEL: Self = Self { read_only: false, no_suid: true, no_dev: true, no_exec: true };
    /// For temporary directories, from which builds do execute programs.
    pub const TEMPORARY: Self = Self { read_only: false, no_suid: true, no_dev: true, no_exec: false };

    fn flags(self) -> MountAttrFlags {
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.no_suid);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.no_dev);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        flags
    }
}

/// A file system that is being configured.
#[derive(Debug)]
pub struct NewFileSystem {
    kind: &'static str,
    context: OwnedFd,
}

impl NewFileSystem {
    /// Begins a file system of this kind, such as `tmpfs`.
    pub fn open(kind: &'static str) -> Result<Self> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(Error::of("fsopen", kind))?;
        Ok(Self { kind, context })
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(&self.context, key).map_err(|errno| self.error("fsconfig", key, errno))
    }

    /// Sets an option; the kernel takes values up to 255 bytes.
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        rustix::mount::fsconfig_set_string(&self.context, key, value)
            .map_err(|errno| self.error("fsconfig", &format!("{key}={value}"), errno))
    }

    /// Sets an option that is a file.
    pub fn descriptor(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::fsconfig_set_fd(&self.context, key, value)
            .map_err(|errno| self.error("fsconfig", &format!("{key}, descriptor {}", value.as_raw_fd()), errno))
    }

    /// Makes the file system and a detached mount of it.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.context).map_err(|errno| self.error("fsconfig", "CMD_CREATE", errno))?;
        rustix::mount::fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, attributes.flags())
            .map_err(|errno| self.error("fsmount", "", errno))
    }

    /// The error with the kernel's own messages about this context, which say far more than the `errno`.
    fn error(&self, call: &'static str, args: &str, errno: rustix::io::Errno) -> Error {
        let mut said = String::new();
        let mut line = [0u8; 512];
        while let Ok(length @ 1..) = rustix::io::read(&self.context, &mut line) {
            said.push_str("; ");
            said.push_str(String::from_utf8_lossy(&line[..length]).trim());
        }
        let comma = if args.is_empty() { "" } else { ", " };
        Error::new(call, format_args!("{}{comma}{args}{said}", self.kind), errno)
    }
}

/// A detached copy of the mount that `place` names and of all mounts below it, in this process's mount namespace.
pub(crate) fn clone_tree(place: BorrowedFd<'_>, shown: &Path) -> Result<OwnedFd> {
    // Recursive: the mounts below are locked in our namespace, and the kernel refuses a copy that would uncover what is under them.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(place, "", flags).map_err(Error::of("open_tree", shown.display()))
}

/// A descriptor that names a file or directory of the host, by a path that the user or we chose.
pub(crate) fn name(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Error::of("open", path.display()))
}

/// Attaches a detached mount to what `target` names.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: impl std::fmt::Display) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).map_err(Error::of("move_mount", shown))
}

/// `struct mount_attr` of the kernel, version 0.
#[repr(C)]
#[derive(Debug, Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to a mount and all mounts below it (Linux 5.12; `ENOSYS` before).
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, shown: impl std::fmt::Display) -> Result<()> {
    let attr = MountAttr { attr_set: u64::from(attributes.flags().bits()), ..MountAttr::default() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty terminated string, and the structure has the size that is passed with it.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            std::mem::size_of::<MountAttr>(),
        )
    };
    if code == 0 {
        return Ok(());
    }
    let names = if attributes.read_only { "AT_RECURSIVE, RDONLY" } else { "AT_RECURSIVE" };
    Err(Error::new("mount_setattr", format_args!("{shown}, {names}"), std::io::Error::last_os_error()))
}

/// Keeps mounts of this namespace from appearing in others, and the other way round.
pub(crate) fn make_all_private() -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(Error::of("mount", "/, MS_REC|MS_PRIVATE"))
}

/// Takes away what is mounted on a directory that only we make.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH).map_err(Error::of("umount2", format_args!("{}, MNT_DETACH", path.display())))
}

/// Makes the attached mount `root` the root of this mount namespace, for all its processes, and drops the old root.
pub(crate) fn pivot_into(root: BorrowedFd<'_>) -> Result<()> {
    // `pivot_root(".", ".")` needs no directory in the new root for the old one (pivot_root(2)).
    rustix::process::fchdir(root).map_err(Error::of("fchdir", "new root"))?;
    rustix::process::pivot_root(".", ".").map_err(Error::of("pivot_root", "., ."))?;
    // The old root is now mounted over the new one, at the same place.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(Error::of("umount2", "., MNT_DETACH"))?;
    rustix::process::chdir("/").map_err(Error::of("chdir", "/"))
}

/// The type of the file system at `path`: a name if people put data on such file systems, else the magic number in hexadecimal.
pub(crate) fn file_system_name(path: &Path) -> Result<String> {
    let magic = rustix::fs::statfs(path).map_err(Error::of("statfs", path.display()))?.f_type;
    Ok(match magic.cast_unsigned() & 0xffff_ffff {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x0bd0_0bd0 => "lustre".to_owned(),
        0x4750_4653 => "gpfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        0xf2f5_2010 => "f2fs".to_owned(),
        0xca45_1a4e => "bcachefs".to_owned(),
        0xff53_4d42 | 0xfe53_4d42 => "cifs".to_owned(),
        0x0102_1997 => "9p".to_owned(),
        0x4d44 => "vfat".to_owned(),
        0x2011_bab0 => "exfat".to_owned(),
        0x7366_746e => "ntfs".to_owned(),
        0x00c3_6400 => "ceph".to_owned(),
        0x5346_414f => "afs".to_owned(),
        0x1983_0326 => "beegfs".to_owned(),
        0xf15f => "ecryptfs".to_owned(),
        0x8584_58f6 => "ramfs".to_owned(),
        other => format!("{other:#x}"),
    })
}
