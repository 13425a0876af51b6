//! Whether a directory can hold the layers of a store, and where else there is room.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags, XattrFlags};

use super::HostProblem;
use super::facts::is_windows_drive;
use super::probe;
use crate::sandbox::{self, Launcher};
use crate::sys::mount::file_system_name;

/// File systems of which the kernel makes no writable layer, or only one that loses owners and attributes: of networks, of other systems,
/// of processes, and an overlay itself.
const UNFIT: [&str; 15] = [
    "nfs", "cifs", "9p", "fuse", "lustre", "gpfs", "beegfs", "ceph", "afs", "overlay", "vfat", "exfat", "ntfs", "ecryptfs", "ramfs",
];

/// Where a host usually has a local disk for everybody, or memory.
const PLACES: [&str; 5] = ["/var/tmp", "/scratch", "/local", "/tmp", "/dev/shm"];

/// Refuses a directory that cannot hold layers: first by its file system, then by trying.
pub(crate) fn check(launcher: &Launcher, directory: &Path) -> Result<(), HostProblem> {
    check_kind(directory)?;
    match probe::overlay(launcher, directory) {
        Ok(()) => Ok(()),
        Err(error @ (sandbox::Error::Task { .. } | sandbox::Error::Overlay { .. })) => {
            // The kernel may refuse every overlay. Then another directory would not help.
            match probe::any_overlay(launcher, directory) {
                Err(source @ sandbox::Error::Task { .. }) => Err(HostProblem::NoOverlay(Box::new(source))),
                _ => Err(unfit(directory, file_system(directory), Some(Box::new(error)))),
            }
        }
        Err(error) => Err(HostProblem::Sandbox(Box::new(error))),
    }
}

/// The part that needs no sandbox.
pub(crate) fn check_kind(directory: &Path) -> Result<(), HostProblem> {
    let kind = file_system(directory);
    if UNFIT.contains(&kind.as_str()) { Err(unfit(directory, kind, None)) } else { Ok(()) }
}

/// The nearest part of a path that exists: what is made below it is on the same file system.
pub(crate) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"))
}

fn file_system(directory: &Path) -> String {
    file_system_name(existing(directory)).unwrap_or_else(|_| "an unknown file system".to_owned())
}

fn unfit(directory: &Path, mut file_system: String, source: Option<Box<sandbox::Error>>) -> HostProblem {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let there = std::fs::canonicalize(existing(directory)).unwrap_or_else(|_| directory.to_owned());
    if is_windows_drive(&there, &read("/proc/self/mountinfo"), &read("/proc/sys/kernel/osrelease")) {
        file_system = format!("a drive of Windows ({file_system})");
    }
    let me = rustix::process::geteuid().as_raw();
    let places = PLACES.iter().map(PathBuf::from).chain([PathBuf::from(format!("/run/user/{me}"))]);
    HostProblem::Place {
        path: directory.to_owned(),
        file_system,
        better: places.filter_map(|place| better(&place)).collect(),
        source,
    }
}

/// A place in words, if this user can write there and it can hold layers.
fn better(place: &Path) -> Option<String> {
    let kind = file_system_name(place).ok().filter(|kind| !UNFIT.contains(&kind.as_str()))?;
    rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK).ok()?;
    keeps_attributes(place)?;
    let stat = rustix::fs::statvfs(place).ok()?;
    let free = (stat.f_bavail * stat.f_frsize) as f64 / f64::from(1 << 30);
    let kind = if kind == "tmpfs" { "in memory".to_owned() } else { kind };
    Some(format!("`{}` ({kind}, {free:.1} GiB free)", place.join("gentoomuch").display()))
}

/// Whether files there can have the attributes of overlays: tmpfs has had them since Linux 6.6. The file that is tried has no name.
fn keeps_attributes(place: &Path) -> Option<()> {
    let file = rustix::fs::open(place, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).ok()?;
    rustix::fs::fsetxattr(&file, "user.overlay.gentoomuch", b"y", XattrFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_would_do_are_named() {
        let problem = unfit(Path::new("/home/larry/.local/share/gentoomuch"), "nfs".to_owned(), None);
        assert_eq!(
            problem.to_string(),
            "the layers of a store cannot lie at `/home/larry/.local/share/gentoomuch`, which is on nfs"
        );
        assert!(problem.remedy().contains("`--data`"), "{}", problem.remedy());
        assert_eq!(better(Path::new("/proc/self")), None);
        assert!(check_kind(Path::new("/dev/shm/does/not/exist")).is_ok());
    }
}
