//! Does with the calls of Linux 5.11 what newer kernels do in one call: an overlay by an option string, recursive attributes by one
//! remount after the other.
//!
//! We do not look at the kernel's version. The newer call is tried, and `ENOSYS` or `EINVAL` leads here. Tests force it.

use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;

use super::{Error, Result};

/// `mount(2)` takes one page of options. The kernel cuts a longer string off without an error.
const OPTIONS_LIMIT: usize = 4095;

/// Mounts an overlay by the option string on an open directory; `writable` is upper directory, work directory, and whether `sync` is a no-op.
/// Each path must be free of `:`, `,` and `\` (see [`super::overlay`], which passes `/proc/self/fd/N`).
pub(crate) fn mount_overlay(
    lower: &[String],
    writable: Option<&(String, String, bool)>,
    place: BorrowedFd<'_>,
    target: &Path,
) -> Result<()> {
    let mut options = format!("userxattr,lowerdir={}", lower.join(":"));
    if let Some((upper, work, volatile)) = writable {
        let volatile = if *volatile { ",volatile" } else { "" };
        options = format!("{options},upperdir={upper},workdir={work}{volatile}");
    }
    let shown = format!("overlay, {}, {options}", target.display());
    if options.len() > OPTIONS_LIMIT {
        return Err(Error::new("mount", shown, rustix::io::Errno::TOOBIG));
    }
    let data = CString::new(options).map_err(Error::of("mount", &shown))?;
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::mount::mount("gentoomuch", link, "overlay", MountFlags::empty(), data.as_c_str()).map_err(Error::of("mount", shown))
}

/// Makes every mount at and below the attached mount `mount` read-only, one by one. A remount that drops a locked flag is EPERM, so each
/// mount keeps its flags.
pub(crate) fn set_read_only(mount: BorrowedFd<'_>, shown: &str) -> Result<()> {
    let link = format!("/proc/self/fd/{}", mount.as_raw_fd());
    let top = std::fs::read_link(&link).map_err(Error::of("readlink", &link))?;
    let table = std::fs::read("/proc/self/mountinfo").map_err(Error::of("read", "/proc/self/mountinfo"))?;
    for point in mount_points(&table).into_iter().filter(|point| point.starts_with(&top)) {
        let current = match rustix::fs::statvfs(&point) {
            Ok(current) => current.f_flag,
            // The mount is hidden below a later one, or we may not enter it. Then nobody in the session reaches it by this path either.
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(Error::new("statvfs", point.display(), errno)),
        };
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        for (has, flag) in [
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
            (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
            (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        ] {
            flags.set(flag, current.contains(has));
        }
        rustix::mount::mount_remount(&point, flags, "")
            .map_err(Error::of("mount", format_args!("{} ({shown}), MS_REMOUNT|MS_BIND|MS_RDONLY", point.display())))?;
    }
    Ok(())
}

/// The mount points that a `mountinfo` table lists, with its octal escapes undone.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape).collect()
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| u8::from_str_radix(text, 8).ok());
        if let (b'\\', Some(value)) = (byte, octal) {
            plain.push(value);
            rest = &tail[3..];
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn mountinfo_escapes_are_undone() {
        let table = b"36 35 98:0 / /mnt/a\\040b\\134c rw - ext4 /dev/sda rw\n37 35 0:5 / /dev rw - devtmpfs none rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/mnt/a b\\c"), PathBuf::from("/dev")]);
    }

    #[test]
    fn options_beyond_a_page_are_refused_before_the_kernel_sees_them() {
        let lower = vec!["/x".repeat(100); 40];
        let place = std::fs::File::open("/").unwrap();
        let writable = ("/u".to_owned(), "/w".to_owned(), false);
        let error = mount_overlay(&lower, Some(&writable), place.as_fd(), Path::new("/m")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::E2BIG));
    }
}
