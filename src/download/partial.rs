//! `NAME.part`: the part of a file that has come so far.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, header};

use super::error::{Cause, Error};
use super::url::{Url, name_of};
use super::{Cancelled, Request, retry};
use crate::durable;
use crate::path_error::PathError;
use crate::progress::{Event, Observer};

/// How often we try to get the lock.
const TICK: Duration = Duration::from_millis(200);
/// The description of a partial file has a few hundred bytes.
const MAX_ORIGIN_BYTES: u64 = 64 * 1024;

/// What we know about a partial file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Origin {
    url: Url,
    /// The whole file's size.
    total: Option<u64>,
    /// `ETag` if it is a strong one (`If-Range` takes no weak ones), else `Last-Modified`.
    validator: Option<String>,
}

/// A partial file, locked.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    origin: Option<Origin>,
    finished: Option<u64>,
}

impl Partial {
    /// Opens the partial file, or makes an empty one. Waits while another process has it.
    pub(super) fn open(request: &Request<'_>, cancelled: &Cancelled, observer: &dyn Observer) -> Result<Self, Error> {
        let path = with_suffix(request.target, ".part");
        let mut told = false;
        loop {
            let io = |action| PathError::of(action, with_suffix(request.target, ".part"));
            // Somebody may have put a link or a pipe there.
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(&path)
                .map_err(io("open"))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if request.no_wait => return Err(Error::Busy { name: name_of(request.target) }),
                // Polled rather than waited for, so that the user can stop it.
                Err(Errno::WOULDBLOCK) => {
                    if !told {
                        told = true;
                        observer
                            .event(&Event::Note(&format!("waiting: another process is downloading `{}`", name_of(request.target))));
                    }
                    retry::wait(TICK, cancelled).map_err(|_| Error::Interrupted)?;
                    continue;
                }
                Err(errno) => return Err(io("lock")(errno.into()).into()),
            }
            let held = file.metadata().map_err(io("examine"))?;
            let there = fs::symlink_metadata(&path);
            if !there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                // The process that had the lock has finished and renamed the file. Ours is the old one.
                continue;
            }
            let mut partial = Self { path, file, len: held.len(), origin: None, finished: None };
            if told && let Ok(target) = fs::metadata(request.target) {
                partial.finished = Some(target.len());
                partial.discard();
                return Ok(partial);
            }
            partial.origin = partial.read_origin();
            let too_long = partial.known_total(request.size).is_some_and(|total| partial.len > total);
            if request.afresh || partial.origin.is_none() || too_long {
                partial.restart().map_err(|cause| partial.error(cause))?;
            }
            return Ok(partial);
        }
    }

    /// The size of the target if another process has just finished it.
    pub(super) fn finished_by_another(&self) -> Option<u64> {
        self.finished
    }

    /// How much is here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is missing. `size` is known from elsewhere.
    pub(super) fn is_complete(&self, size: Option<u64>) -> bool {
        self.origin.is_some() && self.known_total(size) == Some(self.len)
    }

    fn known_total(&self, size: Option<u64>) -> Option<u64> {
        size.or_else(|| self.origin.as_ref().and_then(|origin| origin.total))
    }

    /// What tells `url` which version of the file we have a part of.
    pub(super) fn validator(&self, url: &Url) -> Option<String> {
        self.origin.as_ref().filter(|origin| origin.url == *url).and_then(|origin| origin.validator.clone())
    }

    /// Whether a part from `url`, of a file of `total` bytes, may be joined to this one.
    pub(super) fn fits(&self, url: &Url, total: Option<u64>) -> bool {
        match &self.origin {
            None => false,
            // With a validator the server has compared the versions.
            Some(origin) if origin.url == *url && origin.validator.is_some() => origin.total.is_none() || origin.total == total,
            Some(origin) => origin.total.is_some() && origin.total == total,
        }
    }

    /// Starts with a whole file of `total` bytes from `url`.
    pub(super) fn begin(&mut self, url: &Url, answer: &HeaderMap, total: Option<u64>) -> Result<(), Cause> {
        self.restart()?;
        let text = |name| answer.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).map(str::to_owned);
        let etag = text(header::ETAG).filter(|etag| etag.starts_with('"'));
        let origin = Origin { url: url.clone(), total, validator: etag.or_else(|| text(header::LAST_MODIFIED)) };
        let path = self.origin_path();
        let json = serde_json::to_vec(&origin).map_err(|error| Cause::Disk { path: path.clone(), source: error.into() })?;
        fs::write(&path, json).map_err(|source| Cause::Disk { path, source })?;
        self.origin = Some(origin);
        Ok(())
    }

    /// Throws away what has come.
    pub(super) fn restart(&mut self) -> Result<(), Cause> {
        self.origin = None;
        self.len = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(|source| Cause::Disk { path: self.path.clone(), source })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let written = self.file.seek(SeekFrom::Start(self.len)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|source| Cause::Disk { path: self.path.clone(), source })?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Moves the file to its place and returns its size.
    pub(super) fn finish(self, target: &Path) -> Result<u64, Error> {
        durable::publish(&self.path, target)?;
        self.forget_origin();
        Ok(self.len)
    }

    pub(super) fn discard(&self) {
        // If something cannot be removed, the next download overwrites it.
        drop(fs::remove_file(&self.path));
        self.forget_origin();
    }

    fn forget_origin(&self) {
        drop(fs::remove_file(self.origin_path()));
    }

    fn origin_path(&self) -> PathBuf {
        with_suffix(&self.path, ".json")
    }

    /// `None` if it is missing or damaged. Then the download starts again.
    fn read_origin(&self) -> Option<Origin> {
        let path = self.origin_path();
        let size = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        (size <= MAX_ORIGIN_BYTES).then(|| fs::read(&path).ok())?.and_then(|json| serde_json::from_slice(&json).ok())
    }

    fn error(&self, cause: Cause) -> Error {
        match cause {
            Cause::Disk { path, source } => PathError::new("write", path, source).into(),
            other => PathError::new("write", &self.path, io::Error::other(other)).into(),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
