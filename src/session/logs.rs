//! Logs of one job: where they are, and how those of single packages are read.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath::{Plain, TreeDir};
use crate::causes::in_one_line;
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::session::readable_files::write_public;
use crate::session::root::LOG_DIR;
use crate::session::{Error, Result};
use crate::store::{Session, SessionRecord};

/// How much of the end of a package's log is read.
pub(crate) const LOG_TAIL_BYTES: u64 = 256 * 1024;

/// Beside a session's directories, and never visible in the session: a [`LiveLogs`].
const LIVE: &str = "logs.json";

/// A directory for the logs of one job. If nothing was written there, it is removed in the end.
#[derive(Debug)]
pub(crate) struct LogDir {
    path: PathBuf,
    /// Locked as long as something is written to it, whatever becomes of this process. `None` where directories cannot be locked.
    _lock: Option<fs::File>,
}

impl LogDir {
    fn of(path: PathBuf) -> Self {
        let locked = |file: &fs::File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let lock = fs::File::open(&path).ok().filter(locked);
        Self { path, _lock: lock }
    }
}

/// Whether somebody still writes to a directory of logs.
pub(crate) fn is_written_to(dir: &TreeDir) -> bool {
    // Opened anew, since a lock belongs to who opened the directory.
    let locked = |file: TreeDir| flock(file.as_fd(), FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
    dir.open_dir(".").is_ok_and(locked)
}

/// Where the logs of a session are while it runs, and where they come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LiveLogs {
    /// The directory of its job.
    pub(crate) job: PathBuf,
    /// `PORTAGE_LOGDIR` of the session, as the host sees it.
    pub(crate) logs: PathBuf,
}

impl LiveLogs {
    /// Written down, so that somebody else can follow them. If that does not work, nobody can, and nothing else is lost.
    pub(crate) fn note(&self, session: &Session) {
        if let Err(error) = write_public(&session.path(LIVE), serde_json::json!(self).to_string().as_bytes(), 0o644) {
            tracing::warn!("the logs cannot be followed: {}", in_one_line(&error));
        }
    }
}

/// The live logs of the session whose job logs to `job`.
pub(crate) fn live_logs(cx: &Context<'_>, job: &Path) -> Result<Option<LiveLogs>, crate::store::Error> {
    let of = |record: SessionRecord| serde_json::from_slice::<LiveLogs>(&cx.store.session_file(&record.id, LIVE)?).ok();
    Ok(cx.store.sessions()?.into_iter().rev().filter_map(of).find(|live| live.job == job))
}

impl std::ops::Deref for LogDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        // If there are logs, both calls fail, and the directory stays.
        drop(fs::remove_dir(self.path.join("packages")));
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::debug!("kept logs in {}: {error}", self.path.display());
        }
    }
}

/// A new directory for logs: `logs/WHAT-20261122T083102Z`, with a number if the name is taken.
pub(crate) fn log_dir(cx: &Context<'_>, what: &str) -> Result<LogDir> {
    let logs = cx.places.logs();
    fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let stamp = crate::clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = format!("{}-{stamp}", what.replace('/', "-"));
    for number in 0.. {
        let dir = logs.join(if number == 0 { name.clone() } else { format!("{name}-{number}") });
        match fs::create_dir(&dir) {
            Ok(()) => {
                let dir = LogDir::of(dir);
                let packages = dir.join("packages");
                fs::create_dir(&packages).map_err(Error::io("create", &packages))?;
                return Ok(dir);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("create", dir)(source)),
        }
    }
    unreachable!("one of all numbers is free")
}

/// A package's log by its path inside the session. Both path and file may be hostile.
pub(crate) fn open_package_log(logs: &Path, inside: &Path) -> Option<Plain> {
    let relative = inside.strip_prefix(LOG_DIR).ok()?;
    TreeDir::open(logs).and_then(|logs| logs.open_file(relative)).ok()
}

/// Where a package's log is on the host, if it was kept. The session has named `inside`, so neither `..` nor a link is followed.
pub(crate) fn package_log(logs: &Path, inside: &Path) -> Option<PathBuf> {
    open_package_log(logs, inside)?;
    Some(logs.join(inside.strip_prefix(LOG_DIR).ok()?))
}

/// The end of a package's log.
pub(crate) fn read_package_log(logs: &Path, inside: &Path) -> Option<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut log = open_package_log(logs, inside)?;
    log.file.seek(SeekFrom::Start(log.size().saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    log.file.take(LOG_TAIL_BYTES).read_to_end(&mut tail).ok()?;
    Some(tail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_log_is_named_only_if_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir_all(logs.join("build/a")).unwrap();
        fs::create_dir_all(logs.join("tmp")).unwrap();
        for path in ["secret", "logs/build/a/x.log", "logs/secret", "logs/tmp/x.log"] {
            fs::write(dir.path().join(path), "text").unwrap();
        }
        // Within the logs it leads to `logs/tmp`, on the host to another directory.
        symlink("/tmp", logs.join("elsewhere")).unwrap();
        symlink("../secret", logs.join("link.log")).unwrap();
        for (inside, named) in [
            ("/run/gentoomuch/logs/build/a/x.log", Some("build/a/x.log")),
            ("/run/gentoomuch/logs/../secret", None),
            ("/run/gentoomuch/logs/build/../build/a/x.log", None),
            ("/run/gentoomuch/logs/elsewhere/x.log", None),
            ("/run/gentoomuch/logs/link.log", None),
            ("/run/gentoomuch/logs/build", None),
            ("/run/gentoomuch/logs/none.log", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(package_log(&logs, Path::new(inside)), named.map(|name| logs.join(name)), "{inside}");
        }
    }
}
