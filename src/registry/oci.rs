//! A repository of a registry, by the OCI distribution specification 1.1.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::client::{Client, Right, is_digest};
use super::error::{Error, Result};
use super::{Access, Blob, MAX_MANIFEST_BYTES, OciAddress, Repository, upload};
use crate::download;
use crate::download::{Answer, Cause, Method, Question, Request, Url};
use crate::durable;
use crate::path_error::PathError;
use crate::threads;

/// So many tags are asked about at the same time: a thousand at 50 ms each take 2 seconds.
const PARALLEL: usize = 24;
/// Registries send a page of tags, or all of them.
const MAX_TAGS_BYTES: u64 = 64 << 20;
/// A registry that always has another page is refused.
const MAX_PAGES: usize = 10_000;
const MAX_TAGS: usize = 1_000_000;
const PIECE_BYTES: usize = 1 << 20;
/// What a tag may stand for: images and artifacts, one or for several architectures, in their two spellings.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Debug)]
pub(super) struct Oci<'a> {
    client: Client<'a>,
}

impl<'a> Oci<'a> {
    pub(super) fn new(place: &OciAddress, access: &Access<'a>) -> Self {
        Self { client: Client::new(place, access) }
    }

    fn ask_manifest(&self, method: Method, right: Right, url: &Url) -> Result<Answer> {
        let headers = [("Accept", MANIFESTS.to_owned())];
        let question = Question { headers: &headers, ..Question::new(method, url) };
        self.client.ask(right, &question, MAX_MANIFEST_BYTES).map_err(|error| match error {
            Error::Unreachable { place, cause } if matches!(*cause, Cause::TooLarge { .. }) => {
                Error::TooLarge { place, what: "a manifest".to_owned(), limit: MAX_MANIFEST_BYTES }
            }
            error => error,
        })
    }

    fn has_tag(&self, tag: &str) -> Result<bool> {
        let answer = self.ask_manifest(Method::HEAD, Right::Pull, &self.client.manifest_url(tag)?)?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.client.not_accepted(&format!("the question for `{tag}`"), &answer)),
        }
    }

    /// The digest under a tag.
    fn digest(&self, tag: &str) -> Result<Option<String>> {
        let answer = self.ask_manifest(Method::HEAD, Right::Pull, &self.client.manifest_url(tag)?)?;
        match answer.status {
            404 => return Ok(None),
            200 => {}
            _ => return Err(self.client.not_accepted(&format!("the question for `{tag}`"), &answer)),
        }
        match answer.header("Docker-Content-Digest").filter(|digest| is_digest(digest)) {
            Some(digest) => Ok(Some(digest.to_owned())),
            None => Ok(self.manifest(tag)?.map(|bytes| digest_of(&bytes))),
        }
    }

    /// Downloads what is missing of a blob into `scratch`.
    fn fetch(&self, blob: &Blob, scratch: &Path, afresh: bool) -> Result<u64> {
        let url = self.client.blob_url(&blob.digest)?;
        let urls = [url];
        let request = Request { urls: &urls, target: scratch, size: Some(blob.size), limit: blob.size, afresh, no_wait: false };
        let mut renewed = false;
        loop {
            let authorization = self.client.authorization_for(Right::Pull, &urls[0])?;
            let outcome = self.client.access().downloader.file_as(&request, authorization.as_deref(), &self.client.observer());
            let error = match outcome {
                Ok(downloaded) => return Ok(downloaded.resumed),
                Err(error) => error,
            };
            let cause = match &error {
                download::Error::Failed { tried, .. } => tried.last().map(|tried| &tried.cause),
                _ => None,
            };
            match cause {
                Some(Cause::Status { code: 401, .. }) if !renewed => {
                    // The token's time was over. A small question gets another one.
                    renewed = true;
                    has_blob(&self.client, blob)?;
                }
                Some(Cause::Status { code: 401 | 403, .. }) => {
                    let forbidden = matches!(cause, Some(Cause::Status { code: 403, .. }));
                    return Err(self.client.refused(if forbidden { 403 } else { 401 }, None));
                }
                Some(Cause::Status { code: 404 | 410, .. }) => {
                    return Err(Error::NotFound { place: self.shown(), what: format!("blob `{}`", blob.digest) });
                }
                Some(Cause::WrongSize { .. } | Cause::TooLarge { .. }) => return Err(self.wrong(blob)),
                _ => return Err(self.client.failed(error)),
            }
        }
    }

    /// Fetches into `scratch`, verifies, and gives it its name.
    fn bring(&self, blob: &Blob, scratch: &Path, target: &Path) -> Result<()> {
        let resumed = self.fetch(blob, scratch, false)?;
        if !is_blob(scratch, blob)? {
            // A part may be of another file. Once more, all of it.
            if resumed > 0 {
                self.fetch(blob, scratch, true)?;
            }
            if resumed == 0 || !is_blob(scratch, blob)? {
                durable::remove_if_there(scratch)?;
                return Err(self.wrong(blob));
            }
        }
        Ok(durable::publish(scratch, target)?)
    }

    fn wrong(&self, blob: &Blob) -> Error {
        Error::WrongDigest { place: self.shown(), digest: blob.digest.clone() }
    }

    /// The tags of one page, and where the next one is.
    fn page(&self, url: &Url) -> Result<(Vec<String>, Option<Url>)> {
        let answer = self.client.ask(Right::Pull, &Question::new(Method::GET, url), MAX_TAGS_BYTES)?;
        match answer.status {
            200 => {}
            // Nothing was pushed yet.
            404 => return Ok((Vec::new(), None)),
            _ => return Err(self.client.not_accepted("the question for its tags", &answer)),
        }
        let json: Value =
            serde_json::from_slice(&answer.body).map_err(|_| self.client.no_registry("its list of tags is not JSON"))?;
        let tags = json.get("tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let tags = tags.iter().filter_map(Value::as_str).filter(|tag| super::address::is_tag(tag)).map(str::to_owned).collect();
        let next = answer.headers.get_all("Link").iter().filter_map(|value| value.to_str().ok()).find_map(next_page);
        let Some(next) = next else { return Ok((tags, None)) };
        let next = self.client.joined(&answer.from, next)?;
        if !next.is_same_server(url) {
            return Err(self.client.no_registry(format!("its list of tags goes on at `{next}`")));
        }
        Ok((tags, Some(next)))
    }
}

