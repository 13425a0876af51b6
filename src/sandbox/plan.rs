//! What makes a session: a list of values that can be shown (`--print-plan`, `-vv`), sent to PID 1, and executed there.

use std::fmt;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::isolation::Proc;

/// Which network the session sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace of its own with nothing but loopback.
    None,
    Host,
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "none",
            Self::Host => "host",
        })
    }
}

/// The program that runs in the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The program and its arguments. A program without `/` is searched in the `PATH` of `env`, inside the session.
    pub argv: Vec<String>,
    /// The whole environment. Nothing of ours is inherited.
    pub env: Vec<(String, String)>,
    /// Whether `/etc/profile.env` of the root is added, as for a login.
    #[serde(default)]
    pub login: bool,
    /// Where it starts, inside the session.
    pub cwd: PathBuf,
}

/// All that PID 1 needs to know to make a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub hostname: String,
    pub network: Network,
    /// Executed in this order.
    pub steps: Vec<Step>,
    pub command: CommandLine,
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
}

/// A directory of the host that is mounted. We made `directory`; what is inside a layer or a tree was made by somebody else. So the two
/// are named apart, and no link is followed below `directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A path that only we make.
    pub directory: PathBuf,
    /// The path below `directory`; empty for the directory itself.
    pub inside: PathBuf,
}

impl Source {
    /// `inside` of a layer or tree.
    pub fn inside(directory: PathBuf, inside: impl Into<PathBuf>) -> Self {
        Self { directory, inside: inside.into() }
    }
}

impl From<PathBuf> for Source {
    fn from(directory: PathBuf) -> Self {
        Self { directory, inside: PathBuf::new() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.directory.display())?;
        if self.inside.as_os_str().is_empty() { Ok(()) } else { write!(out, " (in it {})", self.inside.display()) }
    }
}

