//! Makes a plan for the sandbox from a session of the store: which mounts a root gets, and what is removed before commit.
//!
//! ```text
//! /                      overlay: the state's layers, the session's upper on top
//! /proc                  new, unless the host refuses that (`sandbox/isolation.rs`)
//! /sys /dev              new, never the host's
//! /dev/shm/gentoomuch-jobserver   where a session that shares a budget of make jobs takes them from (jobserver.rs)
//! /run /tmp              tmpfs
//! /run/portage           the session's `status/`: where emerge tells how far it is
//! /run/gentoomuch        hooks/ (ro), portage/ (ro, the merged configuration), the session's `logs/` (rw)
//!                        jobs/: settings of packages with jobs of their own number
//!                        fetch/ (ro, whom Portage asks for files), distfiles/ (ro, the user's), packages/ (ro, of binary package hosts)
//!                        ccache/published (ro), ccache/own (rw): the compiler cache (`ccache.rs`)
//! /var/db/repos/NAME     tree snapshots (ro)
//! /var/cache/distfiles   the session's `distdir/` (rw): links into /run/gentoomuch/distfiles
//! /var/cache/binpkgs     overlay: the pool, the session's own packages on top
//! /var/tmp/portage       the session's `scratch/`, or memory (`in_memory.rs`)
//! /usr/src               of a stage4 with a kernel: overlay, the kernel's headers, the session's `usr-src/` on top
//! ```
//!
//! None of this ends up in a layer. [`Litter`] removes mount points that had to be made, and files that only a session needs, before
//! commit.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::beneath::TreeDir;
use crate::config::REPOS_DIR;
use crate::fetch::seen;
use crate::portage::session_conf::SessionConf;
use crate::sandbox::Proc;
use crate::sandbox::plan::{CommandLine, Network, Plan, Source, Step};
use crate::session::in_memory::InMemory;
use crate::trees::synced;

pub(crate) const ETC_PORTAGE: &str = "/etc/portage";
/// The session's settings inside the root. It is the last file of the directory, so that it wins.
pub(crate) const SESSION_CONF: &str = "/etc/portage/make.conf/99-session.conf";
/// Settings of single packages. It sorts before a user's files: of two lines with the same atom, Portage lets the later one win.
pub(crate) const PACKAGE_ENV: &str = "/etc/portage/package.env/00-gentoomuch-session";
/// The resolver's configuration. It is only there while a run has the network.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where emerge puts source archives.
pub(crate) const DISTDIR: &str = "/var/cache/distfiles";
/// Where emerge finds and puts binary packages.
pub(crate) const PKGDIR: &str = "/var/cache/binpkgs";
/// Where emerge compiles.
pub(crate) const BUILD_DIR: &str = "/var/tmp/portage";
/// The same on the disk, for runs that compile in memory.
pub(crate) const SCRATCH_DIR: &str = "/run/gentoomuch/scratch";
/// Where packages look for kernel sources.
pub(crate) const SOURCES_DIR: &str = "/usr/src";
/// What compilers have made before (`ccache`), and where those of the session write.
pub(crate) const CCACHE_PUBLISHED: &str = "/run/gentoomuch/ccache/published";
pub(crate) const CCACHE_OWN: &str = crate::portage::session_conf::CCACHE_DIR;
pub(crate) const HOOKS_DIR: &str = "/run/gentoomuch/hooks";
/// Where the session sees the merged configuration, before it is copied.
pub(crate) const PORTAGE_DIR: &str = "/run/gentoomuch/portage";
/// Where runs that copy the configuration see the copy (`put_back`).
pub(crate) const CONFIGURATION_DIR: &str = "/run/gentoomuch/configuration";
/// Where emerge writes the logs of single packages.
pub(crate) const LOG_DIR: &str = "/run/gentoomuch/logs";
/// Where emerge publishes its status (`FEATURES=observability`).
pub(crate) const STATUS_DIR: &str = "/run/portage";

/// A directory of the host that a session sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserBind {
    /// On the host.
    pub source: PathBuf,
    /// In the session.
    pub target: PathBuf,
    /// The session may not write to it.
    pub read_only: bool,
}

