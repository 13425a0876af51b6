//! What every command needs: places, the caller's identity, progress, and the environment, which only this file reads.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::SystemTime;
use std::{env, io};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::{Global, LogFormat};
use crate::cli::progress::Progress;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Shown as _, Text};
use crate::config::ConfigDir;
use crate::context::User;
use crate::download::{Downloader, Proxies, Url};
use crate::git::Git;
use crate::places::{Closed, Places, absolute};
use crate::progress::{Event, Observer as _};
use crate::rsync::Rsync;
use crate::sandbox::Interrupt;
use crate::stage3::VerifyOptions;
use crate::stage3::keys::{GENTOO, TrustedKeys};
use crate::stage3::sign::Gpg;
use crate::trees::Programs;
use crate::{download, registry, release, slurm};

/// Where distributions keep the authorities whose certificates count: Debian and Gentoo, Fedora, openSUSE, Alpine.
const AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// Everything a command gets besides its own arguments.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) global: Global,
    pub(crate) places: Places,
    pub(crate) progress: Arc<Progress>,
    /// The directory the program was started in.
    pub(crate) cwd: PathBuf,
}

impl Invocation {
    /// Resolves places from flags, `GENTOOMUCH_*` and XDG variables, closes them to others, and starts logging. What is missing of them is
    /// made if something may be kept there.
    pub(crate) fn new(global: &Global, keeps_things: bool) -> Result<Self, Failure> {
        let progress = Arc::new(Progress::new(global));
        start_logging(global, &progress);
        let cwd = env::current_dir().map_err(|error| {
            Failure::new(Kind::Other, error)
                .about("cannot find the current directory")
                .hint("it was removed: `cd` to one that is there")
        })?;
        let place = |flag: &Option<PathBuf>, xdg: &str, below_home: &str| {
            place(flag.as_deref(), &cwd, xdg, below_home).ok_or_else(|| {
                Failure::message(Kind::Usage, format!("cannot find `{below_home}/gentoomuch`: `HOME` is not set"))
                    .hint(format!("set `HOME` or `{xdg}`, or give the directory with an option (see `--help`)"))
            })
        };
        let places = Places {
            config: place(&global.config, "XDG_CONFIG_HOME", ".config")?,
            data: place(&global.data, "XDG_DATA_HOME", ".local/share")?,
            cache: place(&global.cache, "XDG_CACHE_HOME", ".cache")?,
        };
        for Closed { path, mode } in places.close(Self::user().owner(), keeps_things)? {
            progress.event(&Event::Note(&format!("closed `{}` to other users: its mode was {mode:04o}", path.shown())));
        }
        Ok(Self { global: global.clone(), places, progress, cwd })
    }

    /// The same with other directories.
    pub(crate) fn at(&self, places: Places) -> Self {
        Self { global: self.global.clone(), places, progress: Arc::clone(&self.progress), cwd: self.cwd.clone() }
    }

    /// Where a job of a cluster finds itself.
    pub(crate) fn cluster_job() -> slurm::Here {
        // Somebody may run by hand what a job would run.
        let number = |name: &str| env::var(name).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let job = match (number("SLURM_ARRAY_JOB_ID"), number("SLURM_ARRAY_TASK_ID")) {
            (Some(array), Some(task)) => Some(format!("{array}_{task}")),
            _ => number("SLURM_JOB_ID"),
        };
        slurm::Here { job: job.unwrap_or_else(|| format!("by-hand-{}", std::process::id())), tmp: env::temp_dir() }
    }

    /// Who runs this.
    pub(crate) fn user() -> User {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let known = nix::unistd::User::from_uid(uid).ok().flatten();
        // Without an entry in the user database the number is the name that `/etc/subuid` may use.
        let name = known.map_or_else(|| uid.to_string(), |user| user.name);
        let group = nix::unistd::Group::from_gid(gid).ok().flatten();
        // As distributions make one for each user.
        let alone_in_group = group.is_some_and(|group| group.name == name && group.mem.iter().all(|member| *member == name));
        User { uid: uid.as_raw(), gid: gid.as_raw(), name, alone_in_group }
    }

