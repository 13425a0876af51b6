//! A directory over HTTP: GET and HEAD of plain files, nothing else.
//!
//! Each connection is one thread and one request. All is bounded: connections at a time, the head of a request, and how long a client may take
//! to say or take something. Names are resolved by the kernel beneath the directory, through no link that leads out of it, and what is hidden
//! is not there.

use std::io;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::binhost::export::is_exported;
use crate::portage::untrusted;
use crate::session::binhost::BinhostError;

const MAX_CONNECTIONS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// For the head of a request, and for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    root: OwnedFd,
}

/// One request that was answered, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Who asked.
    pub client: String,
    /// `GET /Packages.gz`, safe to print.
    pub request: String,
    /// Status code.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
}

/// What is to be sent.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    file: Option<(std::fs::File, u64)>,
}

impl Server {
    /// Listens on `address` for requests of files in `dir`, which was exported.
    pub fn bind(dir: &Path, address: &str) -> Result<Self, BinhostError> {
        let not_exported = || BinhostError::NotExported(dir.to_owned());
        if !is_exported(dir) {
            return Err(not_exported());
        }
        let root = untrusted::open_root(dir).map_err(|_| not_exported())?;
        let failed = |source| BinhostError::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, root })
    }

    /// Where it listens: the port, if any would do.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` becomes readable. Requests that are being answered then are cut off.
    pub fn run(&self, stop: BorrowedFd<'_>, told: &(dyn Fn(&Answered) + Sync)) -> io::Result<()> {
        let active = AtomicUsize::new(0);
        let root = &self.root;
        let streams: std::sync::Mutex<Vec<(u64, TcpStream)>> = std::sync::Mutex::default();
        let mut number = 0;
        std::thread::scope(|scope| {
            let result = loop {
                let ready = crate::sys::fd::wait_readable(&[stop, self.listener.as_fd()], None).map_err(io::Error::other)?;
                if ready.first() == Some(&true) {
                    break Ok(());
                }
                let (stream, client) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    // Gone again, or the process has no descriptor left just now.
                    Err(error) => {
                        tracing::debug!(%error, "no connection");
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                };
                if active.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                    drop(stream);
                    continue;
                }
                active.fetch_add(1, Ordering::Relaxed);
                number += 1;
                let (mine, active, streams) = (number, &active, &streams);
                if let (Ok(clone), Ok(mut streams)) = (stream.try_clone(), streams.lock()) {
                    streams.push((mine, clone));
                }
                let started = crate::threads::scoped(scope, "answer with", move || {
                    match answer(&stream, root.as_fd(), &client.to_string()) {
                        Ok(answered) => told(&answered),
                        Err(error) => tracing::debug!(%client, %error, "request not answered"),
                    }
                    if let Ok(mut streams) = streams.lock() {
                        streams.retain(|(number, _)| *number != mine);
                    }
                    active.fetch_sub(1, Ordering::Relaxed);
                });
                if let Err(error) = started {
                    // Its connection is closed by now.
                    tracing::warn!(%client, %error, "request not answered");
                    if let Ok(mut streams) = streams.lock() {
                        streams.retain(|(number, _)| *number != mine);
                    }
                    active.fetch_sub(1, Ordering::Relaxed);
                }
            };
            for (_, stream) in streams
                .lock()
                .map(|streams| streams.iter().map(|(n, s)| (*n, s.try_clone())).collect::<Vec<_>>())
                .unwrap_or_default()
            {
                if let Ok(stream) = stream {
                    drop(stream.shutdown(std::net::Shutdown::Both));
                }
            }
            result
        })
    }
}

fn answer(mut stream: &TcpStream, root: BorrowedFd<'_>, client: &str) -> io::Result<Answered> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(stream)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    let header = |name: &str| {
        let of =
            |line: &str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned());
        text.lines().skip(1).find_map(of)
    };
    let (method, target) = match words[..] {
        [method, target, version] if version.starts_with("HTTP/1.") => (method, target),
        _ => ("", ""),
    };
    let answer = match method {
        "GET" | "HEAD" => look_up(root, target, header("range").as_deref(), header("if-modified-since").as_deref()),
        "" => status(400),
        _ => status(405),
    };
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    let length = answer.file.as_ref().map_or(0, |(_, length)| *length);
    for (name, value) in &answer.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n\r\n"));
    stream.write_all(out.as_bytes())?;
    let mut bytes = 0;
    if let (Some((file, length)), "GET") = (answer.file, method) {
        bytes = io::copy(&mut file.take(length), &mut stream)?;
    }
    stream.flush()?;
    let shown: String = format!("{method} {target}").chars().filter(|c| !c.is_control()).take(200).collect();
    Ok(Answered { client: client.to_owned(), request: shown, status: answer.status, bytes })
}

/// The head of a request, up to the empty line.
fn read_head(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let since = std::time::Instant::now();
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        head.extend_from_slice(&chunk[..count]);
        if count == 0 || head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            return Ok(head);
        }
        if head.len() > MAX_HEAD_BYTES || since.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of a request has no end"));
        }
    }
}

fn status(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), file: None }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        _ => "Internal Server Error",
    }
}

