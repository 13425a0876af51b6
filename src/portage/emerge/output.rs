//! The output of a run: written to a file verbatim, and parsed line by line in bounded memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::failure::{Evidence, Failure};
use super::progress::{Finished, Progress, Told, read_line};
use crate::progress::EmergeStatus;

/// Only so much of a line is parsed; the file gets all of it.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// The output could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log file cannot be made.
    #[error("cannot create the log `{path}`")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The log file cannot be written; the run itself was followed to its end.
    #[error("cannot write the log `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Reading the output failed.
    #[error("cannot read the output of emerge")]
    Read(#[source] io::Error),
}

/// What the output of a run gives away while it is followed.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Told(&'a Told),
    Status(&'a EmergeStatus),
}

/// Follows the output of one run (or of several in a row, such as fetch and build, into one file).
#[derive(Debug)]
pub(crate) struct EmergeLog {
    path: PathBuf,
    file: File,
    broken: Option<io::Error>,
    line: Vec<u8>,
    after_return: bool,
    progress: Progress,
    /// What the output has told since the last look.
    told: Vec<Told>,
    evidence: Evidence,
}

impl EmergeLog {
    /// Creates the log file, or appends to it.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| Error::Create { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            broken: None,
            line: Vec::new(),
            after_return: false,
            progress: Progress::new(),
            told: Vec::new(),
            evidence: Evidence::new(),
        })
    }

    #[cfg(test)]
    fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a piece of output; `true` if the status changed. An error of the log file is reported by [`finish`](Self::finish): emerge
    /// must not be stopped in the middle of a merge because of its log.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Instant) -> bool {
        if self.broken.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            tracing::debug!(%error, path = %self.path.display(), "the log is cut off here");
            self.broken = Some(error);
        }
        let mut changed = false;
        for piece in bytes.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
            let (text, ended) = match piece.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (piece, false),
            };
            let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                // A terminal ends lines with `\r\n`; that is one line break.
                let second_half = piece == b"\n" && self.after_return && self.line.is_empty();
                self.after_return = piece.ends_with(b"\r");
                if !second_half {
                    changed |= self.end_line(now);
                }
            }
        }
        changed
    }

    fn end_line(&mut self, now: Instant) -> bool {
        let line = std::mem::take(&mut self.line);
        self.evidence.line(&line);
        let told = read_line(&String::from_utf8_lossy(&line));
        let changed = told.as_ref().is_some_and(|told| self.progress.take(told.clone(), now));
        self.told.extend(told);
        self.line = line;
        self.line.clear();
        changed
    }

    /// Follows `output` to its end, reporting what it tells, and each change of status.
    pub(crate) fn tee(&mut self, mut output: impl Read, heard: &mut dyn FnMut(Heard<'_>)) -> Result<(), Error> {
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    let now = Instant::now();
                    let changed = self.feed(&buffer[..n], now);
                    self.told.drain(..).for_each(|told| heard(Heard::Told(&told)));
                    if changed {
                        heard(Heard::Status(&self.progress.status(now)));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Linux returns EIO when the other side of a pseudo-terminal is closed.
                Err(e) if e.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Err(e) => return Err(Error::Read(e)),
            }
        }
    }

    /// The packages that the run has installed.
    pub(crate) fn finished(&self) -> &[Finished] {
        self.progress.finished()
    }

    /// Ends the log. Fails if part of it is missing from the file.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.end_of_output();
        self.broken.map_or(Ok(()), |source| Err(Error::Write { path: self.path, source }))
    }

    /// Ends the log of a run that failed and says why it did. `read_log`: see [`Evidence::into_failure`].
    pub(crate) fn into_failure(mut self, read_log: impl FnOnce(&Path) -> Option<Vec<u8>>) -> Failure {
        self.end_of_output();
        self.evidence.into_failure(read_log)
    }

    fn end_of_output(&mut self) {
        if !self.line.is_empty() {
            self.end_line(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_everything_and_reads_it_whatever_the_pieces() {
        let dir = tempfile::tempdir().expect("tempdir");
        let transcript = b">>> Emerging (1 of 1) a/b-1::x\r\n\xff\x1b[0m\n>>> Failed to emerge a/b-1, Log file:\n>>>  '/var/log/portage/a:b-1:x.log'\n * ERROR: a/b-1::x failed (compile phase):\n *   emake failed";
        for size in [1, 2, 7, 1000] {
            let path = dir.path().join(format!("{size}.log"));
            let mut log = EmergeLog::create(&path).expect("create");
            for piece in transcript.chunks(size) {
                log.feed(piece, Instant::now());
            }
            let failure = log.into_failure(|_| None);
            assert_eq!(std::fs::read(&path).expect("read"), transcript);
            assert_eq!(failure.to_string(), "`a/b-1` failed in its compile phase", "pieces of {size}");
            assert_eq!(failure.build_log.as_deref(), Some(Path::new("/var/log/portage/a:b-1:x.log")));
            assert_eq!(failure.last_lines.last().map(String::as_str), Some(" *   emake failed"));
        }
    }

    #[test]
    fn paragraphs_survive_a_terminal() {
        let dir = tempfile::tempdir().expect("tempdir");
        let text = "The following USE changes are necessary to proceed:\n (see \"package.use\" in the …)\n>=a/b-1 x\n\nadvice\n";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let mut log = EmergeLog::create(&dir.path().join("log")).expect("create");
            text.as_bytes().chunks(3).for_each(|piece| _ = log.feed(piece, Instant::now()));
            let failure = log.into_failure(|_| None);
            assert_eq!(failure.proposals.len(), 1);
            assert_eq!(
                (failure.proposals[0].file.as_str(), &failure.proposals[0].lines[..]),
                ("package.use", &[">=a/b-1 x".to_owned()][..])
            );
        }
    }

    #[test]
    fn memory_stays_bounded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = EmergeLog::create(&dir.path().join("log")).expect("create");
        let endless = io::repeat(b'x').take(10 << 20);
        log.tee(endless, &mut |_| {}).expect("tee");
        assert!(log.line.len() <= MAX_LINE_BYTES && log.line.capacity() < 128 * 1024);
        assert_eq!(std::fs::metadata(log.path()).expect("stat").len(), 10 << 20);
    }

    #[test]
    fn tells_each_change() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = EmergeLog::create(&dir.path().join("log")).expect("create");
        let mut told = Vec::new();
        let output = b">>> Emerging (1 of 2) a/b-1::x\nnoise\n>>> Completed (1 of 2) a/b-1::x\n";
        let mut packages = Vec::new();
        let mut heard = |heard: Heard<'_>| match heard {
            Heard::Told(one) => packages.push(one.clone()),
            Heard::Status(status) => told.push((status.done, status.total, status.running.len())),
        };
        log.tee(&output[..], &mut heard).expect("tee");
        assert_eq!(told, [(1, 2, 0)]);
        let cpv = || "a/b-1".to_owned();
        let started = Told::Started { position: 1, total: 2, cpv: cpv(), phase: "build" };
        assert_eq!(packages, [started, Told::Completed { position: 1, total: 2, cpv: cpv() }]);
        log.finish().expect("all written");
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut log = EmergeLog::create(Path::new("/dev/full")).expect("open");
        assert!(log.feed(b">>> Emerging (1 of 2) a/b-1::x\n", Instant::now()), "the run is still followed");
        assert_eq!(log.finish().expect_err("nothing was written").to_string(), "cannot write the log `/dev/full`");
    }

    #[test]
    fn a_log_that_cannot_be_made() {
        let error = EmergeLog::create(Path::new("/nonexistent/dir/log")).expect_err("no directory");
        assert_eq!(error.to_string(), "cannot create the log `/nonexistent/dir/log`");
    }
}