    /// Where programs are looked for: `PATH`, then the usual places, which it may lack in a service.
    pub(crate) fn search_path() -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            env::var_os("PATH").map(|path| env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()).unwrap_or_default();
        for usual in ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
            if !dirs.iter().any(|dir| dir == Path::new(usual)) {
                dirs.push(usual.into());
            }
        }
        dirs
    }

    /// The configuration directory, which must exist.
    pub(crate) fn config(&self) -> Result<ConfigDir, Failure> {
        Ok(ConfigDir::open(&self.places.config)?)
    }

    /// The keys that this configuration trusts.
    pub(crate) fn trusted_keys(&self) -> Result<TrustedKeys, Failure> {
        load_keys(self)
    }

    /// How to verify, with the present time.
    pub(crate) fn verify_options(allow_unsigned: Option<&String>, accept_expired: bool) -> Result<VerifyOptions, Failure> {
        if allow_unsigned.is_some_and(|reason| reason.trim().is_empty()) {
            return Err(Failure::message(Kind::Usage, "`--allow-unsigned` needs a reason")
                .hint("it is recorded in everything that is built from this"));
        }
        Ok(VerifyOptions { now: now_secs(), allow_unsigned: allow_unsigned.cloned(), accept_expired })
    }

    /// How to download: `--offline`, and the variables that curl and wget read, too. (`HTTP_PROXY` in capitals is not among them: a
    /// CGI program's caller can set it.)
    pub(crate) fn download_settings(&self) -> download::Settings {
        let variable = |names: &[&str]| {
            names.iter().find_map(|name| env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()))
        };
        let proxies = Proxies {
            http: variable(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: variable(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            none: variable(&["no_proxy", "NO_PROXY"]).unwrap_or_default(),
        };
        let authorities = match variable(&["SSL_CERT_FILE"]) {
            Some(file) => vec![self.path(Path::new(&file))],
            None => AUTHORITIES.iter().map(PathBuf::from).filter(|path| path.is_file()).take(1).collect(),
        };
        download::Settings { offline: self.global.offline, proxies, authorities, ..download::Settings::default() }
    }

    /// Who the user is to registries: by the files that podman, skopeo and docker read.
    pub(crate) fn registries(&self) -> registry::Sources {
        let files = registry::usual_files(&|name| env::var_os(name)).iter().map(|path| self.path(path)).collect();
        registry::Sources { files, environment: env::vars_os().collect() }
    }

    /// Asks servers; ends when the user wants to stop, if an [`Interrupt`] counts.
    pub(crate) fn downloader(&self) -> Downloader {
        Downloader::new(self.download_settings(), Arc::new(Interrupt::asked))
    }

    /// The mirrors to ask: those given, else the configuration's, else Gentoo's.
    pub(crate) fn mirrors(&self, given: &[Url]) -> Result<Vec<Url>, Failure> {
        if !given.is_empty() {
            return Ok(given.to_vec());
        }
        let official = || release::OFFICIAL.parse().map(|url| vec![url]).map_err(|error| download::Error::Url(error).into());
        // Fetching needs no configuration directory, but one that is there has to be right.
        let configured = match ConfigDir::open(&self.places.config) {
            Ok(config) => config.global_variable("GENTOO_MIRRORS")?,
            Err(crate::config::Error::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(configured) = configured else { return official() };
        let (mirrors, others) = release::mirrors_of(&configured.value);
        if mirrors.is_empty() && !others.is_empty() {
            let text =
                format!("{}: GENTOO_MIRRORS has no `http` or `https` address: using {}", configured.place(), release::OFFICIAL);
            self.progress.event(&Event::Warning(&text));
        }
        if mirrors.is_empty() { official() } else { Ok(mirrors) }
    }

    /// The user's own `gpg`, with the environment that agents, smartcards and pinentry need.
    pub(crate) fn gpg() -> Gpg {
        let mut environment: Vec<_> = env::vars_os().collect();
        if let Some(terminal) = terminal() {
            environment.retain(|(name, _)| name != "GPG_TTY");
            environment.push(("GPG_TTY".into(), terminal));
        }
        Gpg { program: "gpg".into(), environment, key: None }
    }

    /// Whether the user has ever used GnuPG. Who only asks would make its directory.
    pub(crate) fn has_gnupg() -> bool {
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".gnupg"));
        env::var_os("GNUPGHOME").map(PathBuf::from).or(home).is_some_and(|dir| dir.is_dir())
    }

    /// The user's own `git`, with the environment that its filters need.
    pub(crate) fn git() -> Git {
        Git { program: "git".into(), environment: env::vars_os().collect(), scratch: env::temp_dir() }
    }

    /// The programs that bring trees.
    pub(crate) fn programs() -> Programs {
        Programs { git: Self::git(), rsync: Rsync { program: "rsync".into(), environment: env::vars_os().collect() } }
    }

    /// How much to do at the same time: as asked for, else as configured, else one for each processor.
    pub(crate) fn jobs(asked: Option<u32>, config: &ConfigDir) -> Result<Option<u32>, Failure> {
        if asked == Some(0) {
            return Err(Failure::message(Kind::Usage, "`--jobs` must be at least 1"));
        }
        let configured = config.env(crate::cli::invocation::host_arch())?.resources.jobs.map(|jobs| jobs.value);
        Ok(asked.or(configured))
    }

    /// Whether a variable says `true`, as a runner's do that tell programs where they run.
    pub(crate) fn is_true(name: &str) -> bool {
        env::var(name).is_ok_and(|value| value == "true")
    }

    /// Prints several failures, each with what the only one would have, before the command fails because of them.
    pub(crate) fn say_all(&self, failures: Vec<Failure>) {
        for failure in failures {
            self.progress.write(&crate::cli::report::rendered(failure.space_hint(&self.places.data), &self.global));
        }
    }

    /// Complains about a file that was named and is not there, before anything is done.
    pub(crate) fn given_file(path: &Path) -> Result<(), Failure> {
        match std::fs::metadata(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(Kind::Usage, error).about(format!("cannot open `{}`", path.shown()))),
        }
    }

    /// A path the user gave, made absolute.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        absolute(path, &self.cwd)
    }
}

