//! Why this host refuses what a sandbox needs: by the call that failed and its errno, and by what the kernel's settings tell.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::sys;

/// Why namespaces do not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// This setting is 0.
    Off(&'static str),
    /// As many as this setting allows are in use (ENOSPC, which does not mean the disk).
    Exhausted(&'static str),
    /// `AppArmor` takes the capabilities away again (Ubuntu since 23.10).
    AppArmor,
    /// The kernel lets nobody make a user namespace in a changed root.
    Chroot,
    /// Not Linux: it has neither overlayfs for users nor what else is needed.
    Gvisor,
    /// `setgroups` is denied in the namespace above, so no program of a session could drop its groups.
    Setgroups,
    /// No process can be started (EAGAIN), which has nothing to do with namespaces.
    Processes,
    /// The kernel was built without them.
    NotBuilt,
    /// A security module confines this process, as in a container.
    Confined(String),
    /// A seccomp filter is in force, as in a container.
    Filter,
    /// Nothing tells.
    Unknown,
}

/// Settings and their files.
const LIMITS: [(&str, &str); 7] = [
    ("user.max_user_namespaces", "proc/sys/user/max_user_namespaces"),
    ("user.max_mnt_namespaces", "proc/sys/user/max_mnt_namespaces"),
    ("user.max_pid_namespaces", "proc/sys/user/max_pid_namespaces"),
    ("user.max_ipc_namespaces", "proc/sys/user/max_ipc_namespaces"),
    ("user.max_uts_namespaces", "proc/sys/user/max_uts_namespaces"),
    ("user.max_net_namespaces", "proc/sys/user/max_net_namespaces"),
    ("user.max_cgroup_namespaces", "proc/sys/user/max_cgroup_namespaces"),
];

impl Block {
    /// Why this call failed here.
    pub fn find(error: &sys::Error) -> Self {
        Self::find_below(Path::new("/"), error)
    }

    fn find_below(root: &Path, error: &sys::Error) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let is = |path: &str, wanted: &str| text(path).trim() == wanted;
        let makes_user_namespace = error.call == "unshare" && error.args.contains("CLONE_NEWUSER");
        if is_gvisor(&text("proc/version")) {
            return Self::Gvisor;
        }
        match error.errno() {
            Some(libc::ENOSPC | libc::EUSERS) => {
                if let Some((setting, _)) = LIMITS.iter().find(|(_, path)| is(path, "0")) {
                    return Self::Off(setting);
                }
                Self::Exhausted(if makes_user_namespace { LIMITS[0].0 } else { "user.max_*_namespaces" })
            }
            Some(libc::EAGAIN) => Self::Processes,
            Some(libc::EINVAL) if makes_user_namespace => Self::NotBuilt,
            Some(libc::EPERM) if makes_user_namespace && is_changed_root(&text("proc/self/mountinfo")) => Self::Chroot,
            Some(libc::EPERM) if makes_user_namespace && is("proc/sys/kernel/unprivileged_userns_clone", "0") => {
                Self::Off("kernel.unprivileged_userns_clone")
            }
            Some(libc::EPERM) if error.call == "setgroups" && is("proc/self/setgroups", "deny") => Self::Setgroups,
            Some(libc::EPERM | libc::EACCES) if is("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") => Self::AppArmor,
            Some(libc::EPERM | libc::EACCES) if confinement(&text("proc/self/attr/current")).is_some() => {
                confinement(&text("proc/self/attr/current")).map_or(Self::Unknown, Self::Confined)
            }
            Some(libc::EPERM) if status(&text("proc/self/status"), "Seccomp") == Some(2) => Self::Filter,
            _ => Self::Unknown,
        }
    }

    /// What to do: a command for the administrator where one is needed.
    pub fn remedy(&self) -> String {
        match self {
            Self::Off(setting @ "kernel.unprivileged_userns_clone") => {
                format!("as the administrator: `sysctl -w {setting}=1`, and keep it in `/etc/sysctl.d/`")
            }
            Self::Off(setting) => format!("as the administrator: `sysctl -w {setting}=65536`, and keep it in `/etc/sysctl.d/`"),
            Self::Exhausted(setting) => format!(
                "end programs that hold namespaces (`lsns` lists them), or as the administrator: raise `{setting}` with `sysctl -w`"
            ),
            Self::AppArmor => apparmor_advice(std::env::current_exe().ok().as_deref()),
            Self::Chroot => "start it outside of the changed root, or enter that one with `bwrap` or `systemd-nspawn`".to_owned(),
            Self::Gvisor => "start the container with another runtime, such as `runc` or `crun`".to_owned(),
            Self::Setgroups => "make the namespace with `newuidmap`, or as root without `--setgroups deny`".to_owned(),
            Self::Processes => PROCESSES.to_owned(),
            Self::NotBuilt => "boot a kernel with `CONFIG_USER_NS=y`".to_owned(),
            Self::Confined(label) if label.contains(":container_t:") => {
                "start the container with `--security-opt label=disable`".to_owned()
            }
            Self::Confined(_) | Self::Filter | Self::Unknown => CONTAINERS.to_owned(),
        }
    }
}