/// The binary packages that a session sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packages {
    /// The pools; the first one wins. No session writes to them.
    pub pools: Vec<PathBuf>,
    /// Where the session puts new packages.
    pub own: PathBuf,
    /// overlayfs's work directory for `own`.
    pub work: PathBuf,
}

/// The contents of `/usr/src` in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelTree {
    /// The headers, the topmost first.
    pub lower: Vec<Source>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's work directory.
    pub work: PathBuf,
}

/// What lies below a session's scratch directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScratchBelow {
    /// The scratch directory of the failed session.
    pub lower: PathBuf,
    /// overlayfs's work directory for the session's own.
    pub work: PathBuf,
}

/// A session's root: the part that all its plans have in common.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// The layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's work directory.
    pub work: PathBuf,
    /// Where the root is mounted while it is being made.
    pub mountpoint: PathBuf,
    /// Tree snapshots: where the session sees one, and its directory.
    pub trees: Vec<(PathBuf, PathBuf)>,
    /// The directories through which it gets source archives and packages.
    pub ways: Ways,
    /// Binary packages, once the pool is known.
    pub packages: Option<Packages>,
    /// The published compiler cache, and the session's own, if it has one.
    pub ccache: Option<[PathBuf; 2]>,
    /// Hosts of binary packages, if the configuration names any.
    pub binhost: Option<crate::session::binhost::Client>,
    /// Hooks, scripts of ours, and what Portage is asked.
    pub hooks: PathBuf,
    /// The merged configuration.
    pub portage: PathBuf,
    /// Where emerge writes its progress.
    pub status: PathBuf,
    /// Logs of single packages, until they are taken out of the session.
    pub logs: PathBuf,
    /// Where packages are compiled.
    pub scratch: PathBuf,
    /// What a failed build has left there, for a session in which a user works on it by hand.
    pub scratch_below: Option<ScratchBelow>,
    pub session_conf: SessionConf,
    /// Text of `/etc/resolv.conf` for runs with the network.
    pub resolv_conf: Option<String>,
    /// The pipes of make's job server, if the session shares one: on the host, and in the session.
    pub pipes: Vec<(PathBuf, String)>,
    /// The headers of the stage4's kernel, if it has one.
    pub kernel_tree: Option<KernelTree>,
    /// The copy of the configuration.
    pub configuration: PathBuf,
    /// Directories of the host that the user asked for.
    pub binds: Vec<UserBind>,
    /// The session's own file of `repos.conf`, if it needs one.
    pub synced: Option<String>,
    pub proc: Proc,
}

/// One command in a session.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub argv: Vec<String>,
    /// Variables in addition to the standard ones.
    pub env: Vec<(String, String)>,
    /// Which network it has.
    pub network: Network,
    /// It gets a terminal of its own.
    pub terminal: bool,
    /// Host name in the session.
    pub hostname: String,
    /// A directory of the host that only this run sees.
    pub shown: Option<UserBind>,
    /// Whether packages are compiled in memory.
    pub in_memory: Option<InMemory>,
}

/// Files in the configuration's directory that belong to this session only.
pub(crate) fn session_files() -> [&'static str; 4] {
    [SESSION_CONF, PACKAGE_ENV, crate::session::binhost::SESSION_FILE, synced::SESSION_FILE]
}

