//! A registry that cuts, stalls, lies, forgets and sends elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gentoomuch::internals::registry::{Blob, Error};

use crate::pushing::{Desk, MANIFEST, blob, content, digest, words};
use crate::server::{Answer, Asked, Server, Then};

/// What it holds.
#[derive(Debug, Default)]
struct Held {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    begun: usize,
}

/// A registry in memory. `mischief` answers first.
#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<Held>>);

fn part<'a>(asked: &'a Asked, before: &str) -> Option<&'a str> {
    let path = asked.target.split('?').next().unwrap();
    path.strip_prefix("/v2/a/")?.strip_prefix(before).filter(|rest| !rest.is_empty())
}

impl Fake {
    fn serve(&self, mischief: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
        self.serve_impatiently(|_| None, mischief)
    }

    fn serve_impatiently(
        &self,
        patience: impl Fn(&Asked) -> Option<(usize, Then)> + Send + Sync + 'static,
        mischief: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Server {
        let fake = self.clone();
        Server::impatient(patience, move |asked| mischief(asked).unwrap_or_else(|| fake.answer(asked)))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut held = self.0.lock().unwrap();
        if asked.target == "/v2/" {
            return Answer::status(200);
        }
        if asked.method == "POST" {
            held.begun += 1;
            let id = format!("{}", held.begun);
            held.uploads.insert(id.clone(), Vec::new());
            return Answer::status(202).with("Location", &format!("/v2/a/blobs/uploads/{id}?state=x"));
        }
        if let Some(id) = part(asked, "blobs/uploads/") {
            return Self::upload(&mut held, asked, id);
        }
        if let Some(digest) = part(asked, "blobs/") {
            return held.blobs.get(digest).map_or(Answer::status(404), |bytes| Answer::ranged(asked, bytes));
        }
        match (part(asked, "manifests/"), asked.method.as_str()) {
            (Some(tag), "PUT") => {
                held.manifests.insert(tag.to_owned(), asked.body.clone());
                Answer::status(201)
            }
            (Some(tag), _) => held.manifests.get(tag).map_or(Answer::status(404), |bytes| Answer::whole(bytes)),
            _ => Answer::status(404),
        }
    }

    fn upload(held: &mut Held, asked: &Asked, id: &str) -> Answer {
        let location = format!("/v2/a/blobs/uploads/{id}?state=y");
        let Some(upload) = held.uploads.get_mut(id) else { return Answer::status(404) };
        if asked.method == "GET" {
            return Answer::status(204).with("Range", &format!("0-{}", upload.len().saturating_sub(1))).with("Location", &location);
        }
        if let Some(range) = asked.header("content-range")
            && !range.starts_with(&format!("{}-", upload.len()))
        {
            return Answer::status(416);
        }
        upload.extend_from_slice(&asked.body);
        let Some((_, wanted)) = asked.target.split_once("digest=") else {
            return Answer::status(202).with("Location", &location);
        };
        let (bytes, wanted) = (upload.clone(), wanted.replace("%3A", ":"));
        if digest(&bytes) != wanted {
            return Answer { body: br#"{"errors": [{"code": "DIGEST_INVALID"}]}"#.to_vec(), ..Answer::status(400) };
        }
        held.uploads.remove(id);
        held.blobs.insert(wanted, bytes);
        Answer::status(201)
    }

    fn with(blobs: &[&[u8]]) -> Self {
        let fake = Self::default();
        for bytes in blobs {
            fake.0.lock().unwrap().blobs.insert(digest(bytes), bytes.to_vec());
        }
        fake
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.0.lock().unwrap().blobs.get(&digest(bytes)).is_some_and(|held| held == bytes)
    }
}

fn address(server: &Server) -> String {
    format!("oci+http://127.0.0.1:{}/a", server.port())
}

/// `METHOD` and path of what was asked, without the greeting.
fn log(server: &Server) -> Vec<String> {
    let asked = server.asked();
    let line = |asked: &Asked| {
        let path = asked.target.split('?').next().unwrap().trim_start_matches("/v2/a/").to_owned();
        let path = path.split("sha256:").next().unwrap().to_owned();
        format!("{} {path}", asked.method)
    };
    asked.iter().filter(|asked| asked.target != "/v2/").map(line).collect()
}

/// Answers the first `times` questions with `answer`.
fn first(times: usize, answer: impl Fn() -> Answer) -> impl Fn(&Asked) -> Option<Answer> {
    let count = AtomicUsize::new(0);
    move |_| (count.fetch_add(1, Ordering::SeqCst) < times).then(&answer)
}

#[test]
fn a_registry_that_has_too_much_to_do_is_asked_again_but_not_for_ever() {
    let fake = Fake::default();
    let server = fake.serve(first(2, || Answer::status(429).with("Retry-After", "0")));
    let desk = Desk::new();
    assert_eq!(desk.open(&address(&server)).manifest("x").unwrap(), None);
    assert_eq!(server.asked().len(), 4);
    let server = fake.serve(first(3, || Answer::status(503)));
    assert_eq!(desk.open(&address(&server)).manifest("x").unwrap(), None);
    let server = fake.serve(|_| Some(Answer::status(502)));
    let error = desk.open(&address(&server)).manifest("x").unwrap_err();
    assert!(words(&error).ends_with("/a`; the server says 502 (bad gateway)"), "{error:?}");
    assert_eq!(server.asked().len(), 4);
    // A failure in the middle of an upload, too.
    let bytes = content(100_000);
    let failed = AtomicBool::new(false);
    let server =
        fake.serve(move |asked| (asked.method == "PUT" && !failed.swap(true, Ordering::SeqCst)).then(|| Answer::status(500)));
    let (blob, file) = desk.blob(&bytes);
    desk.open(&address(&server)).put_blob(&blob, &file).unwrap();
    assert!(fake.has(&bytes));
    // What is no registry.
    let server = Server::new(|_| Answer::whole(b"<html>").with("Content-Type", "text/html"));
    let error = desk.open(&address(&server)).manifest("x").unwrap_err();
    assert!(words(&error).ends_with("does not answer as a registry does: it sent a web page"), "{error:?}");
    let server = Server::new(|_| Answer::status(404));
    let error = desk.open(&address(&server)).manifest("x").unwrap_err();
    assert!(words(&error).ends_with("it says 404 to the question whether it is one"), "{error:?}");
}

#[test]
fn bytes_that_are_not_what_they_are_called() {
    let (right, wrong, desk) = (content(50_000), content(50_001), Desk::new());
    for lie in [wrong[1..].to_vec(), wrong.clone(), right[..400].to_vec(), Vec::new()] {
        let server = Fake::default().serve(move |asked| (asked.target.contains("/blobs/")).then(|| Answer::whole(&lie)));
        let error = desk.open(&address(&server)).get_blob(&blob(&right), &desk.path("got")).unwrap_err();
        assert!(matches!(error, Error::WrongDigest { .. }), "{error:?}");
        assert!(fs::read_dir(desk.path("")).unwrap().next().is_none());
    }
    // A manifest that is not the one that the registry, or the question, names.
    let server = Fake::default().serve(|asked| {
        asked.target.contains("/manifests/").then(|| Answer::whole(b"{}").with("Docker-Content-Digest", &digest(b"other")))
    });
    let error = desk.open(&address(&server)).manifest("x").unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error:?}");
    let server = Fake::default().serve(|asked| asked.target.contains("/manifests/").then(|| Answer::whole(b"{}")));
    let place = desk.open(&address(&server));
    assert!(matches!(place.manifest(&digest(b"other")), Err(Error::WrongDigest { .. })));
    assert_eq!(place.manifest(&digest(b"{}")).unwrap(), Some(b"{}".to_vec()));
    // One that is too large.
    let server = Fake::default().serve(|asked| asked.target.contains("/manifests/").then(|| Answer::whole(&content(5 << 20))));
    let error = desk.open(&address(&server)).manifest("x").unwrap_err();
    assert!(words(&error).ends_with("/a` sent a manifest of more than 4194304 bytes"), "{error:?}");
    // The registry has understood another manifest.
    let server = Fake::default()
        .serve(|asked| (asked.method == "PUT").then(|| Answer::status(201).with("Docker-Content-Digest", &digest(b"other"))));
    let error = desk.open(&address(&server)).put_manifest("x", MANIFEST, b"{}").unwrap_err();
    assert!(matches!(error, Error::NotAccepted { .. }), "{error:?}");
    // A file that is another one than it was.
    let fake = Fake::default();
    let (_, file) = desk.blob(&wrong[1..]);
    let error = desk.open(&address(&fake.serve(|_| None))).put_blob(&blob(&right), &file).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error:?}");
    assert!(fake.0.lock().unwrap().blobs.is_empty());
}

