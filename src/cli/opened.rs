//! Opens what commands that build or look at the store need: the id map, the store, the sandbox's launcher, Ctrl-C.

use std::fs;
use std::sync::Arc;

use crate::cli::args::Wanted;
use crate::cli::invocation::{Invocation, host_arch, processors};
use crate::cli::limits;
use crate::cli::limits::LimitArgs;
use crate::cli::report::Failure;
use crate::config::ConfigDir;
use crate::config::resources::Resources;
use crate::context::{Context, RemoteSettings, Settings, Tools};
use crate::limits::{Asked, Limits};
use crate::progress::{Event, Observer as _};
use crate::remote;
use crate::sandbox::{HelperSource, Interrupt};
use crate::stage3::sign::Gpg;

/// The tools of one command, and what it has configured.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    invocation: &'a Invocation,
    pub(crate) tools: Tools,
    limits: Limits,
    ccache: Option<u64>,
    resources: Resources,
    remote: Option<Arc<RemoteSettings>>,
}

impl<'a> Opened<'a> {
    /// Checks the host cheaply, opens the store (making it if need be) and removes what killed runs left.
    pub(crate) fn open(invocation: &'a Invocation) -> Result<Self, Failure> {
        Self::open_interruptible(invocation, Interrupt::install()?)
    }

    /// The same for somebody who has begun earlier to heed Ctrl-C and SIGTERM.
    pub(crate) fn open_interruptible(invocation: &'a Invocation, interrupt: Interrupt) -> Result<Self, Failure> {
        // Others are told who holds a lock: for them, words will do.
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let (user, search_path) = (Invocation::user(), Invocation::search_path());
        let isolation = invocation.global.isolation;
        let tools = Tools::open_interruptible(
            interrupt,
            &invocation.places,
            &user,
            HelperSource::CurrentExe,
            search_path,
            &command,
            isolation,
        )?;
        // Who only looks has no use for a complaint about a line of `env/limits`; who builds gets it from `limited`.
        let configured = configured_limits(invocation).unwrap_or_default();
        let ccache = configured_ccache(invocation).unwrap_or_default();
        let resources = configured_resources(invocation).unwrap_or_default();
        Ok(Self { invocation, tools, limits: configured.over(limits::usual()), ccache, resources, remote: None })
    }

    /// Opens what a command needs that works in sessions, with what the user wants them to be limited to.
    pub(crate) fn for_sessions(invocation: &'a Invocation, limits: LimitArgs) -> Result<Self, Failure> {
        Self::open(invocation)?.limited(limits)?.entered()
    }

    /// The same where one session is all the work: the sandbox is entered while it is prepared.
    pub(crate) fn for_one_session(invocation: &'a Invocation, limits: LimitArgs) -> Result<Self, Failure> {
        let opened = Self::open(invocation)?;
        opened.tools.prepare()?;
        let opened = opened.limited(limits)?;
        opened.tell_isolation();
        Ok(opened)
    }

    /// Enters the sandbox now: a host that does not allow it is told before anything is fetched or unpacked.
    pub(crate) fn entered(self) -> Result<Self, Failure> {
        self.enter()?;
        Ok(self)
    }