impl Root {
    pub(crate) fn plan(&self, run: &Run) -> Plan {
        let mut steps = vec![
            Step::FreshDirectory { path: self.work.clone() },
            Step::Overlay {
                lower: self.lower.clone(),
                upper: self.upper.clone(),
                work: self.work.clone(),
                mountpoint: self.mountpoint.clone(),
                volatile: true,
            },
            Step::Proc { target: "/proc".into(), proc: self.proc },
            Step::Sys { target: "/sys".into() },
            Step::Dev { target: "/dev".into() },
            Step::Tmpfs { target: "/run".into(), size: None, mode: 0o755 },
            Step::Tmpfs { target: "/tmp".into(), size: None, mode: 0o1777 },
        ];
        let bind =
            |source: &Path, target: &str, read_only| Step::Bind { source: source.to_owned(), target: target.into(), read_only };
        for (location, dir) in &self.trees {
            steps.push(Step::Bind { source: dir.clone(), target: location.clone(), read_only: true });
        }
        steps.push(bind(&self.ways.distdir, DISTDIR, false));
        steps.push(bind(&self.ways.distfiles, seen::DISTFILES, true));
        steps.push(bind(&self.ways.packages, seen::PACKAGES, true));
        steps.push(bind(&self.ways.fetch, seen::FETCH, true));
        if let Some(packages) = &self.packages {
            steps.push(Step::FreshDirectory { path: packages.work.clone() });
            steps.push(Step::OverlayAt {
                lower: packages.pools.iter().cloned().map(Source::from).collect(),
                upper: packages.own.clone(),
                work: packages.work.clone(),
                target: PKGDIR.into(),
            });
        }
        if let Some([published, own]) = &self.ccache {
            steps.push(bind(published, CCACHE_PUBLISHED, true));
            steps.push(bind(own, CCACHE_OWN, false));
        }
        steps.extend(self.binhost.iter().flat_map(crate::session::binhost::Client::steps));
        match (&run.in_memory, &self.scratch_below) {
            (Some(in_memory), _) => steps.extend(in_memory.steps(&self.scratch)),
            (None, None) => steps.push(bind(&self.scratch, BUILD_DIR, false)),
            (None, Some(ScratchBelow { lower, work })) => {
                steps.push(Step::FreshDirectory { path: work.clone() });
                let (lower, upper, work) = (vec![lower.clone().into()], self.scratch.clone(), work.clone());
                steps.push(Step::OverlayAt { lower, upper, work, target: BUILD_DIR.into() });
            }
        }
        steps.push(bind(&self.hooks, HOOKS_DIR, true));
        steps.push(bind(&self.portage, PORTAGE_DIR, true));
        steps.push(bind(&self.logs, LOG_DIR, false));
        steps.push(bind(&self.status, STATUS_DIR, false));
        steps.extend(self.pipes.iter().map(|(pipe, inside)| bind(pipe, inside, false)));
        if let Some(KernelTree { lower, upper, work }) = &self.kernel_tree {
            steps.push(Step::FreshDirectory { path: work.clone() });
            let (lower, upper, work) = (lower.clone(), upper.clone(), work.clone());
            steps.push(Step::OverlayAt { lower, upper, work, target: SOURCES_DIR.into() });
        }
        for user in self.binds.iter().chain(&run.shown) {
            steps.push(Step::Bind { source: user.source.clone(), target: user.target.clone(), read_only: user.read_only });
        }
        if let Some(contents) = &self.synced {
            steps.push(Step::File { path: synced::SESSION_FILE.into(), contents: contents.clone(), mode: 0o644 });
        }
        steps.push(Step::ConfigurationDirectory { name: "make.conf".to_owned() });
        steps.push(Step::File { path: SESSION_CONF.into(), contents: self.settings(), mode: 0o644 });
        steps.extend(self.settings_of_packages());
        if let (Network::Host, Some(text)) = (run.network, &self.resolv_conf) {
            steps.push(Step::File { path: RESOLV_CONF.into(), contents: text.clone(), mode: 0o644 });
        }
        steps.push(Step::PivotRoot);
        Plan {
            hostname: run.hostname.clone(),
            network: run.network,
            steps,
            command: CommandLine {
                argv: if run.in_memory.is_some() { InMemory::around(&run.argv) } else { run.argv.clone() },
                env: environment(run, &self.session_conf),
                // Portage reads `profile.env` by itself, with the lowest priority. In the environment it would have the highest.
                login: run.argv.first().is_none_or(|program| program != "emerge"),
                cwd: "/root".into(),
            },
            terminal: run.terminal,
        }
    }

    /// Whether `run` sees directories of the host that the user shows it.
    pub(crate) fn shows_host(&self, run: &Run) -> bool {
        !self.binds.is_empty() || run.shown.is_some()
    }

