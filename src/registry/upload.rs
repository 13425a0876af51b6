//! A blob on its way to a registry.
//!
//! ```text
//! POST  uploads/              202, Location: where the upload is
//! PUT   LOCATION?digest=      all of it. 201: it is there
//!       cut?
//! GET   LOCATION              204, Range: 0-N: so much has come
//! PATCH LOCATION              the rest, then PUT without a body
//!       404, 400, 416?        the registry has forgotten the upload: it begins anew
//! ```

use std::fs::File;

use sha2::{Digest as _, Sha256};

use super::client::{Client, Right, Stopped, code};
use super::error::{Error, Result};
use super::{Blob, oci};
use crate::download::{Answer, Method, Progress, Question, Sent, Url};
use crate::path_error::PathError;
use crate::progress::Event;

const OCTETS: &str = "application/octet-stream";
/// How often one blob may begin anew because the registry has forgotten its upload, or says that the digest is another one.
const MOST_BEGINNINGS: u32 = 4;

/// One blob and how far it is.
struct Upload<'a> {
    client: &'a Client<'a>,
    blob: &'a Blob,
    file: &'a File,
    told: &'a (dyn Fn(u64) + Sync),
    /// Where the registry takes it, once it has said so.
    location: Option<Url>,
    /// An attempt has failed, so only the registry knows how much it has.
    unsure: bool,
    beginnings: u32,
    /// The registry was told once more who we are.
    renewed: bool,
}

enum Step {
    Done,
    Again,
}

type Attempt<T> = std::result::Result<T, Stopped>;

/// Puts a blob that is not there.
pub(super) fn put(client: &Client<'_>, blob: &Blob, file: &File) -> Result<()> {
    let length = file.metadata().map_err(|error| PathError::new("examine", &blob.digest, error))?.len();
    if length != blob.size {
        return Err(Error::Changed { digest: blob.digest.clone() });
    }
    // Its digest becomes part of an address, too.
    client.blob_url(&blob.digest)?;
    let start = client.url("blobs/uploads/")?;
    let observer = client.access().observer;
    let told = |count| observer.event(&Event::Advance(count));
    let mut upload = Upload { client, blob, file, told: &told, location: None, unsure: false, beginnings: 0, renewed: false };
    let outcome = client.access().downloader.patiently(&client.shown(), &start, &client.observer(), |progress| {
        match upload.attempt(&start, progress) {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::Never(error)) => Ok(Err(error)),
            Err(Stopped::Later(cause)) => {
                upload.unsure = true;
                Err(cause)
            }
        }
    });
    outcome.map_err(|error| client.failed(error))?
}

impl<'a> Upload<'a> {
    fn attempt(&mut self, start: &Url, progress: &mut Progress) -> Attempt<()> {
        loop {
            let offset = if self.unsure { self.state()? } else { Some(0) };
            let Some(offset) = offset else { return Ok(()) };
            progress.0 = offset;
            match self.go_on(start, offset, progress)? {
                Step::Done => return Ok(()),
                Step::Again => {}
            }
        }
    }

    /// Sends what the registry lacks.
    fn go_on(&mut self, start: &Url, offset: u64, progress: &mut Progress) -> Attempt<Step> {
        let Some(location) = self.location.clone() else { return self.begin(start) };
        if offset == 0 {
            return self.finish(&location, self.part(0));
        }
        if offset < self.blob.size {
            let range = format!("{offset}-{}", self.blob.size - 1);
            let headers = [("Content-Type", OCTETS.to_owned()), ("Content-Range", range)];
            let question = Question { headers: &headers, body: self.part(offset), ..Question::new(Method::PATCH, &location) };
            let answer = self.client.ask_once(Right::Push, &question)?;
            if answer.status != 202 {
                return self.failed(answer);
            }
            progress.0 = self.blob.size;
            self.moved(&answer)?;
        }
        let location = self.location.clone().unwrap_or(location);
        self.finish(&location, Sent::Nothing)
    }

