//! `logs -f`: a log while it is written.
//!
//! ```text
//! logs/RUN/                       locked by whoever builds, from its beginning to its end
//!   emerge.log, commands.log      ours: read here
//! sessions/ID/logs/…              of packages that are being built: files of the session's users, read by a task in their id map
//!   | once emerge has ended
//!   v
//! logs/RUN/packages/…
//! ```

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::beneath::{Plain, TreeDir};
use crate::context;
use crate::context::Context;
use crate::history::logs::{Log, Run, name_of};
use crate::history::{Error, Result};
use crate::path_error::OfFile as _;
use crate::sandbox::{TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::session::logs::{LiveLogs, is_written_to, live_logs};

/// Name of the task. It takes a [`FollowInput`] and the run's directory, and returns whether there was such a log.
const FOLLOW: &str = "logs.follow";
/// How often a log is looked at that has nothing new.
const LOOK: Duration = Duration::from_millis(100);
/// Longer lines come in pieces.
const PIECE_BYTES: usize = 16 * 1024;
/// `build/CATEGORY/…` with `FEATURES=split-log`.
const MAX_DEPTH: usize = 4;
/// No session has more.
const MOST_LOGS: usize = 100_000;

/// Input of [`FOLLOW`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FollowInput {
    /// `PORTAGE_LOGDIR` of the session, as the host sees it.
    dir: PathBuf,
    /// The package, as a user calls it.
    name: String,
}

pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    (name == FOLLOW).then_some(follow_task as TaskFn)
}

/// Whether somebody still builds it.
pub(crate) fn goes_on(run: &Run) -> bool {
    TreeDir::open(&run.dir).is_ok_and(|dir| is_written_to(&dir))
}

/// Gives each piece of a log of ours to `print`, until the build is over.
pub(crate) fn follow(cx: &Context<'_>, run: &Run, log: &Log, print: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    let dir = TreeDir::open(&run.dir)?;
    let path = run.dir.join(&log.file);
    let mut going = || cx.interrupt.count() == 0 && is_written_to(&dir);
    let ended = pieces(run.open(log)?, &mut going, print).map_err(|error| Error::io("read", &path)(error));
    context::not_interrupted(cx)?;
    ended
}

/// The same for the log of a package that is being built, or is going to be. False if it was not built.
pub(crate) fn follow_package(
    cx: &Context<'_>,
    run: &Run,
    name: &str,
    print: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<bool> {
    let Some(LiveLogs { logs, .. }) = live_logs(cx, &run.dir)? else { return Ok(false) };
    let dir: OwnedFd = std::fs::File::open(&run.dir).map_err(Error::io("open", &run.dir))?.into();
    let input = FollowInput { dir: logs, name: name.to_owned() };
    let options = TaskOptions { fds: vec![dir], cancel: Some(context::cancel(cx)?), ..TaskOptions::default() };
    let mut printed = Ok(());
    let found = context::task(cx, FOLLOW, &input, options, &mut |event| {
        if let (Ok(()), Some(text)) = (&printed, event.as_str()) {
            printed = print(text.as_bytes());
        }
    })?;
    printed.map_err(Error::io("print", &run.dir))?;
    Ok(found.as_bool().unwrap_or_default())
}

fn follow_task(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let FollowInput { dir, name } = context.input_as()?;
    let Some(run) = context.fds.pop() else {
        return Err(TaskFailure { kind: "logs".to_owned(), causes: vec!["no run to follow".to_owned()] });
    };
    let run = TreeDir::from_fd(run, "logs");
    let failed = |error: beneath::Error| TaskFailure::of("logs", &error);
    // The package may not have begun.
    let log = loop {
        // In this order: the end of the run must not hide a log of its last moment.
        let going = is_written_to(&run);
        match newest(&dir, &name) {
            Ok(Some(log)) => break log,
            Ok(None) if going => std::thread::sleep(LOOK),
            Ok(None) => return Ok(false.into()),
            Err(error) if error.is_no_such_file() => return Ok(false.into()),
            Err(error) => return Err(failed(error)),
        }
    };
    let file = log.file.try_clone().map_err(|error| TaskFailure::of("logs", &error))?;
    // Once emerge has ended the log is taken away.
    let mut going = || is_written_to(&run) && rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0);
    let events = context.events.clone();
    let mut send = |piece: &[u8]| events.send(&String::from_utf8_lossy(piece)).map_err(io::Error::other);
    pieces(log, &mut going, &mut send).map_err(|error| TaskFailure::of("logs", &error))?;
    Ok(true.into())
}