/// What the administrator does where `AppArmor` takes the capabilities of user namespaces away: `program` is the one that runs, whose
/// helpers keep its profile although they are executed from memory.
fn apparmor_advice(program: Option<&Path>) -> String {
    let off = "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, for all programs of this host";
    // The kernel adds a word to the name of a program that was replaced meanwhile.
    let program = program.and_then(Path::to_str).map(|path| path.strip_suffix(" (deleted)").unwrap_or(path));
    let Some((program, profile)) = program.and_then(|path| Some((path, apparmor_profile(path)?))) else {
        return format!("as the administrator: {off}");
    };
    let own = fs::metadata(program).is_ok_and(|file| file.uid() != 0);
    let first = if own { "install the program where only root can replace it; then there, " } else { "" };
    format!(
        "as the administrator: {first}write `{profile}` into `/etc/apparmor.d/gentoomuch`, and load it with `apparmor_parser -r \
         /etc/apparmor.d/gentoomuch`; or {off}"
    )
}

/// A whole profile, in one line, that gives a program nothing but user namespaces with their capabilities. `None` for a path that the
/// language of profiles cannot name.
fn apparmor_profile(program: &str) -> Option<String> {
    if program.contains(|letter: char| letter.is_control() || matches!(letter, '"' | '\\')) {
        return None;
    }
    // These are patterns and variables there (apparmor.d(5), "Globbing").
    let mut path = String::new();
    for letter in program.chars() {
        if matches!(letter, '?' | '*' | '[' | ']' | '{' | '}' | '^' | '@') {
            path.push('\\');
        }
        path.push(letter);
    }
    Some(format!("abi <abi/4.0>, profile gentoomuch \"{path}\" flags=(unconfined) {{ userns, }}"))
}

/// What to do where no process or thread can be started.
pub(crate) const PROCESSES: &str =
    "you or the machine have reached the limit of processes and threads: end some, or raise the limit (`ulimit -u`)";

/// What containers need. Docker's own profile for `AppArmor` denies mounts even without the filter, and its masked `/proc` a new one: so all
/// three are said at once.
const CONTAINERS: &str = "in a container, start it with all of: docker: `--security-opt seccomp=unconfined --security-opt \
    apparmor=unconfined --security-opt systempaths=unconfined`; podman: `--security-opt seccomp=unconfined`; Kubernetes: \
    `seccompProfile` and `appArmorProfile` of type `Unconfined`, with `hostUsers: false`; GitLab's runner: \
    `security_opt = [\"seccomp=unconfined\", \"apparmor=unconfined\", \"systempaths=unconfined\"]` in `[runners.docker]`";

impl fmt::Display for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off(setting) => write!(out, "`{setting}` is 0"),
            Self::Exhausted(setting) => write!(out, "as many are in use as `{setting}` allows"),
            Self::AppArmor => out.write_str("`kernel.apparmor_restrict_unprivileged_userns` is 1"),
            Self::Chroot => out.write_str("this process is in a changed root (chroot)"),
            Self::Gvisor => out.write_str("this is gVisor, not Linux"),
            Self::Setgroups => out.write_str("`setgroups` is denied in this user namespace"),
            Self::Processes => out.write_str("no process can be started"),
            Self::NotBuilt => out.write_str("the kernel has none"),
            Self::Confined(label) => write!(out, "a security module confines this process as `{label}`"),
            Self::Filter => out.write_str("a seccomp filter is in force, as in a container"),
            Self::Unknown => {
                out.write_str("no known kernel setting forbids it; a container, a changed root (chroot) or a security module may")
            }
        }
    }
}

/// The label or profile that `SELinux` or `AppArmor` gives this process, if it is one of containers.
fn confinement(label: &str) -> Option<String> {
    let label = label.trim_matches(['\0', '\n']);
    let of_containers = label.contains(":container_t:") || label.starts_with("docker-") || label.contains("containers-default-");
    of_containers.then(|| label.to_owned())
}