impl Repository for Oci<'_> {
    fn shown(&self) -> String {
        self.client.shown()
    }

    fn has(&self, tags: &[String]) -> Result<BTreeSet<String>> {
        if tags.is_empty() {
            return Ok(BTreeSet::new());
        }
        // One asks who we are before all others start.
        self.client.url("")?;
        let has = threads::each(PARALLEL, tags, |tag| self.has_tag(tag))?;
        Ok(tags.iter().zip(has).filter(|(_, has)| *has).map(|(tag, _)| tag.clone()).collect())
    }

    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.ask_manifest(Method::GET, Right::Pull, &self.client.manifest_url(tag)?)?;
        match answer.status {
            404 => return Ok(None),
            200 => {}
            _ => return Err(self.client.not_accepted(&format!("the question for `{tag}`"), &answer)),
        }
        let digest = digest_of(&answer.body);
        let said = answer.header("Docker-Content-Digest").filter(|said| is_digest(said)).unwrap_or(&digest);
        if said != digest || (is_digest(tag) && tag != digest) {
            return Err(Error::WrongDigest { place: self.shown(), digest: if is_digest(tag) { tag } else { said }.to_owned() });
        }
        Ok(Some(answer.body))
    }

    fn put_manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let (what, url) = (format!("manifest `{tag}`"), self.client.manifest_url(tag)?);
        let headers = [("Content-Type", media_type.to_owned())];
        let question = Question { headers: &headers, body: download::Sent::Bytes(bytes), ..Question::new(Method::PUT, &url) };
        let answer = self.client.ask(Right::Push, &question, MAX_MANIFEST_BYTES)?;
        if answer.status != 201 {
            return Err(self.client.not_accepted(&what, &answer));
        }
        match answer.header("Docker-Content-Digest") {
            Some(said) if is_digest(said) && said != digest_of(bytes) => Err(Error::NotAccepted {
                place: self.shown(),
                what,
                status: 201,
                said: Some(format!("it has made `{said}` of it")),
            }),
            _ => Ok(()),
        }
    }

    fn tags(&self) -> Result<Vec<String>> {
        let mut all = BTreeSet::new();
        let mut url = self.client.url("tags/list?n=1000")?;
        for _ in 0..MAX_PAGES {
            let (tags, next) = self.page(&url)?;
            let before = all.len();
            all.extend(tags);
            let Some(next) = next else { return Ok(all.into_iter().collect()) };
            if all.len() == before || all.len() > MAX_TAGS {
                break;
            }
            url = next;
        }
        Err(self.client.no_registry("its list of tags has no end"))
    }

    fn remove(&self, tag: &str) -> Result<bool> {
        let Some(digest) = self.digest(tag)? else { return Ok(false) };
        let mut answer =
            self.client.ask(Right::Delete, &Question::new(Method::DELETE, &self.client.manifest_url(tag)?), MAX_MANIFEST_BYTES)?;
        // Some remove only by digest. With the manifest all its tags go.
        if matches!(answer.status, 400 | 404 | 405) {
            let url = self.client.manifest_url(&digest)?;
            answer = self.client.ask(Right::Delete, &Question::new(Method::DELETE, &url), MAX_MANIFEST_BYTES)?;
        }
        match answer.status {
            200 | 202 | 204 => Ok(true),
            404 => Ok(false),
            _ => Err(self.client.not_accepted(&format!("the removal of `{tag}`"), &answer)),
        }
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool> {
        has_blob(&self.client, blob)
    }

    fn get_blob(&self, blob: &Blob, target: &Path) -> Result<()> {
        let mut name = target.as_os_str().to_owned();
        name.push(".fetched");
        let brought = self.bring(blob, &PathBuf::from(name), target);
        // Another process may have waited for the same file, and then given it its name before us.
        if matches!(&brought, Err(Error::Io(error)) if error.source.kind() == io::ErrorKind::NotFound)
            && is_blob(target, blob).is_ok_and(|is| is)
        {
            return Ok(());
        }
        brought
    }

    fn put_blob(&self, blob: &Blob, file: &File) -> Result<()> {
        if has_blob(&self.client, blob)? { Ok(()) } else { upload::put(&self.client, blob, file) }
    }
}

