//! What can be read about the host without trying anything, and the problems that follow from it.
//!
//! Everything is read below a root directory, normally `/`, so that tests can describe a machine as a few files.

use std::fs;
use std::path::{Path, PathBuf};

/// The first kernel with `userxattr` (Linux 5.11), without which an ordinary user cannot mount overlayfs with its attributes.
const KERNEL_FLOOR: (u32, u32) = (5, 11);

/// Why nothing can be built on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostProblem {
    /// Older than `userxattr`.
    #[error("kernel {release} is too old for overlayfs without root, which came with 5.11")]
    OldKernel {
        /// As `uname -r` prints it.
        release: String,
    },
    /// `user.max_user_namespaces` is 0.
    #[error("user namespaces are switched off: `user.max_user_namespaces` is 0")]
    NamespacesOff,
    /// Debian's former sysctl `kernel.unprivileged_userns_clone` is 0.
    #[error("user namespaces are switched off for ordinary users: `kernel.unprivileged_userns_clone` is 0")]
    NamespacesRootOnly,
    /// AppArmor restricts user namespaces, as on Ubuntu 24.04 and later.
    #[error("AppArmor forbids the use of user namespaces: `kernel.apparmor_restrict_unprivileged_userns` is 1")]
    AppArmor,
    /// `no_new_privs` is set, so `newuidmap` cannot gain its privilege.
    #[error("this process runs with `no_new_privs`, so `newuidmap` cannot set an id map")]
    NoNewPrivs,
    /// `newuidmap` or `newgidmap` is not installed.
    #[error("`{program}` is not installed")]
    MissingProgram { program: &'static str },
    /// The program's set-id owner is not root here, as in a user namespace that does not map its owner.
    #[error("`{}` belongs to user {uid}, so its set-id bit does not make it run as root", path.display())]
    ForeignProgram {
        path: PathBuf,
        /// Who owns it, as seen from here.
        uid: u32,
    },
    /// The program has neither its set-id bit nor its capability.
    #[error("`{}` has neither its set-id bit nor its file capability", path.display())]
    PowerlessProgram { path: PathBuf },
}

impl HostProblem {
    /// What to do: a command for the administrator where one is needed.
    pub fn remedy(&self) -> String {
        match self {
            Self::OldKernel { .. } => "boot Linux 5.11 or later".to_owned(),
            Self::NamespacesOff => {
                "as the administrator: `sysctl -w user.max_user_namespaces=65536`, and keep it in `/etc/sysctl.d/`".to_owned()
            }
            Self::NamespacesRootOnly => {
                "as the administrator: `sysctl -w kernel.unprivileged_userns_clone=1`, and keep it in `/etc/sysctl.d/`".to_owned()
            }
            Self::AppArmor => {
                "as the administrator: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile that \
                allows `userns` for this program"
                    .to_owned()
            }
            Self::NoNewPrivs => {
                "start it outside of the wrapper or container that sets `no_new_privs` (systemd: `NoNewPrivileges=no`, \
                docker: without `--security-opt no-new-privileges`)"
                    .to_owned()
            }
            Self::MissingProgram { .. } => {
                "as the administrator: install `uidmap` (Debian, Ubuntu), `shadow-utils` (Fedora), `shadow` (openSUSE, \
                Arch) or `sys-apps/shadow` (Gentoo)"
                    .to_owned()
            }
            Self::ForeignProgram { path, .. } => format!(
                "if you are in a user namespace or container without root, start gentoomuch outside of it; else as the \
                 administrator: `chown root {0}` and `chmod u+s {0}`",
                path.display()
            ),
            Self::PowerlessProgram { path } => format!("as the administrator: `chmod u+s {}`", path.display()),
        }
    }
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// `user.max_user_namespaces`; `None` when the kernel does not say.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, on kernels that have it.
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, on kernels that have it.
    pub apparmor_restrict: Option<u64>,
    /// `kernel.yama.ptrace_scope`, with Yama.
    pub ptrace_scope: Option<u64>,
    /// `NoNewPrivs` of this process.
    pub no_new_privs: bool,
    /// `Seccomp` of this process: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Whether something is mounted below `/proc`, as in most containers: the kernel then refuses a new proc (`mount_too_revealing`).
    pub proc_masked: bool,
}

