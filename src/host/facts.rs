//! What can be read about the host without trying anything.
//!
//! Everything is read below a root directory, normally `/`, so that tests can describe a machine as a few files.

use std::fs;
use std::path::Path;

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// `uname -r`.
    pub kernel: String,
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

#[cfg(test)]
mod tests {
    use super::*;

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