/// gVisor answers with this version, or names itself.
pub(crate) fn is_gvisor(version: &str) -> bool {
    version.to_lowercase().contains("gvisor") || version.contains("#1 SMP Sun Jan 10 15:06:54 PST 2016")
}

/// Whether this process's root is no mount: then somebody changed it with `chroot`.
fn is_changed_root(mountinfo: &str) -> bool {
    !mountinfo.is_empty() && !mountinfo.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// A number in `/proc/PID/status`.
pub(crate) fn status(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// Why `newuidmap` or `newgidmap` cannot write a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Powerless {
    /// `no_new_privs` is set: no program gains anything.
    NoNewPrivs,
    /// Its file system is mounted with `nosuid`.
    NoSuid,
    /// A file of the user's own, which can be no set-id program of root.
    Own,
    /// It belongs to this user, who is not root.
    Foreign(u32),
    /// Neither set-id bit nor file capability.
    Plain,
    /// It has its power, and the kernel refuses all the same, as in a container whose root is not the host's.
    Contained,
}

impl Powerless {
    pub(crate) fn find(program: &Path) -> Self {
        let status_text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if status(&status_text, "NoNewPrivs") == Some(1) {
            return Self::NoNewPrivs;
        }
        let nosuid = rustix::fs::statvfs(program).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
        if nosuid {
            return Self::NoSuid;
        }
        let mut value = [0u8; 24];
        if rustix::fs::getxattr(program, c"security.capability", &mut value).is_ok() {
            return Self::Contained;
        }
        match fs::metadata(program) {
            Ok(file) if file.uid() == rustix::process::geteuid().as_raw() => Self::Own,
            Ok(file) if file.uid() != 0 => Self::Foreign(file.uid()),
            Ok(file) if file.mode() & 0o4000 != 0 => Self::Contained,
            _ => Self::Plain,
        }
    }

    /// What to do about `program`.
    pub fn remedy(&self, program: &Path) -> String {
        let program = program.display();
        match self {
            Self::NoNewPrivs => "start it outside of the wrapper or container that sets `no_new_privs` (systemd: `NoNewPrivileges=no`, docker: \
                without `--security-opt no-new-privileges`, Kubernetes: `allowPrivilegeEscalation: true`)"
                .to_owned(),
            Self::NoSuid => format!("use a `{program}` on a file system that is not mounted with `nosuid`"),
            Self::Own | Self::Foreign(_) => {
                format!("take the directory of `{program}` out of `PATH`, so that the one of the distribution is found")
            }
            Self::Plain => format!(
                "as the administrator: install the package of `{program}` again (`uidmap` or `shadow`), since it lost its set-id bit or \
                 file capability"
            ),
            Self::Contained => {
                "in a container, as its root: `setcap cap_setuid=ep` on `newuidmap` and `setcap cap_setgid=ep` on `newgidmap` instead \
                 of their set-id bits; or start gentoomuch as root of the container"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Powerless {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNewPrivs => out.write_str("this process runs with `no_new_privs`"),
            Self::NoSuid => out.write_str("it lies on a file system that is mounted with `nosuid`"),
            Self::Own => out.write_str("it is a file of your own, without the power of root"),
            Self::Foreign(uid) => write!(out, "it belongs to user {uid}, so it does not run as root"),
            Self::Plain => out.write_str("it has neither file capabilities nor the set-id bit"),
            Self::Contained => out.write_str("the kernel refuses it, as in a container whose root is not the host's"),
        }
    }
}

/// The first range of 65536 ids that nobody has, by the lines of `/etc/subuid` and `/etc/subgid` and by the ids of this namespace, if there
/// is one.
pub(crate) fn free_range(files: &[String], taken: &[u32], uid_map: &str) -> Option<(u32, u32)> {
    const COUNT: u32 = 65536;
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let mut used: Vec<(u32, u32)> = files
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            Some((number(fields.next()?)?, number(fields.next()?)?))
        })
        .chain(taken.iter().map(|id| (*id, 1)))
        .collect();
    used.sort_unstable();
    let extents = uid_map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().filter_map(number);
        Some((fields.next()?, fields.nth(1)?))
    });
    let here: Vec<(u32, u32)> = extents.collect();
    // Above the ids of people and services: useradd(8) begins there, too.
    let mut first = 100_000_u32;
    for (begin, count) in used {
        if begin.saturating_add(count) > first && begin < first.saturating_add(COUNT) {
            first = begin.saturating_add(count);
        }
    }
    let last = first.checked_add(COUNT - 1)?;
    let within = |(begin, count): &(u32, u32)| *begin <= first && last - begin < *count;
    (here.is_empty() || here.iter().any(within)).then_some((first, last))
}