impl Facts {
    pub(crate) fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let number = |path: &str| text(path).and_then(|value| value.trim().parse().ok());
        let status = text("proc/self/status").unwrap_or_default();
        let field = |name: &str| -> u32 {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            kernel: text("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            max_user_namespaces: number("proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: number("proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            ptrace_scope: number("proc/sys/kernel/yama/ptrace_scope"),
            no_new_privs: field("NoNewPrivs") != 0,
            seccomp: field("Seccomp"),
            proc_masked: proc_is_masked(&text("proc/self/mountinfo").unwrap_or_default()),
        }
    }

    /// The problems that these facts prove.
    pub(crate) fn problems(&self) -> Vec<HostProblem> {
        let mut problems = Vec::new();
        if kernel_version(&self.kernel).is_some_and(|version| version < KERNEL_FLOOR) {
            problems.push(HostProblem::OldKernel { release: self.kernel.clone() });
        }
        if self.max_user_namespaces == Some(0) {
            problems.push(HostProblem::NamespacesOff);
        }
        if self.unprivileged_userns_clone == Some(0) {
            problems.push(HostProblem::NamespacesRootOnly);
        }
        if self.no_new_privs {
            problems.push(HostProblem::NoNewPrivs);
        }
        problems
    }
}

/// Major and minor number of a release such as `6.18.44-gentoo`.
pub(super) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether a mount hides part of `/proc`. A mount on `/proc/sys/fs/binfmt_misc` hides nothing, since that directory is always empty.
fn proc_is_masked(mountinfo: &str) -> bool {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc")
}

/// Where `name` lies in the directories of `path`.
pub(super) fn find_program(name: &'static str, path: &[PathBuf]) -> Result<PathBuf, HostProblem> {
    path.iter().map(|dir| dir.join(name)).find(|candidate| candidate.is_file()).ok_or(HostProblem::MissingProgram { program: name })
}

/// Refuses a `program` that cannot write id maps: it needs the set-id bit of root or a file capability.
fn check_power(program: &Path) -> Result<(), HostProblem> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(program).ok().filter(|meta| meta.mode() & 0o4000 != 0).map(|meta| meta.uid());
    let mut value = [0u8; 24];
    match owner {
        Some(0) => Ok(()),
        _ if rustix::fs::getxattr(program, c"security.capability", &mut value).is_ok() => Ok(()),
        Some(uid) => Err(HostProblem::ForeignProgram { path: program.to_owned(), uid }),
        None => Err(HostProblem::PowerlessProgram { path: program.to_owned() }),
    }
}

/// The cheap part of `doctor`: problems that make every build fail.
///
/// `newuidmap` is looked up in `path`; `root` is `/`, except in tests. [`crate::sandbox::IdMap::of_host`] checks whether the user has
/// ids. Who `is_root` needs no set-id program.
pub(crate) fn precheck(root: &Path, path: &[PathBuf], is_root: bool) -> Result<Facts, HostProblem> {
    let facts = Facts::read(root);
    let matters = |problem: &HostProblem| !is_root || *problem != HostProblem::NoNewPrivs;
    if let Some(problem) = facts.problems().into_iter().find(matters) {
        return Err(problem);
    }
    if !is_root {
        for name in ["newuidmap", "newgidmap"] {
            map_program(name, path)?;
        }
    }
    Ok(facts)
}

/// Where `newuidmap` or `newgidmap` is, if it works.
pub(super) fn map_program(name: &'static str, path: &[PathBuf]) -> Result<PathBuf, HostProblem> {
    let program = find_program(name, path)?;
    check_power(&program)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, version) in
            [("6.18.44-fc", Some((6, 18))), ("5.4.0-150-generic", Some((5, 4))), ("5.10-rc3", Some((5, 10))), ("", None)]
        {
            assert_eq!(kernel_version(release), version, "{release}");
        }
    }

    #[test]
    fn each_refusal_is_named_by_its_cause() {
        let cases: [(&[(&str, &str)], Option<&str>); 6] = [
            (
                &[("proc/sys/kernel/osrelease", "5.4.0-150-generic\n")],
                Some("kernel 5.4.0-150-generic is too old for overlayfs without root, which came with 5.11"),
            ),
            (
                &[("proc/sys/user/max_user_namespaces", "0\n")],
                Some("user namespaces are switched off: `user.max_user_namespaces` is 0"),
            ),
            (
                &[("proc/sys/kernel/unprivileged_userns_clone", "0\n")],
                Some("user namespaces are switched off for ordinary users: `kernel.unprivileged_userns_clone` is 0"),
            ),
            (
                &[("proc/self/status", "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\n")],
                Some("this process runs with `no_new_privs`, so `newuidmap` cannot set an id map"),
            ),
            (&[("proc/sys/kernel/osrelease", "6.1.0\n"), ("proc/sys/user/max_user_namespaces", "100\n")], None),
            (&[], None),
        ];
        for (files, message) in cases {
            let dir = machine(files);
            let first = Facts::read(dir.path()).problems().into_iter().next().map(|problem| problem.to_string());
            assert_eq!(first.as_deref(), message);
        }
    }

    #[test]
    fn missing_and_powerless_programs_are_told_apart() {
        let dir = machine(&[("bin/newuidmap", ""), ("empty/x", "")]);
        let path = |name: &str| [dir.path().join(name)];
        let missing = precheck(dir.path(), &path("empty"), false).unwrap_err();
        assert_eq!(missing.to_string(), "`newuidmap` is not installed");
        assert!(missing.remedy().contains("uidmap"));
        let powerless = precheck(dir.path(), &path("bin"), false).unwrap_err();
        assert!(powerless.to_string().ends_with("has neither its set-id bit nor its file capability"), "{powerless}");
        assert!(powerless.remedy().contains("chmod u+s"));
        let own = dir.path().join("bin/newuidmap");
        fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&own).unwrap());
        if uid != 0 {
            let foreign = precheck(dir.path(), &path("bin"), false).unwrap_err();
            let words = format!("`{}` belongs to user {uid}, so its set-id bit does not make it run as root", own.display());
            assert_eq!(foreign.to_string(), words);
            assert!(foreign.remedy().contains("chown root"));
        }
    }

    #[test]
    fn a_masked_proc_is_seen() {
        assert!(proc_is_masked("1 2 0:3 / /proc rw - proc proc rw\n4 1 0:5 / /proc/kcore ro - tmpfs tmpfs rw\n"));
        assert!(!proc_is_masked("1 2 0:3 / /proc rw - proc proc rw\n4 1 0:5 / /proc/sys/fs/binfmt_misc rw - autofs x rw\n"));
    }
}