/// The terminal in use: what pinentry asks on. A `GPG_TTY` that was set may be that of another window.
fn terminal() -> Option<OsString> {
    fn name(fd: impl AsFd) -> Option<OsString> {
        let name = rustix::termios::ttyname(fd, Vec::new()).ok()?;
        Some(OsString::from_vec(name.into_bytes()))
    }
    name(io::stdin()).or_else(|| name(io::stderr())).or_else(|| name(io::stdout()))
}

/// Diagnostics go where progress goes, so that a bar and a line never share a row.
#[derive(Debug, Clone)]
struct LogWriter(Arc<Progress>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One line is written at once. It may hold what files are called.
        let line = String::from_utf8_lossy(bytes);
        self.0.write(&Text::line(line.trim_end_matches('\n')).words("\n"));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn start_logging(global: &Global, progress: &Arc<Progress>) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let writer = LogWriter(Arc::clone(progress));
    let registry = tracing_subscriber::registry().with(level);
    // A second subscriber in one process can only come from a test harness; the first one stays.
    let started = match global.log_format {
        LogFormat::Text => registry
            .with(tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).with_target(false).without_time())
            .try_init(),
        LogFormat::Json => registry.with(tracing_subscriber::fmt::layer().json().with_writer(writer)).try_init(),
    };
    drop(started);
}

/// The keys of this configuration.
/// A directory of ours: as given, else below `$XDG_…`, else below the home directory. `None` without any of them.
pub(crate) fn place(given: Option<&Path>, cwd: &Path, xdg: &str, below_home: &str) -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // The XDG specification: relative values are invalid and to be ignored.
    let base = || variable(xdg).or_else(|| Some(variable("HOME")?.join(below_home)));
    given.map(|path| absolute(path, cwd)).or_else(|| Some(base()?.join("gentoomuch")))
}

pub(crate) fn load_keys(invocation: &Invocation) -> Result<TrustedKeys, Failure> {
    TrustedKeys::load(&invocation.places.keys(), GENTOO).map_err(Failure::from)
}

/// The present, seconds since 1970.
pub(crate) fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Processors that this process may use.
pub(crate) fn processors() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)))
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
