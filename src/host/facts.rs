//! What can be read about the host without trying anything.
//!
//! Everything is read below a root directory, normally `/`, so that tests can describe a machine as a few files.

use std::fs;
use std::path::Path;

use crate::sandbox::refusal::is_gvisor;

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Whether this is gVisor, which has neither overlays for users nor what else is needed. It says so, and many calls look as if they
    /// worked.
    pub gvisor: bool,
    /// `kernel.yama.ptrace_scope`, with Yama.
    pub ptrace_scope: Option<u64>,
    /// Whether the kernel may refuse a new `/proc`: it does so where no `/proc` is there that can be written and hides nothing
    /// (`mount_too_revealing`), as in most containers.
    pub proc_masked: bool,
}

impl Facts {
    pub(crate) fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self {
            kernel: text("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            gvisor: is_gvisor(&text("proc/version").unwrap_or_default()),
            ptrace_scope: text("proc/sys/kernel/yama/ptrace_scope").and_then(|value| value.trim().parse().ok()),
            proc_masked: proc_is_masked(&text("proc/self/mountinfo").unwrap_or_default()),
        }
    }
}

/// Whether a mount hides part of `/proc`, or the whole is not shown or cannot be written. A mount on `/proc/sys/fs/binfmt_misc` hides
/// nothing, since that directory is always empty.
fn proc_is_masked(mountinfo: &str) -> bool {
    let mut whole = false;
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[_, _, _, root, point, options, ..] = fields.as_slice() else { continue };
        if point == "/proc" {
            whole = root == "/" && options.split(',').any(|option| option == "rw") && !line.contains("subset=pid");
        }
        if point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc" {
            return true;
        }
    }
    !whole
}

/// Whether a path lies on a drive of Windows that WSL2 shows, such as `/mnt/c`: by 9p, or by virtiofs, which only the kernel's name gives
/// away.
pub(super) fn is_windows_drive(path: &Path, mountinfo: &str, kernel: &str) -> bool {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // Spaces are written as `\040`.
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), after.to_owned()))
    };
    // Of two mounts on one place the later one is seen.
    let Some((_, mount)) = mountinfo.lines().filter_map(mount).max_by_key(|(length, _)| *length) else { return false };
    let kind = mount.split(' ').next().unwrap_or_default();
    kind == "drvfs"
        || kind == "9p" && mount.contains("aname=drvfs")
        || matches!(kind, "9p" | "virtiofs") && kernel.to_lowercase().contains("microsoft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_of_windows_are_known() {
        let mounts = "1 2 8:48 / / rw - ext4 /dev/sdd rw\n\
            3 1 0:5 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs;path=C:\\;uid=1000,trans=fd\n\
            4 1 0:6 / /mnt/d\\040e rw - virtiofs drvfsD rw\n\
            5 1 0:7 / /media rw - 9p host rw,trans=virtio\n";
        for (path, kernel, is) in [
            ("/mnt/c/Users/larry", "6.6.87.2-microsoft-standard-WSL2", true),
            ("/mnt/c/Users/larry", "6.6.87.2", true),
            ("/mnt/d e/x", "6.6.87.2-microsoft-standard-WSL2", true),
            ("/mnt/d e/x", "6.6.87.2", false),
            ("/mnt/cc", "6.6.87.2-microsoft-standard-WSL2", false),
            ("/home/larry", "6.6.87.2-microsoft-standard-WSL2", false),
            ("/media/x", "6.12", false),
        ] {
            assert_eq!(is_windows_drive(Path::new(path), mounts, kernel), is, "{path} {kernel}");
        }
        assert!(!is_windows_drive(Path::new("/"), "", "microsoft"));
    }

    #[test]
    fn a_masked_proc_is_seen() {
        const WHOLE: &str = "1 2 0:3 / /proc rw,nosuid - proc proc rw\n";
        for (more, masked) in [
            ("", false),
            ("4 1 0:5 / /proc/kcore ro - tmpfs tmpfs rw\n", true),
            ("4 1 0:5 / /proc/sys/fs/binfmt_misc rw - autofs x rw\n", false),
            ("4 1 0:5 / /proc ro - proc proc rw\n", true),
            ("4 1 0:5 /7 /proc rw - proc proc rw\n", true),
            ("4 1 0:5 / /proc rw - proc proc rw,subset=pid\n", true),
        ] {
            assert_eq!(proc_is_masked(&format!("{WHOLE}{more}")), masked, "{more}");
        }
        assert!(proc_is_masked("1 2 0:3 / / rw - ext4 x rw\n"));
    }
}