/// One thing that PID 1 does. `target`, and `path` where nothing else is said, lie in the new root and are resolved inside it; `source`,
/// `lower`, `upper` and `work` are the host's. Missing targets (and their parents) are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Makes an empty directory of the host and removes what was there: the kernel wants the work directory of an overlay empty.
    FreshDirectory {
        /// On the host.
        path: PathBuf,
    },
    /// Stacks layers. The result becomes the new root.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// The overlay's own directory, on the same file system as `upper`.
        work: PathBuf,
        /// An empty directory of the host.
        mountpoint: PathBuf,
        /// Makes `sync` a no-op.
        volatile: bool,
    },
    /// Stacks layers at a place inside the new root; `sync` there is a no-op.
    OverlayAt {
        /// Read-only layers of the host, the topmost first.
        lower: Vec<Source>,
        /// Where changes go, on the host.
        upper: PathBuf,
        /// The overlay's own directory, on the same file system as `upper`.
        work: PathBuf,
        /// In the new root.
        target: PathBuf,
    },
    /// Binds a directory of the host as the new root, without layers.
    BindRoot {
        /// On the host.
        source: PathBuf,
        /// Refuses writes.
        read_only: bool,
    },
    /// Shows a file or directory of the host, with the mounts below it.
    Bind {
        /// On the host.
        source: PathBuf,
        /// In the new root.
        target: PathBuf,
        /// Refuses writes, also in mounts below.
        read_only: bool,
    },
    /// Shows a directory of the new root in another place, too. It is made if need be, in place of what is no directory.
    BindInside {
        /// In the new root. Links lead nowhere else.
        top: PathBuf,
        /// Below it, where a session may have put anything. No link is followed.
        inside: PathBuf,
        /// In the new root.
        target: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// In the new root.
        target: PathBuf,
        /// Limit in bytes; half of the memory if absent.
        size: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
    },
    /// Processes and settings of the kernel.
    Proc {
        /// In the new root.
        target: PathBuf,
        proc: Proc,
    },
    /// The kernel's devices, read-only: fresh with a network namespace of one's own, else the host's.
    Sys {
        /// In the new root.
        target: PathBuf,
    },
    /// Devices, pseudo-terminals, shared memory and message queues.
    Dev {
        /// In the new root.
        target: PathBuf,
    },
    /// Makes a directory; one that exists keeps its mode.
    Directory {
        /// In the new root.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Writes a file, replacing one that exists.
    File {
        /// In the new root.
        path: PathBuf,
        /// All of it.
        contents: String,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a symbolic link, replacing one that exists.
    Symlink {
        /// In the new root.
        path: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// Removes a file, or a directory with all it holds, if there is one.
    Remove {
        /// In the new root.
        path: PathBuf,
    },
    /// Turns a file below `/etc/portage`, such as `make.conf`, into a directory that holds it under [`Step::name_in_directory`], so that
    /// files can be added. A directory stays, and where there is nothing an empty directory is made.
    ConfigurationDirectory {
        /// One name.
        name: String,
    },
    /// Leaves the host's root for the new one. The last step.
    PivotRoot,
}

impl Step {
    /// The name that [`Step::ConfigurationDirectory`] gives the file it found, in the directory. Portage reads in order of names.
    pub fn name_in_directory(name: &str) -> String {
        format!("00-{name}")
    }

    /// What every session has besides its root: `/proc`, `/sys`, `/dev`, `/run`, `/tmp`.
    pub fn standard(proc: Proc) -> Vec<Self> {
        let target = PathBuf::from;
        vec![
            Self::Proc { target: target("/proc"), proc },
            Self::Sys { target: target("/sys") },
            Self::Dev { target: target("/dev") },
            Self::Tmpfs { target: target("/run"), size: None, mode: 0o755 },
            Self::Tmpfs { target: target("/tmp"), size: None, mode: 0o1777 },
        ]
    }
}

/// Why a plan cannot be executed, whatever the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The first step that touches a root must make it.
    #[error("the plan has no root: no overlay and no bound directory")]
    NoRoot,
    /// There is one root.
    #[error("the plan makes its root more than once")]
    SecondRoot,
    /// `step` needs the root that a later step makes.
    #[error("the plan does `{step}` before it makes a root")]
    BeforeRoot {
        /// As displayed.
        step: String,
    },
    /// The session would see the host.
    #[error("the plan does not end by entering its root")]
    NoPivot,
    /// Both sides are looked up from `/`.
    #[error("`{path}` is not absolute")]
    Relative {
        /// As given.
        path: PathBuf,
    },
    /// Nothing to run.
    #[error("the plan has no command")]
    NoCommand,
    /// What `execve` cannot carry.
    #[error("a NUL byte, or a `=` in a variable's name, cannot be passed to `{command}`")]
    Unpassable { command: String },
    /// The kernel takes up to 64 bytes.
    #[error("the host name `{name}` is empty or longer than 64 bytes")]
    HostName {
        /// As given.
        name: String,
    },
}

impl Plan {
    /// Checks the shape of the plan: what can be said without trying.
    pub fn check(&self) -> Result<(), PlanError> {
        let mut root = false;
        for step in &self.steps {
            match step {
                Step::Overlay { .. } | Step::BindRoot { .. } if root => return Err(PlanError::SecondRoot),
                Step::Overlay { .. } | Step::BindRoot { .. } => root = true,
                Step::FreshDirectory { .. } => {}
                _ if !root => return Err(PlanError::BeforeRoot { step: step.to_string() }),
                _ => {}
            }
            if let Some(path) = step.paths().into_iter().find(|path| !path.is_absolute()) {
                return Err(PlanError::Relative { path: path.to_owned() });
            }
        }
        if !root {
            return Err(PlanError::NoRoot);
        }
        let pivots = self.steps.iter().filter(|step| **step == Step::PivotRoot).count();
        if pivots != 1 || self.steps.last() != Some(&Step::PivotRoot) {
            return Err(PlanError::NoPivot);
        }
        if self.hostname.is_empty() || self.hostname.len() > 64 {
            return Err(PlanError::HostName { name: self.hostname.clone() });
        }
        self.check_command()
    }

    fn check_command(&self) -> Result<(), PlanError> {
        let CommandLine { argv, env, cwd, .. } = &self.command;
        let Some(program) = argv.first().filter(|program| !program.is_empty()) else { return Err(PlanError::NoCommand) };
        if !cwd.is_absolute() {
            return Err(PlanError::Relative { path: cwd.clone() });
        }
        let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if argv.iter().any(|word| word.contains('\0')) || env.iter().any(|(name, value)| bad_name(name) || value.contains('\0')) {
            return Err(PlanError::Unpassable { command: program.clone() });
        }
        Ok(())
    }
}

impl Step {
    fn paths(&self) -> Vec<&Path> {
        match self {
            Self::FreshDirectory { path }
            | Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Symlink { path, .. }
            | Self::Remove { path } => vec![path],
            Self::Overlay { lower, upper, work, mountpoint, .. } => {
                lower.iter().chain([upper, work, mountpoint]).map(PathBuf::as_path).collect()
            }
            Self::OverlayAt { lower, upper, work, target } => {
                let lower = lower.iter().map(|source| &source.directory);
                lower.chain([upper, work, target]).map(PathBuf::as_path).collect()
            }
            Self::BindRoot { source, .. } => vec![source],
            Self::Bind { source, target, .. } => vec![source, target],
            Self::BindInside { top, inside: _, target } => vec![top, target],
            Self::Tmpfs { target, .. } | Self::Proc { target, .. } | Self::Sys { target } | Self::Dev { target } => vec![target],
            Self::ConfigurationDirectory { .. } | Self::PivotRoot => Vec::new(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = |read_only: bool| if read_only { " read-only" } else { "" };
        match self {
            Self::FreshDirectory { path } => write!(out, "make {} an empty directory", path.display()),
            Self::Overlay { lower, upper, work, mountpoint, volatile } => {
                write!(out, "overlay root at {}:", mountpoint.display())?;
                for layer in lower {
                    write!(out, " lower {}", layer.display())?;
                }
                write!(out, " upper {} work {}", upper.display(), work.display())?;
                out.write_str(if *volatile { " volatile" } else { "" })
            }
            Self::OverlayAt { lower, upper, work, target } => {
                write!(out, "overlay on {}:", target.display())?;
                for layer in lower {
                    write!(out, " lower {layer}")?;
                }
                write!(out, " upper {} work {} volatile", upper.display(), work.display())
            }
            Self::BindRoot { source, read_only } => write!(out, "bind {} as root{}", source.display(), access(*read_only)),
            Self::Bind { source, target, read_only } => {
                write!(out, "bind {} on {}{}", source.display(), target.display(), access(*read_only))
            }
            Self::BindInside { top, inside, target } => {
                write!(out, "bind {} of the root on {}", top.join(inside).display(), target.display())
            }
            Self::Tmpfs { target, size, mode } => {
                write!(out, "tmpfs on {} mode {mode:04o}", target.display())?;
                size.map_or(Ok(()), |bytes| write!(out, " size {bytes}"))
            }
            Self::Proc { target, proc } => match proc {
                Proc::New => write!(out, "new proc on {}", target.display()),
                Proc::NewReadOnly => write!(out, "new proc on {} read-only", target.display()),
                Proc::Shared => write!(out, "the host's proc on {} read-only", target.display()),
            },
            Self::Sys { target } => write!(out, "sysfs on {} read-only", target.display()),
            Self::Dev { target } => write!(out, "devices, devpts, shm and mqueue on {}", target.display()),
            Self::Directory { path, mode } => write!(out, "directory {} mode {mode:04o}", path.display()),
            Self::File { path, contents, mode } => {
                write!(out, "file {} mode {mode:04o}, {} bytes", path.display(), contents.len())
            }
            Self::Symlink { path, to } => write!(out, "link {} -> {}", path.display(), to.display()),
            Self::Remove { path } => write!(out, "remove {}", path.display()),
            Self::ConfigurationDirectory { name } => write!(out, "turn /etc/portage/{name} into a directory"),
            Self::PivotRoot => write!(out, "enter the new root"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "host name {}, network {}", self.hostname, self.network)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(out, "{:>2}. {step}", number + 1)?;
        }
        for (name, value) in &self.command.env {
            writeln!(out, "env {name}={value}")?;
        }
        let terminal = if self.terminal { ", on a terminal of its own" } else { "" };
        write!(out, "run {:?} in {}{terminal}", self.command.argv, self.command.cwd.display())
    }
}

/// Which system calls make mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MountCalls {
    /// The newest, and what replaces them where the kernel does not have them.
    #[default]
    Newest,
    /// What Linux 5.11 has. For tests.
    Oldest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let path = PathBuf::from;
        let mut steps = vec![
            Step::FreshDirectory { path: path("/s/work") },
            Step::Overlay {
                lower: vec![path("/l/2"), path("/l/1")],
                upper: path("/s/upper"),
                work: path("/s/work"),
                mountpoint: path("/s/root"),
                volatile: true,
            },
        ];
        steps.extend(Step::standard(Proc::New));
        steps.extend([
            Step::Bind { source: path("/r/gentoo"), target: path("/var/db/repos/gentoo"), read_only: true },
            Step::Bind { source: path("/c/distfiles"), target: path("/var/cache/distfiles"), read_only: false },
            Step::Tmpfs { target: path("/var/tmp/portage"), size: Some(1 << 30), mode: 0o775 },
            Step::BindInside { top: path("/run/scratch"), inside: path("a"), target: path("/var/tmp/portage/a") },
            Step::Directory { path: path("/mnt"), mode: 0o700 },
            Step::Remove { path: path("/etc/mtab") },
            Step::Symlink { path: path("/etc/mtab"), to: path("/proc/self/mounts") },
            Step::ConfigurationDirectory { name: "make.conf".to_owned() },
            Step::File { path: path("/etc/portage/make.conf/99-session"), contents: "FEATURES=\"\"\n".to_owned(), mode: 0o644 },
            Step::PivotRoot,
        ]);
        let command = CommandLine {
            argv: vec!["emerge".to_owned(), "--pretend".to_owned(), "a b".to_owned()],
            env: vec![("PATH".to_owned(), "/usr/bin".to_owned())],
            login: true,
            cwd: path("/root"),
        };
        Plan { hostname: "builder".to_owned(), network: Network::None, steps, command, terminal: true }
    }

    #[test]
    fn a_plan_reads_as_lines() {
        insta::assert_snapshot!(plan(), @r#"
        host name builder, network none
         1. make /s/work an empty directory
         2. overlay root at /s/root: lower /l/2 lower /l/1 upper /s/upper work /s/work volatile
         3. new proc on /proc
         4. sysfs on /sys read-only
         5. devices, devpts, shm and mqueue on /dev
         6. tmpfs on /run mode 0755
         7. tmpfs on /tmp mode 1777
         8. bind /r/gentoo on /var/db/repos/gentoo read-only
         9. bind /c/distfiles on /var/cache/distfiles
        10. tmpfs on /var/tmp/portage mode 0775 size 1073741824
        11. bind /run/scratch/a of the root on /var/tmp/portage/a
        12. directory /mnt mode 0700
        13. remove /etc/mtab
        14. link /etc/mtab -> /proc/self/mounts
        15. turn /etc/portage/make.conf into a directory
        16. file /etc/portage/make.conf/99-session mode 0644, 12 bytes
        17. enter the new root
        env PATH=/usr/bin
        run ["emerge", "--pretend", "a b"] in /root, on a terminal of its own
        "#);
    }

    #[test]
    fn plans_that_cannot_work_say_why() {
        let change = |edit: fn(&mut Plan)| {
            let mut changed = plan();
            edit(&mut changed);
            changed.check().unwrap_err().to_string()
        };
        assert_eq!(plan().check(), Ok(()));
        assert_eq!(change(|plan| plan.steps.truncate(1)), "the plan has no root: no overlay and no bound directory");
        assert_eq!(change(|plan| plan.steps.swap(1, 2)), "the plan does `new proc on /proc` before it makes a root");
        assert_eq!(change(|plan| drop(plan.steps.pop())), "the plan does not end by entering its root");
        assert_eq!(
            change(|plan| plan.steps.insert(2, Step::BindRoot { source: PathBuf::from("/x"), read_only: true })),
            "the plan makes its root more than once"
        );
        assert_eq!(change(|plan| plan.steps.insert(2, Step::Remove { path: PathBuf::from("etc") })), "`etc` is not absolute");
        assert_eq!(change(|plan| plan.command.argv.clear()), "the plan has no command");
        assert_eq!(change(|plan| plan.command.cwd = PathBuf::from(".")), "`.` is not absolute");
        assert_eq!(change(|plan| plan.hostname.clear()), "the host name `` is empty or longer than 64 bytes");
        assert_eq!(
            change(|plan| plan.command.env.push(("A=B".to_owned(), String::new()))),
            "a NUL byte, or a `=` in a variable's name, cannot be passed to `emerge`"
        );
    }

    #[test]
    fn a_plan_survives_the_wire() {
        let wire = serde_json::to_string(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&wire).unwrap(), plan());
    }
}
