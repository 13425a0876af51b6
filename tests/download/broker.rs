//! The broker of sessions, asked as a session asks: over its socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gentoomuch::TrustedKeys;
use gentoomuch::internals::download::{Downloader, Settings};
use gentoomuch::internals::fetch::{
    AskMetadata, BinHost, Broker, Files, Metadata, Missing, Reason, Shelves, Sources, Tree, Wanted, listen,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::server::{Answer, Asked, Server, Then};

/// Trees, shelves and what is configured.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
    pub(crate) sources: Sources,
    pub(crate) settings: Settings,
    /// Those that packages of hosts are verified with.
    pub(crate) keys: TrustedKeys,
    ask: AskMetadata,
}

/// A broker that serves, and where.
pub(crate) struct Serving {
    pub(crate) broker: Broker,
    door: PathBuf,
}

impl Desk {
    pub(crate) fn new(mirrors: &[&Server]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mirrors = mirrors.iter().map(|server| server.url("")).collect();
        let settings = Settings {
            stall_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            pause: Duration::from_millis(10),
            ..Settings::default()
        };
        let sources = Sources { mirrors, ..Sources::default() };
        let desk = Self { dir, sources, settings, keys: TrustedKeys::default(), ask: Box::new(|_| Vec::new()) };
        fs::create_dir_all(desk.path("distfiles")).unwrap();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// A tree with packages `a/NAME-1` of one source archive each, `NAME.tar`, at these addresses.
    pub(crate) fn tree(&mut self, tree: &str, packages: &[(&str, &[u8], &str)]) {
        for (name, contents, rest) in packages {
            let manifest = format!(
                "DIST {name}.tar {} BLAKE2B {} SHA512 {}\n",
                contents.len(),
                hash("b2sum", contents),
                hash("sha512sum", contents)
            );
            self.write(&format!("{tree}/a/{name}/Manifest"), manifest);
            self.write(&format!("{tree}/a/{name}/{name}-1.ebuild"), "");
            self.write(&format!("{tree}/metadata/md5-cache/a/{name}-1"), format!("EAPI=8\n{rest}\n"));
        }
        if !self.sources.trees.iter().any(|known| known.name == tree) {
            self.sources.trees.push(Tree { name: tree.to_owned(), dir: self.path(tree) });
        }
    }

    fn broker(&mut self) -> Broker {
        let shelves = Shelves { distfiles: self.path("distfiles"), packages: self.path("packages") };
        let downloader = Downloader::new(self.settings.clone(), Arc::new(|| false));
        let ask = std::mem::replace(&mut self.ask, Box::new(|_| Vec::new()));
        Broker::new(&shelves, self.sources.clone(), self.keys.clone(), &downloader, ask).unwrap()
    }

    pub(crate) fn serve(&mut self) -> Serving {
        let door = self.path("door");
        let listener = listen(&door).unwrap();
        let broker = self.broker();
        broker.serve(listener).unwrap();
        Serving { broker, door: door.join("socket") }
    }
}

impl Serving {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.door).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    fn say(&self, line: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(line).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.trim_end_matches('\n').to_owned()
    }

    fn source(&self, name: &str, contents: Option<&[u8]>) -> String {
        let digests = contents.map_or(String::new(), digests);
        self.say(format!("source\0{name}\0{digests}\0http://gentoomuch.invalid/x\n").as_bytes())
    }

    pub(crate) fn package(&self, uri: &str) -> String {
        self.say(format!("package\0x\0\0{uri}\n").as_bytes())
    }
}

pub(crate) fn digests(contents: &[u8]) -> String {
    format!("blake2b:{} sha512:{}", hash("b2sum", contents), hash("sha512sum", contents))
}