    fn settings_of_packages(&self) -> Vec<Step> {
        let file = |path: &str, contents| Step::File { path: path.into(), contents, mode: 0o644 };
        let Some(lines) = self.session_conf.package_env() else {
            // A session that goes on may have it from before.
            return vec![Step::Remove { path: PACKAGE_ENV.into() }];
        };
        let directory = Step::ConfigurationDirectory { name: "package.env".to_owned() };
        let files = self.session_conf.package_env_files().into_iter().map(|(path, text)| file(&path, text));
        [directory, file(PACKAGE_ENV, lines)].into_iter().chain(files).collect()
    }

    fn settings(&self) -> String {
        let text = SessionConf { fetching: Some(self.ways.conf.clone()), ..self.session_conf.clone() }.render();
        if self.binhost.is_some() { text + &crate::session::binhost::settings() } else { text }
    }

    /// Whether something in the session has changed `/etc/portage`. If we cannot tell, it counts as changed.
    pub(crate) fn has_own_configuration(&self) -> bool {
        let ours = session_files().map(|path| path.trim_start_matches(ETC_PORTAGE).trim_start_matches('/'));
        match TreeDir::open(&self.upper).and_then(|upper| upper.open_dir("etc/portage")) {
            Ok(dir) => !matches!(holds_only(&dir, &ours), Ok(true)),
            Err(error) => !error.is_absent(),
        }
    }

    /// What must be removed before the upper directory becomes a layer.
    pub(crate) fn litter(&self) -> Litter {
        let mut directories: Vec<String> = self.trees.iter().map(|(location, _)| location.display().to_string()).collect();
        directories.extend([DISTDIR, PKGDIR, BUILD_DIR, REPOS_DIR, "/proc", "/sys", "/dev", "/run", "/tmp"].map(str::to_owned));
        if self.binhost.is_some() {
            directories.extend([crate::session::binhost::PACKAGES, crate::session::binhost::INDEX].map(str::to_owned));
        }
        if self.synced.is_some() {
            directories.push(synced::REPOS_CONF.to_owned());
        }
        if self.kernel_tree.is_some() {
            directories.push(SOURCES_DIR.to_owned());
        }
        directories.push(format!("{ETC_PORTAGE}/package.env"));
        directories.extend(self.binds.iter().map(|bind| bind.target.display().to_string()));
        Litter {
            upper: self.upper.clone(),
            lower: self.lower.clone(),
            files: session_files()
                .map(|path| LitterFile { path: path.to_owned(), only_if: None })
                .into_iter()
                .chain([LitterFile { path: RESOLV_CONF.to_owned(), only_if: Some(self.resolv_conf.clone().unwrap_or_default()) }])
                .collect(),
            directories,
            outside: [&self.work, &self.scratch, &self.status, &self.logs, &self.configuration, &self.ways.distdir]
                .into_iter()
                .chain(self.packages.as_ref().map(|packages| &packages.work))
                .chain(self.ccache.as_ref().map(|[_, own]| own))
                .chain(self.kernel_tree.iter().flat_map(|tree| [&tree.upper, &tree.work]))
                .cloned()
                .collect(),
        }
    }
}

/// Whether a tree has only these files.
fn holds_only(dir: &TreeDir, allowed: &[&str]) -> crate::beneath::Result<bool> {
    let mut walk = dir.walk()?;
    loop {
        while let Some(entry) = walk.next_name() {
            if entry.is_dir() {
                walk.enter(&entry.name)?;
            } else if !allowed.iter().any(|path| path.as_bytes() == walk.relative(&entry.name)) {
                return Ok(false);
            }
        }
        if walk.leave()?.is_none() {
            return Ok(true);
        }
    }
}

/// The environment of a session. Nothing is inherited.
fn environment(run: &Run, conf: &SessionConf) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "root"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"),
        ("SHELL", "/bin/bash"),
        ("USER", "root"),
    ]
    .into_iter()
    .chain(conf.environment())
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in &run.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    env
}

