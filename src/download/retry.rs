//! Attempts and mirrors.

use std::time::{Duration, Instant};

use super::error::{Cause, Error, Tried};
use super::url::Url;
use super::{Cancelled, Downloader};
use crate::path_error::PathError;
use crate::progress::{Event, Observer};

/// If other mirrors can be asked, we do not try long at one.
pub(super) const HASTY_ATTEMPTS: u32 = 2;
/// Pauses become no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a transfer may break off, even if it brings something each time.
const MOST_ATTEMPTS: u32 = 100;
/// How often a pause checks whether the user wants to stop.
const TICK: Duration = Duration::from_millis(100);

/// How many bytes of the file there are after an attempt.
#[derive(Debug, Default)]
pub(crate) struct Progress(pub(crate) u64);

impl Downloader {
    /// Tries each address in turn until one succeeds. Returns that one.
    pub(super) fn over_mirrors(
        &self,
        name: &str,
        urls: &[Url],
        observer: &dyn Observer,
        mut attempt: impl FnMut(&Url, &mut Progress) -> Result<(), Cause>,
    ) -> Result<Url, Error> {
        let mut tried = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let others = index + 1 < urls.len();
            let attempts = if others { self.settings.attempts.min(HASTY_ATTEMPTS) } else { self.settings.attempts };
            match self.with_patience(url, attempts, observer, &mut attempt) {
                Ok(()) => return Ok(url.clone()),
                Err(Cause::Interrupted) => return Err(Error::Interrupted),
                Err(Cause::Disk { path, source }) => return Err(PathError::new("write", path, source).into()),
                Err(cause) => {
                    if others {
                        observer.event(&Event::Note(&format!("`{url}`: {cause}; trying the next mirror")));
                    }
                    tried.push(Tried { url: url.clone(), cause });
                }
            }
        }
        Err(Error::Failed { name: name.to_owned(), tried })
    }

    /// Tries one address several times. An attempt that gets further than all before it sets the count back.
    fn with_patience(
        &self,
        url: &Url,
        attempts: u32,
        observer: &dyn Observer,
        attempt: &mut impl FnMut(&Url, &mut Progress) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let mut failed = 0;
        let mut furthest = 0;
        for _ in 0..MOST_ATTEMPTS {
            let mut progress = Progress::default();
            let cause = match attempt(url, &mut progress) {
                Ok(()) => return Ok(()),
                Err(cause) => cause,
            };
            tracing::debug!(%url, %cause, got = progress.0, "attempt failed");
            failed = if progress.0 > furthest { 1 } else { failed + 1 };
            furthest = furthest.max(progress.0);
            if !cause.is_transient() || failed >= attempts {
                return Err(cause);
            }
            let pause = self.pause(failed, &cause);
            observer.event(&Event::Note(&format!("{}: {cause}; trying again in {} s", url.host(), pause.as_secs_f32().ceil())));
            wait(pause, &self.cancelled)?;
        }
        Err(Cause::Protocol("the connection broke again and again".to_owned()))
    }

    fn pause(&self, failed: u32, cause: &Cause) -> Duration {
        // The exponent is limited so that the shift cannot overflow.
        let grown = self.settings.pause.saturating_mul(1 << (failed - 1).min(16));
        let asked = match cause {
            Cause::Status { retry_after: Some(secs), .. } => Duration::from_secs(*secs),
            _ => Duration::ZERO,
        };
        grown.max(asked).min(LONGEST_PAUSE)
    }
}

/// Sleeps, unless the user wants to stop.
pub(super) fn wait(pause: Duration, cancelled: &Cancelled) -> Result<(), Cause> {
    let end = Instant::now() + pause;
    loop {
        if cancelled() {
            return Err(Cause::Interrupted);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}
