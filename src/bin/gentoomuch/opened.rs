//! Opens what commands that build or look at the store need: the id map, the store, the sandbox's launcher, Ctrl-C.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use gentoomuch::config::ConfigDir;
use gentoomuch::context::{Context, Settings, Told};
use gentoomuch::host;
use gentoomuch::limits::{Asked, Limits};
use gentoomuch::sandbox::{HelperSource, IdMap, Interrupt, Launcher};
use gentoomuch::store::Store;

use crate::invocation::Invocation;
use crate::limits;
use crate::limits::LimitArgs;
use crate::report::{Failure, Kind};

/// An open store and what is needed to work with it.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    invocation: &'a Invocation,
    pub(crate) store: Store,
    pub(crate) launcher: Launcher,
    pub(crate) interrupt: Interrupt,
    limits: Limits,
    told: Told,
}

impl<'a> Opened<'a> {
    /// Checks the host cheaply, opens the store (making it if need be) and removes what killed runs left.
    pub(crate) fn open(invocation: &'a Invocation) -> Result<Self, Failure> {
        Self::open_for(invocation, true)
    }

    /// The same for what may turn out to have nothing to do: the program of the helpers is not copied yet.
    pub(crate) fn open_idle(invocation: &'a Invocation) -> Result<Self, Failure> {
        Self::open_for(invocation, false)
    }

    fn open_for(invocation: &'a Invocation, prepare: bool) -> Result<Self, Failure> {
        let idmap = id_map()?;
        // Others are told who holds a lock: for them, words will do.
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let store = Store::open_as(&invocation.places.store(), &idmap, &command)?;
        let launcher = Launcher::new(HelperSource::CurrentExe, store.idmap().clone())?.search_in(Invocation::search_path());
        if prepare {
            launcher.prepare();
        }
        let interrupt = Interrupt::install()?;
        let recovered = store.recover(&launcher)?;
        if !recovered.is_nothing() {
            tracing::info!(?recovered, "removed what killed runs have left");
        }
        // Who only looks has no use for a complaint about a line of `env/limits`; who builds gets it from `limited`.
        let configured = configured_limits(invocation).unwrap_or_default();
        Ok(Self { invocation, store, launcher, interrupt, limits: configured.over(limits::usual()), told: Told::default() })
    }

    /// The same with what the user wants sessions to be limited to.
    pub(crate) fn limited(self, args: LimitArgs) -> Result<Self, Failure> {
        let limits = args.asked().or(configured_limits(self.invocation)?).over(limits::usual());
        tracing::debug!(?limits, "sessions");
        Ok(Self { limits, ..self })
    }

    /// The workflows.
    pub(crate) fn context(&self, jobs: Option<u32>) -> Context<'_> {
        Context {
            places: &self.invocation.places,
            store: &self.store,
            launcher: &self.launcher,
            observer: self.invocation.progress.as_ref(),
            interrupt: &self.interrupt,
            jobserver: None,
            told: &self.told,
            settings: Settings {
                jobs: jobs.unwrap_or_else(processors),
                processors: processors(),
                arch: host_arch().to_owned(),
                no_wait: self.invocation.global.no_wait,
                limits: self.limits,
                resolv_conf: fs::read_to_string("/etc/resolv.conf").ok(),
                cpuinfo: fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
                source_date_epoch: std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok()),
                term: std::env::var("TERM").ok(),
                download: self.invocation.download_settings(),
            },
        }
    }
}

/// What `env/limits` says; a configuration is not needed.
fn configured_limits(invocation: &Invocation) -> Result<Asked, Failure> {
    match ConfigDir::open(&invocation.places.config) {
        Ok(config) => Ok(config.limits()?),
        Err(_) => Ok(Asked::default()),
    }
}

/// Processors that this process may use.
pub(crate) fn processors() -> u32 {
    available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// Gentoo's keyword for this machine.
pub(crate) fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        "riscv64" => "riscv",
        "loongarch64" => "loong",
        "s390x" => "s390",
        other => other,
    }
}

/// The user's id map, after the cheap part of `doctor`.
pub(crate) fn id_map() -> Result<IdMap, Failure> {
    let user = Invocation::user();
    let ids = IdMap::for_user(user.uid, user.gid, &user.name, Path::new("/etc/subuid"), Path::new("/etc/subgid"));
    host::precheck(Path::new("/"), &Invocation::search_path()).map_err(|problem| {
        let hint = problem.remedy();
        Failure::new(Kind::Host, problem).about("this host cannot sandbox").hint(hint).hint("`gentoomuch doctor` checks everything")
    })?;
    ids.map_err(Failure::from)
}