/// Files and directories in the upper directory that are not part of the session's work.
///
/// A directory is removed if it is empty and no layer below has one of that name; then its parents in the same way. If a file is removed,
/// the one of the layers below is visible again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Litter {
    /// The upper directory. Its overlay must be gone.
    pub upper: PathBuf,
    /// The layers below, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Files to remove.
    pub files: Vec<LitterFile>,
    /// Absolute paths inside the root.
    pub directories: Vec<String>,
    /// Directories of the session outside of its upper directory. Other ids may own files in them, so the task removes them before the
    /// session goes.
    pub outside: Vec<PathBuf>,
}

/// A file that only a session needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LitterFile {
    /// Absolute path inside the root.
    pub path: String,
    /// Remove the file only if it has exactly these contents. Anything else is the session's work.
    pub only_if: Option<String>,
}

/// The directories through which a session gets files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways {
    /// The script and the socket.
    pub fetch: PathBuf,
    /// The session's own `DISTDIR`.
    pub distdir: PathBuf,
    /// The user's source archives.
    pub distfiles: PathBuf,
    /// Packages and indexes of binary package hosts.
    pub packages: PathBuf,
    /// The settings in its `make.conf` for this.
    pub conf: crate::portage::session_conf::Fetching,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            lower: vec!["/s/layers/b/fs".into(), "/s/layers/a/fs".into()],
            proc: Proc::New,
            upper: "/s/sessions/x/layer/fs".into(),
            work: "/s/sessions/x/work".into(),
            mountpoint: "/s/sessions/x/root".into(),
            trees: vec![("/var/db/repos/gentoo".into(), "/s/trees/t/fs".into())],
            ways: Ways {
                fetch: "/s/sessions/x/fetch".into(),
                distdir: "/s/sessions/x/distdir".into(),
                distfiles: "/c/distfiles".into(),
                packages: "/s/sessions/x/fetched".into(),
                conf: crate::portage::session_conf::Fetching {
                    command: "fetch".to_owned(),
                    mirror: "http://mirror.invalid".to_owned(),
                    read_only: seen::DISTFILES.to_owned(),
                    protocols: std::collections::BTreeSet::new(),
                },
            },
            packages: Some(Packages {
                pools: vec!["/c/binpkgs/p".into()],
                own: "/s/sessions/x/binpkgs".into(),
                work: "/s/sessions/x/binpkgs.work".into(),
            }),
            ccache: None,
            binhost: None,
            hooks: "/s/sessions/x/hooks".into(),
            portage: "/s/sessions/x/portage".into(),
            status: "/s/sessions/x/status".into(),
            logs: "/s/sessions/x/logs".into(),
            scratch: "/s/sessions/x/scratch".into(),
            scratch_below: None,
            session_conf: SessionConf::new(2),
            resolv_conf: Some("nameserver 192.0.2.1\n".into()),
            pipes: vec![("/s/sessions/x/jobserver".into(), "/dev/shm/gentoomuch-jobserver".to_owned())],
            kernel_tree: None,
            configuration: "/s/sessions/x/configuration".into(),
            binds: vec![UserBind { source: "/home/me/src".into(), target: "/mnt/src".into(), read_only: true }],
            synced: Some("[over]\nsync-type =\n".to_owned()),
        }
    }

    fn run(network: Network) -> Run {
        Run {
            argv: vec!["emerge".into(), "--info".into()],
            env: vec![("LANG".into(), "C".into())],
            network,
            terminal: false,
            hostname: "gentoomuch".into(),
            shown: None,
            in_memory: None,
        }
    }

    #[test]
    fn the_plan_of_a_build_reads_like_prose() {
        insta::assert_snapshot!(root().plan(&run(Network::None)).to_string());
    }

    #[test]
    fn only_runs_with_the_network_get_its_resolver() {
        let has_resolver = |network| {
            let plan = root().plan(&run(network));
            plan.steps.iter().any(|step| matches!(step, Step::File { path, .. } if path == Path::new(RESOLV_CONF)))
        };
        assert!(has_resolver(Network::Host));
        assert!(!has_resolver(Network::None));
    }

    #[test]
    fn a_variable_given_for_a_run_replaces_the_standard_one() {
        let env = root().plan(&run(Network::None)).command.env;
        assert_eq!(env.iter().filter(|(name, _)| name == "LANG").map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["C"]);
    }
}