    /// The same, once it is known that there is work.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        self.tools.enter()?;
        self.tell_isolation();
        Ok(())
    }

    fn tell_isolation(&self) {
        let isolation = self.tools.launcher.isolation();
        match isolation.weakness() {
            Some(weakness) => {
                self.invocation.progress.event(&Event::Note(&format!("isolation `{}`: {weakness}", isolation.rung())));
            }
            None => tracing::info!("isolation `{}`", isolation.rung()),
        }
    }

    /// The same with what the user wants sessions to be limited to.
    pub(crate) fn limited(self, args: LimitArgs) -> Result<Self, Failure> {
        let limits = args.asked().or(configured_limits(self.invocation)?).over(limits::usual());
        tracing::debug!(?limits, "sessions");
        let ccache = configured_ccache(self.invocation)?;
        let resources = configured_resources(self.invocation)?;
        let remote = remote(self.invocation)?;
        Ok(Self { limits, ccache, resources, remote, ..self })
    }

    /// Opens what a command about the remote needs; that there is none is an error.
    pub(crate) fn for_remote(invocation: &'a Invocation) -> Result<Self, Failure> {
        let Some(remote) = remote(invocation)? else { return Err(remote::Error::None.into()) };
        Ok(Self { remote: Some(remote), ..Self::open(invocation)? })
    }

    /// What workflows are called with. Without `jobs` the configuration says how many there are, then the number of processors.
    pub(crate) fn context(&self, jobs: Option<u32>) -> Context<'_> {
        let settings = Settings {
            jobs: jobs.or(self.resources.jobs.as_ref().map(|jobs| jobs.value)).unwrap_or_else(processors),
            processors: processors(),
            memory_bytes: limits::memory_bytes(),
            arch: host_arch().to_owned(),
            no_wait: self.invocation.global.no_wait,
            limits: self.limits,
            priority: self.resources.priority,
            package_jobs: self.resources.package_jobs.iter().map(|line| line.value.clone()).collect(),
            ccache: self.ccache,
            tmpfs: self.resources.tmpfs.clone(),
            resolv_conf: fs::read_to_string("/etc/resolv.conf").ok(),
            cpuinfo: fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
            source_date_epoch: std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok()),
            term: std::env::var("TERM").ok(),
            environment: std::env::vars_os().collect(),
            download: self.invocation.download_settings(),
            remote: self.remote.clone(),
            registries: self.invocation.registries(),
        };
        self.tools.context(self.invocation.progress.as_ref(), settings)
    }
}

/// The remote that the user wants: `--remote`, else what `env/remote` says; a configuration is not needed.
fn remote(invocation: &Invocation) -> Result<Option<Arc<RemoteSettings>>, Failure> {
    let (configured, key) = match ConfigDir::open(&invocation.places.config) {
        Ok(config) => config.remote()?,
        Err(_) => (None, None),
    };
    let pushes = configured.as_ref().is_some_and(|configured| configured.push);
    let states_only = configured.as_ref().filter(|configured| configured.states_only).map(|configured| configured.address.clone());
    let (address, push) = match &invocation.global.remote {
        Some(Wanted::None) => return Ok(None),
        // What is published by itself is published there only.
        Some(Wanted::At(address)) => {
            let is_same = configured.as_ref().is_some_and(|configured| configured.address == *address);
            (address.clone(), invocation.global.push || (is_same && pushes))
        }
        None => match configured {
            Some(configured) => (configured.address, invocation.global.push || pushes),
            None if invocation.global.push => return Err(remote::Error::None.into()),
            None => return Ok(None),
        },
    };
    let packages = states_only.as_ref() != Some(&address);
    let gpg = Gpg { key: key.map(|key| key.value), ..Invocation::gpg() };
    let keys = invocation.trusted_keys()?;
    Ok(Some(Arc::new(RemoteSettings::new(address, push, packages, gpg, keys))))
}

/// What `env/ccache` says; a configuration is not needed.
fn configured_ccache(invocation: &Invocation) -> Result<Option<u64>, Failure> {
    match ConfigDir::open(&invocation.places.config) {
        Ok(config) => Ok(config.ccache()?),
        Err(_) => Ok(None),
    }
}

/// What `env/jobs`, `env/nice` and `env/ionice` say; a configuration is not needed.
fn configured_resources(invocation: &Invocation) -> Result<Resources, Failure> {
    match ConfigDir::open(&invocation.places.config) {
        Ok(config) => Ok(config.resources()?),
        Err(_) => Ok(Resources::default()),
    }
}

/// What `env/limits` says; a configuration is not needed.
fn configured_limits(invocation: &Invocation) -> Result<Asked, Failure> {
    match ConfigDir::open(&invocation.places.config) {
        Ok(config) => Ok(config.limits()?),
        Err(_) => Ok(Asked::default()),
    }
}