pub(super) fn has_blob(client: &Client<'_>, blob: &Blob) -> Result<bool> {
    let url = client.blob_url(&blob.digest)?;
    let answer = client.ask(Right::Pull, &Question::new(Method::HEAD, &url), MAX_MANIFEST_BYTES)?;
    match answer.status {
        // One of another size is not it, whatever the registry calls it.
        200 => Ok(answer.header("Content-Length").is_none_or(|length| length.parse() == Ok(blob.size))),
        404 => Ok(false),
        _ => Err(client.not_accepted(&format!("the question for blob `{}`", blob.digest), &answer)),
    }
}

/// Whether a file has a blob's size and digest.
fn is_blob(path: &Path, blob: &Blob) -> Result<bool> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let read = File::open(path).and_then(|file| {
        read_all(&file, |bytes| {
            size += bytes.len() as u64;
            hash.update(bytes);
        })
    });
    read.map_err(PathError::of("read", path))?;
    Ok(size == blob.size && format!("sha256:{}", hex::encode(hash.finalize())) == blob.digest)
}

/// Reads a file from its beginning, wherever its cursor is.
pub(super) fn read_all(file: &File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
    loop {
        match file.read_at(&mut piece, at)? {
            0 => return Ok(()),
            count => {
                take(&piece[..count]);
                at += count as u64;
            }
        }
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Of `<ADDRESS>; rel="next"` the address (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        let parameter = parameter.trim().trim_end_matches(',').trim_end();
        parameter.eq_ignore_ascii_case("rel=next") || parameter.eq_ignore_ascii_case("rel=\"next\"")
    };
    parameters.split(';').any(is_next).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_next_page_is() {
        let table = [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            ("<https://h/x>;REL=next", Some("https://h/x")),
            (r#"</v2/a>; title="x"; rel="next""#, Some("/v2/a")),
            (r#"</v2/a>; rel="prev""#, None),
            ("/v2/a; rel=next", None),
            ("", None),
        ];
        for (link, expected) in table {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }

    #[test]
    fn what_a_digest_is() {
        assert!(is_digest(&digest_of(b"")));
        for text in ["sha256:00", "latest", &digest_of(b"").to_uppercase(), &format!("{}0", digest_of(b""))] {
            assert!(!is_digest(text), "{text}");
        }
    }
}
