//! What every command needs: places, the caller's identity, progress, and the environment, which only this file reads.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gentoomuch::places::{Places, absolute};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Global, LogFormat};
use crate::progress::Progress;
use crate::report::{Failure, Kind};

/// Everything a command gets besides its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) places: Places,
    pub(crate) progress: Arc<Progress>,
    /// The directory the program was started in.
    pub(crate) cwd: PathBuf,
}

impl Context {
    /// Resolves places from flags, `GENTOOMUCH_*` and XDG variables, and starts logging.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let progress = Arc::new(Progress::new(global));
        start_logging(global, &progress);
        let cwd =
            env::current_dir().map_err(|error| Failure::new(Kind::Other, error).about("cannot tell the current directory"))?;
        let place = |flag: &Option<PathBuf>, xdg: &str, below_home: &str| -> Result<PathBuf, Failure> {
            if let Some(path) = flag {
                return Ok(absolute(path, &cwd));
            }
            // The XDG specification: relative values are invalid and to be ignored.
            if let Some(base) = env::var_os(xdg).map(PathBuf::from).filter(|path| path.is_absolute()) {
                return Ok(base.join("gentoomuch"));
            }
            match env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
                Some(home) => Ok(home.join(below_home).join("gentoomuch")),
                None => {
                    Err(Failure::message(Kind::Usage, format!("cannot tell where `{below_home}/gentoomuch` is: `HOME` is not set"))
                        .hint(format!("set `HOME` or `{xdg}`, or give the directory with an option (see `--help`)")))
                }
            }
        };
        let places = Places {
            config: place(&global.config, "XDG_CONFIG_HOME", ".config")?,
            data: place(&global.data, "XDG_DATA_HOME", ".local/share")?,
            cache: place(&global.cache, "XDG_CACHE_HOME", ".cache")?,
        };
        Ok(Self { global: global.clone(), places, progress, cwd })
    }

    /// A path the user gave, made absolute.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        absolute(path, &self.cwd)
    }
}

/// Diagnostics go where progress goes, so that a bar and a line never share a row.
#[derive(Debug, Clone)]
struct LogWriter(Arc<Progress>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.raw(bytes);
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
            .with(
                tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(progress.color()).with_target(false).without_time(),
            )
            .try_init(),
        LogFormat::Json => registry.with(tracing_subscriber::fmt::layer().json().with_writer(writer)).try_init(),
    };
    drop(started);
}