fn look_up(root: BorrowedFd<'_>, target: &str, range: Option<&str>, since: Option<&str>) -> Answer {
    let Some(path) = path_of(target) else { return status(404) };
    let Ok((mut file, size)) = untrusted::open_file_in(root, &path) else { return status(404) };
    let modified = file.metadata().ok().and_then(|meta| meta.modified().ok());
    let modified = modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).map_or(0, jiff::Timestamp::as_second);
    let mut headers = vec![("Last-Modified", http_date(modified)), ("Accept-Ranges", "bytes".to_owned())];
    headers.push(("Content-Type", content_type(&path).to_owned()));
    if since.and_then(parse_http_date).is_some_and(|since| modified <= since) {
        return Answer { status: 304, headers, file: None };
    }
    match range.map(|range| parse_range(range, size)) {
        None | Some(Range::Whole) => Answer { status: 200, headers, file: Some((file, size)) },
        Some(Range::Nothing) => {
            headers.push(("Content-Range", format!("bytes */{size}")));
            Answer { status: 416, headers, file: None }
        }
        Some(Range::Part(first, last)) => {
            if file.seek(SeekFrom::Start(first)).is_err() {
                return status(500);
            }
            headers.push(("Content-Range", format!("bytes {first}-{last}/{size}")));
            Answer { status: 206, headers, file: Some((file, last - first + 1)) }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Nothing,
    /// First and last byte.
    Part(u64, u64),
}

/// One range; several, or what is none, mean the whole (RFC 9110, 14.2).
fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Range::Whole };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= size => Range::Nothing,
        (Ok(first), Ok(last)) if first <= last => Range::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, size - 1),
        (Err(_), Ok(count)) if first.is_empty() => match count.min(size) {
            0 => Range::Nothing,
            count => Range::Part(size - count, size - 1),
        },
        _ => Range::Whole,
    }
}

/// The path below the root that a request means.
fn path_of(target: &str) -> Option<PathBuf> {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = target.strip_prefix('/')?.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    if text.is_empty() {
        return Some("README".into());
    }
    let good = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.chars().any(char::is_control);
    text.split('/').all(good).then(|| text.into())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("tar") => "application/x-tar",
        Some("gz") => "application/gzip",
        Some("asc") => "application/pgp-keys",
        _ => "text/plain; charset=utf-8",
    }
}

fn http_date(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime(HTTP_DATE).to_string()
}

fn parse_http_date(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime(HTTP_DATE, text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::os::unix::fs::symlink;

    #[test]
    fn ranges() {
        for (text, range) in [
            ("bytes=0-", Range::Part(0, 9)),
            ("bytes=2-3", Range::Part(2, 3)),
            ("bytes=2-99", Range::Part(2, 9)),
            ("bytes=-3", Range::Part(7, 9)),
            ("bytes=-30", Range::Part(0, 9)),
            ("bytes=10-", Range::Nothing),
            ("bytes=-0", Range::Nothing),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(parse_range(text, 10), range, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Nothing);
    }

    #[test]
    fn paths_stay_below() {
        for (target, path) in [
            ("/", Some("README")),
            ("/Packages?x=1", Some("Packages")),
            ("/a-b/gtk%2B/c", Some("a-b/gtk+/c")),
            ("/../etc/passwd", None),
            ("/a/%2e%2e/b", None),
            ("/.gentoomuch-binhost.json", None),
            ("//a", None),
            ("/a%00", None),
            ("/a%zz", None),
            ("/%ff", None),
            ("a", None),
        ] {
            assert_eq!(path_of(target), path.map(PathBuf::from), "{target}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("yesterday"), None);
    }

    #[test]
    fn requests_are_answered_until_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Server::bind(dir.path(), "127.0.0.1:0"), Err(BinhostError::NotExported(_))));
        for (name, text) in [(".gentoomuch-binhost.json", "{}"), ("Packages", "0123456789"), ("sub/file", "x")] {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        let server = Server::bind(dir.path(), "127.0.0.1:0").unwrap();
        let (stop, stopper) = std::io::pipe().unwrap();
        let told = std::sync::Mutex::new(Vec::new());
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(stop.as_fd(), &|answered| told.lock().unwrap().push(answered.clone())).unwrap());
            // One that says nothing holds up nobody, and ends with the server.
            let silent = TcpStream::connect(server.address()).unwrap();
            let whole = ask("GET /Packages HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"), "{whole}");
            assert!(whole.contains("Content-Length: 10\r\n") && whole.contains("Last-Modified: "), "{whole}");
            let part = ask("GET /Packages HTTP/1.1\r\nRange: bytes=3-\r\n\r\n");
            assert!(
                part.starts_with("HTTP/1.1 206 ") && part.contains("Content-Range: bytes 3-9/10") && part.ends_with("\n3456789")
            );
            let head = ask("HEAD /Packages HTTP/1.0\n\n");
            assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
            for (request, status) in [
                ("GET /none HTTP/1.1\r\n\r\n", 404),
                ("GET /out HTTP/1.1\r\n\r\n", 404),
                ("GET /sub HTTP/1.1\r\n\r\n", 404),
                ("GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
                ("POST /Packages HTTP/1.1\r\n\r\n", 405),
                ("nonsense\r\n\r\n", 400),
                ("GET /Packages HTTP/1.1\r\nRange: bytes=10-\r\n\r\n", 416),
                ("GET /Packages HTTP/1.1\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n\r\n", 304),
                ("GET /sub/file HTTP/1.1\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n", 200),
            ] {
                assert!(ask(request).starts_with(&format!("HTTP/1.1 {status} ")), "{request}");
            }
            drop(stopper);
            let mut line = String::new();
            assert_eq!(io::BufReader::new(silent).read_line(&mut line).unwrap_or(0), 0);
        });
        assert_eq!(told.lock().unwrap()[0].request, "GET /Packages");
    }
}