/// What the administrator does for a user without subordinate ids.
pub(crate) fn range_advice(user: &str) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let users: Vec<u32> =
        read("/etc/passwd").lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).filter(|uid| *uid >= 100_000).collect();
    match free_range(&[read("/etc/subuid"), read("/etc/subgid")], &users, &read("/proc/self/uid_map")) {
        // usermod(8) knows only users with a name.
        Some((first, last)) if user.bytes().all(|byte| byte.is_ascii_digit()) => format!(
            "as the administrator: give this user id an entry in the user database, and the line `{user}:{first}:{}` to `/etc/subuid` and \
             `/etc/subgid`",
            last - first + 1
        ),
        Some((first, last)) => {
            format!("as the administrator: `usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}`")
        }
        None => "in this container no range of 65536 ids is free: start it with more, or start gentoomuch as its root".to_owned(),
    }
}

/// Whether a setting forbids to execute programs in memory: each session begins with one.
pub(crate) fn forbids_memfd() -> bool {
    fs::read_to_string("/proc/sys/vm/memfd_noexec").is_ok_and(|text| text.trim() == "2")
}

/// Where `newuidmap` and its like lie.
pub(crate) fn find_program(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    search.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_refusal_is_explained_by_its_call_and_errno() {
        const USER: (&str, &str) = ("unshare", "CLONE_NEWUSER");
        const OTHERS: (&str, &str) = ("unshare", "CLONE_NEWNS|CLONE_NEWIPC");
        const MOUNT: (&str, &str) = ("mount", "/, MS_REC|MS_PRIVATE");
        const SETGROUPS: (&str, &str) = ("setgroups", "[]");
        let apparmor = ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        let filter = ("proc/self/status", "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        let cases: [(&[(&str, &str)], _, _, Block); 17] = [
            (&[("proc/sys/user/max_user_namespaces", "0\n")], USER, libc::ENOSPC, Block::Off("user.max_user_namespaces")),
            (&[("proc/sys/user/max_user_namespaces", "9\n")], USER, libc::ENOSPC, Block::Exhausted("user.max_user_namespaces")),
            (&[("proc/sys/user/max_net_namespaces", "0\n")], OTHERS, libc::ENOSPC, Block::Off("user.max_net_namespaces")),
            (&[], OTHERS, libc::ENOSPC, Block::Exhausted("user.max_*_namespaces")),
            (&[], ("fork", "gentoomuch-init"), libc::EAGAIN, Block::Processes),
            (&[], USER, libc::EINVAL, Block::NotBuilt),
            (
                &[("proc/sys/kernel/unprivileged_userns_clone", "0\n")],
                USER,
                libc::EPERM,
                Block::Off("kernel.unprivileged_userns_clone"),
            ),
            (&[("proc/self/mountinfo", "1 2 0:3 / /proc rw - proc proc rw\n")], USER, libc::EPERM, Block::Chroot),
            (&[("proc/self/mountinfo", "1 2 0:3 / / rw - ext4 x rw\n"), filter], USER, libc::EPERM, Block::Filter),
            (
                &[("proc/self/attr/current", "docker-default (enforce)\n"), filter],
                MOUNT,
                libc::EACCES,
                Block::Confined("docker-default (enforce)".to_owned()),
            ),
            (&[("proc/self/attr/current", "unconfined\n"), filter], MOUNT, libc::EPERM, Block::Filter),
            (&[apparmor], SETGROUPS, libc::EPERM, Block::AppArmor),
            (&[apparmor], USER, libc::EACCES, Block::AppArmor),
            (&[apparmor], USER, libc::ENOMEM, Block::Unknown),
            (&[("proc/self/setgroups", "deny\n")], SETGROUPS, libc::EPERM, Block::Setgroups),
            (&[("proc/version", "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n")], USER, libc::EPERM, Block::Gvisor),
            (&[], USER, libc::EPERM, Block::Unknown),
        ];
        for (files, (call, args), errno, block) in cases {
            let error = sys::Error::new(call, args, std::io::Error::from_raw_os_error(errno));
            assert_eq!(Block::find_below(host(files).path(), &error), block, "{files:?}");
        }
    }

    #[test]
    fn one_remedy_names_all_that_a_container_lacks() {
        let selinux = Block::Confined("system_u:system_r:container_t:s0:c1,c2".to_owned());
        assert!(selinux.remedy().contains("label=disable"));
        let remedy = Block::Filter.remedy();
        for flag in ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined", "hostUsers: false", "[runners.docker]"]
        {
            assert!(remedy.contains(flag), "{flag}: {remedy}");
        }
    }

    #[test]
    fn the_profile_is_whole_and_names_the_program() {
        let profile = apparmor_profile("/opt/a b/gentoomuch[1]").unwrap();
        assert_eq!(profile, r#"abi <abi/4.0>, profile gentoomuch "/opt/a b/gentoomuch\[1\]" flags=(unconfined) { userns, }"#);
        assert_eq!(apparmor_profile("/opt/\"x\"/gentoomuch"), None);
        let advice = apparmor_advice(Some(Path::new("/bin/sh (deleted)")));
        assert!(advice.starts_with("as the administrator: write `abi <abi/4.0>, profile gentoomuch \"/bin/sh\" "), "{advice}");
        assert!(advice.contains("`apparmor_parser -r /etc/apparmor.d/gentoomuch`"), "{advice}");
        let dir = host(&[("gentoomuch", "")]);
        if rustix::process::geteuid().as_raw() != 0 {
            let advice = apparmor_advice(Some(&dir.path().join("gentoomuch")));
            assert!(advice.contains("install the program where only root can replace it"), "{advice}");
        }
        assert!(apparmor_advice(None).starts_with("as the administrator: `sysctl -w"));
    }

    /// By the parser of `AppArmor`, without a kernel that has it. Its version 4 was the first with the rule.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn the_profile_is_one_that_is_understood() {
        let search: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
        let Some(parser) = find_program("apparmor_parser", &[search, vec!["/usr/sbin".into(), "/sbin".into()]].concat()) else {
            eprintln!("skipped: no `apparmor_parser`");
            return;
        };
        let version = Command::new(&parser).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let is_new = version.split("version ").nth(1).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if is_new.is_none_or(|major| major < 4) {
            eprintln!("skipped: {}", version.lines().next().unwrap_or_default());
            return;
        }
        let understood = |profile: &str| {
            let mut parser = Command::new(&parser);
            parser.args(["--skip-kernel-load", "--skip-cache"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = parser.spawn().unwrap();
            child.stdin.take().unwrap().write_all(profile.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for program in ["/usr/bin/gentoomuch", "/opt/a b,c#/gentoomuch", "/opt/{a,b}/x[1*?^@{HOME}/gentoomuch"] {
            assert_eq!(understood(&apparmor_profile(program).unwrap()), Ok(()), "{program}");
        }
        let unquoted = apparmor_profile("/opt/x[1/gentoomuch").unwrap().replace('\\', "");
        assert!(understood(&unquoted).is_err(), "{unquoted}");
    }

    #[test]
    fn nobody_is_told_to_give_power_to_a_file_of_a_user() {
        let dir = host(&[("newuidmap", "")]);
        let program = dir.path().join("newuidmap");
        let why = Powerless::find(&program);
        assert_ne!(why, Powerless::Plain);
        for why in [Powerless::Own, Powerless::Foreign(7), Powerless::Plain, Powerless::Contained, Powerless::NoSuid] {
            assert!(!why.remedy(&program).contains("u+s"), "{why}");
        }
    }

    #[test]
    fn the_advised_range_is_free() {
        let whole = "0 0 4294967295\n";
        let range = |files: &[&str], map| free_range(&files.iter().map(ToString::to_string).collect::<Vec<_>>(), &[], map);
        assert_eq!(range(&[], whole), Some((100_000, 165_535)));
        assert_eq!(range(&["other:100000:65536\n"], whole), Some((165_536, 231_071)));
        // Also of groups, and in any order; a line that nobody understands is nobody's.
        assert_eq!(range(&["b:165536:65536\n# x\n", "a:100000:65536\n"], whole), Some((231_072, 296_607)));
        assert_eq!(range(&["a:120000:10\n"], whole), Some((120_010, 185_545)));
        assert_eq!(free_range(&[], &[100_005], whole), Some((100_006, 165_541)));
        // A container has what its own map says.
        assert_eq!(range(&[], "0 1000 1\n1 100000 65536\n"), None);
        assert_eq!(range(&[], "0 1000 1\n1 100000 1000000\n"), Some((100_000, 165_535)));
        assert_eq!(range(&["a:100000:4294867295\n"], whole), None);
    }
}