#[test]
fn a_blob_that_is_cut_on_its_way_here_goes_on() {
    let bytes = content(900_000);
    let cuts = AtomicUsize::new(0);
    let fake = Fake::with(&[&bytes]);
    let held = bytes.clone();
    let server = fake.serve(move |asked| {
        let cut = asked.method == "GET" && asked.target.contains("/blobs/") && cuts.fetch_add(1, Ordering::SeqCst) < 2;
        cut.then(|| Answer::ranged(asked, &held).only(300_000, Then::Cut))
    });
    let desk = Desk::new();
    desk.open(&address(&server)).get_blob(&blob(&bytes), &desk.path("got")).unwrap();
    assert!(fs::read(desk.path("got")).unwrap() == bytes);
    let from: Vec<Option<usize>> =
        server.asked().iter().filter(|asked| asked.target.contains("/blobs/")).map(Asked::from).collect();
    assert_eq!(from, [None, Some(300_000), Some(600_000)]);
    // What another process has left, of other bytes, does no harm.
    fs::write(desk.path("again.fetched.part"), &content(400_000)[4..]).unwrap();
    let origin = format!(
        r#"{{"url": "http://127.0.0.1:{}/v2/a/blobs/{}", "total": 900000, "validator": null}}"#,
        server.port(),
        digest(&bytes)
    );
    fs::write(desk.path("again.fetched.part.json"), origin).unwrap();
    desk.open(&address(&server)).get_blob(&blob(&bytes), &desk.path("again")).unwrap();
    assert!(fs::read(desk.path("again")).unwrap() == bytes);
    let mut names: Vec<_> = fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again", "got"]);
}