/// The newest log below `dir` of the package that is called so.
fn newest(dir: &Path, name: &str) -> beneath::Result<Option<Plain>> {
    let logs = TreeDir::open(dir)?;
    let (mut walk, mut found) = (logs.walk()?, None);
    let mut left = MOST_LOGS;
    loop {
        while let Some(entry) = walk.next_name() {
            match entry.kind {
                FileType::Directory if walk.depth() < MAX_DEPTH => walk.enter(&entry.name)?,
                FileType::RegularFile if left > 0 => {
                    left -= 1;
                    let file = PathBuf::from(std::ffi::OsStr::from_bytes(&walk.relative(&entry.name)));
                    let stat = walk.stat(&entry.name)?;
                    let log = Log { name: name_of(&file), bytes: 0, file, changed: (stat.st_mtime, stat.st_mtime_nsec) };
                    if log.is_of_package() && log.is_called(name) {
                        let newest: Option<Log> = found.take();
                        found = Some(newest.filter(|other| other.changed > log.changed).unwrap_or(log));
                    }
                }
                _ => {}
            }
        }
        if walk.leave()?.is_none() {
            break;
        }
    }
    match found.map(|log| logs.open_file(&log.file)) {
        // Taken away since.
        Some(Err(error)) if error.is_no_such_file() => Ok(None),
        found => found.transpose(),
    }
}

/// Reads to the end, and on while it `goes_on`; gives out whole lines.
fn pieces(log: Plain, goes_on: &mut dyn FnMut() -> bool, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = log.file;
    let (mut held, mut buffer) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        // In this order: what was written before the end is read.
        let going = goes_on();
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            held.extend_from_slice(&buffer[..count]);
            let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let ready = if held.len() - whole >= PIECE_BYTES { held.len() } else { whole };
            if ready > 0 {
                take(&held[..ready])?;
                held.drain(..ready);
            }
        }
        if !going {
            return if held.is_empty() { Ok(()) } else { take(&held) };
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_later_comes_later_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "one\ntw").unwrap();
        let mut writer = fs::File::options().append(true).open(&path).unwrap();
        let plain = TreeDir::open(dir.path()).unwrap().open_file("x.log").unwrap();
        let (rounds, mut got) = (Cell::new(0), Vec::new());
        let mut goes_on = || {
            rounds.set(rounds.get() + 1);
            match rounds.get() {
                3 => writer.write_all(b"o\nthree").unwrap(),
                5 => return false,
                _ => {}
            }
            true
        };
        pieces(plain, &mut goes_on, &mut |piece| {
            got.push(String::from_utf8(piece.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(got, ["one\n", "two\n", "three"]);
        // A line without end comes in pieces, and who does not take it ends it.
        fs::write(&path, vec![b'x'; PIECE_BYTES * 3]).unwrap();
        let plain = TreeDir::open(dir.path()).unwrap().open_file("x.log").unwrap();
        let mut sizes = Vec::new();
        pieces(plain, &mut || false, &mut |piece| {
            sizes.push(piece.len());
            Ok(())
        })
        .unwrap();
        assert!(sizes.iter().all(|size| *size <= PIECE_BYTES * 2), "{sizes:?}");
        let plain = TreeDir::open(dir.path()).unwrap().open_file("x.log").unwrap();
        let closed = pieces(plain, &mut || true, &mut |_| Err(io::ErrorKind::BrokenPipe.into())).unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_newest_log_of_a_package_is_followed_and_no_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("build/app-misc")).unwrap();
        for (at, name) in
            ["app-misc:hello-2.10:1.log", "build/app-misc/hello-2.10:2.log", "other-hello:x-1:1.log"].iter().enumerate()
        {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            let time = std::time::UNIX_EPOCH + Duration::from_secs(at as u64);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("app-misc:link-1:1.log")).unwrap();
        let read = |name: &str| newest(dir.path(), name).unwrap().map(|plain| String::from_utf8(plain.read(100).unwrap()).unwrap());
        for name in ["hello", "app-misc/hello", "app-misc/hello-2.10"] {
            assert_eq!(read(name).as_deref(), Some("build/app-misc/hello-2.10:2.log"), "{name}");
        }
        assert_eq!((read("link"), read("none")), (None, None));
        assert!(newest(Path::new("/nonexistent"), "x").unwrap_err().is_no_such_file());
    }
}