pub(crate) fn hash(program: &str, contents: &[u8]) -> String {
    let mut child = Command::new(program).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(contents).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn ok(place: &str) -> String {
    format!("ok {place}")
}

pub(crate) fn words(answer: &str) -> &str {
    answer.strip_prefix("no ").unwrap_or_else(|| panic!("{answer}"))
}

fn wanted(names: &[&str]) -> Vec<Wanted> {
    let one =
        |name: &&str| Wanted { cpv: format!("a/{name}-1"), repository: "gentoo".into(), files: Files::Flags(BTreeSet::new()) };
    names.iter().map(one).collect()
}

/// A mirror with these files, and no layout.conf.
pub(crate) fn mirror(files: &[(&str, &'static [u8])]) -> Server {
    let files: BTreeMap<String, &'static [u8]> =
        files.iter().map(|(name, contents)| (format!("/distfiles/{name}"), *contents)).collect();
    Server::new(move |asked| {
        files.get(&asked.target).map_or_else(|| Answer::status(404), |contents| Answer::ranged(asked, contents))
    })
}

pub(crate) fn targets(server: &Server) -> Vec<String> {
    server.asked().into_iter().map(|asked| asked.target).collect()
}

#[test]
fn a_file_is_brought_verified_and_published_once() {
    let server = mirror(&[("one.tar", b"contents")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=http://distfiles.invalid/one.tar")]);
    let serving = desk.serve();
    for _ in 0..3 {
        assert_eq!(serving.source("one.tar", Some(b"contents")), ok("one.tar"));
    }
    assert_eq!(fs::read(desk.path("distfiles/one.tar")).unwrap(), b"contents");
    assert_eq!(targets(&server), ["/distfiles/layout.conf", "/distfiles/one.tar"]);
    let status = serving.broker.status();
    assert_eq!((status.files_done, status.files_total, status.bytes_done, status.bytes_total), (1, 1, 8, 8));
}

#[test]
fn what_a_run_needs_is_brought_without_being_asked_for() {
    let server = mirror(&[("one.tar", b"1"), ("two.tar", b"22"), ("three.tar", b"333")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree(
        "gentoo",
        &[
            ("one", b"1", "SRC_URI=one.tar"),
            ("two", b"22", "SRC_URI=x? ( two.tar )"),
            ("three", b"333", "SRC_URI=x? ( three.tar )"),
        ],
    );
    let broker = desk.broker();
    let mut wanted = wanted(&["one", "two", "three"]);
    wanted[2].files = Files::Flags(["x".to_owned()].into());
    broker.want(wanted);
    assert_eq!(broker.settle().unwrap(), []);
    // What depends on a flag that is off is not fetched.
    assert_eq!(broker.status().files_total, 2);
    assert!(desk.path("distfiles/one.tar").exists() && desk.path("distfiles/three.tar").exists());
    assert!(!desk.path("distfiles/two.tar").exists());
}

#[test]
fn mirrors_that_lie_cut_and_stall_are_passed_over() {
    let contents: &'static [u8] = &[7; 16_000];
    let layout = |asked: &Asked| asked.target.ends_with("layout.conf").then(|| Answer::status(404));
    let liar = Server::new(move |asked| layout(asked).unwrap_or_else(|| Answer::whole(&[8; 16_000])));
    let page =
        Server::new(move |asked| layout(asked).unwrap_or_else(|| Answer::whole(b"<html>").with("Content-Type", "text/html")));
    let small = Server::new(move |asked| layout(asked).unwrap_or_else(|| Answer::whole(b"small")));
    let cutter = Server::new(move |asked| layout(asked).unwrap_or_else(|| Answer::whole(contents).only(1000, Then::Cut)));
    let sleeper = Server::new(move |asked| layout(asked).unwrap_or_else(|| Answer::whole(contents).only(2000, Then::Stall)));
    let good = mirror(&[("one.tar", contents)]);
    let mut desk = Desk::new(&[&liar, &page, &small, &cutter, &sleeper, &good]);
    // The good one may be as slow, on a busy machine: it comes last.
    desk.settings.stall_timeout = Duration::from_secs(2);
    desk.tree("gentoo", &[("one", contents, "SRC_URI=one.tar")]);
    let serving = desk.serve();
    assert_eq!(serving.source("one.tar", Some(contents)), ok("one.tar"));
    let notes = serving.broker.take_notes().join("\n");
    for (server, problem) in [
        (&liar, "the file is not the one that the Manifest describes"),
        (&page, "the server sent a web page instead of the file"),
        (&small, "the file has 5 bytes on the server, but should have 16000"),
        (&cutter, "the connection was cut after"),
        (&sleeper, "the server sent almost nothing"),
    ] {
        let line = format!("`{}`: {problem}", server.url("/distfiles/one.tar"));
        assert!(notes.contains(&line), "{line}\nin\n{notes}");
    }
    // What had come goes on at the next one.
    assert!(good.asked().iter().any(|asked| asked.from().is_some()));
}

#[test]
fn a_part_of_another_file_is_not_gone_on_with_for_ever() {
    let contents: &'static [u8] = &[7; 5000];
    let server = mirror(&[("one.tar", contents)]);
    let liar = Server::new(|asked| {
        if asked.target.ends_with("one.tar") { Answer::whole(&[8; 5000]).only(1000, Then::Cut) } else { Answer::status(404) }
    });
    let mut desk = Desk::new(&[&liar, &server]);
    desk.tree("gentoo", &[("one", contents, "SRC_URI=one.tar")]);
    assert_eq!(desk.serve().source("one.tar", Some(contents)), ok("one.tar"));
    assert_eq!(fs::read(desk.path("distfiles/one.tar")).unwrap(), contents);
}

#[test]
fn a_download_that_was_broken_off_goes_on() {
    let contents: &'static [u8] = &[7; 5000];
    let cut = Arc::new(AtomicUsize::new(1));
    let server = {
        let cut = Arc::clone(&cut);
        Server::new(move |asked| match (asked.target.ends_with("one.tar"), cut.load(Ordering::Relaxed)) {
            (false, _) => Answer::status(404),
            (true, 1) if asked.from().is_none() => Answer::ranged(asked, contents).only(3000, Then::Cut),
            (true, 1) => Answer::status(503),
            _ => Answer::ranged(asked, contents),
        })
    };
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", contents, "SRC_URI=one.tar")]);
    let answer = desk.serve().source("one.tar", Some(contents));
    assert!(words(&answer).contains("503"), "{answer}");
    cut.store(0, Ordering::Relaxed);
    let before = server.asked().len();
    assert_eq!(desk.serve().source("one.tar", Some(contents)), ok("one.tar"));
    let asked = server.asked().split_off(before);
    assert_eq!(asked.last().unwrap().from(), Some(3000));
}

#[test]
fn what_an_ebuild_needs_besides_comes_along() {
    let server = mirror(&[("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"", "SRC_URI=a b x? ( c ) gone")]);
    let line = |name: &str, contents: &[u8]| format!("DIST {name} {} SHA512 {}\n", contents.len(), hash("sha512sum", contents));
    let manifest: String =
        [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4"), ("gone", b"5")].map(|(name, text)| line(name, text)).concat();
    desk.write("gentoo/a/one/Manifest", manifest);
    // Of a file that several versions need, only what all of them need.
    desk.write("gentoo/a/one/one-2.ebuild", "");
    desk.write("gentoo/metadata/md5-cache/a/one-2", "SRC_URI=d b gone\n");
    let there = |desk: &Desk| ["a", "b", "c", "d"].map(|name| desk.path("distfiles").join(name).exists());
    let serving = desk.serve();
    assert_eq!(serving.source("b", None), ok("b"));
    assert_eq!(serving.broker.settle().unwrap(), [], "nobody has asked for `gone`");
    assert_eq!(there(&desk), [false, true, false, false]);
    fs::remove_file(desk.path("distfiles/b")).unwrap();
    drop(serving);
    let serving = desk.serve();
    assert_eq!(serving.source("a", None), ok("a"));
    serving.broker.settle().unwrap();
    assert_eq!(there(&desk), [true, true, false, false]);
    assert!(words(&serving.source("gone", None)).contains("no server has it"));
    assert_eq!(serving.broker.missing().len(), 1);
}

#[test]
fn one_name_with_different_bytes_in_two_trees() {
    let server = Server::new(|asked| match asked.target.as_str() {
        "/gentoo/same.tar" => Answer::whole(b"gentoo's"),
        "/overlay/same.tar" => Answer::whole(b"the overlay's"),
        _ => Answer::status(404),
    });
    let mut desk = Desk::new(&[&server]);
    for (tree, contents) in [("gentoo", &b"gentoo's"[..]), ("overlay", b"the overlay's")] {
        let uri = format!("SRC_URI={}", server.url(&format!("/{tree}/same.tar")));
        desk.tree(tree, &[("same", contents, &uri)]);
    }
    let serving = desk.serve();
    assert_eq!(serving.source("same.tar", Some(b"gentoo's")), ok("same.tar"));
    let place = serving.source("same.tar", Some(b"the overlay's")).strip_prefix("ok ").unwrap().to_owned();
    assert!(place.starts_with("by-content/") && place.ends_with("/same.tar"), "{place}");
    let read = |place: &str| fs::read(desk.path("distfiles").join(place)).unwrap();
    assert_eq!((read("same.tar"), read(&place)), (b"gentoo's".to_vec(), b"the overlay's".to_vec()));
    let without = serving.source("same.tar", None);
    assert_eq!(
        words(&without),
        "`same.tar` was not fetched: several trees list different files of this name, and there is no digest to choose one"
    );
    // Both again, in another session.
    drop(serving);
    let serving = desk.serve();
    assert_eq!(serving.source("same.tar", Some(b"the overlay's")), ok(&place));
    assert_eq!(serving.source("same.tar", Some(b"gentoo's")), ok("same.tar"));
}

#[test]
fn without_digests_all_manifests_have_to_agree() {
    let server = mirror(&[("same.tar", b"x")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("same", b"x", "SRC_URI=same.tar")]);
    desk.tree("overlay", &[("same", b"x", "SRC_URI=same.tar")]);
    assert_eq!(desk.serve().source("same.tar", None), ok("same.tar"));
}

#[test]
fn ten_thousand_questions_for_what_no_manifest_lists() {
    let server = mirror(&[("one.tar", b"contents"), ("secret", b"secret")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=one.tar")]);
    let serving = desk.serve();
    for number in 0..10_000 {
        let digests = if number % 2 == 0 { format!("sha512:{number:0128}") } else { String::new() };
        let question = format!("source\0secret{number}\0{digests}\0{}\n", server.url("/distfiles/secret"));
        let answer = serving.say(question.as_bytes());
        assert!(words(&answer).contains("no Manifest of this session's ebuild trees lists it"), "{answer}");
    }
    // Names that are listed, with other digests; names that are none; addresses.
    assert!(words(&serving.source("one.tar", Some(b"other"))).ends_with("with these digests"));
    for name in ["", ".", "..", "../one.tar", "/etc/passwd", "one.tar\u{1b}[31m", "by-content", ".incoming", &"x".repeat(5000)] {
        let answer = serving.source(name, None);
        assert!(!words(&answer).contains('\u{1b}'), "{answer}");
    }
    assert!(words(&serving.package(&server.url("/distfiles/secret"))).contains("no host"));
    assert_eq!(server.asked().len(), 0);
    assert_eq!(serving.broker.status().files_total, 0);
    assert_eq!(serving.source("one.tar", Some(b"contents")), ok("one.tar"));
}

#[test]
fn garbage_ends_a_connection_and_nothing_else() {
    let server = mirror(&[("one.tar", b"contents")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=one.tar")]);
    let serving = desk.serve();
    for line in
        [&b"\n"[..], b"{}\n", b"source\n", b"source\0a\0b\0c\0d\n", b"file\0a\0b\0c\n", b"\xff\0\x01\n", b"source\0\xff\0b\0c\n"]
    {
        assert_eq!(words(&serving.say(line)), "this is no question", "{line:?}");
    }
    // An endless line is not read to its end: the writer sees a closed connection.
    let mut endless = serving.connect();
    let chunk = [b'x'; 4096];
    assert!((0..10_000).any(|_| endless.write_all(&chunk).is_err()));
    // Half a question, a thousand times.
    for _ in 0..1000 {
        let mut half = serving.connect();
        drop(half.write_all(b"source\0one"));
    }
    assert_eq!(serving.source("one.tar", Some(b"contents")), ok("one.tar"));
}

#[test]
fn a_thousand_connections_take_no_thousand_threads() {
    let server = mirror(&[("one.tar", b"contents")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=one.tar")]);
    let serving = desk.serve();
    let silent: Vec<UnixStream> = (0..1000).map(|_| serving.connect()).collect();
    // One that is behind them waits for them.
    let mut last = serving.connect();
    last.write_all(b"source\0one.tar\0\0\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // Other tests have theirs.
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 600, "{threads}");
    drop(silent);
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ok one.tar\n");
}

#[test]
fn only_configured_servers_may_be_where_nobody_else_may() {
    let private = Server::new(|_| Answer::whole(b"contents"));
    let port = private.port();
    let redirecting =
        {
            let to = private.url("/one.tar");
            Server::new(move |asked| {
                if asked.target.ends_with("one.tar") { Answer::status(302).with("Location", &to) } else { Answer::status(404) }
            })
        };
    let mut desk = Desk::new(&[&redirecting]);
    let hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"];
    let uris: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}/one.tar")).collect();
    desk.tree(
        "gentoo",
        &[("one", b"contents", &format!("SRC_URI={} file:///etc/one.tar ftp://ftp.invalid/one.tar", uris.join(" ")))],
    );
    let serving = desk.serve();
    let answer = serving.source("one.tar", Some(b"contents"));
    let said = words(&answer);
    for uri in uris.iter().chain([&redirecting.url("/distfiles/one.tar")]) {
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{uri}: ")))
            .unwrap_or_else(|| panic!("{uri} in {said}"));
        assert!(
            line.contains("a local address; there only servers that the configuration names are used")
                || line.contains("no host")
                || line.contains("unreachable"),
            "{line}"
        );
    }
    assert!(said.contains("file:///etc/one.tar: `file:///etc/one.tar` is not"), "{said}");
    assert!(said.contains("`ftp://ftp.invalid/one.tar` is neither `http://` nor `https://`"), "{said}");
    assert_eq!(private.asked().len(), 0);
    // Nor does a stage3 decide it, whose hosts of binary packages are used.
    desk.sources.hosts = vec![BinHost { name: "its".into(), sync_uri: private.url("/pool"), configured: false }];
    assert!(words(&desk.serve().source("one.tar", Some(b"contents"))).contains("there only servers that the configuration names"));
    assert_eq!(private.asked().len(), 0);
    // The same, named by the user.
    desk.sources.custom_mirrors.insert("here".to_owned(), vec![private.url("")]);
    assert_eq!(desk.serve().source("one.tar", Some(b"contents")), ok("one.tar"));
}

#[test]
fn offline_all_that_is_missing_is_named_at_once() {
    let server = mirror(&[]);
    let mut desk = Desk::new(&[&server]);
    desk.settings.offline = true;
    desk.tree(
        "gentoo",
        &[
            ("one", b"1", "SRC_URI=http://h.invalid/one.tar"),
            ("two", b"22", "SRC_URI=two.tar"),
            ("here", b"333", "SRC_URI=here.tar"),
            ("hand", b"4444", "SRC_URI=hand.tar\nRESTRICT=fetch"),
        ],
    );
    desk.write("distfiles/here.tar", "333");
    let broker = desk.broker();
    broker.want(wanted(&["one", "two", "here", "hand"]));
    let missing =
        |name: &str, bytes, reason| Missing { name: format!("{name}.tar"), packages: vec![format!("a/{name}-1")], bytes, reason };
    let expected = [missing("hand", 4, Reason::Restricted), missing("one", 1, Reason::Offline), missing("two", 2, Reason::Offline)];
    assert_eq!(broker.settle().unwrap(), expected);
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn what_nobody_has_is_asked_for_once() {
    let server = mirror(&[]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"1", &format!("SRC_URI={}", server.url("/own/one.tar")))]);
    let serving = desk.serve();
    let answers: Vec<_> = (0..20).map(|_| serving.source("one.tar", Some(b"1"))).collect();
    let places = [server.url("/distfiles/one.tar"), server.url("/own/one.tar")];
    let expected = format!(
        "`one.tar`: no server has it\n  {}: the server says 404 (not found)\n  {}: the server says 404 (not found)",
        places[0], places[1]
    );
    assert!(answers.iter().all(|answer| words(answer) == expected), "{answers:?}");
    assert_eq!(targets(&server), ["/distfiles/layout.conf", "/distfiles/one.tar", "/own/one.tar"]);
    let [missing] = &serving.broker.missing()[..] else { panic!() };
    assert!(matches!(&missing.reason, Reason::Nobody(tried) if tried.len() == 2));
}

#[test]
fn what_is_fetched_by_hand_is_asked_of_nobody_and_taken_when_it_is_there() {
    let server = mirror(&[("one.tar", b"contents")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", &format!("SRC_URI={}\nRESTRICT=fetch", server.url("/distfiles/one.tar")))]);
    let by_hand = "`one.tar`: the ebuild says that you have to download it by hand";
    assert_eq!(words(&desk.serve().source("one.tar", Some(b"contents"))), by_hand);
    assert_eq!(server.asked().len(), 0);
    desk.write("distfiles/one.tar", "contents");
    assert_eq!(desk.serve().source("one.tar", Some(b"contents")), ok("one.tar"));
}

#[test]
fn what_lies_in_distfiles_is_verified_and_obstacles_are_named() {
    let server = mirror(&[("one.tar", b"contents")]);
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=one.tar"), ("dir", b"x", "SRC_URI=dir.tar")]);
    desk.write("distfiles/one.tar", "swapped!");
    fs::create_dir(desk.path("distfiles/dir.tar")).unwrap();
    let serving = desk.serve();
    let answer = serving.source("one.tar", Some(b"contents"));
    let place = answer.strip_prefix("ok ").unwrap_or_else(|| panic!("{answer}"));
    assert!(place.starts_with("by-content/"), "{place}");
    assert_eq!(fs::read(desk.path("distfiles/one.tar")).unwrap(), b"swapped!");
    let path = desk.path("distfiles/dir.tar");
    let expected = format!("`dir.tar`: `{}` is a directory, but should be a source archive; move it away", path.display());
    assert_eq!(words(&serving.source("dir.tar", Some(b"x"))), expected);
    // Changed behind our back, while the session runs.
    fs::write(desk.path("distfiles").join(place), "swapped!").unwrap();
    assert_eq!(serving.source("one.tar", Some(b"contents")), answer);
    assert_eq!(fs::read(desk.path("distfiles").join(place)).unwrap(), b"contents");
}

#[test]
fn a_mirrors_layout_is_asked_for_once() {
    let names: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    let server = Server::new(|asked| match asked.target.as_str() {
        "/distfiles/layout.conf" => Answer::whole(b"[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n"),
        target if target.matches('/').count() == 3 => Answer::whole(b"contents"),
        _ => Answer::status(404),
    });
    let mut desk = Desk::new(&[&server]);
    for name in &names {
        desk.tree("gentoo", &[(name, b"contents", &format!("SRC_URI={name}.tar"))]);
    }
    let broker = desk.broker();
    broker.want(wanted(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(broker.settle().unwrap(), []);
    let asked = targets(&server);
    assert_eq!((asked.len(), asked.iter().filter(|target| target.ends_with("layout.conf")).count()), (21, 1));
    let digest = hash("b2sum", b"f0.tar");
    assert!(asked.contains(&format!("/distfiles/{}/f0.tar", &digest[..2])), "{asked:?}");
}

#[test]
fn portage_is_asked_once_for_what_no_cache_describes() {
    let server =
        Server::new(|asked| if asked.target.starts_with("/own/") { Answer::whole(b"contents") } else { Answer::status(404) });
    let mut desk = Desk::new(&[&server]);
    desk.tree("gentoo", &[("one", b"contents", ""), ("two", b"contents", "")]);
    fs::remove_dir_all(desk.path("gentoo/metadata")).unwrap();
    let questions = Arc::new(Mutex::new(Vec::new()));
    let (log, url) = (Arc::clone(&questions), server.url("/own"));
    desk.ask = Box::new(move |asked| {
        log.lock().unwrap().push(asked.to_vec());
        let answer = |(cpv, repository): &(String, String)| Metadata {
            cpv: cpv.clone(),
            repository: repository.clone(),
            src_uri: format!("{url}/{}.tar", cpv.trim_start_matches("a/").trim_end_matches("-1")),
            restrict: "mirror".to_owned(),
        };
        asked.iter().map(answer).collect()
    });
    let serving = desk.serve();
    serving.broker.want(wanted(&["one", "two"]));
    assert_eq!(serving.broker.settle().unwrap(), []);
    assert_eq!(serving.source("two.tar", Some(b"contents")), ok("two.tar"));
    let pair = |name: &str| (format!("a/{name}-1"), "gentoo".to_owned());
    assert_eq!(*questions.lock().unwrap(), [vec![pair("one"), pair("two")]]);
    let mut asked = targets(&server);
    asked.sort();
    assert_eq!(asked, ["/own/one.tar", "/own/two.tar"]);
}

#[test]
fn the_end_waits_for_nobody() {
    let (_server, mut desk) = stalling();
    let serving = desk.serve();
    let silent = serving.connect();
    let mut waiting = serving.connect();
    waiting.write_all(b"source\0one.tar\0\0\n").unwrap();
    while serving.broker.status().awaited.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(serving);
    let mut answer = String::new();
    drop(waiting.read_to_string(&mut answer));
    // Whoever waited may have been told, or not.
    assert!(matches!(answer.as_str(), "" | "no `one.tar`: interrupted\n"), "{answer}");
    drop(silent);
}

/// A server that has begun to answer, and never goes on.
fn stalling() -> (Server, Desk) {
    let server = Server::new(|asked| {
        let stalls = Answer::whole(&[0; 16_000]).only(10, Then::Stall);
        if asked.target.ends_with("one.tar") { stalls } else { Answer::status(404) }
    });
    let mut desk = Desk::new(&[&server]);
    desk.settings.stall_timeout = Duration::from_hours(1);
    desk.tree("gentoo", &[("one", &[1; 16_000], "SRC_URI=one.tar")]);
    (server, desk)
}

/// Sends `bytes` with a descriptor.
fn send_along(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(along.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(stream, &[IoSlice::new(bytes)], &mut along, SendFlags::empty()).unwrap();
}

#[test]
fn descriptors_that_are_sent_along_are_closed_and_who_talks_on_is_hung_up_on() {
    let (_server, mut desk) = stalling();
    let serving = desk.serve();
    for question in [&b""[..], b"source\0one.tar\0\0\n"] {
        let mut stream = serving.connect();
        stream.write_all(question).unwrap();
        while !question.is_empty() && serving.broker.status().awaited.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (pipe, held) = std::io::pipe().unwrap();
        send_along(&stream, b"x", held.as_fd());
        drop(held);
        // For a test that fails only: it would wait for ever.
        let ready = rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&Timespec { tv_sec: 60, tv_nsec: 0 }));
        assert_eq!(ready, Ok(1), "the pipe is still held after {question:?}");
        if !question.is_empty() {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "no answer, but an end");
        }
    }
}

#[test]
fn who_hangs_up_is_gone_whatever_was_not_read() {
    let (_server, mut desk) = stalling();
    let serving = desk.serve();
    for more in [&b""[..], b"x"] {
        let mut stream = serving.connect();
        stream.write_all(b"source\0one.tar\0\0\n").unwrap();
        while serving.broker.status().awaited.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(more).unwrap();
        drop(stream);
        let gone = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            serving.broker.status().awaited.is_empty()
        });
        assert!(gone, "still waited for after {more:?}");
    }
}
