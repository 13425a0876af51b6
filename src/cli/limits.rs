//! Options that limit what a session may use, for all commands that run one.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::limits::{Asked, Bound, Host, Limits, NotALimit};

const HEADING: &str = "Limits";

/// What a session may use. (Each argument names its heading: a heading of the group would hold for what a command has after it, too.)
/// Without an option the line in `env/limits` counts, else a limit that no real build meets.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct LimitArgs {
    /// Memory that the session may use: `8G`, or `none` [default: nine tenths of the machine's memory]
    #[arg(long, help_heading = HEADING, value_name = "SIZE", value_parser = memory)]
    memory: Option<Bound>,
    /// Processes and threads that the session may have, or `none` [default: half of what the machine can have, at most 16384]
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = pids)]
    pids: Option<Bound>,
    /// Number of processors that the session may use, or `none` [default: all]
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = cpus)]
    cpus: Option<Bound>,
    /// How long the session may take: `90m`, `6h`, or `none` [default: none]
    #[arg(long, help_heading = HEADING, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Bound>,
}

fn memory(text: &str) -> Result<Bound, NotALimit> {
    Bound::memory(text)
}

fn pids(text: &str) -> Result<Bound, NotALimit> {
    Bound::pids(text)
}

fn cpus(text: &str) -> Result<Bound, NotALimit> {
    Bound::cpus(text)
}

fn timeout(text: &str) -> Result<Bound, NotALimit> {
    Bound::timeout(text)
}

impl LimitArgs {
    /// What the options say.
    pub(crate) fn asked(self) -> Asked {
        Asked { memory: self.memory, pids: self.pids, cpus: self.cpus, timeout: self.timeout }
    }
}

/// The usual limits on this machine, or in this container.
pub(crate) fn usual() -> Limits {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| read(path).trim().parse::<u64>().ok();
    let threads = [number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max"), own_processes()];
    Limits::of_host(Host { memory_bytes: memory_bytes(), pids: threads.into_iter().flatten().min() })
}

/// Memory of this machine, or of this container if it may have less.
pub(crate) fn memory_bytes() -> Option<u64> {
    static FOUND: OnceLock<Option<u64>> = OnceLock::new();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    *FOUND.get_or_init(|| {
        let total = read("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024));
        total.into_iter().chain(container_bytes(&read("/proc/self/cgroup"))).min()
    })
}

/// How many processes this user may have.
fn own_processes() -> Option<u64> {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).ok()?;
    (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
}

/// The least memory that a control group above this process allows, where those are mounted as usual.
fn container_bytes(own: &str) -> Option<u64> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = PathBuf::from("/sys/fs/cgroup").join(own);
    let limits = group.ancestors().take_while(|dir| dir.starts_with("/sys/fs/cgroup"));
    limits.filter_map(|dir| fs::read_to_string(dir.join("memory.max")).ok()?.trim().parse().ok()).min()
}
