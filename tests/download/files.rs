//! The library's half: one file from servers of all kinds.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gentoomuch::internals::download::{Downloaded, Downloader, Error, Proxies, Request, Settings, Url};
use gentoomuch::internals::progress::Silent;

use crate::server::{Answer, Server, Then};

/// Not the same anywhere.
fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

const HALF: usize = 600_000;

/// No server counts as stalled because this machine is busy, and attempts follow one another at once.
fn settings() -> Settings {
    Settings {
        stall_timeout: Duration::from_hours(1),
        connect_timeout: Duration::from_mins(1),
        pause: Duration::from_millis(10),
        ..Settings::default()
    }
}

/// A directory to download into.
struct Desk {
    dir: tempfile::TempDir,
    settings: Settings,
    size: Option<u64>,
    limit: u64,
    cancelled: Arc<AtomicBool>,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), settings: settings(), size: None, limit: 10_000_000, cancelled: Arc::default() }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("file.bin")
    }

    fn get(&self, urls: &[String]) -> Result<Downloaded, Error> {
        let urls: Vec<Url> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let cancelled = Arc::clone(&self.cancelled);
        let downloader = Downloader::new(self.settings.clone(), Arc::new(move || cancelled.load(Ordering::SeqCst)));
        let target = self.target();
        let request = Request { urls: &urls, target: &target, size: self.size, limit: self.limit, afresh: false, no_wait: false };
        downloader.file(&request, &Silent)
    }

    /// Downloads, and finds nothing beside what was asked for.
    fn gets(&self, urls: &[String]) -> Downloaded {
        let done = self.get(urls).unwrap();
        assert!(fs::read(self.target()).unwrap() == content());
        assert_eq!(self.names(), ["file.bin"]);
        done
    }

    /// What went wrong, at each address.
    fn fails(&self, urls: &[String]) -> String {
        let error = self.get(urls).unwrap_err();
        assert!(!self.target().exists());
        match &error {
            Error::Failed { tried, .. } => tried.iter().map(|tried| tried.cause.to_string()).collect::<Vec<_>>().join("; "),
            other => other.to_string(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_whole_file() {
    let server = Server::new(|asked| Answer::ranged(asked, &content()));
    let done = Desk::new().gets(&[server.url("/file.bin")]);
    assert_eq!((done.bytes, done.resumed), (1_200_000, 0));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_cut_is_resumed_where_it_was() {
    let server = Server::new(|asked| match asked.number {
        0 => Answer::whole(&content()).only(HALF, Then::Cut),
        _ => Answer::ranged(asked, &content()),
    });
    Desk::new().gets(&[server.url("/file.bin")]);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[1].from(), asked[1].header("if-range")), (Some(HALF), Some("\"one\"")));
}

#[test]
fn a_later_process_goes_on() {
    let server = Server::new(|asked| match asked.number {
        0..=3 => Answer::ranged(asked, &content()).only(if asked.number == 0 { HALF } else { 0 }, Then::Cut),
        _ => Answer::ranged(asked, &content()),
    });
    let desk = Desk::new();
    assert_eq!(desk.fails(&[server.url("/file.bin")]), "the connection was cut after 600000 of 1200000 bytes");
    assert_eq!(desk.names(), ["file.bin.part", "file.bin.part.json"]);
    assert_eq!(desk.gets(&[server.url("/file.bin")]).resumed, HALF as u64);
}

#[test]
fn a_file_that_has_changed_is_taken_from_its_beginning() {
    let server = Server::new(|asked| match asked.number {
        0 => Answer { body: vec![7; 1_000_000], ..Answer::status(200) }.with("ETag", "\"old\"").only(HALF, Then::Cut),
        _ => Answer::ranged(asked, &content()),
    });
    Desk::new().gets(&[server.url("/file.bin")]);
    assert_eq!(server.asked()[1].header("if-range"), Some("\"old\""));
}

#[test]
fn without_ranges_it_begins_again() {
    let server = Server::new(|asked| match asked.number {
        0 => Answer::whole(&content()).only(HALF, Then::Cut),
        _ => Answer::whole(&content()),
    });
    Desk::new().gets(&[server.url("/file.bin")]);
}

#[test]
fn a_stall_is_noticed_and_resumed() {
    let server = Server::new(|asked| match asked.number {
        0 => Answer::whole(&content()).only(HALF, Then::Stall),
        _ => Answer::ranged(asked, &content()),
    });
    let mut desk = Desk::new();
    desk.settings.stall_timeout = Duration::from_secs(2);
    let done = desk.gets(&[server.url("/file.bin")]);
    assert_eq!((done.resumed, server.asked()[1].from()), (0, Some(HALF)));
    let silent = Server::new(|_| Answer::whole(&content()).only(0, Then::Stall));
    let desk = Desk { settings: desk.settings, ..Desk::new() };
    assert!(desk.fails(&[silent.url("/file.bin")]).starts_with("the server sent almost nothing for 2 s"));
}

#[test]
fn a_lie_about_the_length_ends() {
    // It claims more than it has, for ever.
    let server = Server::new(|asked| match asked.from() {
        None => Answer { length: Some(2_000_000), ..Answer::whole(&content()) },
        Some(_) => Answer::ranged(asked, &content()),
    });
    let words = Desk::new().fails(&[server.url("/file.bin")]);
    assert_eq!(words, "the server sent another part of the file than was requested");
    assert!(server.asked().len() < 12);
    // It claims less than there should be.
    let server = Server::new(|_| Answer { length: Some(5), ..Answer::whole(&content()) });
    let desk = Desk { size: Some(1_200_000), ..Desk::new() };
    assert_eq!(desk.fails(&[server.url("/file.bin")]), "the file has 5 bytes on the server, but should have 1200000");
}

#[test]
fn an_error_page_is_not_the_file_whatever_its_status() {
    let page = Server::new(|_| Answer { body: b"<html>log in".to_vec(), ..Answer::status(200) }.with("Content-Type", "text/html"));
    let words = "the server sent a web page instead of the file";
    assert_eq!(Desk::new().fails(&[page.url("/file.bin")]), words);
    // And what is here stays.
    let good = Server::new(|asked| match asked.number {
        0..=3 => Answer::ranged(asked, &content()).only(if asked.number == 0 { HALF } else { 0 }, Then::Cut),
        _ => Answer::ranged(asked, &content()),
    });
    let desk = Desk::new();
    desk.fails(&[good.url("/file.bin")]);
    assert_eq!(desk.fails(&[page.url("/file.bin")]), words);
    let done = desk.gets(&[page.url("/file.bin"), good.url("/file.bin")]);
    assert_eq!((done.url.to_string(), done.resumed), (good.url("/file.bin"), HALF as u64));
}

#[test]
fn another_mirror_goes_on_if_the_size_is_the_same() {
    let first = Server::new(|asked| Answer::ranged(asked, &content()).only(if asked.number == 0 { HALF } else { 0 }, Then::Cut));
    let second = Server::new(|asked| Answer::ranged(asked, &content()));
    Desk::new().gets(&[first.url("/file.bin"), second.url("/file.bin")]);
    let asked = second.asked();
    assert_eq!((asked[0].from(), asked[0].header("if-range")), (Some(HALF), None));
    let other = Server::new(|asked| Answer::ranged(asked, &content()[..1_000_000]));
    let desk = Desk::new();
    desk.get(&[first.url("/file.bin"), other.url("/file.bin")]).unwrap();
    assert!(fs::read(desk.target()).unwrap() == content()[..1_000_000]);
}

#[test]
fn what_is_too_large_is_not_begun() {
    let server = Server::new(|asked| Answer::ranged(asked, &content()));
    let desk = Desk { limit: 1000, ..Desk::new() };
    assert_eq!(desk.fails(&[server.url("/file.bin")]), "the file is larger than 1000 bytes");
    assert_eq!(desk.names(), Vec::<String>::new());
}

#[test]
fn what_the_server_says() {
    let missing = Server::new(|_| Answer::status(404));
    let desk = Desk::new();
    let error = desk.get(&[missing.url("/file.bin")]).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(missing.asked().len(), 1);
    let busy = Server::new(|asked| match asked.number {
        0..=1 => Answer::status(503).with("Retry-After", "0"),
        _ => Answer::ranged(asked, &content()),
    });
    desk.gets(&[busy.url("/file.bin")]);
    let broken = Server::new(|_| Answer::status(500));
    assert_eq!(Desk::new().fails(&[broken.url("/file.bin")]), "the server says 500 (internal error)");
    assert_eq!(broken.asked().len(), 4);
}

#[test]
fn redirects_end() {
    let circle = Server::new(|_| Answer::status(302).with("Location", "/file.bin"));
    assert!(Desk::new().fails(&[circle.url("/file.bin")]).starts_with("redirected more than 10 times, last to `http://127.0.0.1"));
    assert_eq!(circle.asked().len(), 11);
    let moved = Server::new(|asked| match asked.target.as_str() {
        "/a/file.bin" => Answer::status(301).with("Location", "b/there.bin"),
        _ => Answer::ranged(asked, &content()),
    });
    Desk::new().gets(&[moved.url("/a/file.bin")]);
    assert_eq!(moved.asked()[1].target, "/a/b/there.bin");
    let nowhere = Server::new(|_| Answer::status(302).with("Location", "file:///etc/passwd"));
    assert!(Desk::new().fails(&[nowhere.url("/file.bin")]).starts_with("redirected to an invalid address"));
}

#[test]
fn a_proxy_gets_the_whole_address() {
    let proxy = Server::new(|asked| Answer::ranged(asked, &content()));
    let mut desk = Desk::new();
    let address = format!("http://me:se%3Acret@127.0.0.1:{}", proxy.port());
    desk.settings.proxies = Proxies { http: Some(address), https: None, none: "127.0.0.1".to_owned() };
    desk.gets(&["http://no.such.host.example:81/x/file.bin?y".to_owned()]);
    let asked = proxy.asked();
    assert_eq!(asked[0].target, "http://no.such.host.example:81/x/file.bin?y");
    assert_eq!(asked[0].header("host"), Some("no.such.host.example:81"));
    // me:se:cret
    assert_eq!(asked[0].header("proxy-authorization"), Some("Basic bWU6c2U6Y3JldA=="));
    let direct = Server::new(|asked| Answer::ranged(asked, &content()));
    desk.gets(&[direct.url("/file.bin")]);
    assert_eq!((direct.asked().len(), proxy.asked().len()), (1, 1));
    desk.settings.proxies.http = Some("socks5://127.0.0.1:1".to_owned());
    let error = desk.get(&["http://gentoo.org/".to_owned()]).unwrap_err();
    assert!(error.hint().unwrap().contains("http_proxy"), "{error:?}");
}

#[test]
fn offline_nobody_is_asked() {
    let server = Server::new(|asked| Answer::ranged(asked, &content()));
    let mut desk = Desk::new();
    desk.settings.offline = true;
    assert_eq!(desk.fails(&[server.url("/file.bin")]), "`file.bin` is not here, and downloads are switched off");
    assert!(server.asked().is_empty());
}

#[test]
fn whoever_wants_to_stop_need_not_wait() {
    let server = Server::new(|asked| Answer::ranged(asked, &content()).only(HALF, Then::Stall));
    let desk = Desk::new();
    let cancelled = Arc::clone(&desk.cancelled);
    let part = desk.dir.path().join("file.bin.part");
    let path = part.clone();
    std::thread::spawn(move || {
        while fs::metadata(&path).map_or(0, |part| part.len()) < HALF as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        cancelled.store(true, Ordering::SeqCst);
    });
    // The server never goes on, so that the answer is what ends this.
    assert!(matches!(desk.get(&[server.url("/file.bin")]), Err(Error::Interrupted)));
    assert_eq!(fs::metadata(part).unwrap().len(), HALF as u64);
}

#[test]
fn two_at_once_download_once() {
    let server = Server::new(|asked| {
        std::thread::sleep(Duration::from_millis(300));
        Answer::ranged(asked, &content())
    });
    let desk = Desk::new();
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| desk.get(&[server.url("/file.bin")]).unwrap().bytes));
        assert_eq!(threads.map(|thread| thread.join().unwrap()), [1_200_000; 2]);
    });
    assert_eq!(server.asked().len(), 1);
    assert_eq!(desk.names(), ["file.bin"]);
}
