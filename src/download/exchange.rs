//! One request and its answer.

use std::io::Read as _;
use std::time::Instant;

use ureq::Body;
use ureq::http::{HeaderMap, Method, Response, header};

use super::Request;
use super::error::Cause;
use super::partial::Partial;
use super::question::Question;
use super::retry::Progress;
use super::url::Url;
use super::wire::Wires;
use crate::progress::{Event, Observer, Unit};
use crate::terminal_text::sanitize_line;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
/// If less than this comes within one stall time, the server has stalled.
const MIN_BYTES_PER_STALL: u64 = 1024;
const CHUNK_BYTES: usize = 128 * 1024;

/// Downloads what is missing in `partial`. Only the server of `url` gets `authorization`.
pub(super) fn into_file(
    wires: &Wires,
    url: &Url,
    authorization: Option<&str>,
    request: &Request<'_>,
    partial: &mut Partial,
    observer: &dyn Observer,
    progress: &mut Progress,
) -> Result<(), Cause> {
    if partial.is_complete(request.size) {
        return Ok(());
    }
    let offset = partial.len();
    let mut headers = Vec::new();
    if offset > 0 {
        headers.push(("Range", format!("bytes={offset}-")));
        headers.extend(partial.validator(url).map(|validator| ("If-Range", validator)));
    }
    let question = Question { headers: &headers, authorization, ..Question::new(Method::GET, url) };
    let (from, response) = ask(wires, &question)?;
    let status = response.status().as_u16();
    let answer = response.headers();
    let total = match status {
        206 if offset > 0 => {
            let total = content_range(answer).filter(|(first, _)| *first == offset).and_then(|(_, total)| total);
            if total.is_none() || !partial.fits(url, total) {
                partial.restart()?;
                return Err(Cause::WrongPart);
            }
            total
        }
        200 => length(answer),
        // There are no bytes after what we have. Either we have all of it, or it is another file.
        416 if offset > 0 => {
            let total =
                answer.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes */")?.parse().ok());
            if total == Some(offset) && partial.fits(url, total) && request.size.is_none_or(|size| size == offset) {
                return Ok(());
            }
            partial.restart()?;
            return Err(Cause::WrongPart);
        }
        code => return Err(Cause::Status { code, retry_after: retry_after(answer) }),
    };
    plausible(answer, url)?;
    if let (Some(expected), Some(got)) = (request.size, total)
        && expected != got
    {
        return Err(Cause::WrongSize { expected, got });
    }
    if total.or(request.size).is_some_and(|total| total > request.limit) {
        return Err(Cause::TooLarge { limit: request.limit });
    }
    // Only after these checks: the part that we have is worth more than a web page that says that the mirror is broken.
    if status == 200 {
        if offset > 0 {
            observer.event(&Event::Note("the server sends the file from its beginning"));
        }
        partial.begin(url, answer, total)?;
    }
    let total = total.or(request.size);
    observer.event(&Event::Begin {
        what: "download",
        total: total.map(|total| total.saturating_sub(partial.len())),
        unit: Unit::Bytes,
    });
    let outcome = receive(wires, &from, response, partial.len(), total, |chunk, so_far| {
        if so_far > request.limit {
            return Err(Cause::TooLarge { limit: request.limit });
        }
        partial.write(chunk)?;
        progress.0 = partial.len();
        observer.event(&Event::Advance(chunk.len() as u64));
        Ok(())
    });
    observer.event(&Event::End);
    outcome?;
    // A server may send another length than it announced, or none at all.
    match request.size {
        Some(expected) if expected != partial.len() => {
            let got = partial.len();
            partial.restart()?;
            Err(Cause::WrongSize { expected, got })
        }
        _ => Ok(()),
    }
}

pub(super) fn into_memory(wires: &Wires, url: &Url, limit: u64, bytes: &mut Vec<u8>) -> Result<(), Cause> {
    bytes.clear();
    let (from, response) = ask(wires, &Question::new(Method::GET, url))?;
    let answer = response.headers();
    if response.status() != 200 {
        return Err(Cause::Status { code: response.status().as_u16(), retry_after: retry_after(answer) });
    }
    plausible(answer, url)?;
    let total = length(answer);
    receive(wires, &from, response, 0, total, |chunk, so_far| {
        if so_far > limit {
            return Err(Cause::TooLarge { limit });
        }
        bytes.extend_from_slice(chunk);
        Ok(())
    })
}