    /// Opens an upload.
    fn begin(&mut self, start: &Url) -> Attempt<Step> {
        self.beginnings += 1;
        let answer = self.client.ask_once(Right::Push, &Question::new(Method::POST, start))?;
        if answer.status != 202 {
            return self.failed(answer);
        }
        self.moved(&answer)?;
        match &self.location {
            Some(_) => Ok(Step::Again),
            None => Err(self.client.no_registry("it does not say where an upload goes").into()),
        }
    }

    /// Sends what is missing, or nothing, and the digest.
    fn finish(&mut self, location: &Url, body: Sent<'_>) -> Attempt<Step> {
        let text = location.to_string();
        let separator = if text.contains('?') { '&' } else { '?' };
        let url = self.client.joined(location, &format!("{text}{separator}digest={}", self.blob.digest.replace(':', "%3A")))?;
        let headers = [("Content-Type", OCTETS.to_owned())];
        let question = Question { headers: &headers, body, ..Question::new(Method::PUT, &url) };
        let answer = self.client.ask_once(Right::Push, &question)?;
        if answer.status == 201 { Ok(Step::Done) } else { self.failed(answer) }
    }

    /// How much of the blob the registry has of this upload; `None` if the blob is there: then only the answer was lost.
    fn state(&mut self) -> Attempt<Option<u64>> {
        let mut known = None;
        if let Some(location) = self.location.clone() {
            let answer = self.client.ask_once(Right::Push, &Question::new(Method::GET, &location))?;
            if matches!(answer.status, 200 | 202 | 204) {
                let range = answer.header("Range").unwrap_or_default().trim_start_matches("bytes=");
                let last = range.split_once('-').and_then(|(_, last)| last.trim().parse::<u64>().ok());
                // `0-0` is said of nothing, too. If it is one byte, the registry refuses it as the first of all, and we begin anew.
                known = Some(last.map_or(0, |last| if last == 0 { 0 } else { last + 1 }));
                self.moved(&answer)?;
            }
        }
        self.unsure = false;
        if let Some(known) = known.filter(|known| *known <= self.blob.size) {
            return Ok(Some(known));
        }
        self.location = None;
        Ok(if oci::has_blob(self.client, self.blob)? { None } else { Some(0) })
    }

    /// Each answer may say that the upload is elsewhere now.
    fn moved(&mut self, answer: &Answer) -> Result<()> {
        if let Some(location) = answer.header("Location") {
            self.location = Some(self.client.joined(&answer.from, location)?);
        }
        Ok(())
    }

    /// An answer that is no success: whether it makes sense to go on.
    fn failed(&mut self, answer: Answer) -> Attempt<Step> {
        if answer.status == 401 && !self.renewed && self.client.learned(Right::Push, &answer)? {
            self.renewed = true;
            self.unsure = self.location.is_some();
            return Ok(Step::Again);
        }
        let answer = self.client.not_refused(answer)?;
        let wrong = code(&answer).is_some_and(|code| code == "DIGEST_INVALID");
        if wrong && !self.is_what_it_should_be()? {
            return Err(Error::Changed { digest: self.blob.digest.clone() }.into());
        }
        // The upload was forgotten, or its bytes were damaged on the way.
        let anew = wrong || (self.location.is_some() && matches!(answer.status, 400 | 404 | 409 | 416));
        if anew && self.beginnings < MOST_BEGINNINGS {
            self.location = None;
            return Ok(Step::Again);
        }
        Err(self.client.not_accepted(&format!("blob `{}`", self.blob.digest), &answer).into())
    }

    fn is_what_it_should_be(&self) -> Result<bool> {
        let mut hash = Sha256::new();
        oci::read_all(self.file, |bytes| hash.update(bytes)).map_err(|error| PathError::new("read", &self.blob.digest, error))?;
        Ok(self.blob.digest == format!("sha256:{}", hex::encode(hash.finalize())))
    }

    fn part(&self, from: u64) -> Sent<'a> {
        Sent::Part { file: self.file, from, length: self.blob.size - from, told: self.told }
    }
}