#[test]
fn a_blob_that_several_want_at_the_same_place() {
    let bytes = content(900_000);
    let server = Fake::with(&[&bytes]).serve(|asked| {
        if asked.method == "GET" && asked.target.contains("/blobs/") {
            // The others are there by now, and wait.
            std::thread::sleep(Duration::from_millis(300));
        }
        None
    });
    let desk = Desk::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| desk.open(&address(&server)).get_blob(&blob(&bytes), &desk.path("got")).unwrap());
        }
    });
    assert!(fs::read(desk.path("got")).unwrap() == bytes);
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 1);
}

#[test]
fn a_blob_that_is_cut_on_its_way_there_goes_on() {
    let (bytes, desk) = (content(3_000_000), Desk::new());
    let (blob, file) = desk.blob(&bytes);
    let once = || {
        let done = AtomicBool::new(false);
        move |asked: &Asked| asked.method == "PUT" && !done.swap(true, Ordering::SeqCst)
    };
    // It kept what had come.
    let (fake, cut) = (Fake::default(), once());
    let server = fake.serve_impatiently(move |asked| cut(asked).then_some((1_000_000, Then::Cut)), |_| None);
    desk.open(&address(&server)).put_blob(&blob, &file).unwrap();
    assert!(fake.has(&bytes));
    let steps = [
        "HEAD blobs/",
        "POST blobs/uploads/",
        "PUT blobs/uploads/1",
        "GET blobs/uploads/1",
        "PATCH blobs/uploads/1",
        "PUT blobs/uploads/1",
    ];
    assert_eq!(log(&server), steps);
    let patch = server.asked().into_iter().find(|asked| asked.method == "PATCH").unwrap();
    assert_eq!((patch.header("content-range"), patch.body.len()), (Some("1000000-2999999"), 2_000_000));
    // It has forgotten the upload.
    let (fake, cut) = (Fake::default(), once());
    let forgets = |asked: &Asked| (asked.method == "GET" && asked.target.contains("uploads")).then(|| Answer::status(404));
    let server = fake.serve_impatiently(move |asked| cut(asked).then_some((1_000_000, Then::Cut)), forgets);
    desk.open(&address(&server)).put_blob(&blob, &file).unwrap();
    assert!(fake.has(&bytes));
    assert_eq!(log(&server)[3..], ["GET blobs/uploads/1", "HEAD blobs/", "POST blobs/uploads/", "PUT blobs/uploads/2"]);
    // It has all of it, and only its answer was lost.
    let (fake, cut) = (Fake::default(), once());
    let server = fake.serve_impatiently(move |asked| cut(asked).then_some((usize::MAX, Then::Cut)), |_| None);
    desk.open(&address(&server)).put_blob(&blob, &file).unwrap();
    assert_eq!(log(&server)[3..], ["GET blobs/uploads/1", "HEAD blobs/"]);
    // It damages what it gets, each time.
    let fake = Fake::default();
    let server = fake.serve(|asked| {
        let body = br#"{"errors": [{"code": "DIGEST_INVALID", "message": "it is another"}]}"#.to_vec();
        (asked.method == "PUT").then(|| Answer { body, ..Answer::status(400) })
    });
    let error = desk.open(&address(&server)).put_blob(&blob, &file).unwrap_err();
    assert!(
        words(&error).ends_with(&format!("did not accept blob `{}`: it is another (DIGEST_INVALID)", blob.digest)),
        "{error:?}"
    );
    assert_eq!(log(&server).iter().filter(|line| line.starts_with("POST")).count(), 4);
}

