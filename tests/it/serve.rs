//! Servers on loopback, as they are in the world: git over smart HTTP, files over HTTP, an rsync daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::child::{self, Known};

/// An HTTP server for one directory: what begins with `/git/` goes to `git http-backend`, all else are files.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) port: u16,
    /// Requests so far.
    pub(crate) requests: Arc<AtomicUsize>,
}

/// Serves `dir` until this process ends.
pub(crate) fn http(dir: &Path) -> Http {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let (dir, counter) = (dir.to_owned(), Arc::clone(&requests));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (dir, counter) = (dir.clone(), Arc::clone(&counter));
            std::thread::spawn(move || {
                counter.fetch_add(1, Ordering::Relaxed);
                // Who breaks off has tested that.
                drop(answer(stream, &dir));
            });
        }
    });
    Http { port, requests }
}

impl Http {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

fn answer(stream: TcpStream, dir: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default();
    let mut body = Vec::new();
    if header("transfer-encoding") == "chunked" {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim_end(), 16).unwrap_or(0);
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        reader.by_ref().take(header("content-length").parse().unwrap_or(0)).read_to_end(&mut body)?;
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut stream = stream;
    if path.starts_with("/git/slow/") {
        std::thread::sleep(Duration::from_mins(1));
    }
    if let Some(path) = path.strip_prefix("/cut/") {
        return cut(&mut stream, dir, path, header("range"));
    }
    if !path.starts_with("/git/") {
        return match std::fs::read(dir.join(path.trim_start_matches('/'))) {
            Ok(bytes) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
                stream.write_all(&bytes)
            }
            Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        };
    }
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_PROJECT_ROOT", dir).env("GIT_HTTP_EXPORT_ALL", "1").env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("REQUEST_METHOD", &method).env("CONTENT_TYPE", header("content-type")).env("REMOTE_ADDR", "127.0.0.1");
    command.env("CONTENT_LENGTH", body.len().to_string()).env("GIT_PROTOCOL", header("git-protocol"));
    command.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    let mut running = child::spawn(command.stdin(Stdio::piped()));
    let mut stdin = running.child().stdin.take().unwrap();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = running.output().stdout;
    feeder.join().unwrap();
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(stream, "HTTP/1.1 {status}\r\n")?;
    for line in head.lines().filter(|line| !line.starts_with("Status: ")) {
        write!(stream, "{line}\r\n")?;
    }
    let body = output.get(end + 4..).unwrap_or_default();
    write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}

/// A file; of an archive only half comes before `dir/mended` is there.
fn cut(stream: &mut TcpStream, dir: &Path, path: &str, range: &str) -> std::io::Result<()> {
    let Ok(bytes) = std::fs::read(dir.join(path)) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let begin: usize = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let tag = "ETag: \"one\"\r\nAccept-Ranges: bytes\r\nConnection: close";
    let total = bytes.len();
    if begin == 0 {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{tag}\r\n\r\n")?;
        let sent = if !path.ends_with(".tar.xz") || dir.join("mended").exists() { total } else { total / 2 };
        return stream.write_all(&bytes[..sent]);
    }
    if !dir.join("mended").exists() {
        return Ok(());
    }
    let (length, last) = (total - begin, total - 1);
    write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n")?;
    write!(stream, "Content-Range: bytes {begin}-{last}/{total}\r\n{tag}\r\n\r\n")?;
    stream.write_all(&bytes[begin..])
}

/// An rsync daemon with the modules `name = directory`.
pub(crate) struct Rsyncd {
    port: u16,
    _running: Known,
}

/// Starts an rsync daemon as an ordinary user, on a port of its own.
pub(crate) fn rsyncd(dir: &Path, modules: &[(&str, PathBuf)]) -> Rsyncd {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config =
        format!("use chroot = no\naddress = 127.0.0.1\nport = {port}\nlog file = {}\n", dir.join("rsyncd.log").display());
    for (name, path) in modules {
        config.push_str(&format!("[{name}]\npath = {}\n", path.display()));
    }
    std::fs::write(dir.join("rsyncd.conf"), config).unwrap();
    let mut command = Command::new("rsync");
    command.args(["--daemon", "--no-detach"]).arg(format!("--config={}", dir.join("rsyncd.conf").display()));
    let running = child::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < Duration::from_mins(4), "the rsync daemon does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Rsyncd { port, _running: running }
}

impl Rsyncd {
    pub(crate) fn url(&self, module: &str) -> String {
        format!("rsync://127.0.0.1:{}/{module}", self.port)
    }
}