/// Puts a question. Redirects of one that only reads are followed. Returns the server that answered in the end, and its answer.
pub(super) fn ask(wires: &Wires, question: &Question<'_>) -> Result<(Url, Response<Body>), Cause> {
    let mut url = question.url.clone();
    let reads = matches!(question.method, Method::GET | Method::HEAD);
    // What a registry answers may hold keys to its storage.
    let private = question.authorization.is_some();
    for _ in 0..=MAX_REDIRECTS {
        tracing::debug!(%url, method = %question.method, headers = ?question.headers, body = ?question.body, "asking");
        let response = question.put(wires, &url)?;
        if private {
            tracing::debug!(status = %response.status(), "answer");
        } else {
            tracing::debug!(status = %response.status(), headers = ?response.headers(), "answer");
        }
        if !reads || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok((url, response));
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let next = url.join(location).map_err(|error| Cause::RedirectUrl(error.to_string()))?;
        if url.is_https() && !next.is_https() {
            return Err(Cause::Downgrade { to: next });
        }
        url = next;
    }
    Err(Cause::Redirects { limit: MAX_REDIRECTS, last: url })
}

/// Reads the body. `take` gets each piece with the size that the file has after it.
pub(super) fn receive(
    wires: &Wires,
    url: &Url,
    response: Response<Body>,
    offset: u64,
    total: Option<u64>,
    mut take: impl FnMut(&[u8], u64) -> Result<(), Cause>,
) -> Result<(), Cause> {
    let mut body = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut so_far = offset;
    let (mut since, mut before) = (Instant::now(), offset);
    loop {
        if wires.cancelled() {
            return Err(Cause::Interrupted);
        }
        let count = body.read(&mut chunk).map_err(|error| wires.cause(url, error.into(), so_far, total))?;
        if count == 0 {
            break;
        }
        so_far += count as u64;
        take(&chunk[..count], so_far)?;
        // A server that sends a byte now and then has stalled, too.
        if since.elapsed() >= wires.stall_timeout() {
            if so_far - before < MIN_BYTES_PER_STALL && total.is_none_or(|total| so_far < total) {
                return Err(Cause::Stalled { secs: wires.stall_timeout().as_secs(), got: so_far });
            }
            (since, before) = (Instant::now(), so_far);
        }
    }
    match total {
        Some(total) if so_far < total => Err(Cause::Cut { got: so_far, total }),
        _ => Ok(()),
    }
}

/// Refuses an answer that cannot be the file, whatever its status.
fn plausible(answer: &HeaderMap, url: &Url) -> Result<(), Cause> {
    let text = |name| answer.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).unwrap_or_default();
    let coding = text(header::CONTENT_ENCODING);
    // Some servers say that a `.gz` file is gzip-coded, but send the file as it is.
    let packed = [".gz", ".xz", ".bz2", ".zst"].iter().any(|suffix| url.name().ends_with(suffix));
    if !matches!(coding, "" | "identity") && !packed {
        return Err(Cause::Coding(sanitize_line(coding.as_bytes(), 40)));
    }
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let page = matches!(kind.as_str(), "text/html" | "application/xhtml+xml");
    let wanted = url.name().rsplit_once('.').is_some_and(|(_, suffix)| matches!(suffix, "html" | "htm" | "xhtml"));
    if page && !wanted {
        return Err(Cause::WebPage);
    }
    Ok(())
}

pub(super) fn length(answer: &HeaderMap) -> Option<u64> {
    answer.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Of `bytes 5-9/10`: 5, and 10 if the total is known.
fn content_range(answer: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = answer.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

pub(super) fn retry_after(answer: &HeaderMap) -> Option<u64> {
    // It may also be a date (RFC 9110, 10.2.3). That is ignored, and our own pause is used.
    answer.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}