#[test]
fn silence_is_noticed_and_so_is_whoever_wants_to_stop() {
    let (bytes, mut desk) = (content(8_000_000), Desk::new());
    let (blob, file) = desk.blob(&bytes);
    let fake = Fake::with(&[&content(10)]);
    // While it takes bytes: enough of them that they do not fit into the sockets' buffers.
    let server = fake.serve_impatiently(|asked| (asked.method == "PUT").then_some((10_000, Then::Stall)), |_| None);
    let asked = Arc::new(AtomicBool::new(false));
    let (stop, heard) = (Arc::clone(&asked), server.clone());
    std::thread::spawn(move || {
        while !heard.asked().iter().any(|asked| asked.method == "PUT") {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let error = desk.open_until(&address(&server), move || asked.load(Ordering::SeqCst)).put_blob(&blob, &file).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error:?}");
    desk.settings.stall_timeout = Duration::from_millis(300);
    desk.settings.attempts = 1;
    let error = desk.open(&address(&server)).put_blob(&blob, &file).unwrap_err();
    assert!(words(&error).contains("the server sent almost nothing for"), "{error:?}");
    // One that takes its time over what it has got is not silent: a second for each 4 MiB.
    let (slow, kept) = (Fake::default(), content(8_000_000));
    let server = slow.serve(|asked| {
        if asked.method == "PUT" {
            std::thread::sleep(Duration::from_millis(900));
        }
        None
    });
    desk.open(&address(&server)).put_blob(&blob, &file).unwrap();
    assert!(slow.has(&kept));
    // While it sends.
    let small = content(10);
    let server = fake.serve(move |asked| {
        (asked.method == "GET" && asked.target.contains("/blobs/")).then(|| Answer::ranged(asked, &small).only(5, Then::Stall))
    });
    let error = desk.open(&address(&server)).get_blob(&super::pushing::blob(&content(10)), &desk.path("got")).unwrap_err();
    assert!(words(&error).contains("the server sent almost nothing for"), "{error:?}");
    assert!(!desk.path("got").exists());
}

/// A desk with a password for a server.
fn known_at(servers: &[&Server]) -> Desk {
    let mut desk = Desk::new();
    let auths: Vec<String> = servers
        .iter()
        .map(|server| format!(r#""127.0.0.1:{}": {{"username": "me", "password": "secret"}}"#, server.port()))
        .collect();
    fs::write(desk.path("auth.json"), format!(r#"{{"auths": {{{}}}}}"#, auths.join(","))).unwrap();
    desk.sources.files = vec![desk.path("auth.json")];
    desk
}

const BASIC: &str = "Basic bWU6c2VjcmV0";

/// Refuses who has no password.
fn guarded(asked: &Asked) -> Option<Answer> {
    (asked.header("authorization") != Some(BASIC)).then(|| Answer::status(401).with("WWW-Authenticate", r#"Basic realm="r""#))
}

#[test]
fn no_password_goes_elsewhere() {
    let bytes = content(1000);
    let storage = {
        let bytes = bytes.clone();
        Server::new(move |asked| if asked.method == "PUT" { Answer::status(201) } else { Answer::ranged(asked, &bytes) })
    };
    let elsewhere = storage.url("");
    let server = Fake::default().serve(move |asked| {
        guarded(asked).or_else(|| {
            let there = |status| Answer::status(status).with("Location", &format!("{elsewhere}/store?signature=1"));
            match asked.method.as_str() {
                "GET" if asked.target.contains("/blobs/") => Some(there(307)),
                "POST" => Some(there(202)),
                _ => None,
            }
        })
    });
    let desk = known_at(&[&server, &storage]);
    let place = desk.open(&address(&server));
    place.get_blob(&blob(&bytes), &desk.path("got")).unwrap();
    assert!(fs::read(desk.path("got")).unwrap() == bytes);
    let (blob, file) = desk.blob(b"another");
    place.put_blob(&blob, &file).unwrap();
    let there = storage.asked();
    assert_eq!(there.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["GET", "PUT"]);
    assert!(there.iter().all(|asked| asked.header("authorization").is_none()), "{there:?}");
    assert!(there[1].target.starts_with("/store?signature=1&digest=sha256%3A"), "{}", there[1].target);
    // Only the greeting came without it.
    assert!(server.asked()[1..].iter().all(|asked| asked.header("authorization") == Some(BASIC)));
}

#[test]
fn tokens() {
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let auth = Server::new(move |asked| match asked.header("authorization") {
        Some(BASIC) => {
            let token = format!("t{}", count.fetch_add(1, Ordering::SeqCst));
            Answer::whole(format!(r#"{{"token": "{token}"}}"#).as_bytes())
        }
        _ => Answer { body: br#"{"errors": [{"message": "who are you?"}]}"#.to_vec(), ..Answer::status(401) },
    });
    let realm = auth.url("/token");
    // Each token is good for three questions.
    let uses = Mutex::new(BTreeMap::<String, usize>::new());
    let fake = Fake::default();
    let server = fake.serve(move |asked| {
        let challenge = || {
            let line = format!(r#"Bearer realm="{realm}",service="the registry""#);
            Some(Answer::status(401).with("WWW-Authenticate", &line))
        };
        let Some(token) = asked.header("authorization").and_then(|line| line.strip_prefix("Bearer t")) else { return challenge() };
        let mut uses = uses.lock().unwrap();
        let used = uses.entry(token.to_owned()).or_default();
        *used += 1;
        if *used > 3 { challenge() } else { None }
    });
    let desk = known_at(&[&server]);
    let place = desk.open(&address(&server));
    for number in 0..5 {
        let bytes = content(1000 + number);
        let (blob, file) = desk.blob(&bytes);
        place.put_blob(&blob, &file).unwrap();
        assert!(fake.has(&bytes));
        place.get_blob(&blob, &desk.path("got")).unwrap();
    }
    let scopes: Vec<String> = auth.asked().iter().map(|asked| asked.target.clone()).collect();
    assert_eq!(scopes[0], "/token?service=the%20registry&scope=repository%3Aa%3Apull");
    assert!(scopes.contains(&"/token?service=the%20registry&scope=repository%3Aa%3Apull%2Cpush".to_owned()), "{scopes:?}");
    assert!(given.load(Ordering::SeqCst) < 15, "{scopes:?}");
    // The registry never gets the password.
    assert!(server.asked().iter().all(|asked| asked.header("authorization").is_none_or(|line| line.starts_with("Bearer "))));
    let stranger = Desk::new();
    let error = stranger.open(&address(&server)).tags().unwrap_err();
    let Error::Refused { user: None, said: Some(said), .. } = &error else { panic!("{error:?}") };
    assert_eq!(said, "who are you?");
    // One whose token server may be anybody.
    let server = Fake::default().serve(|_| Some(Answer::status(401).with("WWW-Authenticate", r#"Bearer realm="nowhere""#)));
    let error = stranger.open(&address(&server)).tags().unwrap_err();
    assert!(words(&error).ends_with("its token server has no address: `nowhere` is not a URL"), "{error:?}");
    // Who may not.
    let server = Fake::default().serve(|asked| (asked.target != "/v2/").then(|| Answer::status(403)));
    let error = stranger.open(&address(&server)).tags().unwrap_err();
    assert!(matches!(error, Error::Refused { forbidden: true, .. }), "{error:?}");
}

/// Wants a password for a token that it gives to anybody.
fn thief() -> Server {
    let port = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&port);
    let server = Server::new(move |asked| {
        if asked.target.starts_with("/token") {
            return Answer::whole(br#"{"token": "t"}"#);
        }
        let line = format!(r#"Bearer realm="http://127.0.0.1:{}/token""#, own.load(Ordering::SeqCst));
        Answer::status(401).with("WWW-Authenticate", &line)
    });
    port.store(server.port().into(), Ordering::SeqCst);
    server
}

#[test]
fn only_the_registry_itself_asks_who_we_are() {
    let (bytes, thief) = (content(1000), thief());
    let away = move |path: &'static str| {
        let to = thief.url("/x");
        let leads = move |asked: &Asked| {
            let status = if asked.method == "POST" { 202 } else { 307 };
            asked.target.starts_with(path).then(|| Answer::status(status).with("Location", &to))
        };
        // A greeting that is not redirected asks for the password, which is right.
        let server =
            Fake::default().serve(move |asked| if path == "/v2/" { leads(asked) } else { guarded(asked).or_else(|| leads(asked)) });
        (known_at(&[&server, &thief]), server, thief.clone())
    };
    let fails = |path: &'static str, ask: &dyn Fn(&Desk, &str) -> Error| {
        let (desk, server, thief) = away(path);
        let error = ask(&desk, &address(&server));
        let expected = format!("`{}` leads to `{}`, which refuses access", address(&server), thief.url(""));
        assert_eq!(words(&error), expected, "{path}");
        assert!(!thief.asked().is_empty());
        for asked in thief.asked() {
            assert!(asked.header("authorization").is_none() && !asked.target.starts_with("/token"), "{path}: {asked:?}");
        }
    };
    fails("/v2/", &|desk, place| desk.open(place).tags().unwrap_err());
    fails("/v2/a/tags", &|desk, place| desk.open(place).tags().unwrap_err());
    fails("/v2/a/manifests/", &|desk, place| desk.open(place).manifest("x").unwrap_err());
    fails("/v2/a/manifests/", &|desk, place| desk.open(place).has(&["x".to_owned()]).unwrap_err());
    fails("/v2/a/blobs/", &|desk, place| desk.open(place).get_blob(&blob(&bytes), &desk.path("got")).unwrap_err());
    fails("/v2/a/blobs/uploads/", &|desk, place| {
        let (blob, file) = desk.blob(&bytes);
        desk.open(place).put_blob(&blob, &file).unwrap_err()
    });
}

#[test]
fn no_password_without_tls_unless_the_user_says_so() {
    // Without authorities the registry is asked by http at once. What it wants to know, it says at the first question or later.
    for greets in [false, true] {
        let server = Fake::default().serve(move |asked| if greets && asked.target == "/v2/" { None } else { guarded(asked) });
        let (desk, here) = (known_at(&[&server]), format!("127.0.0.1:{}/a", server.port()));
        let error = desk.open(&format!("oci://{here}")).manifest("x").unwrap_err();
        assert_eq!(words(&error), format!("`oci://{here}` wants to know who asks, and is not asked by `https`"));
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("`oci+http://{here}`")), "{hint}");
        assert!(server.asked().iter().all(|asked| asked.header("authorization").is_none()));
        assert_eq!(desk.open(&format!("oci+http://{here}")).manifest("x").unwrap(), None);
    }
    // A token server by http: beside a registry that the user wants to ask by http, and nowhere else.
    let thief = thief();
    let table = [
        ("oci+http", format!("http://localhost:{}/token", thief.port()), "is on another host, and not asked by `https`"),
        ("oci", thief.url("/token"), "wants to know who asks, and is not asked by `https`"),
    ];
    for (scheme, realm, expected) in table {
        let line = format!(r#"Bearer realm="{realm}""#);
        let server = Fake::default().serve(move |_| Some(Answer::status(401).with("WWW-Authenticate", &line)));
        let desk = known_at(&[&server]);
        let error = desk.open(&format!("{scheme}://127.0.0.1:{}/a", server.port())).tags().unwrap_err();
        assert!(words(&error).ends_with(expected), "{error:?}");
    }
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
}

#[test]
fn what_is_no_digest_and_no_tag_is_asked_of_nobody() {
    let (server, desk) = (Fake::default().serve(|_| None), Desk::new());
    let place = desk.open(&address(&server));
    let (_, file) = desk.blob(b"x");
    let upper = digest(b"x").to_uppercase().replace("SHA", "sha");
    for bad in ["../../../api/drop?all=1&x=", "sha256:../../x", "sha512:00", "sha256:00", "", upper.as_str()] {
        let blob = Blob { digest: bad.to_owned(), size: 1 };
        let errors = [
            place.has_blob(&blob).unwrap_err(),
            place.get_blob(&blob, &desk.path("got")).unwrap_err(),
            place.put_blob(&blob, &file).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(words(&error), format!("`{bad}` is not the SHA-256 digest of a blob"));
        }
    }
    for bad in ["../x", "a/b", "a?b", "", "sha256:../../x", "sha512:00"] {
        let errors = [
            place.manifest(bad).unwrap_err(),
            place.has(&[bad.to_owned()]).unwrap_err(),
            place.put_manifest(bad, MANIFEST, b"{}").unwrap_err(),
            place.remove(bad).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(words(&error), format!("`{bad}` is not a tag"));
        }
    }
    // Not more than the greeting.
    assert_eq!(log(&server), Vec::<String>::new());
}

#[test]
fn tags_come_in_pages() {
    let list = |tags: &[&str]| Answer::whole(serde_json::json!({"name": "a", "tags": tags}).to_string().as_bytes());
    let desk = Desk::new();
    let tags = |mischief: fn(&Asked) -> Option<Answer>| desk.open(&address(&Fake::default().serve(mischief))).tags();
    let pages = move |asked: &Asked| match asked.target.as_str() {
        "/v2/a/tags/list?n=1000" => Some(list(&["b", "a"]).with("Link", r#"</v2/a/tags/list?last=b>; rel="next""#)),
        "/v2/a/tags/list?last=b" => Some(list(&["c", "not a tag", "b"])),
        _ => None,
    };
    let server = Fake::default().serve(pages);
    assert_eq!(desk.open(&address(&server)).tags().unwrap(), ["a", "b", "c"]);
    let endless = |asked: &Asked| {
        let list = br#"{"tags": ["a"]}"#;
        asked.target.contains("tags").then(|| Answer::whole(list).with("Link", "</v2/a/tags/list>; rel=next"))
    };
    let error = tags(endless).unwrap_err();
    assert!(words(&error).ends_with("its list of tags has no end"), "{error:?}");
    let away = |asked: &Asked| {
        let list = br#"{"tags": ["a"]}"#;
        asked.target.contains("tags").then(|| Answer::whole(list).with("Link", "<http://127.0.0.2/v2/a/tags/list>; rel=next"))
    };
    let error = tags(away).unwrap_err();
    assert!(words(&error).ends_with("its list of tags goes on at `http://127.0.0.2/v2/a/tags/list`"), "{error:?}");
    let garbage = |asked: &Asked| asked.target.contains("tags").then(|| Answer::whole(b"tags: none"));
    let error = tags(garbage).unwrap_err();
    assert!(words(&error).ends_with("its list of tags is not JSON"), "{error:?}");
    assert_eq!(
        tags(|asked| asked.target.contains("tags").then(|| Answer::whole(br#"{"tags": null}"#))).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_thousand_tags_over_few_connections() {
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (AtomicUsize::new(0), Arc::clone(&most));
    let fake = Fake::default();
    fake.0.lock().unwrap().manifests.extend((0..1000).step_by(10).map(|number| (format!("key-{number}"), b"{}".to_vec())));
    let server = fake.serve(move |asked| {
        if asked.method == "HEAD" {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            now.fetch_sub(1, Ordering::SeqCst);
        }
        None
    });
    let desk = Desk::new();
    let tags: Vec<String> = (0..1000).map(|number| format!("key-{number}")).collect();
    let since = std::time::Instant::now();
    let found = desk.open(&address(&server)).has(&tags).unwrap();
    eprintln!("1000 tags, 50 ms each: {:.1} s", since.elapsed().as_secs_f32());
    assert_eq!(found.len(), 100);
    let asked = server.asked();
    let connections = asked.iter().map(|asked| asked.connection).max().unwrap() + 1;
    assert_eq!(asked.iter().filter(|asked| asked.method == "HEAD").count(), 1000);
    // One that is lost now and then on a busy machine is not what this is about.
    assert!(connections <= 40, "{connections} connections");
    assert!(most.load(Ordering::SeqCst) >= 10, "{most:?} at the same time");
    // The first failure ends it.
    let server = Fake::default().serve(|asked| (asked.method == "HEAD").then(|| Answer::status(403)));
    let error = desk.open(&address(&server)).has(&tags).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(server.asked().len() < 100);
}
